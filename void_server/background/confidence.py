"""How likely a recovered pixel is right: as donors agree with each other, and with the plate around the hole.

What comes in: what fusing noted of each pixel, and the plate around the hole. What goes out: chances, and how far a
smooth fill is to be preferred. It makes no picture.

The chance is that of all three channels lying within .1 of the truth, as a display shows them: a logistic fit on seven
pasted clips (the tuning half of `bench`), each weighing alike, left out one at a time: of pixels whose chance is above
.95, .96 to 1.0 of each clip that the fit had not seen are right.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.pyramid import spread
from void_server.shot.contract import Array

Mask = npt.NDArray[np.bool_]

LEAST = np.float32(0.005)
MISFIT, SCATTER, INDEPENDENT, AGREEING, BASE = (np.float32(v) for v in (-1.36, -0.72, 2.01, 2.31, -8.63))
"""Of the logarithms of misfit and scatter (code, LEAST added) and of how many count, and of the share that agrees."""
MOST = 14
"""More views than a moving camera's donors were never part of the fit."""
CAUTION = 4.35
"""Confidence is the chance to this power: .8 stands for .95, so that what is called sure nearly always is."""
DEEPENS_PX = 9.0
"""By this depth a smooth fill is about half as wrong again as beside the plate it continues: the root of depth."""
PREFERRED = 4
"""How sharply the better of two expected errors wins."""
LITTLE = 0.1
"""A smaller share of the other is left out: it would only veil detail."""
EVEN_PX = 4.0


def misfit(code: Array, own: Array, ring: Mask) -> Array:
    """float32 [h, w]: by how much a picture misses the plate's own around the hole, in code, and what that lets one
    expect inside. ring: where both are known and nothing is changed."""
    apart = np.abs(code - own).mean(2) * ring
    return spread(apart, ring.astype(np.float32))


def chance(missed: Array, scatter: Array, independent: Array, agreeing: Array) -> Array:
    """float32 in [0, 1]; all of one shape. See `Reconstruction` for what they are.

    >>> clear, alone = (np.array([v], np.float32) for v in (12, 1))
    >>> low, all_of_them = np.array([0.008], np.float32), np.array([1], np.float32)
    >>> [round(float(chance(low, low, n, all_of_them)[0]), 2) for n in (clear, alone)]
    [1.0, 0.94]
    """
    odds = (
        MISFIT * np.log(missed + LEAST)
        + SCATTER * np.log(scatter + LEAST)
        + INDEPENDENT * np.log(np.clip(independent, 1, MOST))
        + AGREEING * agreeing
        + BASE
    )
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))), np.float32)


def cautious(chances: Array) -> Array:
    """Confidence [0, 1] of chances: above .8 only what is right nineteen times in twenty."""
    return np.asarray(chances**CAUTION, np.float32)


def smoother(own: Array, free: Mask, near: Mask, missed: Array, scatter: Array) -> tuple[Array, Array]:
    """(the smooth continuation of the plate [h, w, 3], its share in what is filled [h, w]).

    Both fills are asked what they make of the plate beside the hole, the smooth one without having seen it. own: code;
    free: what is background as it stands, near: the part of it beside the hole;
    missed, scatter: misfit and scatter of the other fill.
    """
    smooth = spread(own, free.astype(np.float32))
    outer = free & ~near
    if not near.any() or not outer.any():
        return smooth, np.zeros(free.shape, np.float32)
    unseen = spread(own, outer.astype(np.float32))
    depth = cv2.distanceTransform((~free).astype(np.uint8), cv2.DIST_L2, 5)
    expected = misfit(unseen, own, near) * np.sqrt(1 + depth / np.float32(DEEPENS_PX))
    ratio = ((missed + scatter) / np.maximum(expected, LEAST)) ** PREFERRED
    share = cv2.GaussianBlur(np.asarray(ratio / (1 + ratio), np.float32), (0, 0), EVEN_PX)
    return smooth, np.where(share < LITTLE, np.float32(0), share).astype(np.float32)
