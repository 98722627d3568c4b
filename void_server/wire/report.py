"""How long work speaks while it runs, how much of it is done, and how it hears that nobody wants it any more.

What comes in: two callables, one that takes events and one that says whether the work is cancelled. What goes out:
events as plain maps, and the share of a job that one of them means. It does not know who listens: a progress bar, a
worker's pipe, a farm's log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from void_server.wire.errors import JobCancelledError

Event = dict[str, Any]


class ShotWarning(NamedTuple):
    """Something the artist must know about a result: in the manifest, on the terminal, in a host's panel."""

    code: str
    """A stable name for programs, such as "matte-haze"."""
    message: str


def _nobody_listens(event: Event) -> None:
    pass


def _never() -> bool:
    return False


class Report:
    """Carries progress out of long work and cancel into it. Calls never block for longer than the listener does."""

    def __init__(
        self, on_event: Callable[[Event], None] = _nobody_listens, cancelled: Callable[[], bool] = _never
    ) -> None:
        self._on_event = on_event
        self._cancelled = cancelled

    def progress(self, stage: str, done: int, total: int, frame: int | None = None) -> None:
        """Say that `done` of `total` steps of `stage` are finished. Raises JobCancelledError once cancelled."""
        self._on_event({"event": "progress", "stage": stage, "done": done, "total": total, "frame": frame})
        self.check_cancelled()

    def warn(self, code: str, message: str) -> None:
        """Say something the artist must know about the result; it also lands in the manifest."""
        self._on_event({"event": "warning", "code": code, "message": message})

    def noting(self, heard: Callable[[ShotWarning], None]) -> Report:
        """The same, and `heard` is told every warning said through it."""

        def on_event(event: Event) -> None:
            if event.get("event") == "warning":
                heard(ShotWarning(str(event["code"]), str(event["message"])))
            self._on_event(event)

        return Report(on_event, self._cancelled)

    def note(self, message: str) -> None:
        """Say something for the log: which engine was chosen and why, which donors served."""
        self._on_event({"event": "note", "message": message})

    def frame_done(self, frame: int) -> None:
        """Say that a frame's files are finished and lie under their final names."""
        self._on_event({"event": "frame", "frame": frame})

    def forward(self, event: Event) -> None:
        """Pass on an event that other work said, as it is."""
        self._on_event(event)

    def is_cancelled(self) -> bool:
        """Whether nobody wants the result any more, for those who can't be raised through."""
        return self._cancelled()

    def within(self, name: str) -> Report:
        """A Report for one part of larger work: it says the same under the part's name, and hears the same cancel."""

        def named(event: Event) -> None:
            kind = event.get("event")
            if kind == "progress":
                event = {**event, "stage": f"{name}: {event['stage']}"}
            elif kind in ("warning", "note"):
                event = {**event, "message": f"{name}: {event['message']}"}
            self._on_event(event)

        return Report(named, self._cancelled)

    def check_cancelled(self) -> None:
        """Raise JobCancelledError if nobody wants the result any more. Long loops call this at least every second."""
        if self._cancelled():
            raise JobCancelledError("Cancelled.", "Frames finished before stay where they are.")


SHARES: Final = {
    "hash": (0, 1),
    "mattes": (1, 2),
    "read": (2, 8),
    "weights": (8, 12),
    "look": (8, 10),
    "masks": (10, 12),
    "camera": (12, 18),
    "effects": (18, 28),
    "plan": (28, 30),
    "affected": (18, 30),
    "void": (12, 55),
    "noise": (55, 57),
    "refine": (57, 95),
    "frames": (30, 97),
    "assemble": (2, 97),
    "sheet": (97, 100),
    "shots": (0, 100),
}
"""Which part of 0 to 100 each stage takes. Engine propagate's as measured: its frames cost most. Engine void's by the
steps of its two passes (30 and 50); it draws all frames at once, and they are only written after."""


def share_of_job(stage: str, done: int, total: int) -> float:
    """The share [0, 1] of a job that is behind it, so that a node, a panel and a farm's monitor show the same percent.

    0 where the stage is not known, as of another's engine. Stages may alternate, and engines leave some out: whoever
    shows it keeps the largest.

    >>> share_of_job("frames", 5, 10), share_of_job("sheet", 1, 1), share_of_job("tea", 1, 2)
    (0.635, 1.0, 0.0)
    """
    low, high = SHARES.get(stage, (0, 0))
    return (low + (high - low) * min(1.0, done / max(1, total))) / 100
