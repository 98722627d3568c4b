"""Find what the object did to the scene, on a shot on disk: the seam between effects, engines and plates.

What comes in: a surveyed shot, and an engine that recovers background. What goes out: the shot, with its affected
region set. It does not know how effects are told from everything else, or what becomes of what is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np

from void_server import engine as engines
from void_server.effects import find, predictor
from void_server.engine import Colour, Engine
from void_server.image import sequence
from void_server.shot.check import CheckedShot
from void_server.shot.marks import Soft
from void_server.shot.shot_on_disk import ShotOnDisk
from void_server.wire.report import Report

MOVED_PX = 4
"""A frame of the reduced size says that something would move differently from this many pixels on."""


@contextlib.contextmanager
def marked_shot(
    checked: CheckedShot, report: Report, *, physics: bool
) -> Iterator[tuple[ShotOnDisk, list[tuple[str, str]]]]:
    """(a surveyed shot with its affected region painted or found, warnings), and nothing removed: to look at before
    spending an engine's time. physics: as in `find_affected`. Raises like `make_clean_plate`."""
    engine = engines.load("propagate", None)
    with ShotOnDisk(checked, engine.needs.colour) as shot:
        shot.survey(report)
        warnings: list[tuple[str, str]] = []
        if checked.settings.physics_prior and not checked.files.affected:
            with shot.uncorrected():
                warnings = find_affected(shot, engine, report, physics=physics)
        yield shot, warnings


def find_affected(shot: ShotOnDisk, engine: Engine, report: Report, *, physics: bool) -> list[tuple[str, str]]:
    """Find the affected region and set it; returns warnings.

    Twice: what is found the first time spoils the background it was compared with, so it is left out of the second;
    what would move differently as well, whatever becomes of it (VOID's moving_ball: cells .41 without, .62 with).
    physics: whether what would move differently may change as well; an engine that can't move things would wipe it out.
    """
    scale = min(1.0, find.SIDE / min(shot.size))
    recover = engine if engine.name == "propagate" else engines.load("propagate", None)

    def look(*, first: bool) -> Iterator[tuple[int, find.Affected]]:
        return find.find_affected(
            shot.frames,
            lambda frame: shot.plate(frame, None, scale, Colour.SCENE_LINEAR),
            lambda frame: shot.matte(frame, None, scale),
            lambda frame: recover.background(shot, frame, shot.whole, scale, report),
            predictor.shipped(),
            report,
            first_look=first,
        )

    _take(shot, look(first=True), physics=True)
    moved = _take(shot, look(first=False), physics=physics)
    return [] if physics or not moved else [_left_as_it_moves(moved)]


def _take(shot: ShotOnDisk, found: Iterable[tuple[int, find.Affected]], *, physics: bool) -> list[int]:
    """Set the shot's affected region; returns the frames to deliver on which something would move differently.

    physics: whether what would move differently may change as well.
    """
    moved: list[int] = []

    def noted() -> Iterator[tuple[int, Soft, Soft]]:
        for frame, one in found:
            if frame in shot.wanted and (one.physics > 0.5).sum() >= MOVED_PX:
                moved.append(frame)
            yield frame, np.maximum(one.appearance, one.physics) if physics else one.appearance, one.physics

    shot.take_found(noted())
    return moved


def _left_as_it_moves(frames: list[int]) -> tuple[str, str]:
    text = (
        f"On frames {sequence.spoken(frames)} something may move differently without the object; this engine leaves it "
        "as it is. Engine void can move it; to wipe it out instead, paint it with --affected-add."
    )
    return "physics-left", text
