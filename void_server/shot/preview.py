"""Look at what the object did to the scene before spending an engine's time on it.

What comes in: a shot. What goes out: `affected.####.exr` on the plate's windows, fit for `--affected` after painting on
it, `sheet.png` and, last, `manifest.json`. It removes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import void_server
from void_server.image import exr, fit, sequence, sheet
from void_server.shot.affected import marked_shot
from void_server.shot.check import check_output, check_shot
from void_server.shot.result import make_folder, write_text
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings


def write_affected(files: ShotFiles, settings: ShotSettings, out: Path, report: Report) -> dict[str, Any]:
    """Write one affected matte a frame, a sheet and a manifest, which it returns. Raises like `make_clean_plate`."""
    make_folder(out)
    checked = check_shot(files, settings)
    check_output(out, files)
    shown = set(sheet.evenly(checked.wanted, 5))
    rows: list[sheet.Row] = []
    frames: dict[str, Any] = {}
    with marked_shot(checked, report) as shot:
        for frame in checked.wanted:
            header = checked.plates[frame]
            own = fit.place(shot.affected(frame), checked.canvas, header.data_window)
            exr.write_aov(out / f"affected.{frame:04d}.exr", header, {"affected": own})
            frames[str(frame)] = {"affected": round(float((own > 0).mean()), 6)}
            report.frame_done(frame)
            report.progress("affected", len(frames), len(checked.wanted), frame)
            if frame in shown:
                plate = exr.read_rgb(header)
                rows.append(sheet.reduced(sheet.Row(str(frame), plate, np.zeros_like(own), own, plate)))
    sheet.write(out / "sheet.png", rows, checked.space.chromaticities)
    report.note(f"Paint on it where needed, then run with --affected {out / 'affected.####.exr'}.")
    report.note(f"Frames {sequence.spoken(checked.wanted)}.")
    manifest = {"version": void_server.__version__, "settings": settings.to_wire(), "frames": frames}
    write_text(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return manifest
