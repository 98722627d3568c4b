"""The server process: one loop, one task for each thing that goes on, nothing that takes long.

What comes in: a `DaemonConfig`. What goes out: answers within milliseconds, whatever workers and disks do, and an exit
status. It knows who may come in; `requests.py` knows the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq

from void_server.daemon.config import DaemonConfig
from void_server.daemon.files.disk import Disk
from void_server.daemon.files.frames import FrameFolder
from void_server.daemon.files.jobfolder import JobFolders
from void_server.daemon.files.retention import Ballast, Retention
from void_server.daemon.network.audit import Audit
from void_server.daemon.network.keys import Doorkeeper, check_bind
from void_server.daemon.network.router import Router
from void_server.daemon.network.selftest import check_stranger_is_refused
from void_server.daemon.remarks import last_words, remark_on
from void_server.daemon.requests import Requests, answer_kind
from void_server.daemon.scheduling.scheduler import Scheduler
from void_server.daemon.store.database import Database
from void_server.daemon.store.rebuild import open_database, take_in_strays
from void_server.daemon.uploads import Uploads
from void_server.daemon.watchers import Peer, Watchers
from void_server.wire import messages
from void_server.wire.errors import (
    InternalError,
    LimitError,
    RefusedError,
    SettingsError,
    StoreError,
    VoidError,
    to_wire,
)
from void_server.wire.messages import LIMITS, Message
from void_server.wire.report import Event

_LOCAL = "local"
"""The one owner on loopback without keys."""
_SWEEP_S = 600.0
_LOOK_S = 1.0


def serve(config: DaemonConfig, *, ready: Callable[[str], None] | None = None) -> int:
    """Run a daemon until SIGTERM or SIGINT; returns the exit status. Blocks; belongs on the main thread.

    ready: called once with the address it listens at. Raises SettingsError for what can't be served safely (an open
    address without keys, no allowed client, a data folder in use) and StoreError for an unusable disk.
    """
    check_bind(config.bind, config.keys)
    door = Doorkeeper(config.keys) if config.keys else None
    _keep_message_memory()
    with _data_folder(config.data):
        try:
            asyncio.run(_serve(config, door, ready))
        finally:
            last_words()
    return 0


async def _serve(config: DaemonConfig, door: Doorkeeper | None, ready: Callable[[str], None] | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    ballast = Ballast(config.data / "ballast")
    database = await asyncio.to_thread(open_database, config.data, ballast.release)
    server = _Server(config, database, door, ballast)
    try:
        await server.open()
        if ready:
            ready(server.address)
        await server.run(stopped)
    finally:
        await server.close()
        await database.close()


class _Server:
    """Everything that goes on in a daemon, put together."""

    def __init__(self, config: DaemonConfig, database: Database, door: Doorkeeper | None, ballast: Ballast) -> None:
        self._config = config
        self._door = door
        self._disk = Disk()
        self._database = database
        self._router = Router(config, door)
        self._audit = Audit(config.data / "audit.log", self._disk)
        frames, self._folders = FrameFolder(config.data / "frames"), JobFolders(config.data / "jobs")
        self._watchers = Watchers(database.now, self._send_event, self._admits)
        self._scheduler = Scheduler(config, database, frames, self._folders, self._disk, self._watchers)
        self._retention = Retention(config, database, frames, self._folders, self._disk, self._watchers, ballast)
        uploads = Uploads(config, database, frames, self._disk, self._scheduler, self._retention)
        self._requests = Requests(
            config, database, self._folders, self._disk, self._scheduler, uploads, self._watchers, self._retention,
            self._audit,
        )  # fmt: skip
        self._unanswered: Counter[bytes] = Counter()
        self._answering: set[asyncio.Task[None]] = set()
        self._admitted: set[str] = set()
        self._router.gone_listeners.append(self._watchers.gone)

    @property
    def address(self) -> str:
        return self._router.address

    async def open(self) -> None:
        """Listen, prove that strangers stay out, and take up what the last daemon left."""
        await self._router.open()
        if self._door:
            await asyncio.to_thread(check_stranger_is_refused, self.address, self._door.public)
        await take_in_strays(self._config.data, self._database, self._folders, self._disk)
        await self._scheduler.recover()

    async def run(self, stopped: asyncio.Event) -> None:
        """Go on until `stopped`."""
        self._scheduler.start()
        tasks = [asyncio.create_task(work()) for work in (self._take_messages, self._sweep, self._look_after)]
        waiting = asyncio.create_task(stopped.wait())
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)
        for task in done - {waiting}:
            task.result()

    async def close(self) -> None:
        """Stop the workers, finish what the disk is doing, let go of the sockets."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        self._watchers.close()
        await self._scheduler.stop()
        await self._audit.write()
        self._disk.close()
        await self._router.close()

    async def _take_messages(self) -> None:
        while True:
            frames = await self._router.receive()
            task = asyncio.create_task(self._take(frames))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            # A flood of messages is always there at once; everybody else must have their turn.
            await asyncio.sleep(0)

    async def _take(self, frames: list[zmq.Frame]) -> None:
        """Answer one message from the socket, whatever it is."""
        identity, parts = frames[0].bytes, [frame.buffer for frame in frames[1:]]
        self._unanswered[identity] += 1
        try:
            peer = self._peer(frames)
            if self._unanswered[identity] > LIMITS["unanswered"].value:
                raise LimitError("Too many requests of this connection are unanswered.", "Wait for some answers.")
            message = messages.unpack(parts)
            frames.clear()
            await self._answer(peer, message)
        except VoidError as error:
            await self._refuse(identity, messages.request_of(parts), error)
        finally:
            self._unanswered[identity] -= 1
            if not self._unanswered[identity]:
                del self._unanswered[identity]

    async def _answer(self, peer: Peer, message: Message) -> None:
        try:
            answer = await self._requests.answer(peer, message)
            size, read = answer.piece or (0, None)
            sent = await self._router.send(
                peer.identity, answer_kind(message), message.request, answer.fields, size, read
            )
            if sent and answer.after:
                answer.after()
        except VoidError as error:
            await self._refuse(peer.identity, message.request, error)
        except Exception as error:  # noqa: BLE001 - one request must never end the daemon
            remark_on(error)
            ours = InternalError(f"The daemon failed: {type(error).__name__}.", "Look at the daemon's own output.")
            await self._refuse(peer.identity, message.request, ours)

    async def _refuse(self, identity: bytes, request: str, error: VoidError) -> None:
        with contextlib.suppress(VoidError):
            await self._router.send(identity, "error", request, to_wire(error))

    def _peer(self, frames: list[zmq.Frame]) -> Peer:
        """Whose message this is: the key that the handshake proved, never the socket's own name for itself.

        Raises RefusedError for a revoked key, and on loopback for another user of this machine.
        """
        last = frames[-1]
        try:
            descriptor = int(last.get(zmq.SRCFD))
        except (zmq.ZMQError, ValueError, TypeError):
            descriptor = -1
        connection = self._router.connections.heard(descriptor, sum(len(frame) for frame in frames))
        if self._door is None:
            if connection.foreign:
                self._audit.refused("another user", connection.host, "not the user who runs the daemon")
                raise RefusedError(
                    "This daemon serves only the user who started it.",
                    "Whoever runs it can start it with --keys and allow your key.",
                )
            return self._met(Peer(frames[0].bytes, _LOCAL, _LOCAL, True, descriptor, connection.host))
        public = str(last.get("User-Id"))
        client = self._door.client(public)
        if client is None:
            self._audit.refused(public, connection.host, "revoked")
            raise RefusedError("This key was revoked.", "Ask whoever runs the daemon.")
        return self._met(Peer(frames[0].bytes, client.owner, client.name, client.admin, descriptor, connection.host))

    def _met(self, peer: Peer) -> Peer:
        met = f"{peer.identity!r} {peer.owner}"
        if met not in self._admitted:
            if len(self._admitted) > 10_000:
                self._admitted.clear()
            self._admitted.add(met)
            self._audit.note("admit", peer)
        return peer

    def _admits(self, owner: str) -> bool:
        return self._door is None or self._door.admits_owner(owner)

    async def _send_event(self, peer: Peer, request: str, seq: int, job: str, event: Event) -> bool:
        return await self._router.send(peer.identity, "event", request, {"job": job, "seq": seq, "event": event})

    async def _sweep(self) -> None:
        while True:
            await self._retention.sweep()
            await asyncio.sleep(_SWEEP_S)

    async def _look_after(self) -> None:
        """What wants doing every second."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._door:
                for public in self._door.take_refused():
                    self._audit.refused(public, "", "unknown key")
                if self._door.has_new_key():
                    await self._router.change_key()
            await self._audit.write()
            await self._retention.take_ballast()


@contextlib.contextmanager
def _data_folder(data: Path) -> Iterator[None]:
    """The data folder, for this daemon alone. Raises SettingsError if another has it, StoreError if it is unusable."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("frames", "jobs"):
            (data / name).mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"The data folder {data} can't be used: {error}.", "Choose another --data.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SettingsError(f"Another daemon has its jobs in {data}.", "Stop it, or choose another --data.") from error
    try:
        # The kernel lets go of the lock when the process ends, however it ends.
        yield
    finally:
        os.close(descriptor)


def _keep_message_memory() -> None:
    """Have glibc reuse the memory of messages instead of returning it to the kernel after each.

    Source of the values: measured, 1 MiB messages into files, 2.2 GB/s without and 2.9 GB/s with it; fewer arenas keep
    the process from growing. Does nothing where there is no mallopt.
    """
    mmap_threshold, trim_threshold, arena_max = -3, -1, -8
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for option, value in ((mmap_threshold, 64 << 20), (trim_threshold, 128 << 20), (arena_max, 2)):
            mallopt(option, value)
