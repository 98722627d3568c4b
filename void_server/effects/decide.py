"""Decide, pixel by pixel, from what was measured and what the network believes.

What comes in: one frame's look, the region that classical cues find, where the background is beyond suspicion,
beliefs. What goes out: soft mattes of appearance and physics at the look's size. It knows no other frame's pixels.

The network tells what belongs to the object, but sees at half of 192 rows; the look is exact to the pixel, but takes a
passer-by's shadow or an error of registration for the object's. So each is believed where it is good.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.effects.cues import REACH, Look
from void_server.effects.predictor import Belief

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LIKELY, SURE = 0.5, 0.65
"""Chances of appearance: a region is made of likely pixels and holds a sure one. Measured on eleven pasted clips, their
second look alone: LIKELY .45 to .65 give mean overlaps of .68 to .69. No higher, since a first look that finds less
leaves more behind: on one of them, both looks together, .6 gives .55, .5 gives .65 and .45 gives .66. Beside a cow
without a shadow SURE .65 marks .46 % of the frame and .6 marks .56; eighteen pasted clips score .702 with either."""
PHYSICS_SURE = 0.45
"""Chance from which something counts as moving differently. Cells of VOID's moving_ball overlap by .70 from .15, .66
from .4, .61 from .45 and .57 from .5; passing cars that the object does nothing to mark 1.3, .45, .38 and .30 % of the
frame."""
PHYSICS_SUSPECT = 0.15
"""The same in a first look, which only decides what is left out of the background of the second: there too little is
worse than too much (moving_ball's cells: .48 with .45 in both looks)."""
APART = 2.5
"""Before a camera at rest the network is believed where the plate deviates by so many noise units. From 2 on, where a
shadow's cues begin, a tree's shadow that moves is marked beside a car's that a tight matte lets reach it (highway:770
shrunk by 6 % loses .084 of its overlap, with 2.5 .068); from 3 on too little is left of a shadow on churned earth (with
AT_REST_PX at .15: .67 instead of .77)."""
DEVIATES, MOVES = 0.03, 0.2
"""With a moving camera, at least the share DEVIATES of a region's known pixels deviates from the background, or it is
none: dark ground beside an object is else taken for its shadow. Of regions that are mostly true, on eighteen pasted
clips, .036 to .71 deviates at least; of the dark side of a ramp beside a goat without a shadow .007. Nothing is asked
unless other frames show the share MOVES of what the object covers: one that never leaves its place has its effect in
every background."""
REGISTERED = 0.02
"""Far deviation below which a moving camera is registered as well as one at rest. Handheld films lie at .02 to .14,
made-up ones below .01."""
QUIET = 0.05
"""Share of the far picture that may deviate before a camera at rest is taken at its word: where smoke, drifting light
or seams make more of it deviate, so do they beside the object (haze over a race track 9 to 26 %, real highways 0 to 2;
flat from .02 to .08)."""
FAR_LEAST = 0.02
"""Share of the picture that far must be to tell anything; without it nothing speaks against the background."""
BESIDE_PX, MOSTLY = 2, 0.5
"""Slivers beside what was found are found too, where at least MOSTLY of one lies within BESIDE_PX. Overlaps of four
pasted clips of the tuning half gain .02 to .07; a corridor with a mirroring floor, taken for a moving camera's,
loses .01."""
EDGE_PX = 2
"""Somebody else's outline is good to this."""
SOFT_PX = 1.0


@dataclasses.dataclass(frozen=True)
class Decision:
    """float32 [h, w] in [0, 1], 0 under the matte."""

    sure: Array
    """What the object changed the look of, beyond reasonable doubt."""
    suspected: Array
    """What it may have; none of what is sure."""
    physics: Array
    """What would move differently."""


def decide(
    look: Look,
    attached: Mask,
    known: Mask,
    others: Mask,
    somebody: Mask,
    at_rest: bool,
    belief: Belief,
    neighbours: Sequence[Belief],
    physics_from: float,
) -> Decision:
    """What of one frame is sure, what suspected, what would move.

    at_rest: the camera rests. Then the look is exact to the pixel: its cues are taken as they are, and beside them only
    what deviates as well as being likely. known: where the background is known; before a camera at rest, only where a
    lack of deviation proves that there is no effect. others: where something else moves; what is opaque there is no
    more than suspected. somebody: where somebody stands who was followed from where he stood apart; nothing there is.
    physics_from: the chance from which something counts as moving differently.
    With a moving camera, or at rest before a picture that does not keep quiet, errors of registration deviate too, and
    the network decides; it is only held to its word that something differs.
    """
    height, width = look.z.shape
    outside = look.matte == 0
    restless = _far_deviation(look)
    at_rest = at_rest and restless < QUIET
    chance = _enlarged(_steady(belief.appearance, [b.appearance for b in neighbours]), height, width)
    likely = (chance > LIKELY) & outside
    if at_rest:
        likely &= look.apart(APART) | ~known
    kept = _holding(likely, (chance > SURE) & outside)
    if at_rest:
        kept |= attached
    else:
        if restless < REGISTERED:
            # Both pictures lie pixel on pixel here too: what the network is sure of is followed to its end.
            kept |= _holding(attached, kept)
        if known[~outside].mean() > MOVES:
            kept = _deviating(kept, look.deviates, known)
    physics = _enlarged(_steady(belief.physics, [b.physics for b in neighbours]), height, width) > physics_from
    # A shadow with a sharp edge moves too; who wears dark clothes was seen apart, or the network knows better.
    theirs = (_edged(others) & (look.dark == 0)) | _edged(somebody)
    ours = kept & outside & ~theirs
    if not at_rest:  # there the cues end where the effect does
        ours = _closed(ours, look.deviates & ~theirs)
    sure = _soft(ours, outside)
    doubted = _soft(kept & outside, outside)
    return Decision(sure, np.where(sure > 0, 0, doubted).astype(np.float32), _soft(physics & outside, outside))


def _edged(mask: Mask) -> Mask:
    """As far as its outline may really reach."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * EDGE_PX + 1,) * 2, np.uint8)) > 0)


def _far_deviation(look: Look) -> float:
    """Share of the picture far from the object that deviates from its background: how badly the two are registered."""
    outside = look.matte == 0
    distance = cv2.distanceTransform(outside.astype(np.uint8), cv2.DIST_L2, 3)
    far = distance > REACH * np.sqrt((~outside).sum())
    return float(look.deviates[far].mean()) if far.mean() > FAR_LEAST else 0.0


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


def _deviating(region: Mask, deviates: Mask, known: Mask) -> Mask:
    """The parts of `region` of whose known pixels enough deviate."""
    count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    seen, differ = (np.bincount(labels[where], minlength=count) for where in (known, deviates))
    keep = differ >= DEVIATES * np.maximum(seen, 1)
    keep[0] = False
    return np.asarray(keep[labels], bool)


def _closed(region: Mask, deviates: Mask) -> Mask:
    """`region` with what is left beside it: whatever deviates and lies mostly along it is the same effect's edge."""
    beside = cv2.dilate(region.astype(np.uint8), np.ones((2 * BESIDE_PX + 1,) * 2, np.uint8)) > 0
    count, labels = cv2.connectedComponents(deviates.astype(np.uint8), connectivity=8)
    near, area = (np.bincount(labels[where], minlength=count) for where in (beside & deviates, deviates))
    keep = near >= MOSTLY * np.maximum(area, 1)
    keep[0] = False
    return np.asarray(region | keep[labels], bool)


def _soft(mask: Mask, outside: Mask) -> Array:
    """One pixel of soft edge around the mask, none of it under the matte; slivers one pixel thin stay whole."""
    solid = mask.astype(np.float32)
    soft = np.maximum(solid, cv2.GaussianBlur(solid, (0, 0), SOFT_PX))
    return np.asarray(np.where(outside, soft, 0), np.float32)
