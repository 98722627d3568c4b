"""THE MAIN PATH: one shot in, clean frames out. If you read one file, read this one.

What comes in: the files of a shot by role and frame, its settings, a folder, and a Report to speak through. What goes
out, in the folder: `clean.####.exr`, `aov.####.exr`, `sheet.png` and, last, `manifest.json`. It knows no socket and no
job: a farm calls it in its own process, the daemon's worker calls it in another.

Two-speed rule: only reduced arrays ever hold the whole shot; plate-resolution pixels exist a few frames, or one crop,
at a time. So memory does not grow with the length of the shot.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server import background, merge, preview
from void_server import engine as engines
from void_server.effects.affected import find_affected
from void_server.engine import Array, Colour, Engine, Fill
from void_server.image import composite, exr, fit, grain
from void_server.image.frames import sequence
from void_server.parallel import Crew, in_order, waited_for
from void_server.plan import Plan, open_job
from void_server.process import hands, limit_malloc_arenas, threads
from void_server.result import aovs
from void_server.result.folder import ResultFolder
from void_server.result.manifest import close_result, warn
from void_server.shot.marked import MarkedShot
from void_server.shot.mask_check import judge, whole_frames
from void_server.shot.mask_reading import look
from void_server.shot.surveyed import SurveyedShot, survey
from void_server.wire.errors import EngineError, about
from void_server.wire.report import Report, ShotWarning
from void_server.wire.shot import ShotFiles, ShotSettings, Window

WRITE_BYTES = 96
"""Memory for each pixel of a frame while it is laid together and encoded."""
GRAIN_PAIRS = 5
GRAIN_REACH_PX = 256
"""Grain is measured on five pairs of neighbours, within this distance of the hole's middle."""
DOUBTFUL, DOUBTFUL_SHARE = 0.5, 0.25
"""A fill is doubtful where confidence is below the one, and worth a warning where it is over more of a hole than the
other."""
FADE_FRAMES = 4
"""Frames over which a re-made range is cross-faded into the frames that stay beside it."""


def deliver(
    files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, found: Path | None = None
) -> dict[str, Any]:
    """What a job's settings ask for: a clean plate, or a look at what is affected. Returns the manifest.

    found: a folder that keeps what was found to be affected, for all jobs; without one it lies beside the result.
    """
    make = preview.write_affected if settings.deliver == "affected" else make_clean_plate
    return make(files, settings, out, report, found=found)


def make_clean_plate(
    files: ShotFiles,
    settings: ShotSettings,
    out: Path,
    report: Report,
    *,
    part_of_shot: bool = False,
    found: Path | None = None,
) -> dict[str, Any]:
    """Remove the object from one shot. Blocks for minutes to hours; returns the manifest.

    Takes up an interrupted run where it stopped. A frame's samples outside `change` are the plate's, bit for bit.
    part_of_shot: an empty matte is no mistake then; such frames are the plate's own. found: as in `deliver`.
    Raises RequestErrors before any work for what the artist can fix, EngineErrors, JobCancelledError.
    """
    return carry_out(open_job(files, settings, out, report, found=found), report, part_of_shot=part_of_shot)


def carry_out(plan: Plan, report: Report, *, part_of_shot: bool = False) -> dict[str, Any]:
    """The same, for a job that is opened already: its headers are read, its inputs hashed, its folder is there."""
    limit_malloc_arenas()
    warnings: list[ShotWarning] = []
    checked, settings, result = plan.checked, plan.checked.settings, plan.result
    warn(report, warnings, *checked.warnings)
    warn(report, warnings, *judge(checked, look(checked), part_of_shot=part_of_shot))

    # 1) Which engine, and what is already done.
    report.note(f"Engine: {plan.engine} ({plan.reason}).")
    colour = None
    if plan.to_make:
        if plan.finished:
            report.note(f"Frames {sequence.format_frames(plan.finished)} are finished already and stay as they are.")
        result.open_again()
        engine = engines.load(plan.engine, settings.device)
        if settings.quality not in engine.needs.qualities:
            report.note(f"Engine {plan.engine} knows one quality; --quality {settings.quality} changes nothing.")
        # 2) Read the shot once.
        with (
            survey(checked, report, plates_key=plan.plates_key, empty_is_well=part_of_shot) as surveyed,
            background.kept(),
        ):
            shot = surveyed.marked()
            warn(report, warnings, *_odd_samples(surveyed), *whole_frames(shot))
            # 3) Find what the object did to the scene.
            if settings.physics_prior and not checked.files.affected and not shot.nothing_marked:
                shot, told = find_affected(surveyed, report, physics=engine.needs.physics, kept=plan.finding)
                warn(report, warnings, *told)
            # 4) Fill the holes; lay each fill over its plate; write each frame as it comes.
            hearing = report.noting(warnings.append)
            shot = shot.ready(plan.to_make, engine.needs.colour)
            with _filled(shot, engine, hearing) as (shot, fills, colour_of_fills):
                _write(shot, surveyed, fills, colour_of_fills, result, hearing)
            colour = surveyed.engine_space.to_wire()
    else:
        report.note("Every frame is finished already, from the same inputs and settings; nothing is computed again.")

    # 5) A sheet for people, then the manifest.
    facts = {"engine": {"name": plan.engine, "reason": plan.reason}, "engine_space": colour}
    return close_result(checked, result, plan.hashes, facts, warnings, plan.started, report)


@contextlib.contextmanager
def _filled(
    shot: MarkedShot, engine: Engine, report: Report
) -> Iterator[tuple[MarkedShot, Generator[tuple[int, Fill | None], None, None], Colour]]:
    """(the shot under its last marks, every wanted frame with its fill, the colour of these fills).

    An engine's fill that is smaller than its crop, or not made of real pixels, is put together with what other frames
    show; what an engine with physics left as it was stays the plate's.
    """
    if not engine.needs.merged:
        with contextlib.closing(_in_order(shot, engine.name, engine.fill(shot, report), report)) as fills:
            yield shot, fills, engine.needs.colour
        return
    asked = merge.widened(shot, report, generous=shot.checked.settings.effects == "bold")
    every = asked.ready(shot.frames, engine.needs.colour)
    made = (fill for _, fill in _in_order(every, engine.name, engine.fill(every, report), report) if fill is not None)
    with (
        merge.one_picture(shot, every, engine.needs, made, report) as (settled, merged),
        contextlib.closing(_in_order(settled, engine.name, merged, report)) as fills,
    ):
        yield settled, fills, Colour.SCENE_LINEAR


def _write(
    shot: MarkedShot,
    surveyed: SurveyedShot,
    fills: Iterator[tuple[int, Fill | None]],
    colour: Colour,
    result: ResultFolder,
    report: Report,
) -> None:
    """Write every frame that is wanted, in order, as soon as it is filled."""
    total, done = len(shot.wanted), 0
    grain_model = _grain(shot, report)
    pending: collections.deque[tuple[int, Future[dict[str, Any]]]] = collections.deque()

    def write(job: tuple[int, Fill | None, float]) -> dict[str, Any]:
        return _write_frame(shot, surveyed, colour, result, *job, grain_model)

    def settle(most: int) -> None:
        nonlocal done
        while pending and (len(pending) > most or pending[0][1].done()):
            frame, written = pending[0]
            with about(frame=frame):
                facts = waited_for(written, report.check_cancelled)
            result.note(frame, facts)
            pending.popleft()
            done += 1
            report.frame_done(frame)
            report.progress("frames", done, total, frame)

    size = shot.canvas.width * shot.canvas.height
    try:
        with Crew(write, min(total, hands(WRITE_BYTES * size))) as writers:
            begun = time.monotonic()
            try:
                for frame, fill in fills:
                    spent, begun = time.monotonic() - begun, time.monotonic()
                    pending.append((frame, writers.submit((frame, fill, spent))))
                    settle(writers.hands)
            except Exception:
                # The frames before the one that failed are whole, and stay; a run that is cancelled waits for none.
                with contextlib.suppress(Exception):
                    settle(0)
                raise
            settle(0)
    finally:
        # Writers of a run that is cancelled or fails are ended in the middle of a file.
        result.sweep(frame for frame, _ in pending)


def _in_order(
    shot: MarkedShot, name: str, fills: Iterator[Fill], report: Report
) -> Generator[tuple[int, Fill | None], None, None]:
    """(frame, its fill) for every frame that is wanted, ascending; None where there is nothing to do."""
    filled = iter(fills)
    for frame in shot.wanted:
        report.check_cancelled()
        if shot.hole(frame) is None:
            yield frame, None
            continue
        fill = next(filled, None)
        if fill is None or fill.frame != frame:
            got = "nothing" if fill is None else f"frame {fill.frame}"
            raise EngineError(f"Engine {name} gave {got} for frame {frame}.", "Report this to its maker.")
        yield frame, fill


def _grain(shot: MarkedShot, report: Report) -> grain.GrainModel | None:
    """The plate's grain, from pairs of neighbours spread over the whole shot, whichever frames are delivered."""
    neighbours = [(a, b) for a, b in itertools.pairwise(shot.frames) if b == a + 1 and shot.hole(a) is not None]
    picks = neighbours[:: max(1, len(neighbours) // GRAIN_PAIRS)][:GRAIN_PAIRS]

    def sampled(pair: tuple[int, int]) -> grain.Samples:
        hole = shot.hole(pair[0])
        assert hole is not None
        x, y = (hole.x0 + hole.x1) // 2, (hole.y0 + hole.y1) // 2
        near = Window(x, y, x, y).grow(GRAIN_REACH_PX).intersect(shot.whole)
        before, after = (shot.plate(frame, near, colour=Colour.SCENE_LINEAR) for frame in pair)
        clear = np.ones(before.shape[:2], bool)
        for frame in pair:
            clear &= (shot.change(frame, near) == 0) & (shot.known(frame, near) == 1)
        return grain.sampled(before, after, clear)

    with contextlib.closing(in_order(sampled, picks, threads(), report.check_cancelled)) as samples:
        return grain.estimate(samples)


def _write_frame(
    shot: MarkedShot,
    surveyed: SurveyedShot,
    colour: Colour,
    result: ResultFolder,
    frame: int,
    fill: Fill | None,
    spent_s: float,
    grain_model: grain.GrainModel | None,
) -> dict[str, Any]:
    """One frame: fill back to light and plate resolution, over the plate, into the plate's own file; what to note."""
    header = shot.checked.plates[frame]
    own = header.data_window.shift(-shot.canvas.x0, -shot.canvas.y0)
    hole = shot.hole(frame) or Window(own.x0, own.y0, own.x0, own.y0)
    change = shot.change(frame, hole)
    light = np.zeros((hole.height, hole.width, 3), np.float32)
    added = np.zeros_like(light)
    coverage = confidence = np.zeros_like(change)
    if fill is not None:
        size = (fill.crop.height, fill.crop.width)
        rgb = fit.resize(fill.rgb, *size)
        if colour is Colour.ENGINE:
            rgb = shot.engine_space.decode(rgb)
        grainy = rgb
        if fill.grainless is not None and grain_model is not None:
            lacks = fit.resize_soft(fill.grainless, *size).astype(np.float32)
            made = grain.synthesise(grain_model, grain.brightness(rgb), frame, shot.seed)
            grainy = grain.laid_over(rgb, made, lacks)
        plate = shot.plate_bits(frame, hole)

        def laid(made: Array) -> Array:
            held = composite.bounded(made, surveyed.floor, surveyed.peak)
            return composite.over(plate, fit.place(held, fill.crop, hole).astype(np.float32), change)

        light = laid(grainy)
        if grainy is not rgb:
            np.subtract(light, laid(rgb), out=added, where=(change > 0)[..., None])
        coverage = fit.place(fit.resize_soft(fill.coverage, *size), fill.crop, hole).astype(np.float32)
        confidence = fit.place(fit.resize_soft(fill.confidence, *size), fill.crop, hole).astype(np.float32)
        light, added = _faded(shot, result, frame, hole, light, added)
    result.keep_older(frame)
    exr.write_clean(header, result.clean(frame), hole.shift(shot.canvas.x0, shot.canvas.y0), light, change)
    physics = shot.physics(frame, own)
    exr.write_aov(
        result.aov(frame),
        header,
        {
            "change": fit.place(change, hole, own),
            "affected": shot.affected(frame, own),
            # What the object may have done as well, and what this engine can't change: shown, and left as it is.
            "suspected": shot.suspected(frame, own),
            "physics": physics,
            "coverage": fit.place(coverage * (change > 0), hole, own),
            "confidence": fit.place(confidence * (change > 0), hole, own),
            **{name: fit.place(added[..., i], hole, own) for i, name in enumerate(aovs.GRAIN)},
        },
    )
    touched = change > 0
    return {
        "changed": round(float(touched.sum()) / max(1, own.width * own.height), 6),
        "coverage": round(float(coverage[touched].mean()), 4) if touched.any() else None,
        "confidence": round(float(confidence[touched].mean()), 4) if touched.any() else None,
        "doubtful": _doubtful(confidence, touched, hole.shift(shot.canvas.x0, shot.canvas.y0)),
        "seconds": round(spent_s, 3),
    }


def _doubtful(confidence: Array, touched: npt.NDArray[np.bool_], hole: Window) -> list[int] | None:
    """[x0, y0, x1, y1] of what is doubtful, half-open, in the plate's own pixels; None where little of a hole is."""
    low = touched & (confidence < DOUBTFUL)
    if low.sum() <= DOUBTFUL_SHARE * touched.sum():
        return None
    rows, columns = np.nonzero(low)
    box = Window(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return list(box.shift(hole.x0, hole.y0))


def _faded(
    shot: MarkedShot, result: ResultFolder, frame: int, hole: Window, light: Array, added: Array
) -> tuple[Array, Array]:
    """Light, and the grain in it, at the ends of a range re-made inside an older result: blended into the older frames
    that stay beside it."""
    wanted = shot.checked.wanted
    weight = 1.0
    for neighbour, distance in ((wanted[0] - 1, frame - wanted[0] + 1), (wanted[-1] + 1, wanted[-1] - frame + 1)):
        if distance <= FADE_FRAMES and result.older(neighbour) is not None:
            weight = min(weight, distance / (FADE_FRAMES + 1))
    older, told = result.older(frame), result.older_aov(frame)
    if weight == 1.0 or older is None or told is None:
        return light, added
    box = hole.shift(shot.canvas.x0, shot.canvas.y0)
    was = exr.read_rgb(exr.read_plate_header(older, shot.checked.settings.layer), box).astype(np.float32)
    held = aovs.read_grain(told, box)
    finite = np.isfinite(was)
    return (
        np.where(finite, was + (light - was) * weight, light).astype(np.float32),
        np.where(finite, held + (added - held) * weight, added).astype(np.float32),
    )


def _odd_samples(shot: SurveyedShot) -> list[ShotWarning]:
    """Name NaN and Inf in the plate: they stay outside the hole, and are no background inside it."""
    if not shot.not_finite:
        return []
    frame = min(shot.not_finite)
    count, (x, y) = shot.not_finite[frame]
    frames = sequence.format_frames(shot.not_finite)
    return [
        ShotWarning(
            "not-finite", f"Plate frames {frames} hold NaN or Inf (frame {frame}: {count} pixels, first at {x},{y})."
        )
    ]
