"""Between plate pixels and an engine's own size: crop, scale down, scale up.

What comes in: arrays on a window. What goes out: arrays on another window or of another size. It knows neither colour
nor meaning, so labels (quadmasks) must not pass through here.
"""

from __future__ import annotations

import math

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


def extend_edges(picture: Array, crop: Window, canvas: tuple[int, int]) -> Array:
    """Replace what lies outside the canvas (0 there) by the nearest pixel inside, so that nobody sees a black border.

    picture: [h, w] or [h, w, C] on `crop`, at any scale. canvas: (height, width) in plate pixels.
    """
    height, width = canvas
    if Window(0, 0, width, height).contains(crop):
        return picture
    rows, columns = picture.shape[:2]
    fy, fx = rows / crop.height, columns / crop.width
    top, left = math.ceil(max(0, -crop.y0) * fy), math.ceil(max(0, -crop.x0) * fx)
    bottom = rows - math.ceil(max(0, crop.y1 - height) * fy)
    right = columns - math.ceil(max(0, crop.x1 - width) * fx)
    inside_rows = np.clip(np.arange(rows), top, max(top, bottom - 1))
    inside_columns = np.clip(np.arange(columns), left, max(left, right - 1))
    return np.asarray(picture[inside_rows][:, inside_columns])
