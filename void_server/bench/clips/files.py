"""Put a test case on disk as the EXR files an artist would have, and read back what the tool wrote.

What comes in: a case, a folder. What goes out: the files of a shot, and arrays of its results. It runs no tool.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import OpenEXR

from void_server.bench.clips.cases import Case, grown
from void_server.image import exr
from void_server.wire.shot import ShotFiles

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FIRST = 1001
WRITTEN = ("plate", "matte", "affected", "truth", "out", "clean_found", "clean_given")


def safe_name(case: str) -> str:
    """A case's name as a folder's.

    >>> safe_name("paste:cows:goat:36:0.45,40,230,-5@late")
    'paste_cows_goat_36_0.45_40_230_-5@late'
    """
    return re.sub(r"[^A-Za-z0-9.@-]+", "_", case)


@contextlib.contextmanager
def workplace(case: str, keep: Path | None) -> Iterator[Path]:
    """A folder for one case: `keep`/NAME, emptied, or one that is gone afterwards."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="void-bench-") as passing:
            yield Path(passing)
        return
    folder = keep / safe_name(case)
    # An older result would be taken up where it stopped, whatever has changed in the code since.
    for old in WRITTEN:
        shutil.rmtree(folder / old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def write(case: Case, folder: Path) -> ShotFiles:
    """`plate`, `matte` (the given one) and `affected` (the true one, grown by 3 pixels) as half float sequences."""
    roles: dict[str, dict[int, Path]] = {"plate": {}, "matte": {}, "affected": {}}
    matte = case.matte if case.given is None else case.given
    for role in roles:
        (folder / role).mkdir()
    for i in range(len(case.plate)):
        pictures = {
            "plate": _rgb(case.plate[i]),
            "matte": {"A": matte[i].astype(np.float16)},
            "affected": {"A": grown(case.effect[i], 3).astype(np.float16)},
        }
        for role, channels in pictures.items():
            roles[role][FIRST + i] = folder / role / f"{role}.{FIRST + i:04d}.exr"
            _write(roles[role][FIRST + i], channels)
    for i, picture in case.painted.items():
        roles.setdefault("reference", {})[FIRST + i] = folder / f"reference.{FIRST + i:04d}.exr"
        _write(roles["reference"][FIRST + i], _rgb(picture))
    return ShotFiles(**roles)


def _rgb(picture: Array) -> dict[str, npt.NDArray[np.float16]]:
    light = picture.astype(np.float16)
    return {name: light[..., channel] for channel, name in enumerate("RGB")}


def _write(path: Path, channels: Mapping[str, npt.NDArray[np.float16]]) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {k: np.ascontiguousarray(v) for k, v in channels.items()}).write(str(path))


def write_rgb(path: Path, light: npt.NDArray[np.floating]) -> None:
    """One picture [H, W, 3], scene-linear, as half float."""
    with np.errstate(over="ignore"):
        _write(path, _rgb(light.astype(np.float32)))


def write_clean(light: Array, folder: Path) -> None:
    """Pictures [T, H, W, 3], scene-linear, as `clean.####.exr`, half float: what `read_clean` reads."""
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(light):
        _write(folder / f"clean.{FIRST + i:04d}.exr", _rgb(picture))


def read_clean(out: Path, count: int) -> Array:
    """float32 [T, H, W, 3], scene-linear."""
    headers = [exr.read_plate_header(out / f"clean.{FIRST + i:04d}.exr") for i in range(count)]
    return np.stack([exr.read_rgb(header).astype(np.float32) for header in headers])


def read_aov(out: Path, count: int, channel: str) -> Array:
    """float32 [T, H, W]: one channel of `aov.####.exr`."""
    paths = [out / f"aov.{FIRST + i:04d}.exr" for i in range(count)]
    return np.stack([exr.read_matte(exr.read_matte_header(path, channel)) for path in paths]).astype(np.float32)


def read_affected(out: Path, count: int) -> Mask:
    """bool [T, H, W]: what was found, as `aov.####.exr` has it in `affected`: what would move differently as well."""

    def of(channel: str) -> Mask:
        paths = [out / f"affected.{FIRST + i:04d}.exr" for i in range(count)]
        return np.stack([exr.read_matte(exr.read_matte_header(path, channel)) > 0.5 for path in paths])

    return of("affected") | of("physics")
