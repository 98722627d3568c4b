"""Bring an engine's colours back to the plate's.

What comes in: a fill and what it should show, at the fill's size, in code, with a weight. What goes out: the fill moved
to meet it. It knows no recovered background: the caller says what is known.

A generative engine draws the known surroundings again, a little off: in contrast, in colour, unevenly over the picture
and anew on every frame. That is measured where the truth is known and removed in two steps: gain and a surface of
second degree by Huber's robust fit, then what is left, smoothed widely. Every frame is corrected by itself, since the
error does not follow the scene: what is left of one frame's error says nothing about the next one's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from void_server.engine import Array
from void_server.merge.smoothing import blur, spread

SAMPLES = 6000
"""Known samples that the nine numbers of a channel are fitted to, evenly picked."""
ROUNDS = 3
HUBER = 1.5
"""Deviations from the fit, in medians, beyond which a sample counts less."""
HOLD_GAIN, HOLD_SURFACE = 1e-4, 1e-3
"""How strongly gain is held at 1 and the surface at 0, in shares of the samples: little is known of a small ring."""
WIDTH = 0.06
"""Of the smoothing of what is left, in width plus height."""
NARROWEST = 8.0
LIMIT = 0.03
"""What is left differs by no more than this through drift; beyond lies other content."""
THIN = 0.1
"""Share of known ground in a neighbourhood below which its difference is believed less."""


def surfaces(size: tuple[int, int]) -> Array:
    """float32 [h * w, 6]: all products of second degree in x and y, which go from -1 to 1."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return np.stack([columns**i * rows**j for i in range(3) for j in range(3 - i)], -1).reshape(-1, 6)


def fitted(fill: Array, target: Array, weight: Array) -> Array:
    """`fill` [h, w, 3] with gain and a smooth surface per channel, so that it meets `target` where `weight` [h, w]."""
    at = np.flatnonzero(weight > 0.05)
    at = at[:: max(1, len(at) // SAMPLES)]
    shape = surfaces((fill.shape[0], fill.shape[1]))
    known, importance = shape[at].astype(np.float64), weight.ravel()[at].astype(np.float64)
    hold = np.full(7, HOLD_SURFACE * len(at))
    hold[0] = HOLD_GAIN * len(at)
    prior = np.zeros(7)
    prior[0] = 1
    out = np.empty_like(fill)
    for channel in range(fill.shape[-1]):
        own, wanted = (p[..., channel].ravel()[at].astype(np.float64) for p in (fill, target))
        columns = np.concatenate([own[:, None], known], 1)
        share = importance
        for _ in range(ROUNDS):
            weighted = columns * share[:, None]
            k = np.linalg.solve(weighted.T @ columns + np.diag(hold), weighted.T @ wanted + hold * prior)
            away = np.abs(wanted - columns @ k)
            share = importance / np.maximum(1, away / (HUBER * float(np.median(away)) + 1e-4))
        surface = (shape @ k[1:].astype(np.float32)).reshape(fill.shape[:2])
        out[..., channel] = np.float32(k[0]) * fill[..., channel] + surface
    return out


def corrected(fill: Array, target: Array, weight: Array) -> Array:
    """`fill` moved to meet `target` [h, w, 3] where `weight` [h, w] says that it is known, and smoothly elsewhere."""
    moved = fitted(fill, target, weight)
    sigma = max(NARROWEST, WIDTH * sum(weight.shape))
    left = spread(np.clip(target - moved, -LIMIT, LIMIT), weight, sigma, 1e-3)
    mass = blur(weight, sigma)
    return np.asarray(moved + left * (mass / (mass + THIN))[..., None], np.float32)


def noise(fill: Array, target: Array, known: npt.NDArray[np.bool_]) -> float:
    """Median absolute deviation of `fill` from `target` over known ground."""
    return float(np.median(np.abs(target - fill)[known])) if known.any() else 0.0
