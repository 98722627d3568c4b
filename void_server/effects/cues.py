"""Compare the plate with the background behind it: what differs, and what of it hangs together with the object.

What comes in: per frame the plate, the matte and a recovered background, all at one reduced size. What goes out: a
`Look` at each frame, and the pixels that are an effect by its own lights. It knows no network, no engine and no file.

A pixel is affected when it deviates from the background by more than noise and misalignment explain, in one region with
the object. Shadows darken and keep their colour, so they are believed at smaller deviations than anything else.
Source: hysteresis and noise by median deviation as in background subtraction; darkening with steady chromaticity as
Prati et al., Detecting Moving Shadows, PAMI 2003, and Sanin et al., Pattern Recognition 2012, compare it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

MISALIGNED_PX, AT_REST_PX = 0.45, 0.25
"""How far background and plate may lie apart, before a camera that moves and one at rest: the slope of the picture
times this counts as noise. Eight shadows pasted before one at rest (`bench effects --case rest`) overlap by .56 on
average with .45, and by .60 with .25 and what `decide.APART` asks. Less takes more of highway's own blur for an effect:
770:60 and 800:60 overlap by .98 and .95 with .45, by .92 and .92 with .25, by .92 and .91 with .15."""
RINGING, FIRM, RINGING_PX, HARSH = 0.06, 0.4, 7, 1.5
"""Around whatever deviates by much, codec, lens and motion leave a rim that deviates a little. Of the most that
deviates so near (or HARSH, in logarithms of light, if that is less) a share of RINGING counts as noise, and only FIRM
is strong. Mattes too tight by 6 % had four fifths of what was found on highway:770:60 in such rims: overlap .19, now
.87."""
WEAK, STRONG = 3.0, 13.0
"""Deviations, in noise units: a region of weak ones counts where it holds strong ones and touches the object."""
SHADOW_WEAK = 2.0
"""A darkening that keeps its colour is believed sooner."""
DARKENED = -0.10
"""Natural logarithm of light left in the shade over light in the open, at least."""
FADES_PX, FADES = 4.0, 1.0
"""A region fades out within FADES_PX of what is firm in it, or within FADES times half of that one's thickness. Without
a bound the rim that a tight matte leaves joined a car's shadow to a tree's that moves. Falls of overlap with mattes
shrunk by 6 %, highway:770:60 and 800:60: .15 and .05 without, .11 and .03 so, .13 and .04 with 5 and 2. The demo's soft
shadow loses .5 dB of 43.7 so, nothing with 5 and 2, and 1.7 with 5 pixels and no thickness."""
REACH = 1.3
"""Effects lie within this many object sizes (root of its area); what is farther has to be painted."""
VOTE_FRAMES = 2
"""Frames on either side that are asked, moved along with the object, whether they see the effect too."""


@dataclasses.dataclass
class Look:
    """What one frame shows, as bytes [h, w]: deviations in noise units (x 16), what deviates strongly, what is
    darkened, the matte (0 or 1)."""

    z: Bytes
    firm: Bytes
    dark: Bytes
    matte: Bytes
    centre: tuple[float, float]
    """Of the matte: (x, y)."""

    @property
    def deviates(self) -> Mask:
        """Where the plate differs from its background by more than noise explains, outside the matte."""
        return np.asarray(_weak(self.z.astype(np.float32) / 16, self.dark > 0) & (self.matte == 0), bool)

    def apart(self, least: float) -> Mask:
        """Where plate and background are apart by more than `least` noise units, at most 15."""
        return self.z > 16 * least


def _weak(z: npt.NDArray[np.floating], dark: Mask) -> Mask:
    """More deviation than noise explains; z: in noise units."""
    return np.asarray((z > WEAK) | (dark & (z > SHADOW_WEAK)))


def toe(plates: Iterable[Array]) -> float:
    """Light below which differences are those of noise, not of ratio: a tenth of the shot's median."""
    light = [np.maximum(plate[::4, ::4], 0).ravel() for plate in plates]
    return max(float(np.median(np.concatenate(light))) / 10, 1e-6) if light else 1e-6


def _log(light: Array, low: float) -> Array:
    return np.log(np.maximum(light, 0) + np.float32(low))


def _most(picture: Array) -> Array:
    """The largest of a pixel's three values: [h, w, 3] to [h, w]. NumPy's own is slow along so short an axis."""
    red, green, blue = cv2.split(picture)
    return np.asarray(np.maximum(np.maximum(red, green), blue), np.float32)


def look(plate: Array, matte: Array, behind: Array, coverage: Array, low: float, *, at_rest: bool) -> Look:
    """Measure one frame's deviation from its background.

    low: what `toe` gave for the shot. at_rest: whether the camera rests, so that both pictures lie pixel on pixel.
    """
    outside = matte <= 0.01
    seen = (coverage > 0.5) & outside
    there = cv2.GaussianBlur(_log(behind, low), (0, 0), 1.0)
    difference = cv2.GaussianBlur(_log(plate, low), (0, 0), 1.0) - there
    slopes = [np.abs(cv2.Sobel(there, -1, *way, scale=1 / 8)) for way in ((1, 0), (0, 1))]
    slope = cv2.dilate(_most(np.maximum(*slopes)), np.ones((3, 3), np.uint8))
    near = cv2.dilate((~outside).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    calm = seen & ~near & (slope < np.median(slope[seen]) if seen.any() else seen)
    flat = difference[calm]
    level = np.median(flat, axis=0) if len(flat) > 200 else np.zeros(3, np.float32)
    difference = difference - level
    spread = 1.4826 * np.median(np.abs(flat - level)) if len(flat) > 200 else 0.03
    noise = np.sqrt(max(float(spread), 0.012) ** 2 + ((AT_REST_PX if at_rest else MISALIGNED_PX) * slope) ** 2)
    apart = _most(np.abs(difference))
    near_by = cv2.dilate(np.minimum(apart, np.float32(HARSH)), np.ones((2 * RINGING_PX + 1,) * 2, np.uint8))
    firm = (apart > STRONG * noise) & (apart > FIRM * near_by) & seen
    z = apart / np.hypot(noise, RINGING * near_by)
    mean = cv2.transform(difference, np.full((1, 3), 1 / 3, np.float32))
    colour = _most(np.abs(difference - mean[..., None]))
    dark = (mean < DARKENED) & (colour < 0.5 * np.abs(mean) + 2 * noise)
    z[~seen] = 0
    rows, columns = np.nonzero(~outside)
    return Look(
        np.clip(z * 16, 0, 255).astype(np.uint8),
        firm.astype(np.uint8),
        (dark & seen).astype(np.uint8),
        (~outside).astype(np.uint8),
        (float(columns.mean()), float(rows.mean())),
    )


def attached(frame: int, looks: Mapping[int, Look]) -> Mask:
    """bool [h, w]: hysteresis from the object outwards, on deviations that neighbouring frames confirm."""
    look = looks[frame]
    votes = [
        _carried(looks[other], look)
        for other in range(frame - VOTE_FRAMES, frame + VOTE_FRAMES + 1)
        if other in looks and other != frame
    ]
    z = look.z.astype(np.float32) / 16
    if votes:
        # The effect moves with the object, what lies behind does not: the median of the neighbours in the object's own
        # frame of reference must see it as well.
        steady = np.median(np.stack(votes), axis=0).astype(np.float32) / 16
        z = np.minimum(z, 1.5 * steady + 0.5 * z)
    outside = look.matte == 0
    weak = _weak(z, look.dark > 0) & outside
    strong = (look.firm > 0) & weak
    weak = strong | (cv2.morphologyEx(weak.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0)
    distance = cv2.distanceTransform(outside.astype(np.uint8), cv2.DIST_L2, 3)
    weak &= distance < max(12.0, REACH * object_size(look.matte))
    kept = _touching(weak, strong, distance)
    # Between an object and its shadow, where the two blur into each other, a row may deviate little: it is closed too.
    square = np.ones((3, 3), np.uint8)
    closed = cv2.morphologyEx((kept | ~outside).astype(np.uint8), cv2.MORPH_CLOSE, square) > 0
    return np.asarray(closed & outside & (cv2.dilate(kept.astype(np.uint8), square) > 0), bool)


def _carried(other: Look, look: Look) -> Bytes:
    """Another frame's deviations, moved by as much as the object moved."""
    move = np.array([[1, 0, look.centre[0] - other.centre[0]], [0, 1, look.centre[1] - other.centre[1]]], np.float64)
    size = (look.z.shape[1], look.z.shape[0])
    moved: Bytes = np.asarray(cv2.warpAffine(cv2.dilate(other.z, np.ones((3, 3), np.uint8)), move, size), np.uint8)
    under = cv2.warpAffine(other.matte, move, size) > 0
    # Where the other frame's object covers the place, it can't testify against.
    moved[under] = 255
    return moved


def object_size(matte: Bytes) -> float:
    """Root of the mean area of the matte's parts, in pixels."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(matte, connectivity=8)
    areas = [stats[i, cv2.CC_STAT_AREA] for i in range(1, count)]
    return float(np.sqrt(np.mean([a for a in areas if a >= 0.1 * max(areas)]))) if areas else 0.0


def _touching(weak: Mask, strong: Mask, distance: Array) -> Mask:
    """The regions of `weak` that hold strong pixels, as far as they fade, and begin within 3 pixels of the object."""
    count, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    begins = np.bincount(labels[weak & (distance <= 3)], minlength=count)
    firm = np.bincount(labels[strong], minlength=count)
    area = np.bincount(labels.ravel(), minlength=count)
    keep = (begins >= 2) & (firm >= 0.15 * area) & (area >= 3)
    keep[0] = False
    kept = keep[labels]
    firm_kept = kept & strong
    core = firm_kept.astype(np.uint8)
    # How thick the firm part of each region is, at its thickest: half of that.
    thick = np.zeros(count, np.float32)
    np.maximum.at(thick, labels[firm_kept], cv2.distanceTransform(core, cv2.DIST_L2, 5)[firm_kept])
    away = cv2.distanceTransform(1 - core, cv2.DIST_L2, 5)
    return np.asarray(kept & (away <= np.maximum(FADES_PX, FADES * thick)[labels]), bool)
