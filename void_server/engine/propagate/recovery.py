"""One shot being filled, frame by frame: still scenes from one background, moving ones donor by donor.

What comes in: the shot with its survey and camera. What goes out: a `Fill` per frame. The steps lie in their own files;
this one knows their order.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background import Background, confidence, fuse, relight
from void_server.background import shadow_falloff as falloff
from void_server.background.plates import NOTHING, Plates
from void_server.background.reconstruct import DONORS, LARGE_PIXELS, Reconstruction, Reconstructor
from void_server.background.registration import register
from void_server.background.still import StillBackground, still_background
from void_server.engine.contract import Array, Fill
from void_server.engine.propagate import exemplar, invent
from void_server.engine.propagate.key_frames import KEY_STEP, KeyFrames
from void_server.image import colour
from void_server.image.frames import sequence
from void_server.parallel import in_order
from void_server.process import hands, threads
from void_server.shot.contract import large
from void_server.wire.report import Report
from void_server.wire.shot import Window

AT_ONCE = 16
"""Frames that are recovered together; twice as many as there are workers where those are more, or crops are large."""
BASES = 5
"""Key frames held as their donors show them, beside those of the frames at hand; others are made twice."""
DONOR_BYTES, BASE_BYTES = 40, 150 << 20
"""Memory of a worker: for each pixel of a crop and each donor over it, and whatever the size."""
STILL_FRAMES = 61
"""Frames that make a still scene's background; more add time and no precision that grain would let one see."""
INVENTED_TRUST, DIVIDED_TRUST = 0.1, 0.4
SMOOTH = 0.5
"""Share of a smooth continuation from which a pixel is no longer said to be recovered."""
STEADY, UNSTEADY = 0.01, 0.08
"""A camera at rest: samples that scatter by STEADY all agree, by UNSTEADY more none does."""

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
    confidence: Array
    """Of what is real; see `background.confidence`."""
    scatter: Array
    """How far the donors of what is real disagree, in code."""
    grainless: Array
    divided: Mask
    """The plate's own detail and grain, under light that was given back by rule or invented."""


@dataclasses.dataclass(frozen=True)
class Recovered:
    """A fill and, beside it, what comparing it with another picture asks for."""

    fill: Fill
    scatter: Array
    """float32 [h, w]: how far its donors disagree, in code; it means nothing where `coverage` is 0."""


class Recovery:
    """Fills frames of one shot. Close it to free the disk."""

    def __init__(self, ground: Background, *, invents: bool = True) -> None:
        """invents: whether what no frame shows is made up as well; else its `coverage` is 0 and it is smooth."""
        self._invents = invents
        self._ground = ground
        self.shot, self.survey, self.camera = ground.shot, ground.survey, ground.camera
        self.plates = Plates(self.shot, self.survey.curve)
        self.views = Reconstructor(self.shot, self.survey, self.camera, ground.layers, self.plates, ground.movers)
        self.keys = KeyFrames(self.camera.scenes)
        self._shadows: dict[int, list[Array]] = {}
        self._bases: dict[int, Reconstruction] = {}
        """Key frames of the frames at hand, as their donors show them."""
        self._still: dict[int, StillBackground] = {}

    def close(self) -> None:
        self.plates.close()

    def fills(self, work: Sequence[int], report: Report) -> Iterator[Fill]:
        """A fill for every frame of `work`, in order. Any frame gets the same bits, whichever others are asked for."""
        with contextlib.closing(self.recovered(work, report)) as found:
            for one in found:
                yield one.fill

    def recovered(self, work: Sequence[int], report: Report) -> Generator[Recovered, None, None]:
        """The same fills with their scatter."""
        if not self.camera.still:
            self._ground.layers.prepare(report.check_cancelled)
            self._ground.movers.prepare(report.check_cancelled)
        self._plan(work, report)
        self.plates.collect(report)
        holes = [hole for hole in map(self.shot.hole, work) if hole is not None]
        crop = max((self.views.crop(hole) for hole in holes), key=lambda box: box.width * box.height)
        at_a_time = hands(BASE_BYTES + DONOR_BYTES * DONORS * crop.width * crop.height)
        if self.camera.still:
            for scene in self._still:
                self._still[scene] = self._at_rest(scene, report)
            yield from in_order(self._fill_still, work, at_a_time, report.check_cancelled)
            return
        most = max(AT_ONCE if crop.width * crop.height <= LARGE_PIXELS else 1, 2 * at_a_time)
        for first in range(0, len(work), most):
            report.progress("fill", first, len(work), work[first])
            yield from self._together(work[first : first + most], at_a_time, report)

    def _together(self, work: Sequence[int], at_a_time: int, report: Report) -> Iterator[Recovered]:
        """Some frames with a moving camera; those that ask key frames for what they invented come back twice."""
        check = report.check_cancelled
        indices = [self.survey.index[frame] for frame in work]
        first = dict(zip(indices, in_order(self._fill_or_seen, indices, at_a_time, check, heavy=True)))
        seen = {index: one for index, one in first.items() if isinstance(one, Reconstruction)}
        self._bases = {index: one for index, one in seen.items() if self._is_key(index)}
        self._make_keys(seen, at_a_time, check)
        finished = in_order(
            lambda index: self._finished(seen[index]), list(seen), at_a_time, check, heavy=large(self.shot.size)
        )
        with contextlib.closing(finished):
            for one in first.values():
                yield one if isinstance(one, Recovered) else next(finished)

    def _hole(self, index: int) -> Window | None:
        return self.shot.hole(self.survey.frames[index])

    def _seen(self, index: int) -> Reconstruction:
        hole = self._hole(index)
        assert hole is not None
        return self.views.reconstruct(index, hole)

    def _fill_or_seen(self, index: int) -> Recovered | Reconstruction:
        """The fill; or all that is known so far, where key frames have to be asked what they invented, and of a key
        frame, which may be asked."""
        seen = self._seen(index)
        return seen if self._asks_keys(seen) or self._is_key(index) else self._finished(seen)

    def _is_key(self, index: int) -> bool:
        return index in self.keys.beside(index)

    def _asks_keys(self, seen: Reconstruction) -> bool:
        return bool(seen.dark.any()) or not bool((seen.around.free | seen.known).all())

    def _make_keys(self, seen: Mapping[int, Reconstruction], at_a_time: int, check: Callable[[], None]) -> None:
        """All that the frames will ask of key frames: how deep shadows are there, and what had to be invented."""
        asking = [one for one in seen.values() if self._asks_keys(one)]
        dark = {key for one in asking if one.dark.any() for key in self.keys.near(one.target.index)}
        self._shadows_of(dark, at_a_time, check)
        if not self._invents:
            return
        wanting = [one.target.index for one in asking if not (one.around.free | one.known | one.dark).all()]
        # Each rests on the next one towards the middle of its scene: the farthest from it comes last.
        chain = [key for index in wanting for key in reversed(self.keys.chain(index))]
        self._shadows_of({near for key in chain for near in self.keys.near(key)}, at_a_time, check)
        for key in dict.fromkeys(sorted(chain, key=self.keys.depth)):
            if not self.plates.keeps(key) and self._hole(key) is not None:
                check()
                self._invent(key)

    def _shadows_of(self, keys: set[int], at_a_time: int, check: Callable[[], None]) -> None:
        """Ask key frames what their donors tell of the shadow."""
        wanted = sorted(key for key in keys if key not in self._shadows and self._hole(key) is not None)
        unseen = [key for key in wanted if key not in self._bases]
        self._shadows |= {key: self._bases[key].shadow_samples for key in wanted if key in self._bases}
        for key, base in zip(unseen, in_order(self._seen, unseen, at_a_time, check)):
            self._shadows[key] = base.shadow_samples
            if len(self._bases) < BASES:
                self._bases[key] = base

    def _plan(self, work: Sequence[int], report: Report) -> None:
        """Choose donors of all frames of `work`, and from them the part of each frame that has to be read."""
        indices = [self.survey.index[frame] for frame in work]
        if self.camera.still:
            for done, index in enumerate(indices):
                self._need_own(index)
                self._plan_still(self.camera.scenes[index])
                report.progress("plan", done + 1, len(indices), self.survey.frames[index])
            return
        rests = self.keys.chain if self._invents else self.keys.beside
        keys = {key for index in indices for key in (*rests(index), *self.keys.near(index))}
        keys |= {near for key in keys for near in self.keys.near(key)}
        keys = {key for key in keys if self._hole(key) is not None}
        wanted = sorted({*indices, *keys})

        def chosen(index: int) -> list[int]:
            hole = self._hole(index)
            assert hole is not None
            return self.views.choose(index, hole)

        found = in_order(chosen, wanted, threads(), report.check_cancelled)
        for done, (index, picks) in enumerate(zip(wanted, found)):
            hole = self._need_own(index)
            self.views.take(index, hole, picks)
            report.progress("plan", done + 1, len(wanted), self.survey.frames[index])

    def _need_own(self, index: int) -> Window:
        hole = self._hole(index)
        assert hole is not None
        self.plates.need(index, self.views.crop(hole))
        return hole

    def _plan_still(self, scene: int) -> None:
        if scene in self._still:
            return
        window = NOTHING
        for index in self._members(scene):
            hole = self._hole(index)
            if hole is not None:
                window = window.union(self.views.crop(hole))
        none = np.zeros((0, 0), np.float32)
        self._still[scene] = StillBackground(window, np.zeros((0, 0, 3), np.float32), none, none)
        for index in self._sampled(scene):
            self.plates.need(index, window)

    def _members(self, scene: int) -> list[int]:
        return [i for i, s in enumerate(self.camera.scenes) if s == scene]

    def _sampled(self, scene: int) -> list[int]:
        return sequence.evenly(self._members(scene), STILL_FRAMES)

    def _fill_still(self, frame: int) -> Recovered:
        index = self.survey.index[frame]
        hole = self._hole(index)
        assert hole is not None
        return self._as_fill(index, self._still_frame(index, hole))

    def _finished(self, seen: Reconstruction) -> Recovered:
        """What donors show; what none does is carried over from key frames, where it was invented."""
        filled = self._filled(seen)
        if self._invents and not filled.known.all():
            unknown = ~filled.known
            self._carry(seen, filled)
            self._keep_detail(seen, filled, unknown & filled.known)
        return self._as_fill(seen.target.index, filled)

    def _as_fill(self, index: int, filled: FilledFrame) -> Recovered:
        frame = self.survey.frames[index]
        code = invent.smooth(filled.code, filled.known)
        plate = self.plates.light_of(index, filled.crop)
        rgb = np.where(filled.free[..., None], plate, self.survey.curve.decode(code))
        change = self.shot.change(frame, filled.crop) > 0
        trust = filled.confidence * self._trust(index)
        guess = np.where(filled.divided, DIVIDED_TRUST, INVENTED_TRUST)
        fill = Fill(
            frame,
            filled.crop,
            rgb.astype(np.float32),
            coverage=(filled.real & change).astype(np.float32),
            confidence=np.where(filled.real, trust, guess).astype(np.float32),
            grainless=np.where(filled.real | filled.divided, filled.grainless, 1).astype(np.float32),
        )
        return Recovered(fill, np.asarray(filled.scatter, np.float32))

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
        if self._invents:
            rest.code = exemplar.complete(rest.code, rest.views > 0, self.shot.seed)
        return rest

    def _still_frame(self, index: int, hole: Window) -> FilledFrame:
        crop = self.views.crop(hole)
        own, change, free = self.views.own(index, crop)
        rest = self._still[self.camera.scenes[index]]
        part = crop.slices(rest.window)
        laid = register.WarpedDonor(index, rest.code[part], rest.views[part] > 0, 0.0, rest.views[part] > 0)
        ring = self.views.near(free, change)
        gain = fuse.gain(fuse.Surroundings(index, own.code, free, ring, self.survey.curve), laid)
        code = laid.code + gain
        views = rest.views[part]
        code, share = relight.relit(code, views >= 1, own.code, self.views.shade(index, crop, free), ring)
        grainless = (1 - 1 / np.sqrt(np.maximum(views * 0.64, 1))) * (1 - share)
        code = np.where(free[..., None], own.code, code)
        every, none = np.ones_like(free), np.zeros_like(free)
        known = every if self._invents else free | (views > 0)
        scatter = rest.scatter[part]
        missed = confidence.misfit(laid.code + gain, own.code, ring & (views >= 1))
        agreeing = np.clip(1 - (scatter - STEADY) / UNSTEADY, 0, 1)
        sure = confidence.cautious(confidence.chance(missed, scatter, views, agreeing))
        return FilledFrame(crop, own, free, code, views > 0, known, sure, scatter, grainless, none)

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
        smooth, share = confidence.smoother(own, free, seen.around.near, seen.misfit, seen.scatter)
        share = np.where(real, share * (1 - seen.share), 0)
        code = np.where(real[..., None], code + share[..., None] * (smooth - code), code)
        grainless = np.maximum(grainless, share)
        chance = confidence.chance(seen.misfit, seen.scatter, seen.independent, seen.agreeing)
        believed = confidence.cautious(chance) * (1 - share)
        real &= share < SMOOTH
        known = free | known | divided
        return FilledFrame(seen.crop, seen.own, free, code, real, known, believed, seen.scatter, grainless, divided)

    def _taken(self, seen: Reconstruction) -> Array | None:
        """The light that the shadow takes, by depth: as donors tell on this frame and on key frames; None if none."""
        index, free = seen.target.index, seen.around.free
        others = [self._shadows.get(key, []) for key in self.keys.near(index) if key != index]
        found = falloff.curve([seen.shadow_samples, *(o for o in others if o)])
        if found is None:
            shade = self.views.shade(index, seen.crop, free)
            scale = self.survey.scale
            found = falloff.curve([falloff.by_contrast(seen.own.code, shade, free, seen.depths, scale)])
        return found

    def _invent(self, key: int) -> None:
        """Complete a key frame, in agreement with the one it rests on, and put it where the plates lie."""
        base = self._bases.get(key) or self._seen(key)
        filled = self._filled(base)
        parent = self.keys.parent(key)
        if parent is not None and not filled.known.all():
            target = self._target(key, filled)
            self._lend(
                self._kept(parent), target, filled, 1.0, np.zeros_like(filled.code), np.zeros_like(filled.confidence)
            )
        code = exemplar.complete(filled.code, filled.known, self.shot.seed + key)
        usable = np.where(filled.free | filled.real, 0, 255).astype(np.uint8)
        self.plates.keep(key, filled.crop, code, np.asarray(cv2.dilate(usable, np.ones((5, 5), np.uint8)), np.uint8))

    def _kept(self, key: int) -> register.Donor | None:
        return self.plates.kept(key) if self.plates.keeps(key) else None

    def _target(self, index: int, filled: FilledFrame) -> register.Target:
        change = self.shot.change(self.survey.frames[index], filled.crop) > 0
        return register.make_target(index, filled.crop, filled.code @ colour.REC709_LUMINANCE, change, filled.free)

    def _carry(self, seen: Reconstruction, filled: FilledFrame) -> None:
        """Take what was invented on the key frames beside this one."""
        total, mass = np.zeros_like(filled.code), np.zeros_like(filled.confidence)
        known = filled.known.copy()
        index = seen.target.index
        for key in self.keys.beside(index):
            weight = 1 - min(abs(key - index), KEY_STEP - 1) / KEY_STEP
            filled.known = known.copy()
            self._lend(self._kept(key), seen.target, filled, weight, total, mass)

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
