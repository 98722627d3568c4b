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

from void_server.engine import Array, Fill, Shot
from void_server.engine.propagate import exemplar, falloff, fuse, invent, register, relight
from void_server.engine.propagate.camera import Camera
from void_server.engine.propagate.keys import KEY_STEP, KeyFrames
from void_server.engine.propagate.plates import NOTHING, Plates
from void_server.engine.propagate.still import Rest, at_rest
from void_server.engine.propagate.survey import Survey
from void_server.engine.propagate.views import LARGE_PIXELS, Seen, Views
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
class Whole:
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

    def __init__(self, shot: Shot, looked: Survey, camera: Camera) -> None:
        self.shot, self.survey, self.camera = shot, looked, camera
        self.plates = Plates(shot, looked.light)
        self.views = Views(shot, looked, camera, self.plates)
        self._shadows: dict[int, list[Array]] = {}
        self._bases: dict[int, Seen] = {}
        self.keys = KeyFrames(camera.scenes)
        self._rest: dict[int, Rest] = {}
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
        if scene in self._rest:
            return
        window = NOTHING
        for index in self._members(scene):
            hole = self.shot.hole(self.survey.frames[index])
            if hole is not None:
                window = window.union(self.views.crop(hole))
        self._rest[scene] = Rest(window, np.zeros((0, 0, 3), np.float32), *(np.zeros((0, 0), np.float32),) * 2)
        for index in self._sampled(scene):
            self.plates.need(index, window)

    def collect(self, report: Report) -> None:
        """Read what was planned; make the backgrounds of still scenes."""
        self.plates.collect(report)
        for scene in self._rest:
            self._rest[scene] = self._at_rest(scene, report)

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
        whole = self._still_frame(index, hole) if self.camera.still else self._moving_frame(index, hole)
        code = invent.smooth(whole.code, whole.known)
        plate = self.plates.light_of(index, whole.crop)
        rgb = np.where(whole.free[..., None], plate, self.survey.light.light(code))
        change = self.shot.change(frame, whole.crop) > 0
        trust = np.exp(-whole.scatter / 0.05) * self._trust(index)
        guess = np.where(whole.divided, DIVIDED_TRUST, INVENTED_TRUST)
        return Fill(
            frame,
            whole.crop,
            rgb.astype(np.float32),
            coverage=(whole.real & change).astype(np.float32),
            confidence=np.where(whole.real, trust, guess).astype(np.float32),
            grainless=np.where(whole.real | whole.divided, whole.grainless, 1).astype(np.float32),
        )

    def _trust(self, index: int) -> float:
        """How far the camera of this frame is known: a featureless plate gives half."""
        return 0.5 + 0.5 * min(1.0, self.camera.trust[index] / 0.3)

    def _at_rest(self, scene: int, report: Report) -> Rest:
        def read(index: int, window: Window) -> tuple[Array, Mask, Mask]:
            free = self.plates.free_of(index, window)
            return self.survey.light.code(self.plates.light_of(index, window)), free == 255, free >= register.BARE

        rest = at_rest(self._sampled(scene), self._rest[scene].window, read, report.check_cancelled)
        members = self._members(scene)
        for reference in reversed(self.views.references(members[len(members) // 2])):
            painted = self.plates.reference(reference, rest.window)
            if painted is not None and painted.lends is not None:
                where = painted.lends > 0
                rest.code[where], rest.views[where], rest.scatter[where] = painted.code[where], 1e3, 0
        rest.code = exemplar.complete(rest.code, rest.views > 0, self.shot.seed)
        return rest

    def _still_frame(self, index: int, hole: Window) -> Whole:
        crop = self.views.crop(hole)
        own, change, free = self.views.own(index, crop)
        rest = self._rest[self.camera.scenes[index]]
        part = crop.slices(rest.window)
        laid = register.Laid(index, rest.code[part], rest.views[part] > 0, 0.0, rest.views[part] > 0)
        ring = self.views.near(free, change)
        code = laid.code + fuse.gain(fuse.Surroundings(index, own.code, free, ring), laid)
        views = rest.views[part]
        code, share = relight.relit(code, views >= 1, own.code, self.views.shade(index, crop, free), ring)
        grainless = (1 - 1 / np.sqrt(np.maximum(views * 0.64, 1))) * (1 - share)
        code = np.where(free[..., None], own.code, code)
        every, none = np.ones_like(free), np.zeros_like(free)
        return Whole(crop, own, free, code, views > 0, every, rest.scatter[part], grainless, none)

    def _moving_frame(self, index: int, hole: Window) -> Whole:
        """Recover what donors show; what none does is carried over from key frames, where it was invented."""
        is_key = index in self.keys.beside(index)
        seen = (self._base(index) if is_key else None) or self.views.seen(index, hole)
        whole = self._whole(seen)
        if not whole.known.all():
            unknown = ~whole.known
            self._carry(seen, whole)
            self._keep_detail(seen, whole, unknown & whole.known)
        return whole

    def _keep_detail(self, seen: Seen, whole: Whole, invented: Mask) -> None:
        """Where light was invented under a shadow, detail and grain are still the plate's."""
        shade = self.views.shade(seen.goal.index, seen.crop, whole.free) & invented
        whole.code, share = relight.detailed(whole.code, seen.own.code, shade, seen.around.near)
        whole.grainless[shade] = 1 - share[shade]
        whole.divided |= shade & (share > 0.5)

    def _whole(self, seen: Seen) -> Whole:
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
        return Whole(seen.crop, seen.own, free, code, real, free | known | divided, seen.scatter, grainless, divided)

    def _taken(self, seen: Seen) -> Array | None:
        """The light that the shadow takes, by depth: as donors tell on this frame and on key frames; None if none."""
        index, free = seen.goal.index, seen.around.free
        others = [self._shadow_of(key) for key in self.keys.near(index) if key != index]
        found = falloff.curve([seen.told, *(o for o in others if o)])
        if found is None:
            shade = self.views.shade(index, seen.crop, free)
            scale = self.survey.scale
            found = falloff.curve([falloff.by_contrast(seen.own.code, shade, free, seen.depths, scale)])
        return found

    def _shadow_of(self, key: int) -> list[Array]:
        with self._shared:
            if key not in self._shadows:
                base = self._base(key)
                self._shadows[key] = base.told if base is not None else []
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

    def _invent(self, key: int, base: Seen) -> None:
        """Complete a key frame and put it where the plates lie: a long shot has many."""
        whole = self._whole(base)
        parent = self.keys.parent(key)
        if parent is not None and not whole.known.all():
            goal = self._goal(key, whole)
            self._lend(self._key(parent), goal, whole, 1.0, np.zeros_like(whole.code), np.zeros_like(whole.scatter))
        code = exemplar.complete(whole.code, whole.known, self.shot.seed + key)
        lends = np.where(whole.free | whole.real, 0, 255).astype(np.uint8)
        self.plates.keep(key, whole.crop, code, np.asarray(cv2.dilate(lends, np.ones((5, 5), np.uint8)), np.uint8))

    def _base(self, key: int) -> Seen | None:
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
                self._bases[key] = self.views.seen(key, hole)
            return self._bases[key]

    def _goal(self, index: int, whole: Whole) -> register.Target:
        change = self.shot.change(self.survey.frames[index], whole.crop) > 0
        return register.target(index, whole.crop, whole.code @ register.WEIGHTS, change, whole.free)

    def _carry(self, seen: Seen, whole: Whole) -> None:
        """Take what was invented on the key frames beside this one."""
        total, mass = np.zeros_like(whole.code), np.zeros_like(whole.scatter)
        known = whole.known.copy()
        index = seen.goal.index
        for key in self.keys.beside(index):
            weight = 1 - min(abs(key - index), KEY_STEP - 1) / KEY_STEP
            whole.known = known.copy()
            self._lend(self._key(key), seen.goal, whole, weight, total, mass)

    def _lend(
        self,
        donor: register.Donor | None,
        goal: register.Target,
        whole: Whole,
        weight: float,
        total: Array,
        mass: Array,
    ) -> None:
        laid = self.views.lay(goal, donor) if donor is not None else None
        if laid is not None:
            where = laid.valid & ~whole.known
            total[where] += weight * laid.code[where]
            mass[where] += weight
        reached = mass > 0
        whole.code[reached] = total[reached] / mass[reached][:, None]
        whole.known = whole.known | reached
