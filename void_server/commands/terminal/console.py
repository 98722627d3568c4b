"""How the command line speaks: a progress bar for people, one JSON object a line for programs, a farm's own words.

What comes in: the events of a Report, results, errors. What goes out: text. It decides nothing and starts nothing.

With `--log-format json` (or `--json`), standard output carries JSON lines only and the last line is the result or the
error. With `deadline` or `openjd`, it carries the messages that these farms listen for. Without either, results go to
standard output, and progress, warnings and errors to standard error. Never a traceback.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from void_server.farm.dialects import UNTOLD, WORDS, Dialect
from void_server.wire.errors import VoidError, to_wire
from void_server.wire.report import SHARES, Event, share_of_job

BYTES = "B"
STAGES: Mapping[str, tuple[str, str]] = {
    "hash": ("reading files", "file"),
    "verify": ("checking what arrived", "file"),
    "mattes": ("looking at the mattes", "frame"),
    "read": ("reading frames", "frame"),
    "look": ("a first look", "frame"),
    "masks": ("masks", "frame"),
    "camera": ("following the camera", "frame"),
    "effects": ("finding what the object did", "frame"),
    "affected": ("writing what the object affected", "frame"),
    "plan": ("choosing where background comes from", "frame"),
    "merge": ("comparing fill and background", "step"),
    "weights": ("model weights", "file"),
    "void": ("the model, first pass", "step"),
    "noise": ("noise for the second pass", "step"),
    "refine": ("the model, second pass", "step"),
    "frames": ("filling and writing clean frames", "frame"),
    "assemble": ("joining chunks", "frame"),
    "sheet": ("contact sheet", "picture"),
    "shots": ("shots", "shot"),
    "quadmask": ("quadmasks", "frame"),
    "convert": ("writing EXR frames", "frame"),
    "movie": ("making a movie", "frame"),
    "upload": ("sending to the daemon", BYTES),
    "fetch": ("fetching from the daemon", BYTES),
    "wheels": ("fetching wheels for the host", "step"),
    "bundle": ("packing the bundle", "step"),
}
"""Stage: what a person is told of it, and what it counts."""
STATES = {
    "queued": "Waiting for a free device; the daemon takes it from here.",
    "running": "A device took it.",
}
DRAWN_EVERY_S = 0.1
LEAST_SHARE, LEAST_S = 0.1, 3.0
"""No time is told before this much of a job is done, and this many seconds have passed: it would be a guess."""

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


def spoken_s(seconds: float) -> str:
    """A length of time as people say it.

    >>> spoken_s(8.2), spoken_s(100), spoken_s(4000)
    ('9 s', '2 min', '1 h 7 min')
    """
    if seconds < 60:
        return f"{int(seconds) + 1} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Console:
    """One command's voice. Closes its progress bar on `close`."""

    def __init__(self, log_format: str = "human", clock: Callable[[], float] = time.monotonic) -> None:
        """log_format: one of `LOG_FORMATS`. clock: seconds, from which the time left is told."""
        # Taken now: libraries print to sys.stdout too, and the command line points that away from what machines read.
        self._stdout = sys.stdout
        self._as_json = log_format == "json"
        self._farm = Dialect(log_format) if log_format in WORDS else None
        self._bar: tqdm[Any] | None = None
        self._stage = ""
        self._told: set[str] = set()
        self._clock = clock
        self._began = clock()
        self._began_stage = self._began
        self._drawn = -DRAWN_EVERY_S
        self._share = 0.0

    @property
    def for_people(self) -> bool:
        """Whether a person reads this, and no program."""
        return not self._as_json and self._farm is None

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
        elif kind == "state" and event.get("state") in STATES:
            self._say(STATES[event["state"]])

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
        part, _, name = stage.rpartition(": ")
        if name in UNTOLD:
            return
        text, unit = STAGES.get(name, (name, "step"))
        text = f"{part}: {text}" if part else text
        if stage != self._stage or self._bar is None or self._bar.total != total:
            self.close()
            self._stage, self._began_stage, self._drawn = stage, self._clock(), -DRAWN_EVERY_S
            # disable=None: no bar where nobody watches (a log file, a pipe); there, each stage is told once
            self._bar = tqdm(
                total=total, desc=text, disable=None, leave=False, file=sys.stderr, dynamic_ncols=True,
                unit=unit if unit == BYTES else f" {unit}s", unit_scale=unit == BYTES,
                bar_format="{desc} |{bar:20}| {n_fmt}/{total_fmt}{unit}{postfix}",
            )  # fmt: skip
            if self._bar.disable and stage not in self._told:
                self._told.add(stage)
                counted = f"{total} {unit}{'s' * (total != 1)}" if unit != BYTES else f"{total / 1e6:.1f} MB"
                self._say(f"{text} ({counted})")
        self._share = max(self._share, share_of_job(name, done, total))
        self._bar.n = done
        if not self._bar.disable and (done >= total or self._clock() >= self._drawn + DRAWN_EVERY_S):
            self._drawn = self._clock()
            self._bar.set_postfix_str(self._outlook(name, done, total))

    def _outlook(self, name: str, done: int, total: int) -> str:
        """How much of the whole is behind, and how long it may still take."""
        if name in SHARES:
            share, passed, of_what = self._share, self._clock() - self._began, f"{self._share:.0%} of all"
        else:
            share, passed, of_what = done / max(1, total), self._clock() - self._began_stage, ""
        left = passed * (1 - share) / share if share >= LEAST_SHARE and passed >= LEAST_S else None
        time_left = f"about {spoken_s(left)} left" if left is not None else ""
        return ", ".join(part for part in (of_what, time_left) if part)

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
