"""Measure what an artist gets who paints nothing: is any clip worse than it was, is anybody else touched, is confidence
true?

What comes in: a folder of test clips, names of cases. What goes out: rows of figures, worst case first, as text and
maps. Every case runs through `pipeline.make_clean_plate` on EXR files; with a folder to keep them in, each leaves its
contact sheet there.

Clips are split in two, backgrounds and cut-outs both: constants are chosen on the one half, figures are reported on the
other. A real clip is in one half with all its frames, but for the highway, whose windows are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server import pipeline
from void_server.bench import score, score_region
from void_server.bench.clips import files as bench_files
from void_server.bench.clips.cases import Case, chosen, grown, load, shown
from void_server.bench.engines.propagate import baselines
from void_server.image import exr
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Row = dict[str, Any]

TUNING = (
    "paste:breakdance:goat:24",
    "paste:scooter-black:camel:24",
    "paste:car-roundabout:goat:24",
    "paste:soapbox:cows:24",
    "paste:camel:goat:24",
    "paste:cows:goat:24",
    "paste:car-shadow:camel:24",
    "paste:goat:camel:24",
    "noeffect:soapbox:goat:24:0.5,260,210,-5",
    "highway:770:30",
    "highway:800:30",
    "still:sbi_HallAndMonitor:20:60",
    "still:sbi_HighwayI:325:60",
)
REPORTING = (
    "paste:kite-surf:horsejump-high:24",
    "paste:horsejump-high:drift-straight:24:0.35,40,230,5",
    "paste:drift-straight:kite-surf:24",
    "noeffect:horsejump-high:kite-surf:24",
    "highway:640:30",
    "highway:560:30",
    "still:sbi_Candela:0:60",
    "still:sbi_IBMtest2:28:60",
    "still:cdnet_fall_half:1460:60",
)
HALVES = {"tuning": TUNING, "reporting": REPORTING}

RIGHT, WRONG = 0.1, 0.12
"""sRGB code: a pixel within the one is right; one left alone that is off by the other is seen at once."""
SURE = 0.8
NEAR_PX, EDGE_PX = 15, 6
"""What was left lies this near; somebody else begins this far from what is to go."""


def run(
    data: Path, cases: Sequence[str] | None, report: Report, *, half: str | None = None, keep_work: Path | None = None
) -> tuple[dict[str, Any], str]:
    """(fields for --json, text). half: of `HALVES`; both without. Raises SettingsError for a case that can't be
    built."""
    offered = HALVES[half] if half else (*TUNING, *REPORTING)
    rows = []
    for name in chosen(cases, offered):
        rows.append(measure(data, name, report, keep_work))
        report.note(spoken(rows[-1]))
    return {"rows": rows}, table(rows)


def measure(data: Path, name: str, report: Report, keep_work: Path | None = None) -> Row:
    """Remove what one case's matte marks, nothing else painted; one row."""
    case = load(data, name)
    if case.truth is None:
        raise ValueError(f"the truth of {name} is not known")
    with bench_files.workplace(name, keep_work) as folder:
        files = bench_files.write(case, folder)
        started = time.perf_counter()
        settings = ShotSettings(engine="propagate")
        manifest = pipeline.make_clean_plate(ShotFiles(files.plate, files.matte), settings, folder / "out", report)
        seconds = (time.perf_counter() - started) / len(case.plate)
        clean = bench_files.read_clean(folder / "out", len(case.plate))
        aovs = {k: _aov(folder / "out", len(case.plate), k) for k in ("change", "affected", "suspected", "confidence")}
    return {
        "case": name,
        "half": next((half for half, cases in HALVES.items() if name in cases), "neither"),
        **figures(case, clean, aovs),
        "warnings": [warning["code"] for warning in manifest["warnings"]],
        "seconds_per_frame": round(seconds, 3),
    }


def figures(case: Case, clean: Array, aovs: Mapping[str, Array]) -> Row:
    """All figures of one result. clean: float32 [T, H, W, 3], scene-linear; aovs: float32 [T, H, W] by channel."""
    assert case.truth is not None
    region, valid = case.matte | case.effect, case.valid
    off = np.abs(shown(clean) - shown(case.truth)).max(-1)
    changed, found = aovs["change"] > 0, aovs["affected"] > 0.5
    sure = changed & (aovs["confidence"] > SURE) & valid
    near = np.stack([grown(r, NEAR_PX) for r in region]) & valid
    results = {"result": clean, **baselines(case.plate, case.matte)}
    psnr = {
        which: {
            key: score.psnr(image, case.truth, where & valid)
            for key, where in (("object", case.matte), ("effect", case.effect))
        }
        for which, image in results.items()
    }
    overlap = score_region.overlap(found, case.effect, valid & ~case.matte)
    others = None
    if case.others is not None:
        others = case.others & ~np.stack([grown(r, EDGE_PX) for r in region])
    return {
        "psnr": psnr,
        "harm": harm(psnr),
        "iou": overlap.iou,
        "false_share": overlap.false_share,
        "suspected_share": float((aovs["suspected"] > 0.5).mean()),
        "sure_share": float(sure.sum() / max(1, (changed & valid).sum())),
        "sure_right": float((off[sure] < RIGHT).mean()) if sure.any() else None,
        "bystander": float(changed[others].mean()) if others is not None and others.any() else None,
        "leftover": float((near & ~changed & (off > WRONG)).sum() / max(1, near.sum())),
    }


def harm(psnr: Mapping[str, Mapping[str, float | None]]) -> float:
    """Decibels by which the worse of both regions is worse than what costs nothing: the effect than the plate, the
    object than Telea's fill and the median over time. Below 0 nothing is."""
    losses = []
    for key, without in (("effect", ("noop",)), ("object", ("telea", "median"))):
        result = psnr["result"][key]
        rivals = [v for v in (psnr[name][key] for name in without) if v is not None]
        if result is not None and rivals:
            losses.append(max(rivals) - result)
    return round(max(losses), 3) if losses else 0.0


def _aov(out: Path, count: int, channel: str) -> Array:
    paths = [out / f"aov.{bench_files.FIRST + i:04d}.exr" for i in range(count)]
    return np.stack([exr.read_matte(exr.read_matte_header(path, channel)).astype(np.float32) for path in paths])


HEAD = (
    f"{'case':50s} {'half':>9s} {'harm':>6s} {'object: telea median result':>27s} {'effect: noop result':>19s} "
    f"{'IoU':>5s} {'false%':>6s} {'other%':>6s} {'left':>6s} {'sure%':>5s} {'right%':>6s} s/frame"
)


def spoken(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    psnr = row["psnr"]
    objects = " ".join(_number(psnr[name]["object"], 6, 1) for name in ("telea", "median", "result"))
    effects = " ".join(_number(psnr[name]["effect"], 6, 1) for name in ("noop", "result"))
    shares = " ".join(
        _number(None if row[key] is None else 100 * row[key], width, places)
        for key, width, places in (("false_share", 6, 2), ("bystander", 6, 2))
    )
    sure = " ".join(
        _number(None if row[key] is None else 100 * row[key], width, 0)
        for key, width in (("sure_share", 5), ("sure_right", 6))
    )
    return (
        f"{row['case']:50s} {row['half']:>9s} {row['harm']:6.1f} {objects:>27s} {effects:>19s} "
        f"{_number(row['iou'], 5, 2)} {shares} {_number(row['leftover'], 6, 4)} {sure} {row['seconds_per_frame']:7.2f}"
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, the most harmed first; then mean and worst of each half."""
    lines = [HEAD, *(spoken(row) for row in sorted(rows, key=lambda row: -row["harm"])), ""]
    for half in dict.fromkeys(row["half"] for row in rows):
        of_half = [row for row in rows if row["half"] == half]
        lines.append(f"{half}, {len(of_half)} cases: mean (worst)")
        for what, key, worst in (
            ("harm, dB (asked: each at most .3 for the effect, 0 for the object)", "harm", max),
            ("IoU (asked: mean .65, worst .35)", "iou", min),
            ("somebody else changed (each at most .01)", "bystander", max),
            ("left over (each at most .003)", "leftover", max),
            ("right where confidence is above .8 (each at least .95)", "sure_right", min),
        ):
            values = [float(row[key]) for row in of_half if row[key] is not None]
            if values:
                lines.append(f"  {what}: {np.mean(values):.3f} ({worst(values):.3f})")
    return "\n".join(lines)


def _number(value: float | None, width: int, places: int) -> str:
    return f"{'-' if value is None else f'{value:.{places}f}':>{width}s}"
