"""One picture of what an engine drew and what other frames show: the model's answer, made of the plate's own pixels.

What comes in: a marked shot, what the engine was asked, its fills. What goes out: the shot under the marks that remain,
and one scene-linear fill a frame at plate resolution. The steps lie in their own files; this one knows their order.

All fills are looked at before the first picture is made: softness and error are of the whole shot, so that a frame's
picture does not depend on which others are wanted. They wait on disk; memory does not grow with the shot.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence

import cv2
import numpy as np

from void_server.engine import Array, Colour, Fill, Needs
from void_server.engine.propagate.recovery import DIVIDED_TRUST, Recovered
from void_server.image import fit
from void_server.image.colour import REC709
from void_server.image.frames import sequence
from void_server.image.matte import MATTE_FLOOR
from void_server.merge import agreement, bands, changed, measures, softness
from void_server.merge.agreement import Compared
from void_server.merge.drawings import Drawings
from void_server.merge.measures import Measures
from void_server.merge.recovered import recovered
from void_server.merge.reduced import Behind, Drawn, Mask
from void_server.merge.smoothing import blur, enlarged, reduced
from void_server.merge.steady import REACH, steadied
from void_server.parallel import AHEAD, in_batches, in_order
from void_server.process import hands, threads
from void_server.shot.contract import large
from void_server.shot.marked import MarkedShot
from void_server.shot.marks import Found, Marks, Soft
from void_server.wire.report import Report
from void_server.wire.shot import Window

MOST_SCATTER, DIVIDED_SCATTER = 0.2, 0.046
"""In code. Beyond the one nothing is left to tell apart; the other stands for light that was given back by rule, of
which no donor tells anything."""
PICTURE_BYTES = 200
"""Memory for each pixel of the plate while a frame is put together."""
SPREAD = (15, 15)
"""Known ground this close to what was asked for does not teach sharpening."""


@dataclasses.dataclass(frozen=True)
class _Ready:
    """One frame before it is put together."""

    frame: int
    drawn: Drawn
    fill: Array
    behind: Behind
    compared: Compared
    recovered: Fill


@contextlib.contextmanager
def one_picture(
    shot: MarkedShot, asked: MarkedShot, needs: Needs, fills: Iterator[Fill], report: Report
) -> Iterator[tuple[MarkedShot, Iterator[Fill]]]:
    """(the shot under the marks that remain, its fills in light).

    shot: with the frames that are wanted. fills: of every frame of `asked` that has a hole, in its needs' colour; all
    are drawn from it before this returns. Where the engine redrew nothing of what is known, its fills come back as they
    are. Raises StoreError when the temporary disk is full.
    """
    with contextlib.closing(Drawings(asked, needs.colour)) as drawings:
        at_a_time = _hands(asked)
        for drawing in in_batches(drawings.made, fills, at_a_time, report.check_cancelled, heavy=True):
            drawings.put(drawing)
        tells = needs.physics and shot.checked.settings.physics_prior and not shot.checked.files.affected
        measured = None if drawings.settled else _measured(shot, drawings, all_found=not tells)
        if measured is None:
            yield shot, _as_drawn(shot, drawings, needs.colour)
            return
        if tells:
            shot = _with_what_changed(shot, drawings, measured, report)
            measured = measures.measured_again(measured, _some(shot, drawings))
        shot = shot.ready(shot.wanted, Colour.SCENE_LINEAR)
        with contextlib.closing(_pictures(shot, drawings, measured, report)) as pictures:
            yield shot, pictures


def _some(shot: MarkedShot, drawings: Drawings) -> list[Drawn]:
    """Frames spread over the shot."""
    return [drawings.drawn(frame, shot) for frame in sequence.evenly(drawings.frames, measures.VIEWS)]


def _measured(shot: MarkedShot, drawings: Drawings, *, all_found: bool) -> Measures | None:
    def plate(drawn: Drawn) -> tuple[Array, Mask]:
        known = drawings.known(drawn.frame).astype(np.uint8)
        return drawings.plate(drawn.frame), np.asarray(cv2.erode(known, np.ones(SPREAD, np.uint8)) > 0, bool)

    return measures.measured(_some(shot, drawings), plate, all_found=all_found)


def _as_drawn(shot: MarkedShot, drawings: Drawings, colour: Colour) -> Iterator[Fill]:
    """The engine's own fills, in light."""
    for frame in shot.wanted:
        if shot.hole(frame) is not None:
            fill = drawings.whole(frame)
            if colour is Colour.ENGINE:
                large = fit.resize(fill.rgb, fill.crop.height, fill.crop.width)
                fill = dataclasses.replace(fill, rgb=shot.engine_space.decode(large))
            yield fill


def _with_what_changed(shot: MarkedShot, drawings: Drawings, measured: Measures, report: Report) -> MarkedShot:
    """The shot with the affected region that the engine's own answer makes: of what it was asked, what it changed."""
    frames = drawings.frames
    crop, size = drawings.crop(frames[0]), drawings.drawn(frames[0], shot).size
    whole = (
        max(1, round(shot.whole.height * size[0] / crop.height)),
        max(1, round(shot.whole.width * size[1] / crop.width)),
    )

    def departure(frame: int) -> tuple[Array, Array, Array]:
        """Of one frame, and beside it what else its row holds."""
        drawn = drawings.drawn(frame, shot)
        matte = np.asarray(shot.matte(frame, drawn.crop) > MATTE_FLOOR, np.float32)
        drawn = dataclasses.replace(drawn, hole=reduced(matte, drawn.size))
        fill = measures.corrected(drawn, measured.softness)
        scale = whole[0] / shot.whole.height
        physics, suspected = (reduced(role(frame, None, scale), whole) for role in (shot.physics, shot.suspected))
        return changed.departure(drawn, fill, measured.error, measured.softness), physics, suspected

    others: dict[int, tuple[Array, Array]] = {}

    def departures() -> Iterator[tuple[int, Array]]:
        every = in_order(departure, frames, threads(), report.check_cancelled, heavy=large(shot.size))
        with contextlib.closing(every):
            for done, (frame, (apart, *beside)) in enumerate(zip(frames, every)):
                report.progress("merge", done, 2 * len(frames), frame)
                others[frame] = beside[0], beside[1]
                yield frame, apart

    def rows() -> Iterator[tuple[int, Soft, Soft, Soft]]:
        for frame, near in _with_neighbours(departures()):
            found = changed.affected(steadied(near, {f: drawings.crop(f) for f in near}, frame))
            yield frame, _on_canvas(found, drawings.crop(frame), shot.whole, whole), *others.pop(frame)

    return shot.with_marks(Marks(shot.checked, Found.collected(rows()))).prepared(report.check_cancelled)


def _with_neighbours(maps: Iterator[tuple[int, Array]]) -> Iterator[tuple[int, Mapping[int, Array]]]:
    """(frame, maps of the frames within REACH of it), each as soon as these have come."""
    held: dict[int, Array] = {}
    waiting: collections.deque[int] = collections.deque()
    for frame, one in maps:
        held[frame] = one
        waiting.append(frame)
        while waiting and waiting[0] + REACH <= frame:
            yield waiting.popleft(), held
            for old in [f for f in held if waiting and f < waiting[0] - REACH]:
                del held[old]
    while waiting:
        yield waiting.popleft(), held


def _on_canvas(small: Array, crop: Window, canvas: Window, size: tuple[int, int]) -> Array:
    """A map of a crop, at the fill's size, on the whole canvas at `size` (height, width)."""
    down, across = size[0] / canvas.height, size[1] / canvas.width
    own_down, own_across = small.shape[0] / crop.height, small.shape[1] / crop.width
    place = np.array(
        [
            [own_across / across, 0, (0.5 / across - crop.x0) * own_across - 0.5],
            [0, own_down / down, (0.5 / down - crop.y0) * own_down - 0.5],
        ],
        np.float64,
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(small, place, (size[1], size[0]), flags=flags, borderValue=0), np.float32)


def _pictures(shot: MarkedShot, drawings: Drawings, measured: Measures, report: Report) -> Generator[Fill, None, None]:
    """Put the frames together, each as soon as its neighbours are compared."""
    wanted = {frame for frame in shot.wanted if shot.hole(frame) is not None}
    near = {f + d for f in wanted for d in range(-REACH, REACH + 1)}
    frames = [frame for frame in drawings.frames if frame in near and shot.hole(frame) is not None]
    if not frames:
        return
    at_a_time, heavy, check = _hands(shot), large(shot.size), report.check_cancelled
    held: dict[int, _Ready] = {}
    waiting = collections.deque(sorted(wanted))

    def together(frame: int) -> Fill:
        return _together(shot, drawings, measured, held, frame)

    with contextlib.closing(recovered(shot, frames, report)) as behind:
        while batch := list(itertools.islice(behind, AHEAD * at_a_time)):
            report.progress("fill", frames.index(batch[0].fill.frame), len(frames), batch[0].fill.frame)
            held |= _compared(shot, drawings, measured, batch, at_a_time, report)
            reached = batch[-1].fill.frame
            last = reached == frames[-1]
            ready = [frame for frame in waiting if last or frame + REACH <= reached]
            for _ in ready:
                waiting.popleft()
            with contextlib.closing(in_order(together, ready, at_a_time, check, heavy=heavy)) as made:
                yield from made
            for old in [f for f in held if waiting and f < waiting[0] - REACH]:
                del held[old]


def _hands(shot: MarkedShot) -> int:
    return hands(PICTURE_BYTES * shot.size[0] * shot.size[1])


def _compared(
    shot: MarkedShot,
    drawings: Drawings,
    measured: Measures,
    batch: Sequence[Recovered],
    at_a_time: int,
    report: Report,
) -> dict[int, _Ready]:
    """Every frame of a batch of recovered ones, by frame, beside its fill."""

    def compare(index: int) -> tuple[Drawn, Array, Behind, Compared]:
        one = batch[index]
        drawn = drawings.drawn(one.fill.frame, shot)
        behind = _behind(shot, drawings, drawn, one)
        fill = measures.corrected(drawn, measured.softness, behind)
        return drawn, fill, behind, agreement.compare(fill, behind, measured.error, measured.softness)

    # What was recovered is large and lies here already: only what is made of it is sent.
    made = in_order(compare, range(len(batch)), at_a_time, report.check_cancelled, heavy=large(shot.size))
    with contextlib.closing(made):
        return {
            one.fill.frame: _Ready(one.fill.frame, *parts, one.fill) for one, parts in zip(batch, made, strict=True)
        }


def _behind(shot: MarkedShot, drawings: Drawings, drawn: Drawn, found: Recovered) -> Behind:
    """The recovered background at the fill's size."""
    one = found.fill
    crop, frame = drawn.crop, one.frame
    code = drawings.plate(frame)
    coverage = np.ones(code.shape[:2], np.float32)
    scatter = np.zeros(code.shape[:2], np.float32)
    both = one.crop.intersect(crop)
    into, own = both.slices(crop), both.slices(one.crop)
    hole = shot.change(frame, both) > 0
    code[into][hole] = shot.engine_space.encode(one.rgb[own].astype(np.float16))[hole]
    # A shadow's own pixels under light that was given back are no other frame's, but nothing is invented about them.
    shows = np.maximum(one.coverage[own], one.confidence[own] >= DIVIDED_TRUST)
    coverage[into][hole] = shows[hole]
    apart = np.where(one.coverage[own] > 0, np.minimum(found.scatter[own], MOST_SCATTER), DIVIDED_SCATTER)
    scatter[into] = apart * shows * hole
    return Behind(*(reduced(p, drawn.size) for p in (code, coverage, scatter)))


def _together(shot: MarkedShot, drawings: Drawings, measured: Measures, held: Mapping[int, _Ready], frame: int) -> Fill:
    """One frame at plate resolution, on its hole, in light."""
    own = held[frame]
    places = {f: ready.drawn.crop for f, ready in held.items()}
    odds, like, variance = (
        steadied({f: getattr(r.compared, name) for f, r in held.items()}, places, frame)
        for name in ("odds", "like", "background_variance")
    )
    _, light, fine = agreement.weights(own.compared, odds, like, variance, measured.error.structure)
    hole = shot.hole(frame)
    assert hole is not None
    crop = own.drawn.crop
    part = hole.intersect(crop)
    size = (crop.height, crop.width)
    rows, columns = part.slices(crop)
    layers = bands.Layers(
        own.fill, _detail(drawings, own, measured, size, (rows, columns)), blur(own.behind.code, measured.softness),
        light, fine,
    )  # fmt: skip
    inside = part.slices(own.recovered.crop)
    real = own.recovered.rgb[inside]
    code = shot.engine_space.encode(real.astype(np.float16))
    picture, _, fine = bands.laid_together(layers, code, size, rows, columns)
    rgb = shot.engine_space.decode(picture)
    rgb += (real - _held(shot, real, code)) * fine[..., None]
    coverage, confidence, lacks = drawings.told(frame, part)
    kept = fine * (1 - _or_one(own.recovered.grainless, inside)) + (1 - fine) * (1 - lacks)
    return Fill(
        frame,
        part,
        rgb.astype(np.float32),
        coverage=np.clip(fine * own.recovered.coverage[inside] + (1 - fine) * coverage, 0, 1),
        confidence=np.clip(fine * own.recovered.confidence[inside] + (1 - fine) * confidence, 0, 1),
        grainless=np.clip(1 - kept, 0, 1),
    )


def _detail(
    drawings: Drawings, own: _Ready, measured: Measures, size: tuple[int, int], part: tuple[slice, slice]
) -> Array:
    """What the fill has beyond its size: its own where it was drawn larger than it is compared at, else sharpening."""
    finer = drawings.finer(own.frame)
    if finer is None:
        return softness.sharpened(own.fill, measured.sharpening)
    return enlarged(finer, size, *part) - enlarged(own.drawn.fill, size, *part)


def _held(shot: MarkedShot, light: Array, code: Array) -> Array:
    """What of `light` the engine's colours can hold: not what is negative, too bright, or out of their gamut."""
    space = shot.engine_space
    if space.chromaticities == REC709:
        return np.clip(light, 0, space.peak / space.gain)
    return space.decode(code)


def _or_one(grainless: Array | None, inside: tuple[slice, slice]) -> Array:
    assert grainless is not None
    return grainless[inside]
