"""Look at what the object did to the scene before spending an engine's time on it.

What comes in: a shot. What goes out: `affected.####.exr` on the plate's windows, fit for `--affected` after painting on
it, `affected.mp4` where there is an encoder, `sheet.png` and, last, `manifest.json`. It removes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import void_server
from void_server import engine as engines
from void_server.effects.affected import marked_shot
from void_server.engine import Array, Colour
from void_server.image import exr, fit
from void_server.image.frames import sequence
from void_server.image.review import movie, overlay, sheet
from void_server.plan import open_shot
from void_server.result.folder import make_folder, write_text
from void_server.result.manifest import warn
from void_server.shot.marked import MarkedShot
from void_server.shot.mask_check import judge, whole_frames
from void_server.shot.mask_reading import look
from void_server.wire.report import Report, ShotWarning
from void_server.wire.shot import ShotFiles, ShotSettings

SHEET, MOVIE, MANIFEST = "sheet.png", "affected.mp4", "manifest.json"


def write_affected(
    files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, found: Path | None = None
) -> dict[str, Any]:
    """Write one affected matte a frame, a movie, a sheet and a manifest, which it returns. found: as in
    `pipeline.deliver`. Raises like `make_clean_plate`."""
    make_folder(out)
    opened = open_shot(files, settings, out, report, found=found, written=["affected"])
    checked = opened.checked
    warnings: list[ShotWarning] = []
    warn(report, warnings, *checked.warnings, *judge(checked, look(checked)))
    shown = set(sequence.evenly(checked.wanted, 5))
    rows: dict[str, dict[str, overlay.Bytes]] = {}
    frames: dict[str, Any] = {}
    physics = engines.find(engines.choose(settings.engine, settings.device)[0]).needs.physics
    with (
        marked_shot(checked, report, physics=physics, kept=opened.finding) as (shot, told),
        movie.writing(out / MOVIE) as film,
    ):
        warn(report, warnings, *told, *whole_frames(shot))
        for stale in (SHEET, MOVIE, MANIFEST):
            (out / stale).unlink(missing_ok=True)  # of other frames than those that follow
        for frame in checked.wanted:
            header = checked.plates[frame]
            own = fit.place(shot.affected(frame), checked.canvas, header.data_window)
            moved = fit.place(shot.physics(frame), checked.canvas, header.data_window)
            doubted = fit.place(shot.suspected(frame), checked.canvas, header.data_window)
            mattes = {"affected": own, "suspected": doubted, "physics": moved}
            exr.write_aov(out / f"affected.{frame:04d}.exr", header, mattes)
            frames[str(frame)] = {"affected": round(float((own > 0).mean()), 6)}
            looked = _reduced(shot, frame)
            film.add(overlay.outlined(*looked, checked.space.chromaticities))
            if frame in shown:
                rows[str(frame)] = _pictures(*looked, checked.space.chromaticities)
            report.frame_done(frame)
            report.progress("affected", len(frames), len(checked.wanted), frame)
    if film.trouble:
        report.note(film.trouble)
    sheet.write_pictures(out / SHEET, rows)
    report.note(
        f"Paint on it where needed, then run with --affected {out / 'affected.####.exr'}; or paint what is missing or "
        "too much on a few frames, for --affected-add and --affected-sub."
    )
    report.note(f"Frames {sequence.format_frames(checked.wanted)}.")
    manifest = {
        "version": void_server.__version__,
        "settings": settings.to_wire(),
        "frames": frames,
        "warnings": [{"code": code, "message": message} for code, message in warnings],
    }
    write_text(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def _reduced(shot: MarkedShot, frame: int) -> tuple[Array, Array, Array, Array]:
    """(plate, matte, affected, suspected) of one frame at the proxies' size: 960 pixels wide at most, and decoded."""
    scale = shot.proxy_scale
    plate = shot.plate(frame, None, scale, Colour.SCENE_LINEAR)
    affected, suspected = shot.affected(frame, None, scale), shot.suspected(frame, None, scale)
    return plate, shot.matte(frame, None, scale), affected, suspected


def _pictures(
    plate: Array, matte: Array, affected: Array, suspected: Array, chromaticities: tuple[float, ...]
) -> dict[str, overlay.Bytes]:
    """One row of the sheet, by title. Reduced first and drawn then, so that the outline stays one pixel wide."""
    height, width = plate.shape[:2]
    size = fit.scaled_size(height, width, min(1.0, sheet.COLUMN_WIDTH / width))
    small = fit.resize(plate, *size)
    marks = [fit.resize_soft(mask, *size) for mask in (matte, affected, suspected)]
    marked = overlay.outlined(small, marks[0], marks[1], marks[2], chromaticities)
    return {"plate": overlay.plain(small, chromaticities), "object and affected": marked}
