"""The embedded engine: brings back the background that other frames show, at plate resolution, on the CPU.

What comes in: a `Shot`. What goes out: one `Fill` per frame with a hole. The stages lie in their own files: survey
(look at all frames, small), camera (follow it), donors, register, fuse, views, exemplar; recovery orders them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from void_server import background
from void_server.engine.contract import Colour, Fill, Needs, Shot
from void_server.engine.propagate.recovery import Recovery
from void_server.image.frames.sequence import format_frames
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report


class Propagate:
    """Temporal background recovery; needs no weights and no GPU."""

    name: ClassVar[str] = "propagate"
    needs: ClassVar[Needs] = Needs(colour=Colour.SCENE_LINEAR, devices=("cpu",), memory_bytes=1 << 30, merged=False)

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
        ground = background.of(shot, report)
        _say_if_lost(ground, report)
        with contextlib.closing(Recovery(ground)) as recovery:
            for done, fill in enumerate(recovery.fills(work, report)):
                yield fill
                report.progress("fill", done + 1, len(work), fill.frame)


def _say_if_lost(ground: background.Background, report: Report) -> None:
    lost = ground.lost()
    if lost:
        report.warn(
            "camera-lost",
            f"The camera could not be followed on frames {format_frames(lost)}: too little stands still there to "
            "follow it by. What is filled there is a guess; check it, or give a painted --reference frame.",
        )
