"""How the command line speaks: a progress bar for people, one JSON object a line for programs, a farm's own words.

What comes in: the events of a Report, results, errors. What goes out: text. It decides nothing and starts nothing.

With `--log-format json` (or `--json`), standard output carries JSON lines only and the last line is the result or the
error. With `deadline` or `openjd`, it carries the messages that these farms listen for. Without either, results go to
standard output, and progress, warnings and errors to standard error. Never a traceback.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from void_server.farm.dialects import WORDS, Dialect
from void_server.wire.errors import VoidError, to_wire
from void_server.wire.report import Event

STAGES = {
    "hash": "reading files",
    "read": "reading frames",
    "affected": "finding what the object affected",
    "upload": "sending frames",
    "queue": "waiting",
    "frames": "frames",
    "fetch": "fetching frames",
    "sheet": "contact sheet",
}

LOG_FORMATS = ("human", "json", *WORDS)


def log_format(words: Sequence[str]) -> str:
    """The format that a command line asks for, found before it is parsed: a wrong flag is told in the right format.

    >>> log_format(["run", "--log-format", "openjd"]), log_format(["run", "--json"]), log_format(["run"])
    ('openjd', 'json', 'human')
    """
    asked = "json" if "--json" in words else "human"
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == "--log-format":
            asked = value if equals else next(iter(words[index + 1 : index + 2]), asked)
    return asked if asked in LOG_FORMATS else "human"


class Console:
    """One command's voice. Closes its progress bar on `close`."""

    def __init__(self, log_format: str = "human") -> None:
        """log_format: one of `LOG_FORMATS`."""
        # Taken now: libraries print to sys.stdout too, and the command line points that away from what machines read.
        self._stdout = sys.stdout
        self._as_json = log_format == "json"
        self._farm = Dialect(log_format) if log_format in WORDS else None
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def on_event(self, event: Event) -> None:
        """Take one event of a Report or of a daemon's job; safe to call from another thread than the main one."""
        kind = event.get("event")
        if self._as_json:
            self._json(event)
        elif self._farm is not None:
            self._out(*self._farm.lines(event))
        elif kind == "progress":
            self._progress(str(event["stage"]), int(event["done"]), int(event["total"]))
        elif kind == "warning":
            self._say(f"warning: {event['message']}")
        elif kind == "note":
            self._say(str(event["message"]))

    def result(self, fields: Mapping[str, Any], text: str) -> None:
        """The command's answer, said last."""
        self.close()
        if self._as_json:
            self._json({"event": "result", **fields})
        elif self._farm is not None:
            self._out(*self._farm.result(text))
        else:
            self._out(text)

    def error(self, error: VoidError) -> None:
        """One line that says what is wrong, and one that says what to do."""
        self.close()
        if self._as_json:
            self._json({"event": "error", **to_wire(error), "exit_status": error.exit_status})
            return
        if self._farm is not None:
            self._out(*self._farm.fail(error))
            return
        frame = f" (frame {error.frame})" if error.frame is not None and str(error.frame) not in error.message else ""
        self._say(f"void-server: {error.message}{frame}")
        if error.hint:
            self._say(f"  hint: {error.hint}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _progress(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or self._bar is None or self._bar.total != total:
            self.close()
            self._stage = stage
            # disable=None: no bar where nobody watches (a log file, a pipe)
            self._bar = tqdm(
                total=total, desc=STAGES.get(stage, stage), disable=None, leave=False, file=sys.stderr, unit="frame"
            )
        self._bar.update(done - self._bar.n)

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def _json(self, fields: Mapping[str, Any]) -> None:
        self._out(json.dumps(fields, default=str))

    def _out(self, *lines: str) -> None:
        # One write a message: lines of two threads don't mix, and a farm reads each as it is said.
        self._stdout.write("".join(f"{line}\n" for line in lines))
        self._stdout.flush()
