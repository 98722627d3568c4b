"""The daemon's socket: messages in, with whose they are; answers out, as fast as their reader takes them.

What comes in: a configuration and a doorkeeper. What goes out: messages from peers, and the promise that a peer which
does not read costs a bounded amount of memory and nobody else's time. It does not know what a message means.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from void_server.daemon.config import DaemonConfig
from void_server.daemon.network.connections import Connections
from void_server.daemon.network.keys import Doorkeeper
from void_server.wire import messages
from void_server.wire.errors import SettingsError
from void_server.wire.identity import is_loopback
from void_server.wire.messages import LIMITS

_UNREAD_BYTES = LIMITS["credit"].value * LIMITS["chunk_bytes"].value
"""File bytes that one connection may leave unread in the daemon's memory before it gets no more."""
_ALL_UNREAD_BYTES = 16 * _UNREAD_BYTES
_STUCK_S = 60.0
"""How long a reader may take nothing at all before the kernel ends its connection."""
_CHECK_S = 0.1


class Router:
    """One ROUTER socket with its monitor and, with keys, the socket at which libzmq asks who may come in."""

    def __init__(self, config: DaemonConfig, door: Doorkeeper | None) -> None:
        self._config = config
        self._door = door
        self.address = ""
        self.context = zmq.asyncio.Context()
        self._socket = self.context.socket(zmq.ROUTER)
        self._zap = self.context.socket(zmq.REP)
        self._monitor = self.context.socket(zmq.PAIR)
        local = door is None and config.bind.startswith("tcp://") and is_loopback(config.bind)
        self.gone_listeners: list[Any] = []
        self.connections = Connections(own_user_only=local, on_gone=self._gone)
        self._unread: dict[bytes, collections.deque[tuple[zmq.MessageTracker, int]]] = {}
        self._granted: collections.Counter[bytes] = collections.Counter()
        """File bytes that may be read for a connection, and have not been handed to its socket yet."""
        self._turns: weakref.WeakValueDictionary[bytes, asyncio.Lock] = weakref.WeakValueDictionary()
        """Whoever waits for room holds the lock; nobody else needs it."""
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Listen. Raises SettingsError where the address is taken."""
        socket = self._socket
        for option, value in (
            (zmq.LINGER, 0),
            # An answer to somebody who is gone must fail, not vanish.
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.RCVHWM, 32),
            (zmq.SNDHWM, 64),
            (zmq.MAXMSGSIZE, LIMITS["header_bytes"].value),
            (zmq.HEARTBEAT_IVL, 10_000),
            (zmq.HEARTBEAT_TIMEOUT, 60_000),
            (zmq.HANDSHAKE_IVL, 10_000),
            (zmq.TCP_MAXRT, int(1000 * _STUCK_S)),
            (zmq.BACKLOG, 512),
            (zmq.IPV6, 1 if "[" in self._config.bind else 0),
        ):
            socket.setsockopt(option, value)
        if self._door:
            # The answering socket must be there before the first handshake, or libzmq admits it unasked.
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind("inproc://zeromq.zap.01")
            self._tasks.append(asyncio.create_task(self._answer_the_door(self._door)))
            self._use_key(self._door)
        # Events that nobody takes at once must not stop libzmq's own thread.
        socket.monitor("inproc://connections", zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._monitor.setsockopt(zmq.RCVHWM, 0)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.connect("inproc://connections")
        self._bind(self._config.bind)
        self._tasks += [asyncio.create_task(self._see_connections()), asyncio.create_task(self._check_connections())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._socket.disable_monitor()
        for socket in (self._monitor, self._zap, self._socket):
            socket.close(0)
        self.context.term()

    async def receive(self) -> list[zmq.Frame]:
        """The next message: the peer's identity, then the frames it sent."""
        frames: list[zmq.Frame] = await self._socket.recv_multipart(copy=False)
        return frames

    async def send(
        self,
        identity: bytes,
        type_: str,
        request: str,
        fields: Mapping[str, Any],
        size: int = 0,
        read: Callable[[], Awaitable[messages.Buffer]] | None = None,
    ) -> bool:
        """Send one message once the peer has room for it; false where it is gone. Raises ProtocolError.

        read: gives the bytes that go with it, `size` at most; asked once there is room. What it raises is raised here.
        """
        if size and not await self._room(identity, size):
            return False
        try:
            buffer = await read() if read is not None else None
            return await self._sent(identity, [identity, *messages.pack(type_, request, fields, buffer)], size)
        finally:
            if size:
                self._granted[identity] -= size
                if not self._granted[identity]:
                    del self._granted[identity]

    async def _sent(self, identity: bytes, frames: list[Any], size: int) -> bool:
        pause_s, until = 0.002, time.monotonic() + 2 * _STUCK_S
        while True:
            try:
                tracker = await self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False, track=size > 0)
            except zmq.Again:
                if time.monotonic() > until:
                    return False
                await asyncio.sleep(pause_s)
                pause_s = min(0.2, 2 * pause_s)
            except zmq.ZMQError:
                self._unread.pop(identity, None)
                return False
            else:
                if tracker is not None and size:
                    self._unread.setdefault(identity, collections.deque()).append((tracker, size))
                return True

    async def change_key(self) -> None:
        """Meet whoever comes from now on with the door's present key; libzmq ends the connections that there are."""
        if self._door is None:
            return
        with contextlib.suppress(zmq.ZMQError):
            self._socket.unbind(self.address)
        self._use_key(self._door)
        while True:
            # libzmq lets go of the port in a thread of its own, some time later.
            try:
                self._bind(self.address)
                return
            except SettingsError:
                await asyncio.sleep(0.05)

    def _use_key(self, door: Doorkeeper) -> None:
        self._socket.setsockopt(zmq.CURVE_SERVER, 1)
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, door.secret.encode())
        self._socket.setsockopt(zmq.ZAP_DOMAIN, Doorkeeper.DOMAIN)
        self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _bind(self, address: str) -> None:
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            raise SettingsError(
                f"Can't listen at {address}: {error}.", "Is another daemon running? Choose another --bind."
            ) from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    async def _room(self, identity: bytes, size: int) -> bool:
        """Wait until a peer has read enough of what it asked for; false where it never does."""
        turn = self._turns.setdefault(identity, asyncio.Lock())
        until, pause_s = time.monotonic() + 2 * _STUCK_S, 0.002
        # One after the other: hundreds that each look again and again would keep the loop busy.
        async with turn:
            while True:
                here = self._held(identity) + self._granted[identity]
                all_ = sum(map(self._held, list(self._unread))) + self._granted.total()
                if here + size <= _UNREAD_BYTES and all_ + size <= _ALL_UNREAD_BYTES:
                    self._granted[identity] += size
                    return True
                if time.monotonic() > until:
                    return False
                await asyncio.sleep(pause_s)
                pause_s = min(0.1, 2 * pause_s)

    def _held(self, identity: bytes) -> int:
        waiting = self._unread.get(identity)
        if waiting is None:
            return 0
        while waiting and waiting[0][0].done:
            waiting.popleft()
        if not waiting:
            del self._unread[identity]
            return 0
        return sum(size for _, size in waiting)

    async def _answer_the_door(self, door: Doorkeeper) -> None:
        while True:
            request: Sequence[bytes] = await self._zap.recv_multipart()
            await self._zap.send_multipart(door.answer(list(request)))

    async def _see_connections(self) -> None:
        while True:
            event = parse_monitor_message(await self._monitor.recv_multipart())
            if event["event"] == zmq.EVENT_ACCEPTED:
                self.connections.accepted(int(event["value"]))
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self.connections.gone(int(event["value"]))
            await asyncio.sleep(0)

    async def _check_connections(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            self.connections.check()

    def _gone(self, descriptor: int) -> None:
        for listener in self.gone_listeners:
            listener(descriptor)
