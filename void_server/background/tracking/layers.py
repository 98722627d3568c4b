"""What strays from the camera's motion: a passer-by, a rock in front. It is no background for what lies behind.

What comes in: a `Survey` and its `Camera`. What goes out: how far off every place of a frame is, on a coarse grid. It
chooses no donors and knows no hole.

Laid over the target by the camera's map, such a thing lands beside the place where it stood, and where few donors see
a pixel no vote outnumbers it. It betrays itself: against its own neighbours in time it lies off as well. Background
that it is about to cover or has just left is off on one side of time alone, so the nearer of the two counts
(double differences: Kameda and Minoh, VSMM 1996).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.pyramid import spread
from void_server.background.tracking.camera import Camera
from void_server.background.tracking.survey import Survey
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.contract import Array
from void_server.wire.shot import Window

Half = npt.NDArray[np.float16]

APART = 2
"""Frames between a picture and the one it is held against: a walk is slow."""
HALF = 2
"""Pictures are compared at half the survey's size, and the answer kept at half of that."""
SIDE = 5
NOISE = np.float32(3)
"""Code values (of 220) that grain and compression differ by where the picture is flat."""
KEPT = 128
PUT_UP, OFF, LEAST = np.float32(1.5), 0.3, np.float32(1e-3)
"""A donor may stray by so many times as much as the hole's surroundings do; OFF pixels beyond it counts half. Over 22
pasted clips OFF .3 gains .06 dB over .2 (.9 on car-roundabout:cows, where a car passes behind; camel:goat loses .2) and
PUT_UP 1.2 loses .09 (1.6 there)."""


class Layers:
    """How far frames stray; asked for any frame in any order, by several threads."""

    def __init__(self, survey: Survey, camera: Camera) -> None:
        self.survey, self.camera = survey, camera
        self._kept: list[Half] = []
        self._latest = functools.lru_cache(KEPT)(self._strays)

    def prepare(self, check: Callable[[], None]) -> None:
        """Find how far every frame of the shot strays, on all cores; without it each is found as it is asked for."""
        if not self._kept:
            found = in_order(self._strays, range(len(self.survey.frames)), threads(), check)
            self._kept = [field.astype(np.float16) for field in found]

    def strays(self, index: int) -> Array:
        """float32 [h, w, 2]: pixels of the halved picture by which each place lies off, and 1 where that is known."""
        return self._kept[index].astype(np.float32) if self._kept else self._latest(index)

    def usual(self, index: int) -> Array:
        """float32 [h, w]: the same, carried on into what is blocked: what must be put up with there."""
        found = self.strays(index)
        return spread(found[..., 0], found[..., 1])

    def trust(self, index: int, others: Sequence[int], crop: Window, size: tuple[int, int]) -> Iterator[Array]:
        """For every donor, by its index, weights (0, 1] on the target's crop, at `size` (w, h): low where it shows
        something that strays by more than the surroundings of the hole do themselves. What stands among passers-by may
        be filled with them.
        """
        # Read twice as densely as the field is, then enlarged: weights need no more, and a 4K crop has millions.
        dense = [max(1, round(side * 2 * self._scale)) for side in (crop.width, crop.height)]
        columns, rows = (
            np.float32(first) + (np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(side / n)
            for first, side, n in zip((crop.x0, crop.y0), (crop.width, crop.height), dense)
        )
        grid = np.dstack(np.meshgrid(columns, rows)) - np.float32(0.5)
        usual = self._at(self.usual(index), grid)
        for other in others:
            place = cv2.perspectiveTransform(grid, self.camera.between(index, other))
            strays = self._at(self.strays(other), np.asarray(place, np.float32))[..., 0]
            off = np.maximum(strays - PUT_UP * usual, 0)
            weight = LEAST + 1 / (1 + (off / np.float32(OFF)) ** 4)
            whole = cv2.resize(weight, size, interpolation=cv2.INTER_LINEAR)
            yield np.asarray(whole, np.float32)

    @property
    def _scale(self) -> float:
        """Places of a field to a pixel of the plate."""
        return self.survey.scale / HALF / 2

    def _at(self, field: Array, places: Array) -> Array:
        """A field of these, read at places [h, w, 2] in plate pixels."""
        scale = np.float32(self._scale)
        where = (places + np.float32(0.5)) * scale - np.float32(0.5)
        return np.asarray(cv2.remap(field, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)

    def _strays(self, index: int) -> Array:
        own, free = self._half(index)
        size = (own.shape[1], own.shape[0])
        slope = np.hypot(cv2.Sobel(own, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(own, cv2.CV_32F, 0, 1, scale=1 / 8))
        nearest = np.full(own.shape, np.inf, np.float32)
        to_half = np.diag([self.survey.scale / HALF, self.survey.scale / HALF, 1.0])
        to_half[0, 2] = to_half[1, 2] = (self.survey.scale / HALF - 1) / 2
        for other in (index - APART, index + APART):
            if not 0 <= other < len(self.survey.frames) or self.camera.scenes[other] != self.camera.scenes[index]:
                continue
            theirs, their_free = self._half(other)
            place = to_half @ self.camera.between(index, other) @ np.linalg.inv(to_half)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            shown = cv2.warpPerspective(theirs, place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            both = free * (cv2.warpPerspective(their_free, place, size, flags=flags, borderValue=0) > 0.99)
            apart = cv2.boxFilter(np.abs(shown - own) * both, -1, (SIDE, SIDE))
            off = apart / (cv2.boxFilter((slope + NOISE) * both, -1, (SIDE, SIDE)) + np.float32(1e-3))
            seen = cv2.boxFilter(both, -1, (SIDE, SIDE)) > 0.2
            nearest = np.where(seen, np.minimum(nearest, off), nearest)
        known = np.isfinite(nearest)
        small = (max(1, size[0] // 2), max(1, size[1] // 2))
        both_ways = np.dstack([np.where(known, nearest, 0), known]).astype(np.float32)
        out = np.asarray(cv2.resize(both_ways, small, interpolation=cv2.INTER_AREA), np.float32)
        out[..., 0] /= np.maximum(out[..., 1], np.float32(1e-3))
        return out

    def _half(self, index: int) -> tuple[Array, Array]:
        grey, blocked = self.survey.grey[index], self.survey.blocked[index]
        size = (max(1, grey.shape[1] // HALF), max(1, grey.shape[0] // HALF))
        small, hidden = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (grey, blocked))
        return small.astype(np.float32), (hidden < 8).astype(np.float32)
