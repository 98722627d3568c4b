"""A test clip's camera, and a patch of its ground that can be hidden wherever the camera shows it.

What comes in: a clip and the masks of its own mover. What goes out: the camera, and the patch as a mask on every
frame. It builds no case and scores nothing.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.log_curve import LogCurve
from void_server.background.tracking.camera import Camera, follow
from void_server.background.tracking.survey import Survey, luminance
from void_server.wire.report import Report

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

RADIUS = 0.1
"""Of the patch on the middle frame, in heights of the picture."""
CORNERS, GRID = 48, (9, 16)
"""Of the patch's outline, and places tried for its middle, down and across."""


def camera_of(light: Array, mover: Mask) -> Camera:
    """How a clip's camera moves. light: float32 [T, H, W, 3], scene-linear; mover: bool [T, H, W], not followed."""
    curve = LogCurve.measured(luminance(light[:: max(1, len(light) // 4), ::4, ::4]))
    grey = [np.clip(curve.encode(luminance(frame)) * 220, 0, 255).astype(np.uint8) for frame in light]
    blocked = [m.astype(np.uint8) * 255 for m in mover]
    return follow(Survey(range(len(grey)), 1.0, curve, grey, {}, blocked), Report())


def patch(light: Array, mover: Mask) -> Mask:
    """bool [T, H, W]: a disc of ground on the middle frame and where the camera's motion carries it.

    light: float32 [T, H, W, 3], scene-linear; mover: bool [T, H, W]. The disc lies where, over all frames, it stays
    farthest from the mover and from the picture's edge.
    """
    count, height, width = mover.shape
    camera, middle = camera_of(light, mover), count // 2
    carried = [camera.between(middle, t) for t in range(count)]
    free = [cv2.distanceTransform(np.pad(~m, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1] for m in mover]
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    disc = np.stack([np.cos(angles), np.sin(angles)], 1) * RADIUS * height
    down, across = (np.linspace(0, side, n + 2)[1:-1] for side, n in zip((height, width), GRID))
    spots = [np.array([x, y]) for y in down for x in across]
    best = max(spots, key=lambda spot: min(_clear(d, _at(place, spot)) for d, place in zip(free, carried)))
    out = np.zeros((count, height, width), np.uint8)
    for t, place in enumerate(carried):
        cv2.fillPoly(out[t], [np.round(_at(place, best + disc)).astype(np.int32)], 1)
    return out > 0


def _at(place: npt.NDArray[np.float64], points: Points) -> Points:
    return np.asarray(cv2.perspectiveTransform(points.reshape(1, -1, 2), place)[0], np.float64)


def _clear(distance: Array, point: Points) -> float:
    """How far a point [1, 2] of a frame lies from whatever is in the way; below 0 outside of the picture."""
    height, width = distance.shape
    x, y = point[0]
    inside = 0 <= x <= width - 1 and 0 <= y <= height - 1
    return float(distance[int(y), int(x)]) if inside else -float(np.hypot(x - width / 2, y - height / 2))
