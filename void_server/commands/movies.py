"""The flags and answers of `void-server convert`, and of `run --preview`.

What comes in: flags. What goes out: what `convert` made, in fields and words. It loads nothing until it works.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from void_server.wire.errors import SettingsError
from void_server.wire.report import Report


def add_to(parser: argparse.ArgumentParser) -> None:
    """The flags of `convert`."""
    parser.add_argument("source", metavar="MOVIE", help="a movie, or a sequence of PNG, JPEG, TIFF, DPX, ... or EXR")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="where EXR frames go")
    parser.add_argument("--preview", type=Path, default=None, metavar="FILE", help="a movie of EXR frames: look.mp4")
    parser.add_argument(
        "--input-space", default=None, metavar="NAME",
        help="what the numbers are: srgb (default), bt1886, linear, raw for masks, or a name of an OpenColorIO config",
    )  # fmt: skip
    parser.add_argument("--first", type=int, default=1001, metavar="N", help="number of a movie's first frame")


def add_preview(parser: argparse.ArgumentParser) -> None:
    """The flag of `run` that makes a movie of the result."""
    parser.add_argument("--preview", action="store_true", help="clean.mp4 too, to look at, where ffmpeg is installed")


def run(args: argparse.Namespace, report: Report) -> tuple[dict[str, Any], str]:
    """Do what the flags say. Returns (fields, text) for the console; raises like `convert`."""
    from void_server.commands import convert

    if (args.out is None) == (args.preview is None):
        raise SettingsError("Say what to make.", "--out DIR for EXR frames, or --preview look.mp4 for a movie of them.")
    if args.preview is not None:
        return convert.to_movie(args.source, args.preview, report)
    return convert.to_exr(args.source, args.out, args.input_space, args.first, report)


def preview(out: Path, manifest: dict[str, Any], report: Report) -> None:
    """A movie of a result's clean frames, beside them; a note where none could be made."""
    from void_server.commands import convert

    frames = sorted(int(frame) for frame in manifest["frames"])
    files = [out / f"clean.{frame:04d}.exr" for frame in frames]
    if trouble := convert.write_movie(files, out / "clean.mp4", report):
        report.note(trouble)
