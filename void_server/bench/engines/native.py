"""Measure what becomes of a soft fill that is right and of a sharp background that is sometimes wrong, as one table.

What comes in: a folder of test clips, names of cases (see `cases`), faults of the stand-in engine. What goes out: rows
of figures and the table as text. Every picture is made by `pipeline.make_clean_plate`, from EXR files.

For each case: engine `propagate` alone; the stand-in's own fill, enlarged; and what the pipeline makes of both. The
effect region is given, or, for its overlap, left to be found by what the engine changes of a generous request
(`--effects bold`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server import pipeline
from void_server.bench import score
from void_server.bench.clips import files as bench_files
from void_server.bench.clips.cases import Case, chosen, grown, load, shown
from void_server.bench.engines import stand_in
from void_server.image.colour import REC709_LUMINANCE
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CASES = (
    "paste:car-roundabout:goat:24",
    "paste:soapbox:cows:24",
    "paste:car-shadow:camel:24",
    "paste:camel:goat:24",
    "paste:cows:goat:24",
)
WORSE: Mapping[str, Mapping[str, float]] = {
    "typical": {},
    "invents .35": {"invent": 0.35, "noise": 1.0},
    "invents .7": {"invent": 0.7, "noise": 1.0},
}
"""Faults beside the typical ones."""
FINEST = 1.0
"""The finest band is what a Gaussian of so many plate pixels takes away."""
COARSE = 3.0
"""Flicker is looked for in what such a Gaussian leaves of the error."""
SEAM, SEAM_PX = 1.5, 2
"""A seam is what such a Gaussian leaves of the error in a ring of so many pixels."""
BINS = 4
"""Of brightness, each a quarter of the object's pixels."""
BESIDE_PX = 4
"""The matte is replaced with so many pixels around it in any case."""
TOUCHED = 2 / 255
"""A plate that differs from the truth by less shows no effect."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of one result against the truth. dB is None where there is too little of object or effect."""

    object_db: float | None
    effect_db: float | None
    contrast: float
    """Of the finest band under the object, against the truth's."""
    correlation: float
    """Of that band with the truth's."""
    flicker: float
    """Change of the error from frame to frame, in 1/255, after COARSE."""
    seam: float
    """Error just inside the edge of what was changed, in 1/255, after SEAM."""
    grain: tuple[float, float]
    """The finest band's deviation against the truth's, least and most of BINS of the truth's brightness."""
    highlights: float
    """Stops by which the brightest thousandth of what was changed lies above the truth's."""

    def to_wire(self) -> dict[str, Any]:
        rounded: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            many = [round(v, 3) for v in value] if isinstance(value, tuple) else None
            rounded[name] = many or (None if value is None else round(value, 3))
        return rounded


def figures(result: Array, case: Case) -> Figures:
    """result: float32 [T, H, W, 3], scene-linear."""
    assert case.truth is not None
    got, truth = shown(result), shown(case.truth)
    thing, effect = case.matte & case.valid, case.effect & case.valid
    fine, true_fine = (np.stack([p - cv2.GaussianBlur(p, (0, 0), FINEST) for p in x]) for x in (got, truth))
    error = np.stack([cv2.GaussianBlur(g - t, (0, 0), COARSE) for g, t in zip(got, truth)])
    moves = [
        float(np.abs(error[t] - error[t - 1])[where].mean())
        for t in range(1, len(error))
        if (where := (thing | effect)[t] & (thing | effect)[t - 1]).any()
    ]
    return Figures(
        score.psnr(result, case.truth, thing),
        score.psnr(result, case.truth, effect),
        float(fine[thing].std() / max(float(true_fine[thing].std()), 1e-9)),
        float(np.corrcoef(fine[thing].ravel(), true_fine[thing].ravel())[0, 1]),
        float(np.mean(moves) * 255) if moves else 0.0,
        _seam(result, got - truth, case),
        _grain(fine, true_fine, truth, thing),
        _highlights(result, case, thing | effect),
    )


def _seam(result: Array, error: Array, case: Case) -> float:
    """error: of the shown result, [T, H, W, 3]."""
    seen = []
    for t, change in enumerate((result != case.plate.astype(np.float16)).any(-1)):
        inner = cv2.erode(change.astype(np.uint8), np.ones((2 * SEAM_PX + 1,) * 2, np.uint8)) > 0
        ring = change & ~inner & case.valid[t]
        if ring.any():
            seen.append(float(np.abs(cv2.GaussianBlur(error[t], (0, 0), SEAM))[ring].mean()))
    return float(np.mean(seen) * 255) if seen else 0.0


def _grain(fine: Array, true_fine: Array, truth: Array, where: Mask) -> tuple[float, float]:
    light = truth[where].mean(-1)
    edges = np.quantile(light, np.linspace(0, 1, BINS + 1))
    bins = np.clip(np.searchsorted(edges, light, side="right") - 1, 0, BINS - 1)
    got, wanted = fine[where], true_fine[where]
    ratios = [float(got[bins == b].std() / max(float(wanted[bins == b].std()), 1e-9)) for b in np.unique(bins)]
    return min(ratios, default=0.0), max(ratios, default=0.0)


def _highlights(result: Array, case: Case, where: Mask) -> float:
    assert case.truth is not None
    if not where.any():
        return 0.0
    brightest = [float(np.quantile((light[where] @ REC709_LUMINANCE), 0.999)) for light in (result, case.truth)]
    return float(np.log2(max(brightest[0], 1e-6) / max(brightest[1], 1e-6)))


def region_figures(change: Array, case: Case) -> dict[str, float]:
    """How what was replaced beside the matte meets the true effect. change: [T, H, W] in [0, 1]."""
    assert case.truth is not None
    beside = ~np.stack([grown(m, BESIDE_PX) for m in case.matte]) & case.valid
    found, effect = (change > 0.5) & beside, case.effect & beside
    touched = np.abs(shown(case.plate) - shown(case.truth)).max(-1) > TOUCHED
    needless = found & ~np.stack([grown(t, 2) for t in touched])
    return {
        "overlap": float((found & effect).sum() / max(1, (found | effect).sum())),
        "needless": float(needless.sum() / max(1, found.sum())),
    }


def run(
    data: Path, cases: Sequence[str] | None, report: Report, *, keep_work: Path | None = None
) -> tuple[dict[str, Any], str]:
    """(fields for --json, text). Raises SettingsError for a case that can't be built."""
    rows: list[dict[str, Any]] = []
    with stand_in.registered():
        for name in chosen(cases, CASES):
            rows += measure(data, name, report, keep_work)
    return {"rows": rows}, table(rows)


def measure(data: Path, name: str, report: Report, keep_work: Path | None = None) -> list[dict[str, Any]]:
    """One row for `propagate`, and two for each degree of fault: the fill enlarged, and the pipeline's answer."""
    case = load(data, name)
    assert case.truth is not None
    rows: list[dict[str, Any]] = []
    with bench_files.workplace(name, keep_work) as folder:
        files = bench_files.write(case, folder)
        bench_files.write_clean(case.truth, folder / "truth")

        def row(by: str, engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
            clean, seconds = remove(files, ShotSettings(engine=engine, options=options), folder / "out", report)
            return {"case": name, "by": by, "s": seconds, **figures(clean, case).to_wire()}

        rows.append(row("propagate", "propagate", {}))
        for fault, more in WORSE.items():
            options = {"truth": str(folder / "truth"), **stand_in.TYPICAL, **more}
            rows.append(row(f"{fault}, enlarged", stand_in.StandInAlone.name, options))
            rows.append(row(f"{fault}, merged", stand_in.NAME, options))
            settings = ShotSettings(engine=stand_in.NAME, options=options, effects="bold")
            remove(dataclasses.replace(files, affected={}), settings, folder / "out", report)
            change = bench_files.read_aov(folder / "out", len(case.plate), "change")
            rows[-1] |= {k: round(v, 4) for k, v in region_figures(change, case).items()}
    return rows


def remove(files: ShotFiles, settings: ShotSettings, out: Path, report: Report) -> tuple[Array, float]:
    """(float32 [T, H, W, 3], scene-linear, seconds a frame)."""
    started = time.perf_counter()
    pipeline.make_clean_plate(files, settings, out, report)
    count = len(files.plate)
    return bench_files.read_clean(out, count), round((time.perf_counter() - started) / count, 3)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text."""
    head = f"{'case':34s} {'by':24s} {'object / effect dB':>18s} {'contrast':>8s} {'correl.':>7s} {'flicker':>7s}"
    head += f" {'seam':>5s} {'grain':>11s} {'stops':>6s}"
    lines = [f"{head} {'overlap (needless)':>18s} s/frame"]
    for row in rows:
        sure = " / ".join("-" if row[k] is None else f"{row[k]:.1f}" for k in ("object_db", "effect_db"))
        region = f"{row['overlap']:.2f} ({row['needless'] * 100:.1f} %)" if "overlap" in row else "-"
        lines.append(
            f"{row['case']:34s} {row['by']:24s} {sure:>18s} {row['contrast']:8.2f} {row['correlation']:7.3f} "
            f"{row['flicker']:7.2f} {row['seam']:5.2f} {'{:.2f} to {:.2f}'.format(*row['grain']):>12s} "
            f"{row['highlights']:+6.2f} {region:>18s} {row['s']:7.2f}"
        )
    return "\n".join(lines)
