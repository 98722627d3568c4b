"""Measure the affected region that the tool finds by itself, on clips where the true one is known.

What comes in: a folder of test clips, names of cases. What goes out: rows of figures and two tables as text: a row a
case, then mean and worst of each kind. Everything goes through `pipeline.make_clean_plate` on EXR files, so it does not
know how a region is found.

An affected region counts from 0.5 on, where the answer is known and outside the true matte. What lies under a sloppy
matte is removed whatever the tool finds, so for the fall of IoU those pixels, and a thin ring around the true matte,
count neither for the sloppy matte nor for the clean one it is compared with. `fall_all` counts them for both.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server import pipeline
from void_server.bench import score, score_region
from void_server.bench.clips import files as bench_files
from void_server.bench.clips import mattes as bench_mattes
from void_server.bench.clips.cases import Case, chosen, grown, load, parse
from void_server.bench.effects_table import spoken, table
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings

HIGHWAY = (
    *("highway:770:60", "highway:800:60", "highway:640:60"),
    # These hold next to no shadow.
    *("highway:600:60", "highway:500:60", "highway:700:60"),
)
PASTES = (
    "car-roundabout:goat:36",
    "soapbox:cows:36",
    "car-shadow:camel:36",
    "camel:goat:36",
    "cows:goat:36",
    "car-roundabout:cows:36:0.6,-60,190,4",
    "car-roundabout:camel:36:0.3,420,250,-4",
    "car-shadow:goat:36:0.35,250,300,-3",
    "car-shadow:soapbox:36:0.8,20,160,6",
    "soapbox:goat:36:0.5,260,210,-5",
    "soapbox:camel:36:0.4,420,240,-6",
    "camel:cows:36:0.35,420,300,-4",
    "camel:car-shadow:36:0.4,10,300,5",
    "cows:camel:36:0.4,480,230,-4",
    "cows:car-roundabout:36:0.4,-60,300,6",
    "goat:cows:36:0.45,-40,230,3",
    "goat:camel:36",
    "goat:car-shadow:36:0.4,420,280,-5",
)
UNAFFECTED = (
    "car-roundabout:goat:36",
    "car-shadow:camel:36",
    "soapbox:goat:36:0.5,260,210,-5",
    "camel:cows:36:0.35,420,300,-4",
    "cows:goat:36",
    "goat:cows:36:0.45,-40,230,3",
)
RESTS = tuple(
    f"{pair}:36:{depth}:{place}"
    for depth in ("1", "0.3")
    for pair, place in (
        ("cows:goat", "0.4,60,200,6"),
        ("car-shadow:goat", "0.4,60,200,6"),
        ("soapbox:cows", "0.4,20,200,6"),
        ("car-shadow:camel", "0.5,100,100,3"),
    )
)
SPOILED = (
    "highway:770:60",
    "highway:800:60",
    "paste:car-roundabout:goat:36",
    "paste:soapbox:cows:36",
    "paste:cows:goat:36",
)
CASES = (
    *HIGHWAY,
    *(f"paste:{case}" for case in PASTES),
    *(f"rest:{case}" for case in RESTS),
    "quadmask:BigBen",
    "quadmask:moving_ball",
    *(f"noeffect:{case}" for case in UNAFFECTED),
    *(f"{case}@{way}" for case in SPOILED for way in bench_mattes.WAYS),
)

RING_PX = 1
LEAST_LEFT = 0.2
"""Share of the true effect that a sloppy matte must leave in the open, else the fall is one of slivers."""

Row = dict[str, Any]
Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass
class Outcome:
    """A row of the table, what was found (bool [T, H, W]), and the case without its light."""

    row: Row
    found: Mask
    case: Case


def run(
    data: Path, cases: Sequence[str] | None, report: Report, *, removal: bool = False, keep_work: Path | None = None
) -> tuple[dict[str, Any], str]:
    """(fields for --json, text). removal: remove as well, with the region found and the true one; takes long.

    Raises SettingsError for a case that can't be built.
    """
    rows: list[Row] = []
    clean: dict[str, tuple[Row, Mask]] = {}
    for name in chosen(cases, CASES):
        form, _, way = name.partition("@")
        if form not in clean:
            first = measure(data, form, report, removal=removal and not way, keep_work=keep_work)
            clean[form] = (first.row, first.found)
        row, found = clean[form]
        if way:
            spoiled = measure(data, name, report, keep_work=keep_work)
            fall_all = _less(row["iou"], spoiled.row["iou"])
            row = {**spoiled.row, **falls(found, spoiled.found, spoiled.case), "fall_all": fall_all}
        rows.append(row)
        report.note(spoken(row))
    text, summary = table(rows)
    return {"rows": rows, "summary": summary}, text


def measure(data: Path, name: str, report: Report, *, removal: bool = False, keep_work: Path | None = None) -> Outcome:
    """Find the affected region of one case and score it."""
    kind, _, way = parse(name)
    case = load(data, name)
    count = len(case.plate)
    with bench_files.workplace(name, keep_work) as folder:
        files = bench_files.write(case, folder)
        unpainted = ShotFiles(files.plate, files.matte)
        started = time.perf_counter()
        manifest = pipeline.deliver(unpainted, ShotSettings(deliver="affected"), folder / "out", report)
        seconds = (time.perf_counter() - started) / count
        found = bench_files.read_affected(folder / "out", count)
        decibels = _removed(case, files, folder, report) if removal and case.truth is not None else None
    row: Row = {
        "case": name,
        "kind": kind,
        "way": way,
        "frames": count,
        "size": list(case.plate.shape[1:3]),
        **dataclasses.asdict(score_region.overlap(found, case.effect, case.valid & ~case.matte)),
        # The first frame of a quadmask holds no affected region, by VOID's rules.
        "cell_iou": score_region.cell_iou(found[1:], case.effect[1:]) if kind == "quadmask" else None,
        "coverage": manifest.get("coverage"),
        "seconds_per_frame": seconds,
    }
    if decibels is not None:
        row["psnr"] = decibels
    row = {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}
    # The plates have served, and would fill the memory if every case kept its own.
    none = case.plate[:0]
    return Outcome(row, found, dataclasses.replace(case, plate=none, truth=None))


def falls(clean: Mask, spoiled: Mask, case: Case) -> Row:
    """By how much the case's sloppy matte lowers the IoU: {"fall": ...}, None where too little is left to compare."""
    given = case.matte if case.given is None else case.given
    near = np.stack([grown(matte, RING_PX) for matte in case.matte])
    counted = case.valid & ~near & ~given
    left, all_of_it = int((case.effect & counted).sum()), int((case.effect & case.valid).sum())
    if left < LEAST_LEFT * max(1, all_of_it):
        return {"fall": None}
    before, after = (score_region.overlap(found, case.effect, counted).iou for found in (clean, spoiled))
    return {"fall": _less(before, after)}


def _less(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(before - after, 6)


def _removed(case: Case, files: ShotFiles, folder: Path, report: Report) -> dict[str, dict[str, float | None]]:
    """PSNR of the plate itself and of two removals: effect found by the tool, and given as it is."""
    assert case.truth is not None
    results = {"noop": case.plate}
    for which, shot in (("found", ShotFiles(files.plate, files.matte)), ("given", files)):
        out = folder / f"clean_{which}"
        pipeline.make_clean_plate(shot, ShotSettings(engine="propagate"), out, report)
        results[which] = bench_files.read_clean(out, len(case.plate))
    regions = {"effect": case.effect & case.valid, "object+effect": (case.matte | case.effect) & case.valid}
    return {
        which: {key: score.psnr(image, case.truth, where) for key, where in regions.items()}
        for which, image in results.items()
    }
