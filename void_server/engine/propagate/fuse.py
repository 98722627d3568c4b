"""Make one picture of several donors: robust to what is wrong in some of them, true to the target's light.

What comes in: donors laid over a target. What goes out: one code picture, how much of it is real, and how much grain
it lost. It does not know where donors come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from void_server.engine import Array
from void_server.engine.propagate.register import Laid, Target


@dataclasses.dataclass
class Fused:
    code: Array
    views: npt.NDArray[np.float32]
    """float32 [h, w]: how many donors show the pixel, at most `layers`."""
    scatter: Array
    """float32 [h, w]: how far the donors disagree, in code."""
    grainless: Array


def gain(goal: Target, laid: Laid) -> Array:
    """The offset in code, [3], that makes a donor agree with the target's ring; in code an exposure is an offset."""
    ring = goal.free & laid.valid
    near = ring & goal.near
    ring = near if near.sum() > 400 else ring
    if ring.sum() < 100:
        return np.zeros(3, np.float32)
    return np.median(goal.code[ring] - laid.code[ring], axis=0).astype(np.float32)


def fuse(goal: Target, donors: Sequence[Laid], layers: int = 5) -> Fused:
    """Median of the first `layers` valid donors at every pixel, donors ordered by their error on the ring."""
    height, width = goal.hole.shape
    stack = np.zeros((layers, height, width, 3), np.float32)
    count = np.zeros((height, width), np.int32)
    for laid in sorted(donors, key=lambda d: (d.error, d.index)):
        rows, columns = np.nonzero(laid.valid & (count < layers))
        stack[count[rows, columns], rows, columns] = laid.code[rows, columns] + gain(goal, laid)
        count[rows, columns] += 1
    code = np.zeros((height, width, 3), np.float32)
    scatter = np.zeros((height, width), np.float32)
    for views in range(1, layers + 1):
        where = count == views
        if where.any():
            values = stack[:views, where]
            middle = np.median(values, axis=0)
            code[where] = middle
            scatter[where] = np.abs(values - middle).mean((0, 2))
    grainless = np.where(count > 1, 1 - 1 / np.sqrt(np.maximum(count, 1) * 0.64), 0).astype(np.float32)
    return Fused(code, count.astype(np.float32), scatter, np.clip(grainless, 0, 1))
