"""A worker process: one per device, computes one job after the other, keeps its models loaded, dies with its daemon.

What comes in, one JSON object a line on stdin: `{"do": "run", "task": FILE}`, `{"do": "cancel", "job": ...}`. What goes
out, one a line on what was stdout: `ready`, `alive`, and for one attempt at one job `progress`, `frame`, `warning`,
`note`, `verified`, `damaged`, `results`, and at last `done`, `failed` or `cancelled`. It does not know sockets or the
store. The only file of this room that imports the pipeline, and with it numpy and the engines.

Started with DEVICE PIPELINE PARENT IDLE_S, with CUDA_VISIBLE_DEVICES already set: a GPU library looks at it once, when
it is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import hashlib
import importlib
import json
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from void_server.daemon.files.trusted import TrustedFiles, hold_many
from void_server.wire.errors import (
    InternalError,
    JobCancelledError,
    StoreError,
    VoidError,
    to_wire,
)
from void_server.wire.report import Event, Report
from void_server.wire.shot import ROLES, ShotFiles, ShotSettings, spoken_role
from void_server.wire.transfer import sums_of

_PROGRESS_S = 0.1
"""Progress is told at most this often; each telling wakes the daemon."""
_BEAT_S = 5.0
"""How often the process says that it lives. A stopped one, or one stuck in a call that never returns, does not."""
_PR_SET_PDEATHSIG = 1
"""Source: prctl(2), linux/prctl.h."""


class Worker:
    """One process's work. Events may come from any of the pipeline's threads."""

    def __init__(self, device: str, pipeline: str, out: TextIO, idle_release_s: float = math.inf) -> None:
        self._device = device
        self._pipeline = pipeline
        self._idle_release_s = idle_release_s
        self._out = out
        self._say_lock = threading.Lock()
        self._tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._told_s = 0.0
        self._told_files: set[str] = set()

    def serve(self) -> None:
        """Work until stdin ends, which is when the daemon is gone. Never returns."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        self.say({"event": "ready", "engines": _engines(self._device)})
        # What the first job will need is imported while nobody waits for it; where that fails, the job says why.
        with contextlib.suppress(Exception):
            _load(self._pipeline)
        while True:
            task = self._next_task()
            self._told_files = set()
            with _log_into(Path(task["log"])):
                self.say({**self._outcome(task), **_of(task)})
            # Frees what the shot held, on the host and through destructors on the device, before the next job comes.
            gc.collect()

    def _next_task(self) -> dict[str, Any]:
        """Wait for a job. Whoever shares the device gets it back when none has come for a while."""
        if math.isfinite(self._idle_release_s):
            with contextlib.suppress(queue.Empty):
                return self._tasks.get(timeout=self._idle_release_s)
            _release_engines()
        return self._tasks.get()

    def say(self, event: Event) -> None:
        line = json.dumps(event) + "\n"
        with self._say_lock:
            self._out.write(line)
            self._out.flush()

    def _beat(self) -> None:
        beat = threading.Event()
        while not beat.wait(_BEAT_S):
            self.say({"event": "alive"})

    def _listen(self) -> None:
        for line in _lines_of(0):
            command = json.loads(line)
            if command["do"] == "cancel":
                self._cancelled.add(command["job"])
            else:
                # The task itself lies in a file: a pipe that is full would stop the daemon.
                self._tasks.put(json.loads(Path(command["task"]).read_text(encoding="utf-8")))
        os._exit(0)

    def _outcome(self, task: dict[str, Any]) -> Event:
        """Run one job and say how it ended; whatever goes wrong is an outcome, never the end of the worker."""
        try:
            self._run(task)
        except JobCancelledError:
            return {"event": "cancelled"}
        except VoidError as error:
            traceback.print_exc()
            return {"event": "failed", "error": to_wire(error)}
        except BaseException as error:  # noqa: BLE001 - the border between any bug and the artist
            traceback.print_exc()
            ours = InternalError(f"{type(error).__name__}: {error}", f"The daemon's log says where: {task['log']}.")
            return {"event": "failed", "error": to_wire(ours)}
        return {"event": "done"}

    def _run(self, task: dict[str, Any]) -> None:
        job, out = task["job"], Path(task["out"])
        report = Report(lambda event: self._tell(task, event), lambda: job in self._cancelled)
        _note(f"attempt {task['attempt']} on {self._device}, worker process {os.getpid()}")
        with TrustedFiles(out.parent / ".open", task.get("trust", ())) as trusted:
            self._compute(task, out, report, trusted)
        _note(f"attempt {task['attempt']} done")

    def _compute(self, task: dict[str, Any], out: Path, report: Report, trusted: TrustedFiles) -> None:
        files = self._check(task, report, trusted)
        settings = ShotSettings.from_wire(task["settings"])
        # The daemon showed this process one device, so that is number 0 here whatever its number on the machine.
        if self._device == "cpu" or settings.device != "cpu":
            settings = dataclasses.replace(settings, device="cpu" if self._device == "cpu" else "cuda:0")
        _load(self._pipeline)(files, settings, out, report, found=Path(task["found"]))
        trusted.check(report.warn)
        rest = [p.name for p in sorted(out.iterdir()) if p.is_file() and p.name not in self._told_files]
        results = self._hashed(out, [n for n in rest if not n.startswith(".") and not n.endswith((".tmp", ".jsonl"))])
        self.say({"event": "results", "files": results, **_of(task)})

    def _check(self, task: dict[str, Any], report: Report, trusted: TrustedFiles) -> ShotFiles:
        """The shot's files, after each was found to be what its sender said. Raises PlateError, MatteError."""
        found: dict[str, dict[int, Path]] = {role: {} for role in ROLES}
        verified: dict[str, str] = {}
        for index, file in enumerate(task["files"]):
            role, frame, path = file["role"], file["frame"], Path(file["link"])
            found[role][frame] = path
            report.progress("verify", index, len(task["files"]), frame)
            if not file["path"] and not path.is_file():
                # No word about the frame itself: that may be whole, and others' too.
                raise StoreError(
                    f"{spoken_role(role)} frame {frame} is not where it was put: {path}.",
                    "Submit the shot again.",
                    frame=frame,
                )
            if file["path"]:
                was = (file["size"], file["mtime_ns"], file["fingerprint"])
                name = f"{role}.{Path(file['link']).name}"
                found[role][frame] = trusted.take(role, frame, file["path"], name, was)
            elif file["held"] in task["unverified"] and file["held"] not in verified:
                crc32, sha256 = task["unverified"][file["held"]]
                sums = sums_of(path, lambda: task["job"] in self._cancelled)
                # A store of version 1 kept no checksum: -1.
                if crc32 not in (-1, sums.crc32) or sha256 not in (None, sums.sha256):
                    self.say({"event": "damaged", "held": file["held"], **_of(task)})
                    raise StoreError(
                        f"{spoken_role(role)} frame {frame} arrived damaged.", "Submit the shot again.", frame=frame
                    )
                verified[file["held"]] = sums.sha256
        self.say({"event": "verified", "hashes": verified, **_of(task)})
        return ShotFiles(**found)

    def _tell(self, task: dict[str, Any], event: Event) -> None:
        """Pass an event of the pipeline on; a finished frame goes with the size and hash of its files."""
        kind = event.get("event")
        if kind == "progress":
            now = time.monotonic()
            if now - self._told_s < _PROGRESS_S and event.get("done") != event.get("total"):
                return
            self._told_s = now
        elif kind == "frame":
            frame = event["frame"]
            event = {
                **event,
                "files": self._hashed(Path(task["out"]), [f"{n}.{frame:04d}.exr" for n in ("clean", "aov")]),
            }
        else:
            _note(str(event.get("message", event)))
        self.say({**event, **_of(task)})

    def _hashed(self, out: Path, names: list[str]) -> list[tuple[str, int, str]]:
        """(name, size, sha256) of each of the files that is there."""
        found = []
        for name in names:
            with contextlib.suppress(FileNotFoundError), (out / name).open("rb") as file:
                digest = hashlib.sha256()
                while piece := file.read(1 << 20):
                    digest.update(piece)
                found.append((name, file.tell(), digest.hexdigest()))
                self._told_files.add(name)
        return found


def _lines_of(descriptor: int) -> Iterator[bytes]:
    """Lines until the other end closes. Not through `sys.stdin`: whoever waits there holds its lock, and a process that
    the pipeline forks meanwhile would wait for that lock for ever."""
    rest = b""
    while data := os.read(descriptor, 1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _of(task: dict[str, Any]) -> dict[str, Any]:
    """Which attempt of which job an event belongs to."""
    return {"job": task["job"], "attempt": task["attempt"]}


def _load(name: str) -> Callable[..., Any]:
    """The callable that makes what a job asks for; see `pipeline.deliver`."""
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


def _engines(device: str) -> list[str]:
    """Engines that can run on this device, for the daemon's introduction; none where the room can't be entered."""
    try:
        engines = importlib.import_module("void_server.engine")
        names: list[str] = [name for name in engines.names() if engines.available(name, device).ok]
    except Exception:  # noqa: BLE001 - a job will say what is wrong, with its log
        traceback.print_exc()
        return []
    return names


def _release_engines() -> None:
    """Have engines drop what they keep from shot to shot. One that fails at it must not cost the worker."""
    engines = sys.modules.get("void_server.engine")
    if engines is None:
        return
    try:
        engines.release()
    except Exception:  # noqa: BLE001 - another's engine, between jobs
        traceback.print_exc()


def _note(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def _log_into(path: Path) -> Iterator[None]:
    """Send everything that this process and its libraries print to the job's log, and back to the daemon's after."""
    kept = os.dup(2)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        yield
    finally:
        os.dup2(kept, 1)
        os.dup2(kept, 2)
        os.close(kept)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the daemon goes, even inside a call that never returns (Linux).

    Elsewhere, and where this fails, the end of stdin says the same, only later.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def main(device: str, pipeline: str, parent: int, idle_release_s: float) -> None:
    """Entry of the process. Never returns."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hold_many()
    # Events own the pipe; what anybody prints must not end up between them.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    Worker(device, pipeline, out, idle_release_s).serve()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
