"""Chunks of a long shot become one result: frames are published, and faded where two chunks made the same one.

What comes in: the files and settings of the whole shot, its output folder with `.chunks` in it, and a Report. What goes
out, in the folder: everything that `pipeline` would have left there, and a manifest that names the chunks and every
faded frame. It trusts no chunk by its name: each frame must carry the fingerprint of today's inputs and settings. It
knows no engine and no farm.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from void_server.engine import Array
from void_server.farm import chunks
from void_server.image import exr, matte
from void_server.plan import open_shot
from void_server.result import aovs
from void_server.result.folder import Hashes, ResultFolder, fingerprint, publish
from void_server.result.manifest import close_result
from void_server.shot.check import CheckedShot
from void_server.wire.errors import JobError, about
from void_server.wire.report import Report, ShotWarning
from void_server.wire.shot import FrameRange, ShotFiles, ShotSettings, Window


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One finished chunk: its own frames, and the folder that holds those and the overlapping ones."""

    own: FrameRange
    result: ResultFolder
    engine: str
    notes: Mapping[int, Mapping[str, Any]]
    """What was noted about each frame that it made."""
    warnings: tuple[ShotWarning, ...] = ()
    """What its own manifest warns of."""


def assemble(files: ShotFiles, settings: ShotSettings, out: Path, overlap: int, report: Report) -> dict[str, Any]:
    """Make one result of the chunks in `out`; returns its manifest. Safe to repeat: finished frames stay.

    Chunks are thrown away once the manifest is written. Raises JobError where a chunk is missing, unfinished, or made
    from other inputs or settings, RequestErrors like `pipeline.make_clean_plate`, OutputError, JobCancelledError.
    """
    opened = open_shot(files, settings, out, report)
    checked, hashes = opened.checked, opened.hashes
    shot = FrameRange(checked.wanted[0], checked.wanted[-1])
    already = _assembled_before(out, checked, hashes, overlap)
    if already is not None:
        report.note("Every frame is assembled already, from the same inputs and settings.")
        return already
    tiles = _tiles(checked, hashes, out, shot, overlap)
    result = ResultFolder(out, _fingerprint(checked, hashes, tiles, overlap))
    finished = result.finished(checked.wanted)
    if len(finished) < len(checked.wanted):
        result.open_again()
    blended = []
    for index, frame in enumerate(checked.wanted):
        report.progress("assemble", index, len(checked.wanted), frame)
        with about(frame=frame):
            now, later, share = _sources(tiles, frame, overlap)
            if later is not None:
                blended.append(frame)
            if frame in finished:
                continue
            if later is None:
                result.note(frame, _published(now, frame, result))
            else:
                result.note(frame, _faded(checked, now, later, frame, share, result))
            report.frame_done(frame)
    facts = {
        "engine": {"name": tiles[0].engine, "reason": "what the chunks were made with"},
        "engine_space": None,
        "chunks": {
            "ranges": [str(tile.own) for tile in tiles],
            "overlap": overlap,
            "handles": settings.handles,
            "cross_faded": blended,
            "of": fingerprint(checked, hashes, tiles[0].engine),
        },
    }
    manifest = close_result(checked, result, hashes, facts, _warnings(checked, tiles, blended), opened.started, report)
    shutil.rmtree(out / chunks.FOLDER, ignore_errors=True)
    return manifest


def chunk_settings(settings: ShotSettings, chunk: FrameRange, shot: FrameRange, overlap: int) -> ShotSettings:
    """The settings under which a chunk's own task runs: the shot's, for the chunk's frames and the overlapping ones."""
    return dataclasses.replace(settings, frames=chunks.made(chunk, shot, overlap))


def _assembled_before(out: Path, checked: CheckedShot, hashes: Hashes, overlap: int) -> dict[str, Any] | None:
    """The manifest of an earlier assembly of the very same, or None. A task may be sent again after it succeeded."""
    try:
        manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        made, engine = manifest["chunks"], manifest["engine"]["name"]
        same = made["of"] == fingerprint(checked, hashes, engine) and made["overlap"] == overlap
        same = same and made["handles"] == checked.settings.handles
    except (OSError, ValueError, KeyError, TypeError):
        return None
    there = all((out / f"{kind}.{frame:04d}.exr").is_file() for frame in checked.wanted for kind in ("clean", "aov"))
    return manifest if same and there else None


def _tiles(checked: CheckedShot, hashes: Hashes, out: Path, shot: FrameRange, overlap: int) -> list[Chunk]:
    """Finished chunks that lie edge to edge over the whole shot. Folders left by another splitting are passed over."""
    found: dict[int, list[FrameRange]] = {}
    folder = out / chunks.FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        own = chunks.parse_folder(path.name)
        if own is not None and own.last <= shot.last:
            found.setdefault(own.first, []).append(own)
    tiles: list[Chunk] = []
    first = shot.first
    while first <= shot.last:
        reasons = [f"there is no chunk that begins at frame {first}"]
        for own in sorted(found.get(first, []), key=len, reverse=True):
            chunk = _finished(checked, hashes, out, own, shot, overlap)
            if isinstance(chunk, Chunk):
                tiles.append(chunk)
                break
            reasons = [*reasons[len(reasons) == 1 :], chunk]
        else:
            raise JobError(f"The chunks in {folder} don't make up the shot: {'; '.join(reasons)}.", "Run it again.")
        first = tiles[-1].own.last + 1
    chunks.check_overlap([tile.own for tile in tiles], overlap)
    engines = {tile.engine: str(tile.own) for tile in tiles}
    if len(engines) > 1:
        which = ", ".join(f"{name} ({frames})" for name, frames in engines.items())
        raise JobError(f"The chunks were made with different engines: {which}.", "Name one with --engine.")
    return tiles


def _finished(
    checked: CheckedShot, hashes: Hashes, out: Path, own: FrameRange, shot: FrameRange, overlap: int
) -> Chunk | str:
    """A chunk whose every frame is what today's inputs and settings give, else what is wrong with it."""
    path = chunks.folder(out, own)
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        engine = str(manifest["engine"]["name"])
        warnings = tuple(ShotWarning(str(w["code"]), str(w["message"])) for w in manifest["warnings"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"chunk {own} is not finished"
    settings = chunk_settings(checked.settings, own, shot, overlap)
    narrowed, inputs = narrow(checked, hashes, settings)
    result = ResultFolder(path, fingerprint(narrowed, inputs, engine))
    notes = result.finished(narrowed.wanted)
    if len(notes) < len(narrowed.wanted):
        return f"chunk {own} was made from other inputs, settings or another overlap"
    return Chunk(own, result, engine, notes, warnings)


def narrow(checked: CheckedShot, hashes: Hashes, settings: ShotSettings) -> tuple[CheckedShot, Hashes]:
    """What `check_shot` and `hash_inputs` would say of a part of the shot, without reading anything again."""
    asked = settings.frames
    assert asked is not None
    handles = settings.handles if settings.handles is not None else len(checked.frames) + len(asked)
    wanted = tuple(frame for frame in checked.wanted if frame in asked)
    read = {
        f for f in checked.frames if asked.first - handles <= f <= asked.last + handles and f in checked.files.plate
    }
    frames = tuple(sorted({*read, *wanted}))
    inside = set(frames)
    inputs = {role: {f: digest for f, digest in found.items() if f in inside} for role, found in hashes.items()}
    part = dataclasses.replace(checked, settings=settings, frames=frames, wanted=wanted)
    return part, {role: found for role, found in inputs.items() if found}


def _fingerprint(checked: CheckedShot, hashes: Hashes, tiles: Sequence[Chunk], overlap: int) -> str:
    """What an assembled frame depends on. Where every chunk read the whole plate, it is the very same as unsplit."""
    whole = fingerprint(checked, hashes, tiles[0].engine)
    if all(tile.result.fingerprint == whole for tile in tiles):
        return whole
    ranges = ",".join(str(tile.own) for tile in tiles)
    return f"{whole}/{ranges}/{overlap}/{checked.settings.handles}"


def _sources(tiles: Sequence[Chunk], frame: int, overlap: int) -> tuple[Chunk, Chunk | None, float]:
    """The chunk that a frame comes from; near a seam also the later chunk, and its share."""
    for tile, later in zip(tiles, tiles[1:]):
        seam = later.own.first
        if seam - overlap <= frame < seam + overlap:
            return tile, later, chunks.share_of_later(frame, seam, overlap)
    return next(tile for tile in tiles if frame in tile.own), None, 0.0


def _published(chunk: Chunk, frame: int, result: ResultFolder) -> dict[str, Any]:
    for source, target in (
        (chunk.result.clean(frame), result.clean(frame)),
        (chunk.result.aov(frame), result.aov(frame)),
    ):
        publish(source, target)
    return {k: v for k, v in chunk.notes[frame].items() if k not in ("frame", "fingerprint")}


def _faded(
    checked: CheckedShot, now: Chunk, later: Chunk, frame: int, share: float, result: ResultFolder
) -> dict[str, Any]:
    """One frame of two: light and AOVs of both, mixed. Where both agree to the bit, so does the mix."""
    plate = checked.plates[frame]
    both = (now.result, later.result)
    one, other = (aovs.read(r.aov(frame)) for r in both)
    mixed = {name: _mix(one[name], other[name], share) for name in one}
    change = mixed["change"]
    box = matte.bounds(change > 0) or Window(0, 0, 0, 0)
    cut = box.slices(Window(0, 0, plate.data_window.width, plate.data_window.height))
    window = box.shift(plate.data_window.x0, plate.data_window.y0)
    light = np.zeros((box.height, box.width, 3), np.float32)
    if not box.empty:
        first, second = (_light(r.clean(frame), checked.settings.layer, window) for r in both)
        light = _mix(first, second, share)
    exr.write_clean(plate, result.clean(frame), window, light, change[cut])
    exr.write_aov(result.aov(frame), plate, mixed)
    seconds = round(sum(float(chunk.notes[frame].get("seconds", 0)) for chunk in (now, later)), 3)
    return {**facts_of(mixed), "seconds": seconds, "cross_faded": round(share, 4)}


def facts_of(channels: Mapping[str, Array]) -> dict[str, Any]:
    """What the manifest says of a frame, from its AOVs, float [H, W] each."""
    touched = channels["change"] > 0
    mean = {
        name: round(float(channels[name][touched].mean()), 4) if touched.any() else None
        for name in ("coverage", "confidence")
    }
    return {"changed": round(float(touched.mean()), 6), **mean}


def _light(path: Path, layer: str | None, window: Window) -> Array:
    return exr.read_rgb(exr.read_plate_header(path, layer), window).astype(np.float32)


def _mix(first: Array, second: Array, share: float) -> Array:
    """Linear from `first` to `second`; exact where they agree, and no NaN where one of them is not finite."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    with np.errstate(invalid="ignore"):
        mixed = np.where(a == b, a, a + (b - a) * np.float32(share))
    return np.where(np.isfinite(mixed), mixed, np.where(np.isfinite(a), a, b)).astype(np.float32)


def _warnings(checked: CheckedShot, tiles: Sequence[Chunk], blended: Sequence[int]) -> list[ShotWarning]:
    found = list(checked.warnings)
    # What was invented is said once, of the whole shot, when the manifest is written.
    found += [warning for tile in tiles for warning in tile.warnings if warning[0] != "invented"]
    found = list(dict.fromkeys(found))
    if len(tiles) > 1:
        whole = checked.settings.handles is None
        context = "each read the whole plate" if whole else f"each read {checked.settings.handles} frames of context"
        message = (
            f"The shot was made in {len(tiles)} chunks, which {context}, and {len(blended)} frames were cross-faded."
        )
        found.append(ShotWarning("chunked", message))
    return found
