"""Choose which frames lend background to a hole: those that see most of it, from nearby.

What comes in: the small masks of a `Survey` and its `Camera`. What goes out: an ordered list of frame indices per hole.
It reads no plates.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.tracking.camera import Camera
from void_server.background.tracking.survey import Survey
from void_server.wire.shot import Window

LAYERS = 12
"""How many views of one pixel are worth having. Where something passes behind, 12 gain 2 to 3 dB over 5 (objects of
paste:camel:goat, car-roundabout:goat), 1 dB over 7; 14 gain .2 more."""
COARSE = 4
"""Visibility is predicted on a grid this many small pixels apart."""


def candidates(index: int, count: int) -> list[int]:
    """Frames to consider for `index`: all nearby, ever sparser far away, always the same ones for neighbouring frames.

    Far candidates sit on multiples of 2, 4, 8 ... of the index, so that neighbouring frames share their donors and the
    fill does not jump in time.
    """
    found = []
    for other in range(count):
        distance = abs(other - index)
        step = 1
        while distance > 5 * step:
            step *= 2
        if other != index and other % step == 0:
            found.append(other)
    return sorted(found, key=lambda other: (abs(other - index), other))


def choose(survey: Survey, camera: Camera, index: int, hole: Window, limit: int) -> tuple[list[int], float]:
    """Pick up to `limit` donors for the part of frame `index` inside `hole` (plate pixels), best first.

    Greedy: each pick is the frame that adds most views still missing, discounted by distance in time. Returns the
    picks and the share of the hole that any candidate of the shot sees.
    """
    scale = survey.scale / COARSE
    size = (max(1, round(hole.width * scale)), max(1, round(hole.height * scale)))
    to_plate = np.array(
        [
            [hole.width / size[0], 0, hole.x0 + hole.width / size[0] / 2],
            [0, hole.height / size[1], hole.y0 + hole.height / size[1] / 2],
            [0, 0, 1],
        ],
        np.float64,
    )
    to_small = np.diag([survey.scale, survey.scale, 1.0])
    need = _look(survey.blocked[index], to_small @ to_plate, size, outside=0) > 127
    total = float(need.sum())
    if total == 0:
        return [], 1.0
    views: dict[int, npt.NDArray[np.bool_]] = {}
    for other in candidates(index, len(survey.frames)):
        if camera.scenes[other] != camera.scenes[index]:
            continue
        place = to_small @ camera.between(index, other) @ to_plate
        seen = (_look(survey.blocked[other], place, size, outside=255) < 8) & need
        if seen.any():
            views[other] = seen
    ever = float(np.any(list(views.values()), axis=0).sum()) / total if views else 0.0
    layers = np.zeros(need.shape, np.float32)
    picks: list[int] = []
    while views and len(picks) < limit:
        worth = np.where(layers < LAYERS, 1 / (1 + layers) ** 2, 0)
        score = {o: float(worth[seen].sum()) / (1 + abs(o - index) / 24) for o, seen in views.items()}
        best = max(score, key=lambda o: (score[o], -abs(o - index), -o))
        if score[best] < 0.002 * total and picks:
            break
        layers += views.pop(best)
        picks.append(best)
    return picks, ever


def _look(
    mask: npt.NDArray[np.uint8], place: npt.NDArray[np.float64], size: tuple[int, int], outside: int
) -> npt.NDArray[np.uint8]:
    seen: npt.NDArray[np.uint8] = cv2.warpPerspective(
        mask, place, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=outside
    )
    return seen
