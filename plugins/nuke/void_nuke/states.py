"""Which state a VoidInpaint node is in, and the words for it.

What comes in: facts that others gathered: the work under way, the record beside the script, the result on disk. What
goes out: one `State` and the line that the node shows. It reads nothing and remembers nothing: a state is worked out
anew each time, so that none can stick after a crash.

    IDLE ─ Remove ─> BAKING ─> SENDING ─> QUEUED ─> RUNNING ─> FETCHING ─> READY ─ input or setting changed ─> STALE
                        │         │          │         │          │          └── files gone ─────────────> MISSING
                        └─────────┴── Cancel ┴─────────┴──────────┘──> CANCELLED      an error anywhere ──> FAILED
                                  └── Nuke or the connection went away ──> DETACHED ── Reattach ──> where it stands
"""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable
from typing import ClassVar, Optional

from void_server.wire.report import share_of_job


class State(enum.Enum):
    IDLE = "no result"
    BAKING = "rendering inputs"
    SENDING = "sending"
    QUEUED = "waiting in the queue"
    RUNNING = "running"
    FETCHING = "fetching"
    CANCELLING = "cancelling"
    READY = "ready"
    STALE = "ready, but inputs or settings changed since"
    MISSING = "the result's files are gone"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DETACHED = "a job was left behind"


ETA_FROM = 10
"""Percent from which on the rest is foretold; earlier, an engine's first steps say little of its last."""

LIVE = (State.BAKING, State.SENDING, State.QUEUED, State.RUNNING, State.FETCHING, State.CANCELLING)
"""States in which work of this session is under way; Remove is refused in them."""

STAGES = {"upload": State.SENDING, "queued": State.QUEUED, "fetch": State.FETCHING}
"""Stages of events that are not the daemon's computing."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about a node. `record` is the newest job's own state, see `results`."""

    live: Optional[State] = None  # noqa: UP045 - evaluated on Python 3.9 by those who ask for type hints
    record: str = ""
    error: str = ""
    has_result: bool = False
    missing_frames: int = 0
    changed: bool = False
    version: int = 0


def judge(facts: Facts) -> State:
    """The one state that matters most to the artist now.

    >>> judge(Facts(has_result=True, changed=True)).name, judge(Facts(record="unfinished", has_result=True)).name
    ('STALE', 'DETACHED')
    """
    if facts.live is not None:
        return facts.live
    if facts.record == "unfinished":
        return State.DETACHED
    if facts.record == "failed":
        return State.FAILED
    if facts.has_result:
        if facts.missing_frames:
            return State.MISSING
        return State.STALE if facts.changed else State.READY
    return State.CANCELLED if facts.record == "cancelled" else State.IDLE


def spoken(facts: Facts, detail: str = "") -> str:
    """The line on the node: state, version, and what to do about it.

    >>> spoken(Facts(record="failed", error="Plate frame 7 is torn. Copy it again."))
    'FAILED: Plate frame 7 is torn. Copy it again.'
    """
    state = judge(facts)
    if state is State.FAILED:
        return f"FAILED: {facts.error or detail}"
    text = {
        State.READY: f"READY: v{facts.version:03d}",
        State.STALE: f"STALE: v{facts.version:03d}; inputs or settings changed since. Press Remove for a new one.",
        State.MISSING: (
            f"MISSING: files of v{facts.version:03d} are not beside this script. Put them back, or press Remove."
        ),
        State.DETACHED: "DETACHED: a job was left behind. Press Reattach to take it up.",
        State.CANCELLED: "CANCELLED",
        State.IDLE: "no result",
    }.get(state, f"{state.name}: {state.value}")
    return f"{text} ({detail})" if detail else text


def noted(facts: Facts, detail: str = "") -> str:
    """What stands under the node's name in the graph: nothing where all is well, else the state at a glance.

    >>> noted(Facts(has_result=True)), noted(Facts(record="failed")), noted(Facts(live=State.RUNNING), "frames 3/8")
    ('', 'FAILED', 'RUNNING frames 3/8')
    """
    state = judge(facts)
    if state in (State.READY, State.IDLE):
        return ""
    return f"{state.name} {detail}".strip()[:NOTE_CHARS] if state in LIVE else state.name


NOTE_CHARS = 48


class Progress:
    """Turns events into a percentage that only grows, and a line: sending 20, computing 70, fetching 10 of a hundred.

    One shot may be several jobs (one a view): `part` of `parts`.
    """

    SPAN: ClassVar = {State.SENDING: (0, 20), State.RUNNING: (20, 90), State.FETCHING: (90, 100)}

    def __init__(self, parts: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.parts = parts
        self._clock = clock
        self._started = clock()
        self.part = 0
        self.percent = 0
        self.state = State.SENDING
        self.line = ""

    def hear(self, stage: str, done: int, total: int) -> None:
        named, _, more = stage.partition(": ")  # "queued: suspended in the Monitor"
        self.state = STAGES.get(named, State.RUNNING)
        share = done / total if total > 0 else 0.0
        if self.state is State.RUNNING:
            share = share_of_job(stage, done, total)
        if self.state in self.SPAN:
            low_percent, high_percent = self.SPAN[self.state]
            inside = low_percent + (high_percent - low_percent) * min(1.0, share)
            self.percent = max(self.percent, min(100, int((self.part * 100 + inside) / self.parts)))
        unit = 1 << 20 if stage in ("upload", "fetch") else 1
        amount = f" {done // unit}/{-(-total // unit)}{' MiB' if unit > 1 else ''}" if total > 0 else ""
        said = f"{self.state.value}{f': {more}' if more else ''}" if named in STAGES else stage
        self.line = f"{said}{amount}" + (f", view {self.part + 1} of {self.parts}" if self.parts > 1 else "")
        self.line += self._left()

    def _left(self) -> str:
        """How long it will take, once that can be told from what is behind."""
        if not ETA_FROM <= self.percent < 100:
            return ""
        left_s = round((self._clock() - self._started) * (100 - self.percent) / self.percent)
        hours, minutes = divmod(left_s // 60, 60)
        return f", ETA {hours}:{minutes:02d}:{left_s % 60:02d}" if hours else f", ETA {minutes}:{left_s % 60:02d}"
