"""What an engine really made different from the plate, beyond its own noise and drift.

What comes in: frames at the fill's size, their fills corrected on known ground. What goes out: the affected matte that
follows. It knows no background.

An engine that can move things is asked to repaint more than anybody found; most of what it repaints comes out as it
was. A difference counts where its *signed* mean over a small neighbourhood exceeds what the engine's error makes of it:
an effect is coherent, misplaced detail averages out.
"""

from __future__ import annotations

import cv2
import numpy as np

from void_server.engine import Array
from void_server.image.matte import AFFECTED_FLOOR
from void_server.merge.agreement import FillError, detail
from void_server.merge.reduced import Drawn
from void_server.merge.smoothing import blur

OVER = 1.5
"""Sigma of the neighbourhood, in the fill's pixels."""
MISPLACED, OF_ERROR, MOST_ERROR = 0.03, 0.15, 1.0
"""Share of the detail's variance that the mean over a neighbourhood keeps where it is misplaced: a little always, and
so much of the error that was measured, up to MOST_ERROR."""
ROUNDING = (1 / 255) ** 2
FROM, SURE, SURER, SHARE = 16.0, 32.0, 48.0, 0.2
"""A difference of this many variances belongs to one that reaches `SURE` somewhere, or is noise. Beside a strong one a
weak one is believed later: from so large a share of the frame's strongest on, up to `SURER`. (An engine that invents a
third of its middle band reached 43 where nothing had changed.)"""
EDGE, EDGE_PX = 0.4, 3
"""A neighbourhood's mean reaches beyond the edge of a strong difference: what is less than this share of the most that
lies within so many pixels is that reach. Of a step that a Gaussian of 1.7 pixels blurred, .5 is the edge itself."""
REMOVED = 0.02


def departure(drawn: Drawn, fill: Array, error: FillError, softness: float) -> Array:
    """float32 [h, w]: squared mean difference from the plate, in variances; 0 under what is removed anyway and where
    nothing was asked for. fill: [h, w, 3], corrected; drawn.hole: the object alone."""
    away = blur(drawn.plate, softness) - fill
    free = (drawn.hole < REMOVED).astype(np.float32)
    mass = blur(free, OVER) + 1e-3
    mean = blur(away * free[..., None], OVER) / mass[..., None]
    misplaced = MISPLACED + OF_ERROR * min(error.fine, MOST_ERROR)
    variance = error.noise + misplaced * detail(fill, over=2 * OVER) + ROUNDING
    return np.asarray((mean**2).mean(-1) / variance * free * (drawn.asked > 0), np.float32)


def affected(departures: Array) -> Array:
    """float32 [h, w] in [0, 1]: a matte that reaches AFFECTED_FLOOR where a departure, steadied over time, belongs to
    an effect. It follows the amplitude, so its edge lies where it does after enlarging."""
    count, parts = cv2.connectedComponents((departures > FROM).astype(np.uint8), connectivity=8)
    strongest = np.zeros(count, np.float32)
    np.maximum.at(strongest, parts.ravel(), departures.ravel())
    keeps = strongest > np.clip(SHARE * strongest.max(), SURE, SURER)
    keeps[0] = False
    kept = cv2.dilate(keeps[parts].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    amplitude = np.sqrt(departures)
    around = cv2.dilate(amplitude, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE_PX + 1,) * 2))
    edge = (amplitude / np.maximum(EDGE * around, 1e-6)) ** 2
    marked = AFFECTED_FLOOR * np.minimum(amplitude / np.sqrt(FROM), edge)
    return np.where(kept, np.clip(marked, 0, 1), 0).astype(np.float32)
