"""A shot small enough for every test: 8 frames of 96x64 half float, a square that crosses a textured wall.

The wall stands still and shows everywhere in some frame, so its clean plate is known and recoverable.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import OpenEXR

FIRST, COUNT, WIDTH, HEIGHT = 1001, 8, 96, 64
FRAMES = range(FIRST, FIRST + COUNT)


@dataclasses.dataclass(frozen=True)
class TinyShot:
    folder: Path
    plate: str
    matte: str
    truth: np.ndarray


def wall(seed: int = 3) -> np.ndarray:
    """The clean plate: float16 [H, W, 3], scene-linear, with a highlight of 12 and a few negatives."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.1, 0.6, (HEIGHT // 4, WIDTH // 4, 3)).astype(np.float32)
    light = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    light += rng.normal(0, 0.01, light.shape).astype(np.float32)
    light[6:10, 70:74] = 12.0
    light[50:52, 5:9] = -0.01
    return light.astype(np.float16)


def square(index: int) -> tuple[slice, slice]:
    """Where the object stands in the frame at `index`."""
    return slice(22, 38), slice(4 + 10 * index, 18 + 10 * index)


def write_exr(path: Path, channels: dict[str, np.ndarray], **header: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    base = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    OpenEXR.File(base, {k: np.ascontiguousarray(v) for k, v in channels.items()}).write(str(path))


def window(x0: int, y0: int, x1: int, y1: int) -> tuple[np.ndarray, np.ndarray]:
    """An EXR box from half-open numbers."""
    return np.array([x0, y0], np.int32), np.array([x1 - 1, y1 - 1], np.int32)


def rgb(light: np.ndarray) -> dict[str, np.ndarray]:
    return {name: light[..., i] for i, name in enumerate("RGB")}


def write(folder: Path, count: int = COUNT) -> TinyShot:
    truth = wall()
    for index in range(count):
        plate = truth.copy()
        plate[square(index)] = (0.9, 0.2, 0.1)
        matte = np.zeros((HEIGHT, WIDTH), np.float16)
        matte[square(index)] = 1
        write_exr(folder / f"plate/plate.{FIRST + index}.exr", rgb(plate))
        write_exr(folder / f"matte/matte.{FIRST + index}.exr", {"A": matte})
    return TinyShot(folder, str(folder / "plate/plate.####.exr"), str(folder / "matte/matte.####.exr"), truth)


def read_rgb(path: Path) -> np.ndarray:
    """[H, W, 3] as stored, by way of OpenEXR itself and none of the code under test."""
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return np.stack([np.array(file.channels()[name].pixels) for name in "RGB"], -1)


def read_channel(path: Path, name: str) -> np.ndarray:
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return np.array(file.channels()[name].pixels)
