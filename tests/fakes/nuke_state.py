"""One run of the fake Nuke: its script, its user, its threads, and the rule about the main thread."""

from __future__ import annotations

import queue
import threading
from typing import Any

from tests.fakes.nuke_script import ScriptNode


class Session:
    """One run of Nuke: its script, its user, its threads."""

    def __init__(self) -> None:
        self.main = threading.current_thread()
        self.root = ScriptNode("Root", {"name": "", "first_frame": "1", "last_frame": "100", "proxy": "false"})
        self.root.knobs.update(colorManagement="Nuke", OCIO_config="nuke-default", workingSpaceLUT="linear")
        self.root.knobs["customOCIOConfigPath"] = ""
        self.env = {"ExecutablePath": "/nowhere/Nuke15.1", "nc": False, "nukex": True}
        self.views = ["main"]
        self.selected: set[int] = set()
        self.wrappers: dict[int, Any] = {}
        self.context = [self.root]
        self.this: Any = None
        self.plugin_path: list[str] = []
        self.calls: queue.Queue[tuple[Any, tuple[Any, ...]]] = queue.Queue()
        self.messages: list[str] = []
        self.tasks: list[Any] = []
        self.cancel_tasks = threading.Event()
        self.undo: list[str] = []
        self.undo_off = 0
        self.undo_open: list[str] = []
        self.before_render: list[Any] = []
        self.before_frame: list[Any] = []
        self.frame = 1
        self.rendered: list[tuple[str, str, int, int, str, str]] = []
        self.fail_render: Exception | None = None
        self.menus: dict[str, Any] = {}
        self.knob_defaults: dict[str, str] = {}
        """What a studio's init.py says with nuke.knobDefault, as Class.knob."""
        self.render_knobs: list[dict[str, str]] = []
        """Knobs of each Write that rendered."""
        self.viewer: Any = None
        """The node of the active viewer."""
        self.roi: dict[str, float] | None = None
        """The viewer's region of interest; None while it has no window."""
        self.roi_on = False
        self.touched = 0
        """How often a node was asked anything."""
        self.serialised = 0
        """How many nodes were written as script text."""

    def changed(self, what: str) -> None:
        if not self.undo_off and not self.undo_open:
            self.undo.append(what)


session = Session()


def restart() -> Session:
    """Nuke anew, as after a crash: nothing but files outlives it."""
    global session  # noqa: PLW0603 - a module stands for a process
    session = Session()
    return session


def main_only() -> None:
    if threading.current_thread() is not session.main:
        raise RuntimeError("Nuke was called from a thread that is not its main thread")
