"""How the command line speaks: a progress bar for people, one JSON object a line for programs.

What comes in: the events of a Report, results, errors. What goes out: text. It decides nothing and starts nothing.

With `--json`, standard output carries JSON lines only and the last line is the result or the error. Without it, results
go to standard output, and progress, warnings and errors to standard error. Never a traceback.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

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


class Console:
    """One command's voice. Closes its progress bar on `close`."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def on_event(self, event: Event) -> None:
        """Take one event of a Report or of a daemon's job; safe to call from another thread than the main one."""
        if self._as_json:
            self._json(event)
            return
        kind = event.get("event")
        if kind == "progress":
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
        else:
            print(text, flush=True)

    def error(self, error: VoidError) -> None:
        """One line that says what is wrong, and one that says what to do."""
        self.close()
        if self._as_json:
            self._json({"event": "error", **to_wire(error), "exit_status": error.exit_status})
            return
        place = f" (frame {error.frame})" if error.frame is not None and str(error.frame) not in error.message else ""
        print(f"void-server: {error.message}{place}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)

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
        print(text, file=sys.stderr)

    def _json(self, fields: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(fields, default=str) + "\n")
        sys.stdout.flush()
