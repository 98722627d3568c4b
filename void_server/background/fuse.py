"""Make one picture of several donors: robust to what is wrong in some of them, true to the target's light.

What comes in: donors laid over a target. What goes out: one code picture, how much of it is real, and how much grain
it lost. It does not know where donors come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from void_server.background.registration.register import Places, WarpedDonor
from void_server.background.registration.voting import merit, weighted_median
from void_server.shot.contract import Array

SECOND_RANK = 1e-4
"""Weight of what lies in the grown band around a donor's matte: it decides only where nothing else was ever seen."""
NOISE = 0.04
"""Differences of code below this are grain and compression, not another thing: 9 of 220 code values
(0.01 to 0.08 score alike)."""
AT_ONCE = 1 << 15
"""Pixels that are worked on at a time: some megabytes with all their donors, whatever the plate's size."""


@dataclasses.dataclass
class Fused:
    code: Array
    views: npt.NDArray[np.float32]
    """float32 [h, w]: how many donors show the pixel."""
    scatter: Array
    """float32 [h, w]: how far the donors disagree, in code."""
    grainless: Array


@dataclasses.dataclass
class Surroundings:
    """The target's own picture around the hole. code: [h, w, 3] at plate resolution; free, near: bool [h, w]."""

    index: int
    code: Array
    free: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]


def gain(target: Surroundings, laid: WarpedDonor) -> Array:
    """The offset in code, [3], that makes a donor agree with the target's ring; in code an exposure is an offset."""
    ring = target.free & laid.valid
    near = ring & target.near
    ring = near if near.sum() > 400 else ring
    if ring.sum() < 100:
        return np.zeros(3, np.float32)
    return np.asarray(np.median(target.code[ring] - laid.code[ring], axis=0), np.float32)


def fuse(target: Surroundings, donors: Sequence[WarpedDonor], where: npt.NDArray[np.bool_]) -> Fused:
    """Weighted median of all valid donors, then the mean of those that agree with it. Only pixels in `where`."""
    height, width = target.free.shape
    code = np.zeros((height, width, 3), np.float32)
    fused = Fused(code, *(np.zeros((height, width), np.float32) for _ in range(3)))
    rows, columns = np.nonzero(where)
    if not donors or not len(rows):
        return fused
    offsets = [gain(target, d) for d in donors]
    best = min(d.error for d in donors)
    merits = [d.rank * merit(d.error, best, d.index - target.index) for d in donors]
    believed = np.array(merits, np.float32)[:, None]
    for first in range(0, len(rows), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        _fuse_at(fused, donors, offsets, believed, rows[part], columns[part])
    return fused


def _fuse_at(
    fused: Fused,
    donors: Sequence[WarpedDonor],
    offsets: Sequence[Array],
    believed: Array,
    rows: Places,
    columns: Places,
) -> None:
    """Fill in the pixels at rows, columns [P]. offsets: [3] of each donor; believed: [N, 1] its merit."""
    stack = np.stack([d.code[rows, columns] + offset for d, offset in zip(donors, offsets)])
    weight = believed * np.stack(
        [np.where(d.valid[rows, columns], 1, np.where(d.bare[rows, columns], SECOND_RANK, 0)) for d in donors]
    ).astype(np.float32)
    for i, donor in enumerate(donors):
        if donor.trust is not None:
            weight[i] *= donor.trust[rows, columns]
    middle = weighted_median(stack, weight)
    off = np.abs(stack - middle).mean(2)
    agree = weight * np.exp(-((off / NOISE) ** 2) / 2) + np.float32(1e-9) * weight
    total = agree.sum(0)
    known = total > 0
    share = agree / np.maximum(total, 1e-12)
    fused.code[rows, columns] = np.where(known[:, None], (share[..., None] * stack).sum(0), 0)
    fused.views[rows, columns] = (weight > 0).sum(0)
    fused.scatter[rows, columns] = (off * weight).sum(0) / np.maximum(weight.sum(0), 1e-12)
    fused.grainless[rows, columns] = np.where(known, 1 - np.sqrt((share**2).sum(0)), 0)
