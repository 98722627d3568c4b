"""Renders inputs to EXR files, to be sent, here or on the farm.

What comes in: a node of ours, roles, a view, a `Plan`. What goes out: files by frame, or a copy of the script that a
farm renders them from; the script is left as it was. Main thread only: Nuke renders here, under its own bar.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nuke

from void_nuke import request, results
from void_nuke.nodes import inner
from void_nuke.show import no_undo

PLAIN = (
    ("disable", False), ("use_limit", False), ("frame_mode", "expression"), ("frame", ""), ("proxy", ""),
    ("premultiplied", False), ("autocrop", False), ("create_directories", False), ("reading", False),
    ("checkHashOnRead", False), ("on_error", "error"), ("interleave", "channels, layers and views"),
    ("write_ACES_compliant_EXR", False), ("beforeRender", ""), ("afterRender", ""), ("beforeFrameRender", ""),
    ("afterFrameRender", ""),
)  # fmt: skip
"""Knobs of a Write that a studio's `knobDefault` may have set, as they are in a fresh Nuke; a version may lack some."""


def bake(node: nuke.Group, role: str, view: str, plan: request.Plan, folder: Path) -> dict[int, str]:
    """Render one input to EXR files, in working-space values, at full size; the script is left as it was.

    Raises RuntimeError or nuke.CancelledError, whichever this Nuke raises for a failed or cancelled render.
    """
    results.make_folder(folder)
    with _writes(node, [role], view, plan, folder) as (write,):
        for first, last in runs(plan.frames_of(role)):
            nuke.execute(write, first, last, 1, [view])
    return files(role, plan, folder)


def leave_to_farm(
    node: nuke.Group, roles: Sequence[str], view: str, plan: request.Plan, folder: Path, script: Path
) -> list[dict[str, Any]]:
    """Save a copy of the script that renders the inputs of `roles`; what is to be rendered from it, a dict each.

    script: where the copy goes; beside the artist's own, so that paths from the script's folder hold.
    Source: `scriptSaveToTemp` in Nuke's Python reference changes neither the script nor its name; Deadline's own
    submitter names a Write in a group by its full name. Raises RuntimeError where Nuke can't save it.
    """
    results.make_folder(folder)
    version = f"{nuke.NUKE_VERSION_MAJOR}.{nuke.NUKE_VERSION_MINOR}"
    with _writes(node, roles, view, plan, folder) as made:
        for write, role in zip(made, roles):
            write.setName(f"VoidBake_{role}")
        saved = nuke.scriptSaveToTemp(script.as_posix()) or script.as_posix()
        return [
            {
                "script": saved,
                "write": write.fullName(),
                "frames": ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs(plan.frames_of(role))),
                "view": view,
                "version": version,
                "nukex": bool(nuke.env.get("nukex")),
                "files": (folder / f"{role}.####.exr").as_posix(),
            }
            for write, role in zip(made, roles)
        ]


def files(role: str, plan: request.Plan, folder: Path) -> dict[int, str]:
    """The files of a role that is rendered into `folder`."""
    return {frame: str(folder / f"{role}.{frame:04d}.exr") for frame in plan.frames_of(role)}


@contextlib.contextmanager
def _writes(
    node: nuke.Group, roles: Sequence[str], view: str, plan: request.Plan, folder: Path
) -> Iterator[list[nuke.Node]]:
    """A Write for each role, inside the node for as long as it takes; `nuke.nodes` neither selects nor wires what it
    makes, so nothing outside changes. Proxy mode is off meanwhile."""
    proxy = nuke.root()["proxy"]
    was_proxy = proxy.value()
    made: list[nuke.Node] = []
    writes: list[nuke.Node] = []
    with no_undo(), node:
        try:
            proxy.setValue(False)
            for role in roles:
                write = nuke.nodes.Write()
                made.append(write)
                writes.append(write)
                picture = role in request.PICTURES
                source = inner(node, role if picture else f"{role.title().replace('_', '')}AsAlpha")
                if plan.region is not None:
                    source = _cropped(source, plan.region)
                    made.append(source)
                write.setInput(0, source)
                for knob, setting in (
                    ("file_type", "exr"),
                    ("file", (folder / f"{role}.%04d.exr").as_posix()),
                    ("channels", "rgb" if picture else "alpha"),
                    ("datatype", "16 bit half" if plan.half else "32 bit float"),
                    ("compression", "Zip (1 scanline)"),
                    ("raw", True),
                ):
                    write[knob].setValue(setting)
                for knob, setting in (*PLAIN, ("views", view)):
                    found: Any = write.knob(knob)
                    if found is not None:
                        found.setValue(setting)
            yield writes
        finally:
            for temporary in made:
                nuke.delete(temporary)
            proxy.setValue(was_proxy)


def _cropped(source: nuke.Node, region: tuple[float, float, float, float]) -> nuke.Node:
    """A Crop that leaves the format as it is, so that files keep the display window and shrink their data window."""
    crop = nuke.nodes.Crop()
    crop.setInput(0, source)
    box: Any = crop["box"]
    for put, number in zip((box.setX, box.setY, box.setR, box.setT), region):
        put(number)
    for knob, setting in (("reformat", False), ("intersect", True), ("crop", True)):
        crop[knob].setValue(setting)
    return crop


def runs(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last frame of each stretch without a gap; frames ascend.

    >>> list(runs((1001, 1002, 1005)))
    [(1001, 1002), (1005, 1005)]
    """
    first = 0
    for index, frame in enumerate(frames):
        if index + 1 == len(frames) or frames[index + 1] != frame + 1:
            yield frames[first], frame
            first = index + 1
