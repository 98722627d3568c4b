"""How soft an engine draws, and what sharpens it without inventing anything.

What comes in: corrected fills and plates of a few frames, in code, and where the plate is known. What goes out: the
width of the fill's own blur, and weights of three bands. It knows no hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from void_server.engine import Array
from void_server.merge import drift
from void_server.merge.smoothing import blur, enlarged
from void_server.parallel import in_order
from void_server.process import threads

Mask = npt.NDArray[np.bool_]

WIDTHS = (0.0, 0.5, 0.7, 0.9, 1.2, 1.5, 2.0, 2.6)
"""Blurs that are tried, in the fill's own pixels: an autoencoder's lie between .5 and 1.5."""
BANDS = (0.7, 1.4, 2.8)
"""A fill's bands are what these blurs, in its own pixels, take from it."""
MOST = 12.0
"""No band is strengthened beyond this: more would show the engine's own noise."""
SAMPLES = 8000


def own_blur(views: Sequence[tuple[Array, Array, Mask]]) -> float:
    """The blur that makes the plates most like the fills. views: (fill, plate, known), [h, w, 3] and [h, w]."""

    def away(tried: tuple[float, int]) -> float:
        width, view = tried
        fill, plate, known = views[view]
        soft = blur(plate, width)
        return float(np.abs(drift.fitted(fill, soft, known.astype(np.float32)) - soft)[known].mean())

    every = [(width, view) for width in WIDTHS for view in range(len(views))]
    errors = np.reshape(list(in_order(away, every, threads())), (len(WIDTHS), len(views)))
    return WIDTHS[int(np.argmin(errors.mean(1)))]


def bands(fill: Array) -> list[Array]:
    """What each blur of BANDS takes from `fill` [h, w, 3]."""
    return [fill - blur(fill, width) for width in BANDS]


def samples(fill: Array, plate: Array, known: Mask) -> tuple[Array, Array]:
    """(bands of the fill, what it lacks of the plate), float32 [n, 3] and [n], where the plate is known.

    fill: corrected, at its own size; plate and known: at the plate's.
    """
    at = np.flatnonzero(known)
    at = at[:: max(1, len(at) // SAMPLES)]
    size = (known.shape[0], known.shape[1])
    own = np.stack([enlarged(b, size).reshape(-1, 3)[at].ravel() for b in bands(fill)], -1)
    return own, (plate - enlarged(fill, size)).reshape(-1, 3)[at].ravel()


def sharpening(sampled: Iterable[tuple[Array, Array]]) -> Array:
    """float32 [3]: how much of each band to add, so that the enlarged fill looks most like the plate (least squares).

    sampled: of each view; see `samples`. What is noise in the fill is not like the plate, so it holds the weights down
    by itself.
    """
    columns, wanted = zip(*sampled)
    a, y = np.concatenate(columns).astype(np.float64), np.concatenate(wanted).astype(np.float64)
    weights = np.linalg.solve(a.T @ a + np.eye(len(BANDS)) * 1e-6 * max(1, len(y)), a.T @ y)
    return np.asarray(np.clip(weights, -MOST, MOST), np.float32)


def sharpened(fill: Array, weights: Array) -> Array:
    """What sharpening adds to `fill` [h, w, 3]."""
    return np.asarray(sum(w * b for w, b in zip(weights, bands(fill))), np.float32)
