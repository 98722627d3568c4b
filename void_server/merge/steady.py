"""Maps steadied over neighbouring frames.

What comes in: maps of one frame and of its neighbours, and where on the canvas each lies. What goes out: one map. It
knows no pictures.

What belongs together is what shows the same place of the plate: where an engine's crop moves from frame to frame, a
neighbour's map is moved back first.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from void_server.engine import Array
from void_server.wire.shot import Window

REACH = 2
"""Frames on either side that a frame's maps are steadied by."""
SIGMA = 1.0


def steadied(maps: Mapping[int, Array], places: Mapping[int, Window], frame: int) -> Array:
    """Gaussian mean over time of what there is within REACH. maps: [h, w], each all over its place, a window of plate
    pixels. Where a neighbour shows nothing of a pixel, it does not count there."""
    own = maps[frame]
    total = np.zeros_like(own)
    mass: Array | float = 0.0
    for other in range(frame - REACH, frame + REACH + 1):
        if other not in maps:
            continue
        share = float(np.exp(-0.5 * ((other - frame) / SIGMA) ** 2))
        if maps[other].shape == own.shape and places[other] == places[frame]:
            total += np.float32(share) * maps[other]
            mass = mass + share
        else:
            moved, shows = _moved(maps[other], places[other], places[frame], own.shape)
            total += np.float32(share) * shows * moved
            mass = mass + share * shows
    return np.asarray(total / mass, np.float32)


def _moved(theirs: Array, place: Window, onto: Window, size: tuple[int, ...]) -> tuple[Array, Array]:
    """(a map of `place` on `onto`, at `size`, and where it shows anything there: 0 or 1)"""
    down, across = theirs.shape[0] / place.height, theirs.shape[1] / place.width
    y = ((np.arange(size[0]) + 0.5) * (onto.height / size[0]) + onto.y0 - place.y0) * down - 0.5
    x = ((np.arange(size[1]) + 0.5) * (onto.width / size[1]) + onto.x0 - place.x0) * across - 0.5
    columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    moved = cv2.remap(theirs, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = [(at >= -0.5) & (at <= n - 0.5) for at, n in ((y, theirs.shape[0]), (x, theirs.shape[1]))]
    return np.asarray(moved, np.float32), np.outer(*inside).astype(np.float32)
