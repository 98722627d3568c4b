"""The embedded engine: brings back the background that other frames show, at plate resolution, on the CPU.

What comes in: a `Shot`. What goes out: one `Fill` per frame with a hole. The stages lie in their own files: survey
(look at all frames, small), camera (follow it), donors, register, fuse, views, exemplar; recovery orders them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from void_server import background
from void_server.background.reconstruct import LARGE_PIXELS
from void_server.engine import Colour, Fill, Needs, Shot
from void_server.engine.propagate.recovery import Recovery
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report

THREADS = 2
"""Frames that are filled at a time, unless their holes are large; OpenCV's own threads use further cores."""


class Propagate:
    """Temporal background recovery; needs no weights and no GPU."""

    name: ClassVar[str] = "propagate"
    needs: ClassVar[Needs] = Needs(colour=Colour.SCENE_LINEAR, devices=("cpu",), memory_bytes=1 << 30)

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, "", "cpu"):
            raise SettingsError(f"Engine 'propagate' can't use device '{device}'.", "Leave --device out, or give cpu.")

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        """See `Engine.fill`. Reads every frame once small, then once at plate resolution around the holes."""
        if shot.options:
            raise SettingsError(
                f"Engine 'propagate' knows no option '{sorted(shot.options)[0]}'.", "Leave the engine's options out."
            )
        work = [frame for frame in shot.wanted if shot.hole(frame) is not None]
        if not work:
            return
        recovery = Recovery(background.of(shot, report))
        try:
            recovery.plan(work, report)
            recovery.collect(report)
            for done, fill in enumerate(_side_by_side(recovery.fill, work, _hands(shot, work))):
                yield fill
                report.progress("fill", done + 1, len(work), fill.frame)
        finally:
            recovery.close()


def _hands(shot: Shot, work: Sequence[int]) -> int:
    """How many frames may be filled at a time."""
    holes = [hole for hole in map(shot.hole, work) if hole is not None]
    return THREADS if max(hole.width * hole.height for hole in holes) <= LARGE_PIXELS else 1


def _side_by_side(fill: Callable[[int], Fill], work: Sequence[int], hands: int) -> Iterator[Fill]:
    """All fills in order, so many at a time as there are hands; none is begun long before it is asked for."""
    with ThreadPoolExecutor(hands, thread_name_prefix="propagate") as pool:
        begun = deque(pool.submit(fill, frame) for frame in work[:hands])
        for frame in work[hands:]:
            yield begun.popleft().result()
            begun.append(pool.submit(fill, frame))
        while begun:
            yield begun.popleft().result()
