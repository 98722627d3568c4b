"""Between plate pixels and an engine's own size: crop, scale down, scale up.

What comes in: arrays on a window. What goes out: arrays on another window or of another size. It knows neither colour
nor meaning, so labels (quadmasks) must not pass through here.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) after scaling, at least one pixel each.

    >>> scaled_size(1080, 1920, 0.5)
    (540, 960)
    """
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(picture: Array, height: int, width: int) -> Array:
    """[h, w] or [h, w, C] to another size: area average going down, Lanczos going up. Keeps float32 and HDR range."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(np.ascontiguousarray(picture, np.float32), (width, height), interpolation=mode))


def resize_soft(mask: Array, height: int, width: int) -> Array:
    """A map in [0, 1], resized without the overshoot that Lanczos would give."""
    if mask.shape == (height, width):
        return mask
    shrinks = height * width < mask.shape[0] * mask.shape[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(mask, np.float32), (width, height), interpolation=mode)
    return np.asarray(np.clip(resized, 0, 1), np.float32)


def enlarge_soft(mask: Array, whole: Window, part: Window) -> Array:
    """The `part` of `mask` scaled to cover `whole`, bilinear: the same values whichever part is asked for.

    Pixel centres are matched as `cv2.resize` does: x in the small picture is (X + 0.5) * scale - 0.5.
    """
    across, down = mask.shape[1] / whole.width, mask.shape[0] / whole.height
    back = np.array([[across, 0, (part.x0 + 0.5) * across - 0.5], [0, down, (part.y0 + 0.5) * down - 0.5]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (part.width, part.height)
    return np.asarray(cv2.warpAffine(mask, back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)


def place(picture: npt.NDArray[np.floating], at: Window, onto: Window) -> npt.NDArray[np.floating]:
    """`picture`, which covers window `at`, on window `onto`; what it does not cover is 0. Same dtype, fresh array."""
    result = np.zeros((onto.height, onto.width, *picture.shape[2:]), picture.dtype)
    both = at.intersect(onto)
    if not both.empty:
        result[both.slices(onto)] = picture[both.slices(at)]
    return result
