"""Decide, pixel by pixel, from what was measured and what the network believes.

What comes in: one frame's look, the region that classical cues find, where the background is beyond suspicion, beliefs. What
goes out: soft mattes of appearance and physics at the look's size. It knows no other frame's pixels.

The network tells what belongs to the object but sees at half of 192 rows; the look is exact to the pixel but can't tell a
shadow of the object from one of a passer-by. So each is believed where it is good.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.effects.cues import Look
from void_server.effects.predictor import Belief

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SURE, LIKELY, POSSIBLE = 0.5, 0.25, 0.08
"""Chances: a region needs a sure pixel; reaches over likely ones that deviate; cues alone need it to be possible."""
PHYSICS_SURE = 0.55
"""Higher than SURE: on real clips the network's idea of what would move is often wrong (see MODEL_CARD.md)."""
SOFT_PX = 1.0


def decide(
    look: Look, attached: Mask, clear: Array, belief: Belief, neighbours: Sequence[Belief]
) -> tuple[Array, Array]:
    """(appearance, physics), float32 [h, w] in [0, 1], 0 under the matte.

    clear: [h, w] in [0, 1], see `engine.Behind`: at 0 a lack of deviation proves nothing, at 1 the cues need no network.
    """
    height, width = look.z.shape
    outside = look.matte == 0
    chance = _enlarged(_steady(belief.appearance, [b.appearance for b in neighbours]), height, width)
    deviates = look.deviates | (clear == 0)
    region = (chance > LIKELY) & deviates & outside
    kept = _holding(region, (chance > SURE) & outside)
    kept |= attached & ((clear >= 1) | (cv2.dilate(chance, np.ones((7, 7), np.uint8)) > POSSIBLE))
    physics = _enlarged(_steady(belief.physics, [b.physics for b in neighbours]), height, width) > PHYSICS_SURE
    return _soft(kept & outside, outside), _soft(physics & outside, outside)


def _steady(own: Array, near: Sequence[Array]) -> Array:
    """The belief of a frame, evened out with those beside it: half its own weight."""
    if not near:
        return own
    return np.asarray(0.5 * own + 0.5 * np.mean(near, axis=0), np.float32)


def _enlarged(chance: Array, height: int, width: int) -> Array:
    return np.asarray(cv2.resize(chance, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _holding(region: Mask, sure: Mask) -> Mask:
    """The parts of `region` that hold something sure."""
    count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    keep = np.bincount(labels[sure & region], minlength=count) >= 3
    keep[0] = False
    return np.asarray(keep[labels], bool)


def _soft(mask: Mask, outside: Mask) -> Array:
    """One pixel of soft edge, none of it under the matte."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), SOFT_PX)
    return np.asarray(np.where(outside, soft, 0), np.float32)
