"""Find what the object did to the scene, on a shot on disk: the seam between effects, engines and plates.

What comes in: a surveyed shot, and an engine that recovers background. What goes out: the shot, with its affected
region set. It does not know how the cues work or what becomes of what they find.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from void_server import engine as engines
from void_server.effects import cues
from void_server.engine import Colour, Engine
from void_server.shot.check import CheckedShot
from void_server.shot.shot_on_disk import ShotOnDisk
from void_server.wire.report import Report


@contextlib.contextmanager
def marked_shot(checked: CheckedShot, report: Report) -> Iterator[ShotOnDisk]:
    """A surveyed shot with its affected region painted or found, and nothing removed: to look at before spending an
    engine's time. Raises like `make_clean_plate`."""
    engine = engines.load("propagate", None)
    with ShotOnDisk(checked, engine.needs.colour) as shot:
        shot.survey(report)
        if checked.settings.physics_prior and not checked.files.affected:
            with shot.uncorrected():
                find_affected(shot, engine, report)
        yield shot


def find_affected(shot: ShotOnDisk, engine: Engine, report: Report) -> None:
    """Compare the plate with the background recovered around the hole, twice: what is found the first time spoils the
    background it was compared with, so it is left out of the second."""
    scale = shot.proxy_scale
    recover = engine if engine.name == "propagate" else engines.load("propagate", None)
    for _ in range(2):
        found = cues.find_affected(
            shot.frames,
            lambda frame: shot.plate(frame, None, scale, Colour.SCENE_LINEAR),
            lambda frame: shot.matte(frame, None, scale),
            lambda frame: recover.background(shot, frame, shot.whole, scale, report),
            report,
        )
        shot.find_affected(found)
