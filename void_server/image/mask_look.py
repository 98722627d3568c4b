"""What a mask looks like: how much of a frame it marks, how it sits on it, and which of it is noise.

What comes in: one mask on one frame. What goes out: numbers to judge it by, and the value up to which it is haze. It
knows no file, no role and no shot, and refuses nothing.

Codecs, scans and lifted blacks leave values of a few hundredths all over a frame. A soft edge has them too, but beside
what is solid; so haze is what is faint and far from everything that is not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.image.matte import MATTE_FLOOR

Array = npt.NDArray[np.float32]

FAINT = 0.1
"""Up to this a value may be haze: twice the black of legal-range video (16/255), and less than anybody paints."""
FAR_SHARE = 0.03
"""Of the frame's longer side: farther than this from all that is solid, no soft edge is faint."""
FAR_PX = 12
"""At least as far as the blocks of a codec reach (8 pixels, and filters beyond)."""
SOFTER = 4.0
"""A Gaussian edge is 1.3 sigma wide from .5 to FAINT and 1.6 sigma from there to MATTE_FLOOR; a glow has a longer tail.
Haze beside the edges is missed then, but its height is known from elsewhere."""
HAZE_SHARE = 0.0005
"""Of the frame: fewer faint pixels than this, far from all that is solid, are left alone."""
SPECK_PX = 8
GROWN_PX = 3
"""As far as a mask is grown by default before anything is replaced."""
SOLID = 0.999
STEPS = 1024
"""Steps from 0 to 1 at which shares are counted; MATTE_FLOOR is one of them."""


@dataclasses.dataclass(frozen=True)
class Look:
    """One mask on one frame."""

    above: tuple[float, ...]
    """Share of the frame above each of 0, 1 / STEPS, 2 / STEPS and so on to 1."""
    border: float
    """Share of the frame's outermost pixels that are marked."""
    lowest: float
    highest: float
    haze: float
    """The value up to which it is haze; 0 where there is none."""
    specks: int
    """Pieces above FAINT of at most SPECK_PX pixels each: noise makes hundreds, a roto a few."""
    speck_top: float
    """The highest value among them."""
    reach: float
    """Share of the frame within GROWN_PX of anything above FAINT."""

    def share(self, floor: float) -> float:
        """Share of the frame marked above `floor`."""
        return self.above[min(STEPS, math.ceil(floor * STEPS))]

    @property
    def solid(self) -> bool:
        """Whether there is no shape in it: white from edge to edge."""
        return self.lowest >= SOLID


def look_at(mask: Array) -> Look:
    """mask: float32 [H, W] in [0, 1], all of the frame."""
    if not mask.size:
        return Look((0.0,) * (STEPS + 1), 0.0, 0.0, 0.0, 0.0, 0, 0.0, 0.0)
    counts = np.bincount(np.ceil(mask * STEPS).astype(np.uint16).ravel(), minlength=STEPS + 1)
    above = 1 - np.cumsum(counts) / mask.size
    rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return Look(
        tuple(float(share) for share in above),
        float((rim > 0.5).mean()),
        float(mask.min()),
        float(mask.max()),
        haze_of(mask),
        *_specks(mask > FAINT, mask),
    )


def _specks(marked: npt.NDArray[np.bool_], mask: Array) -> tuple[int, float, float]:
    """(specks, speck_top, reach) of a `Look`."""
    if not marked.any():
        return 0, 0.0, 0.0
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8), connectivity=8)
    small = facts[:, cv2.CC_STAT_AREA] <= SPECK_PX
    small[0] = False
    number = int(small.sum())
    top = float(mask[small[pieces]].max()) if number else 0.0
    around = cv2.dilate(marked.astype(np.uint8), np.ones((2 * GROWN_PX + 1, 2 * GROWN_PX + 1), np.uint8))
    return number, top, float(around.mean())


def haze_of(mask: Array) -> float:
    """The value up to which a mask is haze, at most FAINT; 0 where it is clean."""
    faint = (mask > MATTE_FLOOR) & (mask <= FAINT)
    if faint.mean() <= HAZE_SHARE:
        return 0.0
    solid = mask > FAINT
    if solid.any():
        far_px = max(FAR_PX, FAR_SHARE * max(mask.shape), SOFTER * _softness_px(mask, solid))
        faint &= _distance_px(solid) > far_px
    far = mask[faint]
    if len(far) <= HAZE_SHARE * mask.size:
        return 0.0
    # The highest value, unless that is a speck far above all others.
    return min(FAINT, 1.05 * min(float(far.max()), 2 * float(np.percentile(far, 99))))


def _softness_px(mask: Array, solid: npt.NDArray[np.bool_]) -> float:
    """How wide the edges are, from half the mask's height down to FAINT."""
    core = mask > max(FAINT, float(mask.max()) / 2)
    edge = solid & ~core
    return float(np.percentile(_distance_px(core)[edge], 95)) if edge.any() and core.any() else 0.0


def _distance_px(mask: npt.NDArray[np.bool_]) -> Array:
    """Distance of every pixel to the nearest one that is set."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3), np.float32)


def floor_of(looks: Sequence[Look]) -> float:
    """The value up to which a sequence of masks is nothing: MATTE_FLOOR for clean ones."""
    return max([MATTE_FLOOR, *(look.haze for look in looks)])
