"""Ways to remove an object, by name: our engines, what costs nothing, one that knows the answer, and any command.

What comes in: a known shot, an empty folder. What goes out: `clean.####.exr` there, and what it took. It scores none.

    plate, telea, median, masked-median     the plate itself; OpenCV's Telea fill; the median over time under the matte,
                                            over all frames or over those in which no matte lies there
    propagate, void, auto                   `void-server run` with this engine: it finds the effects
    bold, matte-only                        propagate, which applies what it only suspects; and told to look for nothing
    stand-in                                the truth, spoiled as generative models spoil it, through our merge
    NAME=COMMAND                            any program: {plate} {matte} {out} {frames} stand for the patterns of both
                                            sequences, the folder to write to, and FIRST-LAST
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.voting import masked_median
from void_server.bench.clips.cases import grown, linear, shown
from void_server.bench.clips.files import write_rgb
from void_server.bench.known.known_shots import KnownShot
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report

Array = npt.NDArray[np.float32]

HOLE_PX = 3
"""Free fills reach so far beyond the matte."""
FREE = ("plate", "telea", "masked-median")
"""What every result is compared with."""
FLAGS: dict[str, tuple[str, ...]] = {
    "propagate": ("--engine", "propagate"),
    "bold": ("--engine", "propagate", "--effects", "bold"),
    "matte-only": ("--engine", "propagate", "--no-physics-prior"),
    "void": ("--engine", "void"),
    "auto": ("--engine", "auto"),
}
DEFAULT = ("plate", "telea", "median", "masked-median", "propagate")


@dataclasses.dataclass(frozen=True)
class Cost:
    """seconds of wall clock for the shot; memory_mb: peak of the tool's process, None where it has none of its own."""

    seconds: float
    memory_mb: float | None


def remove(method: str, shot: KnownShot, out: Path, report: Report) -> Cost:
    """Raises SettingsError for an unknown method or a program that fails."""
    started = time.perf_counter()
    name, _, command = method.partition("=")
    memory = None
    if command:
        memory = _run(_words(command, shot, out), out)
    elif name in FLAGS:
        words = [sys.executable, "-m", "void_server.cli", "run", "{plate}", "--matte", "{matte}", "--out", "{out}"]
        memory = _run(_words(shlex.join([*words, *FLAGS[name]]), shot, out), out)
    elif name == "stand-in":
        _stand_in(shot, out, report)
    elif name in SIMPLE:
        SIMPLE[name](shot, out)
    else:
        raise SettingsError(
            f"No method is '{name}'.",
            f"There are {', '.join((*SIMPLE, *FLAGS, 'stand-in'))}, and NAME=COMMAND.",
        )
    return Cost(round(time.perf_counter() - started, 3), memory)


def _words(command: str, shot: KnownShot, out: Path) -> list[str]:
    given = {
        "{plate}": shot.pattern("plate"), "{matte}": shot.pattern("matte"), "{out}": str(out),
        "{frames}": f"{shot.frames[0]}-{shot.frames[-1]}",
    }  # fmt: skip
    words = shlex.split(command)
    for place, value in given.items():
        words = [word.replace(place, value) for word in words]
    return words


def _run(words: list[str], out: Path) -> float:
    """Peak memory in MB. What the program says is kept in `log.txt`."""
    with (out / "log.txt").open("w", encoding="utf-8") as log:
        try:
            process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise SettingsError(
                f"'{words[0]}' can't be started: {error.strerror}.", "Name a program that is there."
            ) from error
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = (out / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise SettingsError(
            f"'{words[0]}' ended with status {process.returncode}: {' '.join(said[-2:])[-300:]}",
            "Its words are in log.txt.",
        )
    return round(used.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2), 1)


def _hole(shot: KnownShot, frame: int) -> npt.NDArray[np.bool_]:
    return grown(shot.matte(frame) > 0, HOLE_PX)


def _plate(shot: KnownShot, out: Path) -> None:
    for frame in shot.frames:
        write_rgb(out / f"clean.{frame:04d}.exr", shot.rgb("plate", frame))


def _telea(shot: KnownShot, out: Path) -> None:
    for frame in shot.frames:
        plate, hole = shot.rgb("plate", frame).astype(np.float32), _hole(shot, frame)
        codes = (shown(plate) * 255).astype(np.uint8)
        filled = cv2.inpaint(codes, hole.astype(np.uint8) * 255, 4, cv2.INPAINT_TELEA).astype(np.float32) / np.float32(
            255
        )
        write_rgb(out / f"clean.{frame:04d}.exr", np.where(hole[..., None], linear(filled), plate))


def _median(shot: KnownShot, out: Path) -> None:
    _fill_in_strips(shot, out, masked=False)


def _masked_median(shot: KnownShot, out: Path) -> None:
    _fill_in_strips(shot, out, masked=True)


def _fill_in_strips(shot: KnownShot, out: Path, *, masked: bool) -> None:
    holes = np.stack([_hole(shot, frame) for frame in shot.frames])
    plates = np.stack([shot.rgb("plate", frame) for frame in shot.frames])
    middle = np.empty(plates.shape[1:], np.float32)
    for row in range(0, shot.height, 64):
        strip = plates[:, row : row + 64].astype(np.float32)
        everywhere = np.median(strip, axis=0)
        if masked:
            values, seen = masked_median(list(strip), list(~holes[:, row : row + 64]))
            everywhere = np.where(seen[..., None] > 0, values, everywhere)
        middle[row : row + 64] = everywhere
    for index, frame in enumerate(shot.frames):
        write_rgb(out / f"clean.{frame:04d}.exr", np.where(holes[index][..., None], middle, plates[index]))


def _stand_in(shot: KnownShot, out: Path, report: Report) -> None:
    from void_server import pipeline
    from void_server.bench.engines import stand_in
    from void_server.shot import check
    from void_server.wire.shot import ShotSettings

    options = {"truth": str(shot.folder / "clean"), **stand_in.TYPICAL}
    with stand_in.registered():
        files = check.find_files(shot.pattern("plate"), shot.pattern("matte"))
        pipeline.make_clean_plate(files, ShotSettings(engine=stand_in.NAME, options=options), out, report)


SIMPLE: dict[str, Callable[[KnownShot, Path], None]] = {
    "plate": _plate,
    "telea": _telea,
    "median": _median,
    "masked-median": _masked_median,
}
