"""Lay one donor frame over the frame to be filled, as exactly as the picture around the hole allows.

What comes in: the target's crop with its hole, a donor's pixels and the camera between the two. What goes out: the
donor seen from the target, where it is valid, and how far off it is. It does not know how many donors there are.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

from void_server.engine import Array
from void_server.engine.propagate.pyramid import spread
from void_server.wire.shot import Window

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)
INNER_PX, OUTER_PX = 10, 24
"""The ring that judges a registration lies within INNER_PX of the hole; motion is measured as far as OUTER_PX beyond."""


@dataclasses.dataclass
class Target:
    """The frame to be filled, on a crop. All arrays [h, w] or [h, w, 3], in code."""

    index: int
    crop: Window
    code: Array
    grey: Array
    hole: Mask
    free: Mask
    """Where the target's own plate shows background."""
    near: Mask
    """The inner ring: free and close to the hole."""


@dataclasses.dataclass
class Donor:
    """One frame's pixels, on its own window. code: float32 [h, w, 3]; free: uint8 [h, w], 255 where background."""

    index: int
    window: Window
    code: Array
    free: npt.NDArray[np.uint8]


@dataclasses.dataclass
class Laid:
    """A donor laid over the target's crop."""

    index: int
    code: Array
    valid: Mask
    error: float
    """Mean absolute difference of code on the inner ring."""
    flow: Array
    """float32 [h, w, 2]: correction of the camera's map, in the target's pixels."""


def target(index: int, crop: Window, code: Array, hole: Mask, free: Mask) -> Target:
    distance = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 3) if hole.any() else None
    near = free & (distance < INNER_PX) if distance is not None else free
    return Target(index, crop, code, code @ WEIGHTS, hole, free, near)


def lay(goal: Target, donor: Donor, between: Matrix, flow: cv2.DISOpticalFlow) -> Laid | None:
    """Register `donor` by several models and keep the one that predicts the ring best; None where they don't meet."""
    shift_in = np.array([[1, 0, goal.crop.x0], [0, 1, goal.crop.y0], [0, 0, 1]], np.float64)
    shift_out = np.array([[1, 0, -donor.window.x0], [0, 1, -donor.window.y0], [0, 0, 1]], np.float64)
    plane = shift_out @ between @ shift_in
    height, width = goal.hole.shape
    still = np.array_equal(between, np.eye(3))
    grid = np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), -1)
    base = _project(plane, grid)
    grey = donor.code @ WEIGHTS
    first = cv2.remap(grey, base, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    valid = _valid(donor, base)
    if not (valid & goal.hole).any():
        return None
    both = valid & goal.free
    options: list[tuple[float, Array]] = [(_error(goal.grey, first, both & goal.near), np.zeros_like(grid))]
    if not still and both.sum() > 400:
        options += _refined(goal, grey, first, plane, grid, both, flow)
    error, best = min(options, key=lambda option: option[0])
    if not best.any():
        places = base
    else:
        places = _project(plane, grid + best)
        valid = _valid(donor, places)
    code = cv2.remap(
        donor.code, places, None, cv2.INTER_NEAREST if still else cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return Laid(donor.index, code, valid, error, best)


def _refined(
    goal: Target, grey: Array, first: Array, plane: Matrix, grid: Array, both: Mask, flow: cv2.DISOpticalFlow
) -> list[tuple[float, Array]]:
    """Corrections found on the free surroundings: a local plane, and that plane plus what flow adds to it."""
    to8 = np.float32(220)
    # Each picture lends the other what it lacks, so that flow sees no edge of a hole and reports no motion there.
    a = np.clip(np.where(goal.free, goal.grey, first) * to8, 0, 255).astype(np.uint8)
    b = np.clip(np.where(both | ~goal.free, first, goal.grey) * to8, 0, 255).astype(np.uint8)
    field = flow.calc(a, b, None)
    sure = cv2.erode(both.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1) > 0
    # The inner ring is kept from the fit, so that it judges how well motion is continued, not how well it is copied.
    outer = sure & ~goal.near
    if outer.sum() < 200:
        outer = sure
    found = []
    for model in ("plane", "flow"):
        trial = _continued(field, outer, grid, model)
        if trial is None:
            continue
        seen = cv2.remap(grey, _project(plane, grid + trial), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        error = _error(goal.grey, seen, both & goal.near)
        final = _continued(field, sure, grid, model)
        if final is not None:
            found.append((error, final))
    return found


def _continued(field: Array, known: Mask, grid: Array, model: str) -> Array | None:
    """Carry the motion measured where `known` into the rest: by one affine map, plus the smooth remainder of flow."""
    rows, columns = np.nonzero(known)
    step = max(1, len(rows) // 4000)
    rows, columns = rows[::step], columns[::step]
    if len(rows) < 100:
        return None
    here, there = grid[rows, columns], grid[rows, columns] + field[rows, columns]
    affine, _ = cv2.estimateAffine2D(here, there, method=cv2.USAC_MAGSAC, ransacReprojThreshold=0.5, maxIters=300)
    if affine is None:
        return None
    smooth = (grid @ affine[:, :2].T.astype(np.float32) + affine[:, 2].astype(np.float32)) - grid
    if model == "plane":
        return np.ascontiguousarray(smooth)
    rest = np.dstack([cv2.medianBlur(np.ascontiguousarray(field[..., k] - smooth[..., k]), 5) for k in (0, 1)])
    return np.ascontiguousarray(smooth + spread(rest, known.astype(np.float32)))


def _project(plane: Matrix, grid: Array) -> Array:
    m = plane.astype(np.float32)
    x, y = grid[..., 0], grid[..., 1]
    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    return np.dstack([(m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth])


def _valid(donor: Donor, places: Array) -> Mask:
    seen = cv2.remap(donor.free, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    out: Mask = seen > 250
    return out


def _error(a: Array, b: Array, where: Mask) -> float:
    if where.sum() < 60:
        return 0.2
    difference = a[where] - b[where]
    return float(np.mean(np.minimum(np.abs(difference - np.median(difference)), 0.15)))
