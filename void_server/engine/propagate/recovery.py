"""One shot being filled, frame by frame: still scenes from one background, moving ones donor by donor.

What comes in: the shot with its survey and camera. What goes out: a `Fill` per frame. The steps lie in their own files;
this one knows their order.
"""

from __future__ import annotations

import dataclasses
import threading

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background import Background, fuse, relight
from void_server.background import shadow_falloff as falloff
from void_server.background.plates import NOTHING, Plates
from void_server.background.reconstruct import LARGE_PIXELS, Reconstruction, Reconstructor
from void_server.background.registration import register
from void_server.background.still import StillBackground, still_background
from void_server.engine import Array, Fill
from void_server.engine.propagate import exemplar, invent
from void_server.engine.propagate.key_frames import KEY_STEP, KeyFrames
from void_server.wire.report import Report
from void_server.wire.shot import Window

STILL_FRAMES = 61
"""Frames that make a still scene's background; more add time and no precision that grain would let one see."""
BASES, LARGE_BASES = 5, 2
"""Key frames held as their donors show them: five, or two with crops of more than LARGE_PIXELS, which take a hundred
megabytes each (then some are made twice)."""
INVENTED_TRUST, DIVIDED_TRUST = 0.1, 0.4

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass
class FilledFrame:
    """One frame's crop with its hole filled as far as asked. code: [h, w, 3]; others [h, w]."""

    crop: Window
    own: register.Donor
    free: Mask
    code: Array
    real: Mask
    known: Mask
    """Real, or carried from a key frame where it was invented."""
    scatter: Array
    grainless: Array
    divided: Mask
    """The plate's own detail and grain, under light that was given back by rule or invented."""


class Recovery:
    """Call `plan` and `collect`, then `fill` any frame of the plan in any order: each gives the same bits."""

    def __init__(self, ground: Background) -> None:
        self.shot, self.survey, self.camera = ground.shot, ground.survey, ground.camera
        self.plates = Plates(self.shot, self.survey.curve)
        self.views = Reconstructor(self.shot, self.survey, self.camera, self.plates)
        self._shadows: dict[int, list[Array]] = {}
        self._bases: dict[int, Reconstruction] = {}
        self.keys = KeyFrames(self.camera.scenes)
        self._still: dict[int, StillBackground] = {}
        self._shared = threading.RLock()
        """Held while key frames are made: frames on either side wait for the one that came first."""

    def close(self) -> None:
        self.plates.close()

    def plan(self, work: list[int], report: Report) -> None:
        """Choose donors of all frames of `work`, and from them the part of each frame that has to be read."""
        for done, frame in enumerate(work):
            report.progress("plan", done, len(work), frame)
            index = self.survey.index[frame]
            hole = self.shot.hole(frame)
            assert hole is not None
            self.plates.need(index, self.views.crop(hole))
            if self.camera.still:
                self._plan_still(self.camera.scenes[index])
                continue
            self.views.need(index, hole)
            for key in [*self.keys.chain(index), *self.keys.near(index)]:
                held = self.shot.hole(self.survey.frames[key])
                if held is not None:
                    self.plates.need(key, self.views.crop(held))
                    self.views.need(key, held)

    def _plan_still(self, scene: int) -> None:
        if scene in self._still:
            return
        window = NOTHING
        for index in self._members(scene):
            hole = self.shot.hole(self.survey.frames[index])
            if hole is not None:
                window = window.union(self.views.crop(hole))
        self._still[scene] = StillBackground(
            window, np.zeros((0, 0, 3), np.float32), *(np.zeros((0, 0), np.float32),) * 2
        )
        for index in self._sampled(scene):
            self.plates.need(index, window)

    def collect(self, report: Report) -> None:
        """Read what was planned; make the backgrounds of still scenes."""
        self.plates.collect(report)
        for scene in self._still:
            self._still[scene] = self._at_rest(scene, report)

    def _members(self, scene: int) -> list[int]:
        return [i for i, s in enumerate(self.camera.scenes) if s == scene]

    def _sampled(self, scene: int) -> list[int]:
        members = self._members(scene)
        return [members[i] for i in np.unique(np.linspace(0, len(members) - 1, STILL_FRAMES).round().astype(int))]

    def fill(self, frame: int) -> Fill:
        """Recover one frame's hole."""
        index = self.survey.index[frame]
        hole = self.shot.hole(frame)
        assert hole is not None
        filled = self._still_frame(index, hole) if self.camera.still else self._moving_frame(index, hole)
        code = invent.smooth(filled.code, filled.known)
        plate = self.plates.light_of(index, filled.crop)
        rgb = np.where(filled.free[..., None], plate, self.survey.curve.decode(code))
        change = self.shot.change(frame, filled.crop) > 0
        trust = np.exp(-filled.scatter / 0.05) * self._trust(index)
        guess = np.where(filled.divided, DIVIDED_TRUST, INVENTED_TRUST)
        return Fill(
            frame,
            filled.crop,
            rgb.astype(np.float32),
            coverage=(filled.real & change).astype(np.float32),
            confidence=np.where(filled.real, trust, guess).astype(np.float32),
            grainless=np.where(filled.real | filled.divided, filled.grainless, 1).astype(np.float32),
        )

    def _trust(self, index: int) -> float:
        """How far the camera of this frame is known: a featureless plate gives half."""
        return 0.5 + 0.5 * min(1.0, self.camera.trust[index] / 0.3)

    def _at_rest(self, scene: int, report: Report) -> StillBackground:
        def read(index: int, window: Window) -> tuple[Array, Mask, Mask]:
            free = self.plates.free_of(index, window)
            return self.survey.curve.encode(self.plates.light_of(index, window)), free == 255, free >= register.BARE

        rest = still_background(self._sampled(scene), self._still[scene].window, read, report.check_cancelled)
        members = self._members(scene)
        for reference in reversed(self.views.references(members[len(members) // 2])):
            painted = self.plates.reference(reference, rest.window)
            if painted is not None and painted.usable is not None:
                where = painted.usable > 0
                rest.code[where], rest.views[where], rest.scatter[where] = painted.code[where], 1e3, 0
        rest.code = exemplar.complete(rest.code, rest.views > 0, self.shot.seed)
        return rest

    def _still_frame(self, index: int, hole: Window) -> FilledFrame:
        crop = self.views.crop(hole)
        own, change, free = self.views.own(index, crop)
        rest = self._still[self.camera.scenes[index]]
        part = crop.slices(rest.window)
        laid = register.WarpedDonor(index, rest.code[part], rest.views[part] > 0, 0.0, rest.views[part] > 0)
        ring = self.views.near(free, change)
        code = laid.code + fuse.gain(fuse.Surroundings(index, own.code, free, ring), laid)
        views = rest.views[part]
        code, share = relight.relit(code, views >= 1, own.code, self.views.shade(index, crop, free), ring)
        grainless = (1 - 1 / np.sqrt(np.maximum(views * 0.64, 1))) * (1 - share)
        code = np.where(free[..., None], own.code, code)
        every, none = np.ones_like(free), np.zeros_like(free)
        return FilledFrame(crop, own, free, code, views > 0, every, rest.scatter[part], grainless, none)

    def _moving_frame(self, index: int, hole: Window) -> FilledFrame:
        """Recover what donors show; what none does is carried over from key frames, where it was invented."""
        is_key = index in self.keys.beside(index)
        seen = (self._base(index) if is_key else None) or self.views.reconstruct(index, hole)
        filled = self._filled(seen)
        if not filled.known.all():
            unknown = ~filled.known
            self._carry(seen, filled)
            self._keep_detail(seen, filled, unknown & filled.known)
        return filled

    def _keep_detail(self, seen: Reconstruction, filled: FilledFrame, invented: Mask) -> None:
        """Where light was invented under a shadow, detail and grain are still the plate's."""
        shade = self.views.shade(seen.target.index, seen.crop, filled.free) & invented
        filled.code, share = relight.detailed(filled.code, seen.own.code, shade, seen.around.near)
        filled.grainless[shade] = 1 - share[shade]
        filled.divided |= shade & (share > 0.5)

    def _filled(self, seen: Reconstruction) -> FilledFrame:
        """With light given back to what lies in a shadow and no donor shows, or none that the others confirm."""
        free, own = seen.around.free, seen.own.code
        code, known, divided = seen.code, seen.known, seen.dark
        taken = self._taken(seen) if divided.any() else None
        if taken is None:
            divided = np.zeros_like(divided)
        else:
            sure = known & (seen.share > falloff.KNOWN)
            code = np.where(divided[..., None], falloff.lit(own, seen.depths, taken, code, sure), code)
        code = np.where(free[..., None], own, code)
        real = known & ~free & ~divided
        grainless = seen.grainless * (1 - np.where(divided, np.float32(1), seen.share))
        return FilledFrame(
            seen.crop, seen.own, free, code, real, free | known | divided, seen.scatter, grainless, divided
        )

    def _taken(self, seen: Reconstruction) -> Array | None:
        """The light that the shadow takes, by depth: as donors tell on this frame and on key frames; None if none."""
        index, free = seen.target.index, seen.around.free
        others = [self._shadow_of(key) for key in self.keys.near(index) if key != index]
        found = falloff.curve([seen.shadow_samples, *(o for o in others if o)])
        if found is None:
            shade = self.views.shade(index, seen.crop, free)
            scale = self.survey.scale
            found = falloff.curve([falloff.by_contrast(seen.own.code, shade, free, seen.depths, scale)])
        return found

    def _shadow_of(self, key: int) -> list[Array]:
        with self._shared:
            if key not in self._shadows:
                base = self._base(key)
                self._shadows[key] = base.shadow_samples if base is not None else []
            return self._shadows[key]

    def _key(self, key: int) -> register.Donor | None:
        """A key frame with its never-seen part invented, in agreement with the key frame next to it."""
        with self._shared:
            if not self.plates.keeps(key):
                base = self._base(key)
                if base is None:
                    return None
                self._invent(key, base)
        return self.plates.kept(key)

    def _invent(self, key: int, base: Reconstruction) -> None:
        """Complete a key frame and put it where the plates lie: a long shot has many."""
        filled = self._filled(base)
        parent = self.keys.parent(key)
        if parent is not None and not filled.known.all():
            target = self._target(key, filled)
            self._lend(
                self._key(parent), target, filled, 1.0, np.zeros_like(filled.code), np.zeros_like(filled.scatter)
            )
        code = exemplar.complete(filled.code, filled.known, self.shot.seed + key)
        usable = np.where(filled.free | filled.real, 0, 255).astype(np.uint8)
        self.plates.keep(key, filled.crop, code, np.asarray(cv2.dilate(usable, np.ones((5, 5), np.uint8)), np.uint8))

    def _base(self, key: int) -> Reconstruction | None:
        """A key frame as its donors show it. The last few are held, since they are asked twice."""
        hole = self.shot.hole(self.survey.frames[key])
        if hole is None:
            return None
        with self._shared:
            if key not in self._bases:
                crop = self.views.crop(hole)
                most = BASES if crop.width * crop.height <= LARGE_PIXELS else LARGE_BASES
                while len(self._bases) >= most:
                    del self._bases[next(iter(self._bases))]
                self._bases[key] = self.views.reconstruct(key, hole)
            return self._bases[key]

    def _target(self, index: int, filled: FilledFrame) -> register.Target:
        change = self.shot.change(self.survey.frames[index], filled.crop) > 0
        return register.make_target(index, filled.crop, filled.code @ register.WEIGHTS, change, filled.free)

    def _carry(self, seen: Reconstruction, filled: FilledFrame) -> None:
        """Take what was invented on the key frames beside this one."""
        total, mass = np.zeros_like(filled.code), np.zeros_like(filled.scatter)
        known = filled.known.copy()
        index = seen.target.index
        for key in self.keys.beside(index):
            weight = 1 - min(abs(key - index), KEY_STEP - 1) / KEY_STEP
            filled.known = known.copy()
            self._lend(self._key(key), seen.target, filled, weight, total, mass)

    def _lend(
        self,
        donor: register.Donor | None,
        target: register.Target,
        filled: FilledFrame,
        weight: float,
        total: Array,
        mass: Array,
    ) -> None:
        laid = self.views.warp(target, donor) if donor is not None else None
        if laid is not None:
            where = laid.valid & ~filled.known
            total[where] += weight * laid.code[where]
            mass[where] += weight
        reached = mass > 0
        filled.code[reached] = total[reached] / mass[reached][:, None]
        filled.known = filled.known | reached
