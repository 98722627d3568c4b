"""Make one picture of several donors: robust to what is wrong in some of them, true to the target's light.

What comes in: donors laid over a target. What goes out: one code picture, how much of it is real, and how much grain
it lost. It does not know where donors come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from void_server.background.log_curve import LogCurve
from void_server.background.registration.register import Places, WarpedDonor
from void_server.background.registration.voting import merit, weighted_median
from void_server.shot.contract import Array

SECOND_RANK = 1e-4
"""Weight of what lies in the grown band around a donor's matte: it decides only where nothing else was ever seen."""
NOISE = 0.04
"""Differences of code below this are grain and compression, not another thing: 9 of 220 code values
(0.01 to 0.08 score alike)."""
SEVERAL = 12
"""What was painted counts as so many donors that agree."""
EXPOSED = 1.25
"""A donor whose light differs by this factor or more was exposed otherwise (a flash, an iris): it is scaled in light,
since in the curve's toe an exposure is no offset. Below, the offset is steadier (a flash of 4: 18.5 dB by offset)."""
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
    independent: Array
    """float32 [h, w]: as how many equal donors those count that voted, however unequal; 1 is one man's word."""
    agreeing: Array
    """float32 [h, w] in [0, 1]: share of the vote that lies within NOISE of what was decided."""


@dataclasses.dataclass
class Surroundings:
    """The target's own picture around the hole. code: [h, w, 3] at plate resolution; free, near: bool [h, w]."""

    index: int
    code: Array
    free: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]
    curve: LogCurve


def gain(target: Surroundings, laid: WarpedDonor) -> Array:
    """The offset in code, [3], that makes a donor agree with the target's ring; in code an exposure is an offset."""
    ring = target.free & laid.valid
    near = ring & target.near
    ring = near if near.sum() > 400 else ring
    if ring.sum() < 100:
        return np.zeros(3, np.float32)
    return np.asarray(np.median(target.code[ring] - laid.code[ring], axis=0), np.float32)


def exposure(target: Surroundings, laid: WarpedDonor) -> Array | None:
    """The factor of light, [3], by which a donor was exposed otherwise than the target's ring; None: it was not."""
    ring = target.free & laid.valid & target.near
    if ring.sum() < 400:
        return None
    ours, theirs = (target.curve.decode(code[ring]) for code in (target.code, laid.code))
    seen = (ours.min(1) > target.curve.toe / 4) & (theirs.min(1) > target.curve.toe / 4)
    if seen.sum() < 400:
        return None
    factor = np.asarray(np.median(ours[seen] / theirs[seen], axis=0), np.float32)
    return factor if (np.abs(np.log(factor)) > np.log(EXPOSED)).all() else None


def fuse(target: Surroundings, donors: Sequence[WarpedDonor], where: npt.NDArray[np.bool_]) -> Fused:
    """Weighted median of all valid donors, then the mean of those that agree with it. Only pixels in `where`."""
    height, width = target.free.shape
    code = np.zeros((height, width, 3), np.float32)
    fused = Fused(code, *(np.zeros((height, width), np.float32) for _ in range(5)))
    rows, columns = np.nonzero(where)
    if not donors or not len(rows):
        return fused
    offsets = [gain(target, d) for d in donors]
    factors = [exposure(target, d) for d in donors]
    best = min(d.error for d in donors)
    merits = [d.rank * merit(d.error, best, d.index - target.index) for d in donors]
    believed = np.array(merits, np.float32)[:, None]
    for first in range(0, len(rows), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        places = rows[part], columns[part]
        views = [_in_our_light(target.curve, d.code[places], o, f) for d, o, f in zip(donors, offsets, factors)]
        _fuse_at(fused, donors, np.stack(views), believed, *places)
    return fused


def _in_our_light(curve: LogCurve, code: Array, offset: Array, factor: Array | None) -> Array:
    """A donor's code [P, 3] as the target was exposed."""
    if factor is None:
        return code + offset
    return curve.encode(curve.decode(code) * factor)


def _fuse_at(
    fused: Fused,
    donors: Sequence[WarpedDonor],
    stack: Array,
    believed: Array,
    rows: Places,
    columns: Places,
) -> None:
    """Fill in the pixels at rows, columns [P]. stack: [N, P, 3], code in the target's light; believed: [N, 1] merit."""
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
    mass = np.maximum(weight.sum(0), 1e-12)
    counts = np.array([[SEVERAL if donor.painted else 1] for donor in donors], np.float32)
    fused.independent[rows, columns] = mass**2 / np.maximum((weight**2 / counts).sum(0), 1e-24)
    fused.agreeing[rows, columns] = (weight * (off < NOISE)).sum(0) / mass
    fused.grainless[rows, columns] = np.where(known, 1 - np.sqrt((share**2).sum(0)), 0)
