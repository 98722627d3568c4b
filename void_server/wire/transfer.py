"""File bytes between this disk and a daemon, each byte read once, checked in passing, a few chunks held at most.

What comes in: a connection, a job, and which files from which byte on. What goes out: files at the daemon, or files in
a folder. It does not know why a file is wanted, and never retries: a lost connection ends it, and the caller asks anew
from where the daemon stands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import stat as stat_kinds
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from void_server.wire.connection import Connection, checked
from void_server.wire.errors import (
    JobCancelledError,
    MatteError,
    OutputError,
    PlateError,
    ProtocolError,
    RequestError,
    StoreError,
    UnreachableError,
)
from void_server.wire.messages import LIMITS, Message
from void_server.wire.shot import spoken_role

_CHUNK = LIMITS["chunk_bytes"].value
_CREDIT = LIMITS["credit"].value
_SAMPLE = 1 << 16
_LEFT_OVER_S = 3600.0
"""Age of a half-fetched file to which surely nobody writes any more."""
RESULT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
"""A result's name is one path component that can't climb, hide or be an option."""


class Source(NamedTuple):
    """One file of a shot on this machine, as it was when it was looked at."""

    role: str
    frame: int
    path: Path
    size: int
    mtime_ns: int
    fingerprint: str
    """32 hex digits: a hash of the size and of three samples. Unlike fingerprints mean unlike files; like ones prove
    nothing, and only save the reading of whole files that the daemon can't have."""


def unreadable(role: str, frame: int, error: object) -> RequestError:
    """The error that names a file of a shot which can't be used."""
    kind = MatteError if role == "matte" else PlateError
    return kind(f"{spoken_role(role)} frame {frame} can't be read: {error}.", "Check the file.", frame=frame)


def look_at(role: str, frame: int, path: Path) -> Source:
    """Stat and sample one file. Raises PlateError or MatteError."""
    try:
        # A pipe would block for ever on open, and a device has no size.
        if not stat_kinds.S_ISREG(path.stat().st_mode):
            raise unreadable(role, frame, "it is not a file")
        with path.open("rb", buffering=0) as file:
            stat = os.fstat(file.fileno())
            fingerprint = fingerprint_of(file.fileno(), stat.st_size)
    except OSError as error:
        raise unreadable(role, frame, error) from error
    return Source(role, frame, path, stat.st_size, stat.st_mtime_ns, fingerprint)


def fingerprint_of(descriptor: int, size: int) -> str:
    """The fingerprint of an open file of `size` bytes. Raises OSError."""
    digest = hashlib.sha256(str(size).encode())
    for offset in sample_offsets(size):
        os.lseek(descriptor, offset, os.SEEK_SET)
        digest.update(os.read(descriptor, _SAMPLE))
    return digest.hexdigest()[:32]


def sample_offsets(size: int) -> Sequence[int]:
    """Where the samples of a fingerprint begin: head, middle, tail."""
    return sorted({0, max(0, size // 2 - _SAMPLE // 2), max(0, size - _SAMPLE)})


class Sums(NamedTuple):
    """What a whole file comes to: `sha256` (64 hex digits) names its content, `crc32` tells that it came undamaged."""

    sha256: str
    crc32: int


def sums_of(path: Path, cancelled: Callable[[], bool] = lambda: False) -> Sums:
    """Read a whole file for its sums. Blocks; raises OSError, JobCancelledError between chunks."""
    digest, crc32, buffer = hashlib.sha256(), 0, memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            crc32 = zlib.crc32(buffer[:count], crc32)
            _stop_if(cancelled)
    return Sums(digest.hexdigest(), crc32)


@dataclasses.dataclass(frozen=True)
class Lacking:
    """A file of a job that the daemon lacks from byte `offset` on."""

    index: int
    source: Source
    offset: int


class Result(NamedTuple):
    """A finished file as the daemon lists it."""

    name: str
    size: int
    sha256: str


def _remove_left_over(out: Path, name: str) -> None:
    """Remove what a client that was killed had fetched of a file; what another one still writes to is younger."""
    with contextlib.suppress(OSError):
        for part in out.glob(f".{name}.*.part"):
            if time.time() - part.stat().st_mtime > _LEFT_OVER_S:
                part.unlink()


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What every transfer of one job needs. Blocking; used by one thread at a time."""

    connection: Connection
    job: str
    cancelled: Callable[[], bool]
    timeout_s: float
    """Longest wait for a single answer."""

    def send(self, files: Sequence[Lacking], on_bytes: Callable[[int, int], None]) -> None:
        """Send files; blocks until the daemon has synced all of them to its disk.

        on_bytes: called with (bytes, frame) as the daemon confirms them. Raises WireErrors, RequestErrors of the
        daemon, PlateError or MatteError for a file that changes meanwhile, JobCancelledError.
        """
        _Sending(self, on_bytes).send(files)

    def fetch(self, result: Result, out: Path, on_bytes: Callable[[int], None]) -> Path:
        """Bring one result file into `out`, under its final name only when whole and right; blocks.

        A file that lies there with the same content is left alone. Raises ProtocolError for an unsafe name,
        OutputError, StoreError where the content is wrong, WireErrors, JobCancelledError.
        """
        if not RESULT_NAME.fullmatch(result.name):
            raise ProtocolError(f"The daemon offers a result named {result.name!r}.", "Do not trust this daemon.")
        final = out / result.name
        part = out / f".{result.name}.{uuid.uuid4().hex}.part"
        try:
            _remove_left_over(out, result.name)
            same_size = final.is_file() and final.stat().st_size == result.size
            if same_size and sums_of(final, self.cancelled).sha256 == result.sha256:
                return final
            with part.open("xb") as file:
                digest = hashlib.sha256()
                for piece in self._pieces(result):
                    file.write(piece)
                    digest.update(piece)
                    on_bytes(len(piece))
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != result.sha256:
                raise StoreError(f"Result {result.name} arrived damaged.", "Fetch it again.", job=self.job)
            part.replace(final)
        except OSError as error:
            raise OutputError(f"{final} can't be written: {error}.", "Give a folder that has room.") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        return final

    def _pieces(self, result: Result) -> Iterator[memoryview]:
        """The file's bytes in order, a few requests ahead."""
        asked: deque[tuple[str, int]] = deque()
        came: dict[str, memoryview] = {}
        position = 0
        while position < result.size or asked:
            while position < result.size and len(asked) < _CREDIT:
                length = min(_CHUNK, result.size - position)
                fields = {"job": self.job, "name": result.name, "offset": position, "length": length}
                asked.append((self.connection.send("get", fields), length))
                position += length
            request, length = asked.popleft()
            while request not in came:
                # The daemon reads with several threads: pieces may overtake each other.
                message = self.next_message("sent nothing")
                checked(message)
                came[message.request] = memoryview(message.buffer or b"")
            piece = came.pop(request)
            if len(piece) != length:
                raise ProtocolError(f"The daemon sent {len(piece)} of {length} bytes of {result.name}.", "Fetch again.")
            yield piece

    def next_message(self, failing: str) -> Message:
        """The next message; UnreachableError that the daemon has been `failing` after `timeout_s`."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            _stop_if(self.cancelled)
            message = self.connection.receive(0.1)
            if message is not None:
                return message
            if time.monotonic() > deadline:
                raise UnreachableError(f"The daemon {failing} for {self.timeout_s:g} s.", "Is its disk stuck?")


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """Bytes on their way: the buffer is free again once they are answered."""

    count: int
    frame: int
    buffer: bytearray | None


class _Sending:
    """The state of one `send`: buffers that are free, chunks on their way.

    A sender only makes the checksum that tells of damage. The hash that names the content is the worker's work, who
    reads the file anyway: in an upload it would take as long as all the rest (measured: SHA-256 0.51 s a GB, CRC-32
    0.15 s, reading and sending 0.4 s).
    """

    def __init__(self, transfer: Transfer, on_bytes: Callable[[int, int], None]) -> None:
        self._transfer = transfer
        self._on_bytes = on_bytes
        self._free = [bytearray(_CHUNK) for _ in range(_CREDIT)]
        self._flying: dict[str, _Chunk] = {}

    def send(self, files: Sequence[Lacking]) -> None:
        for file in files:
            try:
                self._send_file(file.index, file.source, file.offset)
            except OSError as error:
                raise unreadable(file.source.role, file.source.frame, error) from error
        while self._flying:
            self._await_answer()

    def _send_file(self, index: int, source: Source, offset: int) -> None:
        crc32 = 0
        with source.path.open("rb", buffering=0) as file:
            position = 0
            while position < source.size:
                _stop_if(self._transfer.cancelled)
                buffer = self._take_buffer()
                view = memoryview(buffer)[: min(_CHUNK, source.size - position)]
                if file.readinto(view) != len(view):
                    raise unreadable(source.role, source.frame, "it changed while it was sent")
                if position + len(view) > offset:
                    # The daemon may hold a part of this chunk; it skips what it has.
                    fields = {"file": index, "offset": position}
                    self._put(fields, view, _Chunk(len(view), source.frame, buffer))
                else:
                    self._free.append(buffer)
                # While zmq's own thread sends: it only reads the buffer, as this does.
                crc32 = zlib.crc32(view, crc32)
                position += len(view)
        while len(self._flying) >= _CREDIT:
            self._await_answer()
        closing = {"file": index, "offset": source.size, "crc32": crc32}
        self._put(closing, memoryview(b""), _Chunk(0, source.frame, None))

    def _put(self, fields: dict[str, Any], view: memoryview, chunk: _Chunk) -> None:
        request = self._transfer.connection.send("put", {"job": self._transfer.job, **fields}, view)
        self._flying[request] = chunk

    def _take_buffer(self) -> bytearray:
        while not self._free or len(self._flying) >= _CREDIT:
            self._await_answer()
        return self._free.pop()

    def _await_answer(self) -> None:
        """One answer: its chunk has arrived, so its buffer is free for the next."""
        message = self._transfer.next_message("took no data")
        while message.request not in self._flying:
            message = self._transfer.next_message("took no data")
        chunk = self._flying.pop(message.request)
        if checked(message)["again"]:
            raise UnreachableError("The daemon lost its place in a file.", "Send again from where it stands.")
        if chunk.buffer is not None:
            self._free.append(chunk.buffer)
        self._on_bytes(chunk.count, chunk.frame)


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise JobCancelledError("Cancelled.")
