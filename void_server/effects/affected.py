"""Find what the object did to the scene, on a whole shot: two looks, each at a background of its own.

What comes in: a surveyed shot and its painted marks. What goes out: the shot with its affected region marked. It does
not know how effects are told from everything else, or what becomes of what is found.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np

from void_server import background
from void_server.effects import find, predictor
from void_server.image import sequence, sheet
from void_server.shot.check import CheckedShot
from void_server.shot.contract import Colour
from void_server.shot.marked import MarkedShot
from void_server.shot.marks import Found, Marks, Soft
from void_server.shot.surveyed import SurveyedShot, survey
from void_server.wire.report import Report

MOVED_PX = 4
"""A frame of the reduced size says that something would move differently from this many pixels on."""

SUSPECTED_PX = 60
"""Less is not worth a word: the rim of somebody who passes by."""

Warnings = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look at a shot found, by frame, at one reduced size."""

    affected: dict[int, find.Affected]
    stays: bool
    """Whether neither the camera nor the object moves to speak of: no frame shows the place without its effect."""

    def marks(self, surveyed: SurveyedShot, *, physics: bool, bold: bool, corrected: bool) -> Marks:
        """The shot's marks with what was found. physics: whether what would move differently may change as well; bold:
        whether what is no more than suspected may."""

        def rows() -> Iterator[tuple[int, Soft, Soft, Soft]]:
            for frame, one in self.affected.items():
                changes = np.maximum(one.appearance, one.suspected) if bold else one.appearance
                yield frame, np.maximum(changes, one.physics) if physics else changes, one.physics, one.suspected

        return Marks(surveyed.checked, Found.collected(rows()), corrected=corrected)

    def doubted(self) -> list[int]:
        """Frames on which something is suspected, and no more."""
        return [frame for frame, one in self.affected.items() if (one.suspected > 0.5).sum() >= SUSPECTED_PX]

    def moved(self) -> list[int]:
        """Frames on which something would move differently."""
        return [frame for frame, one in self.affected.items() if (one.physics > 0.5).sum() >= MOVED_PX]


@contextlib.contextmanager
def marked_shot(checked: CheckedShot, report: Report, *, physics: bool) -> Iterator[tuple[MarkedShot, Warnings]]:
    """(a shot with its affected region painted or found, warnings), and nothing removed: to look at before spending an
    engine's time. physics: as in `find_affected`. Raises like `make_clean_plate`."""
    with survey(checked, report) as surveyed, background.kept():
        if checked.settings.physics_prior and not checked.files.affected:
            yield find_affected(surveyed, report, physics=physics)
        else:
            yield surveyed.marked(), ()


def find_affected(surveyed: SurveyedShot, report: Report, *, physics: bool) -> tuple[MarkedShot, Warnings]:
    """(the shot with its affected region found, warnings).

    Twice: what is found the first time spoils the background it was compared with, so it is left out of the second;
    what would move differently as well, whatever becomes of it (VOID's moving_ball: cells .41 without, .62 with).
    Both look at the shot without the artist's corrections: what was painted on one frame changes nothing that was right
    elsewhere, and the result is what was looked at before, corrected.
    physics: whether what would move differently may change as well; an engine that can't move things would wipe it out.
    """
    first = _look(surveyed.marked(Marks(surveyed.checked, corrected=False)), report, first=True)
    second = _look(
        surveyed.marked(first.marks(surveyed, physics=True, bold=True, corrected=False)), report, first=False
    )
    bold = surveyed.checked.settings.effects == "bold"
    shot = surveyed.marked(second.marks(surveyed, physics=physics, bold=bold, corrected=True))
    collections.deque(shot.marks.prepare(shot.frames, report.check_cancelled), maxlen=0)
    moved = [frame for frame in second.moved() if frame in shot.wanted]
    told = [] if physics or not moved else [_left_as_it_moves(moved)]
    doubted = [] if bold else [frame for frame in second.doubted() if frame in shot.wanted]
    if doubted:
        told.append(_left_as_suspected(doubted))
    if second.stays:
        told.append(STAYS)
    return shot, tuple(told)


def _look(shot: MarkedShot, report: Report, *, first: bool) -> Look:
    scale = min(1.0, find.SIDE / min(shot.size))
    collections.deque(shot.marks.prepare(shot.frames, report.check_cancelled), maxlen=0)
    behind = background.of(shot, report)
    behind.prepare([f for f in shot.frames if shot.hole(f) is not None], shot.whole, scale, report)
    found = find.find_affected(
        shot.frames,
        lambda frame: shot.plate(frame, None, scale, Colour.SCENE_LINEAR),
        lambda frame: shot.matte(frame, None, scale),
        lambda frame: behind.estimate(frame, shot.whole, scale),
        predictor.shipped(),
        report,
        first_look=first,
    )
    mattes = [shot.matte(frame, None, scale) > 0.5 for frame in sheet.evenly(shot.frames, find.LOOKED_AT)]
    return Look(dict(found), behind.camera.still and find.stays(mattes))


STAYS = (
    "object-stays",
    "The object hardly moves and the camera rests, so its shadow or reflection lies on every frame and can't be told "
    "from the ground it lies on. Look at sheet.png; paint what is left of it with --affected-add.",
)


def _left_as_suspected(frames: list[int]) -> tuple[str, str]:
    text = (
        f"On frames {sequence.spoken(frames)} more may be the object's doing (outlined in amber on the sheet, "
        "`suspected` in the AOVs); it is left as it is. --effects bold changes it, and so does painting it "
        "with --affected-add."
    )
    return "suspected", text


def _left_as_it_moves(frames: list[int]) -> tuple[str, str]:
    text = (
        f"On frames {sequence.spoken(frames)} something may move differently without the object; this engine leaves it "
        "as it is. Engine void can move it; to wipe it out instead, paint it with --affected-add."
    )
    return "physics-left", text
