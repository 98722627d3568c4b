"""A strict stand-in for Nuke's Python module: few names, each of them Nuke's, and Nuke's rules about threads.

What comes in: calls, as Nuke would get them. What goes out: a script of `nuke_script` nodes that really changes, really
renders through `nuke_graph`, and is really saved as text. Anything but executeInMainThread and ProgressTask raises off
the main thread; a name that Nuke lacks is no attribute; a knob that a node lacks is a NameError. Names that begin with
an underscore belong to the tests. `tests/test_nuke_fake.py` holds every public name and argument against types-nuke.
"""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Any

from tests.fakes import nuke_graph, nuke_knobs, nuke_script
from tests.fakes import nuke_state as state
from tests.fakes.nuke_knobs import File_Knob, Knob, Script_Knob
from tests.fakes.nuke_nodes import (
    HIDDEN_INPUTS,
    INPUTS,
    TO_SCRIPT,
    WRITE_NON_DEFAULT_ONLY,
    Group,
    Node,
    _free_name,
    _make,
    _wrap,
)

__all__ = [
    "HIDDEN_INPUTS",
    "INPUTS",
    "TO_SCRIPT",
    "WRITE_NON_DEFAULT_ONLY",
    "File_Knob",
    "Group",
    "Knob",
    "Node",
    "Script_Knob",
]

GUI = True
NUKE_VERSION_MAJOR, NUKE_VERSION_MINOR = 15, 1


class CancelledError(Exception):
    pass


def _pump(until: Any, limit_s: float = 30.0) -> None:
    """Run what threads asked for on the main thread, until `until()` holds."""
    state.main_only()
    while not until():
        call, args = state.session.calls.get(timeout=limit_s)
        call(*args)


def _save(path: Path) -> None:
    state.session.root.knobs["name"] = path.as_posix()
    path.write_text(nuke_script.write(state.session.root), encoding="utf-8")


def _open(path: Path) -> None:
    state.session.root = nuke_script.parse(path.read_text(encoding="utf-8"))
    state.session.root.knobs["name"] = path.as_posix()
    state.session.context = [state.session.root]


def _press(node: Node, button: str) -> None:
    """The user presses a button: Nuke runs the knob's own text."""
    _run(node, node._data.user[button].text)


def _run(node: Node, text: str) -> None:
    state.session.this = node
    exec(compile(text, node.name(), "exec"), {"nuke": __import__("nuke")})


def _view(node: Node, frame: int, gui: bool = True) -> nuke_graph.Picture:
    """What a viewer, or a farm, gets from a node."""
    graph = nuke_graph.Graph({}, frame, gui, state.session.root.knobs["name"], state.session.views[0])
    graph.size = nuke_graph.size_of(node._data, frame, state.session.root.knobs["name"])
    return graph.render(node._data)


class GlobalsEnvironment:
    def get(self, key: str, default: Any = None) -> Any:
        return state.session.env.get(key, default)

    def __getitem__(self, index: str) -> Any:
        return state.session.env[index]


env = GlobalsEnvironment()


class NodeConstructor:
    def __init__(self, cls: str) -> None:
        self._cls = cls

    def __call__(self, **knobs: str) -> Node:
        state.main_only()
        return _make(self._cls, **knobs)


class Nodes:
    def __getattr__(self, item: str) -> NodeConstructor:
        if item not in nuke_knobs.BUILT_IN:
            raise AttributeError(item)
        return NodeConstructor(item)


nodes = Nodes()


def root() -> Node:
    state.main_only()
    return _wrap(state.session.root)


def createNode(typ: str) -> Node:
    state.main_only()
    found = [Path(folder) / f"{typ}.gizmo" for folder in state.session.plugin_path]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise RuntimeError(f"{typ}: Unknown command")
    state.session.changed(f"new {typ}")
    node, before = nodePaste(str(path)), selectedNodes()
    if before and before[0]._data is not node._data:
        node.setInput(0, before[0])  # as Nuke wires what is made behind what is selected
    state.session.selected = {id(node._data)}
    return node


def nodePaste(s: str) -> Node:
    state.main_only()
    data = nuke_script.parse(Path(s).read_text(encoding="utf-8")).children[0]
    group = state.session.context[-1]
    data.knobs["name"] = _free_name(group, data.name)
    data.parent = group
    group.children.append(data)
    return _wrap(data)


def delete(n: Node) -> None:
    n._alive()
    if n._data.parent is not None:
        n._data.parent.children.remove(n._data)
    n._dead = True
    state.session.selected.discard(id(n._data))


def allNodes(filter: str = "", group: Node | None = None, recurseGroups: bool = False) -> list[Node]:
    state.main_only()
    found, waiting = [], deque((group._data if group else state.session.context[-1]).children)
    while waiting:
        data = waiting.popleft()
        if recurseGroups:
            waiting += data.children
        if not filter or data.cls == filter:
            found.append(_wrap(data))
    return found


def selectedNodes() -> list[Node]:
    return [node for node in allNodes() if id(node._data) in state.session.selected]


def thisNode() -> Node:
    state.main_only()
    assert state.session.this is not None
    return state.session.this


def thisView() -> str:
    state.main_only()
    return state.session.views[0]


def views() -> list[str]:
    state.main_only()
    return list(state.session.views)


# Threads, rendering, undo, windows -----------------------------------------------------------------------------------


def executeInMainThread(call: Any, args: tuple[Any, ...] = ()) -> None:
    if threading.current_thread() is state.session.main:
        raise RuntimeError("executeInMainThread was called from the main thread")
    state.session.calls.put((call, args))


def execute(nameOrNode: Node, start: int, end: int, incr: int = 1, views: list[str] | None = None) -> None:
    state.main_only()
    data = nameOrNode._data
    for callback in state.session.before_render:
        state.session.this = nameOrNode
        callback()
    if state.session.fail_render is not None:
        raise state.session.fail_render
    assert incr == 1
    assert state.session.root.knobs["proxy"] == "false", "a proxy would be rendered"
    view = (views or state.session.views)[0]
    for frame in range(start, end + 1):
        state.session.frame, state.session.this = frame, nameOrNode
        for callback in state.session.before_frame:
            callback()
        nuke_graph.write_frame(data, frame, GUI, state.session.root.knobs["name"], view)
    state.session.render_knobs.append({**nuke_knobs.BUILT_IN["Write"], **data.knobs})
    state.session.rendered.append((data.name, data.knobs["file"], start, end, view, data.knobs["datatype"]))


def scriptSaveToTemp(str: str) -> str:
    """Source: the Python reference: neither script nor name changes; a file that is there is not overwritten."""
    state.main_only()
    if Path(str).exists():
        raise RuntimeError(f"{str} already exists")
    Path(str).write_text(nuke_script.write(state.session.root), encoding="utf-8")
    return str


def frame() -> int:
    """The current frame; inside a render's callbacks, the one that is rendered."""
    state.main_only()
    return state.session.frame


def toNode(s: str) -> Node | None:
    state.main_only()
    data = state.session.root
    for part in s.split("."):
        found = [child for child in data.children if child.name == part]
        if not found:
            return None
        data = found[0]
    return _wrap(data)


class ViewerWindow:
    def node(self) -> Node:
        return state.session.viewer


def activeViewer() -> ViewerWindow | None:
    """Source: the Python reference, for the window; None where no viewer is open, as public scripts expect."""
    state.main_only()
    return ViewerWindow() if state.session.viewer is not None else None


def addBeforeFrameRender(call: Any) -> None:
    state.main_only()
    state.session.before_frame.append(call)


def addBeforeRender(call: Any) -> None:
    state.main_only()
    state.session.before_render.append(call)


class ProgressTask:
    def __init__(self, name: str) -> None:
        self._name, self._lines, self._percents = name, [], []
        state.session.tasks.append(self)

    def setMessage(self, line: str) -> None:
        self._lines.append(line)

    def setProgress(self, percent: int) -> None:
        if not isinstance(percent, int) or not 0 <= percent <= 100:
            raise TypeError(f"progress {percent!r}")
        self._percents.append(percent)

    def isCancelled(self) -> bool:
        return state.session.cancel_tasks.is_set()


class Undo:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> Undo:
        state.main_only()
        state.session.undo_open.append(self._name)
        return self

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        state.session.undo_open.pop()
        state.session.changed(self._name)

    @classmethod
    def disable(cls) -> None:
        state.main_only()
        state.session.undo_off += 1

    @classmethod
    def enable(cls) -> None:
        state.main_only()
        assert state.session.undo_off > 0, "undo was not disabled"
        state.session.undo_off -= 1

    @classmethod
    def disabled(cls) -> bool:
        state.main_only()
        return state.session.undo_off > 0


class Menu:
    def __init__(self) -> None:
        self._commands: dict[str, str] = {}
        self._menus: dict[str, Menu] = {}

    def addMenu(self, name: str) -> Menu:
        return self._menus.setdefault(name, Menu())

    def addCommand(self, name: str, command: str) -> None:
        self._commands[name] = command


def menu(name: str) -> Menu:
    state.main_only()
    return state.session.menus.setdefault(name, Menu())


def message(prompt: str) -> None:
    state.main_only()
    assert GUI, "a message without a window would hang"
    state.session.messages.append(prompt)


def tprint(*args: Any) -> None:
    state.session.messages.append(" ".join(map(str, args)))


def pluginPath() -> list[str]:
    return list(state.session.plugin_path)


def pluginAddPath(args: str) -> None:
    state.main_only()
    state.session.plugin_path.append(args)
