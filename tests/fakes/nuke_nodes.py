"""Nodes of the fake Nuke: wrappers of `nuke_script` nodes, dead once their node is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes import nuke_graph, nuke_knobs, nuke_script
from tests.fakes import nuke_state as state
from tests.fakes.nuke_knobs import Knob
from tests.fakes.nuke_script import ScriptNode

INPUTS, HIDDEN_INPUTS = 1, 2
TO_SCRIPT = 1
WRITE_NON_DEFAULT_ONLY = 2


class FrameRange:
    def __init__(self, first: int, last: int, increment: int) -> None:
        self._numbers = (first, last, increment)

    def first(self) -> int:
        return self._numbers[0]

    def last(self) -> int:
        return self._numbers[1]

    def increment(self) -> int:
        return self._numbers[2]


class Node:
    def __init__(self, data: ScriptNode) -> None:
        self._data, self._dead = data, False

    @staticmethod
    def _wrap(data: ScriptNode) -> Node:
        return _wrap(data)

    def _alive(self) -> None:
        state.main_only()
        state.session.touched += 1
        if self._dead:
            raise ValueError("A PythonObject is not attached to a node")

    def Class(self) -> str:
        self._alive()
        return self._data.cls

    def name(self) -> str:
        self._alive()
        return self._data.name

    def fullName(self) -> str:
        self._alive()
        parent = self._data.parent
        inside = parent is not None and parent is not state.session.root
        return f"{parent.name}.{self._data.name}" if inside and parent else self._data.name

    def parent(self) -> Node | None:
        self._alive()
        return _wrap(self._data.parent) if self._data.parent is not None else None

    def inputs(self) -> int:
        self._alive()
        return len(self._data.inputs)

    def input(self, index: int) -> Node | None:
        self._alive()
        found = self._data.inputs[index] if index < len(self._data.inputs) else None
        return _wrap(found) if found is not None else None

    def setInput(self, i: int, node: Node | None) -> bool:
        self._alive()
        self._data.inputs += [None] * (i + 1 - len(self._data.inputs))
        self._data.inputs[i] = node._data if node is not None else None
        state.session.changed(f"{self._data.name} input {i}")
        return True

    def knobs(self) -> dict[str, Knob]:
        self._alive()
        names = {**nuke_knobs.BUILT_IN.get(self._data.cls, {}), **self._data.knobs, **self._data.user}
        return {name: self[name] for name in names}

    def knob(self, p: str) -> Knob | None:
        """None for a knob that is not there; of a node's own ones only that is looked up, as Nuke does."""
        self._alive()
        data = self._data
        there = p in data.user or p in data.knobs or p in nuke_knobs.BUILT_IN.get(data.cls, {})
        return self[p] if there else None

    def __getitem__(self, name: str) -> Knob:
        self._alive()
        user = self._data.user.get(name)
        if user is not None:
            return getattr(nuke_knobs, nuke_script.KINDS[user.kind])(self, name, user)
        built_in = nuke_knobs.BUILT_IN.get(self._data.cls, {})
        if name not in built_in and name not in self._data.knobs:
            raise NameError(f"knob {name} does not exist")
        kind = nuke_knobs.TYPES.get(f"{self._data.cls}.{name}") or nuke_knobs.TYPES.get(name, nuke_knobs.String_Knob)
        return kind(self, name, None)

    def frameRange(self) -> FrameRange:
        self._alive()
        data = self._data
        while data.cls != "Read" and data.inputs and data.inputs[0] is not None:
            data = data.inputs[0]
        knobs = data.knobs if data.cls == "Read" else {}
        first, last = knobs.get("first", state.session.root.knobs["first_frame"]), knobs.get("last", "")
        return FrameRange(int(first), int(last or state.session.root.knobs["last_frame"]), int(knobs.get("_step", "1")))

    def channels(self) -> list[str]:
        self._alive()
        text, frame = self._data.knobs.get("file", ""), int(self._data.knobs.get("first", "1"))
        path = Path(
            nuke_graph.evaluated(text, frame, state.session.views[0], state.session.root.knobs["name"], self._data)
        )
        return list(nuke_graph.read_exr(path)) if path.is_file() else []

    def writeKnobs(self, flags: int) -> str:
        self._alive()
        assert flags == TO_SCRIPT | WRITE_NON_DEFAULT_ONLY
        state.session.serialised += 1
        return "\n".join(f"{name} {value}" for name, value in self._data.knobs.items())

    def dependent(self, mask: int) -> list[Node]:
        self._alive()
        assert mask == INPUTS | HIDDEN_INPUTS
        group = self._data.parent
        return [_wrap(node) for node in (group.children if group else ()) if self._data in node.inputs]

    def setName(self, name: str) -> None:
        self._alive()
        group = self._data.parent
        assert group is None or all(node is self._data or node.name != name for node in group.children), "taken"
        self._data.knobs["name"] = name

    def xpos(self) -> int:
        self._alive()
        return int(self._data.knobs.get("xpos", "0"))

    def ypos(self) -> int:
        self._alive()
        return int(self._data.knobs.get("ypos", "0"))

    def setXYpos(self, x: int, y: int) -> None:
        self._alive()
        self._data.knobs.update(xpos=str(x), ypos=str(y))

    def setSelected(self, selected: bool) -> None:
        self._alive()
        (state.session.selected.add if selected else state.session.selected.discard)(id(self._data))


class Group(Node):
    def node(self, s: str) -> Node | None:
        self._alive()
        return next((_wrap(child) for child in self._data.children if child.name == s), None)

    def nodes(self) -> list[Node]:
        self._alive()
        return [_wrap(child) for child in self._data.children]

    def __enter__(self) -> Group:
        self._alive()
        state.session.context.append(self._data)
        return self

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        state.session.context.pop()


class Viewer(Node):
    """Source: "nuke.Viewer" in the Python reference of Nuke 16: a dict with x, y, r, t, or None without a window."""

    def roi(self) -> dict[str, float] | None:
        self._alive()
        return state.session.roi

    def roiEnabled(self) -> bool | None:
        self._alive()
        return None if state.session.roi is None else state.session.roi_on


class Root(Group):
    def name(self) -> str:
        self._alive()
        return self._data.knobs["name"] or "Root"


def _wrap(data: ScriptNode) -> Node:
    if id(data) not in state.session.wrappers:
        kind = {"Group": Group, "Root": Root, "Viewer": Viewer}.get(data.cls, Node)
        state.session.wrappers[id(data)] = kind(data)
    return state.session.wrappers[id(data)]


def _make(cls: str, **knobs: str) -> Node:
    group = state.session.context[-1]
    data = ScriptNode(cls, {"name": knobs.get("name") or _free_name(group, cls), **knobs}, parent=group)
    for name, value in state.session.knob_defaults.items():
        if name.startswith(f"{cls}."):
            data.knobs.setdefault(name.partition(".")[2], value)
    group.children.append(data)
    state.session.changed(f"new {cls}")
    return _wrap(data)


def _free_name(group: ScriptNode, stem: str) -> str:
    taken = {child.name for child in group.children}
    return next(name for i in range(1, 1000) if (name := f"{stem}{i}") not in taken)
