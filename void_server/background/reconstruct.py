"""One frame as other frames show it: donors laid over its hole, and made into one picture. Nothing is invented.

What comes in: the shot's plates, survey and camera. What goes out: a `Reconstruction` per frame, and single donors laid
over one. It knows no key frames, and decides nothing about what no donor shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background import confidence, fuse, relight, sharpness
from void_server.background import shadow_falloff as falloff
from void_server.background.plates import Plates
from void_server.background.registration import parallax, register
from void_server.background.registration.flow import Flow
from void_server.background.tracking import donors
from void_server.background.tracking.camera import Camera
from void_server.background.tracking.layers import Layers
from void_server.background.tracking.movers import Movers
from void_server.background.tracking.survey import Survey
from void_server.image.colour import REC709_LUMINANCE
from void_server.shot.contract import Array, Shot
from void_server.wire.shot import Window

DONORS = 14
DONORS_LARGE, LARGE_PIXELS = 9, 800_000
"""Donors of a hole whose box is larger than this: each takes some 40 bytes a pixel of it."""
REFERENCES = 4
RING_PX = 28
"""Width of the surroundings read around a hole, in pixels of the small picture."""
FIRST_RANK = 1e3

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass
class Reconstruction:
    """One moving frame as its donors show it: nothing invented yet. Arrays on the crop, at plate resolution."""

    target: register.Target
    around: fuse.Surroundings
    crop: Window
    own: register.Donor
    known: Mask
    code: Array
    share: Array
    """How far the plate's own pixels made `code`."""
    scatter: Array
    independent: Array
    agreeing: Array
    """See `fuse.Fused`."""
    misfit: Array
    """How far the same donors miss the plate around the hole, in code, carried on into it."""
    grainless: Array
    dark: Mask
    """In shadow, and not known from donors, or disputed among them."""
    depths: Array
    shadow_samples: list[Array]
    """What the donors tell of the shadow; see `falloff.sampled`."""


class Reconstructor:
    """Frames of one shot, as others show them. Say `take` before the plates are collected; then ask in any order."""

    def __init__(
        self, shot: Shot, looked: Survey, camera: Camera, layers: Layers, plates: Plates, movers: Movers
    ) -> None:
        self.shot, self.survey, self.camera, self.plates = shot, looked, camera, plates
        self.ring = max(16, round(RING_PX / looked.scale))
        self.layers = layers
        self.movers = movers
        self._chosen: dict[int, list[int]] = {}
        self._flow = Flow()

    def choose(self, index: int, hole: Window) -> list[int]:
        """Frames that show the hole, best first."""
        most = DONORS if hole.width * hole.height <= LARGE_PIXELS else DONORS_LARGE
        return donors.choose(self.survey, self.camera, index, hole.intersect(self.plates.canvas), most)[0]

    def take(self, index: int, hole: Window, chosen: Sequence[int]) -> None:
        """Let the frame be made of these, and say which part of each will be read."""
        crop = self.crop(hole)
        self._chosen[index] = list(chosen)
        for other in chosen:
            self.plates.need(other, self._seen_from(index, other, crop))

    def crop(self, hole: Window) -> Window:
        """The hole with its surroundings."""
        return hole.grow(self.ring).intersect(self.plates.canvas)

    def _seen_from(self, index: int, other: int, crop: Window) -> Window:
        """The window of `other` that holds what `crop` shows in `index`, with room for corrections."""
        corners = np.array(
            [[[crop.x0, crop.y0], [crop.x1, crop.y0], [crop.x1, crop.y1], [crop.x0, crop.y1]]], np.float64
        )
        laid = np.clip(
            np.nan_to_num(cv2.perspectiveTransform(corners, self.camera.between(index, other))[0]), -1e6, 1e6
        )
        low, high = np.floor(laid.min(0)).astype(int), np.ceil(laid.max(0)).astype(int)
        room = round(12 / self.survey.scale)
        return Window(int(low[0]), int(low[1]), int(high[0]), int(high[1])).grow(room).intersect(self.plates.canvas)

    def own(self, index: int, crop: Window) -> tuple[register.Donor, Mask, Mask]:
        """(the frame's own pixels, where they are to be changed, where they are background as they stand)."""
        own = self.plates.donor(index, crop)
        assert own is not None
        change = self.shot.change(self.survey.frames[index], crop) > 0
        return own, change, (own.free == 255) & ~change

    def references(self, index: int) -> list[int]:
        """Indices of the artist's pictures that belong to this frame's scene, nearest first."""
        found = [self.survey.index[f] for f in self.shot.reference_frames if f in self.survey.index]
        found = [i for i in found if self.camera.scenes[i] == self.camera.scenes[index]]
        return sorted(found, key=lambda i: (abs(i - index), i))[:REFERENCES]

    def shade(self, index: int, crop: Window, free: Mask) -> Mask:
        """Where only the light was changed: marked as affected, and clear of the object."""
        frame = self.survey.frames[index]
        object_ = (self.shot.matte(frame, crop) > 0).astype(np.uint8)
        clear = cv2.dilate(object_, np.ones((2 * relight.CLEARANCE_PX + 1,) * 2, np.uint8)) == 0
        return np.asarray((self.shot.change(frame, crop) > 0) & clear & ~free, bool)

    def near(self, free: Mask, change: Mask) -> Mask:
        """What of the background lies close to the hole."""
        distance = cv2.distanceTransform((~change).astype(np.uint8), cv2.DIST_L2, 3)
        return np.asarray(free & (distance < self.ring / 3), bool)

    def reconstruct(self, index: int, hole: Window) -> Reconstruction:
        """Register, choose, fuse; then give shadowed pixels their own detail back."""
        crop = self.crop(hole)
        own, change, free = self.own(index, crop)
        target = register.make_target(index, crop, own.code @ REC709_LUMINANCE, change, free)
        around = fuse.Surroundings(index, own.code, free, self.near(free, change), self.survey.curve)
        ring = around.near
        fused = fuse.fuse(around, self._laid(target), ~free | ring)
        known = fused.views > 0
        code = sharpness.match(fused.code, known, own.code, ring)
        shade = self.shade(index, crop, free)
        code, share = relight.relit(code, known, own.code, shade, ring)
        # Donors that are each a little off make a fill about as restless as grain does: giving back all that averaging
        # took made the flicker of paste:cows:goat 1.23 of the ring's, giving none 1.07. So it is given from half on.
        grainless = np.clip(2 * fused.grainless - 1, 0, 1)
        dark = falloff.unexplained(shade, own.code, free, known, fused.scatter, ring, self.survey.scale)
        dark &= share < 0.5
        depths = falloff.depth(shade, free, self.survey.scale)
        samples = falloff.sampled(code - own.code, known & (share > falloff.KNOWN), depths)
        misfit = confidence.misfit(code, own.code, ring & known)
        return Reconstruction(
            target,
            around,
            crop,
            own,
            known,
            code,
            share,
            fused.scatter,
            fused.independent,
            fused.agreeing,
            misfit,
            grainless,
            dark,
            depths,
            samples,
        )

    def _laid(self, target: register.Target) -> list[register.WarpedDonor]:
        """All donors of a frame over it, and the artist's pictures, which outrank them."""
        index, crop = target.index, target.crop
        lent = (self.plates.donor(other, self._seen_from(index, other, crop)) for other in self._chosen[index])
        candidates = [t for t in (self._candidates(target, donor) for donor in lent if donor) if t]
        parallax.offer(target, candidates)
        flows = register.settle(target, candidates)
        laid = []
        while candidates:  # each donor's own pixels go as soon as it is laid: of a 4K crop they take tens of megabytes
            laid.append(register.warp(target, candidates.pop(), flows.pop()))
        laid.reverse()
        sources = [one.index for one in laid]
        size = (crop.width, crop.height)
        trusts = self.layers.trust(index, sources, crop, size)
        for one, trust, hides in zip(laid, trusts, self.movers.hides(index, sources, crop, size)):
            one.trust = trust
            one.valid &= ~hides
            one.bare &= ~hides
        for other in self.references(index):
            donor = self.plates.reference(other, self._seen_from(index, other, crop))
            first = donor and self.warp(target, donor)
            if first:
                first.rank, first.painted = FIRST_RANK, True
                laid.append(first)
        return laid

    def _candidates(self, target: register.Target, donor: register.Donor) -> register.Candidates | None:
        return register.candidates(target, donor, self.camera.between(target.index, donor.index), self._flow)

    def warp(self, target: register.Target, donor: register.Donor) -> register.WarpedDonor | None:
        """One donor by itself over a frame; None where the two can't be registered."""
        candidates = self._candidates(target, donor)
        return register.warp(target, candidates, candidates.flows[candidates.first]) if candidates else None
