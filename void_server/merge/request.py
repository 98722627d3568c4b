"""What an engine is asked to repaint: more than has to be replaced.

What comes in: a marked shot. What goes out: the same shot under wider marks. It knows no engine and no fill.

Around the hole lies the *decoy ring*: repainted, though the truth is known there, so that the engine's error can be
measured. A generous request goes further, to where the object's effects may be that nobody has found: along the ground,
where shadows fall, and below it. What really changed is decided afterwards, by what the engine made different.
"""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import numpy.typing as npt

from void_server.engine import Array
from void_server.image import fit
from void_server.image.matte import MATTE_FLOOR
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.contract import large
from void_server.shot.frame_cache import Held
from void_server.shot.marked import MarkedShot
from void_server.shot.marks import Found, Marks, cut_out
from void_server.wire.report import Report

RING_PX, RING_SHARE = 40, 1 / 24
"""Width of the ring in plate pixels, and at least this share of the hole's longer side: a dozen of an engine's own
pixels, whatever the size of the hole."""
RING_MOST = 1 / 12
"""Of the plate's shorter side."""
SIDE = 540
"""The request is drawn on a picture of at most this short side."""
AROUND, ALONG, BELOW = 0.4, 1.6, 0.5
"""Of the size (root of its area) of the object: above and below it and what it affected, to both sides, and more of it
below the object."""


def widened(shot: MarkedShot, report: Report, *, generous: bool) -> MarkedShot:
    """The shot as the engine sees it. generous: ask for what nobody has found, too."""
    scale = min(1.0, SIDE / min(shot.size))
    frames = [frame for frame in shot.frames if shot.hole(frame) is not None]

    def row(frame: int) -> tuple[Held, Held, Held]:
        mattes = (
            _asked(shot, frame, scale, generous),
            shot.physics(frame, None, scale),
            shot.suspected(frame, None, scale),
        )
        return cut_out(*mattes)

    with contextlib.closing(in_order(row, frames, threads(), report.check_cancelled, heavy=large(shot.size))) as rows:
        cuts = [(frame, *three) for frame, three in zip(frames, rows)]
    found = Found.of_cuts(fit.scaled_size(*shot.size, scale), cuts)
    return shot.with_marks(Marks(shot.checked, found)).prepared(report.check_cancelled)


def _asked(shot: MarkedShot, frame: int, scale: float, generous: bool) -> Array:
    hole = shot.hole(frame)
    assert hole is not None
    change = shot.change(frame, None, scale) > 0
    ring = max(RING_PX, RING_SHARE * max(hole.width, hole.height))
    width = min(ring, RING_MOST * min(shot.size)) * scale
    if generous:
        matte = (shot.matte(frame, None, scale) > MATTE_FLOOR).astype(np.uint8)
        size = float(np.sqrt(matte.sum()))
        below = max(1, round(BELOW * size))
        # The anchor is the kernel's lowest row, so that the object is drawn downwards.
        change = change | (cv2.dilate(matte, np.ones((below, 1), np.uint8), anchor=(0, below - 1)) > 0)
        change |= _around(change, AROUND * size, ALONG * size)
    away = cv2.distanceTransform((~change).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(away <= width, np.float32)


def _around(mask: npt.NDArray[np.bool_], down: float, across: float) -> npt.NDArray[np.bool_]:
    """`mask` grown by an ellipse, measured on a picture that is squeezed until the ellipse is a circle."""
    height, width = mask.shape
    narrow = max(1, round(width * down / across))
    squeezed = cv2.resize(mask.astype(np.float32), (narrow, height), interpolation=cv2.INTER_AREA) > 0
    away = cv2.distanceTransform((~squeezed).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(cv2.resize(away, (width, height), interpolation=cv2.INTER_LINEAR) <= down, bool)
