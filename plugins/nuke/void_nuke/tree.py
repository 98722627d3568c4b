"""Walks the nodes above a node: into groups and out of them, without recursion, however deep a script is.

What comes in: a node. What goes out: nodes, and whether time is moved on the way to them. It imports nuke for its types
only, reads no knob but `number` of an Input, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import nuke

GROUPS = ("Group", "VariableGroup", "LiveGroup", "Gizmo")
"""Classes whose nodes may be looked into, besides gizmos under a name of their own."""

MOVES_TIME = (
    "TimeOffset", "TimeWarp", "Retime", "TimeClip", "AppendClip", "FrameHold", "Kronos", "OFlow2", "TimeDissolve",
    "TimeEcho",
)  # fmt: skip
"""Classes that ask for another frame than their own. Names from the reference guide's Time nodes."""


def above(node: nuke.Node) -> Iterator[nuke.Node]:
    """Every node upstream, each once, inputs in their order, into groups and out of them."""
    for found, _ in above_in_time(node):
        yield found


def above_in_time(node: nuke.Node) -> Iterator[tuple[nuke.Node, bool]]:
    """(node, whether every way to it moves time) of every node upstream.

    A node that is reached both ways counts as not moved: what moves time is walked through last.
    """
    met, beyond, stack = {node.fullName()}, [], [node]
    while stack:
        current = stack.pop()
        sources = list(_sources(current))
        if current.Class() in MOVES_TIME:
            beyond += sources
            continue
        for source in sources:
            name = source.fullName()
            if name not in met:
                met.add(name)
                yield source, False
                stack.append(source)
    while beyond:
        source = beyond.pop()
        name = source.fullName()
        if name not in met:
            met.add(name)
            yield source, True
            beyond += _sources(source)


def _sources(node: nuke.Node) -> Iterator[nuke.Node]:
    kind = node.Class()
    for index in range(node.inputs()):
        source = node.input(index)
        if source is not None:
            yield source
    if kind == "Input":
        parent = node.parent()
        source = parent.input(int(node["number"].value())) if parent is not None else None
        if source is not None:
            yield source
    elif kind in GROUPS or hasattr(node, "nodes"):
        yield from cast("nuke.Group", node).nodes()
