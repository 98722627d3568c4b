"""The embedded engine: brings back the background that other frames show, at plate resolution, on the CPU.

What comes in: a `Shot`. What goes out: one `Fill` per frame with a hole. The stages lie in their own files: survey (look
at all frames, small), camera (follow it), donors (who sees what), register, fuse, invent.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import ClassVar

import cv2
import numpy as np

from void_server.engine import Array, Colour, Fill, Needs, Shot
from void_server.engine.propagate import donors, fuse, invent, register
from void_server.engine.propagate.background import Background
from void_server.engine.propagate.camera import Camera, follow
from void_server.engine.propagate.spool import Spool
from void_server.engine.propagate.survey import Survey, survey
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import Window

DONORS = 14
STILL_DONORS = 48
RING_PX = 28
"""Width of the surroundings read around a hole, in pixels of the small picture."""


class Propagate:
    """Temporal background recovery; needs no weights and no GPU."""

    name: ClassVar[str] = "propagate"
    needs: ClassVar[Needs] = Needs(colour=Colour.SCENE_LINEAR, devices=("cpu",), memory_bytes=1 << 30)

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, "", "cpu"):
            raise SettingsError(f"Engine 'propagate' can't use device '{device}'.", "Leave --device out, or give cpu.")
        self._looked: tuple[weakref.ref[Shot], Survey] | None = None
        self._background: Background | None = None

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        """See `Engine.fill`. Reads every frame once small, then once at plate resolution around the holes."""
        if shot.options:
            raise SettingsError(
                f"Engine 'propagate' knows no option '{sorted(shot.options)[0]}'.", "Leave the engine's options out."
            )
        work = [frame for frame in shot.wanted if shot.hole(frame) is not None]
        if not work:
            return
        looked = self._look(shot, report)
        looked.mask(shot)
        self._background = None
        camera = follow(looked, report)
        recovery = _Recovery(shot, looked, camera)
        try:
            recovery.plan(work)
            recovery.collect(report)
            for done, frame in enumerate(work):
                yield recovery.fill(frame)
                report.progress("fill", done + 1, len(work), frame)
        finally:
            recovery.close()

    def background(
        self, shot: Shot, frame: int, crop: Window, scale: float, report: Report
    ) -> tuple[Array, Array] | None:
        """See `Engine.background`. Masks are looked at again once they changed: `effects` asks twice."""
        index = list(shot.frames).index(frame)
        looked = self._look(shot, report)
        if self._background is None or not looked.masks_hold(shot, index):
            looked.mask(shot)
            self._background = Background(shot, looked, follow(looked, report))
        return self._background.on(frame, crop, scale)

    def _look(self, shot: Shot, report: Report) -> Survey:
        """The shot's small pictures: made once, kept while the same shot is worked on."""
        if self._looked is None or self._looked[0]() is not shot:
            self._looked = (weakref.ref(shot), survey(shot, report))
            self._background = None
        return self._looked[1]


class _Recovery:
    """One shot being filled."""

    def __init__(self, shot: Shot, looked: Survey, camera: Camera) -> None:
        self.shot, self.survey, self.camera = shot, looked, camera
        self.spool = Spool()
        self.chosen: dict[int, list[int]] = {}
        self.windows: dict[int, Window] = {}
        self.ring = max(16, round(RING_PX / looked.scale))
        height, width = shot.size
        self.canvas = Window(0, 0, width, height)
        self.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def close(self) -> None:
        self.spool.close()

    def plan(self, work: list[int]) -> None:
        """Choose donors of all frames, and from them the part of each frame that has to be read."""
        limit = STILL_DONORS if self.camera.still else DONORS
        for frame in work:
            hole = self.shot.hole(frame)
            assert hole is not None
            index = self.survey.index[frame]
            crop = self._crop(hole)
            self.chosen[frame], _ = donors.choose(self.survey, self.camera, index, hole.intersect(self.canvas), limit)
            self._need(index, crop)
            for other in self.chosen[frame]:
                self._need(other, self._seen_from(index, other, crop))

    def _crop(self, hole: Window) -> Window:
        return hole.grow(self.ring).intersect(self.canvas)

    def _need(self, index: int, window: Window) -> None:
        have = self.windows.get(index, Window(0, 0, 0, 0))
        self.windows[index] = have.union(window.intersect(self.canvas)) if not window.empty else have

    def _seen_from(self, index: int, other: int, crop: Window) -> Window:
        """The window of `other` that holds what `crop` shows in `index`, with room for corrections."""
        corners = np.array(
            [[[crop.x0, crop.y0], [crop.x1, crop.y0], [crop.x1, crop.y1], [crop.x0, crop.y1]]], np.float64
        )
        laid = cv2.perspectiveTransform(corners, self.camera.between(index, other))[0]
        if not np.isfinite(laid).all():
            return Window(0, 0, 0, 0)
        laid = np.clip(laid, -1e6, 1e6)
        low, high = np.floor(laid.min(0)).astype(int), np.ceil(laid.max(0)).astype(int)
        room = 12 if not self.camera.still else 0
        return Window(int(low[0]), int(low[1]), int(high[0]), int(high[1])).grow(room).intersect(self.canvas)

    def collect(self, report: Report) -> None:
        """Read what was planned, frame by frame, into the spool."""
        for done, index in enumerate(sorted(self.windows)):
            window, frame = self.windows[index], self.survey.frames[index]
            if window.empty:
                continue
            self.spool.put(("plate", index), window, self.shot.plate(frame, window))
            free = self.shot.known(frame, window) >= 0.999
            if self.shot.hole(frame) is not None:
                blocked = (self.shot.change(frame, window) > 0).astype(np.uint8)
                free &= cv2.dilate(blocked, np.ones((3, 3), np.uint8)) == 0
            keep = self.shot.keep(frame, window)
            if keep.any():
                free &= cv2.dilate(keep, np.ones((3, 3), np.uint8)) == 0
            self.spool.put(("free", index), window, np.where(free, 255, 0).astype(np.uint8))
            report.progress("read", done + 1, len(self.windows), frame)

    def _donor(self, index: int, window: Window) -> register.Donor:
        window = window.intersect(self.spool.window(("plate", index)))
        code = self.survey.light.code(self.spool.get(("plate", index), window))
        return register.Donor(index, window, code, self.spool.get(("free", index), window).astype(np.uint8))

    def fill(self, frame: int) -> Fill:
        """Recover one frame's hole."""
        hole = self.shot.hole(frame)
        assert hole is not None
        index, crop = self.survey.index[frame], self._crop(hole)
        own = self._donor(index, crop)
        change = self.shot.change(frame, crop) > 0
        free = own.free > 0
        goal = register.target(index, crop, own.code @ register.WEIGHTS, change, free)
        tries = []
        for other in self.chosen[frame]:
            window = self._seen_from(index, other, crop)
            if window.empty:
                continue
            between = self.camera.between(index, other)
            found = register.attempt(goal, self._donor(other, window), between, self.flow)
            if found is not None:
                tries.append(found)
        laid = [register.lay(goal, t, f) for t, f in zip(tries, register.settle(goal, tries))]
        near = free & (cv2.distanceTransform((~change).astype(np.uint8), cv2.DIST_L2, 3) < self.ring / 3)
        goal = fuse.Surroundings(index, own.code, free, near)
        fused = fuse.fuse(goal, laid, ~free)
        real = fused.views > 0
        code = np.where(goal.free[..., None], goal.code, fused.code)
        code = invent.smooth(code, goal.free | real)
        rgb = np.where(goal.free[..., None], self.spool.get(("plate", index), crop), self.survey.light.light(code))
        coverage = (real & change).astype(np.float32)
        confidence = np.where(real, np.exp(-fused.scatter / 0.05), 0.1).astype(np.float32)
        grainless = np.where(real, fused.grainless, 1).astype(np.float32)
        return Fill(frame, crop, rgb.astype(np.float32), coverage, confidence, grainless)
