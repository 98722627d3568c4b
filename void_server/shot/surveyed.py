"""A shot that was read once: what can only be known of all its frames together.

What comes in: a `CheckedShot` and its painted mattes. What goes out: a `SurveyedShot`: peak and floor of light, samples
that are not finite, the engine's curve, reduced pictures of every frame. It decides nothing about what is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Mapping

import numpy as np

from void_server.image import colour
from void_server.parallel import in_order
from void_server.process import hands
from void_server.shot import mask_check
from void_server.shot.check import CheckedShot
from void_server.shot.contract import Array, Colour, large
from void_server.shot.marked import MarkedShot
from void_server.shot.marks import Marks
from void_server.shot.plate_reader import PlateReader, is_finite
from void_server.wire.report import Report
from void_server.wire.shot import Window

SURVEY_BYTES = 64
"""Memory for each pixel of a frame while it is looked at: its samples, as they are and as floats, and masks of them."""
SURVEY_SAMPLES, SURVEY_TOTAL = 80_000, 2_000_000
"""Pixels that a frame, and the whole shot, give to the choice of the engine's curve."""


@dataclasses.dataclass(frozen=True)
class SurveyedShot:
    """What all frames of a shot say together. Its reader holds open a temporary file: see `survey`."""

    checked: CheckedShot
    reader: PlateReader
    painted: Marks
    """What the artist painted: nothing is found yet."""
    plates_key: str
    """The same for two shots of the same plates, and for no others."""
    floor: float
    peak: float
    engine_space: colour.EngineSpace
    not_finite: Mapping[int, tuple[int, tuple[int, int]]]
    """Frames with samples that are not finite: how many, and the first one's (x, y) in EXR pixel coordinates."""

    def marked(self, marks: Marks | None = None, default_colour: Colour = Colour.SCENE_LINEAR) -> MarkedShot:
        """The shot under one set of marks; without any, those that the artist painted."""
        return MarkedShot(
            checked=self.checked,
            reader=self.reader,
            marks=marks or self.painted,
            plates_key=self.plates_key,
            engine_space=self.engine_space,
            not_finite=frozenset(self.not_finite),
            wanted=self.checked.wanted,
            default_colour=default_colour,
        )


@contextlib.contextmanager
def survey(
    checked: CheckedShot, report: Report, *, plates_key: str | None = None, empty_is_well: bool = False
) -> Iterator[SurveyedShot]:
    """Read every frame once. The shot may be used until the context ends.

    empty_is_well: a shot with nothing marked is a part of a longer one, and not read at all; else it is an error.
    Raises MatteError if nothing is marked on any frame, and PlateErrors for pixels that can't be decoded.
    """
    painted = Marks(checked)
    with contextlib.closing(PlateReader(checked)) as reader:
        for done, frame in enumerate(painted.prepare(checked.frames, report.check_cancelled)):
            report.progress("mattes", done + 1, len(checked.frames), frame)
        nothing = all(painted.hole(frame) is None for frame in checked.frames)
        if nothing and not empty_is_well:
            raise mask_check.nothing_left(painted, checked.frames)
        key = plates_key or uuid.uuid4().hex
        if nothing:
            space = colour.EngineSpace(chromaticities=checked.space.chromaticities)
            yield SurveyedShot(checked, reader, painted, key, 0.0, 1.0, space, {})
        else:
            yield _read_all(checked, reader, painted, key, report)
        painted.clear()


@dataclasses.dataclass(frozen=True)
class _FrameSurvey:
    low: float
    high: float
    samples: Array
    not_finite: tuple[int, tuple[int, int]] | None


def _read_all(checked: CheckedShot, reader: PlateReader, painted: Marks, key: str, report: Report) -> SurveyedShot:
    frames = checked.frames
    # Looking at all holes at once: a curve chosen from moving windows would flicker.
    around = Window(0, 0, 0, 0)
    for frame in frames:
        around = around.union(painted.hole(frame) or Window(0, 0, 0, 0))
    around = around.grow(max(around.width, around.height) // 2).intersect(reader.whole)
    found: list[_FrameSurvey] = []
    results = in_order(
        lambda frame: _survey_frame(reader, painted, frame, around, len(frames)),
        frames,
        hands(SURVEY_BYTES * checked.canvas.width * checked.canvas.height),
        report.check_cancelled,
        heavy=large((checked.canvas.height, checked.canvas.width)),
    )
    for index, one in enumerate(results):
        report.progress("read", index + 1, len(frames), frames[index])
        found.append(one)
    space = colour.engine_space(np.concatenate([one.samples for one in found]), checked.space.chromaticities)
    odd = {frame: one.not_finite for frame, one in zip(frames, found) if one.not_finite is not None}
    floor, peak = min(0.0, *(one.low for one in found)), max(one.high for one in found)
    return SurveyedShot(checked, reader, painted, key, floor, peak, space, odd)


def _survey_frame(reader: PlateReader, painted: Marks, frame: int, around: Window, frames: int) -> _FrameSurvey:
    native = reader.plate(frame, reader.whole)
    finite = is_finite(native)
    light = native.astype(np.float32)
    own = reader.data_window(frame)
    inside = own.slices(reader.whole)
    odd: tuple[int, tuple[int, int]] | None = None
    if not finite[inside].all():
        places = np.argwhere(~finite[inside].all(-1))
        row, column = places[0] + (own.y0, own.x0)
        odd = (len(places), (int(column) + reader.canvas.x0, int(row) + reader.canvas.y0))
        light[~finite] = 0
    reader.keep_proxy(frame, light)
    # Every k-th pixel each way: a percentile needs no more, frames are large and shots are long.
    most = min(SURVEY_SAMPLES, max(1, SURVEY_TOTAL // frames))
    step = max(1, int((around.width * around.height / most) ** 0.5))
    rows, columns = around.slices(reader.whole)
    clear = painted.on("change", frame, around)[::step, ::step] == 0
    thinned = (slice(rows.start, rows.stop, step), slice(columns.start, columns.stop, step))
    sample = light[thinned][clear & finite[thinned].all(-1)]
    shown = light[inside]
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 0.0)
    return _FrameSurvey(low, high, sample[:most], odd)
