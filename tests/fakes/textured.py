"""A shot with a known answer and texture at every scale, for what is made of a soft fill and a sharp background.

The camera rests; a red ball with soft edges and a shadow crosses a wall that carries grain and one bright lamp.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from tests import tiny_shot
from void_server.bench.clips.files import FIRST
from void_server.wire.shot import ShotFiles

HEIGHT, WIDTH, COUNT = 128, 192, 8
RED = np.array([0.9, 0.05, 0.02], np.float32)
GRAIN = 0.01
LAMP = slice(48, 54), slice(93, 99)


@dataclasses.dataclass(frozen=True)
class Textured:
    files: ShotFiles
    truth_folder: Path
    truth: np.ndarray
    """float32 [T, H, W, 3]: the wall with each frame's own grain."""
    matte: np.ndarray
    effect: np.ndarray
    plate: np.ndarray


def texture(height: int, width: int, seed: int = 5) -> np.ndarray:
    """float32 [h, w, 3]: octaves of noise with amplitudes as photographs have them, between .03 and about 1."""
    rng = np.random.default_rng(seed)
    code = np.full((height, width, 3), 0.45, np.float32)
    for step in (64, 32, 16, 8, 4, 2, 1):
        noise = rng.standard_normal((height // step + 2, width // step + 2, 1)) + 0.3 * rng.standard_normal(
            (height // step + 2, width // step + 2, 3)
        )
        layer = cv2.resize(noise.astype(np.float32), None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        code += 0.012 * step**0.5 * layer[:height, :width]
    return np.clip(code, 0.15, 0.95) ** 2.2


def write(folder: Path, *, shadow: float = 0.5, grain: float = GRAIN) -> Textured:
    """Half float EXR files; `effect` is where the shadow takes more than a few hundredths of the light."""
    rng = np.random.default_rng(1)
    wall = texture(HEIGHT, WIDTH)
    wall[LAMP] = 8.0
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    plates, truths, mattes, effects = [], [], [], []
    for t in range(COUNT):
        truth = np.clip(wall + grain * np.sqrt(wall) * rng.standard_normal(wall.shape), 0, None).astype(np.float32)
        centre = 26 + 20 * t
        matte = np.clip((20 - np.hypot(x - centre, y - 51)) / 3 + 0.5, 0, 1)
        shade = shadow * np.exp(-(((x - centre - 8) / 20) ** 2) - ((y - 75) / 6) ** 2)
        plate = truth * (1 - shade[..., None])
        plates.append(plate * (1 - matte[..., None]) + RED * matte[..., None])
        truths.append(truth)
        mattes.append(matte)
        effects.append((shade > 0.05) & (matte < 0.01))
    roles: dict[str, dict[int, Path]] = {"plate": {}, "matte": {}}
    truth_folder = folder / "truth"
    for t in range(COUNT):
        roles["plate"][FIRST + t] = folder / f"plate/plate.{FIRST + t}.exr"
        roles["matte"][FIRST + t] = folder / f"matte/matte.{FIRST + t}.exr"
        tiny_shot.write_exr(roles["plate"][FIRST + t], tiny_shot.rgb(plates[t].astype(np.float16)))
        tiny_shot.write_exr(roles["matte"][FIRST + t], {"A": mattes[t].astype(np.float16)})
        clean = truth_folder / f"clean.{FIRST + t:04d}.exr"
        tiny_shot.write_exr(clean, tiny_shot.rgb(truths[t].astype(np.float16)))
    return Textured(ShotFiles(**roles), truth_folder, *(np.stack(a) for a in (truths, mattes, effects, plates)))
