"""Every network connection by its descriptor: which are still strangers, whose they are, and which one must go.

What comes in: what the socket's monitor saw, and which descriptor a message came from. What goes out: connections that
are cut. It does not know messages, jobs or keys.

libzmq keeps no count of who has not finished a handshake, and never lets go of a peer by itself. So: strangers (nothing
heard yet) are few in all, the oldest of whichever address has most goes first; a connection that takes in far more than
it ever finished as messages goes; and on loopback without keys, so does one that another user of this machine made.

Source of the descriptor: ZMQ_SRCFD of a received frame, and the value of the monitor's events (libzmq 4.3).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

from void_server.wire.messages import LIMITS

_TCP_INFO_RECEIVED = 128
"""Where `tcpi_bytes_received` lies in Linux's struct tcp_info. Source: linux/tcp.h."""
_UNFINISHED_BYTES = 48 << 20
"""What a connection may have sent beyond the messages read of it: the socket's queue of 32 chunks, and half as much."""
_CHECKED = 128
"""Connections that one `check` looks at: a few system calls each."""
_SPARE_DESCRIPTORS = 256
"""Kept for files, workers and the database."""


@dataclasses.dataclass
class Connection:
    """One connection, for as long as it lasts."""

    descriptor: int
    host: str
    since: float
    address: tuple[str, int] | None = None
    """The other end's; None where this is no TCP."""
    heard: bool = False
    foreign: bool = False
    """Whether another user of this machine is at the other end."""
    read_bytes: int = 0


class Connections:
    """All connections of one listening socket. Belongs to the loop's thread; never blocks."""

    def __init__(self, *, own_user_only: bool, on_gone: Callable[[int], None]) -> None:
        """own_user_only: tell who of this machine's users is at the other end. on_gone: called with a descriptor."""
        self._own_user_only = own_user_only
        self._on_gone = on_gone
        self._all: dict[int, Connection] = {}
        self._strangers: dict[str, collections.OrderedDict[int, Connection]] = {}
        self._stranger_count = 0
        self._unchecked: list[Connection] = []
        self.most = most_connections()

    def __len__(self) -> int:
        return len(self._all)

    def accepted(self, descriptor: int) -> None:
        """Somebody came; whoever has waited longest among the strangers of the busiest address may have to go."""
        known = self._all.get(descriptor)
        if known is not None and known.heard:
            # Its first message was read before the monitor's word of it.
            return
        self._forget(descriptor)
        address = _other_end(descriptor)
        found = Connection(descriptor, address[0] if address else "", time.monotonic(), address)
        self._all[descriptor] = found
        self._strangers.setdefault(found.host, collections.OrderedDict())[descriptor] = found
        self._stranger_count += 1
        while self._stranger_count > LIMITS["half_open"].value or (
            len(self._all) > self.most and self._stranger_count > 0
        ):
            busiest = max(self._strangers.values(), key=len)
            self.cut(next(iter(busiest.values())))

    def gone(self, descriptor: int) -> None:
        self._forget(descriptor)
        self._on_gone(descriptor)

    def heard(self, descriptor: int, size: int) -> Connection:
        """A whole message of `size` bytes came from this connection."""
        found = self._all.get(descriptor)
        if found is None:
            address = _other_end(descriptor)
            found = Connection(descriptor, address[0] if address else "", time.monotonic(), address)
            self._all[descriptor] = found
        if not found.heard:
            self._no_stranger(found)
            found.heard = True
            found.foreign = self._own_user_only and _is_foreign(found)
        found.read_bytes += size
        return found

    def check(self) -> None:
        """Cut whoever sends and sends and never finishes a message. Looks at some each time, at all in turn."""
        if not self._unchecked:
            self._unchecked = list(self._all.values())
        looked_at, self._unchecked = self._unchecked[:_CHECKED], self._unchecked[_CHECKED:]
        for found in looked_at:
            if found.address is None:
                continue
            received = _received_bytes(found)
            if received is not None and received - found.read_bytes > _UNFINISHED_BYTES:
                self.cut(found)

    def cut(self, connection: Connection) -> None:
        """End a connection; the monitor will tell that it is gone."""
        with _as_socket(connection) as line:
            if line is not None:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
        self._forget(connection.descriptor)

    def _forget(self, descriptor: int) -> None:
        found = self._all.pop(descriptor, None)
        if found is not None:
            self._no_stranger(found)

    def _no_stranger(self, found: Connection) -> None:
        of_host = self._strangers.get(found.host)
        if of_host is not None and of_host.pop(found.descriptor, None) is not None:
            self._stranger_count -= 1
            if not of_host:
                del self._strangers[found.host]


def most_connections() -> int:
    """How many connections this process has descriptors for, its own needs apart. Raises the soft limit first."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = LIMITS["connections"].value + _SPARE_DESCRIPTORS
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(16, min(LIMITS["connections"].value, soft - _SPARE_DESCRIPTORS))


def user_of(other: tuple[str, int], own: tuple[str, int]) -> int | None:
    """The user id behind the other end of a TCP connection within this machine; None where the kernel won't say.

    Source: sock_diag(7), linux/inet_diag.h: one request for the socket whose own end is `other`.
    """
    family = socket.AF_INET6 if ":" in other[0] else socket.AF_INET
    ends = struct.pack(">HH", other[1], own[1])
    ends += b"".join(socket.inet_pton(family, host).ljust(16, b"\0") for host, _ in (other, own))
    wanted = struct.pack("<BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends + b"\0" * 4 + b"\xff" * 8
    by_family, request, error = 20, 1, 2
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
            kernel.settimeout(0.2)
            kernel.send(struct.pack("<IHHII", 16 + len(wanted), by_family, request, 1, 0) + wanted)
            answer = kernel.recv(4096)
    except (OSError, AttributeError):
        return None
    if len(answer) < 84 or struct.unpack_from("<H", answer, 4)[0] == error:
        return None
    return int(struct.unpack_from("<I", answer, 80)[0])


def _is_foreign(found: Connection) -> bool:
    """Whether another user is at the other end. Root reads everything on this machine anyway."""
    with _as_socket(found) as line:
        if line is None or found.address is None:
            return False
        with contextlib.suppress(OSError):
            user = user_of(found.address, line.getsockname()[:2])
            return user is not None and user not in (os.geteuid(), 0)
    return False


def _received_bytes(found: Connection) -> int | None:
    with _as_socket(found) as line:
        if line is None:
            return None
        with contextlib.suppress(OSError, AttributeError):
            info = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            if len(info) >= _TCP_INFO_RECEIVED + 8:
                return int(struct.unpack_from("<Q", info, _TCP_INFO_RECEIVED)[0])
    return None


def _other_end(descriptor: int) -> tuple[str, int] | None:
    with contextlib.suppress(OSError), _borrowed(descriptor) as line:
        if line.family in (socket.AF_INET, socket.AF_INET6):
            host, port = line.getpeername()[:2]
            return str(host), int(port)
    return None


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """libzmq's own descriptor as a socket, given back as it was. Raises OSError where it is no socket any more: by now
    the number may be a file's.

    It is never copied: a copy takes a descriptor of its own, and there is none left just when connections have to be
    cut for want of them.
    """
    line = socket.socket(fileno=descriptor)
    try:
        yield line
    finally:
        line.detach()


@contextlib.contextmanager
def _as_socket(connection: Connection) -> Iterator[socket.socket | None]:
    """The connection's socket, if its descriptor still is that connection; libzmq closes it without asking."""
    with contextlib.ExitStack() as stack:
        line = None
        with contextlib.suppress(OSError):
            line = stack.enter_context(_borrowed(connection.descriptor))
        yield line if line is not None and _is_that(connection, line) else None


def _is_that(connection: Connection, line: socket.socket) -> bool:
    if line.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return False
    try:
        # A local socket that is bound to no path is a pair of this process's own.
        return bool(line.getsockname()) and (connection.address is None or line.getpeername()[:2] == connection.address)
    except OSError:
        return False
