"""What can be read off nodes without asking Nuke itself: inputs, Reads, everything upstream.

What comes in: nodes. What goes out: plain values. It imports nuke for its types only and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional, cast

from void_nuke import request
from void_nuke.tree import above

if TYPE_CHECKING:
    import nuke


def sources(node: nuke.Node) -> Iterator[tuple[str, nuke.Node]]:
    """(role, node) of every input that is connected."""
    for index, role in enumerate(request.ROLES):
        source = node.input(index)
        if source is not None:
            yield role, source


def input_facts(source: nuke.Node) -> request.InputFacts:
    found = source.frameRange()
    return request.InputFacts(found.first(), found.last(), found.increment(), _read(source))


def _read(source: nuke.Node) -> Optional[request.ReadFacts]:  # noqa: UP045
    """The Read behind an input, if only Dots and switched-off nodes lie between."""
    node: Optional[nuke.Node] = source  # noqa: UP045
    while node is not None and (node.Class() in ("Dot", "NoOp") or (node.Class() != "Read" and _off(node))):
        node = node.input(0)
    if node is None or node.Class() != "Read" or _off(node):
        return None
    file = cast("nuke.File_Knob", node["file"])
    return request.ReadFacts(
        path_at=lambda frame: str(file.evaluate(frame)),
        first=int(value(node, "first")),
        last=int(value(node, "last")),
        raw=bool(value(node, "raw")),
        colorspace=text(node, "colorspace"),
        retimed=bool(text(node, "frame").strip()) or "%v" in str(file.value()).lower(),
        has_alpha="rgba.alpha" in node.channels() and not value(node, "auto_alpha"),
    )


def depends_on_variables(node: nuke.Group) -> str:
    """Name of the node that makes the inputs depend on the script's variables (Nuke 16 and later), or nothing.

    Source: "Graph Scope Variables / Multi-shot Set-up" in the developer guide: `%{name}` in a file, VariableSwitch, and
    groups with variables of their own.
    """
    holder: Optional[nuke.Node] = node.parent()  # noqa: UP045
    while holder is not None and holder.Class() != "Root":
        if holder.Class() == "VariableGroup":
            return holder.name()
        holder = holder.parent()
    for _, source in sources(node):
        for found in (source, *above(source)):
            if found.Class() in ("VariableSwitch", "VariableGroup"):
                return found.name()
            if found.Class() == "Read" and "%{" in text(found, "file"):
                return found.name()
    return ""


def _off(node: nuke.Node) -> bool:
    return "disable" in node.knobs() and bool(value(node, "disable"))


def upstream(node: nuke.Group, flags: int) -> dict[str, str]:
    """Knobs of every node above each input, as a script holds them: alike in every session, unlike Nuke's hashes.

    flags: how `writeKnobs` is to write.
    """
    found = {}
    for role, source in sources(node):
        found[role] = "\n".join(f"{n.Class()}\n{n.writeKnobs(flags)}" for n in (source, *above(source)))
    return found


def settings(node: nuke.Node) -> dict[str, Any]:
    """The knobs of ours that a shot depends on; frames by getValue, since an Int_Knob's value cuts 1001.5 off."""
    found = {name: value(node, name) for name in (*request.SENT, *request.NOT_SENT) if name != "region"}
    box: Any = node["region"]
    found["region"] = (box.x(), box.y(), box.r(), box.t())
    return {**found, "first": node["first"].getValue(), "last": node["last"].getValue()}


def channel_like(read: nuke.Node, wanted: str) -> str:
    """The channel of a Read that is called this; else the one with the last part of the name, in whatever layer this
    Nuke put it: EXR gives `change` none."""
    found = read.channels()
    last = wanted.rpartition(".")[2]
    return wanted if wanted in found else next((name for name in found if name.rpartition(".")[2] == last), wanted)


def has_channel(read: nuke.Node, wanted: str) -> bool:
    """Whether a Read's file has a channel of that name; without a dot in it, in whatever layer."""
    return any(wanted in (name, name.rpartition(".")[2]) for name in read.channels())


def inner(node: nuke.Group, name: str) -> nuke.Node:
    """A node inside ours. Raises RefusedError where somebody has taken it out."""
    found = node.node(name)
    if found is None:
        raise request.RefusedError([f"{node.name()} lacks its node {name}. Make a fresh VoidInpaint."])
    return found


def value(node: nuke.Node, knob: str) -> Any:
    return node[knob].value()


def text(node: nuke.Node, knob: str) -> str:
    return str(value(node, knob) or "")
