"""Stops a render that would let the object back in, whether from a window or on a farm that has this plug-in.

What comes in: Nuke's own calls before a render and before each of its frames. What goes out: nothing, or a RuntimeError
that ends the render with its text. In a script without a VoidInpaint it asks Nuke for one list, and walks nothing. An
error of its own never stops a render: it is said once on the terminal.

Sources: Foundry's Python developer guide, "Callbacks": what raises there aborts the render. Only the graph knows that
nothing is missing on a machine without the plug-in; in a window `$gui` is 1 during a render as well, so the graph can't
tell a render from a viewer, and this does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import nuke

from void_nuke.tree import above_in_time


class RefusedRenderError(RuntimeError):
    """The render would show the object. Its text is for the artist."""


_watched: dict[str, tuple[list[nuke.Node], set[int]]] = {}
"""By the full name of a Write that renders: the nodes of ours above it that see its own frames, and frames so far."""


def install() -> None:
    """Register with Nuke. Called once, by init.py, in a window and on a farm."""
    nuke.addBeforeRender(before_render)
    nuke.addBeforeFrameRender(before_frame)


def before_render() -> None:
    """Check every VoidInpaint above the Write that is about to render. Raises RefusedRenderError."""
    _safely(_check_all, nuke.thisNode())


def before_frame() -> None:
    """Check that the frame that is about to render lies inside every result it is made of. Raises RefusedRenderError.

    Frames before and after a result are held for nodes that look at neighbours; rendered, they would stand still. The
    documentation leaves open whether `nuke.frame` is the frame that renders or the one in the viewer, so nothing is
    judged before it has moved: a single frame, and the first of many, may be written.
    """
    if _watched:
        _safely(_check_frame, nuke.thisNode(), nuke.frame())


def ours() -> list[nuke.Node]:
    """Every VoidInpaint of the script, however deep in groups. One call of Nuke's where there is none."""
    groups = nuke.allNodes("Group", nuke.root(), recurseGroups=True)  # a render may start in the context of any group
    return [node for node in groups if node.knob("void_id") is not None]


def _check_all(write: nuke.Node) -> None:
    mine = {node.fullName() for node in ours()}
    if not mine:
        _watched.clear()
        return
    watched: list[nuke.Node] = []
    _watched[write.fullName()] = watched, set()
    for node, moved in above_in_time(write):
        if node.Class() != "Group" or node.fullName() not in mine or node["missing_result"].value() == "plate":
            continue
        _check(node)
        if not moved:
            watched.append(node)
            if _value(write, "use_limit"):
                for knob in ("first", "last"):
                    _check_inside(node, int(write[knob].value()))


def _check(node: nuke.Node) -> None:
    """Raises RefusedRenderError where a node of ours would pass the plate, or lacks files. Lists one folder a view."""
    name = node.fullName()
    if not node["has_result"].value():
        raise RefusedRenderError(f"{name} has no result, so the object would be rendered. Press Remove first.")
    if node["show"].value() == "plate":
        raise RefusedRenderError(f"{name} shows the plate, so the object would be rendered. Set show to result.")
    first, last = (int(node[f"result_{end}"].value()) for end in ("first", "last"))
    for folder in _folders(node, first):
        try:
            names = set(os.listdir(folder))  # noqa: PTH208 - one call to a network disk, not one a file
        except OSError as error:
            raise RefusedRenderError(
                f"{name}: its result is not at {folder} ({error.strerror}). Put it back, or press Remove."
            ) from error
        gone = [frame for frame in range(first, last + 1) if f"clean.{frame:04d}.exr" not in names]
        if gone:
            raise RefusedRenderError(
                f"{name}: {len(gone)} of {last + 1 - first} frames of its result are not in {folder}, frame {gone[0]} "
                "first. Put them back, or press Remove."
            )


def _folders(node: nuke.Node, frame: int) -> Iterator[PurePath]:
    """The folders, one a view, that the result is read from, as Nuke works them out."""
    read = nuke.toNode(f"{node.fullName()}.ReadClean")
    if read is None:
        return
    file: Any = read["file"]
    folder = PurePath(str(file.evaluate(frame))).parent
    if "%v" in str(file.value()).lower():
        yield from (folder.parent / view for view in nuke.views())
    else:
        yield folder


def _check_frame(write: nuke.Node, frame: int) -> None:
    nodes, seen = _watched.get(write.fullName(), ((), set()))
    seen.add(frame)
    if len(seen) > 1:
        for node in nodes:
            _check_inside(node, min(seen))
            _check_inside(node, max(seen))


def _check_inside(node: nuke.Node, frame: int) -> None:
    first, last = (int(node[f"result_{end}"].value()) for end in ("first", "last"))
    if first <= frame <= last or _value(node, "outside_result") == "plate":
        return
    raise RefusedRenderError(
        f"Frame {frame} lies outside the result of {node.fullName()}, which has {first}-{last}: it would be missing or "
        "stand still. Render frames it has, press Remove for more, or set outside result to plate."
    )


def _value(node: nuke.Node, name: str) -> Any:
    knob: Any = node.knob(name)  # nodes of older versions, and other classes, lack some
    return None if knob is None else knob.value()


def _safely(act: Any, *args: Any) -> None:
    try:
        act(*args)
    except RefusedRenderError:
        raise
    except Exception as error:  # noqa: BLE001 - renders of every script pass here, also those that are none of ours
        sys.stderr.write(f"VOID could not check this render: {type(error).__name__}: {error}\n")
