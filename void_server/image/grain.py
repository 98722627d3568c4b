"""Measure a plate's grain over time, and make more of the same where pixels lost theirs.

What comes in: pairs of neighbouring frames. What goes out: a model of strength by light, of texture and of the tie
between channels, and grain made from it. It knows no engine, and adds nothing to anything by itself.

Grain is what differs between two registered frames of the same thing, measured on the calmest blocks of every
brightness. Motion and misregistration only ever add to a difference, so each measure is an upper bound, and in light
grain never falls with brightness (photon and read noise, sigma^2 = a L + b: Foi et al., Practical Poissonian-Gaussian
Noise Modeling, TIP 2008): the strength at one brightness is the least that was measured there or above. A line through
all measures instead gave foliage's motion to the shadows, as specks of five times the grain that they had (DAVIS).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from void_server.image.colour import REC709_LUMINANCE

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

BLOCK = 16
CALM = 0.2
"""Share of the blocks of one brightness that are believed: the calmest."""
BINS = 8
TOP, CLIPPED = 0.995, 0.01
"""Where more than CLIPPED of a plate lies above TOP of its highest light, it is clipped there, and shows no grain."""
EXPOSED_ALIKE = 1.25
"""Frames whose light differs by more than this factor (a flash) differ by more than their grain."""


@dataclasses.dataclass(frozen=True)
class GrainModel:
    """tones: float32 [K], luminances, rising; variance: float32 [K, 3], light squared, never falling. kernel: float32
    [BLOCK, BLOCK], unit energy. mix: float32 [3, 3], Cholesky factor of the correlation between channels."""

    tones: Array
    variance: Array
    kernel: Array
    mix: Array

    def sigma(self, luminance: Array) -> Array:
        """Standard deviation of the grain on `luminance` [h, w]: float32 [h, w, 3]. Between tones the variance goes
        straight, below them it stays, above them it grows with the light."""
        above = np.maximum(luminance / self.tones[-1], 1)
        found = np.stack([np.interp(luminance, self.tones, v) * above for v in self.variance.T], axis=-1)
        return np.asarray(np.sqrt(found), np.float32)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Calm blocks of one pair of frames, N of them."""

    tones: npt.NDArray[np.float64]
    """[N]: mean luminance."""
    variance: Array
    """float32 [N, 3], of the grain."""
    blocks: Array
    """float32 [N, BLOCK, BLOCK, 3]: how the two frames differ, without its mean."""


def sampled(before: Array, after: Array, free: Mask) -> Samples:
    """Of two neighbouring frames, both float32 [h, w, 3] scene-linear, where they show nothing but background (bool
    [h, w])."""
    found = list(_calm_blocks(before, after, free)) if _exposed_alike(before, after, free) else []
    if not found:
        return Samples(np.zeros(0), np.zeros((0, 3), np.float32), np.zeros((0, BLOCK, BLOCK, 3), np.float32))
    tones, variance, blocks = zip(*found)
    return Samples(np.array(tones), np.stack(variance), np.stack(blocks))


def estimate(samples: Iterable[Samples]) -> GrainModel | None:
    """Fit a model to what pairs of neighbouring frames showed. None where too little of it is calm to tell."""
    every = list(samples)
    tones = np.concatenate([one.tones for one in every]) if every else np.zeros(0)
    if len(tones) < 24:
        return None
    light, spread = tones, np.concatenate([one.variance for one in every])
    blocks = np.concatenate([one.blocks for one in every])
    edges = np.quantile(light, np.linspace(0, 1, BINS + 1))
    points, picked = [], []
    for low, high in zip(edges[:-1], edges[1:]):
        inside = np.nonzero((light >= low) & (light <= high))[0]
        if len(inside) < 3:
            continue
        calm = inside[np.argsort(spread[inside].sum(1))[: max(3, int(len(inside) * CALM))]]
        points.append((np.median(light[calm]), np.median(spread[calm], axis=0)))
        picked.extend(calm.tolist())
    tone = np.maximum(np.maximum.accumulate([p[0] for p in points]), 1e-6)
    least = np.minimum.accumulate(np.array([p[1] for p in points])[::-1])[::-1]
    chosen = blocks[picked]
    strength = np.sqrt(chosen.var(axis=(1, 2), keepdims=True)) + 1e-12
    unit = chosen / strength
    power = (np.abs(np.fft.fft2(unit.mean(3) - unit.mean((1, 2, 3), keepdims=True)[..., 0])) ** 2).mean(0)
    power[0, 0] = (power[0, 1] + power[1, 0]) / 2
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(power)).real)
    kernel /= max(float(np.sqrt((kernel**2).sum())), 1e-12)
    correlation = np.corrcoef(unit.reshape(-1, 3).T) if unit.std() > 0 else np.eye(3)
    mix = np.linalg.cholesky(np.nan_to_num(correlation, nan=0.0) * 0.999 + 0.001 * np.eye(3))
    return GrainModel(*(np.asarray(a, np.float32) for a in (tone, least, kernel, mix)))


def _exposed_alike(before: Array, after: Array, free: Mask) -> bool:
    if not free.any():
        return False
    light = [float(np.median(picture[free] @ REC709_LUMINANCE)) for picture in (before, after)]
    return max(light) <= EXPOSED_ALIKE * max(min(light), 1e-6)


def _calm_blocks(before: Array, after: Array, free: Mask) -> Iterable[tuple[float, Array, Array]]:
    """(mean luminance, variance of grain [3], difference block [BLOCK, BLOCK, 3]) of every block that is free and
    not clipped."""
    light = before @ REC709_LUMINANCE
    shown = [np.sqrt(np.clip(tone, 0, None)) for tone in (light, after @ REC709_LUMINANCE)]
    top = max(float(np.percentile(shown[0], 99.5)), 1e-6)
    grey = [np.clip(s / top * 235, 0, 255).astype(np.uint8) for s in shown]
    motion = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey[0], grey[1], None)
    # Smoothed widely, so that motion can't follow the grain itself.
    motion = cv2.blur(motion, (31, 31)).astype(np.float32)
    height, width = free.shape
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    moved = cv2.remap(after, grid + motion, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    part = motion - np.floor(motion)
    # Energy of OpenCV's cubic kernel (a = -0.75) at a fraction of a pixel: 1 at 0, 0.723 at a half, parabola between.
    left = (1 - 1.108 * part * (1 - part)).prod(axis=2)
    difference = (before - moved) / np.sqrt(1 + left)[..., None].astype(np.float32)
    brightest = light >= TOP * light.max()
    unclipped = free & ~brightest if brightest.mean() > CLIPPED else free
    for row in range(0, height - BLOCK + 1, BLOCK):
        for column in range(0, width - BLOCK + 1, BLOCK):
            part = slice(row, row + BLOCK), slice(column, column + BLOCK)
            if unclipped[part].all():
                block = difference[part]
                yield float(light[part].mean()), block.var(axis=(0, 1)), block - block.mean(axis=(0, 1))


def synthesise(model: GrainModel, luminance: Array, frame: int, seed: int) -> Array:
    """Grain for a picture of `luminance` [h, w]: float32 [h, w, 3], to be added.

    The same frame and seed always give the same grain.
    """
    height, width = luminance.shape
    digest = hashlib.sha256(f"{seed}:{frame}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    white = rng.standard_normal((height, width, 3), dtype=np.float32)
    textured = cv2.filter2D(white, -1, model.kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray((textured @ model.mix.T) * model.sigma(luminance), np.float32)


def brightness(light: Array) -> Array:
    """What the eye takes as the tone under the grain: luminance [h, w] of `light` [h, w, 3], smoothed over 5 pixels."""
    return np.asarray(cv2.blur(light @ REC709_LUMINANCE, (5, 5)), np.float32)


def laid_over(light: Array, grain: Array, share: Array) -> Array:
    """`light` with the share of grain that it lacks: what is left of its own and what is added keep one variance.

    share: float32 [h, w] in [0, 1]; a pixel that kept 1 - share of its grain's strength lacks sqrt(1 - (1 - share)^2).
    """
    return light + grain * np.sqrt(np.clip(1 - (1 - share) ** 2, 0, 1))[..., None].astype(np.float32)
