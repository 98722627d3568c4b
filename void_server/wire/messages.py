"""The protocol: every message, state and limit in one table, and the two functions that pack and check messages.

What comes in: frames from a socket, or a type with its fields. What goes out: checked `Message` records, or frames.
It does not know sockets, stores or what a request means.

On the socket a message is `[b"VOID1", header, buffer?]`. The header is a msgpack map with `type`, `request` (an id the
asker makes up; the answer carries the same one) and the fields below. The buffer holds file bytes as they lie on disk,
never inside msgpack. Each end validates what it receives: a missing field, a wrong type or a bound overstepped is a
ProtocolError, an unknown field is ignored, and an unknown type is answered with `error`. Every request may be repeated.

`table_markdown()` prints the tables for people; docs/protocol.md holds a copy and a test compares them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import msgpack  # type: ignore[import-untyped]

from void_server.wire.errors import ProtocolError

PROTOCOL = 2
"""Moves when either end could misread the other, apart from the package's version."""
MAGIC = b"VOID1"
DEFAULT_ADDRESS = "tcp://127.0.0.1:5790"
"""Where a daemon listens, and is asked, that nobody told otherwise."""

Buffer = Union[bytes, bytearray, memoryview]


@dataclasses.dataclass(frozen=True)
class Limit:
    value: int
    meaning: str


LIMITS: dict[str, Limit] = {
    "chunk_bytes": Limit(1 << 20, "file bytes in one message"),
    "header_bytes": Limit(4 << 20, "packed header of one message"),
    "credit": Limit(16, "chunks that may be on their way unanswered, per connection"),
    "files": Limit(10_000, "files of one job, all roles together"),
    "file_bytes": Limit(1 << 32, "size of one file"),
    "text_chars": Limit(4096, "characters of one text field"),
    "map_keys": Limit(64, "keys of one map"),
    "queued_jobs": Limit(200, "unfinished jobs of one owner"),
    "listed_jobs": Limit(500, "jobs in one `jobs_reply`, newest first"),
    "unanswered": Limit(128, "requests of one connection that the daemon works on at a time"),
    "watches": Limit(64, "jobs watched on one connection"),
    "connections": Limit(2000, "connections of one daemon, or as many as it has descriptors for"),
    "half_open": Limit(256, "connections from which nothing was heard yet; beyond that the oldest are cut"),
    "containers": Limit(20_256, "lists and maps in one header, nested ones counted"),
    "crashes": Limit(3, "crashes of a worker or daemon after which a job fails"),
}
"""What both ends hold each other to. A daemon's disk quota and ages are its own (`DaemonConfig`)."""

STATES: dict[str, str] = {
    "receiving": "the daemon keeps the job and waits for its files",
    "queued": "every file is there; waits for a device",
    "running": "a worker computes it",
    "done": "every frame is finished and published",
    "failed": "no clean plate came out; the error says why",
    "cancelled": "somebody cancelled it",
}
FINAL = ("done", "failed", "cancelled")
"""States that a job never leaves."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a header: its type, and the bounds of a number or of the length of a text, list or map."""

    kind: type
    low: int = 0
    high: int = LIMITS["text_chars"].value
    required: bool = True

    def problem(self, value: Any) -> str:
        """What is wrong with `value`, or nothing."""
        if not isinstance(value, (str, int, float, list, dict)) or not isinstance(value, self.kind):
            return f"is {type(value).__name__}, not {self.kind.__name__}"
        if isinstance(value, bool) and self.kind is not bool:
            return "is a truth value"
        size = value if isinstance(value, (int, float)) else len(value)
        # Written so that NaN, which compares with nothing, is out of bounds.
        if not self.low <= size <= self.high:
            return f"is out of bounds ({self.low} to {self.high})"
        return ""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One row of the table: who sends it, with which fields, what answers it and what it is for."""

    sender: str
    fields: Mapping[str, Field]
    answer: str
    meaning: str
    buffer: bool = False


_ID = Field(str, 1, 64)
_MAP = Field(dict, 0, LIMITS["map_keys"].value)
_FILE_INDEX = Field(int, 0, LIMITS["files"].value - 1)
_OFFSET = Field(int, 0, LIMITS["file_bytes"].value)
_FILES = Field(list, 0, LIMITS["files"].value)
_CRC = Field(int, 0, 2**32 - 1)
_FLAG = Field(bool, 0, 1)
_COUNT = Field(int, 0, 2**63 - 1)
_NAME = Field(str, 1, 128)

KINDS: dict[str, Kind] = {
    "hello": Kind(
        "client",
        {"protocols": Field(list, 1, 16), "version": Field(str, 0, 64)},
        "hello_reply",
        "first message of a connection: which protocols the client speaks",
    ),
    "hello_reply": Kind(
        "daemon",
        {
            "protocol": Field(int, 1, 2**16),
            "server_version": Field(str, 0, 64),
            "boot_id": _ID,
            "limits": _MAP,
            "engines": Field(list, 0, 256),
            "devices": Field(list, 0, 64),
            "time": Field(float, 0, 2**53),
            "settings": Field(list, 0, LIMITS["map_keys"].value, required=False),
        },
        "",
        "which protocol is spoken; `boot_id` changes whenever the daemon starts; `settings` names those of a shot that "
        "it knows",
    ),
    "submit": Kind(
        "client",
        {"name": Field(str, 0, 200), "settings": _MAP, "files": Field(list, 1, LIMITS["files"].value)},
        "submit_reply",
        "a shot; `files` rows are [role, frame, name, size, fingerprint, mtime_ns, path]. The request id names the "
        "job: the same id and shot is the same job",
    ),
    "submit_reply": Kind(
        "daemon",
        {"job": _MAP, "offsets": _FILES},
        "",
        "for each file from which byte on it is lacking: -1 = held, -2 = perhaps held, ask with `bind`",
    ),
    "bind": Kind(
        "client",
        {"job": _ID, "files": _FILES},
        "bind_reply",
        "offers files by content; rows are [index, sha256, crc32]",
    ),
    "bind_reply": Kind("daemon", {"lacking": _FILES}, "", "rows are [index, offset] of the files to send after all"),
    "put": Kind(
        "client",
        {"job": _ID, "file": _FILE_INDEX, "offset": _OFFSET, "crc32": dataclasses.replace(_CRC, required=False)},
        "put_reply",
        "a chunk of a file; the last chunk carries the checksum of the whole",
        buffer=True,
    ),
    "put_reply": Kind(
        "daemon",
        {"file": _FILE_INDEX, "offset": _OFFSET, "again": _FLAG},
        "",
        "bytes held; `again` = send on from there. After the last chunk: the file is on the disk, synced",
    ),
    "start": Kind("client", {"job": _ID}, "start_reply", "all files are sent: queue the job"),
    "start_reply": Kind("daemon", {"job": _MAP}, "", "the job's status; the job now survives everything"),
    "status": Kind("client", {"job": _ID}, "status_reply", "asks for one job"),
    "status_reply": Kind("daemon", {"job": _MAP}, "", "the job's status"),
    "jobs": Kind(
        "client",
        {"after": Field(str, 0, 64, required=False), "all": dataclasses.replace(_FLAG, required=False)},
        "jobs_reply",
        "asks for the client's jobs, newest first: those after a job; `all` = everybody's, for administrators",
    ),
    "jobs_reply": Kind(
        "daemon",
        {
            "jobs": Field(list, 0, LIMITS["listed_jobs"].value),
            "more": Field(str, 0, 64, required=False),
        },
        "",
        "their status; `more` = ask again with this `after`",
    ),
    "drop": Kind("client", {"job": _ID}, "drop_reply", "forget a job that is over, and delete its results"),
    "drop_reply": Kind("daemon", {"job": _MAP}, "", "the job's last status"),
    "watch": Kind(
        "client",
        {"job": _ID, "after": _COUNT},
        "watch_reply",
        "asks for the job's events after that number, those to come included",
    ),
    "watch_reply": Kind("daemon", {"job": _MAP}, "", "the job's status; `event` messages follow under this request"),
    "event": Kind(
        "daemon",
        {"job": _ID, "seq": _COUNT, "event": _MAP},
        "",
        "something happened; `seq` counts the job's lasting events, passing progress repeats the last one",
    ),
    "cancel": Kind("client", {"job": _ID}, "cancel_reply", "nobody wants the job any more"),
    "cancel_reply": Kind("daemon", {"job": _MAP}, "", "the job's status"),
    "results": Kind("client", {"job": _ID}, "results_reply", "asks which result files are finished"),
    "results_reply": Kind(
        "daemon",
        {"job": _MAP, "files": Field(list, 0, 4 * LIMITS["files"].value)},
        "",
        "rows are [name, size, sha256]",
    ),
    "get": Kind(
        "client",
        {"job": _ID, "name": _NAME, "offset": _OFFSET, "length": Field(int, 0, LIMITS["chunk_bytes"].value)},
        "get_reply",
        "asks for a piece of a result file",
    ),
    "get_reply": Kind("daemon", {"name": _NAME, "offset": _OFFSET}, "", "the piece", buffer=True),
    "error": Kind(
        "daemon",
        {
            "code": Field(str, 1, 64),
            "message": Field(str, 0, LIMITS["text_chars"].value),
            "hint": Field(str, 0, LIMITS["text_chars"].value),
        },
        "",
        "the request was not done; `frame` and `job` may say where",
    ),
}
"""Every message of the protocol, by its type."""


@dataclasses.dataclass(frozen=True)
class Message:
    """One message as it was received, checked."""

    type: str
    request: str
    fields: dict[str, Any]
    buffer: Optional[Buffer] = None  # noqa: UP045 - evaluated by dataclasses on Python 3.9

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


def pack(type_: str, request: str, fields: Mapping[str, Any] | None = None, buffer: Buffer | None = None) -> list[Any]:
    """Frames of one message, ready to send. Raises ProtocolError if a receiver would refuse it.

    >>> pack("status", "r1", {"job": "j1"})
    [b'VOID1', b'\\x83\\xa4type\\xa6status\\xa7request\\xa2r1\\xa3job\\xa2j1']
    """
    fields = dict(fields or {})
    _check(type_, request, fields, buffer)
    try:
        header = msgpack.packb({"type": type_, "request": request, **fields}, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"A '{type_}' message can't be packed: {error}.", "Use plain values only.") from error
    if len(header) > LIMITS["header_bytes"].value:
        raise ProtocolError(f"The header of a '{type_}' message is {len(header)} bytes.", "Split the shot.")
    return [MAGIC, header] if buffer is None else [MAGIC, header, buffer]


def unpack(frames: Sequence[Buffer]) -> Message:
    """Check the frames of one message. Raises ProtocolError for anything that `pack` could not have made.

    Nothing larger than the frames themselves is ever allocated: each msgpack length is bounded before it is believed.
    """
    if not frames or len(frames) > 3 or bytes(frames[0]) != MAGIC:
        raise ProtocolError(f"{len(frames)} frames that are not a VOID1 message.", "Is this a void-server client?")
    if len(frames) < 2 or len(frames[1]) > LIMITS["header_bytes"].value:
        raise ProtocolError("The message's header is missing or too long.")
    try:
        header = _unpacked(frames[1])
    # The pure-Python and the C unpacker disagree on what they raise for the same noise.
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"The message's header is not msgpack of this protocol: {type(error).__name__}.") from error
    if not isinstance(header, dict):
        raise ProtocolError("The message's header is not a map.")
    type_, request = header.pop("type", None), header.pop("request", None)
    buffer = frames[2] if len(frames) == 3 else None
    _check(type_, request, header, buffer)
    return Message(type_, request, header, buffer)


def checked_row(row: Any, *kinds: type) -> tuple[Any, ...]:
    """A row of a list in a header, as a tuple. Raises ProtocolError unless it holds one value of each kind.

    >>> checked_row(["plate", 7], str, int)
    ('plate', 7)
    """
    if not isinstance(row, list) or len(row) != len(kinds):
        raise ProtocolError(f"A row of {len(kinds)} was expected.", "Update the older of the two ends.")
    for value, kind in zip(row, kinds):
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ProtocolError(f"In a row, {type(value).__name__} stands for {kind.__name__}.")
    return tuple(row)


def request_of(frames: Sequence[Buffer]) -> str:
    """The request id of a message that `unpack` refused, so that the refusal reaches the asker; "" where unreadable."""
    try:
        header = _unpacked(frames[1])
        request = header["request"]
    except Exception:  # noqa: BLE001 - whatever noise this is, the answer is "unreadable"
        return ""
    return request if isinstance(request, str) and len(request) <= _ID.high else ""


def _unpacked(header: Buffer) -> Any:
    """The value of a packed header, each length and the number of containers bounded before it is believed."""
    left = LIMITS["containers"].value

    def counted(container: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("too many lists and maps")
        return container

    return msgpack.unpackb(
        header,
        object_hook=counted,
        list_hook=counted,
        raw=False,
        strict_map_key=True,
        max_str_len=LIMITS["text_chars"].value,
        max_bin_len=0,
        max_array_len=4 * LIMITS["files"].value,
        max_map_len=LIMITS["map_keys"].value,
        max_ext_len=0,
    )


def _check(type_: Any, request: Any, fields: Mapping[str, Any], buffer: Buffer | None) -> None:
    if not isinstance(type_, str) or type_ not in KINDS:
        raise ProtocolError(f"There is no message of type {str(type_)[:40]!r}.", "Update the older of the two ends.")
    if type_ != "error" and (not isinstance(request, str) or _ID.problem(request)):
        raise ProtocolError(f"A '{type_}' message has no usable request id.")
    kind = KINDS[type_]
    for name, field in kind.fields.items():
        if fields.get(name) is None:
            if field.required:
                raise ProtocolError(f"A '{type_}' message lacks '{name}'.")
            continue
        problem = field.problem(fields[name])
        if problem:
            raise ProtocolError(f"In a '{type_}' message, '{name}' {problem}.")
    if kind.buffer != (buffer is not None):
        raise ProtocolError(f"A '{type_}' message {'needs' if kind.buffer else 'takes no'} buffer.")
    if buffer is not None and len(buffer) > LIMITS["chunk_bytes"].value:
        raise ProtocolError(f"The buffer of a '{type_}' message holds {len(buffer)} bytes.")


def table_markdown() -> str:
    """The protocol as three Markdown tables: messages, states, limits. docs/protocol.md carries exactly this text."""
    lines = ["| message | from | fields | answer | meaning |", "|---|---|---|---|---|"]
    for name, kind in KINDS.items():
        fields = [f"`{f}`" + ("" if rule.required else "?") for f, rule in kind.fields.items()]
        fields += ["*buffer*"] if kind.buffer else []
        answer = f"`{kind.answer}`" if kind.answer else ""
        lines.append(f"| `{name}` | {kind.sender} | {', '.join(fields)} | {answer} | {kind.meaning} |")
    lines += ["", "| state | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in STATES.items()]
    lines += ["", "| limit | value | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {limit.value} | {limit.meaning} |" for name, limit in LIMITS.items()]
    return "\n".join(lines) + "\n"
