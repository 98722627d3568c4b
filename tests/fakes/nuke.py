"""A strict stand-in for Nuke's Python module: few names, each of them Nuke's, and Nuke's rules about threads.

What comes in: calls, as Nuke would get them. What goes out: a script of `nuke_script` nodes that really changes, really
renders through `nuke_graph`, and is really saved as text. Anything but executeInMainThread and ProgressTask raises off
the main thread; a name that Nuke lacks is no attribute; a knob that a node lacks is a NameError. Names that begin with
an underscore belong to the tests. `tests/test_nuke_fake.py` holds every public name and argument against types-nuke.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

from tests.fakes import nuke_graph, nuke_script
from tests.fakes.nuke_script import ScriptNode, UserKnob

GUI = True
TO_SCRIPT = 1
WRITE_NON_DEFAULT_ONLY = 2


class CancelledError(Exception):
    pass


class _Session:
    """One run of Nuke: its script, its user, its threads."""

    def __init__(self) -> None:
        self.main = threading.current_thread()
        self.root = ScriptNode("Root", {"name": "", "first_frame": "1", "last_frame": "100", "proxy": "false"})
        self.root.knobs["workingSpaceLUT"] = "linear"
        self.views = ["main"]
        self.selected: set[int] = set()
        self.wrappers: dict[int, Node] = {}
        self.context = [self.root]
        self.this: Node | None = None
        self.plugin_path: list[str] = []
        self.calls: queue.Queue[tuple[Any, tuple[Any, ...]]] = queue.Queue()
        self.messages: list[str] = []
        self.tasks: list[ProgressTask] = []
        self.cancel_tasks = threading.Event()
        self.undo: list[str] = []
        self.undo_off = 0
        self.undo_open: list[str] = []
        self.before_render: list[Any] = []
        self.rendered: list[tuple[str, str, int, int, str, str]] = []
        self.fail_render: Exception | None = None
        self.menus: dict[str, Menu] = {}

    def changed(self, what: str) -> None:
        if not self.undo_off and not self.undo_open:
            self.undo.append(what)


_session = _Session()


def _restart() -> _Session:
    """Nuke anew, as after a crash: nothing but files outlives it."""
    global _session  # noqa: PLW0603 - a module stands for a process
    _session = _Session()
    return _session


def _main_only() -> None:
    if threading.current_thread() is not _session.main:
        raise RuntimeError("Nuke was called from a thread that is not its main thread")


def _pump(until: Any, limit_s: float = 30.0) -> None:
    """Run what threads asked for on the main thread, until `until()` holds."""
    _main_only()
    while not until():
        call, args = _session.calls.get(timeout=limit_s)
        call(*args)


def _save(path: Path) -> None:
    _session.root.knobs["name"] = path.as_posix()
    path.write_text(nuke_script.write(_session.root), encoding="utf-8")


def _open(path: Path) -> None:
    _session.root = nuke_script.parse(path.read_text(encoding="utf-8"))
    _session.root.knobs["name"] = path.as_posix()
    _session.context = [_session.root]


def _press(node: Node, button: str) -> None:
    """The user presses a button: Nuke runs the knob's own text."""
    _run(node, node._data.user[button].text)


def _run(node: Node, text: str) -> None:
    _session.this = node
    exec(compile(text, node.name(), "exec"), {"nuke": __import__("nuke")})


def _view(node: Node, frame: int, gui: bool = True) -> nuke_graph.Picture:
    """What a viewer, or a farm, gets from a node."""
    graph = nuke_graph.Graph({}, frame, gui, _session.root.knobs["name"], _session.views[0])
    graph.size = _size(node._data, frame)
    return graph.render(node._data)


def _size(node: ScriptNode, frame: int) -> tuple[int, int]:
    while node.inputs or node.cls == "Input":
        source = node.parent.inputs[int(node.knobs.get("number", "0"))] if node.cls == "Input" and node.parent else None
        node = source or node.inputs[0]
    path = nuke_graph.evaluated(node.knobs["file"], frame, "main", _session.root.knobs["name"])
    return next(iter(nuke_graph.read_exr(Path(path)).values())).shape


# Knobs ---------------------------------------------------------------------------------------------------------------


class Knob:
    def __init__(self, node: Node, name: str, user: UserKnob | None) -> None:
        self._node, self._name, self._user = node, name, user

    @property
    def _raw(self) -> str:
        return self._node._data.knobs.get(self._name, "")

    def name(self) -> str:
        _main_only()
        return self._name

    def value(self) -> Any:
        _main_only()
        return self._read()

    def _read(self) -> Any:
        return self._raw

    def setValue(self, val: Any) -> bool:
        _main_only()
        self._node._alive()
        text = self._text(val)
        self._node._data.knobs[self._name] = text
        _session.changed(f"{self._node._data.name}.{self._name}")
        return True

    def _text(self, val: Any) -> str:
        if not isinstance(val, str):
            raise TypeError(f"{self._name}: a text is wanted, not {val!r}")
        return val


class String_Knob(Knob):
    pass


class Text_Knob(Knob):
    def _read(self) -> str:
        return self._raw or (self._user.text if self._user else "")


class Channel_Knob(Knob):
    pass


class Script_Knob(String_Knob):
    def execute(self) -> None:
        _main_only()


class File_Knob(String_Knob):
    def evaluate(self, frame: int) -> str:
        _main_only()
        root = _session.root.knobs["name"]
        return nuke_graph.evaluated(self._raw, frame, _session.views[0], root)


class Boolean_Knob(Knob):
    def _read(self) -> bool:
        return self._raw == "true"

    def _text(self, val: Any) -> str:
        if not isinstance(val, (bool, int)):
            raise TypeError(f"{self._name}: a truth value is wanted, not {val!r}")
        return "true" if val else "false"


class Double_Knob(Knob):
    def _read(self) -> float:
        return float(self._raw or 0)

    def _text(self, val: Any) -> str:
        if not isinstance(val, (int, float)):
            raise TypeError(f"{self._name}: a number is wanted, not {val!r}")
        return str(val)


class Int_Knob(Double_Knob):
    def _read(self) -> Any:
        number = float(self._raw or 0)
        return int(number) if number == int(number) else number


class Enumeration_Knob(Knob):
    def _read(self) -> str:
        menu = self._user.menu if self._user else ()
        return self._raw or (menu[0] if menu else "")

    def _text(self, val: Any) -> str:
        if self._user and val not in self._user.menu:
            raise ValueError(f"{self._name} has no entry {val!r}")
        return super()._text(val)


class Link_Knob(Knob):
    def _target(self) -> Knob:
        node, _, knob = self._user.text.partition(".") if self._user else ("", "", "")
        return _wrap(self._node._data.child(node))[knob]

    def _read(self) -> Any:
        return self._target()._read()

    def setValue(self, val: Any) -> bool:
        return self._target().setValue(val)


_TYPES: dict[str, type[Knob]] = {
    "first": Int_Knob, "last": Int_Knob, "origfirst": Int_Knob, "origlast": Int_Knob, "file": File_Knob,
    "raw": Boolean_Knob, "auto_alpha": Boolean_Knob, "origset": Boolean_Knob, "disable": Boolean_Knob,
    "proxy": Boolean_Knob, "reload": Script_Knob, "from0": Channel_Knob, "channels": Channel_Knob,
    "first_frame": Double_Knob, "last_frame": Double_Knob, "white": Double_Knob,
}  # fmt: skip
_BUILT_IN: dict[str, dict[str, str]] = {
    "Read": {
        "file": "", "first": "1", "last": "1", "origfirst": "1", "origlast": "1", "raw": "false", "frame": "",
        "colorspace": "default (linear)", "auto_alpha": "false", "reload": "", "on_error": "error",
    },
    "Write": {"file": "", "file_type": "", "channels": "rgb", "datatype": "16 bit half", "compression": "",
        "raw": "false",
    },
    "Grade": {"white": "1", "disable": "false"},
    "Copy": {"from0": "rgba.alpha", "to0": "rgba.alpha"},
    "Dot": {}, "Group": {"label": "", "disable": "false"},
}  # fmt: skip


# Nodes ---------------------------------------------------------------------------------------------------------------


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

    def _alive(self) -> None:
        _main_only()
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
        inside = parent is not None and parent is not _session.root
        return f"{parent.name}.{self._data.name}" if inside and parent else self._data.name

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
        _session.changed(f"{self._data.name} input {i}")
        return True

    def knobs(self) -> dict[str, Knob]:
        self._alive()
        names = {**_BUILT_IN.get(self._data.cls, {}), **self._data.knobs, **self._data.user}
        return {name: self[name] for name in names}

    def __getitem__(self, name: str) -> Knob:
        self._alive()
        user = self._data.user.get(name)
        if user is not None:
            return globals()[nuke_script.KINDS[user.kind]](self, name, user)
        built_in = _BUILT_IN.get(self._data.cls, {})
        if name not in built_in and name not in self._data.knobs:
            raise NameError(f"knob {name} does not exist")
        self._data.knobs.setdefault(name, built_in.get(name, ""))
        return _TYPES.get(name, String_Knob)(self, name, None)

    def frameRange(self) -> FrameRange:
        self._alive()
        data = self._data
        while data.cls != "Read" and data.inputs and data.inputs[0] is not None:
            data = data.inputs[0]
        knobs = data.knobs if data.cls == "Read" else {}
        first, last = knobs.get("first", _session.root.knobs["first_frame"]), knobs.get("last", "")
        return FrameRange(int(first), int(last or _session.root.knobs["last_frame"]), int(knobs.get("_step", "1")))

    def channels(self) -> list[str]:
        self._alive()
        text, frame = self._data.knobs.get("file", ""), int(self._data.knobs.get("first", "1"))
        path = Path(nuke_graph.evaluated(text, frame, _session.views[0], _session.root.knobs["name"]))
        return list(nuke_graph.read_exr(path)) if path.is_file() else []

    def writeKnobs(self, flags: int) -> str:
        self._alive()
        assert flags == TO_SCRIPT | WRITE_NON_DEFAULT_ONLY
        return "\n".join(f"{name} {value}" for name, value in self._data.knobs.items())

    def setSelected(self, selected: bool) -> None:
        self._alive()
        (_session.selected.add if selected else _session.selected.discard)(id(self._data))


class Group(Node):
    def node(self, s: str) -> Node | None:
        self._alive()
        return next((_wrap(child) for child in self._data.children if child.name == s), None)

    def nodes(self) -> list[Node]:
        self._alive()
        return [_wrap(child) for child in self._data.children]

    def __enter__(self) -> Group:
        self._alive()
        _session.context.append(self._data)
        return self

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        _session.context.pop()


class Root(Group):
    def name(self) -> str:
        self._alive()
        return self._data.knobs["name"] or "Root"


def _wrap(data: ScriptNode) -> Node:
    if id(data) not in _session.wrappers:
        kind = {"Group": Group, "Root": Root}.get(data.cls, Node)
        _session.wrappers[id(data)] = kind(data)
    return _session.wrappers[id(data)]


def _make(cls: str, **knobs: str) -> Node:
    group = _session.context[-1]
    data = ScriptNode(cls, {"name": _free_name(group, cls), **knobs}, parent=group)
    group.children.append(data)
    _session.changed(f"new {cls}")
    return _wrap(data)


def _free_name(group: ScriptNode, stem: str) -> str:
    taken = {child.name for child in group.children}
    return next(name for i in range(1, 1000) if (name := f"{stem}{i}") not in taken)


class NodeConstructor:
    def __init__(self, cls: str) -> None:
        self._cls = cls

    def __call__(self, **knobs: str) -> Node:
        _main_only()
        return _make(self._cls, **knobs)


class Nodes:
    def __getattr__(self, item: str) -> NodeConstructor:
        if item not in _BUILT_IN:
            raise AttributeError(item)
        return NodeConstructor(item)


nodes = Nodes()


def root() -> Node:
    _main_only()
    return _wrap(_session.root)


def createNode(typ: str) -> Node:
    _main_only()
    found = [Path(folder) / f"{typ}.gizmo" for folder in _session.plugin_path]
    path = next(path for path in found if path.is_file())
    data = nuke_script.parse(path.read_text(encoding="utf-8")).children[0]
    data.knobs["name"] = _free_name(_session.root, data.name)
    data.parent = _session.root
    _session.root.children.append(data)
    _session.changed(f"new {typ}")
    return _wrap(data)


def delete(n: Node) -> None:
    n._alive()
    if n._data.parent is not None:
        n._data.parent.children.remove(n._data)
    n._dead = True
    _session.selected.discard(id(n._data))


def allNodes(filter: str = "", recurseGroups: bool = False) -> list[Node]:
    _main_only()
    found, queue_ = [], list(_session.context[-1].children)
    while queue_:
        data = queue_.pop(0)
        if recurseGroups:
            queue_ += data.children
        if not filter or data.cls == filter:
            found.append(_wrap(data))
    return found


def selectedNodes() -> list[Node]:
    return [node for node in allNodes() if id(node._data) in _session.selected]


def thisNode() -> Node:
    _main_only()
    assert _session.this is not None
    return _session.this


def thisView() -> str:
    _main_only()
    return _session.views[0]


def views() -> list[str]:
    _main_only()
    return list(_session.views)


# Threads, rendering, undo, windows -----------------------------------------------------------------------------------


def executeInMainThread(call: Any, args: tuple[Any, ...] = ()) -> None:
    if threading.current_thread() is _session.main:
        raise RuntimeError("executeInMainThread was called from the main thread")
    _session.calls.put((call, args))


def execute(nameOrNode: Node, start: int, end: int, incr: int = 1, views: list[str] | None = None) -> None:
    _main_only()
    data = nameOrNode._data
    for callback in _session.before_render:
        _session.this = nameOrNode
        callback()
    if _session.fail_render is not None:
        raise _session.fail_render
    assert data.cls == "Write" and data.knobs["file_type"] == "exr" and data.knobs["raw"] == "true" and incr == 1
    assert _session.root.knobs["proxy"] == "false", "a proxy would be rendered"
    view = (views or _session.views)[0]
    for frame in range(start, end + 1):
        graph = nuke_graph.Graph({}, frame, GUI, _session.root.knobs["name"], view, _size(data, frame))
        path = Path(nuke_graph.evaluated(data.knobs["file"], frame, view, _session.root.knobs["name"]))
        wanted = {"rgb": "rgba", "alpha": "rgba.alpha"}[data.knobs["channels"]]
        nuke_graph.write_exr(path, graph.render(data.inputs[0]), wanted, data.knobs["datatype"] == "16 bit half")
    _session.rendered.append((data.name, data.knobs["file"], start, end, view, data.knobs["datatype"]))


def addBeforeRender(call: Any) -> None:
    _main_only()
    _session.before_render.append(call)


class ProgressTask:
    def __init__(self, name: str) -> None:
        self._name, self._lines, self._percents = name, [], []
        _session.tasks.append(self)

    def setMessage(self, line: str) -> None:
        self._lines.append(line)

    def setProgress(self, percent: int) -> None:
        if not isinstance(percent, int) or not 0 <= percent <= 100:
            raise TypeError(f"progress {percent!r}")
        self._percents.append(percent)

    def isCancelled(self) -> bool:
        return _session.cancel_tasks.is_set()


class Undo:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> Undo:
        _main_only()
        _session.undo_open.append(self._name)
        return self

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        _session.undo_open.pop()
        _session.changed(self._name)

    @classmethod
    def disable(cls) -> None:
        _main_only()
        _session.undo_off += 1

    @classmethod
    def enable(cls) -> None:
        _main_only()
        assert _session.undo_off > 0, "undo was not disabled"
        _session.undo_off -= 1

    @classmethod
    def disabled(cls) -> bool:
        _main_only()
        return _session.undo_off > 0


class Menu:
    def __init__(self) -> None:
        self._commands: dict[str, str] = {}
        self._menus: dict[str, Menu] = {}

    def addMenu(self, name: str) -> Menu:
        return self._menus.setdefault(name, Menu())

    def addCommand(self, name: str, command: str) -> None:
        self._commands[name] = command


def menu(name: str) -> Menu:
    _main_only()
    return _session.menus.setdefault(name, Menu())


def message(prompt: str) -> None:
    _main_only()
    assert GUI, "a message without a window would hang"
    _session.messages.append(prompt)


def tprint(*args: Any) -> None:
    _session.messages.append(" ".join(map(str, args)))


def pluginAddPath(args: str) -> None:
    _main_only()
    _session.plugin_path.append(args)
