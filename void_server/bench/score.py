"""How far a result is from a known clean plate, region by region.

What comes in: light of result and truth, and masks. What goes out: decibels and counts. It reads no files.

Object, effect and keep are scored apart: a score over the whole frame rewards leaving things in, since most of it never
changed (the warning of PROVE, arXiv 2605.14534).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from void_server.image.colour import srgb_encode

Array = npt.NDArray[np.floating]

FEWEST_PIXELS = 50
"""A region of fewer pixels than this says nothing, and gets no score."""


def psnr(result_lin: Array, truth_lin: Array, where: npt.NDArray[np.bool_]) -> float | None:
    """Peak signal-to-noise ratio in dB over the pixels of `where`, on sRGB-encoded values with peak 1.

    result_lin, truth_lin: float [..., 3], scene-linear, clipped to [0, 1] for this. None for fewer than 50 pixels.

    >>> here = np.ones((10, 10), bool)
    >>> round(psnr(np.full((10, 10, 3), 0.5), np.full((10, 10, 3), 0.25), here), 2)
    14.06
    """
    if int(where.sum()) < FEWEST_PIXELS:
        return None
    difference = _shown(result_lin)[where] - _shown(truth_lin)[where]
    return float(10 * np.log10(1 / max(float(np.mean(difference.astype(np.float64) ** 2)), 1e-12)))


def samples_changed(result: Array, plate: Array, keep: npt.NDArray[np.bool_]) -> int:
    """How many samples under `keep` differ from the plate in any bit. Both arrays as stored, the same dtype."""
    bits = {2: np.uint16, 4: np.uint32}[result.dtype.itemsize]
    return int((result[keep].view(bits) != plate[keep].view(bits)).sum())


def _shown(light: Array) -> npt.NDArray[np.float32]:
    return srgb_encode(np.clip(np.nan_to_num(light.astype(np.float32)), 0, 1))
