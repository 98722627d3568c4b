"""Who else moves: what moves by itself, against the camera and against the object. It is neither background nor effect.

What comes in: a `Survey`, its `Camera`, and the shot's matte. What goes out: per frame, where something moves against
the camera, and which of it does not move with the object. It knows no donors and no effects.

Motion is measured against the camera itself, not against a recovered background: whoever travels with the camera stands
in the same place of every frame, and has long ghosted into any background. Flow alone spreads over flat ground beside
whatever moves, so a place counts only where the picture's fine detail says that standing still explains it badly and
motion explains it well; a shadow has no detail of its own, so one that slides over the ground is none of this.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.pyramid import spread
from void_server.background.tracking.camera import Camera
from void_server.background.tracking.survey import Survey, detail
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.contract import Array, Shot
from void_server.wire.shot import Window

WIDTH = 430
"""Pictures are compared at about this width: a passer-by of a tenth of the frame's height is 24 pixels tall."""
APART = 2
"""Frames between the two pictures that are compared, on either side; what is true of both sides counts."""
MOVES_PX, SPREADS = 1.0, 4.0
"""Something moves by itself by at least so many pixels of the small picture, and so many times the deviation of the
still world's own motion, which parallax and a shaking lens widen."""
BENDS_PX = 2.0
"""Where the fit of the still world's motion begins to doubt a pixel."""
DETAIL_PX, AROUND_PX, CODE = 2.0, 7, 3.0
"""Detail is what lies within DETAIL_PX; it is compared over squares of AROUND_PX, and differs from CODE (of 220) on."""
EXPLAINED = 0.75
"""Share of the difference that motion leaves at most."""
EVIDENT, CERTAIN, SEEDS, LEAST = 0.8, 1.15, 12, 40
"""What is evident counts where it hangs together over LEAST pixels, SEEDS of them certain."""
CLOSED_PX = 31
"""Between evident edges this close, what moves along belongs to the same thing: a black coat has no detail."""
ALIKE, ALIKE_PX, BLENDS_PX = 0.4, 1.5, 8
"""What moves as the nearest part of the object does, to this share of its motion or so many pixels, is left to those
who know effects; so is what blends into standing still, as flow does within BLENDS_PX of the object's edge."""
CLEAR_PX = 16
"""What moves as the object does and lies this near is the object's own rim or effect, which others mask."""
KEPT = 128

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Motion:
    """Of one frame, at the small size."""

    moves: Mask
    """Evidently moving against the camera."""
    by: npt.NDArray[np.float16]
    """[h, w, 2]: by how many pixels in APART frames, the camera's motion taken out."""


class Movers:
    """Asked for any frame in any order, by several threads."""

    def __init__(self, shot: Shot, survey: Survey, camera: Camera) -> None:
        self.shot, self.survey, self.camera = shot, survey, camera
        height, width = survey.grey[0].shape
        self._step = max(1, round(width / WIDTH))
        self._size = max(1, width // self._step), max(1, height // self._step)
        columns, rows = np.meshgrid(*(np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in self._size))
        self._bends = np.dstack([np.ones_like(columns), columns, rows, columns**2, columns * rows, rows**2])
        self._own = threading.local()
        self._kept: list[Bytes] = []
        self._latest = functools.lru_cache(KEPT)(self._found)

    def prepare(self, check: Callable[[], None]) -> None:
        """Find who moves on every frame, on all cores; without it each frame is done as it is asked for."""
        if not self._kept:
            self._kept = list(in_order(self._found, range(len(self.survey.frames)), threads(), check))

    def moving(self, index: int) -> Mask:
        """bool [h, w] at the small size: what moves against the camera."""
        return np.asarray(self._unpacked(index)[0], bool)

    def others(self, index: int) -> Mask:
        """The same, less what moves with the object."""
        return np.asarray(self._unpacked(index)[1], bool)

    def _unpacked(self, index: int) -> npt.NDArray[np.bool_]:
        bits = self._kept[index] if self._kept else self._latest(index)
        width, height = self._size
        return np.unpackbits(bits, count=2 * height * width).reshape(2, height, width).astype(bool)

    def _found(self, index: int) -> Bytes:
        """Both masks of one frame, as bits: those of 500 frames take 13 MB."""
        motion, matte = self._motion(index), self._matte(index)
        others = self._apart_from_object(matte, motion)
        # Around the object flow takes the ground along, and the ground is what is looked for there.
        near = cv2.distanceTransform((~matte).astype(np.uint8), cv2.DIST_L2, 3) < CLEAR_PX
        return np.asarray(np.packbits(np.stack([motion.moves & ~near | others, others])), np.uint8)

    def hides(self, index: int, others: Sequence[int], crop: Window, size: tuple[int, int]) -> Iterator[Mask]:
        """For every donor, by its index, bool on the target's crop at `size` (w, h): where it shows something that
        moves by itself. What stands among passers-by itself may be filled with them."""
        dense = [max(1, round(side * self._scale)) for side in (crop.width, crop.height)]
        columns, rows = (
            np.float32(first) + (np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(side / n)
            for first, side, n in zip((crop.x0, crop.y0), (crop.width, crop.height), dense)
        )
        grid = np.dstack(np.meshgrid(columns, rows)) - np.float32(0.5)
        usual = self._at(self._usual(index), grid)
        for other in others:
            place = cv2.perspectiveTransform(grid, self.camera.between(index, other))
            there = self._at(self.moving(other).astype(np.float32), np.asarray(place, np.float32))
            whole = cv2.resize(there - usual, size, interpolation=cv2.INTER_LINEAR)
            yield np.asarray(whole > 0.5, bool)

    def seen(self, index: int, crop: Window, size: tuple[int, int]) -> Array:
        """float32 [h, w] at `size` (w, h): 1 where a frame shows somebody else."""
        columns, rows = (
            np.float32(first) + (np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(side / n)
            for first, side, n in zip((crop.x0, crop.y0), (crop.width, crop.height), size)
        )
        grid = np.dstack(np.meshgrid(columns, rows)) - np.float32(0.5)
        return self._at(self.others(index).astype(np.float32), grid)

    @property
    def _scale(self) -> float:
        """Pixels of the small picture to one of the plate."""
        return float(self.survey.scale / self._step)

    def _at(self, field: Array, places: Array) -> Array:
        """A small field read at places [h, w, 2] in plate pixels; 0 beyond it."""
        where = (places + np.float32(0.5)) * np.float32(self._scale) - np.float32(0.5)
        return np.asarray(cv2.remap(field, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32)

    def _matte(self, index: int) -> Mask:
        matte = self.shot.matte(self.survey.frames[index], None, self._scale)
        return np.asarray(cv2.resize(matte, self._size, interpolation=cv2.INTER_LINEAR) > 0.2, bool)

    def _usual(self, index: int) -> Array:
        """float32 [h, w]: 1 where the target's hole stands among others who move, carried on from around it."""
        others = self.others(index).astype(np.float32)
        blocked = cv2.resize(self.survey.blocked[index], self._size, interpolation=cv2.INTER_AREA) > 0
        far = cv2.distanceTransform((~blocked).astype(np.uint8), cv2.DIST_L2, 3) > BLENDS_PX
        return spread(others, far.astype(np.float32))

    def _apart_from_object(self, matte: Mask, motion: Motion) -> Mask:
        """Where somebody moves who does not move with the object."""
        count, parts = cv2.connectedComponents(matte.astype(np.uint8))
        if count < 2:
            return motion.moves
        away, nearest = cv2.distanceTransformWithLabels(
            (~matte).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        part_of = np.zeros(int(nearest.max()) + 1, np.intp)
        part_of[nearest[matte]] = parts[matte]
        by = motion.by.astype(np.float32)
        objects = np.array([np.zeros(2), *(np.median(by[parts == i], axis=0) for i in range(1, count))], np.float32)
        objects = objects[part_of[nearest]]
        speed = np.linalg.norm(objects, axis=2)
        room = np.maximum(ALIKE_PX, ALIKE * speed)
        along = np.clip((by * objects).sum(2) / np.maximum(speed**2, 1e-6), 0, 1)
        share = np.where(away < BLENDS_PX, along, 1).astype(np.float32)
        alike = np.linalg.norm(by - share[..., None] * objects, axis=2) < room
        return np.asarray(motion.moves & ~alike & ~matte, bool)

    def _small(self, index: int) -> Bytes:
        return np.asarray(cv2.resize(self.survey.grey[index], self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _motion(self, index: int) -> Motion:
        own = self._small(index)
        free = cv2.resize(self.survey.blocked[index], self._size, interpolation=cv2.INTER_AREA) == 0
        least: Array | None = None
        by, evidence = np.zeros((*own.shape, 2), np.float32), np.zeros(own.shape, np.float32)
        for other in (index - APART, index + APART):
            if not 0 <= other < len(self.survey.frames) or self.camera.scenes[other] != self.camera.scenes[index]:
                continue
            moved, apart, evident = self._against(own, free, index, other)
            nearer = np.ones(own.shape, bool) if least is None else moved < least
            least = moved if least is None else np.minimum(moved, least)
            by = np.where(nearer[..., None], apart * np.float32(np.sign(other - index)), by)
            # Ground that somebody is about to cover, or has just left, is evident on one side of time alone.
            evidence = evident if nearer.all() else np.minimum(evident, evidence)
        if least is None:
            return Motion(np.zeros(own.shape, bool), by.astype(np.float16))
        return Motion(_things(least > 1, evidence), np.clip(by, -6e4, 6e4).astype(np.float16))

    def _against(self, own: Bytes, free: Mask, index: int, other: int) -> tuple[Array, Array, Array]:
        """(motion over what counts as such [h, w], motion [h, w, 2], evidence for it [h, w], 1 at its bound)."""
        to_small = np.diag([self._scale, self._scale, 1.0])
        to_small[0, 2] = to_small[1, 2] = (self._scale - 1) / 2
        place = to_small @ self.camera.between(index, other) @ np.linalg.inv(to_small)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        theirs = cv2.warpPerspective(
            self._small(other), place, self._size, flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        inside = cv2.warpPerspective(np.full_like(own, 255), place, self._size, flags=flags, borderValue=0) > 250
        both = inside & free
        if both.sum() < LEAST:
            none = np.zeros(own.shape, np.float32)
            return none, np.dstack([none, none]), none
        level = float(np.median(own[both].astype(np.int16) - theirs[both]))
        theirs = np.clip(theirs + np.float32(level), 0, 255).astype(np.uint8)
        flow = np.asarray(self._search().calc(own, theirs, None), np.float32)
        fine = detail(own, DETAIL_PX)
        still, deviation = self._still_world(flow, both, cv2.GaussianBlur(np.abs(fine), (0, 0), 3))
        apart = flow - still
        length = np.linalg.norm(apart, axis=2)
        moved = np.where(inside, length / max(MOVES_PX, SPREADS * deviation), 0).astype(np.float32)
        grid = np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in self._size)))
        stays, goes = (
            cv2.blur(np.abs(fine - detail(self._carried(theirs, grid + way), DETAIL_PX)), (AROUND_PX, AROUND_PX))
            for way in (still, flow)
        )
        evident = np.minimum(stays / np.float32(CODE), np.float32(EXPLAINED) * stays / np.maximum(goes, 1e-3))
        return moved, apart, np.where(inside, evident, 0).astype(np.float32)

    def _still_world(self, flow: Array, both: Mask, texture: Array) -> tuple[Array, float]:
        """(what the still world moves by [h, w, 2], its deviation): a bent plane, fitted robustly, where there is
        detail to measure motion by; it begins at the camera's own motion, so that a car that fills the picture is not
        it."""
        rows = self._bends[::8, ::8][both[::8, ::8]]
        seen = flow[::8, ::8][both[::8, ::8]]
        sure = np.minimum(texture[::8, ::8][both[::8, ::8]] / 3, 1) + np.float32(0.05)
        if len(rows) < LEAST:
            return np.zeros_like(flow), 0.0
        weight = sure / (1 + (np.linalg.norm(seen, axis=1) / BENDS_PX) ** 2)
        fitted, deviation = np.zeros((6, 2), np.float32), 0.0
        for _ in range(8):
            fitted = np.linalg.lstsq(rows * weight[:, None], seen * weight[:, None], rcond=None)[0]
            off = np.linalg.norm(seen - rows @ fitted, axis=1)
            order = np.argsort(off)
            mass = np.cumsum(sure[order])
            deviation = max(1.4826 * float(off[order][np.searchsorted(mass, mass[-1] / 2)]), 0.15)
            weight = sure / (1 + (off / (2 * deviation)) ** 2)
        return np.asarray(self._bends @ fitted.astype(np.float32), np.float32), deviation

    def _search(self) -> cv2.DISOpticalFlow:
        search: cv2.DISOpticalFlow | None = getattr(self._own, "search", None)
        if search is None:
            search = self._own.search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return search

    @staticmethod
    def _carried(picture: Bytes, places: Array) -> Bytes:
        return np.asarray(cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _things(moves: Mask, evidence: Array) -> Mask:
    """What moves and evidently so, as whole things."""
    evident = moves & (evidence > EVIDENT)
    opened = cv2.morphologyEx(evident.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    certain = np.bincount(labels[moves & (evidence > CERTAIN)], minlength=count)
    keep = (certain >= SEEDS) & (stats[:, cv2.CC_STAT_AREA] >= LEAST)
    keep[0] = False
    kept = keep[labels].astype(np.uint8)
    if not kept.any():
        return np.zeros(moves.shape, bool)
    wide = cv2.copyMakeBorder(kept, CLOSED_PX, CLOSED_PX, CLOSED_PX, CLOSED_PX, cv2.BORDER_REPLICATE)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CLOSED_PX, CLOSED_PX))
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, disc)[CLOSED_PX:-CLOSED_PX, CLOSED_PX:-CLOSED_PX] > 0
    return np.asarray((closed & moves) | (kept > 0), bool)
