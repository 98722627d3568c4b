"""Engines small enough to reason about. What comes in: a Shot. What goes out: fills whose every pixel is known.

`GreyEngine` paints mid-grey light, streaming, at plate resolution. `SmallEngine` is its opposite in everything the
contract allows: it holds the whole shot, works at a third of its size, and answers in the engine's colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from void_server.engine import Array, Availability, Colour, Fill, Needs, Shot
from void_server.wire.report import Report
from void_server.wire.shot import Window

GREY = 0.18


class GreyEngine:
    name: ClassVar[str] = "grey"
    needs: ClassVar[Needs] = Needs()

    def __init__(self, device: str | None = None) -> None:
        self.device = device

    @staticmethod
    def available(device: str | None) -> Availability:
        return Availability(True, "paint is always at hand")

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        for frame in shot.wanted:
            crop = shot.hole(frame)
            if crop is None:
                continue
            report.check_cancelled()
            shape = (crop.height, crop.width)
            yield Fill(frame, crop, np.full((*shape, 3), GREY, np.float32), np.zeros(shape, np.float32),
                       np.ones(shape, np.float32))  # fmt: skip

    def background(self, shot: Shot, frame: int, crop: Window, scale: float, report: Report) -> None:
        return None


class SmallEngine(GreyEngine):
    name: ClassVar[str] = "small"
    needs: ClassVar[Needs] = Needs(colour=Colour.ENGINE)
    scale = 1 / 3

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        whole = Window(0, 0, shot.size[1], shot.size[0])
        seen: list[Array] = [shot.plate(frame, None, self.scale) for frame in shot.frames]
        assert all(picture.min() >= 0 and picture.max() <= 1 for picture in seen)
        middle = np.asarray(np.median(seen, axis=0), np.float32)
        for frame in shot.wanted:
            if shot.hole(frame) is not None:
                ones = np.ones(middle.shape[:2], np.float32)
                yield Fill(frame, whole, middle, ones * 0.5, ones)


class LazyEngine(GreyEngine):
    """Forgets a frame, as no engine should."""

    name: ClassVar[str] = "lazy"

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        return (fill for fill in super().fill(shot, report) if fill.frame != shot.wanted[2])
