"""How much light a shadow takes, by how deep in it a place lies; and the plate with that light given back.

What comes in: a plate in code, what it should look like where that is known, and which pixels only changed their light.
What goes out: a curve over depth, and a picture. It does not know donors.

Where no donor shows what lies in a shadow, or those that do show another rock, the plate still does: it is only darker.
A shadow divides light, which in code is an offset; with one sun it is as deep and as soft on one frame as on another,
so what was learnt where donors are right serves where there are none. Depth is the distance from what is in the open.
Source of the model, one factor over an umbra and a fall-off over a penumbra: Arbel and Hel-Or, Shadow Removal Using
Intensity Surfaces and Texture Anchor Points, PAMI 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.pyramid import spread
from void_server.background.relight import averaged
from void_server.shot.contract import Array

Mask = npt.NDArray[np.bool_]

BINS = 17
"""Depths of 0, 1 ... 16 pixels of the survey's small picture; deeper counts as the last."""
SAMPLES = 200
"""Taken of each depth and frame."""
LEAST = 50
"""Samples without which a depth is taken to be as dark as the one above it."""
DARK = 0.02
"""Code that a shadow takes at least, in every channel: less is not worth the risk, and a glow is no shadow."""
KNOWN = 0.7
"""Share of the plate in a relit pixel from which its offset is believed."""
WIDE, SMOOTH = 12.0, 3.0
"""How far around a shadow the open is looked at, and how coarsely; in small pixels."""
DISPUTED, SPREADS = 3.0, 0.2
"""Donors that differ by so many times what they differ by around the hole do not show the same thing; and where so
large a share of a neighbourhood is unexplained, the rest agrees by chance (.35 costs paste:goat:camel 1.3 dB)."""
NEAR, ABOUT, QUIET = 9, 31, 0.004
"""Sides of the neighbourhoods, in small pixels, and the least disagreement in code that is told from grain."""
EVEN = 0.07
"""Deviation of the open ground's code: tarmac has .03 to .04, rock, turf and a ramp .15 to .25 (pasted clips)."""


def depth(shade: Mask, bare: Mask, scale: float) -> Array:
    """[h, w]: distance of shaded pixels from what is in the open, in small pixels; at most BINS - 1."""
    far = cv2.distanceTransform((~bare).astype(np.uint8), cv2.DIST_L2, 5) * np.float32(scale)
    return np.asarray(np.where(shade, np.minimum(far, BINS - 1), 0), np.float32)


def sampled(offset: Array, sure: Mask, depths: Array) -> list[Array]:
    """By depth, offsets [n, 3] of pixels that are sure: every so many-th, so that the same come out every time."""
    bins = depths[sure].astype(int)
    found = offset[sure]
    out = []
    for k in range(BINS):
        here = found[bins == k]
        out.append(here[:: max(1, len(here) // SAMPLES)][:SAMPLES])
    return out


def by_contrast(own: Array, shade: Mask, bare: Mask, depths: Array, scale: float) -> list[Array]:
    """The same as `sampled`, from how much darker the shade is than the open around it. On patchy ground it comes out
    too small (by half on paste:goat:camel), so it serves only where no donor told."""
    width = WIDE / scale
    weight = _around(shade, bare, scale).astype(np.float32)
    reached = cv2.GaussianBlur(weight, (0, 0), width) > 0.05
    return sampled(averaged(own, weight, width) - own, shade & reached, depths)


def unexplained(shade: Mask, own: Array, bare: Mask, known: Mask, scatter: Array, ring: Mask, scale: float) -> Mask:
    """Where in a shadow no donor tells what lies there, or donors contradict each other.

    known: what donors show; scatter: how far they disagree, in code; ring: the hole's surroundings, seen by donors too.
    """
    doubtful = shade & ~known
    if not shade.any():
        return doubtful
    if (known & ring).sum() > LEAST:
        usual = max(float(np.median(scatter[known & ring])), QUIET)
        side = round(NEAR / scale) | 1
        doubtful |= shade & known & (cv2.blur(scatter, (side, side)) > DISPUTED * usual)
    side = round(ABOUT / scale) | 1
    about = cv2.blur(doubtful.astype(np.float32), (side, side))
    doubtful |= shade & (about > SPREADS * cv2.blur(shade.astype(np.float32), (side, side)))
    if (doubtful & ~known).any() and _even(own, shade, bare, scale):
        doubtful &= known
    return np.asarray(doubtful, bool)


def curve(samples: Sequence[Sequence[Array]]) -> Array | None:
    """Offset by depth, float32 [BINS, 3], never falling; None where it is no shadow. samples: of several frames."""
    out = np.zeros((BINS, 3), np.float32)
    for k in range(BINS):
        here = np.concatenate([s[k] for s in samples]) if samples else np.zeros((0, 3), np.float32)
        out[k] = np.median(here, axis=0) if len(here) >= LEAST else out[max(0, k - 1)]
    out = np.maximum.accumulate(np.maximum(out, 0), axis=0)
    return out if (out[-1] >= DARK).all() else None


def lit(own: Array, depths: Array, falloff: Array, code: Array, sure: Mask) -> Array:
    """The plate with its light given back, as the curve has it and as the nearest sure pixels differ from the curve.

    own: code [h, w, 3]; code, sure: what it should look like, where that is known.
    """
    low = np.floor(depths).astype(int)
    share = (depths - low)[..., None].astype(np.float32)
    high = np.minimum(low + 1, BINS - 1)
    offset = falloff[low] * (1 - share) + falloff[high] * share
    weight = sure.astype(np.float32)
    return np.asarray(own + offset + spread((code - own - offset) * weight[..., None], weight), np.float32)


def _even(own: Array, shade: Mask, bare: Mask, scale: float) -> bool:
    """Whether the ground around a shadow is all alike, as tarmac is. There what is invented fits, grain and all, and
    light that is given back by rule stays uneven (paste:car-shadow:camel: 34.2 against 30.3 dB)."""
    near = _around(shade, bare, scale)
    if near.sum() < LEAST:
        return False
    smooth = averaged(own.mean(2), near.astype(np.float32), SMOOTH / scale)
    return bool(smooth[near].std() < EVEN)


def _around(shade: Mask, bare: Mask, scale: float) -> Mask:
    return np.asarray(bare & (cv2.distanceTransform((~shade).astype(np.uint8), cv2.DIST_L2, 5) < 2 * WIDE / scale))
