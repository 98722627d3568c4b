"""Close a result: the sheet for people, then the manifest, last of all.

What comes in: a checked shot, its result folder with the frames' notes, warnings, facts about the engine. What goes
out: `sheet.png` and `manifest.json`. It makes no frames and changes none.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import void_server
from void_server.image import exr
from void_server.image.frames import sequence
from void_server.image.frames.sequence import format_frames
from void_server.image.review import sheet
from void_server.parallel import in_order
from void_server.process import threads
from void_server.result.folder import Hashes, ResultFolder
from void_server.shot.check import CheckedShot
from void_server.shot.contract import large
from void_server.shot.mask_check import MOST
from void_server.wire.report import Report, ShotWarning

COVERAGE_WARNING = 0.95
"""A frame whose hole is recovered to less than this from real pixels is named in a warning."""


def close_result(
    checked: CheckedShot,
    result: ResultFolder,
    hashes: Hashes,
    facts: dict[str, Any],
    warnings: list[ShotWarning],
    started: float,
    report: Report,
) -> dict[str, Any]:
    """Write the sheet and, last of all, the manifest, which also holds `facts`; returns it.

    Several processes may finish ranges of one shot in one folder: whoever writes looks again afterwards, so the last
    one to finish leaves a manifest of all frames.
    """
    while True:
        notes = result.all_finished()
        told = list(warnings)
        warn(
            report,
            told,
            *_coverage_warnings(notes, facts["engine"]["name"]),
            *_change_warnings(notes),
            *_confidence_warnings(notes),
        )
        if checked.settings.missing != "skip" or notes:
            _write_sheet(checked, result, sorted(notes), report)
        manifest = {
            "version": void_server.__version__,
            "settings": checked.settings.to_wire(),
            "frames": {str(f): {k: v for k, v in notes[f].items() if k not in ("frame", "fingerprint")} for f in notes},
            "coverage": _shot_coverage(notes),
            "plate_space": dataclasses.asdict(checked.space),
            **facts,
            "inputs": {r: {str(f): {"file": n, "sha256": h} for f, (n, h) in hashes[r].items()} for r in hashes},
            "warnings": [{"code": code, "message": message} for code, message in told],
            "seconds": round(time.monotonic() - started, 3),
        }
        result.close(manifest)
        if result.all_finished().keys() == notes.keys():
            return manifest


def _write_sheet(checked: CheckedShot, result: ResultFolder, frames: list[int], report: Report) -> None:
    """Five frames side by side, for eyes: plate, affected, clean."""

    def row(frame: int) -> sheet.Row:
        plate = checked.plates[frame]
        clean = exr.read_plate_header(result.clean(frame), checked.settings.layer)
        aov = {name: exr.read_matte(exr.read_matte_header(result.aov(frame), name)) for name in sheet.MARKS}
        whole = sheet.Row(f"{frame}", exr.read_rgb(plate), exr.read_rgb(clean), **aov)
        return sheet.reduced(whole)

    rows: list[sheet.Row] = []
    picks = sequence.evenly(frames, 5)
    heavy = large((checked.canvas.height, checked.canvas.width))
    for frame, one in zip(picks, in_order(row, picks, threads(), report.check_cancelled, heavy=heavy)):
        rows.append(one)
        report.progress("sheet", len(rows), len(picks), frame)
    sheet.write(result.sheet, rows, checked.space.chromaticities)


def _shot_coverage(notes: dict[int, dict[str, Any]]) -> float | None:
    """Coverage of the whole shot, every changed pixel counting alike; None where nothing changed."""
    pairs = [(n["coverage"], n["changed"]) for n in notes.values() if n.get("coverage") is not None]
    weight = sum(changed for _, changed in pairs)
    return round(sum(c * w for c, w in pairs) / weight, 4) if weight else None


def _coverage_warnings(notes: dict[int, dict[str, Any]], engine: str) -> list[ShotWarning]:
    """Say which frames were partly invented, and how much of the hole. engine: who did; it is not advised again."""
    low = {
        f: n["coverage"] for f, n in notes.items() if n.get("coverage") is not None and n["coverage"] < COVERAGE_WARNING
    }
    if not low:
        return []
    worst = min(low, key=lambda f: low[f])
    whole = _shot_coverage(notes) or 0.0
    if engine == "void":
        # It takes nothing from other frames, so whether a pixel was visible there is not what its coverage says.
        why, remedy = "drawn by engine void", "a painted --reference frame is taken as it is"
    else:
        why = "never visible in any frame and is invented"
        remedy = "a painted --reference frame, or engine void, can do better"
    message = (
        f"{1 - whole:.0%} of what was filled was {why}: frames {format_frames(low)}, most on {worst} "
        f"({1 - low[worst]:.0%}). See `coverage` in the AOVs; {remedy}."
    )
    return [ShotWarning("invented", message)]


def _change_warnings(notes: dict[int, dict[str, Any]]) -> list[ShotWarning]:
    """Say which frames were replaced nearly whole, whatever marked them."""
    much = {f: n["changed"] for f, n in notes.items() if n.get("changed", 0) > MOST}
    if not much:
        return []
    worst = max(much, key=lambda f: much[f])
    message = (
        f"Most of the picture was replaced on frames {format_frames(much)}, up to {much[worst]:.0%} on {worst}. "
        "See `change` and `affected` in the AOVs."
    )
    return [ShotWarning("mostly-replaced", message)]


def _confidence_warnings(notes: dict[int, dict[str, Any]]) -> list[ShotWarning]:
    """Say on which frames much of the fill is doubtful, and where."""
    low = {f: n for f, n in notes.items() if n.get("doubtful")}
    if not low:
        return []
    worst = min(low, key=lambda f: low[f]["confidence"])
    x0, y0, x1, y1 = low[worst]["doubtful"]
    message = (
        f"Much of the fill is doubtful on frames {format_frames(low)}: what other frames show does not agree, or was "
        f"never seen; most on {worst}, between x {x0} and {x1 - 1}, y {y0} and {y1 - 1}. See `confidence` in the AOVs; "
        "a painted --reference frame there is carried through the shot."
    )
    return [ShotWarning("doubtful", message)]


def warn(report: Report, kept: list[ShotWarning], *warnings: ShotWarning) -> None:
    for warning in warnings:
        kept.append(warning)
        report.warn(*warning)
