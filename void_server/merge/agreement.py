"""How far the recovered background and the fill show the same thing, weighed by the error that each is known to make.

What comes in: frames at the fill's size. What goes out: maps at that size. It knows no plate pixels.

The engine repaints more than it has to: on this *decoy ring* the truth is known, so its error is measured there, as a
multiple of the detail that it drew. An error that large says nothing; a larger one says that the two differ. Both are
weighed as a likelihood ratio between "the same, but for these errors" and "something else, as different as this picture
is in itself", on a fine and a coarse scale, since misplaced detail is fine and another thing is coarse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from void_server.engine import Array
from void_server.merge.reduced import Behind, Drawn
from void_server.merge.smoothing import blur, step
from void_server.parallel import in_order
from void_server.process import threads

LEAST_NOISE = (0.6 / 255) ** 2
TOLERANCE = (1 / 255) ** 2
"""What two right answers may differ by."""
BACKGROUND_NOISE = (1 / 255) ** 2
CLEAR_PX = 4
"""Distance from the hole at which the ring is not touched by what the fill continues into it, in its own pixels."""
FEWEST = 20
QUANTILE = 0.9
"""Of the errors on the ring, against their detail: nine in ten must not pass for another thing."""
DOUBTFUL_QUANTILE = 0.6
"""The same while effects that nobody has found may lie on the ring."""
UNMEASURED = 0.4
"""Error against detail where there is no ring: that of a model which invents a third of its middle band."""
DETAIL, DETAIL_OVER = 4.0, 3.0
FINE, COARSE, COARSE_OVER = 1.5, 3.0, 3.0
"""Widths in the fill's pixels over which differences are pooled, and of the coarse scale itself."""
WEIGHT_FINE, WEIGHT_COARSE = 4, 2
"""Independent looks that a pooled difference counts as."""
OTHER, OTHER_OVER, OTHER_LEAST = 8.0, 6.0, (8 / 255) ** 2
PRIOR = 1.0
"""Log odds for the two being the same: where the fill is too unsure to tell, real pixels are the better guess."""
STRUCTURE = 2.5
SCATTER_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class FillError:
    """What a shot's fills are known to be off by."""

    noise: float
    """Variance on known ground."""
    fine: float
    coarse: float
    """Variance beyond noise on the ring, as a multiple of the detail drawn there."""
    structure: float
    """Likeness of its detail and the truth's, in [0, 1]."""


def detail(fill: Array, width: float = DETAIL, over: float = DETAIL_OVER) -> Array:
    """[h, w]: energy of what is finer than `width`, pooled."""
    return blur(((fill - blur(fill, width)) ** 2).mean(-1), over)


def differences(one: Array, other: Array) -> tuple[Array, Array]:
    """[h, w] twice: squared differences on the fine and the coarse scale."""
    away = one - other
    return blur((away**2).mean(-1), FINE), blur((blur(away, COARSE) ** 2).mean(-1), COARSE_OVER)


def likeness(one: Array, other: Array, noise: float) -> Array:
    """[h, w] in [-1, 1]: structural similarity of the fine bands (the second term of SSIM: Wang et al., TIP 2004)."""
    a, b = ((p - blur(p, STRUCTURE)).mean(-1) for p in (one, other))
    return np.asarray((2 * blur(a * b, FINE) + noise) / (blur(a * a, FINE) + blur(b * b, FINE) + noise), np.float32)


def measured(views: Sequence[tuple[Drawn, Array]], softness: float, quantile: float = QUANTILE) -> FillError:
    """A shot's error of fill, from some of its frames: (frame, its corrected fill)."""
    every = range(len(views))
    noises = [one for one in in_order(lambda i: _noise(*views[i], softness), every, threads()) if one is not None]
    noise = max(float(np.mean(noises)) if noises else 0.0, LEAST_NOISE)
    rings = list(in_order(lambda i: _on_ring(*views[i], softness, noise), every, threads()))
    errors = [one[0] for one in rings if one is not None]
    if not errors:
        return FillError(noise, UNMEASURED, UNMEASURED, 1.0)
    likes = np.concatenate([one[1] for one in rings if one is not None])
    fine, coarse = np.quantile(np.concatenate(errors), quantile, axis=0)
    return FillError(noise, float(fine), float(coarse), float(np.clip(likes.mean(), 0, 1)))


def _noise(drawn: Drawn, fill: Array, softness: float) -> float | None:
    """Variance of a fill on known ground where it is calm; None where nothing is known."""
    soft = blur(drawn.plate, softness)
    busy = ((fill - blur(fill, 1.0)) ** 2).mean(-1)[drawn.known]
    away = ((fill - soft) ** 2).mean(-1)[drawn.known]
    calm = busy <= np.median(busy) if len(busy) else np.zeros(0, bool)
    return float(away[calm].mean()) if calm.any() else None


def _on_ring(drawn: Drawn, fill: Array, softness: float, noise: float) -> tuple[Array, Array] | None:
    """(errors beyond noise against detail, fine and coarse: [N, 2]; likeness [N]) on the ring; None without one."""
    soft, ring = blur(drawn.plate, softness), ring_of(drawn)
    if ring.sum() < FEWEST:
        return None
    drawn_detail = detail(fill)[ring] + TOLERANCE
    errors = np.stack([np.maximum(d[ring] - noise, 0) / drawn_detail for d in differences(soft, fill)], -1)
    return np.asarray(errors, np.float32), likeness(soft, fill, noise)[ring]


def ring_of(drawn: Drawn) -> np.ndarray:
    """bool [h, w]: repainted, though nothing there has to be replaced."""
    hole = (drawn.hole > 0).astype(np.uint8)
    near = cv2.dilate(hole, np.ones((2 * CLEAR_PX + 1,) * 2, np.uint8)) > 0
    return np.asarray((drawn.asked > 0.9) & ~near, bool)


@dataclasses.dataclass(frozen=True)
class Compared:
    """Fill against recovered background on one frame, all [h, w]."""

    odds: Array
    """Logarithm, for the two being the same."""
    like: Array
    fill_variance: Array
    background_variance: Array
    coverage: Array


def compare(fill: Array, behind: Behind, error: FillError, softness: float) -> Compared:
    """fill: [h, w, 3], corrected."""
    soft = blur(behind.code, softness)
    drawn, scatter = detail(fill), blur(behind.scatter, 1.0) ** 2
    other = detail(fill, OTHER, OTHER_OVER) + OTHER_LEAST
    odds = np.full(drawn.shape, PRIOR, np.float32)
    both = zip(differences(soft, fill), (error.fine, error.coarse), (WEIGHT_FINE, WEIGHT_COARSE))
    for away, share, looks in both:
        same = error.noise + TOLERANCE + share * drawn + np.minimum(scatter, SCATTER_SHARE * drawn)
        odds += looks / 2 * (np.log((same + other) / same) - away * (1 / same - 1 / (same + other)))
    return Compared(
        odds.astype(np.float32),
        likeness(soft, fill, error.noise),
        np.asarray(error.noise + error.fine * drawn, np.float32),
        np.asarray(scatter / 2 + BACKGROUND_NOISE, np.float32),
        behind.coverage,
    )


def weights(
    own: Compared, odds: Array, like: Array, background_variance: Array, structure: float
) -> tuple[Array, Array, Array]:
    """(agreement, weight of the background's light, of its detail), [h, w] in [0, 1].

    odds, like, background_variance: of the frame, steadied over its neighbours. structure: as in `FillError`.
    """
    agree = np.asarray(own.coverage / (1 + np.exp(-np.clip(odds, -30, 30))), np.float32)
    light = agree * own.fill_variance / (own.fill_variance + background_variance)
    fine = agree * ((1 - structure) + structure * step(like, LOW_LIKE * structure, HIGH_LIKE * structure))
    return agree, light.astype(np.float32), fine.astype(np.float32)


LOW_LIKE, HIGH_LIKE = 0.2, 0.7
"""Shares of the likeness that the fill has with the truth, below which detail is another's and above which it is the
same."""
