"""Look at what the object did to the scene before spending an engine's time on it.

What comes in: a shot. What goes out: `affected.####.exr` on the plate's windows, fit for `--affected` after painting on
it, and `sheet.png`. It removes nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from void_server.check import check_shot
from void_server.image import exr, fit, sequence, sheet
from void_server.pipeline import preview_affected
from void_server.wire.errors import OutputError
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings


def write_affected(files: ShotFiles, settings: ShotSettings, out: Path, report: Report) -> int:
    """Write one affected matte a frame and a sheet; returns how many frames. Raises like `make_clean_plate`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Output folder {out} can't be made: {error.strerror}.", "Choose another --out.") from error
    checked = check_shot(files, settings)
    shown = set(sheet.evenly(checked.wanted, 5))
    rows: list[sheet.Row] = []
    written = 0
    for frame, affected in preview_affected(files, settings, report):
        header = checked.plates[frame]
        own = fit.place(affected, checked.canvas, header.data_window)
        exr.write_aov(out / f"affected.{frame:04d}.exr", header, {"affected": own})
        written += 1
        report.progress("affected", written, len(checked.wanted), frame)
        if frame in shown:
            plate = exr.read_rgb(header)
            rows.append(sheet.reduced(sheet.Row(str(frame), plate, np.zeros_like(own), own, plate)))
    sheet.write(out / "sheet.png", rows, checked.space.chromaticities)
    report.note(f"Paint on it where needed, then run with --affected {out / 'affected.####.exr'}.")
    report.note(f"Frames {sequence.spoken(checked.wanted)}.")
    return written
