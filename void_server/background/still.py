"""The background of a camera at rest: one picture per scene, from many frames at once.

What comes in: pixels of many frames on one window, and where their mattes are. What goes out: the background, how many
views made it, and how far they scatter. It does not know the frame that is filled with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.voting import weighted_median
from void_server.shot.contract import Array
from void_server.wire.shot import Window

CLEARANCE_PX = 8
"""Samples count fully this far from any matte: nearer ones carry halos and unpainted shadow (measured on highway)."""
SECOND_RANK = 1e-4
"""Weight of samples in the grown band around a matte: they decide only where nothing else was ever seen."""
BAND_VALUES = 24 << 20
"""Values held at once while frames are compared; sets the height of the bands the window is worked on in."""

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass
class StillBackground:
    """One scene's background on `window`. code [h, w, 3]; the others [h, w]."""

    window: Window
    code: Array
    views: Array
    """Weight of all samples: below 1 only second-rank ones were seen, 0 none."""
    scatter: Array
    """Mean absolute deviation of the samples, in code."""


Read = Callable[[int, Window], tuple[Array, Mask, Mask]]
"""(index, window) -> (code [h, w, 3], free, bare): outside the hole, and outside what the artist marked."""


def still_background(indices: Sequence[int], window: Window, read: Read, tick: Callable[[], None]) -> StillBackground:
    """Weighted median of all `indices` on `window`, in bands so that memory stays bounded. `tick`: per read."""
    code = np.zeros((window.height, window.width, 3), np.float32)
    views, scatter = np.zeros(code.shape[:2], np.float32), np.zeros(code.shape[:2], np.float32)
    band = max(16, BAND_VALUES // max(1, 4 * len(indices) * window.width))
    for top in range(window.y0, window.y1, band):
        inner = Window(window.x0, top, window.x1, min(window.y1, top + band))
        outer = inner.grow(CLEARANCE_PX).intersect(window)
        stack, weights = [], []
        for index in indices:
            tick()
            picture, free, bare = read(index, outer)
            weight = _weight(free, bare)
            part = inner.slices(outer)
            stack.append(picture[part].reshape(-1, 3))
            weights.append(weight[part].ravel())
        values, weight = np.stack(stack), np.stack(weights)
        middle = weighted_median(values, weight)
        total = weight.sum(0)
        off = (np.abs(values - middle).mean(2) * weight).sum(0) / np.maximum(total, 1e-9)
        rows, columns = inner.slices(window)
        shape = (inner.height, inner.width)
        code[rows, columns] = np.where(total[:, None] > 0, middle, 0).reshape(*shape, 3)
        views[rows, columns] = total.reshape(shape)
        scatter[rows, columns] = off.reshape(shape)
    return StillBackground(window, code, views, scatter)


def _weight(free: Mask, bare: Mask) -> Array:
    distance = cv2.distanceTransform(np.pad(bare, 1, constant_values=True).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    near = np.minimum(distance / CLEARANCE_PX, 1) ** 2
    return np.where(free, near, np.where(bare, SECOND_RANK * near, 0)).astype(np.float32)
