"""All that an engine drew of a shot, kept on disk at its own size, beside the plate.

What comes in: fills, frame after frame. What goes out: any frame as `Drawn`. It measures and decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.spool import Spool, packed
from void_server.engine import Array, Colour, Fill
from void_server.image import fit
from void_server.merge.reduced import Drawn, Mask
from void_server.merge.smoothing import reduced
from void_server.shot.marked import MarkedShot
from void_server.wire.shot import Window

MOST_PIXELS = 400_000
"""Fills are compared at their own size, or at this one if they are larger; that of a model is 258,000."""
WHOLLY = 0.999
UNASKED = 0.01
CLIPPED = 1 - 1 / 1024
"""A plate of this code may have been clipped by the curve, and says nothing about a fill."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One fill as it is kept: `own` is the size it was given at, `size` the one it is compared at, (height, width)."""

    frame: int
    crop: Window
    own: tuple[int, int]
    size: tuple[int, int]
    whole: bool
    """As large as its crop, and made of real pixels alone."""
    parts: Mapping[str, npt.NDArray[Any]]


class Drawings:
    """Say `put` for every fill, as `made`; then ask in any order. Close it to free the disk."""

    def __init__(self, asked: MarkedShot, colour: Colour) -> None:
        self.asked = asked
        self.frames: list[int] = []
        self.settled = True
        """Whether every fill so far is as large as its crop and made of real pixels alone."""
        self._colour = colour
        self._crops: dict[int, Window] = {}
        self._own: dict[int, tuple[int, int]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._spool = Spool()

    def close(self) -> None:
        self._spool.close()

    def made(self, fill: Fill) -> Drawing:
        """A fill beside the plate at its size; nothing is kept yet, so several processes may be asked."""
        frame, crop = fill.frame, fill.crop
        rgb = self._code(fill.rgb)
        own = (rgb.shape[0], rgb.shape[1])
        size = fitting_size(*own)
        ask = reduced(np.asarray(self.asked.change(frame, crop) > 0, np.float32), size)
        plate = reduced(self._plate(frame, crop), size)
        seen = reduced(self.asked.known(frame, crop), size) >= WHOLLY
        unasked = cv2.erode((ask < UNASKED).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        known = seen & unasked & (plate < CLIPPED).all(-1)
        lacks = np.zeros(own, np.float32) if fill.grainless is None else fill.grainless
        parts = {
            "fill": reduced(rgb, size),
            "plate": plate.astype(np.float16),
            "known": known.astype(np.uint8),
            "asked": np.round(ask * 255).astype(np.uint8),
            "coverage": np.asarray(fill.coverage, np.float32),
            "confidence": np.asarray(fill.confidence, np.float32),
            "grainless": np.asarray(lacks, np.float32),
        }
        if own != size or self._colour is not Colour.ENGINE:
            parts["given"] = np.asarray(fill.rgb, np.float32)
        whole = own == (crop.height, crop.width) and bool((fill.coverage >= 1).all())
        return Drawing(frame, crop, own, size, whole, {name: packed(part) for name, part in parts.items()})

    def put(self, drawing: Drawing) -> None:
        """Keep it. Raises StoreError when the temporary disk is full."""
        frame = drawing.frame
        self.frames.append(frame)
        self._crops[frame], self._own[frame], self._sizes[frame] = drawing.crop, drawing.own, drawing.size
        self.settled &= drawing.whole
        for name, array in drawing.parts.items():
            self._put(name, frame, array)

    def _put(self, name: str, frame: int, array: np.ndarray) -> None:
        self._spool.put((name, frame), Window(0, 0, array.shape[1], array.shape[0]), array)

    def _get(self, name: str, frame: int) -> Array:
        return self._spool.get((name, frame), self._spool.window((name, frame)))

    def crop(self, frame: int) -> Window:
        return self._crops[frame]

    def plate(self, frame: int) -> Array:
        """float32 [H, W, 3]: the frame's crop at plate resolution, in code; its edge goes on beyond the canvas."""
        return self._plate(frame, self._crops[frame])

    def _plate(self, frame: int, crop: Window) -> Array:
        return fit.extend_edges(self.asked.plate(frame, crop, colour=Colour.ENGINE), crop, self.asked.size)

    def known(self, frame: int) -> Mask:
        """bool [H, W]: where the plate shows what the fill should show, at plate resolution."""
        crop = self._crops[frame]
        return np.asarray((self.asked.change(frame, crop) == 0) & (self.asked.known(frame, crop) > 0), bool)

    def drawn(self, frame: int, shot: MarkedShot) -> Drawn:
        """One frame. shot: says what has to be replaced."""
        crop = self._crops[frame]
        fill = self._get("fill", frame)
        hole = reduced(np.asarray(shot.change(frame, crop) > 0, np.float32), (fill.shape[0], fill.shape[1]))
        asked = np.asarray(self._get("asked", frame), np.float32) / np.float32(255)
        known = self._get("known", frame) > 0
        return Drawn(frame, crop, fill, self._get("plate", frame), np.asarray(known, bool), asked, hole)

    def finer(self, frame: int) -> Array | None:
        """float32 [h, w, 3], in code: the fill as the engine gave it, where that is larger than it is compared at."""
        if ("given", frame) not in self._spool or self._own[frame] == self._sizes[frame]:
            return None
        return self._code(self._get("given", frame))

    def _code(self, rgb: Array) -> Array:
        code = rgb if self._colour is Colour.ENGINE else self.asked.engine_space.encode(rgb)
        return np.asarray(np.nan_to_num(code), np.float32)

    def told(self, frame: int, part: Window) -> tuple[Array, Array, Array]:
        """(coverage, confidence, grainless) as the engine told, at plate resolution on `part` of the crop."""
        crop = self._crops[frame]
        own = part.intersect(crop).slices(crop)
        size = (crop.height, crop.width)
        told = (self._get(name, frame) for name in ("coverage", "confidence", "grainless"))
        one, two, three = (fit.resize_soft(array, *size)[own] for array in told)
        return one, two, three

    def whole(self, frame: int) -> Fill:
        """The fill as the engine gave it, in its colour."""
        rgb = self._get("given" if ("given", frame) in self._spool else "fill", frame)
        told = (self._get(name, frame) for name in ("coverage", "confidence", "grainless"))
        return Fill(frame, self._crops[frame], rgb, *told)


def fitting_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which a fill is compared.

    >>> fitting_size(384, 672), fitting_size(2160, 4096)
    ((384, 672), (459, 871))
    """
    scale = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
    return fit.scaled_size(height, width, scale)
