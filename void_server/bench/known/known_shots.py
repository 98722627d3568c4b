"""Shots on disk whose clean plate, layers and regions are known.

What comes in: a folder of them. What goes out: their files, and one frame at a time of any of them. It scores nothing.

A shot is a folder with `shot.json` (name, why, first, frames, size) and sequences that are numbered alike:

    plate/plate.####.exr, clean/clean.####.exr      RGB, scene-linear
    matte/matte.####.exr                            A: coverage of what is to be removed
    regions/regions.####.exr                        object, appearance, physics, bystander, keep: 1 or 0
    layers/layers.####.exr                          object, appearance, physics: light on top of the clean; optional
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server.image import exr
from void_server.wire.errors import SettingsError

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SHIPPED = Path(__file__).with_name("shipped")
"""One small shot that comes along: nothing has to be rendered for a first look. `tests/shots/ship.py` made it."""

REGIONS = ("object", "appearance", "physics", "bystander", "keep")


@dataclasses.dataclass(frozen=True)
class KnownShot:
    """One shot; `frames` are absolute numbers."""

    folder: Path
    name: str
    why: str
    frames: tuple[int, ...]
    height: int
    width: int

    def pattern(self, role: str) -> str:
        return str(self.folder / role / f"{role}.####.exr")

    def path(self, role: str, frame: int) -> Path:
        return self.folder / role / f"{role}.{frame:04d}.exr"

    def rgb(self, role: str, frame: int) -> npt.NDArray[np.float16]:
        """float16 [H, W, 3], scene-linear, as stored."""
        return np.asarray(exr.read_rgb(exr.read_plate_header(self.path(role, frame))))

    def matte(self, frame: int) -> Array:
        """float32 [H, W]."""
        return channel(self.path("matte", frame), "A")

    def region(self, word: str, frame: int) -> Mask:
        """bool [H, W]: one of `REGIONS`."""
        return channel(self.path("regions", frame), word) > 0.5


def channel(path: Path, name: str) -> Array:
    """float32 [H, W]: one channel of a file."""
    return exr.read_matte(exr.read_matte_header(path, name)).astype(np.float32)


def find(folder: Path, wanted: Sequence[str] | None) -> list[KnownShot]:
    """All shots in `folder`, or those whose names begin with a word of `wanted`, by name.

    Raises SettingsError where there is none, or a shot is not whole.
    """
    files = sorted(folder.glob("*/shot.json")) if folder.is_dir() else []
    if not files:
        raise SettingsError(f"There is no shot in {folder}.", "Render some: python -m tests.shots.make --out FOLDER.")
    shots = [_read(path) for path in files]
    for word in wanted or ():
        if not any(shot.name.startswith(word) for shot in shots):
            raise SettingsError(f"No shot in {folder} is '{word}'.", f"There are {', '.join(s.name for s in shots)}.")
    return [shot for shot in shots if wanted is None or any(shot.name.startswith(word) for word in wanted)]


def _read(path: Path) -> KnownShot:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        width, height = (int(side) for side in facts["size"])
        frames = tuple(range(int(facts["first"]), int(facts["first"]) + int(facts["frames"])))
        shot = KnownShot(path.parent, str(facts["name"]), str(facts["why"]), frames, height, width)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise SettingsError(f"{path} does not describe a shot: {error!r}.", "Render the shot again.") from error
    for role in ("plate", "matte", "clean", "regions"):
        for frame in shot.frames:
            if not shot.path(role, frame).is_file():
                raise SettingsError(f"{shot.path(role, frame)} is missing.", "Render the shot again.")
    return shot
