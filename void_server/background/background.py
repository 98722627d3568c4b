"""The background of one shot under one set of masks: where the camera stood, and what it saw without what moves.

What comes in: a `Shot`. What goes out: estimates at reduced size, and what reconstruction at plate resolution needs.
It decides neither what is an effect nor what is filled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence

from void_server.background.estimate import BackgroundEstimate, Estimator
from void_server.background.tracking.camera import Camera, follow
from void_server.background.tracking.layers import Layers
from void_server.background.tracking.movers import Movers
from void_server.background.tracking.survey import Pictures, Survey, look, masked
from void_server.shot.contract import Shot
from void_server.wire.report import Report
from void_server.wire.shot import Window

FOLLOWED = 0.05
"""Share of the features that the camera's map must explain at least."""


@dataclasses.dataclass(frozen=True)
class Background:
    """Safe to ask from several threads and forked processes."""

    shot: Shot
    survey: Survey
    camera: Camera
    layers: Layers
    movers: Movers
    _estimator: Estimator

    def estimate(self, frame: int, crop: Window, scale: float) -> BackgroundEstimate:
        """What lies behind everything that moves, on `crop` made smaller by `scale` as `Shot.plate` does.

        It is recovered from other frames inside and outside the hole alike, so that effects can compare the plate
        against it and find shadows and reflections.
        """
        return self._estimator.on(frame, crop, scale)

    def lost(self) -> list[int]:
        """Frames on which the camera could not be followed: it is taken to have gone on as before."""
        return [frame for frame, trust in zip(self.survey.frames, self.camera.trust) if trust < FOLLOWED]

    def prepare(self, frames: Sequence[int], crop: Window, scale: float, report: Report) -> None:
        """Make what the estimates of `frames` share, on all cores. Call it before workers are forked that ask."""
        self._estimator.prepare(frames, crop, scale, report)


def of(shot: Shot, report: Report) -> Background:
    """The shot's background. Made once while shot and masks stay the same; reads every frame once, small."""
    with _alone:
        pictures = _last.pictures.get(shot.plates_key)
        if pictures is None:
            _last.clear()
            pictures = _last.pictures[shot.plates_key] = look(shot, report)
        made = _last.made.get(shot.masks_key)
        if made is None:
            survey = masked(pictures, shot, report)
            # Followed under the masks asked for first, before anything was found: shadows hardly mislead it (five
            # pasted clips overlap within .004 either way), and a kept finding gives the same bits as a fresh one.
            camera = _last.cameras.get(shot.plates_key) or follow(survey, report)
            _last.cameras[shot.plates_key] = camera
            layers = Layers(survey, camera)
            # Who moves does not depend on what is found to be affected, so it is found once.
            movers = _last.movers.setdefault(shot.plates_key, Movers(shot, survey, camera))
            estimator = Estimator(shot, survey, camera, layers, movers)
            _last.made.clear()
            made = _last.made[shot.masks_key] = Background(shot, survey, camera, layers, movers, estimator)
        return made


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """What `of` makes inside is kept until the context ends: then the shot's files are closed."""
    try:
        yield
    finally:
        with _alone:
            _last.clear()


@dataclasses.dataclass(frozen=True)
class _Last:
    """Of the shot worked on last: its pictures, and its background under the masks asked for last."""

    pictures: dict[str, Pictures] = dataclasses.field(default_factory=dict)
    cameras: dict[str, Camera] = dataclasses.field(default_factory=dict)
    made: dict[str, Background] = dataclasses.field(default_factory=dict)
    movers: dict[str, Movers] = dataclasses.field(default_factory=dict)

    def clear(self) -> None:
        self.pictures.clear()
        self.cameras.clear()
        self.made.clear()
        self.movers.clear()


_last = _Last()
_alone = threading.Lock()
