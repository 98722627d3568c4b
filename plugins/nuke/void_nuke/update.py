"""Puts a node of today in the place of one that an older version made: a Group is saved whole in its script.

What comes in: the script's nodes. What goes out: fresh nodes under the old names, with their wires, settings and
results, in one undo step. Main thread only. A result stays where it lies; nothing is made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import nuke

from void_nuke import find_wire, guard, request, results, show
from void_nuke.nodes import inner, text, value
from void_nuke.results import Record

KEPT = ("void_id", "job_folder", *request.SENT, *request.NOT_SENT)
"""Knobs that a new node takes over, those that it has."""


def outdated(node: nuke.Node) -> bool:
    """Whether an older version made this node: it lacks the knob that says where its result is."""
    return node.knob("result_at") is None


def update_all() -> list[str]:
    """Update every node of the script that needs it; returns their names."""
    old = [cast("nuke.Group", node) for node in guard.ours() if outdated(node)]
    with nuke.Undo("VOID: update nodes"):
        return [update(node) for node in old]


def fresh(name: str) -> nuke.Node:
    """A new node, from the gizmo's file: it holds a Group, which is pasted."""
    try:
        return nuke.createNode(name)
    except RuntimeError:  # where this Nuke finds no node of that name
        return cast("nuke.Node", nuke.nodePaste(find_wire.gizmo(name).as_posix()))


def update(old: nuke.Group) -> str:
    """Replace one node; returns its name."""
    parent: Any = old.parent() or nuke.root()
    selected = nuke.selectedNodes()
    with parent:
        for node in selected:
            node.setSelected(False)  # or the new one would be wired to them
        new = cast("nuke.Group", fresh("VoidInpaint"))
        new.setSelected(False)
        for node in selected:
            node.setSelected(node.fullName() != old.fullName())
    for knob in KEPT:
        _carry(old, new, knob)
    for index in range(old.inputs()):
        new.setInput(index, old.input(index))
    for below in old.dependent(nuke.INPUTS | nuke.HIDDEN_INPUTS):
        for index in range(below.inputs()):
            source = below.input(index)
            if source is not None and source.fullName() == old.fullName():
                below.setInput(index, new)
    new.setXYpos(old.xpos(), old.ypos())
    if value(old, "has_result"):
        _take_result(old, new)
    name = old.name()
    nuke.delete(old)
    new.setName(name)
    return name


def _carry(old: nuke.Group, new: nuke.Group, knob: str) -> None:
    before: Any = old.knob(knob)
    now: Any = new.knob(knob)
    if before is None or now is None:
        return
    if knob.endswith("_channel"):
        copy = f"{knob.removesuffix('_channel').title().replace('_', '')}AsAlpha"
        inner(new, copy)["from0"].setValue(text(inner(old, copy), "from0"))
    else:
        now.setValue(before.value())


def _take_result(old: nuke.Group, new: nuke.Group) -> None:
    """Show the old node's result in the new one, which has none where its record is gone."""
    read: Any = inner(old, "ReadClean")["file"]
    folder = Path(str(read.evaluate(int(value(old, "result_first"))))).parent
    record = Record.load(folder)
    if record is not None and record.deliver == "clean":
        shown = str(value(old, "show"))
        show.apply(new, record)
        new["show"].setValue(shown)
        # In its old form it says nothing of today's inputs, so the result is taken as it is.
        new["input_fingerprint"].setValue(text(old, "input_fingerprint"))
    new["version"].setValue(results.version_of(record)[1] if record else int(value(old, "version")))
