"""How long work speaks while it runs, and how it hears that nobody wants it any more.

What comes in: two callables, one that takes events and one that says whether the work is cancelled. What goes out:
events as plain maps. It does not know who listens: a progress bar, a worker's pipe, a farm's log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from void_server.wire.errors import JobCancelledError

Event = dict[str, Any]


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
