"""What a lens and a sensor add to a rendered picture: haze, distortion, fall-off, drifting exposure, grain.

What comes in: light as rendered, depth, a description. What goes out: light as a plate has it. The same is laid on
every state of a frame, so that what didn't differ before doesn't differ afterwards. It knows no Blender.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import cv2
import numpy as np

from tests.shots.description import Description


@dataclasses.dataclass(frozen=True)
class Photography:
    """haze: per metre, and its colour; distortion: k1 of the radius over half the diagonal; vignette: share lost in the
    corners; exposure: stops by which it drifts over the shot; grain: deviation at light 1, in light."""

    haze: float
    haze_lin: tuple[float, float, float]
    distortion: float
    vignette: float
    exposure: float
    gain: float
    grain: float
    seed: int


def of(d: Description, optics: Mapping[str, float]) -> Photography:
    rng = d.random("photography")
    chosen = {
        "haze": 0.0, "distortion": rng.uniform(-0.035, 0.02), "vignette": rng.uniform(0.03, 0.2),
        "exposure": rng.choice((0.0, rng.uniform(-0.12, 0.12))), "gain": 1.0, "grain": rng.uniform(0.006, 0.012),
    }  # fmt: skip
    chosen |= {name: value for name, value in optics.items() if name in chosen}
    tint = rng.uniform(0.5, 0.75)
    return Photography(haze_lin=(tint * 0.92, tint * 0.97, tint), seed=rng.randrange(1 << 31), **chosen)


def through_haze(light: np.ndarray, mist: np.ndarray, depth_m: float, p: Photography) -> np.ndarray:
    """light: float32 [H, W, 3]; mist: [H, W] in [0, 1] of `depth_m`. Koschmieder's law."""
    if not p.haze:
        return light
    seen = np.exp(-p.haze * depth_m * mist)[..., None]
    return (light * seen + np.asarray(p.haze_lin, np.float32) * (1 - seen)).astype(np.float32)


def through_lens(picture: np.ndarray, p: Photography) -> np.ndarray:
    """Bent, and held so that no edge of the rendering shows. [H, W] or [H, W, C], linear in what it is given."""
    height, width = picture.shape[:2]
    half = math.hypot(width, height) / 2
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x - (width - 1) / 2) / half, (y - (height - 1) / 2) / half
    r2 = x * x + y * y
    worst = max(1.0, 1 + p.distortion)
    bend = (1 + p.distortion * r2) / worst * half
    return cv2.remap(
        picture,
        (x * bend + (width - 1) / 2).astype(np.float32),
        (y * bend + (height - 1) / 2).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def exposed(light: np.ndarray, index: int, frames: int, p: Photography) -> np.ndarray:
    """With the lens's fall-off and the exposure of this frame."""
    height, width = light.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    r2 = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 + height**2) * 4
    stops = p.exposure * math.sin(math.pi * (index / max(frames - 1, 1) - 0.5))
    return (light * (p.gain * 2**stops * (1 - p.vignette * r2))[..., None]).astype(np.float32)


def grain(shape: tuple[int, int], index: int, p: Photography) -> np.ndarray:
    """Unit grain of one frame, a little larger than a pixel. float32 [H, W, 3]."""
    rng = np.random.default_rng((p.seed, index))
    drawn = rng.standard_normal((*shape, 3)).astype(np.float32)
    return cv2.GaussianBlur(drawn, (0, 0), 0.55) * np.float32(1.95)


def grained(light: np.ndarray, unit: np.ndarray, p: Photography) -> np.ndarray:
    """Grain whose variance grows with light, as a sensor's does."""
    return (light + unit * p.grain * np.sqrt(0.02 + np.maximum(light, 0))).astype(np.float32)
