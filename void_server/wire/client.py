"""The client that hosts, the command line and farms use: submit a shot, watch it, fetch the clean frames.

What comes in: an address, the files of a shot, settings. What goes out: `JobStatus`, events, files in a folder; every
failure is one of `wire.errors`. It does not know Nuke, Blender or how a daemon works inside.

    with Client("tcp://127.0.0.1:5790") as client:
        job = client.submit(files, settings, name="sh010")
        client.watch(job.job, on_event=print)
        client.fetch(job.job, Path("out"))

Threads: every method may be called from any thread at any time. A call borrows a connection of its own from a pool
behind a lock, so `cancel` never waits for a `watch`. A call that ends early, Ctrl-C included, drops its connection.

Patience: the first contact fails at once. Later, `submit`, `watch` and `fetch` outlive a daemon that goes away: they
reconnect for up to `patience_s` without any answer and go on where they were. Going away cancels nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional, TypeVar

import zmq

import void_server
from void_server.wire import identity, transfer
from void_server.wire.connection import Connection, new_request
from void_server.wire.errors import (
    JobCancelledError,
    OutputError,
    ProtocolError,
    SequenceError,
    SettingsError,
    UnreachableError,
    VoidError,
    WireError,
)
from void_server.wire.jobs import Hello, JobStatus
from void_server.wire.messages import DEFAULT_ADDRESS, FINAL, LIMITS, PROTOCOL, checked_row
from void_server.wire.report import Event
from void_server.wire.shot import ShotFiles, ShotSettings
from void_server.wire.transfer import Lacking, Result, Source, Transfer

_PING_S = 2.0
"""Silence on a watched job after which the daemon is asked whether it still lives."""

T = TypeVar("T")
OnEvent = Optional[Callable[[Event], None]]
Cancelled = Optional[Callable[[], bool]]


class Client:
    """Speaks to one daemon. Blocking calls only; see the module's docstring for threads and patience."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        keys: Path | None = None,
        timeout_s: float = 5.0,
        patience_s: float = 120.0,
    ) -> None:
        """Opens nothing yet. Raises SettingsError for a bad address, RefusedError where a key file is missing.

        keys: folder with this client's key; None is no key on loopback, else the default folder of the platform.
        timeout_s: longest wait for one answer. patience_s: longest wait for a daemon that went away mid-work.
        """
        identity.check_address(address)
        self.address = address
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._identity = identity.load(address, keys)
        self._context: zmq.Context[Any] = zmq.Context()
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._met = False
        """Whether this daemon ever answered: before that, there is nothing to be patient about."""
        self._hello: Hello | None = None
        """What it said of itself when it was last greeted."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every connection; never blocks. Jobs go on."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        self._context.destroy(linger=0)

    def hello(self) -> Hello:
        """Ask who answers. Blocks for at most two `timeout_s`."""
        with self._borrowed() as connection:
            return self._greet(connection)

    def submit(
        self,
        files: ShotFiles,
        settings: ShotSettings,
        *,
        name: str = "",
        request: str | None = None,
        on_event: OnEvent = None,
        cancelled: Cancelled = None,
    ) -> JobStatus:
        """Hand a shot to the daemon: sends the files that it lacks, queues the job. Blocks until the job is durable.

        request: an id of the caller's; the same id with the same shot is the same job, however often it is sent.
        on_event: gets progress in bytes, stage "upload". cancelled: once true, the job is cancelled and
        JobCancelledError raised. Raises RequestErrors, WireErrors, StoreError.
        """
        request = request or new_request()
        sources = [transfer.look_at(role, frame, path) for role, frame, path in files.items()]
        if not files.plate or not files.matte:
            raise SequenceError("The shot has no plate or no matte.", "Give at least one frame of each.")
        if len(sources) > LIMITS["files"].value:
            raise SequenceError(f"The shot has {len(sources)} files.", f"Split it: {LIMITS['files'].value} at most.")
        fields = {"name": name[:200], "settings": settings.to_wire(), "files": [_row(source) for source in sources]}
        on_event, stop = on_event or _nobody, cancelled or _never
        job = ""

        def once(connection: Connection) -> JobStatus:
            nonlocal job
            self._check_known(settings)
            reply = connection.call("submit", fields, self._slow_s, request=request, cancelled=stop)
            status = JobStatus.from_wire(reply["job"])
            job, offsets = status.job, reply["offsets"]
            if len(offsets) != len(sources) or not all(
                isinstance(at, int) and -2 <= at <= source.size for at, source in zip(offsets, sources)
            ):
                raise ProtocolError("The daemon's answer does not fit the shot.", "Update the older of the two ends.")
            if status.state == "receiving":
                upload = Transfer(connection, job, stop, self._slow_s)
                _send_lacking(upload, sources, offsets, on_event)
                reply = connection.call("start", {"job": job}, self._slow_s, cancelled=stop)
                status = JobStatus.from_wire(reply["job"])
            return status

        try:
            return self._patiently(once, stop)
        except JobCancelledError:
            if job:
                self.cancel(job)
            raise

    def status(self, job: str) -> JobStatus:
        """One job as it stands. Answers at once; blocks for at most two `timeout_s`. Raises JobNotFoundError."""
        return self._ask("status", job)

    def jobs(self, *, everybody: bool = False) -> list[JobStatus]:
        """This client's jobs, newest first. Each page answers at once; blocks for at most two `timeout_s` a page.

        everybody: all clients' jobs, for administrators. Raises RefusedError.
        """
        found: list[JobStatus] = []
        fields: dict[str, Any] = {"all": True} if everybody else {}
        with self._borrowed() as connection:
            while True:
                answer = connection.call("jobs", fields, self.timeout_s)
                found += [JobStatus.from_wire(job) for job in answer["jobs"]]
                # A daemon of before there were pages says nothing of more.
                after = answer.fields.get("more")
                if not after or not answer["jobs"] or after == fields.get("after"):
                    return found
                fields["after"] = after

    def cancel(self, job: str) -> JobStatus:
        """Cancel a job; does nothing to one that is over. Answers at once, the worker stops within 2 s."""
        return self._ask("cancel", job)

    def drop(self, job: str) -> JobStatus:
        """Have the daemon forget a job that is over, and delete its results; returns what it was. Cancel it first."""
        return self._ask("drop", job)

    def watch(self, job: str, on_event: OnEvent = None, cancelled: Cancelled = None) -> JobStatus:
        """Block until the job is over and return its status; a failed job is a status with `error`, not a raise.

        on_event: gets every event with `job` and `seq` added, in order, each lasting one once, also across restarts
        of the daemon. cancelled: once true, the job is cancelled. Raises JobNotFoundError, WireErrors.
        """
        on_event, stop = on_event or _nobody, cancelled or _never
        seen = 0

        def once(connection: Connection) -> JobStatus:
            nonlocal seen
            watching = new_request()
            connection.call("watch", {"job": job, "after": seen}, self.timeout_s, request=watching)
            heard, asked, told_to_stop = time.monotonic(), "", False
            over: JobStatus | None = None
            while True:
                if not told_to_stop and stop():
                    told_to_stop = True
                    connection.send("cancel", {"job": job})
                message = connection.receive(0.1)
                silence_s = time.monotonic() - heard
                if message is None:
                    if over is not None and silence_s > _PING_S:
                        # A daemon that lost its database counts events anew, and `seen` may be past them all.
                        return over
                    if not asked and silence_s > _PING_S:
                        asked = connection.send("status", {"job": job})
                    elif silence_s > _PING_S + self.timeout_s:
                        raise UnreachableError(f"The daemon at {self.address} fell silent.", "The job is kept.")
                    continue
                if message.type == "status_reply" and message.request == asked:
                    # Its last events may still be on their way.
                    status = JobStatus.from_wire(message["job"])
                    over = status if status.state in FINAL else None
                heard, asked = time.monotonic(), ""
                if message.type != "event" or message.request != watching:
                    continue
                seen = max(seen, message["seq"])
                event = {**message["event"], "job": job, "seq": message["seq"]}
                on_event(event)
                if event.get("event") == "state" and event.get("state") in FINAL:
                    return JobStatus.from_wire(connection.call("status", {"job": job}, self.timeout_s)["job"])

        return self._patiently(once, _never)

    def fetch(self, job: str, out: Path, *, on_event: OnEvent = None, cancelled: Cancelled = None) -> list[Path]:
        """Bring every finished result file into `out`; files already there with the same content are left alone.

        Blocks. May be called while the job runs (brings what is finished) and again after. on_event: progress in
        bytes, stage "fetch". Raises OutputError, JobNotFoundError, StoreError, WireErrors, JobCancelledError.
        """
        on_event, stop = on_event or _nobody, cancelled or _never
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out} can't be made: {error}.", "Give a folder that you may write.") from error

        def once(connection: Connection) -> list[Path]:
            answer = connection.call("results", {"job": job}, self._slow_s, cancelled=stop)["files"]
            files = [Result(*checked_row(row, str, int, str)) for row in answer]
            if any(not 0 <= result.size <= LIMITS["file_bytes"].value for result in files):
                raise ProtocolError("The daemon offers a result of impossible size.", "Do not trust this daemon.")
            done, total = 0, sum(result.size for result in files)

            def on_bytes(count: int) -> None:
                nonlocal done
                done += count
                on_event({"event": "progress", "stage": "fetch", "done": done, "total": total, "frame": None})

            bring, found = Transfer(connection, job, stop, self._slow_s), []
            for result in files:
                before = done
                found.append(bring.fetch(result, out, on_bytes))
                if done == before:
                    on_bytes(result.size)
            return found

        return self._patiently(once, stop)

    @property
    def _slow_s(self) -> float:
        """Longest wait for an answer that the daemon's disk has a part in."""
        return max(30.0, self.timeout_s)

    def _ask(self, type_: str, job: str) -> JobStatus:
        with self._borrowed() as connection:
            return JobStatus.from_wire(connection.call(type_, {"job": job}, self.timeout_s)["job"])

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        """A connection for one call: from the pool, else new. Back to the pool only if nothing at all went wrong."""
        connection = None
        while connection is None:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                connection = self._connect()
            elif kept.still_up():
                connection = kept
            else:
                # The daemon went away meanwhile; another may be there.
                kept.close()
        try:
            yield connection
        except VoidError as error:
            # What the daemon answered leaves the connection sound; what the network did does not.
            if isinstance(error, (WireError, JobCancelledError)):
                connection.close()
            else:
                self._give_back(connection)
            raise
        except BaseException:
            connection.close()
            raise
        else:
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            self._idle.append(connection)

    def _connect(self) -> Connection:
        connection = Connection(self._context, self.address, self._identity, self.timeout_s)
        try:
            self._greet(connection)
        except BaseException:
            connection.close()
            raise
        self._met = True
        return connection

    def _greet(self, connection: Connection) -> Hello:
        fields = {"protocols": [PROTOCOL], "version": void_server.__version__}
        hello = Hello.from_wire(connection.call("hello", fields, self.timeout_s).fields)
        if hello.protocol != PROTOCOL:
            raise ProtocolError(
                f"The daemon at {self.address} speaks protocol {hello.protocol}, this client {PROTOCOL}.",
                "Update the older of the two.",
            )
        self._hello = hello
        return hello

    def _check_known(self, settings: ShotSettings) -> None:
        """A daemon ignores what it does not know, and the artist would wait for another picture than was asked for."""
        hello = self._hello
        if hello is None or hello.settings is None:
            return
        unknown = [name for name in settings.changed() if name not in hello.settings]
        if unknown:
            raise SettingsError(
                f"The daemon at {self.address} (version {hello.server_version}) does not know {', '.join(unknown)}.",
                "Update the daemon, or leave that setting at its default.",
            )

    def _patiently(self, work: Callable[[Connection], T], cancelled: Callable[[], bool]) -> T:
        """Run `work`, again on a fresh connection whenever the daemon goes away, while patience lasts."""
        lost_at, pause_s = 0.0, 0.05
        while True:
            before, connection = 0, None
            try:
                with self._borrowed() as connection:
                    before = connection.received
                    return work(connection)
            except UnreachableError:
                now = time.monotonic()
                if connection is not None and connection.received > before:
                    lost_at, pause_s = 0.0, 0.05
                lost_at = lost_at or now
                if not self._met or now - lost_at > self.patience_s:
                    raise
            with self._lock:
                idle, self._idle = self._idle, []
            for connection in idle:
                connection.close()
            if cancelled():
                raise JobCancelledError("Cancelled.")
            threading.Event().wait(pause_s)
            pause_s = min(1.0, pause_s * 2)


def _send_lacking(
    upload: Transfer, sources: list[Source], offsets: list[int], on_event: Callable[[Event], None]
) -> None:
    """Send what the daemon can't have; hash and offer what it may have; send what of that it lacks."""
    lacking, perhaps, first = [], [], set()
    for index, (source, offset) in enumerate(zip(sources, offsets)):
        if offset >= 0 and source.fingerprint not in first:
            first.add(source.fingerprint)
            lacking.append(Lacking(index, source, offset))
        elif offset != -1:
            perhaps.append((index, source))
    total = sum(source.size for source in sources)
    done = total - sum(file.source.size - file.offset for file in lacking)

    def on_bytes(count: int, frame: int) -> None:
        nonlocal done
        done = min(total, done + count)
        on_event({"event": "progress", "stage": "upload", "done": done, "total": total, "frame": frame})

    upload.send(lacking, on_bytes)
    if not perhaps:
        return
    sums: dict[Path, transfer.Sums] = {}
    for _, source in perhaps:
        if source.path not in sums:
            try:
                sums[source.path] = transfer.sums_of(source.path, upload.cancelled)
            except OSError as error:
                raise transfer.unreadable(source.role, source.frame, error) from error
    fields = {"job": upload.job, "files": [[index, *sums[source.path]] for index, source in perhaps]}
    reply = upload.connection.call("bind", fields, upload.timeout_s, cancelled=upload.cancelled)
    again, asked = [], {index for index, _ in perhaps}
    for row in reply["lacking"]:
        index, offset = checked_row(row, int, int)
        if index not in asked or not 0 <= offset <= sources[index].size:
            raise ProtocolError("The daemon asks for a file that it was not offered.", "Do not trust this daemon.")
        again.append(Lacking(index, sources[index], offset))
    done = total - sum(file.source.size - file.offset for file in again)
    upload.send(again, on_bytes)


def _row(source: Source) -> list[Any]:
    """A file as `submit` names it. The path goes along for daemons that may see the same file."""
    path = str(source.path.absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        # A name that is no text (undecodable bytes) can't travel; the file's bytes still can.
        path = ""
    suffix = source.path.suffix.encode("ascii", "replace").decode()
    shown = source.path.name.encode("utf-8", "replace").decode()[:200] or f"frame{suffix}"
    return [source.role, source.frame, shown, source.size, source.fingerprint, source.mtime_ns, path]


def _nobody(_event: Event) -> None:
    pass


def _never() -> bool:
    return False
