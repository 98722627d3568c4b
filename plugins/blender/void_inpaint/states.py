# SPDX-License-Identifier: GPL-3.0-or-later
"""In which state a removal is, and the words and the percentage for it.

What comes in: progress as stage, done and total. What goes out: one `State`, a share of 1 that only grows, a line for
the panel. It reads nothing and knows neither Blender nor a socket.

    PREPARING ──> SENDING ──> QUEUED ──> RUNNING ──> FETCHING ──> LAYING ──> READY
        └────────────┴── Cancel ─┴──────────┴───────────┴── > CANCELLED     an error anywhere ──> FAILED
                     └── Blender or the daemon went away ──> DETACHED ── Reattach ──> where it stands
"""

from __future__ import annotations

import enum

from void_server.wire.report import share_of_job


class State(enum.Enum):
    PREPARING = "rendering frames to send"
    SENDING = "sending"
    QUEUED = "waiting in the queue"
    RUNNING = "running"
    FETCHING = "fetching"
    LAYING = "making the strip"
    READY = "ready"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DETACHED = "a job was left behind"


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


class Progress:
    """One run as the panel shows it.

    >>> progress = Progress()
    >>> progress.hear(State.RUNNING, "frames", 5, 10)
    >>> progress.line, round(progress.share, 2)
    ('frames 5/10', 0.65)
    >>> progress.hear(State.RUNNING, "read", 1, 10)
    >>> round(progress.share, 2)
    0.65
    """

    def __init__(self) -> None:
        self.state = State.PREPARING
        self.share = 0.0
        self.line = ""

    def hear(self, state: State, stage: str = "", done: int = 0, total: int = 0) -> None:
        self.state = state
        part = min(1.0, done / total) if total > 0 else 0.0
        if state is State.RUNNING:
            part = share_of_job(stage, done, total)
        if state in SPAN:
            low, high = SPAN[state]
            self.share = max(self.share, low + (high - low) * part)
        unit = 1 << 20 if state in (State.SENDING, State.FETCHING) else 1
        amount = f" {done // unit}/{-(-total // unit)}{' MiB' if unit > 1 else ''}" if total > 0 else ""
        self.line = f"{stage or state.value}{amount}"
