"""Work under way: the body of its thread, and how it speaks to Nuke without touching it.

What comes in: three callables of the host: make a progress bar, tell the state, take the outcome. What goes out: calls
of them. It knows neither nodes nor the wire.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol

from void_nuke.results import Record
from void_nuke.states import Progress, State
from void_nuke.work import Outcome

TELL_EVERY_S = 1.0
"""Least time between two lines on the node for the same state; the progress bar is told of everything."""


class Task(Protocol):
    """What is used of Nuke's ProgressTask, which may be made and used in a thread."""

    def setMessage(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: N802
    def setProgress(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: N802
    def isCancelled(self, *args: Any, **kwargs: Any) -> Any: ...  # noqa: N802


@dataclasses.dataclass
class Live:
    """One run. `cancelled` may be set from any thread; the rest belongs to the thread that runs `body`."""

    task: Optional[Callable[[], Task]]  # noqa: UP045 - evaluated on Python 3.9 by those who ask for type hints
    tell: Callable[[State, str], None]
    finish: Callable[[Outcome], None]
    state: State = State.SENDING
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)

    def body(self, records: Callable[[], Sequence[Record]], act: Callable[..., Outcome]) -> None:
        """Run `act` on the records. Nothing leaves it, for then the node would say RUNNING forever."""
        task = self.task() if self.task else None  # closes its bar when this function lets go of it
        told = (State.IDLE, 0.0, "")

        def hear(progress: Progress) -> None:
            nonlocal told
            if task is not None:
                task.setMessage(progress.line)
                task.setProgress(progress.percent)
            now, state, line = time.monotonic(), progress.state, progress.line
            # What a queue says seldom changes, so that a line passed over might never be said again.
            news = state is not told[0] or (state is State.QUEUED and line != told[2])
            if news or now - told[1] > TELL_EVERY_S:
                told = (state, now, line)
                self.tell(progress.state, progress.line)

        def cancelled() -> bool:
            return self.cancelled.is_set() or (task is not None and bool(task.isCancelled()))

        try:
            left = list(records())
            outcome = act(left, hear, cancelled) if left else Outcome(State.IDLE, (), "no job was left behind")
        except Exception as error:  # noqa: BLE001 - see above
            outcome = Outcome(State.FAILED, (), f"{type(error).__name__}: {error}. This is a bug; please report it.")
        self.finish(outcome)
