# SPDX-License-Identifier: GPL-3.0-or-later
"""In which state a removal is, how far it is, and how long it will take.

What comes in: progress as stage, done and total. What goes out: one `State`, a share of 1 that only grows, a line for
the panel, the time left. It reads nothing and knows neither Blender nor a socket.

    PREPARING ──> SENDING ──> QUEUED ──> RUNNING ──> FETCHING ──> LAYING ──> READY
        └────────────┴── Cancel ─┴──────────┴───────────┴── > CANCELLED     an error anywhere ──> FAILED
                     └── Blender or the daemon went away ──> DETACHED ── Reattach ──> where it stands
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable

from void_server.wire.report import share_of_job


class State(enum.Enum):
    PREPARING = "Rendering frames to send"
    SENDING = "Sending frames"
    QUEUED = "Waiting in the queue"
    RUNNING = "Working"
    FETCHING = "Fetching clean frames"
    LAYING = "Making the strip"
    READY = "Ready"
    CANCELLED = "Cancelled"
    FAILED = "Failed"
    DETACHED = "A job was left behind"


OVER = (State.READY, State.CANCELLED, State.FAILED, State.DETACHED)

SPAN = {
    State.PREPARING: (0.0, 0.2),
    State.SENDING: (0.2, 0.3),
    State.QUEUED: (0.3, 0.3),
    State.RUNNING: (0.3, 0.85),
    State.FETCHING: (0.85, 0.92),
    State.LAYING: (0.92, 1.0),
}
"""Where in the whole a state lies."""

STAGES = {
    "hash": "Reading frames",
    "read": "Reading frames",
    "mattes": "Reading the matte",
    "masks": "Reading the matte",
    "weights": "Loading the engine",
    "look": "Looking at the shot",
    "camera": "Following the camera",
    "effects": "Finding shadows and reflections",
    "affected": "Finding shadows and reflections",
    "plan": "Looking for the background",
    "void": "Painting all frames",
    "noise": "Painting all frames",
    "refine": "Refining all frames",
    "frames": "Filling frames",
    "assemble": "Filling frames",
    "sheet": "Finishing",
}
"""The stages of a job (`void_server.wire.report.SHARES`) in an editor's words."""

SURE_AFTER_S, SURE_SHARE = 3.0, 0.04
"""Before this much time and work nothing is said about the time left."""


class Progress:
    """One run as the panel shows it.

    >>> now = iter((0.0, 10.0, 70.0)).__next__
    >>> progress = Progress(now)
    >>> progress.hear(State.RUNNING, "frames", 0, 10)
    >>> progress.hear(State.RUNNING, "frames", 5, 10)
    >>> progress.line, round(progress.share, 2), progress.left()
    ('Filling frames 5 of 10', 0.65, 'About 2 min left')
    >>> progress.hear(State.RUNNING, "read", 1, 10)
    >>> round(progress.share, 2)
    0.65
    >>> progress.hear(State.RUNNING, "a-stage-of-tomorrow", 3, 4)
    >>> progress.line
    'Working'
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = State.PREPARING
        self.share = 0.0
        self.line = State.PREPARING.value
        self._clock = clock
        self._began_s = clock()
        self._share_then = 0.0
        """Share when work began that can be measured: a job that was taken up again has most of it behind it."""

    def hear(self, state: State, stage: str = "", done: int = 0, total: int = 0) -> None:
        began = state is State.RUNNING and self.state is not State.RUNNING
        self.state = state
        part = min(1.0, done / total) if total > 0 else 0.0
        if state is State.RUNNING:
            part = share_of_job(stage, done, total)
        if state in SPAN:
            low, high = SPAN[state]
            self.share = max(self.share, low + (high - low) * part)
        if state is State.QUEUED or began:  # the queue and the way there say nothing about the work
            self._began_s, self._share_then = self._clock(), self.share
        unit = 1 << 20 if state in (State.SENDING, State.FETCHING) else 1
        amount = f" {done // unit} of {-(-total // unit)}{' MiB' if unit > 1 else ''}" if total > 1 else ""
        if state is State.RUNNING and stage not in STAGES:
            # A newer daemon, or another's engine, may tell of stages that have no word here; then nobody knows what it
            # counts.
            amount = ""
        self.line = f"{STAGES.get(stage, state.value)}{amount}"

    def left(self, translated: Callable[[str], str] = str) -> str:
        """The time left in words; "" while it can't be told."""
        spent_s, share = self._clock() - self._began_s, self.share - self._share_then
        if self.state in OVER or spent_s < SURE_AFTER_S or share < SURE_SHARE:
            return ""
        return spoken_time(spent_s * (1 - self.share) / share, translated)


def spoken_time(seconds: float, translated: Callable[[str], str] = str) -> str:
    """A time left, as coarse as it is sure.

    >>> spoken_time(4), spoken_time(42), spoken_time(200), spoken_time(9000)
    ('A few seconds left', 'About 40 s left', 'About 3 min left', 'About 2.5 h left')
    """
    if seconds < 10:
        return translated("A few seconds left")
    if seconds < 57.5:
        return translated("About {} s left").format(5 * round(seconds / 5))
    if seconds < 5400:
        return translated("About {} min left").format(max(1, round(seconds / 60)))
    return translated("About {} h left").format(f"{seconds / 3600:.1f}")
