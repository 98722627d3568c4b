"""Between the shot's canvas and the model: which region it sees, at which size, and how its fill meets the plate.

What comes in: holes on the canvas; then, frame by frame, what the model made beside what the plate shows. What goes
out: one crop and one size for the whole shot; the corrected frame. It knows neither torch nor files.

The model draws the known surroundings again, a little off in colour. The difference to the plate, seen where nothing
was to change, is removed in two steps, in code space, each frame by itself: a gain and offset per channel, then a
smooth offset field carried from a ring around the hole into it. Of seven corrections measured on synthetic drift this
one leaves the least seam: .83/255 against 4.25 uncorrected, 1.36 for a membrane on the boundary pixels; smoothing it
over time keeps the jitter it should remove.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MULTIPLE = 16
"""Legal sides: 8 from the autoencoder times 2 from the transformer's patches."""
TRAINED_PIXELS = 384 * 672
"""Area the model was released at; trained at 512x512 buckets, so other aspects of this area are in its range."""
FINE_PIXELS = 768 * 1360
"""The largest area that was run on a card: time and memory are known up to it."""
CONTEXT = 0.3
"""Share of the hole's box added on every side: at least 25-30 % let the model see what it continues."""
ASPECTS = (0.5, 2.4)
"""Widths per height that are run; a thinner box gets more of its surroundings."""
AREA_STEP = 1.04
"""Areas between the trained and the largest are tried in steps of a row or two."""
FINER = 1.25
"""The crop keeps the plate's aspect unless the box's own shows the hole this much finer."""
RING_PX = 24
SMOOTH_PX = 6.0
"""Width of the ring that is compared and sigma of the field, in model pixels: best of four measured pairs."""
OUTLIER_MADS = 3.0
"""Known pixels that differ by more than this many median deviations show other content, not drift."""
FIT_SAMPLES = 20_000
"""Known pixels that the two numbers of a channel are fitted to, evenly picked."""
GAIN_LIMIT = 0.15
"""A fitted gain further from 1 than this is content, not drift."""


def region(
    holes: Iterable[Window],
    canvas: tuple[int, int],
    context: float = CONTEXT,
    size: tuple[int, int] | None = None,
    most_pixels: int = TRAINED_PIXELS,
) -> tuple[Window, tuple[int, int]]:
    """One crop for the whole shot and the legal (height, width) the model runs it at.

    holes: boxes on the canvas, at least one. canvas: (height, width) in plate pixels. The crop holds all of them with
    `context`, is no smaller than the model's size (plates are never blown up), lies inside the canvas where it can, and
    has exactly the aspect of the size, so a thin strip of it may lie outside the canvas. size: asked for; None fits it.
    most_pixels: of the size. It is the trained one, or as much more as shows the crop at the plate's own resolution.

    >>> region([Window(900, 500, 1000, 560)], (1080, 1920))
    (Window(x0=614, y0=338, x1=1286, y1=722), (384, 672))
    >>> region([Window(0, 0, 1920, 1080)], (1080, 1920))
    (Window(x0=0, y0=-9, x1=1920, y1=1088), (384, 672))
    >>> region([Window(600, 300, 1200, 700)], (1080, 1920), most_pixels=FINE_PIXELS)
    (Window(x0=220, y0=116, x1=1580, y1=884), (768, 1360))
    """
    box = Window(0, 0, 0, 0)
    for hole in holes:
        box = box.union(hole)
    height, width = canvas
    margin = math.ceil(context * max(box.width, box.height))
    wanted = box.grow(margin).intersect(Window(0, 0, width, height))
    if size is None:
        least = min(TRAINED_PIXELS, height * width)
        most = min(max(TRAINED_PIXELS, most_pixels), height * width)
        own, boxed = (
            _fitted(wanted, float(np.clip(a, *ASPECTS)), least, most) for a in (width / height, _aspect(wanted))
        )
        size = boxed if _scale(wanted, boxed) > FINER * _scale(wanted, own) else own
    scale = _scale(wanted, size)
    rows, columns = size
    # Width from height, so that the one scale of the crop gives both sides of the size.
    crop_height = max(round(rows / scale), wanted.height)
    if round(columns * crop_height / rows) < wanted.width:
        crop_height += 1
    crop_width = round(columns * crop_height / rows)
    x0 = _centred(wanted.x0, wanted.x1, crop_width, width)
    y0 = _centred(wanted.y0, wanted.y1, crop_height, height)
    return Window(x0, y0, x0 + crop_width, y0 + crop_height), (rows, columns)


def _aspect(window: Window) -> float:
    return window.width / max(1, window.height)


def _scale(wanted: Window, size: tuple[int, int]) -> float:
    return min(1.0, size[0] / max(1, wanted.height), size[1] / max(1, wanted.width))


def _fitted(wanted: Window, aspect: float, least: int, most: int) -> tuple[int, int]:
    """(height, width) of `least` pixels, or of the fewest up to `most` that show `wanted` as large as the plate."""
    pixels = least
    while _scale(wanted, size := _legal(aspect, pixels)) < 1 and pixels < most:
        pixels = min(most, math.ceil(pixels * AREA_STEP))
    return size


def _legal(aspect: float, pixels: int) -> tuple[int, int]:
    """(height, width), multiples of 16, of about `aspect` and at most about `pixels`."""
    columns = max(MULTIPLE, round(math.sqrt(pixels * aspect) / MULTIPLE) * MULTIPLE)
    rows = max(MULTIPLE, round(columns / aspect / MULTIPLE) * MULTIPLE)
    while rows * columns > pixels * 1.02 and rows > MULTIPLE:
        rows -= MULTIPLE
    return rows, columns


def _centred(first: int, last: int, length: int, side: int) -> int:
    start = (first + last - length) // 2
    if length >= side:
        return (side - length) // 2
    return min(max(start, 0), side - length)


def extend_edges(picture: Array, crop: Window, canvas: tuple[int, int]) -> Array:
    """Replace what lies outside the canvas (0 there) by the nearest pixel inside, so the model sees no black border.

    picture: [h, w] or [h, w, C] on `crop`, at any scale.
    """
    height, width = canvas
    rows, columns = picture.shape[:2]
    fy, fx = rows / crop.height, columns / crop.width
    top, left = math.ceil(max(0, -crop.y0) * fy), math.ceil(max(0, -crop.x0) * fx)
    bottom = rows - math.ceil(max(0, crop.y1 - height) * fy)
    right = columns - math.ceil(max(0, crop.x1 - width) * fx)
    inside_rows = np.clip(np.arange(rows), top, max(top, bottom - 1))
    inside_columns = np.clip(np.arange(columns), left, max(left, right - 1))
    return np.asarray(picture[inside_rows][:, inside_columns])


def correct_drift(made: Array, plate: Array, hole: Mask, known: Mask) -> Array:
    """`made`, moved to meet `plate` around the hole. All [h, w, ...] at the model's size, codes in [0, 1].

    hole: pixels that will be replaced. known: pixels where the plate shows what the result should show (neither hole
    nor affected, inside the canvas). Returns float32, not clipped. Where too little is known, `made` comes back as is.
    """
    clipped = ((plate <= 0) | (plate >= 1)).any(axis=-1)
    known = known & ~hole & ~clipped
    if np.count_nonzero(known) < 64:
        return made
    corrected = _gain_offset(made, plate, known)
    return corrected + _ring_field(plate - corrected, hole, known)


def _gain_offset(made: Array, plate: Array, known: Mask) -> Array:
    """Least squares per channel over the known pixels, twice, the second time without those that fit badly."""
    result = made.copy()
    at = np.flatnonzero(known)
    at = at[:: max(1, len(at) // FIT_SAMPLES)]
    for channel in range(made.shape[-1]):
        x, y = (picture[..., channel].ravel()[at].astype(np.float64) for picture in (made, plate))
        kept = np.ones(len(x), bool)
        gain, offset = 1.0, 0.0
        for _ in range(2):
            centred = x[kept] - x[kept].mean()
            spread = float(centred @ centred)
            gain = float(centred @ (y[kept] - y[kept].mean())) / spread if spread > 1e-6 * len(centred) else 1.0
            gain = float(np.clip(gain, 1 - GAIN_LIMIT, 1 + GAIN_LIMIT))
            offset = float(y[kept].mean() - gain * x[kept].mean())
            kept = _inliers(y - gain * x - offset)
            if np.count_nonzero(kept) < 32:
                break
        result[..., channel] = gain * made[..., channel] + offset
    return result


def _inliers(difference: npt.NDArray[np.float64]) -> Mask:
    middle = np.median(difference)
    away = np.abs(difference - middle)
    return np.asarray(away <= OUTLIER_MADS * 1.4826 * np.median(away) + 1e-4)


def _ring_field(difference: Array, hole: Mask, known: Mask) -> Array:
    """The difference seen in a ring around the hole, smoothed and carried inwards; fades out beyond the ring."""
    if not hole.any():
        return np.zeros_like(difference)
    away = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5)
    ring = known & (away <= RING_PX)
    if np.count_nonzero(ring) < 32:
        return np.zeros_like(difference)
    good = ring.copy()
    for channel in range(difference.shape[-1]):
        good[ring] &= _inliers(difference[..., channel][ring].astype(np.float64))
    weight = good.astype(np.float32)
    field = cv2.GaussianBlur(difference * weight[..., None], (0, 0), SMOOTH_PX)
    share = cv2.GaussianBlur(weight, (0, 0), SMOOTH_PX)
    return np.asarray(_pull_push(field, share) * np.clip(2 - away / RING_PX, 0, 1)[..., None], np.float32)


def _pull_push(field: npt.NDArray[Any], share: npt.NDArray[Any]) -> Array:
    """Weighted values spread into where their weight runs out, through ever coarser pictures and back.

    Source: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.
    """
    rows, columns = share.shape
    if min(rows, columns) <= 2:
        total = max(float(share.sum()), 1e-12)
        return np.broadcast_to(field.sum(axis=(0, 1)) / total, field.shape).astype(np.float32)
    half = ((columns + 1) // 2, (rows + 1) // 2)
    coarse = _pull_push(
        cv2.resize(field, half, interpolation=cv2.INTER_AREA), cv2.resize(share, half, interpolation=cv2.INTER_AREA)
    )
    wide = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)
    trust = np.clip(share / 0.25, 0, 1)[..., None]
    own = field / np.maximum(share, 1e-6)[..., None]
    return np.asarray(trust * own + (1 - trust) * wide, np.float32)
