"""What lies behind everything that moves, over a wide area and at a small size: what effects are compared with.

What comes in: a `Survey`, its `Camera`, a shot. What goes out: light and coverage, inside the hole and around it. It
is quick rather than exact; the fill at plate resolution is made elsewhere.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.flow import Flow
from void_server.background.registration.voting import masked_median, masked_scatter
from void_server.background.spool import Spool
from void_server.background.tracking import donors
from void_server.background.tracking.camera import Camera
from void_server.background.tracking.layers import Layers
from void_server.background.tracking.movers import Movers
from void_server.background.tracking.survey import Survey
from void_server.image.frames import sequence
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.contract import Array, Shot
from void_server.wire.report import Report
from void_server.wire.shot import Window

STILL_FRAMES = 61
MOVING_DONORS, CLEAR_DONORS = 9, 6
WIDE = 40
"""A neighbourhood that moves as one is the picture's width over this."""
KEPT = 96
"""Small frames that are held: donors lie within some 50 frames on either side."""

SUSPECT = 0.7
"""An object's own shadow is looked for this many times its size (root of its area) around it, and is no background."""
STEADY = 0.97
"""A view is trusted this far at least (`Layers.trust`), or does not vote: a passer-by or a rock in front is no
background. Over 26 pasted clips .69 to .98 give overlaps of .695 to .698, with all of them voting it is .689; what is
marked beside six objects without shadow falls from .69 to .56 % of the frame."""
BARE_PX = 3
"""Around a matte this much is its object's blur."""
COARSE = 4
LEVEL_SAMPLES = 20_000
CELL_PX, CELLS = 8, 3
"""Drift of light is measured on cells of this size and taken as the median of so many on every side."""

LEAST = 400
"""Pixels that two frames must share for motion between them to be measured."""

Matrix = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class BackgroundEstimate:
    """What lies behind everything that moves, on one crop of one frame. All float32, of one height and width."""

    rgb: Array
    """[h, w, 3], scene-linear."""
    coverage: Array
    """[h, w], 1 where two views agree on what is there (one, where the camera rests), 0 where nothing is known."""
    scatter: Array
    """[h, w], light by which the views differ from `rgb`, their median deviation in green."""
    clear: Array
    """[h, w], 1 where every view that voted had its object elsewhere; 0 where `rgb` may hold the object's shadow."""
    at_rest: bool
    """Whether the camera rests, so that plate and `rgb` lie pixel on pixel and any deviation is one of light."""
    others: Array
    """[h, w], 1 where the frame shows somebody who moves by himself, not with the object."""


@dataclasses.dataclass(frozen=True)
class _Small:
    """One frame, reduced."""

    code: Array
    free: npt.NDArray[np.bool_]
    bare: npt.NDArray[np.bool_]
    """Free, or denied by nothing but what was found to be affected."""
    near: npt.NDArray[np.bool_]
    """Where its object may have cast a shadow that nobody has found yet."""


class Estimator:
    """Backgrounds of one shot for one state of its masks. `prepare` makes what frames share; without it, it is made as
    it is asked for."""

    def __init__(self, shot: Shot, survey: Survey, camera: Camera, layers: Layers, movers: Movers) -> None:
        self.shot, self.survey, self.camera = shot, survey, camera
        self._still: dict[tuple[int, Window, float], BackgroundEstimate] = {}
        self._held: dict[tuple[int, Window, float], _Small] = {}
        self._reaches: list[int] = []
        self._suspected: Survey | None = None
        self._alone = threading.RLock()
        """Held while something is made that several frames share."""
        self._flow = Flow()
        self._layers = layers
        self._movers = movers
        self._smalls = Spool()

    def prepare(self, frames: Sequence[int], crop: Window, scale: float, report: Report) -> None:
        """Read all frames small, and before a camera at rest make the backgrounds of `frames`, on all cores."""
        check = report.check_cancelled
        self._movers.prepare(check)
        if self.camera.still:
            for scene in sorted({self.camera.scenes[self.survey.index[frame]] for frame in frames}):
                key = (scene, crop, scale)
                self._still[key] = self._at_rest(*key, check)
            return
        self._suspects(check)
        self._layers.prepare(check)
        indices = range(len(self.survey.frames))
        small = functools.partial(self._read, crop=crop, scale=scale)
        for index, one in zip(indices, in_order(small, indices, threads(), check)):
            self._keep_small((index, crop, scale), one)

    def on(self, frame: int, crop: Window, scale: float) -> BackgroundEstimate:
        """See `Background.estimate`: on `crop`, reduced by `scale`. Several threads may ask."""
        index = self.survey.index[frame]
        if self.camera.still:
            key = (self.camera.scenes[index], crop, scale)
            with self._alone:
                if key not in self._still:
                    self._still = {key: self._at_rest(*key)}
                rest = self._still[key]
            height, width = rest.coverage.shape
            return dataclasses.replace(rest, others=self._movers.seen(index, crop, (width, height)))
        return self._in_motion(index, crop, scale)

    def _at_rest(
        self, scene: int, crop: Window, scale: float, check: Callable[[], None] = lambda: None
    ) -> BackgroundEstimate:
        members = [i for i, s in enumerate(self.camera.scenes) if s == scene]
        picks = sequence.evenly(members, STILL_FRAMES)
        self._suspects(check)
        small = functools.partial(self._read, crop=crop, scale=scale)
        views = list(in_order(small, picks, threads(), check))  # each is asked once, so none is held
        height = views[0].free.shape[0]

        def band(rows: slice) -> tuple[Array, npt.NDArray[np.int32], Array, Array]:
            part = [_Small(v.code[rows], v.free[rows], v.bare[rows], v.near[rows]) for v in views]
            ranks = [v.free & ~v.near for v in part], [v.free for v in part], [v.bare for v in part]
            return _voted([v.code for v in part], ranks, 1)

        step = -(-height // (4 * threads()))
        bands = [slice(row, min(height, row + step)) for row in range(0, height, step)]
        voted = list(in_order(band, bands, threads(), check))
        middle, count, scatter, untouched = (np.concatenate(parts) for parts in zip(*voted))
        rest = count == 0
        if rest.any():
            # What is only ever seen in the grown band around a matte is still better than nothing to compare with.
            rows, columns = np.nonzero(rest)
            unmarked = [~self._marked(index, crop, scale)[rows, columns][None] for index in picks]
            second, seen = masked_median([v.code[rows, columns][None] for v in views], unmarked)
            middle[rows, columns], count[rows, columns] = second[0], seen[0]
        return self._behind(middle, (count > 0).astype(np.float32), scatter, untouched)

    def _reach(self, index: int) -> int:
        """How far beyond a frame's matte the shadow of one of its parts may lie, in plate pixels."""
        scale = self.survey.scale / COARSE
        matte = (self.shot.matte(self.survey.frames[index], None, scale) > 0.5).astype(np.uint8)
        areas = cv2.connectedComponentsWithStats(matte, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
        sizes = np.sqrt(areas[areas > 0.1 * areas.max()]) if len(areas) else np.zeros(1)
        return round(SUSPECT * float(sizes.mean()) / scale)

    def _suspects(self, check: Callable[[], None] = lambda: None) -> Survey:
        """The shot's masks with the objects' surroundings masked as well, four times smaller than the survey's."""
        with self._alone:
            if self._suspected is None:
                indices = range(len(self.survey.frames))
                self._reaches = list(in_order(self._reach, indices, threads(), check))
                masks = [self._widened(index) for index in indices]
                self._suspected = dataclasses.replace(
                    self.survey, scale=self.survey.scale / COARSE, grey=[], blocked=masks
                )
            return self._suspected

    def _widened(self, index: int) -> npt.NDArray[np.uint8]:
        blocked = self.survey.blocked[index]
        height, width = (max(1, n // COARSE) for n in blocked.shape)
        small = cv2.resize(blocked, (width, height), interpolation=cv2.INTER_AREA)
        side = 2 * round(self._reaches[index] * self.survey.scale / COARSE) + 1
        return np.asarray(cv2.dilate((small > 8).astype(np.uint8), np.ones((side, side), np.uint8)) * 255, np.uint8)

    def _near(self, index: int, crop: Window, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """bool [h, w], where a frame's object may have cast a shadow that nobody has found yet. size: (w, h)."""
        return _masked(self._suspects(), index, crop, size) > 8

    def _behind(self, code: Array, coverage: Array, scatter: Array, untouched: Array) -> BackgroundEstimate:
        """Back to light: the curve is steep in the dark, so a deviation is taken where its pixel is."""
        light = self.survey.curve.decode(code)
        farther = self.survey.curve.decode(np.ascontiguousarray(np.abs(code[..., 1]) + scatter))
        apart = np.asarray(farther - np.abs(light[..., 1]), np.float32)
        return BackgroundEstimate(light, coverage, apart, untouched, self.camera.still, np.zeros_like(coverage))

    def _marked(self, index: int, crop: Window, scale: float, affected: bool = True) -> npt.NDArray[np.bool_]:
        """Where something stands, and where it affects the scene as well unless that is not asked for."""
        frame = self.survey.frames[index]
        out: npt.NDArray[np.bool_] = self.shot.matte(frame, crop, scale) > 0
        if affected:
            out |= self.shot.affected(frame, crop, scale) > 0
        out |= self.shot.keep(frame, crop, scale) > 0
        out |= self.shot.known(frame, crop, scale) < 1
        return out

    def _small(self, index: int, crop: Window, scale: float) -> _Small:
        key = (index, crop, scale)
        if (key, "code") in self._smalls:
            return self._kept_small(key)
        with self._alone:
            if key not in self._held:
                if len(self._held) >= KEPT:
                    del self._held[next(iter(self._held))]
                self._held[key] = self._read(index, crop, scale)
            return self._held[key]

    def _keep_small(self, key: tuple[int, Window, float], small: _Small) -> None:
        masks = np.dstack([small.free, small.bare, small.near])
        window = Window(0, 0, masks.shape[1], masks.shape[0])
        self._smalls.put((key, "masks"), window, masks)
        self._smalls.put((key, "code"), window, small.code)

    def _kept_small(self, key: tuple[int, Window, float]) -> _Small:
        window = self._smalls.window((key, "code"))
        masks = self._smalls.get((key, "masks"), window).astype(bool)
        return _Small(self._smalls.get((key, "code"), window), masks[..., 0], masks[..., 1], masks[..., 2])

    def _read(self, index: int, crop: Window, scale: float) -> _Small:
        whole = Window(0, 0, self.shot.size[1], self.shot.size[0])
        plate = self.shot.plate(self.survey.frames[index], None if crop == whole else crop, scale)
        size = (plate.shape[1], plate.shape[0])
        free = _masked(self.survey, index, crop, size) < 8
        marked = self._marked(index, crop, scale, affected=False).astype(np.uint8)
        bare = free | (cv2.dilate(marked, np.ones((2 * BARE_PX + 1,) * 2, np.uint8)) == 0)
        return _Small(self.survey.curve.encode(plate), free, bare, self._near(index, crop, size))

    def _in_motion(self, index: int, crop: Window, scale: float) -> BackgroundEstimate:
        """All of the crop, since a reflection may lie far from what it mirrors."""
        own = self._small(index, crop, scale)
        height, width = own.free.shape
        hole = self.shot.hole(self.survey.frames[index])
        nothing = np.zeros((height, width), np.float32)
        picks = self._donors(index, hole) if hole else []
        if not picks:
            return BackgroundEstimate(np.zeros_like(own.code), nothing, nothing, nothing, False, nothing)
        laid, seen, clear, bare = [], [], [], []
        trusts = self._layers.trust(index, picks, crop, (width, height))
        for other, trust, hides in zip(picks, trusts, self._movers.hides(index, picks, crop, (width, height))):
            theirs = self._small(other, crop, scale)
            place = self._place(index, other, crop, (width, height))
            shown, valid = self._warped(own, theirs, place)
            near, hidden = cv2.split(
                cv2.warpPerspective(
                    np.dstack([theirs.near, ~theirs.bare]).astype(np.uint8),
                    place,
                    (width, height),
                    flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
                    borderValue=(1, 1),
                )
            )
            laid.append(shown)
            valid &= ~hides
            steady = valid & (trust > STEADY)
            seen.append(steady)
            clear.append(steady & (near == 0))
            bare.append(valid | ((hidden == 0) & ~hides))
        # One view alone can be anything that moves; two agree or show that they don't.
        least = min(2, len(picks))
        middle, count, scatter, untouched = _voted(laid, (clear, seen, bare), least)
        behind = self._behind(middle, (count >= least).astype(np.float32), scatter, untouched)
        return dataclasses.replace(behind, others=self._movers.seen(index, crop, (width, height)))

    def _donors(self, index: int, hole: Window) -> list[int]:
        """Frames that see the hole, and among them some whose object has left its surroundings."""
        suspects = self._suspects()
        around = hole.grow(self._reaches[index])
        clear = donors.choose(suspects, self.camera, index, around, CLEAR_DONORS)[0]
        others = donors.choose(self.survey, self.camera, index, hole, MOVING_DONORS)[0]
        return [*clear, *(other for other in others if other not in clear)][:MOVING_DONORS]

    def _place(self, index: int, other: int, crop: Window, size: tuple[int, int]) -> Matrix:
        """Pixels of one small frame to those of another, by the camera. size: (w, h)."""
        to_plate = centred(size[0] / crop.width, size[1] / crop.height, crop.x0, crop.y0)
        return np.asarray(np.linalg.inv(to_plate) @ self.camera.between(index, other) @ to_plate, np.float64)

    def _warped(self, own: _Small, theirs: _Small, place: Matrix) -> tuple[Array, npt.NDArray[np.bool_]]:
        """One donor over the target: by the camera, corrected by the motion that is measured around the holes."""
        size = (own.code.shape[1], own.code.shape[0])
        shown, valid, both = _by_camera(own, theirs, place)
        if both.sum() < LEAST:
            return shown, valid
        field = self._flow.between(own.code[..., 1], own.free, shown[..., 1], both)
        # Only what a wide neighbourhood moves by: a shadow's own edge must not be explained away as motion.
        weight = both.astype(np.float32)
        side = max(9, round(size[0] / WIDE) | 1)
        mass = cv2.boxFilter(weight, -1, (side, side), normalize=False) + 1e-3
        field = cv2.boxFilter(field * weight[..., None], -1, (side, side), normalize=False) / mass[..., None]
        grid = np.dstack(np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)))
        shown = np.asarray(
            cv2.remap(shown, grid + field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
        )
        return np.asarray(shown + _drift(own.code - shown, both), np.float32), valid


def _by_camera(
    own: _Small, theirs: _Small, place: Matrix
) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(a donor laid over the target by the camera alone, where it is background, where both are)."""
    size = (own.code.shape[1], own.code.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpPerspective(theirs.code, place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    mask = np.where(theirs.free, 255, 0).astype(np.uint8)
    valid = cv2.warpPerspective(mask, place, size, flags=flags) > 250
    return np.asarray(shown, np.float32), valid, valid & own.free


def _masked(survey: Survey, index: int, crop: Window, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A survey's mask on `crop` at another size (w, h); its edge is repeated, as half its pixels lie beyond."""
    place = np.linalg.inv(centred(survey.scale, survey.scale, 0, 0)) @ centred(
        size[0] / crop.width, size[1] / crop.height, crop.x0, crop.y0
    )
    seen: npt.NDArray[np.uint8] = cv2.warpPerspective(
        survey.blocked[index],
        place,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return seen


def _voted(
    code: list[Array], ranks: tuple[list[npt.NDArray[np.bool_]], ...], least: int
) -> tuple[Array, npt.NDArray[np.int32], Array, Array]:
    """(median, how many views, scatter, where beyond suspicion).

    ranks: which views show a place beyond suspicion, which show it at all, and which do if what was found to be
    affected is not. Each is asked where the one before has fewer than two views, the last where it has fewer than
    `least`: what a first look took for an effect in every frame would else be a hole, and nothing would speak against
    it (a ramp's dark side; soapbox:goat .52 to .70).
    """
    clear, free, bare = ranks
    thin = np.stack(clear).sum(axis=0) < 2
    valid = [np.where(thin, f, c) for f, c in zip(free, clear)]
    lost = np.stack(valid).sum(axis=0) < least
    valid = [np.where(lost, b, v) for b, v in zip(bare, valid)]
    middle, count = masked_median(code, valid)
    return middle, count, masked_scatter(code, valid, middle), (~thin).astype(np.float32)


def _drift(difference: Array, both: npt.NDArray[np.bool_]) -> Array:
    """What light changed over a wide area between two frames: exposure, lens shading, sky. [h, w, 3] or [3], in code.

    The median of wide neighbourhoods, so that a shadow, which fills less than half of one, is not taken for drift.
    """
    height, width = both.shape
    # Every so many-th pixel each way says as much: indexing by a mask takes longest of all.
    step = max(1, int((height * width / LEVEL_SAMPLES) ** 0.5))
    some, there = difference[::step, ::step], both[::step, ::step]
    if not there.any():
        some, there = difference, both
    level = np.array([np.median(channel[there]) for channel in cv2.split(some)], np.float32)
    rows, columns = max(1, height // CELL_PX), max(1, width // CELL_PX)
    weight = cv2.resize(both.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    mean = cv2.transform(difference, np.full((1, 3), 1 / 3, np.float32)) - np.float32(level.mean())
    grey = np.where(both, mean, np.float32(0))
    cells = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)
    cells[weight < 0.3] = np.nan
    padded = np.pad(cells, CELLS, constant_values=np.nan)
    near = np.lib.stride_tricks.sliding_window_view(padded, (2 * CELLS + 1, 2 * CELLS + 1)).reshape(rows, columns, -1)
    seen = np.isfinite(near).sum(2)
    order = np.sort(near, axis=2)
    middle = np.take_along_axis(order, np.maximum(seen // 2, 0)[..., None].clip(max=near.shape[2] - 1), 2)[..., 0]
    field = cv2.GaussianBlur(np.where(seen >= CELLS, np.nan_to_num(middle), 0).astype(np.float32), (0, 0), 1.5)
    wide = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(level + wide[..., None], np.float32)


def centred(scale_x: float, scale_y: float, x: float, y: float) -> Matrix:
    """Pixels of a picture reduced by area averaging to the pixels it was made of; centres lie at +0.5 in both."""
    return np.array(
        [[1 / scale_x, 0, x + (1 / scale_x - 1) / 2], [0, 1 / scale_y, y + (1 / scale_y - 1) / 2], [0, 0, 1]],
        np.float64,
    )
