"""Blurs and enlargements that cost the same at any width.

What comes in: arrays and widths in their own pixels. What goes out: arrays of the same or the asked size. It knows
neither fills nor plates.
"""

from __future__ import annotations

import cv2
import numpy as np

from void_server.engine import Array

WIDE = 4.0
"""A blur wider than this is made on a smaller picture: the same to the eye, at a fraction of the cost."""


def blur(picture: Array, sigma: float) -> Array:
    """Gaussian blur of [h, w] or [h, w, C]; 0 leaves it as it is. Edges are mirrored."""
    if sigma <= 0:
        return picture
    height, width = picture.shape[:2]
    step = min(int(sigma / WIDE * 2), height // 8, width // 8)
    if step < 2:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)
    small = (max(1, width // step), max(1, height // step))
    down = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    # Averaging over a cell and drawing lines between cells blur as well: variances step^2 / 12 and step^2 / 6.
    left = float(np.sqrt(max(sigma**2 - step**2 / 4, 0.25))) / step
    return np.asarray(
        cv2.resize(cv2.GaussianBlur(down, (0, 0), left), (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


def spread(values: Array, weight: Array, sigma: float, least: float) -> Array:
    """Weighted mean of `values` [h, w, 3] over a Gaussian neighbourhood, falling to 0 where all its weight is below
    `least` (normalised convolution: Knutsson and Westin, CVPR 1993)."""
    mass = blur(weight, sigma)
    total = blur(np.ascontiguousarray(values * weight[..., None]), sigma)
    return np.asarray(total / (mass + least)[..., None], np.float32)


def step(values: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def reduced(picture: Array, size: tuple[int, int]) -> Array:
    """To (height, width), smaller, by area average."""
    if picture.shape[:2] == size:
        return picture
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.float32)


def enlarged(small: Array, size: tuple[int, int], rows: slice | None = None, columns: slice | None = None) -> Array:
    """[h, w] or [h, w, C] enlarged to `size` (height, width), cubic, or the part [rows, columns] of that.

    The same values whichever part is asked for.
    """
    return _enlarged(small, size, rows, columns, cv2.INTER_CUBIC)


def enlarged_soft(
    small: Array, size: tuple[int, int], rows: slice | None = None, columns: slice | None = None
) -> Array:
    """The same for weights: linear, within [0, 1]."""
    return np.clip(_enlarged(small, size, rows, columns, cv2.INTER_LINEAR), 0, 1)


def _enlarged(small: Array, size: tuple[int, int], rows: slice | None, columns: slice | None, mode: int) -> Array:
    if rows is None or columns is None:
        out = cv2.resize(small, (size[1], size[0]), interpolation=mode)
    elif small.shape[:2] == size:
        out = small[rows, columns]
    else:
        # Pixel centres are matched as cv2.resize does: x in the small picture is (X + 0.5) * scale - 0.5.
        down, across = small.shape[0] / size[0], small.shape[1] / size[1]
        back = np.array(
            [[across, 0, (columns.start + 0.5) * across - 0.5], [0, down, (rows.start + 0.5) * down - 0.5]], np.float64
        )
        part = (columns.stop - columns.start, rows.stop - rows.start)
        out = cv2.warpAffine(small, back, part, flags=mode | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)
