"""Stops a render that would let the object back in, whether from a window or on a farm that has this plug-in.

What comes in: Nuke's own calls before a render and before each of its frames. What goes out: nothing, or a RuntimeError
that ends the render with its text. In a script without a VoidInpaint it asks Nuke for one list, and walks nothing. An
error of its own never stops a render: it is said once on the terminal.

Sources: Foundry's Python developer guide, "Callbacks": what raises there aborts the render. Only the graph knows that
nothing is missing on a machine without the plug-in; in a window `$gui` is 1 during a render as well, so the graph can't
tell a render from a viewer, and this does.
"""

from __future__ import annotations

import sys
from typing import Any

import nuke

from void_nuke.tree import above


class RefusedRenderError(RuntimeError):
    """The render would show the object. Its text is for the artist."""


def install() -> None:
    """Register with Nuke. Called once, by init.py, in a window and on a farm."""
    nuke.addBeforeRender(before_render)


def before_render() -> None:
    """Check every VoidInpaint above the Write that is about to render. Raises RefusedRenderError."""
    _safely(_check, nuke.thisNode())


def ours() -> list[nuke.Node]:
    """Every VoidInpaint of the script, however deep in groups. One call of Nuke's where there is none."""
    groups = nuke.allNodes("Group", nuke.root(), recurseGroups=True)  # a render may start in the context of any group
    return [node for node in groups if node.knob("void_id") is not None]


def _check(write: nuke.Node) -> None:
    mine = {node.fullName() for node in ours()}
    if not mine:
        return
    for node in above(write):
        if node.Class() != "Group" or node.fullName() not in mine or node["missing_result"].value() == "plate":
            continue
        if not node["has_result"].value():
            raise RefusedRenderError(
                f"{node.fullName()} has no result, so the object would be rendered. Press Remove first."
            )
        if node["show"].value() == "plate":
            raise RefusedRenderError(
                f"{node.fullName()} shows the plate, so the object would be rendered. Set show to result."
            )


def _safely(act: Any, *args: Any) -> None:
    try:
        act(*args)
    except RefusedRenderError:
        raise
    except Exception as error:  # noqa: BLE001 - renders of every script pass here, also those that are none of ours
        sys.stderr.write(f"VOID could not check this render: {type(error).__name__}: {error}\n")
