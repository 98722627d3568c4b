"""Lay donor frames over the frame to be filled, as exactly as the surroundings and the donors' own agreement allow.

What comes in: the target's crop with its hole, donors' pixels and the camera between them. What goes out: each donor
seen from the target, where it is valid, and how far off it is. It does not choose donors and makes no picture of them.

Nothing inside the hole tells where a donor belongs: motion measured around it has to be continued. Several models
continue it (the camera's plane, a local affine map, a local plane, smooth flow). The ring around the hole ranks them
roughly; but several donors show the same background, and a model that is right makes them agree.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.flow import Flow
from void_server.background.registration.pyramid import spread
from void_server.background.registration.voting import merit, weighted_median
from void_server.image.colour import REC709_LUMINANCE
from void_server.shot.contract import Array
from void_server.wire.shot import Window

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]

WORK_PIXELS = 70_000
"""Crops are registered at most this large; found motion is scaled up. Half of 150,000 takes half the time; on three
pasted clips the object scores 26.9, 33.7, 24.6 dB instead of 27.1, 33.8, 24.6, the effect the same within .02."""
INNER_PX = 10
"""The ring that judges a continuation lies this close to the hole, in work pixels; motion is measured beyond it."""
BARE = 128
CAP = np.float32(0.15)
"""Differences of code count no more than this: beyond, it is another thing, however bright."""


class Model(enum.IntEnum):
    """How motion measured around a hole is continued into it; in the order in which they are fitted."""

    CAMERA = 0
    AFFINE = 1
    PLANE = 2
    FLOW = 3
    PARALLAX = 4


DISTRUST = {Model.FLOW: 1.15}
"""Factor on a model's ring error: flow always copies the ring better than it continues into the hole."""
FITTED = 600
"""Measured motions that a map is fitted to; 1200 score within 0.1 dB, 4000 within 0.25, and take longer to fit."""
JUDGED, LEAST = 4000, 60
"""Pixels of the ring that a model is judged by, and how few say nothing."""


@dataclasses.dataclass
class Target:
    """The frame to be filled, on a crop, at the size registration works at. Arrays [h, w]."""

    index: int
    crop: Window
    to_plate: Matrix
    """Work pixels to the plate's pixels."""
    grey: Array
    hole: Mask
    free: Mask
    near: Mask
    ring: Places
    """Some of the pixels that are near, enough to judge by; they index flattened arrays."""
    grid: Array
    """float32 [h, w, 2]: every pixel's own x, y."""

    @property
    def scale(self) -> float:
        return 1 / float(self.to_plate[0, 0])


@dataclasses.dataclass
class Donor:
    """One frame's pixels, on its own window. code: float32 [h, w, 3]; free: uint8 [h, w], 255 where background,
    BARE where only the grown band around a matte denies it, 0 where something stands in front."""

    index: int
    window: Window
    code: Array
    free: Bytes
    usable: Bytes | None = None
    """What of it is to be used, where that is less than what it can be registered by."""


@dataclasses.dataclass
class Candidates:
    """One donor under every model that could be fitted; lists run over the models, from `Model.CAMERA` on. Work
    pixels."""

    donor: Donor
    between: Matrix
    plane: Matrix
    """The target's work pixels to the donor's, by the camera alone."""
    grey: Array
    free: Bytes
    """The donor's own picture and mask, at work size."""
    flows: list[Array] = dataclasses.field(default_factory=list)
    """float32 [h, w, 2]: what the model adds to the camera's map, in the target's pixels."""
    greys: list[Array] = dataclasses.field(default_factory=list)
    """float32 [h, w]: the donor's grey code, its level set to the target's ring."""
    levels: list[np.float32] = dataclasses.field(default_factory=list)
    """What was added to set it."""
    valid: list[Mask] = dataclasses.field(default_factory=list)
    errors: list[float] = dataclasses.field(default_factory=list)
    """Mean absolute difference on the inner ring, which the fit has not seen."""

    @property
    def affine(self) -> Array:
        """Motion by an affine map, where one could be fitted."""
        return self.flows[Model.AFFINE]

    @property
    def bent(self) -> Array:
        """Motion as it was measured, smoothly continued."""
        return self.flows[Model.FLOW]

    @property
    def first(self) -> Model:
        """The model to begin with."""
        return min(map(Model, range(len(self.errors))), key=self.doubt)

    def doubt(self, model: Model) -> float:
        """A model's ring error, more for one that is easily too good there."""
        return self.errors[model] * DISTRUST.get(model, 1.0)

    def places(self, grid: Array) -> Array:
        """Where the camera's map takes these pixels [h, w, 2] of the target, in pixels of `grey`."""
        return _project(self.plane, grid)

    def seen(self, places: Array) -> tuple[Array, Mask]:
        """The donor's grey at these pixels of its own, and where it is background there."""
        return seen(self.grey, places), _valid(self.free, places)

    def add(self, target: Target, flow: Array, shown: Array, valid: Mask, error: float) -> None:
        """One more model, and what it shows."""
        apart = _apart(target, shown, valid)
        level = np.float32(np.median(apart)) if len(apart) > LEAST else np.float32(0)
        self.flows.append(flow)
        self.greys.append(shown + level)
        self.levels.append(level)
        self.valid.append(valid)
        self.errors.append(error)


@dataclasses.dataclass
class WarpedDonor:
    """A donor laid over the target's crop at plate resolution."""

    index: int
    code: Array
    valid: Mask
    error: float
    bare: Mask
    """Valid, or in the grown band around a matte of the donor."""
    trust: Array | None = None
    """Weights (0, 1] by pixel; None trusts all of it."""
    painted: bool = False
    """The artist's picture."""
    rank: float = 1.0
    """Factor on its weight: what the artist painted outweighs all that was found."""


def make_target(index: int, crop: Window, grey: Array, hole: Mask, free: Mask) -> Target:
    """Reduce a crop to work size. grey, hole, free: [h, w] at plate resolution."""
    scale = min(1.0, float(np.sqrt(WORK_PIXELS / max(1, crop.width * crop.height))))
    to_plate = _to_plate(crop, scale)
    size = _size(crop, scale)
    small_hole = _shrunk(hole.astype(np.float32), size) > 0
    small_free = _shrunk(free.astype(np.float32), size) > 0.999
    if small_hole.any():
        near = cv2.distanceTransform((~small_hole).astype(np.uint8), cv2.DIST_L2, 3) < INNER_PX
    else:
        near = np.ones(small_hole.shape, bool)
    grid = np.dstack(np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)))
    near &= small_free
    ring = np.flatnonzero(near)
    ring = ring[:: max(1, len(ring) // JUDGED)]
    return Target(index, crop, to_plate, _shrunk(grey, size), small_hole, small_free, near, ring, grid)


def _to_plate(window: Window, scale: float) -> Matrix:
    width, height = _size(window, scale)
    sx, sy = window.width / width, window.height / height
    return np.array([[sx, 0, window.x0 + (sx - 1) / 2], [0, sy, window.y0 + (sy - 1) / 2], [0, 0, 1]], np.float64)


def _size(window: Window, scale: float) -> tuple[int, int]:
    return max(1, round(window.width * scale)), max(1, round(window.height * scale))


def _shrunk(image: Array, size: tuple[int, int]) -> Array:
    if image.shape[1::-1] == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def candidates(target: Target, donor: Donor, between: Matrix, flow: Flow) -> Candidates | None:
    """Fit every model to one donor; None where it shows nothing of the hole."""
    size = _size(donor.window, target.scale)
    grey = _shrunk(donor.code @ REC709_LUMINANCE, size)
    free = np.asarray(cv2.resize(donor.free, size, interpolation=cv2.INTER_AREA), np.uint8)
    plane = np.linalg.inv(_to_plate(donor.window, target.scale)) @ between @ target.to_plate
    candidates = Candidates(donor, between, plane, grey, free)
    first, valid = candidates.seen(candidates.places(target.grid))
    if not (valid & target.hole).any():
        return None
    both = valid & target.free
    candidates.add(target, np.zeros_like(target.grid), first, valid, _error(target, first, both))
    if not np.array_equal(between, np.eye(3)) and both.sum() > 400:
        for trial, final in _models(target, first, both, flow):
            places = candidates.places(target.grid + trial)
            shown = seen(grey, places)
            error = _error(target, shown, both)
            if final is not trial:
                places = candidates.places(target.grid + final)
                shown = seen(grey, places)
            candidates.add(target, final, shown, _valid(free, places), error)
    return candidates


def _models(target: Target, first: Array, both: Mask, flow: Flow) -> list[tuple[Array, Array]]:
    """Continuations of the measured motion, each as (what is judged, what is used): AFFINE, PLANE, FLOW."""
    field = flow.between(target.grey, target.free, first, both)
    sure = cv2.erode(both.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1) > 0
    outer = sure & ~target.near
    if outer.sum() < 200:
        outer = sure
    fitted = _fitted(target, field, sure)
    if fitted is None:
        return []
    stretched, tilted = fitted
    rest = cv2.merge([cv2.medianBlur(axis, 5) for axis in cv2.split(field - stretched)])
    # Of the three only flow could copy the inner ring: it alone is judged by what it makes of the ring unseen.
    trial, bent = (stretched + spread(rest, known.astype(np.float32)) for known in (outer, sure))
    return [(stretched, stretched), (tilted, tilted), (trial, bent)]


def _fitted(target: Target, field: Array, known: Mask) -> tuple[Array, Array] | None:
    """Motion measured where `known`, carried everywhere by an affine map and by a plane; None where too little is."""
    rows, columns = np.nonzero(known)
    step = max(1, len(rows) // FITTED)
    rows, columns = rows[::step], columns[::step]
    if len(rows) < 100:
        return None
    grid = target.grid
    here = grid[rows, columns]
    there = here + field[rows, columns]
    affine, _ = cv2.estimateAffine2D(here, there, method=cv2.USAC_MAGSAC, ransacReprojThreshold=0.5, maxIters=300)
    if affine is None:
        return None
    stretched = cv2.transform(grid, affine) - grid
    plane, _ = cv2.findHomography(here, there, cv2.USAC_MAGSAC, 0.5, maxIters=300)
    tilted = _project(plane, grid) - grid if plane is not None else stretched
    if not np.isfinite(tilted).all() or np.abs(tilted - stretched).max() > 20:
        tilted = stretched
    return np.ascontiguousarray(stretched, np.float32), np.ascontiguousarray(tilted, np.float32)


def settle(target: Target, all_candidates: Sequence[Candidates]) -> list[Array]:
    """For every donor one motion, float32 [h, w, 2]: at each pixel that of the model on which the donors agree best.

    A second round, against what was settled in the first, gains .06 dB and costs 5 % of a frame's time.
    """
    greys = [t.greys[t.first] for t in all_candidates]
    flows = [t.flows[t.first] for t in all_candidates]
    if len(all_candidates) < 3:
        return flows
    valid = np.stack([t.valid[t.first] for t in all_candidates])
    rows, columns = np.nonzero(cv2.dilate(target.hole.astype(np.uint8), np.ones((9, 9), np.uint8)))
    weight = merits(target, all_candidates)[:, None] * valid[:, rows, columns]
    whole = target.grey.copy()
    voted = weighted_median(np.stack([g[rows, columns] for g in greys])[..., None], weight)[:, 0]
    inside = ~target.free[rows, columns]
    whole[rows[inside], columns[inside]] = voted[inside]
    return [_closest(whole, t) if len(t.flows) > 1 else flow for t, flow in zip(all_candidates, flows)]


def merits(target: Target, all_candidates: Sequence[Candidates]) -> Array:
    """The weight of every donor's vote, float32 [N]."""
    best = min(min(t.errors) for t in all_candidates)
    return np.array([merit(min(t.errors), best, t.donor.index - target.index) for t in all_candidates], np.float32)


def _closest(whole: Array, candidates: Candidates) -> Array:
    """The motion of one donor: at every pixel that of the model that comes closest to what was voted."""
    costs = []
    for model, grey in zip(Model, candidates.greys):
        apart = cv2.absdiff(grey, whole)
        _, capped = cv2.threshold(apart, float(CAP), 0, cv2.THRESH_TRUNC, apart)
        costs.append(cv2.add(cv2.blur(capped, (15, 15)), float(np.float32(0.5 * candidates.doubt(model)))))
    motion, least = candidates.flows[0].copy(), costs[0]
    for flow, cost in zip(candidates.flows[1:], costs[1:]):
        cv2.copyTo(flow, cv2.compare(cost, least, cv2.CMP_LT), motion)
        least = cv2.min(least, cost)
    return np.asarray(cv2.blur(motion, (7, 7)), np.float32)


def warp(target: Target, candidates: Candidates, added: Array) -> WarpedDonor:
    """The donor at plate resolution over the target's crop, moved by the camera and by `added` (work pixels)."""
    donor, crop = candidates.donor, target.crop
    plane = np.linalg.inv(_to_plate(donor.window, 1.0)) @ candidates.between @ _to_plate(crop, 1.0)
    grid = target.grid
    if target.scale < 1:
        grid = np.dstack(np.meshgrid(np.arange(crop.width, dtype=np.float32), np.arange(crop.height, dtype=np.float32)))
        added = cv2.resize(added, (crop.width, crop.height), interpolation=cv2.INTER_LINEAR) / np.float32(target.scale)
    places = _project(plane, grid + added)
    exact = np.array_equal(candidates.between, np.eye(3)) and not added.any()
    code = cv2.remap(
        donor.code, places, None, cv2.INTER_NEAREST if exact else cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    usable = donor.free if donor.usable is None else donor.usable
    seen = cv2.remap(usable, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return WarpedDonor(donor.index, np.asarray(code, np.float32), seen > 250, min(candidates.errors), seen >= BARE - 1)


def _project(plane: Matrix, grid: Array) -> Array:
    return np.asarray(cv2.perspectiveTransform(grid, plane), np.float32)


def seen(grey: Array, places: Array) -> Array:
    """A grey picture read at places [h, w, 2], in its own pixels."""
    return np.asarray(cv2.remap(grey, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _valid(free: Bytes, places: Array) -> Mask:
    seen = cv2.remap(free, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(seen > 250, bool)


def _apart(target: Target, shown: Array, valid: Mask) -> Array:
    """The target's grey less the donor's, [n], on the ring where the donor is valid."""
    places = target.ring[valid.ravel()[target.ring]]
    return np.asarray(target.grey.ravel()[places] - shown.ravel()[places], np.float32)


def _error(target: Target, shown: Array, valid: Mask) -> float:
    apart = _apart(target, shown, valid)
    if len(apart) < LEAST:
        return 0.1
    return float(np.mean(np.minimum(np.abs(apart - np.median(apart)), CAP)))
