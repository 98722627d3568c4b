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
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server import engine as engines
from void_server.engine import Array, Colour, Engine, Fill
from void_server.image import composite, exr, fit, grain, sequence
from void_server.shot import preview
from void_server.shot.affected import find_affected
from void_server.shot.check import check_output, check_shot
from void_server.shot.heaps import share_heaps
from void_server.shot.manifest import close_result, warn
from void_server.shot.result import ResultFolder, fingerprint, hash_inputs
from void_server.shot.shot_on_disk import ShotOnDisk
from void_server.shot.solid import whole_frames
from void_server.wire.errors import EngineError, about
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings, Window

WRITERS = 2
"""Frames being encoded while the engine works on the next: EXR encoding runs without the interpreter's lock."""
GRAIN_PAIRS = 5
GRAIN_REACH_PX = 256
"""Grain is measured on five pairs of neighbours, within this distance of the hole's middle."""
FADE_FRAMES = 4
"""Frames over which a re-made range is cross-faded into the frames that stay beside it."""


def make_clean_plate(
    files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, part_of_shot: bool = False
) -> dict[str, Any]:
    """Remove the object from one shot. Blocks for minutes to hours; returns the manifest.

    Takes up an interrupted run where it stopped. A frame's samples outside `change` are the plate's, bit for bit.
    With `deliver="affected"` it removes nothing and writes `affected.####.exr` instead (see `preview`).
    part_of_shot: an empty matte is no mistake then; such frames are the plate's own.
    Raises RequestErrors before any work for what the artist can fix, EngineErrors, JobCancelledError.
    """
    share_heaps()
    if settings.deliver == "affected":
        return preview.write_affected(files, settings, out, report)
    started = time.monotonic()
    warnings: list[tuple[str, str]] = []

    # 1) All headers first: everything that is wrong with the shot is said in one message, before any work.
    checked = check_shot(files, settings)
    check_output(out, files)
    warn(report, warnings, *checked.warnings)

    # 2) Which engine, and what is already done.
    name, reason = engines.choose(settings.engine, settings.device)
    report.note(f"Engine: {name} ({reason}).")
    hashes = hash_inputs(checked, report)
    result = ResultFolder(out, fingerprint(checked, hashes, name))
    finished = result.finished(checked.wanted)
    if len(finished) < len(checked.wanted):
        if finished:
            report.note(f"Frames {sequence.spoken(finished)} are finished already and stay as they are.")
        result.open_again()
        engine = engines.load(name, settings.device)
        with ShotOnDisk(checked, engine.needs.colour) as shot:
            # 3) Read the shot once, and find what the object did to the scene.
            if not (part_of_shot and shot.nothing_marked):
                shot.survey(report)
                warn(report, warnings, *_odd_samples(shot), *whole_frames(shot))
                if settings.physics_prior and not files.affected:
                    with shot.uncorrected():
                        warn(report, warnings, *find_affected(shot, engine, report, physics=engine.needs.physics))
            # 4) Fill the holes; lay each fill over its plate; write each frame as it comes.
            _fill_and_write(shot, engine, result, [f for f in checked.wanted if f not in finished], report)
            colour = shot.engine_space.to_wire()
    else:
        report.note("Every frame is finished already, from the same inputs and settings; nothing is computed again.")
        colour = None

    # 5) A sheet for people, then the manifest.
    facts = {"engine": {"name": name, "reason": reason}, "engine_space": colour}
    return close_result(checked, result, hashes, facts, warnings, started, report)


def _fill_and_write(shot: ShotOnDisk, engine: Engine, result: ResultFolder, frames: list[int], report: Report) -> None:
    """Write every frame of `frames`, in order, as soon as the engine has filled it."""
    shot.want(frames)
    total, done = len(frames), 0
    grain_model = _grain(shot)
    pending: collections.deque[tuple[int, Future[None]]] = collections.deque()

    def settle(most: int) -> None:
        nonlocal done
        while len(pending) > most:
            frame, writing = pending.popleft()
            with about(frame=frame):
                writing.result()
            done += 1
            report.frame_done(frame)
            report.progress("frames", done, total, frame)

    with ThreadPoolExecutor(WRITERS) as writers, contextlib.closing(_fills(shot, engine, frames, report)) as fills:
        begun = time.monotonic()
        for frame, fill in fills:
            spent, begun = time.monotonic() - begun, time.monotonic()
            pending.append((frame, writers.submit(_write_frame, shot, engine, result, frame, fill, grain_model, spent)))
            settle(WRITERS)
        settle(0)


def _fills(
    shot: ShotOnDisk, engine: Engine, frames: list[int], report: Report
) -> Generator[tuple[int, Fill | None], None, None]:
    """(frame, its fill) for every frame, ascending; None where there is nothing to do."""
    filled = iter(engine.fill(shot, report))
    for frame in frames:
        report.check_cancelled()
        if shot.hole(frame) is None:
            yield frame, None
            continue
        fill = next(filled, None)
        if fill is None or fill.frame != frame:
            got = "nothing" if fill is None else f"frame {fill.frame}"
            raise EngineError(f"Engine {engine.name} gave {got} for frame {frame}.", "Report this to its maker.")
        yield frame, fill


def _grain(shot: ShotOnDisk) -> grain.GrainModel | None:
    """The plate's grain, from pairs of neighbours spread over the whole shot, whichever frames are delivered."""
    neighbours = [(a, b) for a, b in itertools.pairwise(shot.frames) if b == a + 1 and shot.hole(a) is not None]
    picks = neighbours[:: max(1, len(neighbours) // GRAIN_PAIRS)][:GRAIN_PAIRS]

    def pairs() -> Iterator[tuple[Array, Array, npt.NDArray[np.bool_]]]:
        for before, after in picks:
            hole = shot.hole(before)
            assert hole is not None
            x, y = (hole.x0 + hole.x1) // 2, (hole.y0 + hole.y1) // 2
            near = Window(x, y, x, y).grow(GRAIN_REACH_PX).intersect(shot.whole)
            light = [shot.plate(frame, near, colour=Colour.SCENE_LINEAR) for frame in (before, after)]
            clear = (shot.change(before, near) == 0) & (shot.change(after, near) == 0)
            yield light[0], light[1], clear & (shot.known(before, near) == 1) & (shot.known(after, near) == 1)

    return grain.estimate(pairs())


def _write_frame(
    shot: ShotOnDisk,
    engine: Engine,
    result: ResultFolder,
    frame: int,
    fill: Fill | None,
    grain_model: grain.GrainModel | None,
    spent_s: float,
) -> None:
    """One frame: fill back to light and plate resolution, over the plate, into the plate's own file."""
    header = shot.checked.plates[frame]
    own = header.data_window.shift(-shot.canvas.x0, -shot.canvas.y0)
    hole = shot.hole(frame) or Window(own.x0, own.y0, own.x0, own.y0)
    change = shot.change(frame, hole)
    light = np.zeros((hole.height, hole.width, 3), np.float32)
    coverage = confidence = np.zeros_like(change)
    if fill is not None:
        size = (fill.crop.height, fill.crop.width)
        rgb = fit.resize(fill.rgb, *size)
        if engine.needs.colour is Colour.ENGINE:
            rgb = shot.engine_space.decode(rgb)
        if fill.grainless is not None and grain_model is not None:
            lacks = fit.resize_soft(fill.grainless, *size).astype(np.float32)
            made = grain.synthesise(grain_model, grain.brightness(rgb), frame, shot.seed)
            rgb = grain.laid_over(rgb, made, lacks)
        rgb = composite.bounded(rgb, shot.floor, shot.peak)
        light = fit.place(rgb, fill.crop, hole).astype(np.float32)
        coverage = fit.place(fit.resize_soft(fill.coverage, *size), fill.crop, hole).astype(np.float32)
        confidence = fit.place(fit.resize_soft(fill.confidence, *size), fill.crop, hole).astype(np.float32)
        light = composite.over(shot.plate_bits(frame, hole), light, change)
        light = _faded(shot, result, frame, hole, light)
    exr.write_clean(header, result.clean(frame), hole.shift(shot.canvas.x0, shot.canvas.y0), light, change)
    physics = shot.physics(frame, own)
    exr.write_aov(
        result.aov(frame),
        header,
        {
            "change": fit.place(change, hole, own),
            # All that the object did, whether or not this engine can change it: `change` says what was replaced.
            "affected": np.maximum(shot.affected(frame, own), physics),
            "physics": physics,
            "coverage": fit.place(coverage * (change > 0), hole, own),
            "confidence": fit.place(confidence * (change > 0), hole, own),
        },
    )
    touched = change > 0
    result.note(
        frame,
        {
            "changed": round(float(touched.sum()) / max(1, own.width * own.height), 6),
            "coverage": round(float(coverage[touched].mean()), 4) if touched.any() else None,
            "confidence": round(float(confidence[touched].mean()), 4) if touched.any() else None,
            "seconds": round(spent_s, 3),
        },
    )


def _faded(shot: ShotOnDisk, result: ResultFolder, frame: int, hole: Window, light: Array) -> Array:
    """At the ends of a range re-made inside an older result, blend into the older frames that stay beside it."""
    wanted = shot.checked.wanted
    weight = 1.0
    for neighbour, distance in ((wanted[0] - 1, frame - wanted[0] + 1), (wanted[-1] + 1, wanted[-1] - frame + 1)):
        if distance <= FADE_FRAMES and result.older(neighbour) is not None:
            weight = min(weight, distance / (FADE_FRAMES + 1))
    older = result.older(frame)
    if weight == 1.0 or older is None:
        return light
    before = exr.read_plate_header(older, shot.checked.settings.layer)
    was = exr.read_rgb(before, hole.shift(shot.canvas.x0, shot.canvas.y0)).astype(np.float32)
    return np.where(np.isfinite(was), was + (light - was) * weight, light).astype(np.float32)


def _odd_samples(shot: ShotOnDisk) -> list[tuple[str, str]]:
    """Name NaN and Inf in the plate: they stay outside the hole, and are no background inside it."""
    if not shot.not_finite:
        return []
    frame = min(shot.not_finite)
    count, (x, y) = shot.not_finite[frame]
    frames = sequence.spoken(shot.not_finite)
    return [("not-finite", f"Plate frames {frames} hold NaN or Inf (frame {frame}: {count} pixels, first at {x},{y}).")]
