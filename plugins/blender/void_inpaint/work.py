# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a run that waits: send, wait, fetch, in a thread that never touches Blender.

What comes in: a record. What goes out: `progress`, and once the thread is over `state`, `record` and `error`. It is the
only module that opens a socket. The thread asks for the job's state instead of listening for events, so that it can
stop waiting at any moment without cancelling: Blender must be able to quit.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from void_server.farm.client import FarmClient, is_farm, parse
from void_server.farm.deadline10 import find_command
from void_server.wire.client import Client
from void_server.wire.errors import JobCancelledError, JobNotFoundError, UnreachableError, VoidError, WireError
from void_server.wire.jobs import Hello
from void_server.wire.shot import ShotFiles, ShotSettings

from .results import Record
from .states import Progress, State

ASK_EVERY_S = 0.25
PATIENCE_S = 600.0
"""How long a daemon may stay away in the middle of a job before the job is left behind, to be taken up later."""


START_S = 30.0
"""How long a daemon that was just started may take before it answers."""

Starter = Optional[Callable[[], None]]


class Work(threading.Thread):
    """One job, from its files to its result in the record's folder."""

    def __init__(
        self, record: Record, progress: Progress, starter: Starter = None, patience_s: float = PATIENCE_S
    ) -> None:
        super().__init__(name=f"void {record.run}", daemon=True)
        self.record = record
        self.progress = progress
        self.state = State.SENDING
        self.error = ""
        self.over = threading.Event()
        """Set by the thread itself once `state`, `record` and `error` are its last word."""
        self._starter = starter
        self._patience_s = patience_s
        self._unwanted = threading.Event()
        self._halt = threading.Event()
        self._pause = threading.Event()
        """Never set: a wait on it is a pause."""

    def cancel(self) -> None:
        """Ask for the job to be cancelled, at the daemon too. Returns at once."""
        self._unwanted.set()
        self._halt.set()

    def leave(self) -> None:
        """Ask the thread to end and leave the job to the daemon. Returns at once."""
        self._halt.set()

    def run(self) -> None:
        try:
            with _client(self.record, self._patience_s) as client:
                if self._starter is not None:
                    self._meet(client, self._starter)
                self.state = self._bring(client)
        except JobCancelledError as error:
            self.state, self.error = (State.CANCELLED if self._unwanted.is_set() else State.DETACHED), _line(error)
        except WireError as error:
            # Nothing is known about an accepted job, so it is not over.
            self.state, self.error = (State.DETACHED if self.record.job else State.FAILED), _line(error)
        except (VoidError, OSError) as error:
            self.state, self.error = State.FAILED, _line(error)
        except BaseException as error:  # noqa: BLE001 - a run whose thread has no last word would say SENDING for ever
            traceback.print_exc()
            # What broke is on this side: a job that was accepted goes on, and can be taken up.
            self.state = State.DETACHED if self.record.job else State.FAILED
            self.error = bug(error)
        finally:
            self.over.set()

    def _meet(self, client: Client | FarmClient, starter: Callable[[], None]) -> None:
        """See that somebody answers, and start the daemon of this machine if nobody does. Raises VoidError."""
        if isinstance(client, FarmClient):
            return
        until = 0.0
        while not self._halt.is_set():
            try:
                client.hello()
            except UnreachableError:
                now = time.monotonic()
                if until and now > until:
                    raise
                if not until:
                    until = now + START_S
                    starter()
                    self.progress.line = "Starting the daemon"
                self._halt.wait(ASK_EVERY_S)
            else:
                return

    def _bring(self, client: Client | FarmClient) -> State:
        if not self.record.job:
            files = {role: {f: Path(p) for f, p in found.items()} for role, found in self.record.files.items()}
            status = client.submit(
                ShotFiles(**files),
                ShotSettings.from_wire(self.record.settings),
                name=self.record.strip,
                request=self.record.request,
                on_event=lambda event: self._hear(State.SENDING, event),
                cancelled=self._halt.is_set,
            )
            self.record = self.record.with_(job=status.job)
        status = self._wait(client)
        if status is None:
            return State.DETACHED
        if status.state == "cancelled":
            return State.CANCELLED
        if status.error is not None:
            raise status.error
        self.record = self.record.with_(warnings=status.warnings)
        client.fetch(
            self.record.job,
            self.record.folder,
            on_event=lambda event: self._hear(State.FETCHING, event),
            cancelled=self._halt.is_set,
        )
        return State.LAYING

    def _wait(self, client: Client | FarmClient) -> Any:
        """The job's last status; None once asked to leave. Outlives a daemon that goes away, while patience lasts."""
        lost_at = 0.0
        while True:
            cancelling = self._unwanted.is_set()
            if self._halt.is_set() and not cancelling:
                return None
            try:
                status = client.cancel(self.record.job) if cancelling else client.status(self.record.job)
            except JobNotFoundError as error:
                hint = "That daemon no longer knows this job. Press Remove again."
                raise JobNotFoundError(error.message, hint) from error
            except UnreachableError as error:
                if cancelling:
                    hint = "Start it again, press Reattach, then Cancel."
                    raise UnreachableError(f"The daemon was not told to cancel. {error.message}", hint) from error
                now = time.monotonic()
                lost_at = lost_at or now
                if now - lost_at > self._patience_s:
                    raise
                self.progress.line = "The daemon does not answer; waiting for it"
            else:
                lost_at = 0.0
                if status.final:
                    return status
                if status.state == "running":
                    self.progress.hear(State.RUNNING, status.stage, status.done, status.total)
                else:
                    self.progress.hear(State.QUEUED)
            # A cancelled job is over within seconds; asked again and again until it says so.
            (self._pause if cancelling else self._halt).wait(ASK_EVERY_S)

    def _hear(self, state: State, event: Any) -> None:
        if event.get("event") == "progress":
            self.progress.hear(state, "", int(event["done"]), int(event["total"]))


def _client(record: Record, patience_s: float) -> Client | FarmClient:
    """Whoever makes this result: a daemon, or a farm, whose tasks write into the record's folder."""
    if is_farm(record.server):
        return FarmClient(record.server, record.folder)
    return Client(record.server, keys=Path(record.keys) if record.keys else None, patience_s=patience_s)


def ask_hello(server: str, keys: str) -> str:
    """Who answers at an address, as one line. Blocks for 2 s at most. Raises VoidError."""
    if is_farm(server):
        return f"Deadline's client is {find_command(parse(server).placement.deadlinecommand)}"
    with Client(server, keys=Path(keys) if keys else None, timeout_s=1.0) as client:
        return hello_line(client.hello())


def hello_line(hello: Hello) -> str:
    """What a daemon says of itself. Propagate runs everywhere, so one without engines has only just started."""
    if not hello.engines:
        return f"VOID {hello.server_version} answers; it is still loading its engines, ask again in a moment"
    engines, devices = ", ".join(hello.engines), ", ".join(hello.devices)
    return f"VOID {hello.server_version} answers; it can run {engines} on {devices}"


def bug(error: BaseException) -> str:
    """What an artist is told of an error that nobody foresaw; the console has the rest."""
    return f"{type(error).__name__}: {error}. This is a bug; please report it."


def _line(error: Exception) -> str:
    return f"{error.message} {error.hint}".strip() if isinstance(error, VoidError) else str(error)
