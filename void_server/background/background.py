"""The background of one shot under one set of masks: where the camera stood, and what it saw without what moves.

What comes in: a `Shot`. What goes out: estimates at reduced size, and what reconstruction at plate resolution needs.
It decides neither what is an effect nor what is filled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from void_server.background.estimate import BackgroundEstimate, Estimator
from void_server.background.tracking.camera import Camera, follow
from void_server.background.tracking.survey import Pictures, Survey, look, masked
from void_server.shot.contract import Shot
from void_server.wire.report import Report
from void_server.wire.shot import Window


@dataclasses.dataclass(frozen=True)
class Background:
    """Safe to ask from several threads and forked processes."""

    shot: Shot
    survey: Survey
    camera: Camera
    _estimator: Estimator

    def estimate(self, frame: int, crop: Window, scale: float) -> BackgroundEstimate:
        """What lies behind everything that moves, on `crop` made smaller by `scale` as `Shot.plate` does.

        It is recovered from other frames inside and outside the hole alike, so that effects can compare the plate
        against it and find shadows and reflections.
        """
        return self._estimator.on(frame, crop, scale)


def of(shot: Shot, report: Report) -> Background:
    """The shot's background. Made once while shot and masks stay the same; reads every frame once, small."""
    with _alone:
        pictures = _last.pictures.get(shot.plates_key)
        if pictures is None:
            _last.pictures.clear()
            _last.made.clear()
            pictures = _last.pictures[shot.plates_key] = look(shot, report)
        made = _last.made.get(shot.masks_key)
        if made is None:
            surveyed = masked(pictures, shot, report)
            camera = follow(surveyed, report)
            _last.made.clear()
            made = Background(shot, surveyed, camera, Estimator(shot, surveyed, camera))
            _last.made[shot.masks_key] = made
        return made


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """What `of` makes inside is kept until the context ends: then the shot's files are closed."""
    try:
        yield
    finally:
        with _alone:
            _last.pictures.clear()
            _last.made.clear()


@dataclasses.dataclass(frozen=True)
class _Last:
    """Of the shot worked on last: its pictures, and its background under the masks asked for last."""

    pictures: dict[str, Pictures] = dataclasses.field(default_factory=dict)
    made: dict[str, Background] = dataclasses.field(default_factory=dict)


_last = _Last()
_alone = threading.Lock()
