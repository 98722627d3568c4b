"""Lay fill over plate where the change alpha says so, and nowhere else.

What comes in: plate, fill and alpha on one window. What goes out: light for the pixels that change; the others are not
this module's to touch, and `image/exr.py` leaves their bytes alone. It knows no file and no engine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def over(plate_lin: npt.NDArray[np.floating], fill_lin: Array, change: Array) -> Array:
    """Fill over plate, in light.

    plate_lin: float [H, W, 3], scene-linear, any finite or non-finite value. fill_lin: float32 [H, W, 3].
    change: float32 [H, W] in [0, 1].

    Where change is exactly 0 the result is the plate, NaN and negative zero included; where it is 1, or where the plate
    has no finite light to blend with, it is the fill.

    >>> plate = np.full((1, 3, 3), np.inf, np.float32)
    >>> over(plate, np.ones((1, 3, 3), np.float32), np.array([[0, 0.5, 1]], np.float32))[0, :, 0].tolist()
    [inf, 1.0, 1.0]
    """
    result = plate_lin.astype(np.float32)
    touched = change > 0
    alpha, below = change[touched][:, None], result[touched]
    blend = np.where(np.isfinite(below), below, fill_lin[touched])
    result[touched] = blend + (fill_lin[touched] - blend) * alpha
    full = change >= 1
    # a + (b - a) * 1 is not always b in float32
    result[full] = fill_lin[full]
    return result


def bounded(fill_lin: Array, floor: float, peak: float) -> Array:
    """Fill with no NaN or Inf and no light outside what the shot itself holds."""
    return np.clip(np.nan_to_num(fill_lin, nan=0.0, posinf=peak, neginf=floor), floor, peak).astype(np.float32)
