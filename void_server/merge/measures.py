"""What is measured once of a shot's fills: how soft they are, how to sharpen them, and by how much they are off.

What comes in: some of its frames, at the fill's size and at the plate's. What goes out: `Measures`, frozen for the
whole shot, and any frame's fill corrected by them. Which frames are wanted makes no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from void_server.engine import Array
from void_server.merge import agreement, drift, softness
from void_server.merge.agreement import FillError
from void_server.merge.reduced import Behind, Drawn, Mask
from void_server.merge.smoothing import blur, step
from void_server.parallel import in_order
from void_server.process import threads

VIEWS = 9
"""Frames, spread over the shot, that are measured."""
LEAST_KNOWN = 400
"""Known samples of a fill below which nothing can be measured of it."""
AGREES, DIFFERS = 1.5, 3.0
"""Differences, in deviations of the fill on known ground, up to which recovered ground helps to correct it, and from
which it does not."""
LEAST_DEVIATION = 0.003


@dataclasses.dataclass(frozen=True)
class Measures:
    """Of one engine's fills of one shot."""

    softness: float
    """Sigma of the fill's own blur, in its own pixels."""
    sharpening: Array
    """float32 [3]; see `softness.sharpening`."""
    error: FillError


def measured(
    views: Sequence[Drawn], plates: Callable[[Drawn], tuple[Array, Mask]], *, all_found: bool = True
) -> Measures | None:
    """Of some of a shot's frames. plates: one's crop at plate resolution, in code, and where it is known. None where
    the engine redrew too little of what is known for anything to be measured.

    all_found: whether `hole` holds all that the object did. Else what is left of it is no error of the engine's.
    """
    usable = [v for v in views if v.known.sum() >= LEAST_KNOWN]
    if not usable:
        return None
    width = softness.own_blur([(v.fill, v.plate, v.known) for v in usable[:: max(1, len(usable) // 4)]])

    def sampled(index: int) -> tuple[Array, Array]:
        return softness.samples(corrected(usable[index], width), *plates(usable[index]))

    sharpening = softness.sharpening(in_order(sampled, range(len(usable)), threads()))
    return Measures(width, sharpening, _error(usable, width, all_found))


def measured_again(measures: Measures, views: Sequence[Drawn]) -> Measures:
    """With the error as it is on views whose `hole` now holds all that the object did."""
    usable = [v for v in views if v.known.sum() >= LEAST_KNOWN]
    return dataclasses.replace(measures, error=_error(usable, measures.softness, True))


def _error(views: Sequence[Drawn], width: float, all_found: bool) -> FillError:
    quantile = agreement.QUANTILE if all_found else agreement.DOUBTFUL_QUANTILE
    fills = in_order(lambda index: corrected(views[index], width), range(len(views)), threads())
    return agreement.measured(list(zip(views, fills)), width, quantile)


def corrected(drawn: Drawn, width: float, behind: Behind | None = None) -> Array:
    """A fill moved to meet what is known. With the recovered background, to meet that as well, where it is much the
    same already: the drift in the middle of a hole is then measured there."""
    plate, known = blur(drawn.plate, width), drawn.known.astype(np.float32)
    fill = drift.corrected(drawn.fill, plate, known)
    if behind is None:
        return fill
    soft = blur(behind.code, width)
    deviation = 1.5 * drift.noise(fill, plate, drawn.known) + LEAST_DEVIATION
    away = blur(np.abs(fill - soft).mean(-1), 1.0)
    same = (1 - step(away, AGREES * deviation, DIFFERS * deviation)) * (drawn.hole > 0.01) * behind.coverage
    target = np.where(drawn.known[..., None], plate, soft)
    return drift.corrected(drawn.fill, target, known + same.astype(np.float32))
