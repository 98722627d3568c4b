"""Who else stands in the picture: whatever stood apart from the object on some frame, followed to where the two meet.

What comes in: of every frame, its `Look` and its picture in grey, both at one reduced size. What goes out: per frame
where somebody stands who is not the object's doing. It knows no network and no camera.

Beside the object, a dark coat looks like a shadow. But whoever crosses was seen elsewhere before or will be seen there
after: there he deviates from the background too, is opaque, moves against the ground, and not along with the object.
From there he is followed, frame by frame and both ways, along the motion of the picture and no farther than the picture
deviates from its background.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.effects.cues import Look, object_size
from void_server.parallel import in_order
from void_server.process import threads

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

APART, APART_LEAST_PX = 0.25, 8.0
"""Whoever stands at least this far from the object, in sizes of it (root of its area), is not joined to it."""
LEAST_PX = 60
"""A person of a tenth of 256 rows covers some 150 pixels."""
OPAQUE, OPAQUE_PX = 0.25, 40
"""Share, and number, of pixels that are no darkening which keeps its colour: else it may all be somebody's shadow."""
MOVES_PX, MOVES_SPREADS = 0.6, 3.0
"""Per frame, against the ground; and so many deviations of the ground's own motion, as it is fitted."""
ALIKE, ALIKE_PX = 0.4, 0.6
"""What moves as the object does, to this share of its motion or so many pixels, may be its shadow or its reflection."""
GAP = 2
"""Frames that may lie between two looks for somebody to be followed from one to the other."""
CARRIED = 0.35
"""Share of a carried mask, smoothed by a pixel, from which it counts."""
MOSTLY = 0.5
"""A region that stands apart from the object is somebody's if this share of it was carried there."""
BESIDE_PX = 3
"""What is opaque this close to where somebody was carried is his as well: flow is wrong by as much where two people
pass each other, and a shadow is not opaque."""
GROUND = 8
"""The ground's motion is fitted to every so many-th pixel, each way."""


def followed(
    frames: Sequence[int], looks: Mapping[int, Look], greys: Mapping[int, Bytes], check: Callable[[], None]
) -> dict[int, Mask]:
    """bool [h, w] for every frame that has a look. greys: uint8 [h, w]; check: raises once the job is cancelled."""
    order = [frame for frame in frames if frame in looks]
    views = {frame: _view(looks[frame]) for frame in order}
    found = {frame: np.zeros(views[frame].deviates.shape, bool) for frame in order}
    pairs = [(a, b) for a, b in zip(order, order[1:]) if b - a <= GAP]

    def ahead(pair: tuple[int, int]) -> Array:
        return _flow(greys[pair[0]], greys[pair[1]])

    def met(pair: tuple[int, int]) -> tuple[Mask, Mask, Array]:
        """(strangers on the one, on the other, the motion back)."""
        before, after = pair
        back = _flow(greys[after], greys[before])
        return _strangers(views[before], ahead(pair)), _strangers(views[after], back), back

    apart = [pair for pair in pairs if any(views[frame].apart.any() for frame in pair)]
    surely = set(apart)
    with contextlib.closing(in_order(met, apart, threads(), check)) as meetings:
        for before, after in pairs:
            check()
            if (before, after) in surely or found[before].any():
                first, second, back = next(meetings) if (before, after) in surely else met((before, after))
                found[before] |= first
                found[after] |= second | _reached(found[before], back, views[after])
    returning = [pair for pair in reversed(pairs) if found[pair[1]].any()]
    surely = set(returning)
    with contextlib.closing(in_order(ahead, returning, threads(), check)) as motions:
        for before, after in reversed(pairs):
            check()
            if found[after].any():
                motion = next(motions) if (before, after) in surely else ahead((before, after))
                found[before] |= _reached(found[after], motion, views[before])
    return found


@dataclasses.dataclass(frozen=True)
class _View:
    """One frame: all [h, w]."""

    matte: Mask
    deviates: Mask
    opaque: Mask
    """What deviates by more than a darkening that keeps its colour."""
    apart: npt.NDArray[np.int32]
    """The regions of `deviates` that stand apart from the object, numbered from 1 on."""


def _view(look: Look) -> _View:
    matte = look.matte > 0
    opened = cv2.morphologyEx(look.deviates.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    count, labels = cv2.connectedComponents(opened, connectivity=8, ltype=cv2.CV_32S)
    away = cv2.distanceTransform((~matte).astype(np.uint8), cv2.DIST_L2, 3)
    near = away < max(APART_LEAST_PX, APART * object_size(look.matte))
    standing = np.bincount(labels[near], minlength=count) == 0
    standing[0] = False
    apart = np.where(standing[labels], labels, 0).astype(np.int32)
    return _View(matte, opened > 0, (opened > 0) & (look.dark == 0), apart)


def _strangers(view: _View, flow: Array) -> Mask:
    """The regions apart that are opaque and move by themselves. flow: [h, w, 2], to a frame beside this one."""
    count = int(view.apart.max()) + 1
    area = np.bincount(view.apart.ravel(), minlength=count)
    opaque = np.bincount(view.apart[view.opaque], minlength=count)
    large = np.flatnonzero((area >= LEAST_PX) & (opaque >= np.maximum(OPAQUE_PX, OPAQUE * area)))
    keep = np.zeros(count, bool)
    fitted = _ground(flow, ~view.matte & ~view.deviates) if large.any() else None
    if fitted is not None:
        ground, deviation = fitted
        own = flow - ground
        along = np.median(own[view.matte], axis=0)
        for label in large[large > 0]:
            motion = np.median(own[view.apart == label], axis=0)
            moves = float(np.linalg.norm(motion)) > max(MOVES_PX, MOVES_SPREADS * deviation)
            alike = np.linalg.norm(motion - along) < max(ALIKE_PX, ALIKE * float(np.linalg.norm(along)))
            keep[label] = moves and not alike
    return np.asarray(keep[view.apart], bool)


def _ground(flow: Array, still: Mask) -> tuple[Array, float] | None:
    """(the ground's motion [h, w, 2], an affine map; its deviation in pixels); None where too little ground shows."""
    height, width = still.shape
    columns, rows = np.meshgrid(*(np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in (width, height)))
    plane = np.dstack([np.ones_like(columns), columns, rows])
    some = still[::GROUND, ::GROUND]
    if some.sum() < LEAST_PX:
        return None
    points, seen = plane[::GROUND, ::GROUND][some], flow[::GROUND, ::GROUND][some]
    weight = np.ones(len(points), np.float32)
    fitted, deviation = np.zeros((3, 2), np.float32), 0.0
    for _ in range(5):
        fitted = np.linalg.lstsq(points * weight[:, None], seen * weight[:, None], rcond=None)[0]
        off = np.linalg.norm(seen - points @ fitted, axis=1)
        deviation = max(1.4826 * float(np.median(off)), 0.1)
        weight = 1 / (1 + (off / (2 * deviation)) ** 2)
    return np.asarray(plane @ fitted.astype(np.float32), np.float32), deviation


def _reached(found: Mask, flow: Array, view: _View) -> Mask:
    """Where those found on another frame stand on this one. flow: [h, w, 2], from this frame to the other."""
    height, width = found.shape
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    smooth = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 1)
    there = cv2.remap(smooth, grid + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > CARRIED
    count = int(view.apart.max()) + 1
    area, reached = (np.bincount(labels, minlength=count) for labels in (view.apart.ravel(), view.apart[there]))
    whole = reached >= MOSTLY * np.maximum(area, 1)
    whole[0] = False
    beside = cv2.dilate(there.astype(np.uint8), np.ones((2 * BESIDE_PX + 1,) * 2, np.uint8)) > 0
    return np.asarray((there & view.deviates) | (beside & view.opaque) | whole[view.apart], bool)


def _flow(own: Bytes, other: Bytes) -> Array:
    """[h, w, 2]: where each pixel of one picture lies in the other."""
    return np.asarray(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(own, other, None), np.float32)
