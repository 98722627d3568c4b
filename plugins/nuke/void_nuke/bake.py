"""Renders an input to EXR files, to be sent.

What comes in: a node of ours, a role, a view, a `Plan`. What goes out: files by frame; the script is left as it was.
Main thread only: Nuke renders, under its own cancellable bar.
"""

from __future__ import annotations

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

    The Write stands inside the node for as long as it takes, and `nuke.nodes` neither selects nor wires what it makes,
    so nothing outside changes.
    Raises RuntimeError or nuke.CancelledError, whichever this Nuke raises for a failed or cancelled render.
    """
    results.make_folder(folder)
    proxy = nuke.root()["proxy"]
    was_proxy = proxy.value()
    with no_undo(), node:
        write = nuke.nodes.Write()
        made = [write]
        try:
            proxy.setValue(False)
            picture = role in request.PICTURES
            source = inner(node, role if picture else f"{role.title().replace('_', '')}AsAlpha")
            if plan.region is not None:
                made.append(_cropped(source, plan.region))
            write.setInput(0, made[-1] if plan.region is not None else source)
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
            for first, last in runs(plan.frames_of(role)):
                nuke.execute(write, first, last, 1, [view])
        finally:
            for temporary in made:
                nuke.delete(temporary)
            proxy.setValue(was_proxy)
    return {frame: str(folder / f"{role}.{frame:04d}.exr") for frame in plan.frames_of(role)}


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
