"""The figures of `bench effects` as text: a row a case, then mean and worst of each kind beside what is asked of it.

What comes in: rows as `bench_effects` makes them. What goes out: text, and the summary as plain maps. It measures
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from void_server.bench.clips.mattes import WAYS

Row = Mapping[str, Any]

NEXT_TO_NONE = 1e-4
"""True share of the frame below which a window holds no shadow to speak of: an IoU of ten pixels says nothing."""

HEAD = (
    f"{'case':48s} {'IoU':>5s} {'prec':>5s} {'rec':>5s} {'cells':>5s} {'true%':>6s} {'found%':>6s} {'false%':>6s} "
    f"{'fall':>5s} {'all':>5s} {'effect dB none/found/given':>26s} {'cover':>5s} s/frame"
)


def table(rows: Sequence[Row]) -> tuple[str, list[dict[str, Any]]]:
    """(text, summary). The summary leaves out kinds of which there is no row."""
    summary = summarise(rows)
    lines = [HEAD, *map(spoken, rows), "", f"{'over all':44s} {'cases':>5s} {'mean':>7s} {'worst':>7s}  asked"]
    lines += [
        f"{line['what']:44s} {line['cases']:5d} {_number(line['mean'], 7, 3)} {_number(line['worst'], 7, 3)}  "
        f"{line['asked']}"
        for line in summary
    ]
    return "\n".join(lines), summary


def spoken(row: Row) -> str:
    """One row of the table."""
    decibels = "-"
    if "psnr" in row:
        decibels = " / ".join(_number(row["psnr"][which]["effect"], 0, 1) for which in ("noop", "found", "given"))
    shares = " ".join(_number(100 * row[key], 6, 2) for key in ("true_share", "found_share", "false_share"))
    ious = " ".join(_number(row[key], 5, 2) for key in ("iou", "precision", "recall", "cell_iou"))
    return (
        f"{row['case']:48s} {ious} {shares} {_number(row.get('fall'), 5, 2)} {_number(row.get('fall_all'), 5, 2)} "
        f"{decibels:>26s} {_number(row['coverage'], 5, 2)} {row['seconds_per_frame']:7.2f}"
    )


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean and worst of each kind, with the figure that is asked of it."""
    whole = [row for row in rows if not row["way"]]
    kinds = {
        kind: [row for row in whole if row["kind"] == kind]
        for kind in ("highway", "paste", "rest", "quadmask", "noeffect")
    }
    shaded = [row for row in kinds["highway"] if row["true_share"] >= NEXT_TO_NONE]
    unshaded = [row for row in kinds["highway"] if row["true_share"] < NEXT_TO_NONE]
    lines = [
        _line("highway, shadows: IoU", shaded, _of("iou"), min, "each >= .88"),
        _line("highway, next to no shadow: false %", unshaded, _false, max, "each <= .3"),
        _line("highway: dB lost, found against given", kinds["highway"], _lost, max, "each <= 2"),
        _line("paste: IoU", kinds["paste"], _of("iou"), min, "mean >= .65, worst >= .35"),
        _line("paste: effect dB above doing nothing", kinds["paste"], _gained, min, "mean >= 6"),
        _line("rest: IoU", kinds["rest"], _of("iou"), min, "-"),
        _line("quadmask: cell IoU", kinds["quadmask"], _of("cell_iou"), min, "mean >= .35"),
        _line("noeffect: false %", kinds["noeffect"], _false, max, "each <= .5"),
    ]
    lines += [
        _line(f"@{way}: fall of IoU", [row for row in rows if row["way"] == way], _of("fall"), max, "each <= .08")
        for way in WAYS
    ]
    lines.append(_line("seconds a frame, files and all", rows, _of("seconds_per_frame"), max, "-"))
    return [line for line in lines if line["cases"]]


def _line(
    what: str,
    rows: Sequence[Row],
    figure: Callable[[Row], float | None],
    worst: Callable[[list[float]], float],
    asked: str,
) -> dict[str, Any]:
    values = [value for value in map(figure, rows) if value is not None]
    mean = round(sum(values) / len(values), 4) if values else None
    return {
        "what": what,
        "cases": len(values),
        "mean": mean,
        "worst": round(worst(values), 4) if values else None,
        "asked": asked,
    }


def _of(key: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(key)


def _false(row: Row) -> float:
    return 100 * float(row["false_share"])


def _lost(row: Row) -> float | None:
    return _difference(row, "given", "found", "object+effect")


def _gained(row: Row) -> float | None:
    return _difference(row, "found", "noop", "effect")


def _difference(row: Row, more: str, less: str, region: str) -> float | None:
    if "psnr" not in row:
        return None
    a, b = row["psnr"][more][region], row["psnr"][less][region]
    return None if a is None or b is None else float(a - b)


def _number(value: float | None, width: int, places: int) -> str:
    """Right-aligned, '-' for none."""
    return f"{'-' if value is None else f'{value:.{places}f}':>{width}s}"
