"""Maps steadied over neighbouring frames.

What comes in: maps of one frame and of its neighbours. What goes out: one map. It knows no pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from void_server.engine import Array

REACH = 2
"""Frames on either side that a frame's maps are steadied by."""
SIGMA = 1.0


def steadied(maps: Mapping[int, Array], frame: int) -> Array:
    """Gaussian mean over time of what there is within REACH; a neighbour of another size does not count."""
    own = maps[frame]
    total, mass = np.zeros_like(own), 0.0
    for other in range(frame - REACH, frame + REACH + 1):
        theirs = maps.get(other)
        if theirs is not None and theirs.shape == own.shape:
            share = float(np.exp(-0.5 * ((other - frame) / SIGMA) ** 2))
            total += np.float32(share) * theirs
            mass += share
    return np.asarray(total / mass, np.float32)
