"""Every error a person can meet, grouped by who must act.

What comes in: nothing. What goes out: one tree of exceptions, each with a `message` (a fact with its place) and a
`hint` (the remedy), and the two functions that carry them over the wire. It does not know sockets, files or pixels.

    VoidError                    base: code, message, hint, frame, job
    ├── RequestError             the artist can fix it; never retried
    │   ├── SettingsError        a flag or setting is wrong
    │   ├── SequenceError        frames missing, unevenly padded, out of range, or none
    │   ├── PlateError           a plate file can't be read, can't be handled, or changes mid-shot
    │   ├── MatteError           a matte can't be read, is empty, or never meets the plate
    │   ├── ColourError          unknown colour space
    │   ├── OutputError          the output folder can't be used
    │   └── LimitError           longer or larger than this daemon takes
    ├── WireError                the network or the install; safe to retry
    │   ├── UnreachableError     nobody answered in time
    │   ├── RefusedError         the daemon does not admit this client's key
    │   └── ProtocolError        the two ends speak different versions, or noise
    ├── JobError                 accepted, but no clean plate came out
    │   ├── JobNotFoundError     this daemon knows no such job of yours
    │   ├── JobCancelledError    somebody cancelled it
    │   ├── StoreError           the daemon's disk or data folder
    │   └── EngineError          the engine failed
    │       ├── GpuMemoryError   the shot does not fit on the card
    │       └── WeightsError     model weights are missing or damaged
    └── InternalError            our bug; the message says where the log is

Source of the shape: httpx's exception tree (who acts, foreign exceptions translated at one border).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

MOST_CHARS = 4000
"""Longest text of an error that travels or is stored; a little less than `messages.LIMITS["text_chars"]`."""


class VoidError(Exception):
    """Base of every error this project raises on purpose.

    message: a fact with its place, one line. hint: what to do about it, one line. frame: absolute frame number.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 4
    """What a command returns to the shell when this error ends it (design: 2 request, 3 wire, 4 job, 130 cancelled)."""

    def __init__(self, message: str, hint: str = "", *, frame: int | None = None, job: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.frame = frame
        self.job = job

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with args alone and lose hint, frame and job between processes.
        return _rebuild, (type(self), self.message, self.hint, self.frame, self.job)


def _rebuild(cls: type[VoidError], message: str, hint: str, frame: int | None, job: str | None) -> VoidError:
    return cls(message, hint, frame=frame, job=job)


class RequestError(VoidError):
    code = "request"
    exit_status = 2


class SettingsError(RequestError):
    code = "settings"


class SequenceError(RequestError):
    code = "sequence"


class PlateError(RequestError):
    code = "plate"


class MatteError(RequestError):
    code = "matte"


class ColourError(RequestError):
    code = "colour"


class OutputError(RequestError):
    code = "output"


class LimitError(RequestError):
    code = "limit"


class WireError(VoidError):
    code = "wire"
    exit_status = 3


class UnreachableError(WireError):
    code = "unreachable"


class RefusedError(WireError):
    code = "refused"


class ProtocolError(WireError):
    code = "protocol"


class JobError(VoidError):
    code = "job"


class JobNotFoundError(JobError):
    code = "job_not_found"


class JobCancelledError(JobError):
    code = "job_cancelled"
    exit_status = 130


class StoreError(JobError):
    code = "store"


class EngineError(JobError):
    code = "engine"


class GpuMemoryError(EngineError):
    code = "gpu_memory"


class WeightsError(EngineError):
    code = "weights"


class InternalError(VoidError):
    code = "internal"


def tree(root: type[VoidError] = VoidError) -> Iterator[type[VoidError]]:
    """Yield `root` and every class below it, parents first, in order of definition."""
    yield root
    for cls in root.__subclasses__():
        yield from tree(cls)


def bounded(text: str) -> str:
    """A text that fits into a message, cut where it does not.

    >>> bounded("x" * 5000)[-30:]
    'xxx ... (1000 characters more)'
    """
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]} ... ({len(text) - MOST_CHARS} characters more)"


def to_wire(error: VoidError) -> dict[str, Any]:
    """Turn an error into a plain map for a message or a file; never holds a traceback."""
    return {
        "code": error.code,
        "message": _printable(error.message),
        "hint": _printable(error.hint),
        "frame": error.frame,
        "job": error.job,
    }


def _printable(text: str) -> str:
    """A text without what would steer a terminal, or can't travel (undecodable file names); lines stay lines."""
    return bounded("".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text))


def from_wire(fields: Mapping[str, Any]) -> VoidError:
    """Rebuild an error from `to_wire`'s map. A code this version does not know keeps its text as a VoidError."""
    known = {cls.code: cls for cls in tree()}
    cls = known.get(str(fields.get("code")), VoidError)
    frame, job = fields.get("frame"), fields.get("job")
    return cls(
        _printable(str(fields.get("message", ""))),
        _printable(str(fields.get("hint", ""))),
        frame=frame if isinstance(frame, int) and abs(frame) < 2**31 else None,
        job=job if isinstance(job, str) else None,
    )


@contextlib.contextmanager
def about(*, frame: int | None = None, job: str | None = None) -> Iterator[None]:
    """Attach the frame or job to any VoidError that passes, so that raisers need not know it.

    >>> try:
    ...     with about(frame=1042):
    ...         raise PlateError("Plate is truncated.")
    ... except PlateError as error:
    ...     error.frame
    1042
    """
    try:
        yield
    except VoidError as error:
        if error.frame is None:
            error.frame = frame
        if error.job is None:
            error.job = job
        raise
