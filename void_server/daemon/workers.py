"""The daemon's side of its worker processes: start, hand over a job, cancel, and notice when one is gone.

What comes in: a device, a task, a wish to cancel. What goes out: the worker's events, on the server's loop. It does not
know the store; `scheduler.py` decides what an event means.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server.daemon.disk import Disk

POLITE_S = 1.5
"""How long a cancelled worker may take to notice by itself. A killed one frees its GPU memory as surely."""
TERMINATE_S = 0.2
"""How long after that it may take to go before it is killed; in sum a cancel takes less than 2 s."""
RESTART_S = 1.0
"""Least time between two starts of a worker that dies as soon as it is started."""

OnEvent = Callable[["WorkerProcess", "dict[str, Any] | None"], None]


class WorkerProcess:
    """One device's worker. Methods belong to the loop's thread and never block."""

    def __init__(self, device: str, pipeline: str, idle_release_s: float, disk: Disk, on_event: OnEvent) -> None:
        self.device = device
        self.ready = False
        self.engines: list[str] = []
        self.job: str | None = None
        """The job it is busy with."""
        self.attempt = 0
        self.exit_status = 0
        """How the last process ended: below 0 is minus the signal that killed it."""
        self._pipeline = pipeline
        self._idle_release_s = idle_release_s
        self._disk = disk
        self._on_event = on_event
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -RESTART_S
        self._kill_at: list[tuple[float, Callable[[subprocess.Popen[bytes]], None]]] = []

    @property
    def free(self) -> bool:
        return self.ready and self.job is None

    def tick(self) -> None:
        """Start it if it is not there; end it if it was told to stop and has not."""
        now = time.monotonic()
        if self._process is None and now - self._started >= RESTART_S:
            self._start()
        while self._kill_at and now >= self._kill_at[0][0] and self._process:
            self._kill_at.pop(0)[1](self._process)

    def due_s(self) -> float:
        """Seconds until `tick` has something to do."""
        now = time.monotonic()
        if self._process is None:
            return max(0.0, self._started + RESTART_S - now)
        return max(0.0, self._kill_at[0][0] - now) if self._kill_at else 3600.0

    def run(self, task: Path) -> None:
        """Hand over a job, described in a file."""
        self._tell({"do": "run", "task": str(task)})

    def cancel(self) -> None:
        """Stop the job: politely, then not."""
        self._tell({"do": "cancel", "job": self.job})
        now = time.monotonic()
        self._kill_at = [
            (now + POLITE_S, subprocess.Popen.terminate),
            (now + POLITE_S + TERMINATE_S, subprocess.Popen.kill),
        ]

    def rest(self) -> None:
        """The job is over; the process stays."""
        self.job = None
        self._kill_at = []

    def restart(self) -> None:
        """End the process; the next `tick` starts another. For after errors that may leave a device in a bad state."""
        self.ready = False
        if self._process:
            self._process.kill()

    def stop(self) -> None:
        """End the process for good and wait until it is gone."""
        self.ready = False
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()

    def _start(self) -> None:
        self._started = time.monotonic()
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": self._visible(), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "void_server.daemon.worker", self.device, self._pipeline]
        command += [str(os.getpid()), str(self._idle_release_s)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _visible(self) -> str:
        """What CUDA_VISIBLE_DEVICES must be for this worker: one device, or none, of those the daemon itself sees."""
        if self.device == "cpu":
            return ""
        number = int(self.device.partition(":")[2])
        inherited = [v.strip() for v in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if v.strip()]
        return inherited[number] if number < len(inherited) else str(number)

    def _tell(self, command: dict[str, Any]) -> None:
        # A worker that just died can't be told anything; the end of its pipe says so in a moment.
        with contextlib.suppress(OSError):
            if self._process and self._process.stdin:
                self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Pass the worker's events to the loop until its pipe ends. Runs in a thread of its own."""
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in process.stdout:
                event = json.loads(line)
                self._disk.post(lambda event=event: self._heard(process, event))  # type: ignore[misc]
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        self._disk.post(lambda: self._gone(process))

    def _heard(self, process: subprocess.Popen[bytes], event: dict[str, Any]) -> None:
        if process is not self._process:
            return
        if event["event"] == "ready":
            self.ready, self.engines = True, [str(e) for e in event["engines"]]
        self._on_event(self, event)

    def _gone(self, process: subprocess.Popen[bytes]) -> None:
        if process is not self._process:
            return
        self._process, self.ready, self._kill_at = None, False, []
        self.exit_status = process.returncode
        self._on_event(self, None)
