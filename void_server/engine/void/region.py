"""Which part of the canvas the model sees, frame by frame, and at which size.

What comes in: holes on the canvas. What goes out: a crop for every frame, all of one size, and the size the model runs
them at. It knows neither pixels nor models.

A crop at rest has to hold the hole of every frame; where an object crosses the shot, that is most of the canvas, and
the model draws a small hole at a fraction of the plate's resolution. A crop that follows the hole is as large as one
frame needs. To the model it is a camera that pans, so it moves as a camera does: on a smooth path, and no faster than
`PAN`. It moves by whole plate pixels, so that a fill is laid back where it was read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from void_server.wire.shot import Window

Path = npt.NDArray[np.float64]

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
"""The crop keeps the plate's aspect unless the box's own shows the hole this much finer; and it stays at rest unless
following the hole does, or takes that much less of a picture."""
SMOOTH_FRAMES = (48.0, 24.0, 12.0)
"""Sigmas of a path, smoothest first; the last is the least that is taken for a pan."""
EASE_FRAMES = 5.0
"""Sigma with which a path starts and stops at the edge of the canvas."""
PAN = 24
"""Frames in which the crop moves by its own width, or height, at most."""
WIDER = 1.04
"""Step by which a crop is made larger until it can follow."""


def crops(
    holes: Sequence[Window | None],
    canvas: tuple[int, int],
    context: float = CONTEXT,
    size: tuple[int, int] | None = None,
    pixels: int = TRAINED_PIXELS,
    most_pixels: int = 0,
    *,
    follow: bool = True,
) -> tuple[list[Window], tuple[int, int]]:
    """(one crop a frame, the legal (height, width) of all of them). Each is as in `region`, for its own frame's hole.

    holes: of all frames in order, at least one not None. follow: whether crops may move. They do where that shows the
    holes FINER times as large, or as large in a picture FINER times smaller, and are all the same elsewhere.

    >>> holes = [Window(40 * t, 400, 40 * t + 300, 800) for t in range(40)]
    >>> found, size = crops(holes, (1080, 1920))
    >>> found[0], found[-1]
    (Window(x0=0, y0=172, x1=1498, y1=1028), Window(x0=422, y0=172, x1=1920, y1=1028))
    >>> region(holes, (1080, 1920))[0]
    Window(x0=0, y0=-9, x1=1920, y1=1088)
    """
    seen = [hole for hole in holes if hole is not None]
    at_rest, rest_size = region(seen, canvas, context, size, pixels, most_pixels)
    still = [at_rest] * len(holes), rest_size
    rest_scale, rest_area = rest_size[0] / at_rest.height, rest_size[0] * rest_size[1]
    if not follow or len(seen) < 2:
        return still
    boxes = _boxes(holes, canvas, context)
    across, down = (float((boxes[:, i + 2] - boxes[:, i]).max()) for i in (0, 1))
    while True:
        wanted = Window(0, 0, min(math.ceil(across), canvas[1]), min(math.ceil(down), canvas[0]))
        window, found = _fit(wanted, canvas, size, pixels, most_pixels)
        scale, area = found[0] / window.height, found[0] * found[1]
        if scale < FINER * rest_scale and (scale < rest_scale or FINER * area > rest_area):
            return still
        lefts = _starts(boxes[:, 0], boxes[:, 2], window.width, canvas[1])
        tops = _starts(boxes[:, 1], boxes[:, 3], window.height, canvas[0])
        if lefts is not None and tops is not None:
            return [Window(x, y, x + window.width, y + window.height) for x, y in zip(lefts, tops)], found
        across, down = (n * (WIDER if path is None else 1) for n, path in ((across, lefts), (down, tops)))


def region(
    holes: Iterable[Window],
    canvas: tuple[int, int],
    context: float = CONTEXT,
    size: tuple[int, int] | None = None,
    pixels: int = TRAINED_PIXELS,
    most_pixels: int = 0,
) -> tuple[Window, tuple[int, int]]:
    """One crop for the whole shot and the legal (height, width) the model runs it at.

    holes: boxes on the canvas, at least one. canvas: (height, width) in plate pixels. The crop holds all of them with
    `context`, is no smaller than the model's size (plates are never blown up), lies inside the canvas where it can, and
    has exactly the aspect of the size, so a thin strip of it may lie outside the canvas. size: asked for; None fits it.
    pixels, most_pixels: of the size. It is the first, or as much more as shows the crop at the plate's own resolution.

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
    crop, found = _fit(wanted, canvas, size, pixels, most_pixels)
    x0 = _centred(wanted.x0, wanted.x1, crop.width, width)
    y0 = _centred(wanted.y0, wanted.y1, crop.height, height)
    return crop.shift(x0, y0), found


def _fit(
    wanted: Window, canvas: tuple[int, int], size: tuple[int, int] | None, pixels: int, most_pixels: int
) -> tuple[Window, tuple[int, int]]:
    """(a crop with its corner at 0 that holds `wanted`, its size)"""
    height, width = canvas
    if size is None:
        least = min(pixels, height * width)
        most = min(max(pixels, most_pixels), height * width)
        own, boxed = (
            _size(wanted, float(np.clip(a, *ASPECTS)), least, most) for a in (width / height, _aspect(wanted))
        )
        size = boxed if _scale(wanted, boxed) > FINER * _scale(wanted, own) else own
    rows, columns = size
    # Width from height, so that the one scale of the crop gives both sides of the size.
    crop_height = max(round(rows / _scale(wanted, size)), wanted.height)
    if round(columns * crop_height / rows) < wanted.width:
        crop_height += 1
    return Window(0, 0, round(columns * crop_height / rows), crop_height), size


def _aspect(window: Window) -> float:
    return window.width / max(1, window.height)


def _scale(wanted: Window, size: tuple[int, int]) -> float:
    return min(1.0, size[0] / max(1, wanted.height), size[1] / max(1, wanted.width))


def _size(wanted: Window, aspect: float, least: int, most: int) -> tuple[int, int]:
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


def _boxes(holes: Sequence[Window | None], canvas: tuple[int, int], context: float) -> Path:
    """[T, 4]: what each frame's crop has to hold, its hole with context; between its neighbours' where it has none."""
    at = [index for index, hole in enumerate(holes) if hole is not None]
    margin = math.ceil(context * max(max(hole.width, hole.height) for hole in holes if hole is not None))
    whole = Window(0, 0, canvas[1], canvas[0])
    given = np.array([hole.grow(margin).intersect(whole) for hole in holes if hole is not None], np.float64)
    return np.stack([np.interp(np.arange(len(holes)), at, given[:, i]) for i in range(4)], -1)


def _smoothed(values: Path, sigma: float) -> Path:
    """Gaussian mean over time. Both ends go on as they came, so that an even movement stays what it is."""
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    extended = np.pad(values, reach, mode="reflect", reflect_type="odd")
    return np.convolve(extended, weights / weights.sum(), mode="valid")


def _starts(first: Path, last: Path, length: int, side: int) -> list[int] | None:
    """Where crops of `length` begin on one axis, so that each holds its [first, last]: at rest if they can, else on the
    smoothest path that does, or None."""
    if length >= side:
        return [(side - length) // 2] * len(first)
    middle, most = (first + last) / 2, side - length
    for sigma in (None, *SMOOTH_FRAMES):
        if sigma is None:
            path = np.full(len(first), (first.min() + last.max() - length) / 2)
        else:
            path = _smoothed(np.clip(_smoothed(middle, sigma) - length / 2, 0, most), EASE_FRAMES)
        starts = np.clip(np.round(path), 0, most)
        holds = (starts <= first).all() and (starts + length >= last).all()
        if holds and np.abs(np.diff(path)).max() * PAN <= length:
            return [int(start) for start in starts]
    return None
