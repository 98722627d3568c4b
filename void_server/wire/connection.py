"""One connection to a daemon: frames out, checked messages in, and every way it can break told apart at once.

What comes in: an address and an identity. What goes out: `Message`s, or one of the WireErrors. This is the border
where zmq's exceptions and monitor events become ours; it does not know jobs or files.

A refused ZeroMQ client waits for ever by default. So each connection listens to its socket's monitor, and never
reconnects by itself: whoever wants to go on opens a new one (a reconnected socket has lost what was on its way).
Source of what the events mean: measured against libzmq 4.3.5.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from void_server.wire import messages
from void_server.wire.errors import (
    JobCancelledError,
    ProtocolError,
    RefusedError,
    UnreachableError,
    WireError,
    from_wire,
)
from void_server.wire.identity import Identity
from void_server.wire.messages import Message

_SLICE_S = 0.1
"""How often a wait looks up to see whether it was cancelled."""
_EVENTS = (
    zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


def new_request() -> str:
    """An id for one request, unlike any other."""
    return uuid.uuid4().hex


class Connection:
    """A DEALER socket with its monitor. Used by one thread at a time; closed after any error that it raises."""

    def __init__(self, context: zmq.Context[Any], address: str, identity: Identity | None, timeout_s: float) -> None:
        """Connect and finish the handshake; blocks for at most `timeout_s`.

        Raises UnreachableError, RefusedError or ProtocolError.
        """
        self.address = address
        self._identity = identity
        self.received = 0
        """Messages that came in; what tells a daemon that works from one that only lets in."""
        self._up = False
        with self._translated():  # a process may have no descriptor left for a socket
            self._socket = context.socket(zmq.DEALER)
            try:
                self._monitor = self._socket.get_monitor_socket(_EVENTS)
            except BaseException:
                self._socket.close(0)
                raise
        self._poller = zmq.Poller()
        try:
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
            self._socket.setsockopt(zmq.IMMEDIATE, 1)
            self._socket.setsockopt(zmq.SNDHWM, 64)
            self._socket.setsockopt(zmq.MAXMSGSIZE, messages.LIMITS["header_bytes"].value + (1 << 16))
            if identity:
                self._socket.setsockopt(zmq.CURVE_PUBLICKEY, identity.public.encode())
                self._socket.setsockopt(zmq.CURVE_SECRETKEY, identity.secret.encode())
                self._socket.setsockopt(zmq.CURVE_SERVERKEY, identity.daemon_public.encode())
            self._poller.register(self._monitor, zmq.POLLIN)
            self._poller.register(self._socket, zmq.POLLIN)
            with self._translated():
                self._socket.connect(address)
            deadline = time.monotonic() + timeout_s
            while not self._up:
                self._wait(deadline, f"Nobody answered at {address} within {timeout_s:g} s.")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the sockets; never blocks. Safe to call twice."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)

    def still_up(self) -> bool:
        """Whether nothing was heard of the connection's end; never blocks. For whoever kept it aside for a while."""
        try:
            with self._translated():
                while self._monitor.poll(0):
                    self._heed_monitor()
        except WireError:
            return False
        return True

    def send(
        self, type_: str, fields: Mapping[str, Any], buffer: messages.Buffer | None = None, request: str | None = None
    ) -> str:
        """Send one message and return its request id. The buffer must stay as it is until the answer has come.

        Blocks only while the daemon takes nothing more. Raises UnreachableError once the connection is lost.
        """
        request = request or new_request()
        frames = messages.pack(type_, request, fields, buffer)
        with self._translated():
            while True:
                try:
                    # Without a copy: zmq reads the caller's buffer while it sends.
                    self._socket.send_multipart(frames, zmq.NOBLOCK, copy=buffer is None)
                    return request
                except zmq.Again:
                    if self._monitor.poll(1):
                        self._heed_monitor()

    def receive(self, timeout_s: float, lost: str = "") -> Message | None:
        """The next message, or None after `timeout_s`; with `lost` given, UnreachableError of that text instead."""
        deadline = time.monotonic() + timeout_s
        with self._translated():
            while True:
                try:
                    frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    if time.monotonic() >= deadline and not lost:
                        return None
                    self._wait(deadline, lost)
                    continue
                self.received += 1
                return messages.unpack([frame.buffer for frame in frames])

    def answer(self, request: str, timeout_s: float, cancelled: Callable[[], bool] = lambda: False) -> Message:
        """Wait for the answer to `request`, letting others pass. Raises what the daemon answers as an error,
        UnreachableError after `timeout_s`, JobCancelledError once `cancelled()`."""
        deadline = time.monotonic() + timeout_s
        while True:
            if cancelled():
                raise JobCancelledError("Cancelled.")
            left = deadline - time.monotonic()
            message = self.receive(max(0.0, min(left, _SLICE_S)))
            if message is not None and message.request == request:
                return checked(message)
            if message is None and left <= 0:
                raise UnreachableError(
                    f"The daemon at {self.address} is connected but did not answer within {timeout_s:g} s.",
                    "Look at the daemon's own output; try again.",
                )

    def call(
        self,
        type_: str,
        fields: Mapping[str, Any],
        timeout_s: float,
        *,
        request: str | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Message:
        """Send a request and wait for its answer: `send` and `answer` in one."""
        return self.answer(self.send(type_, fields, request=request), timeout_s, cancelled)

    def _wait(self, deadline: float, lost: str) -> None:
        """Until something happens or `deadline`; heeds the monitor. With `lost`, the deadline is an error."""
        left = deadline - time.monotonic()
        if left <= 0 and lost:
            raise UnreachableError(lost, "Is the daemon running, and is the address right? void-server doctor.")
        ready = dict(self._poller.poll(max(0, int(left * 1000) + 1)))
        if self._monitor in ready:
            self._heed_monitor()

    def _heed_monitor(self) -> None:
        """Turn one monitor event into an error, where it is one."""
        event = parse_monitor_message(self._monitor.recv_multipart())
        kind, value = event["event"], event["value"]
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._up = True
        elif kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            raise RefusedError(
                f"The daemon at {self.address} does not admit this key.",
                "Give client.public to whoever runs it: void-server keys allow FILE.",
            )
        elif kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            if self._identity:
                raise RefusedError(
                    f"The daemon at {self.address} runs without keys, and this client insists on them.",
                    "Start it with --keys, or leave --keys out here.",
                )
            raise RefusedError(
                f"The daemon at {self.address} asks for a key, and this client showed none.", "Use --keys FOLDER."
            )
        elif kind == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and self._identity:
            raise RefusedError(
                f"What answers at {self.address} is not the daemon whose key is in daemon.public.",
                "Copy daemon.public again from whoever runs the daemon.",
            )
        elif kind == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            # A daemon with keys hangs up on a client without; so does any server that speaks something else.
            raise RefusedError(
                f"What answers at {self.address} hung up: it asks for a key, and this client showed none.",
                "Use --keys FOLDER; if that daemon has no keys, look at the address and the port.",
            )
        elif kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            raise ProtocolError(
                f"What answers at {self.address} is not a void-server daemon.", "Look at the address and the port."
            )
        elif kind == zmq.EVENT_DISCONNECTED and self._up:
            raise UnreachableError(
                f"The daemon at {self.address} closed the connection.", "Is it still running? The job is kept."
            )
        elif kind in (zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_RETRIED):
            raise UnreachableError(
                f"Nobody listens at {self.address}.", "Start the daemon there: void-server serve, or fix the address."
            )

    @contextlib.contextmanager
    def _translated(self) -> Any:
        """Turn what zmq raises into our errors; the only place that does."""
        try:
            yield
        except zmq.ZMQError as error:
            raise UnreachableError(f"The connection to {self.address} failed: {error}.") from error


def checked(message: Message) -> Message:
    """`message`, unless it is the daemon's `error`: then that error is raised."""
    if message.type == "error":
        raise from_wire(message.fields)
    return message
