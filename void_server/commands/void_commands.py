"""The commands that only VOID needs: its weights, and its quadmask written out for inspection.

What comes in: flags, already read. What goes out: an exit status, and text through the console. Registered by `cli`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from void_server.commands import shot_flags
from void_server.commands.terminal.console import Console
from void_server.effects.affected import marked_shot
from void_server.effects.quadmask import AFFECTED, GRID_ROWS, KEEP, OBJECT, OVERLAP, quadmask
from void_server.image import exr, fit
from void_server.result.folder import make_folder
from void_server.shot.check import check_output, check_shot
from void_server.wire.errors import WeightsError
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings

Cancelled = Callable[[], bool]


def weights(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    """`weights fetch` brings VOID's weights into a folder; `weights check` says what is missing there."""
    from void_server.engine.void.model import weights as files

    folder: Path = args.folder or files.default_folder()
    if args.action == "fetch":
        files.fetch(folder, Report(console.on_event, cancelled), refine=args.refine)
    findings = files.check(folder, refine=args.refine)
    if findings:
        raise WeightsError("\n".join(findings), f"Run: void-server weights fetch {folder}")
    console.result({"folder": str(folder), "findings": []}, f"All of VOID's weights are in {folder}.")
    return 0


def write_quadmask(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    """`quadmask` writes what VOID will be told, as EXR to work with and PNG to look at."""
    files, settings = shot_flags.files(args), shot_flags.settings(args)
    report = Report(console.on_event, cancelled)
    counts = quadmask_files(files, settings, args.out, report, grid_rows=GRID_ROWS if args.grid else None)
    text = f"{len(counts)} quadmasks in {args.out} (EXR, channel quadmask; PNG to look at)"
    console.result({"out": str(args.out), "frames": counts}, text)
    return 0


def quadmask_files(
    files: ShotFiles, settings: ShotSettings, out: Path, report: Report, grid_rows: int | None = None
) -> dict[str, dict[str, int]]:
    """Write quadmask.####.exr (float, labels as they are) and quadmask.####.png; returns pixels by label and frame."""
    check_output(out, files)
    make_folder(out)
    checked = check_shot(files, settings)
    counts: dict[str, dict[str, int]] = {}
    with marked_shot(checked, report, physics=True) as (shot, _):
        for frame in checked.wanted:
            labels = quadmask(
                shot.matte(frame)[None],
                shot.affected(frame)[None],
                grid_rows=grid_rows,
                grey_on_first_frame=frame != checked.frames[0],
            )[0]
            header = checked.plates[frame]
            own = fit.place(labels.astype(np.float32), checked.canvas, header.data_window)
            exr.write_aov(out / f"quadmask.{frame:04d}.exr", header, {"quadmask": own})
            (out / f"quadmask.{frame:04d}.png").write_bytes(cv2.imencode(".png", own.astype(np.uint8))[1].tobytes())
            counts[str(frame)] = {
                name: int((labels == label).sum())
                for name, label in (("object", OBJECT), ("overlap", OVERLAP), ("affected", AFFECTED), ("keep", KEEP))
            }
            report.progress("quadmask", len(counts), len(checked.wanted), frame)
    return counts
