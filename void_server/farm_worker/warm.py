"""A daemon for as long as a farm's session lasts, so that an engine loads its weights once and not for every task.

What comes in: a folder of the session's, and each task's files and settings. What goes out: a started or stopped
daemon, and a task's frames in its own output folder, each as soon as it is finished. The daemon is only where frames
are computed: what is finished is known from the output folder, so a task that is tried again, on any machine, with any
daemon or none, makes what is missing and nothing else.

The daemon listens on a socket that only this user can reach, and may read what this user may: it is this user. Windows
has no such socket in ZeroMQ's stable interface, so a session there works without a daemon.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from void_server import pipeline
from void_server.farm_worker.assemble import facts_of
from void_server.plan import open_job
from void_server.result import aovs
from void_server.result.folder import ResultFolder, publish
from void_server.shot.check import CheckedShot
from void_server.wire.client import Client
from void_server.wire.errors import InternalError, JobCancelledError, MatteError, UnreachableError, VoidError
from void_server.wire.report import Event, Report
from void_server.wire.shot import ROLES, FrameRange, ShotFiles, ShotSettings

VARIABLE = "VOID_WARM_DAEMON"
"""Environment variable by which a session's tasks know its daemon's address."""
START_S = 120.0
"""Longest wait for a daemon: a network disk may hold its interpreter."""
STOP_S = 60.0
BRING_S = 1.0
"""How often finished frames are fetched while others are being made."""
PATIENCE_S = 2.0
"""Nobody starts a session's daemon again: once it is gone, the task fails and the farm tries it elsewhere."""


def start(data: Path) -> str | None:
    """Start a daemon that outlives this process; returns its address, or None where a session needs none.

    Raises UnreachableError if it does not come up, with the last line of its log.
    """
    if sys.platform == "win32":
        return None
    data.mkdir(parents=True, exist_ok=True)
    # A socket's path may be 107 bytes long (unix(7)); a session's own folder often is longer.
    socket = Path(tempfile.mkdtemp(prefix="void-warm-")) / "s"
    words = [sys.executable, "-m", "void_server.cli", "serve", f"--bind=ipc://{socket}", f"--data={data}"]
    log = data / "daemon.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*words, "--trust=/", "--json"], stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True
        )
    (data / "warm.json").write_text(json.dumps({"pid": process.pid, "socket": str(socket)}), encoding="utf-8")
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if '"ready"' in log.read_text(encoding="utf-8", errors="replace"):
            return f"ipc://{socket}"
        threading.Event().wait(0.05)
    process.terminate()
    last = ([line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["it said nothing"])[-1]
    raise UnreachableError(f"The session's daemon did not start: {last}", f"See {log}.")


def stop(data: Path) -> bool:
    """Stop the daemon that `start` started on the same folder; whether there was one. Blocks until it is gone."""
    try:
        held = json.loads((data / "warm.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    pid, end = int(held["pid"]), time.monotonic() + STOP_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < end:
            os.kill(pid, 0)
            threading.Event().wait(0.05)
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(Path(held["socket"]).parent, ignore_errors=True)
    (data / "warm.json").unlink(missing_ok=True)
    return True


def make_clean_plate(
    address: str, files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, part_of_shot: bool = False
) -> dict[str, Any]:
    """The same as `pipeline.make_clean_plate`, computed by a session's daemon. Returns and raises the same."""
    plan = open_job(files, settings, out, report)
    if settings.missing == "error" and plan.to_make:
        # Frames that are held or skipped hang on files outside the part; those few shots are made here.
        plan.result.open_again()
        try:
            _compute(address, plan.checked, plan.to_make, plan.result, report)
        except MatteError:
            # An empty matte is a mistake in a shot, but not in a part of one: the pipeline knows which.
            if not part_of_shot:
                raise
        plan = plan.looked_again()
    return pipeline.carry_out(plan, report, part_of_shot=part_of_shot)


def _compute(address: str, checked: CheckedShot, rest: list[int], result: ResultFolder, report: Report) -> None:
    """Have the daemon make `rest`, and publish each frame as it is finished."""
    read = set(checked.frames)
    parts = {role: {f: path for f, path in checked.files.of(role).items() if f in read} for role in ROLES}
    # The part's own files say what is read for context, so that a resumed part reads what a whole one does.
    settings = dataclasses.replace(checked.settings, frames=FrameRange(rest[0], rest[-1]), handles=None, device=None)
    staging = result.path / f".warm-{uuid.uuid4().hex[:12]}"
    with Client(address, patience_s=PATIENCE_S) as client, _clearing(staging):
        job = client.submit(
            ShotFiles(**parts), settings, name=result.path.name, on_event=report.forward, cancelled=report.is_cancelled
        )
        bring = _Bringing(client, job.job, staging, result, set(rest))
        with bring:
            status = client.watch(job.job, on_event=lambda e: bring.heard(e, report), cancelled=report.is_cancelled)
        if status.state != "done":
            with contextlib.suppress(VoidError):
                bring.now()  # what was finished before it failed need not be made again
            raise status.error or JobCancelledError("Cancelled.", "Frames finished before stay where they are.")
        bring.now()
        lacking = sorted(bring.wanted)
    if lacking:
        raise InternalError(f"The session's daemon finished without frame {lacking[0]}.", "Try the task again.")


class _Bringing:
    """Fetches what is finished and publishes it, on a thread of its own while the job is watched."""

    def __init__(self, client: Client, job: str, staging: Path, result: ResultFolder, wanted: set[int]) -> None:
        self._client, self._job, self._staging, self._result = client, job, staging, result
        self.wanted = wanted
        """Frames not yet published."""
        self._heard, self._over = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> _Bringing:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._over.set()
        self._heard.set()
        self._thread.join()
        if kind is None and self._failure is not None:
            raise self._failure

    def heard(self, event: Event, report: Report) -> None:
        """Take one event of the job: told on, but for the state, which the task's own end says."""
        if event.get("event") == "frame":
            self._heard.set()
        if event.get("event") in ("progress", "warning", "note", "frame"):
            report.forward({k: v for k, v in event.items() if k not in ("job", "seq", "files")})

    def now(self) -> None:
        """Fetch and publish everything that is finished."""
        self._client.fetch(self._job, self._staging)
        for frame in sorted(self.wanted):
            names = (self._result.clean(frame), self._result.aov(frame))
            sources = [self._staging / target.name for target in names]
            if not all(source.is_file() for source in sources):
                continue
            for source, target in zip(sources, names):
                publish(source, target)
            self._result.note(frame, facts_of(aovs.read(sources[1])))
            self.wanted.discard(frame)

    def _work(self) -> None:
        try:
            while not self._over.is_set():
                self._heard.wait()
                self._heard.clear()
                if not self._over.wait(BRING_S):
                    self.now()
        except BaseException as error:  # noqa: BLE001 - told where the task waits
            self._failure = error


@contextlib.contextmanager
def _clearing(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
