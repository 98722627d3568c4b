"""The daemon's side of one worker process: start it, hand over a job, hear it, and see that it ends.

What comes in: a device, a task, a wish to cancel. What goes out: the worker's events, in order, and None once it is
gone. It does not know the store; `scheduler.py` decides what an event means. Whatever the worker forks is counted and
ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from void_server.daemon.scheduling import process_group
from void_server.wire.report import Event

POLITE_S = 1.5
"""How long a cancelled worker may take to notice by itself. A killed one frees its GPU memory as surely."""
TERMINATE_S = 0.2
"""How long after that it may take to go before it is killed; in sum a cancel takes less than 2 s."""
RESTART_S = 1.0
"""Least time between two starts of a worker that dies as soon as it is started."""
_LINE_BYTES = 64 << 20
"""Longest event: the hashes of a job with the most files that there may be."""
LOOK_S = 1.0
"""How often it is looked at what a worker takes, whether it speaks or not."""

_BIRTH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[3]):
    os._exit(0)
os.setpgid(0, 0)
from void_server.daemon.scheduling.worker import main
main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
"""
"""The first words of a worker's life: the kernel is asked to end it with its daemon before anything slow is loaded.

Source: prctl(2), PR_SET_PDEATHSIG. Whoever lost its daemon before that goes by itself. Then it leads its own group,
not a session, whose processes Linux may weigh against others' as one, whatever their niceness (sched(7), autogroup).
"""


class WorkerProcess:
    """One device's worker. Belongs to the loop's thread."""

    def __init__(self, device: str, pipeline: str, idle_release_s: float) -> None:
        self.device = device
        self.engines: list[str] = []
        self.job: str | None = None
        """The job that it was chosen for."""
        self.exit_status = 0
        """How the last process ended: below 0 is minus the signal that killed it."""
        self.wanted = asyncio.Event()
        """Set when there may be something to do for it."""
        self._pipeline = pipeline
        self._idle_release_s = idle_release_s
        self._process: asyncio.subprocess.Process | None = None
        self._started = -RESTART_S
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._looked_s = 0.0
        self._looking: asyncio.Future[int] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        """Start the process, not sooner than a second after the last start. Raises OSError."""
        await asyncio.sleep(max(0.0, self._started + RESTART_S - time.monotonic()))
        self._started = time.monotonic()
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": self._visible(), "PYTHONUNBUFFERED": "1"}
        self._events = asyncio.Queue()
        self._looking = None
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _BIRTH, self.device, self._pipeline, str(os.getpid()), str(self._idle_release_s),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, limit=_LINE_BYTES,
        )  # fmt: skip
        self._tasks = [asyncio.create_task(self._read(self._process, self._events))]

    async def event(self, timeout_s: float) -> Event | None:
        """The next event; None once the process is gone. Raises TimeoutError."""
        # Not wait_for: until Python 3.12 it loses a cancel that comes together with the event, and whoever waits for
        # the cancelled task waits for ever (cpython issue 86296).
        async with asyncio.timeout(timeout_s):
            return await self._events.get()

    def run(self, task: Path) -> None:
        """Hand over a job, described in a file."""
        self._looking = None  # It may have seen what the job before took.
        self._tell({"do": "run", "task": str(task)})

    def cancel(self) -> None:
        """Stop the job: politely, then not."""
        self._tell({"do": "cancel", "job": self.job})
        if self._process:
            self._tasks.append(asyncio.create_task(self._insist(self._process, self.job)))

    def kill(self) -> None:
        """End the process and all that it made, now; `event` gives None in a moment."""
        if self._process:
            _end(self._process)

    async def end(self) -> None:
        """End the process now and wait until it is gone; whatever it still said is lost."""
        self.kill()
        while self.alive and await self._events.get() is not None:
            pass

    async def stop(self) -> None:
        """End the process for good and wait until it is gone."""
        process, tasks = self._process, self._tasks
        self.kill()
        if process:
            await process.wait()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._process, self._tasks = None, []

    def look(self, enough: int) -> int:
        """What the process and all it made hold in memory, as last looked; 0 before, and where it can't be told.

        enough: up to here it need not be exact. The look itself goes on beside the loop, once in `LOOK_S`.
        """
        if self._process and self._process.returncode is not None:
            # It is gone, and whatever it left behind must not keep its pipe open.
            self.kill()
        if self._looking and not self._looking.done():
            return 0
        taken = self._looking.result() if self._looking and not self._looking.exception() else 0
        self._looking = None
        if self._process and time.monotonic() - self._looked_s >= LOOK_S:
            self._looked_s = time.monotonic()
            self._looking = asyncio.get_running_loop().run_in_executor(
                None, process_group.memory_bytes, self._process.pid, enough
            )
        return taken

    def _visible(self) -> str:
        """What CUDA_VISIBLE_DEVICES must be for this worker: one device, or none, of those the daemon itself sees."""
        if self.device == "cpu":
            return ""
        number = int(self.device.partition(":")[2])
        inherited = [v.strip() for v in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if v.strip()]
        return inherited[number] if number < len(inherited) else str(number)

    def _tell(self, command: dict[str, Any]) -> None:
        # A worker that just died can't be told anything; the end of its pipe says so in a moment.
        with contextlib.suppress(OSError, RuntimeError):
            if self._process and self._process.stdin:
                self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _insist(self, process: asyncio.subprocess.Process, job: str | None) -> None:
        for wait_s, end in ((POLITE_S, process.terminate), (TERMINATE_S, self.kill)):
            await asyncio.sleep(wait_s)
            if process is not self._process or self.job != job:
                return
            with contextlib.suppress(ProcessLookupError):
                end()

    async def _read(self, process: asyncio.subprocess.Process, events: asyncio.Queue[Event | None]) -> None:
        """Pass the worker's events on until its pipe ends."""
        assert process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            async for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "ready":
                    self.engines = [str(engine) for engine in event["engines"]]
                events.put_nowait(event)
        _end(process)
        self.exit_status = await process.wait()
        self._process = None
        events.put_nowait(None)
        self.wanted.set()


def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a worker and its group; the worker by itself too, which may be too young to lead one."""
    process_group.kill(process.pid)
    if process.returncode is None:
        # Not by process.kill(), which asks for the exit status: whoever waits for it would then not be told.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
