"""From the artist's mattes to the alpha with which fill is laid over plate.

What comes in: a matte (1 = remove, soft edges kept), what the object affected, and what passes in front. What goes out:
`change`, exactly 0 where the plate's bits must stay. It knows neither plates nor engines. VOID's quadmask is built
elsewhere, from the same mattes.

Decisions
- Any pixel the matte touches at all is replaced whole: at a soft edge the plate holds light of the object, and laying
  fill over it by the matte's own alpha would leave a ghost of it. The soft edge of the result lies in the grown band.
- Distances are Euclidean, so that a fractional `grow_px` means what it says and corners stay round.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]

MATTE_FLOOR = 1 / 512
"""Below this a matte counts as 0: half the step of an 8-bit matte, so that rounding noise removes nothing."""
AFFECTED_FLOOR = 0.1
"""An affected matte is a soft estimate; below this the plate is closer to the truth than a fill."""


def clean_up(matte: npt.NDArray[np.floating]) -> Array:
    """A matte as read, made fit for use: float32 in [0, 1], non-finite samples 0."""
    fit = matte.astype(np.float32)
    if not np.isfinite(fit).all():
        fit = np.nan_to_num(fit, nan=0.0, posinf=1.0, neginf=0.0)
    return np.clip(fit, 0, 1)


def bounds(mask: npt.NDArray[np.bool_]) -> Window | None:
    """The smallest window that holds every True of [H, W], or None."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return Window(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def grown(mask: npt.NDArray[np.bool_], grow_px: float, feather_px: float) -> Array:
    """Alpha [H, W]: 1 on `mask` and around it, falling to 0 over the last `feather_px` before `grow_px` is reached.

    >>> grown(np.eye(1, 6, dtype=bool), 3, 2)[0].tolist()
    [1.0, 1.0, 0.5, 0.0, 0.0, 0.0]
    """
    if grow_px <= 0 or not mask.any():
        return mask.astype(np.float32)
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    feather = max(min(feather_px, grow_px), 1e-3)
    return np.asarray(np.clip((grow_px - distance) / feather, 0, 1), np.float32)


def change(matte: Array, affected: Array, keep: Array, grow_px: float, feather_px: float) -> Array:
    """The alpha with which fill will be laid over plate, float32 [H, W] in [0, 1], exactly 0 where nothing changes.

    matte, affected, keep: float32 [H, W] in [0, 1], on the same canvas. `keep` wins over both: what passes in front is
    never painted over. Work is confined to the neighbourhood of what is marked.
    """
    marked = (matte > MATTE_FLOOR) | (affected > AFFECTED_FLOOR)
    alpha = np.zeros(matte.shape, np.float32)
    box = bounds(marked)
    if box is None:
        return alpha
    canvas = Window(0, 0, matte.shape[1], matte.shape[0])
    near = box.grow(int(np.ceil(grow_px)) + 1).intersect(canvas).slices(canvas)
    alpha[near] = np.maximum(
        grown(matte[near] > MATTE_FLOOR, grow_px, feather_px),
        grown(affected[near] > AFFECTED_FLOOR, grow_px, feather_px),
    )
    alpha[near] *= 1 - keep[near]
    return alpha
