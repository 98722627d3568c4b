"""Whether a frame's header asks for what can be meant: far more than the shot's other frames ask for can't.

What comes in: headers by frame. What goes out: problems, which name the frame, and the frames that have none. It opens
no file: a header that is a thousand times too large is refused before anything is allocated for its pixels.

The EXR reader's own limits are absolute, and allow a whole shot that large; these are relative to the shot. They leave
room for what shots really do: a bounding box that follows the object, overscan that grows with the lens, one frame that
was rendered with all its passes.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping

from void_server.image import exr
from void_server.shot.problems import Problems
from void_server.wire.errors import MatteError, PlateError, RequestError
from void_server.wire.shot import Window, spoken_role

FEWEST = 3
"""Frames among which there can be a majority."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """One thing that a header asks for. Refused is more than `times` what is usual, where that is more than `least`."""

    of: Callable[[exr.ImageHeader], int]
    spoken: Callable[[exr.ImageHeader], str]
    times: int
    least: int


def _covered_px(header: exr.ImageHeader) -> int:
    """Together with its format: a box that follows the object is often a small part of that, and one that lies far off
    makes the area that all frames cover as large as one that is wide."""
    whole = header.data_window.union(header.display_window)
    return whole.width * whole.height


def _spoken_window(header: exr.ImageHeader) -> str:
    window = header.data_window
    return f"a data window of {window.width}x{window.height} at {window.x0},{window.y0}"


MEASURES = (
    Measure(_covered_px, _spoken_window, times=8, least=1 << 22),
    Measure(lambda h: h.part_count, lambda h: f"{h.part_count} part{'s'[: h.part_count - 1]}", times=8, least=64),
    Measure(lambda h: len(h.channels), lambda h: f"{len(h.channels)} channels in a part", times=8, least=512),
    Measure(lambda h: h.decoded_bytes, lambda h: f"{h.decoded_bytes >> 20} MB of samples", times=128, least=1 << 30),
)
"""Source of the numbers: a bounding box of twice the format each way is 4 times its pixels; renders have up to some
hundreds of channels and tens of parts; a frame with a hundred float channels beside frames of a half-float beauty is 67
times their bytes."""


def without_outsized(
    role: str, headers: Mapping[int, exr.ImageHeader], plates: Mapping[int, exr.ImageHeader], problems: Problems
) -> dict[int, exr.ImageHeader]:
    """The frames that ask for no more than can be meant; each other one becomes a problem.

    Measured against what most frames of the role have, or of the plate where that is more. The many are never blamed:
    where half of the frames or more are large, they are what is usual.
    """
    rest = dict(headers)
    for measure in MEASURES:
        compared = [group for group in (headers, plates) if len(group) >= FEWEST]
        if not compared:
            break
        usual = max((_usual(measure, group) for group in compared), key=measure.of)
        most = max(measure.times * measure.of(usual), measure.least)
        for frame in [frame for frame, header in rest.items() if measure.of(header) > most]:
            problems.add(_outsized(role, frame, measure.spoken(rest.pop(frame)), measure.spoken(usual)))
    return rest


def _usual(measure: Measure, headers: Mapping[int, exr.ImageHeader]) -> exr.ImageHeader:
    """A header in the middle, by what it asks for; the larger one of two."""
    middle = statistics.median_high(map(measure.of, headers.values()))
    return next(header for header in headers.values() if measure.of(header) == middle)


def _outsized(role: str, frame: int, has: str, usual: str) -> RequestError:
    kind = PlateError if role in ("plate", "reference") else MatteError
    return kind(
        f"{spoken_role(role)} frame {frame} has {has}; most frames of the shot have {usual}.",
        "That can't be meant; its header may be damaged. Render or copy the frame again, as the others are.",
        frame=frame,
    )


def check_canvas(canvas: Window, plates: Mapping[int, exr.ImageHeader], problems: Problems) -> None:
    """What all frames cover together is held in one piece, so it is bounded as one frame is."""
    if max(canvas.width, canvas.height) <= exr.MAX_SIDE_PX and canvas.width * canvas.height <= exr.MAX_PIXELS:
        return
    frame = max(plates, key=lambda frame: _covered_px(plates[frame]))
    problems.add(
        PlateError(
            f"The plate's frames cover {canvas.width}x{canvas.height} pixels together; frame {frame} has "
            f"{_spoken_window(plates[frame])}.",
            "Render the plate again with data windows that stay near its format, or split the shot.",
            frame=frame,
        )
    )
