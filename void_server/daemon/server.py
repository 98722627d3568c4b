"""The server process: one ROUTER socket, one loop, nothing that takes long.

What comes in: a `DaemonConfig`. What goes out: answers within milliseconds, whatever workers and disks do, and an exit
status. It knows sockets, who may come in, and who watches what; `requests.py` knows the answers.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zmq

from void_server.daemon.config import DaemonConfig
from void_server.daemon.disk import Disk
from void_server.daemon.frames import FrameFolder
from void_server.daemon.jobfolder import JobFolders
from void_server.daemon.keys import Doorkeeper, check_bind
from void_server.daemon.requests import Peer, Requests
from void_server.daemon.scheduler import Scheduler
from void_server.daemon.selftest import check_stranger_is_refused
from void_server.daemon.store import Store
from void_server.wire import messages
from void_server.wire.errors import (
    InternalError,
    RefusedError,
    SettingsError,
    StoreError,
    VoidError,
)
from void_server.wire.report import Event

_LOCAL = "local"
"""The one owner on loopback without keys."""
_BATCH = 64
"""Messages taken before the loop looks at anything else."""
_SWEEP_S = 600.0


@dataclasses.dataclass
class _Watcher:
    """Somebody who is told of a job's events, and up to which lasting one they have been."""

    peer: Peer
    request: str
    job: str
    seen: int


def serve(config: DaemonConfig, *, ready: Callable[[str], None] | None = None) -> int:
    """Run a daemon until SIGTERM or SIGINT; returns the exit status. Blocks; belongs on the main thread.

    ready: called once with the address it listens at. Raises SettingsError for what can't be served safely (an open
    address without keys, no allowed client, a data folder in use) and StoreError for an unusable disk.
    """
    check_bind(config.bind, config.keys)
    door = Doorkeeper(config.keys) if config.keys else None
    _keep_message_memory()
    with _data_folder(config.data), contextlib.ExitStack() as stack:
        store = Store(config.data / "store.sqlite")
        stack.callback(store.close)
        server = _Server(config, store, door)
        stack.callback(server.close)
        server.open()
        with _stop_signals(server.stop, server.wake_fd):
            if ready:
                ready(server.address)
            server.run()
    return 0


class _Server:
    """The loop and what it turns."""

    def __init__(self, config: DaemonConfig, store: Store, door: Doorkeeper | None) -> None:
        self.address = ""
        self._config = config
        self._store = store
        self._door = door
        self._stopped = False
        self._watchers: dict[tuple[bytes, str], _Watcher] = {}
        self._next_sweep = 0.0
        self._disk = Disk()
        self._frames = FrameFolder(config.data / "frames")
        self._folders = JobFolders(config.data / "jobs")
        self._scheduler = Scheduler(config, store, self._frames, self._folders, self._disk)
        self._scheduler.on_change = self._tell_watchers
        self._requests = Requests(
            config, store, self._frames, self._folders, self._disk, self._scheduler, self._send, self._add_watcher
        )
        self._context: zmq.Context[Any] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._zap = self._context.socket(zmq.REP)
        self._poller = zmq.Poller()

    def open(self) -> None:
        """Listen, prove that strangers stay out, and take up what the last daemon left."""
        router = self._router
        router.setsockopt(zmq.LINGER, 0)
        # An answer to somebody who is gone must fail, not vanish; a slow reader must not fill the memory.
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.RCVHWM, 32)
        router.setsockopt(zmq.SNDHWM, 64)
        router.setsockopt(zmq.MAXMSGSIZE, messages.LIMITS["header_bytes"].value)
        router.setsockopt(zmq.HEARTBEAT_IVL, 10_000)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 60_000)
        router.setsockopt(zmq.IPV6, 1 if "[" in self._config.bind else 0)
        if self._door:
            # The answering socket must be there before the first handshake, or libzmq admits it unasked.
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind("inproc://zeromq.zap.01")
            router.setsockopt(zmq.CURVE_SERVER, 1)
            router.setsockopt(zmq.CURVE_SECRETKEY, self._door.secret.encode())
            router.setsockopt(zmq.ZAP_DOMAIN, Doorkeeper.DOMAIN)
            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            self._poller.register(self._zap, zmq.POLLIN)
        try:
            router.bind(self._config.bind)
        except zmq.ZMQError as error:
            raise SettingsError(
                f"Can't listen at {self._config.bind}: {error}.", "Is another daemon running? Choose another --bind."
            ) from error
        self.address = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._poller.register(router, zmq.POLLIN)
        self._poller.register(self._disk.waker, zmq.POLLIN)
        if self._door:
            check_stranger_is_refused(self._context, self.address, self._door.public, lambda: self._turn(0.02))
        self._scheduler.recover()

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopped:
            now = time.monotonic()
            if now >= self._next_sweep:
                self._next_sweep = now + _SWEEP_S
                self._sweep()
            self._scheduler.tick()
            self._turn(min(self._scheduler.due_s(), self._next_sweep - now, 60.0))

    def stop(self) -> None:
        """End `run` soon. Safe in a signal handler."""
        self._stopped = True

    @property
    def wake_fd(self) -> int:
        return self._disk.wake_fd

    def close(self) -> None:
        """Stop the workers, finish what the disk is doing, let go of the sockets."""
        self._scheduler.stop()
        self._disk.close()
        for socket in (self._router, self._zap):
            socket.close(0)
        self._context.term()

    def _turn(self, timeout_s: float) -> None:
        """Wait for something to do, and do all of it once."""
        ready = dict(self._poller.poll(int(max(0.0, timeout_s) * 1000) + 1))
        if self._zap in ready and self._door:
            self._zap.send_multipart(self._door.answer(self._zap.recv_multipart()))
        if self._disk.waker.fileno() in ready:
            self._disk.settle()
        if self._router in ready:
            for _ in range(_BATCH):
                try:
                    frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                self._take(frames)

    def _take(self, frames: list[zmq.Frame]) -> None:
        """Answer one message from the socket, whatever it is."""
        identity, parts = frames[0].bytes, [frame.buffer for frame in frames[1:]]
        peer = Peer(identity, self._owner(frames[-1]))
        try:
            if self._door and not self._door.admits(peer.owner):
                raise RefusedError("This key was revoked.", "Ask whoever runs the daemon.")
            message = messages.unpack(parts)
        except VoidError as error:
            self._requests.refuse(peer, messages.request_of(parts), error)
            return
        try:
            self._requests.handle(peer, message)
        except Exception as error:  # noqa: BLE001 - one request must never end the daemon
            sys.excepthook(type(error), error, error.__traceback__)
            ours = InternalError(f"The daemon failed: {type(error).__name__}.", "Look at the daemon's own output.")
            self._requests.refuse(peer, message.request, ours)

    def _owner(self, frame: zmq.Frame) -> str:
        """Whose message this is: the key that the handshake proved, never the socket's own name for itself."""
        return str(frame.get("User-Id")) if self._door else _LOCAL

    def _send(
        self, peer: Peer, type_: str, request: str, fields: Mapping[str, Any], buffer: messages.Buffer | None
    ) -> bool:
        """Send one message if the peer takes it now; whoever does not read loses answers, not the daemon's memory."""
        try:
            self._router.send_multipart(
                [peer.identity, *messages.pack(type_, request, fields, buffer)], zmq.NOBLOCK, copy=False
            )
        except zmq.Again:
            return False
        except zmq.ZMQError:
            for key in [key for key, watcher in self._watchers.items() if watcher.peer == peer]:
                del self._watchers[key]
            return False
        return True

    def _add_watcher(self, peer: Peer, request: str, job: str, after: int) -> None:
        watcher = _Watcher(peer, request, job, after)
        self._watchers[peer.identity, request] = watcher
        self._catch_up(watcher)

    def _tell_watchers(self, job: str, passing: Event | None) -> None:
        for watcher in [w for w in self._watchers.values() if w.job == job]:
            if self._catch_up(watcher) and passing:
                fields = {"job": job, "seq": watcher.seen, "event": passing}
                self._send(watcher.peer, "event", watcher.request, fields, None)

    def _catch_up(self, watcher: _Watcher) -> bool:
        """Send the lasting events that a watcher has not had; whether they have had all of them now."""
        while events := self._store.events(watcher.job, watcher.seen):
            for seq, event in events:
                fields = {"job": watcher.job, "seq": seq, "event": event}
                if not self._send(watcher.peer, "event", watcher.request, fields, None):
                    return False
                watcher.seen = seq
                if event.get("event") == "state" and event.get("state") in messages.FINAL:
                    self._watchers.pop((watcher.peer.identity, watcher.request), None)
                    return False
        return True

    def _sweep(self) -> None:
        """Drop what has been kept for long enough."""
        now = time.time()
        for job in self._store.old_jobs(now - self._config.receiving_s, "receiving"):
            silence = f"Nobody sent the rest of the shot for {self._config.receiving_s / 3600:.0f} hours."
            self._store.move(
                job, "failed", since=("receiving",), error=StoreError(silence, "Submit it again.", job=job)
            )
        for job in self._store.old_jobs(now - self._config.keep_s, *messages.FINAL):
            self._store.forget_job(job)
            self._disk.do(lambda job=job: self._folders.remove(job), _ignore, _ignore)  # type: ignore[misc]
        for owner, name, _ in self._store.unused_frames(now - self._config.keep_s):
            self._requests.drop_frame(owner, name)
        self._disk.do(lambda: self._frames.remove_parts(now - self._config.receiving_s), _ignore, _ignore)


def _ignore(_: object) -> None:
    """What could not be swept now is swept next time."""


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


@contextlib.contextmanager
def _stop_signals(stop: Callable[[], None], wake_fd: int) -> Iterator[None]:
    """Have SIGTERM and SIGINT end the loop instead of the process."""
    kept = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    # The kernel may hand the signal to any thread; only a byte on a descriptor wakes the one that polls.
    signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in kept.items():
            signal.signal(number, handler)


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
