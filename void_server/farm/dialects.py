"""How long work speaks to a farm: one line a message, in the words that Deadline 10 or Open Job Description listen for.

What comes in: the events of a Report and errors. What goes out: lines of text for standard output. It knows no farm's
files and starts nothing.

Deadline 10 has no words of its own: a plug-in says which lines it listens for. Ours, in
`plugins/deadline/VoidInpaint/VoidInpaint.py`, listens for `VOID_PROGRESS`, `VOID_STATUS`, `VOID_WARNING` and
`VOID_ERROR`. Open Job Description's words are `openjd_progress`, `openjd_status` and `openjd_fail`
(openjd-specifications, wiki "How Jobs Are Run").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from void_server.wire.errors import VoidError
from void_server.wire.report import share_of_job

WORDS: Final = {
    "deadline": {"progress": "VOID_PROGRESS", "status": "VOID_STATUS", "warning": "VOID_WARNING", "fail": "VOID_ERROR"},
    "openjd": {
        "progress": "openjd_progress:",
        "status": "openjd_status:",
        "warning": "openjd_status: warning:",
        "fail": "openjd_fail:",
    },
}

UNTOLD: Final = ("fill",)
"""Stages that alternate with another: a frame that is filled is written next, and told of then."""


class Dialect:
    """Turns events into one farm's lines. Progress never runs backwards, whatever the stages do."""

    def __init__(self, name: str) -> None:
        """name: one of `WORDS`."""
        self._words = WORDS[name]
        self._percent = -1.0
        self._stage = ""

    def lines(self, event: Mapping[str, Any]) -> list[str]:
        """What to print for one event; nothing for events that a farm has no use for."""
        kind = event.get("event")
        if kind == "progress":
            return self._progress(event)
        if kind == "warning":
            return [self._line("warning", event["message"])]
        if kind == "note":
            return [self._line("status", event["message"])]
        return []

    def fail(self, error: VoidError) -> list[str]:
        """The one line by which a task's failure is known in the farm's monitor."""
        frame = f" (frame {error.frame})" if error.frame is not None and str(error.frame) not in error.message else ""
        return [self._line("fail", f"{error.message}{frame} {error.hint}")]

    def result(self, text: str) -> list[str]:
        return [f"{self._words['progress']} 100.0", self._line("status", text)]

    def _progress(self, event: Mapping[str, Any]) -> list[str]:
        stage, done, total = str(event["stage"]), int(event["done"]), max(1, int(event["total"]))
        if stage in UNTOLD:
            return []
        percent = round(100 * share_of_job(stage, done, total), 1)
        # A farm keeps every line for good: one a stage and one a percent say enough, and every finished frame.
        if stage == self._stage and percent < self._percent + 1 and stage not in ("frames", "shots"):
            return []
        self._stage = stage
        frame = f", frame {event['frame']}" if event.get("frame") is not None else ""
        said = [self._line("status", f"{stage} {done}/{total}{frame}")]
        if percent > self._percent:
            self._percent = percent
            said.insert(0, f"{self._words['progress']} {percent:.1f}")
        return said

    def _line(self, word: str, text: object) -> str:
        """One line, whatever the text holds: a second line would be read as a message of its own."""
        return f"{self._words[word]} {' '.join(str(text).split())}"
