"""Measure engine propagate, effect region given, on clips whose answer is known, and print one table.

What comes in: a folder of test clips, names of cases. What goes out: rows of figures and the table as text. Every case
runs through `pipeline.make_clean_plate` on EXR files; how cases are built and written, others know.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server import pipeline
from void_server.background.registration.voting import masked_median
from void_server.bench import score
from void_server.bench.clips import files as bench_files
from void_server.bench.clips.cases import chosen, grown, linear, load, shown
from void_server.bench.clips.ground import camera_of
from void_server.wire.report import Report
from void_server.wire.shot import ShotSettings

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CASES = (
    "paste:car-roundabout:goat:36",
    "paste:soapbox:cows:36",
    "paste:car-shadow:camel:36",
    "paste:camel:goat:36",
    "paste:cows:goat:36",
    "highway:770:60",
    "highway:600:60",
    "highway:500:60",
    "own:cows:36",
    "own:camel:36",
    *(f"{kind}:{clip}:36" for clip in ("cows", "camel") for kind in ("hidden", "painted", "shown")),
)
RING_PX = 16


def run(
    data: Path, cases: Sequence[str] | None, report: Report, *, keep_work: Path | None = None
) -> tuple[dict[str, Any], str]:
    """(fields for --json, text). Raises SettingsError for a case that can't be built."""
    rows = [measure(data, case, report, keep_work) for case in chosen(cases, CASES)]
    return {"rows": rows}, table(rows)


def measure(data: Path, name: str, report: Report, keep_work: Path | None = None) -> dict[str, Any]:
    """Run one case and its baselines; one row."""
    case = load(data, name)
    with bench_files.workplace(name, keep_work) as folder:
        files = bench_files.write(case, folder)
        started = time.perf_counter()
        manifest = pipeline.make_clean_plate(files, ShotSettings(engine="propagate"), folder / "out", report)
        seconds = (time.perf_counter() - started) / len(case.plate)
        clean = bench_files.read_clean(folder / "out", len(case.plate))
    region = case.matte | case.effect
    row: dict[str, Any] = {
        "case": name,
        "flicker": flicker(clean, region),
        "coverage": round(_coverage(manifest["frames"]), 3),
        "seconds_per_frame": round(seconds, 3),
    }
    if case.truth is not None:
        row["flicker_of_truth"] = flicker(case.truth, region)
        results = {"result": clean, **baselines(case.plate, case.matte)}
        row["psnr"] = {
            key: {
                "object": score.psnr(image, case.truth, case.matte & case.valid),
                "effect": score.psnr(image, case.truth, case.effect & case.valid),
                "object+effect": score.psnr(image, case.truth, region & case.valid),
            }
            for key, image in results.items()
        }
    return row


def _coverage(frames: Mapping[str, Mapping[str, Any]]) -> float:
    """Share of all changed pixels of the shot that were recovered from real ones."""
    changed = [(f["changed"], f["coverage"]) for f in frames.values() if f["coverage"] is not None]
    return float(sum(a * c for a, c in changed) / max(1e-9, sum(a for a, _ in changed)))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text: dB on object / effect / both for the result and the three baselines beside it."""
    beside = " ".join(f"{name:>13s}" for name in ("telea", "median", "noop"))
    lines = [f"{'case':32s} {'result dB':>20s} {beside} {'flicker (truth)':>15s} {'cover':>6s} s/frame"]
    for row in rows:
        shown = ["-", "-", "-", "-"]
        if "psnr" in row:
            result = row["psnr"]["result"]
            shown = [" / ".join(_db(result[k]) for k in ("object", "effect", "object+effect"))]
            shown += [
                " / ".join(_db(row["psnr"][b][k]) for k in ("object", "effect")) for b in ("telea", "median", "noop")
            ]
        restless = f"{row['flicker']:.2f} ({row.get('flicker_of_truth', float('nan')):.2f})".replace("nan", "-")
        lines.append(
            f"{row['case']:32s} {shown[0]:>20s} {shown[1]:>13s} {shown[2]:>13s} {shown[3]:>13s} "
            f"{restless:>15s} {row['coverage']:6.2f} {row['seconds_per_frame']:7.2f}"
        )
    return "\n".join(lines)


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def baselines(plate: Array, matte: Mask) -> dict[str, Array]:
    """Telea's fill frame by frame, the median over time where no matte lies, and the plate itself."""
    holes = np.stack([grown(m, 3) for m in matte])
    filled = np.stack(
        [
            cv2.inpaint((shown(p) * 255).astype(np.uint8), h.astype(np.uint8) * 255, 4, cv2.INPAINT_TELEA)
            for p, h in zip(plate, holes)
        ]
    ).astype(np.float32) / np.float32(255)
    values, seen = masked_median(list(plate), list(~holes))
    middle = np.where(seen[..., None] > 0, values, np.median(plate, axis=0))
    return {
        "telea": linear(filled),
        "median": np.where(matte[..., None], middle[None], plate).astype(np.float32),
        "noop": plate,
    }


def flicker(clean: Array, region: Mask) -> float:
    """Energy of the second difference in time, after the camera is taken out, in the region over a ring around it.

    1 is a fill as restless as the plate beside it. Parallax and the clip's own movers are restless in the truth as
    well: the table gives its figure beside the result's.
    """
    camera = camera_of(clean, np.zeros(clean.shape[:3], bool))
    size = (clean.shape[2], clean.shape[1])
    inside, outside = [], []
    for t in range(1, len(clean) - 1):
        sides = [
            cv2.warpPerspective(
                shown(clean[other]),
                camera.between(t, other),
                size,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for other in (t - 1, t + 1)
        ]
        second = ((shown(clean[t]) - (sides[0] + sides[1]) / 2) ** 2).mean(2)
        inside.append(second[region[t]])
        outside.append(second[grown(region[t], RING_PX) & ~grown(region[t], 3)])
    energy = [float(np.concatenate(e).mean()) if sum(map(len, e)) else 0.0 for e in (inside, outside)]
    return round(energy[0] / max(energy[1], 1e-12), 3)
