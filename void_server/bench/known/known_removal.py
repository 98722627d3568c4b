"""Score ways of removing on shots whose answer is known: `void-server bench removal --shots FOLDER`.

What comes in: a folder of shots, names of methods. What goes out: a row for each shot and method, as maps and as a
table, and, where files are kept, a contact sheet a shot. It scores what others compute: see `removers` and
`region_scores`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from void_server.bench.clips.files import safe_name
from void_server.bench.known import known_shots, perceptual, region_scores, removers
from void_server.bench.known.known_shots import REGIONS, KnownShot
from void_server.image import exr, fit
from void_server.image.frames import sequence
from void_server.image.review import sheet
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report

Row = dict[str, Any]

SHEET_FRAMES = 3


def run(
    folder: Path, wanted: Sequence[str] | None, methods: Sequence[str] | None, report: Report, keep_work: Path | None
) -> tuple[dict[str, Any], str]:
    """(fields for --json, text). `failed` counts rows whose tool failed or broke what it said it kept.

    Raises SettingsError for a folder without shots.
    """
    asked = list(methods or removers.DEFAULT)
    rows: list[Row] = []
    for shot in known_shots.find(folder, wanted):
        with tempfile.TemporaryDirectory(prefix="void-bench-") as passing:
            work = (keep_work or Path(passing)) / safe_name(shot.name)
            for row in _of_shot(shot, asked, work, report):
                rows.append(row)
                report.note(spoken(row))
            if keep_work:
                _sheet(shot, asked, work)
    fields = {"rows": rows, "failed": sum(bool(row["failed"]) for row in rows)}
    if keep_work:
        (keep_work / "scores.json").write_text(json.dumps(fields, indent=1), encoding="utf-8")
    return fields, table(rows)


def _of_shot(shot: KnownShot, asked: Sequence[str], work: Path, report: Report) -> list[Row]:
    figures: dict[str, Row] = {}
    for method in dict.fromkeys((*removers.FREE, *asked)):
        name = _name(method)
        out = work / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        row: Row = {"shot": shot.name, "method": name, "failed": ""}
        try:
            cost = removers.remove(method, shot, out, report)
            row |= region_scores.measure(shot, out)
            row |= {"seconds_per_frame": round(cost.seconds / len(shot.frames), 3), "memory_mb": cost.memory_mb}
        except SettingsError as error:
            if name in removers.FREE or "=" not in method:
                raise
            row["failed"] = error.message
        if row.get("keep_broken"):
            row["failed"] = f"{row['keep_broken']} samples that had to be kept were changed"
        figures[name] = row
    plain, cheap = figures["plate"], [figures[name] for name in removers.FREE[1:]]
    for row in figures.values():
        row["harm_db"] = region_scores.harm(row, plain, cheap) if "regions" in row else None
    return [figures[_name(method)] for method in asked]


def _name(method: str) -> str:
    return method.partition("=")[0]


HEAD = (
    f"{'shot':20s} {'method':14s} {'harm dB':>7s} {'PU21-PSNR: object appearance physics bystander':>46s} "
    f"{'FLIP: obj appear phys':>21s} {'worse%: by  keep':>16s} {'flicker':>12s} {'IoU cells':>9s} {'keep':>9s} "
    f"{'s/frame':>7s} {'MB':>6s}"
)


def spoken(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    start = f"{row['shot']:20s} {row['method']:14s} "
    if "regions" not in row:
        return f"{start}FAILED: {row['failed']}"
    of = row["regions"]
    decibels = " ".join(_number(of[w] and of[w]["pu21_psnr"], n, 1) for w, n in zip(REGIONS, (17, 10, 7, 9)))
    flips = " ".join(_number(of[w] and of[w]["flip"], n, 3) for w, n in zip(REGIONS, (9, 6, 4)))
    worse = " ".join(_number(of[w] and 100 * of[w]["worse"], 7, 2) for w in ("bystander", "keep"))
    overlap = row["overlap"] or {}
    cells = " ".join(_number(overlap.get(w), 4, 2) for w in ("iou", "cell_iou"))
    restless = f"{row['flicker']:.2f} ({row['flicker_of_truth']:.2f})"
    kept = "ok" if not row["keep_broken"] else f"BROKEN {row['keep_broken']}"
    return (
        f"{start}{row['harm_db']:7.1f} {decibels:>46s} {flips:>21s} {worse:>16s} {restless:>12s} {cells:>9s} "
        f"{kept:>9s} {row['seconds_per_frame']:7.2f} {_number(row['memory_mb'], 6, 0)}"
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, the most harmed first; then the mean of each method, and its worst."""
    order = sorted(rows, key=lambda row: -(row["harm_db"] if row["harm_db"] is not None else np.inf))
    lines = [HEAD, *(spoken(row) for row in order), ""]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method and "regions" in row]
        words = []
        for region in REGIONS[:3]:
            values = [row["regions"][region]["pu21_psnr"] for row in mine if row["regions"][region]]
            if values:
                words.append(f"{region} {np.mean(values):.1f} dB")
        harms = [row["harm_db"] for row in mine if row["harm_db"] is not None]
        if harms:
            words.append(f"harm worst {max(harms):.1f} dB, on {sum(h > 0 for h in harms)} of {len(harms)} shots")
        for region, spared in (("bystander", "bystanders"), ("keep", "what was to be kept")):
            shares = [row["regions"][region]["worse"] for row in mine if row["regions"][region]]
            if shares:
                words.append(f"{spared} worse in at most {100 * max(shares):.1f} %")
        failed = sum(bool(row["failed"]) for row in rows if row["method"] == method)
        lines.append(f"{method}: {', '.join(words)}" + (f"; {failed} FAILED" if failed else ""))
    lines += [f"FAILED: {row['shot']}, {row['method']}: {row['failed']}." for row in rows if row["failed"]]
    return "\n".join(lines)


def _sheet(shot: KnownShot, asked: Sequence[str], work: Path) -> None:
    """plate | what has to change | truth | each method, a few frames."""
    pages: dict[str, dict[str, sheet.Bytes]] = {}
    size = fit.scaled_size(shot.height, shot.width, min(1.0, sheet.COLUMN_WIDTH / shot.width))
    for frame in sequence.evenly(shot.frames, SHEET_FRAMES):
        plate = shot.rgb("plate", frame)
        marked = perceptual.shown(plate).astype(np.float32) * 150
        effect = (shot.region("appearance", frame) | shot.region("physics", frame)).astype(np.float32)
        marked = sheet.tinted(sheet.tinted(marked, effect, sheet.AFFECTED_TINT), shot.matte(frame), sheet.OBJECT_TINT)
        row = {
            "plate": _page(plate, size),
            "what has to change": fit.resize(marked, *size).clip(0, 255).astype(np.uint8),
        }
        row["truth"] = _page(shot.rgb("clean", frame), size)
        for name in dict.fromkeys(_name(m) for m in asked if _name(m) != "plate"):
            path = work / name / f"clean.{frame:04d}.exr"
            if path.is_file():
                row[name] = _page(np.asarray(exr.read_rgb(exr.read_plate_header(path))), size)
        pages[f"{shot.name} {frame}"] = row
    sheet.write_pictures(work / "sheet.png", pages)


def _page(light: Any, size: tuple[int, int]) -> sheet.Bytes:
    reduced = fit.resize(np.nan_to_num(light.astype(np.float32)), *size)
    return np.asarray((perceptual.shown(reduced) * 255).round(), np.uint8)


def _number(value: float | None, width: int, places: int) -> str:
    return f"{'-' if value is None else f'{value:.{places}f}':>{width}s}"
