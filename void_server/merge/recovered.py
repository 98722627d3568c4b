"""What other frames show behind a hole, at plate resolution: the real pixels that a fill is made of where it may be.

What comes in: a marked shot and frames. What goes out: a `Recovered` per frame with nothing invented. It compares
nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

from void_server import background
from void_server.engine.propagate.recovery import Recovered, Recovery
from void_server.shot.marked import MarkedShot
from void_server.wire.report import Report


def recovered(shot: MarkedShot, frames: Sequence[int], report: Report) -> Generator[Recovered, None, None]:
    """One scene-linear fill for each of `frames`, in order; `coverage` is 0 where nothing was found.

    The same bits whichever frames are asked for.
    """
    ground = background.of(shot, report)
    with contextlib.closing(Recovery(ground, invents=False)) as recovery:
        yield from recovery.recovered(frames, report)
