"""What is written onto a node: the name of its folder, and a finished result.

What comes in: a node of ours, and a record. What goes out: knobs, in one undo step. Main thread only. It starts no work
and reads no folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, cast

import nuke

import void_server
from void_nuke import results
from void_nuke.nodes import channel_like, has_channel, inner, text
from void_nuke.results import Record

READERS = {
    "clean": {"ReadClean": "clean", "ReadAov": "aov"},
    "affected": {"ReadAffected": "affected"},
    "frame": {"ReadFrame": "clean"},
}
"""Reads inside the node by what a run is for, and the file that each reads."""

COPIES = {
    "aov": ("ChangeAsAlpha", "Layers", "LayerPhysics", "LayerSuspected", "GrainAsRgb"),
    "affected": ("FoundAsAlpha",),
}
"""Nodes inside that take channels from the Read of a file, by the file's name."""


def identify(node: nuke.Group) -> str:
    """The name of this node's folder; a new one for a node that has none, or shares its own with a copy."""
    mine = text(node, "void_id")
    others = [n for n in nuke.allNodes("Group", nuke.root(), recurseGroups=True) if n.fullName() != node.fullName()]
    if not mine or any("void_id" in n.knobs() and text(n, "void_id") == mine for n in others):
        name = results.new_name(node.name())
        with no_undo():
            node["job_folder"].setValue(name)
            node["void_id"].setValue(name.rpartition("_")[2])
    return text(node, "job_folder")


def apply(node: nuke.Group, record: Record) -> None:
    """Show a finished result or preview: one undo step, no other node touched."""
    name, version = results.version_of(record)
    folder, several = results.run_of(record), len(nuke.views()) > 1
    with nuke.Undo(f"VOID: {results.stem(record.deliver)}{version:03d}"):
        if record.deliver == "clean":
            node["result_at"].setValue(folder.as_posix())
            node["result_rel"].setValue(results.from_script(script(), folder))
        for reader, part in READERS[record.deliver].items():
            if record.deliver == "clean":
                named = results.in_script(part, several)
            else:
                named = results.preview_in_script(folder, part, several)
            read = _point(node, reader, named, record)
            for copy in COPIES.get(part, ()):
                _take(inner(node, copy), read)
            if part == "aov":
                node["has_suspected"].setValue(has_channel(read, "suspected"))
                node["has_grain"].setValue(has_channel(read, "grain.red"))
        if not text(node, "job_folder"):
            node["job_folder"].setValue(name)
            node["void_id"].setValue(name.rpartition("_")[2])
        if record.deliver == "clean":
            node["has_result"].setValue(True)
            node["version"].setValue(version)
            node["result_first"].setValue(record.first)
            node["result_last"].setValue(record.last)
            node["input_fingerprint"].setValue(record.fingerprint)
            node["tool_version"].setValue(void_server.__version__)
            node["files_missing"].setValue(False)
            node["show"].setValue("result")
        elif record.deliver == "affected":
            node["has_preview"].setValue(True)
            node["show"].setValue("affected")
        else:
            node["has_frame"].setValue(True)
            node["frame_at"].setValue(record.first)
            node["show"].setValue("frame")


def compare(node: nuke.Group, record: Optional[Record]) -> None:  # noqa: UP045
    """Lay another version beside the shown one, in the viewer; None takes it away. It leaves no undo step."""
    with no_undo():
        if record is not None:
            named = results.preview_in_script(results.run_of(record), "clean", len(nuke.views()) > 1)
            _point(node, "ReadCompare", named, record)
            node["compare_first"].setValue(record.first)
            node["compare_last"].setValue(record.last)
        node["comparing"].setValue(record is not None)


def offer(node: nuke.Group, lines: list[str]) -> None:
    """Fill the menus of versions."""
    with no_undo():
        for knob, entries in (("versions", lines or [""]), ("compare", ["off", *lines])):
            menu = cast("nuke.Enumeration_Knob", node[knob])
            if list(menu.values()) != entries:
                menu.setValues(entries)


def _point(node: nuke.Group, reader: str, named: str, record: Record) -> nuke.Node:
    """Let a Read inside the node read a sequence."""
    read = inner(node, reader)
    read["file"].setValue(named)
    for knob, frame in (("first", record.first), ("last", record.last)):
        read[knob].setValue(frame)
        read[f"orig{knob}"].setValue(frame)
    cast("nuke.Script_Knob", read["reload"]).execute()
    return read


def _take(copy: nuke.Node, read: nuke.Node) -> None:
    """Let a Copy take the channels it takes from whatever layer this Nuke has put them into."""
    for index in range(4):
        knob = copy.knob(f"from{index}")
        if knob is not None and "." in str(knob.value()):
            knob.setValue(channel_like(read, str(knob.value())))


@contextlib.contextmanager
def no_undo() -> Iterator[None]:
    """Changes inside leave no undo step; where undo is off already, it stays off."""
    was_off = nuke.Undo.disabled()
    nuke.Undo.disable()
    try:
        yield
    finally:
        if not was_off:
            nuke.Undo.enable()


def base(node: nuke.Group) -> Path:
    return results.base_of(script(), str(cast("nuke.File_Knob", node["result_folder"]).evaluate(1) or ""))


def script() -> str:
    name = str(nuke.root().name())
    return name if Path(name).is_absolute() else ""
