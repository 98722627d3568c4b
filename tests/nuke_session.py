"""A fake Nuke with the plugin loaded from its files, a script with a plate and a matte, and a daemon to talk to."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny_shot
from tests.fakes import nuke, nuke_state
from void_server.result import aovs

GRAIN = np.float32(0.125)
"""What `finish` says that it added to the hole as grain."""

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "plugins" / "nuke"


@dataclasses.dataclass
class Started:
    """One session: `host` as the plugin's buttons reach it, `session` as the fake keeps it."""

    host: Any
    session: nuke_state.Session

    def press(self, node: nuke.Node, button: str) -> None:
        nuke._press(node, button)

    def wait(self) -> None:
        """Until no work is under way and everything that was asked of the main thread is done."""
        nuke._pump(lambda: not self.host._live and self.session.calls.empty())

    def wait_for(self, node: nuke.Node, word: str) -> None:
        nuke._pump(lambda: word in status(node))


@contextlib.contextmanager
def started(gui: bool = True) -> Iterator[Started]:
    """Nuke as it starts: init.py, then with a window menu.py."""
    before = set(sys.modules), list(sys.path)
    session = nuke_state.restart()
    sys.modules["nuke"] = nuke
    nuke.GUI = gui
    sys.path.insert(0, str(PLUGIN))
    try:
        for name in ("init.py", "menu.py") if gui else ("init.py",):
            exec(
                compile((PLUGIN / name).read_text(encoding="utf-8"), str(PLUGIN / name), "exec"),
                {"__file__": str(PLUGIN / name)},
            )
        yield Started(importlib.import_module("void_nuke.host"), session)
    finally:
        nuke.GUI = True
        sys.path[:] = before[1]
        for name in set(sys.modules) - before[0]:
            if name == "nuke" or name.startswith("void_nuke"):
                del sys.modules[name]


def status(node: nuke.Node) -> str:
    return node["status"].value()


def read(path: str, name: str = "Read", first: int = 1001, last: int = 1008, raw: bool = True) -> nuke.Node:
    node = nuke.nodes.Read(
        file=path.replace("####", "%04d"), first=str(first), last=str(last), raw="true" if raw else "false"
    )
    node._data.knobs["name"] = name
    return node


def comp(folder: Path, server: str = "tcp://127.0.0.1:9", save: bool = True) -> tuple[nuke.Node, tiny_shot.TinyShot]:
    """A script in `folder` in which a tiny shot's plate and matte are plugged into a VoidInpaint."""
    shot = tiny_shot.write(folder / "plates")
    node = nuke.createNode("VoidInpaint")
    node.setInput(0, read(shot.plate, "Plate"))
    node.setInput(1, read(shot.matte, "Matte"))
    node["server"].setValue(server)
    if save:
        nuke._save(folder / "sh010_comp_v002.nk")
    return node, shot


def finish(session: Started) -> None:
    """Let Remove come back at once with a result: the plate with its hole filled with .5, and where."""

    results = session.host.results

    def run(records, _hear, _cancelled):
        done = []
        for record in records:
            for frame in range(record.first, record.last + 1):
                light = tiny_shot.read_rgb(Path(record.files["plate"][frame])).astype(np.float32)
                change = np.zeros(light.shape[:2], np.float32)
                change[tiny_shot.square(frame - tiny_shot.FIRST)] = 1
                light[change > 0] = 0.5
                tiny_shot.write_exr(record.folder / f"clean.{frame}.exr", tiny_shot.rgb(light))
                none = np.zeros_like(change)
                grain = np.where(change > 0, GRAIN, np.float32(0))
                told = {**dict.fromkeys(aovs.MASKS, change), "suspected": none, **dict.fromkeys(aovs.GRAIN, grain)}
                tiny_shot.write_exr(record.folder / f"aov.{frame}.exr", told)
            (record.folder / "manifest.json").write_text("{}")
            results.share(record.folder)  # as after a fetch
            done.append(record.with_(state="done"))
            record.tidy()
        return session.host.work.Outcome(session.host.State.READY, tuple(done), "")

    session.host.work.run = run


def graded(node: nuke.Node) -> nuke.Node:
    """Put a Grade before the plate, so that it must be rendered."""
    grade = nuke.nodes.Grade(white="2")
    grade.setInput(0, node.input(0))
    node.setInput(0, grade)
    return grade


def removed(session: Started, folder: Path) -> nuke.Node:
    node, _ = comp(folder)
    finish(session)
    session.press(node, "remove")
    session.wait()
    nuke._save(folder / "sh010_comp_v002.nk")
    return node


@contextlib.contextmanager
def daemon(data: Path, bind: str = "tcp://127.0.0.1:*") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real daemon in a process of its own; yields it and its address."""
    words = [
        sys.executable,
        "-m",
        "void_server.cli",
        "serve",
        "--bind",
        bind,
        "--data",
        str(data),
        "--device",
        "cpu",
        "--json",
    ]
    with (data.parent / f"{data.name}.log").open("a") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["ready"]
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
