"""Find what the object did to the scene, on a whole shot: two looks, each at a background of its own.

What comes in: a surveyed shot and its painted marks. What goes out: the shot with its affected region marked. It does
not know how effects are told from everything else, or what becomes of what is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from void_server import background
from void_server.effects import find, predictor
from void_server.effects.findings import Finding
from void_server.effects.look import Look
from void_server.image.frames import sequence
from void_server.image.frames.sequence import format_frames
from void_server.shot.check import CheckedShot
from void_server.shot.contract import Colour
from void_server.shot.marked import MarkedShot
from void_server.shot.marks import Marks
from void_server.shot.surveyed import SurveyedShot, survey
from void_server.wire.report import Report, ShotWarning


@contextlib.contextmanager
def marked_shot(
    checked: CheckedShot, report: Report, *, physics: bool, kept: Finding | None = None
) -> Iterator[tuple[MarkedShot, tuple[ShotWarning, ...]]]:
    """(a shot with its affected region painted or found, warnings), and nothing removed: to look at before spending an
    engine's time. physics, kept: as in `find_affected`. Raises like `make_clean_plate`."""
    with survey(checked, report) as surveyed, background.kept():
        if checked.settings.physics_prior and not checked.files.affected:
            yield find_affected(surveyed, report, physics=physics, kept=kept)
        else:
            yield surveyed.marked(), ()


def find_affected(
    surveyed: SurveyedShot, report: Report, *, physics: bool, kept: Finding | None = None
) -> tuple[MarkedShot, tuple[ShotWarning, ...]]:
    """(the shot with its affected region found, warnings).

    Twice: what is found the first time spoils the background it was compared with, so it is left out of the second;
    what would move differently as well, whatever becomes of it (VOID's moving_ball: cells .41 without, .62 with).
    Both look at the shot without the artist's corrections: what was painted on one frame changes nothing that was right
    elsewhere, and the result is what was looked at before, corrected.
    physics: whether what would move differently may change as well; an engine that can't move things would wipe it out.
    kept: where the same may have been found before, and is kept for the next time.
    """
    second = _found(surveyed, report, kept)
    bold = surveyed.checked.settings.effects == "bold"
    shot = surveyed.marked(second.marks(surveyed, physics=physics, bold=bold, corrected=True))
    shot.prepared(report.check_cancelled)
    moved = [frame for frame in second.moved() if frame in shot.wanted]
    told = [] if physics or not moved else [_left_as_it_moves(moved)]
    doubted = [] if bold else [frame for frame in second.doubted() if frame in shot.wanted]
    if doubted:
        told.append(_left_as_suspected(doubted))
    if second.stays:
        told.append(STAYS)
    return shot, tuple(told)


def _found(surveyed: SurveyedShot, report: Report, kept: Finding | None) -> Look:
    shot = surveyed.marked(Marks(surveyed.checked, corrected=False))
    known = kept.get() if kept else None
    if known is not None:
        report.note("What the object did to the scene was found before, on these very frames; it is taken from there.")
        # The camera is followed under the same masks as then, so that the same pixels come out.
        _prepared(shot, report)
        return known
    with predictor.loading():
        first = _look(shot, report, first=True)
        again = surveyed.marked(first.marks(surveyed, physics=True, bold=True, corrected=False))
        second = _look(again, report, first=False)
    if kept:
        kept.put(second)
    return second


def _prepared(shot: MarkedShot, report: Report) -> background.Background:
    return background.of(shot.prepared(report.check_cancelled), report)


def _look(shot: MarkedShot, report: Report, *, first: bool) -> Look:
    scale = min(1.0, find.SIDE / min(shot.size))
    behind = _prepared(shot, report)
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
    mattes = [shot.matte(frame, None, scale) > 0.5 for frame in sequence.evenly(shot.frames, find.LOOKED_AT)]
    return Look(dict(found), behind.camera.still and find.stays(mattes))


STAYS = ShotWarning(
    "object-stays",
    "The object hardly moves and the camera rests, so its shadow or reflection lies on every frame and can't be told "
    "from the ground it lies on. Look at sheet.png; paint what is left of it with --affected-add.",
)


def _left_as_suspected(frames: list[int]) -> ShotWarning:
    text = (
        f"On frames {format_frames(frames)} more may be the object's doing (outlined in amber on the sheet, "
        "`suspected` in the AOVs); it is left as it is. --effects bold changes it, and so does painting it "
        "with --affected-add."
    )
    return ShotWarning("suspected", text)


def _left_as_it_moves(frames: list[int]) -> ShotWarning:
    text = (
        f"On frames {format_frames(frames)} something may move differently without the object; this engine leaves it "
        "as it is. Engine void can move it; to wipe it out instead, paint it with --affected-add."
    )
    return ShotWarning("physics-left", text)
