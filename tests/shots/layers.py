"""Three renderings of a frame, taken apart: what the object is, what it did to light, what it did to things.

What comes in: light of the three states, with lens and exposure and without grain, and coverage. What goes out: plate,
clean plate, layers that add up to their difference, and regions. It reads no files.

    plate = clean + physics + appearance + object        in every sample

Two renderings of the same thing differ a little where nothing differs: paths are drawn anew behind the first bounce,
and the denoiser looks around. Such a difference is no effect: below `FAINT` it is taken out, and the clean plate has
the plate's own bits there; up to `SEEN` it fades in. So the clean plate is the rendering without the object, within
noise.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from tests.shots.photography import Photography, grained
from void_server.image.colour import srgb_encode

FAINT, SEEN = 1.6 / 255, 4 / 255
"""Of the smoothed difference, in sRGB code."""
SMOOTH = 1.3
"""Deviation, in pixels at 640 across."""
MATTE = 0.02
"""Coverage below this is a stray path."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """plate, clean: float16 [H, W, 3], scene-linear; object, appearance, physics: float32 [H, W, 3], signed light;
    matte, bystander: float32 [H, W]; regions: bool [H, W] by name."""

    plate: np.ndarray
    clean: np.ndarray
    layers: dict[str, np.ndarray]
    matte: np.ndarray
    bystander: np.ndarray
    regions: dict[str, np.ndarray]


def take_apart(
    full: np.ndarray, unseen: np.ndarray, removed: np.ndarray, matte: np.ndarray, bystander: np.ndarray,
    unit_grain: np.ndarray, p: Photography,
) -> Frame:  # fmt: skip
    """full, unseen, removed: float32 [H, W, 3], scene-linear; matte, bystander: coverage [H, W]; unit_grain as
    `photography.grain` draws it."""
    matte = np.where(matte < MATTE, 0, np.minimum(matte, 1)).astype(np.float32)
    covered = matte > 0
    touched = np.maximum(difference(full, unseen), covered)
    moved = difference(unseen, removed) if removed is not unseen else np.zeros_like(matte)
    lit = full + touched[..., None] * (unseen - full)
    gone = lit + moved[..., None] * (removed - unseen)
    # The same grain, at its own strength in each: where light is the same, so are the bits.
    plate, middle, clean = (grained(light, unit_grain, p).astype(np.float16) for light in (full, lit, gone))
    without = plate.astype(np.float32) - middle.astype(np.float32)
    layers = {
        "object": np.where(covered[..., None], without, 0),
        "appearance": np.where(covered[..., None], 0, without),
        "physics": middle.astype(np.float32) - clean.astype(np.float32),
    }
    regions = {"object": covered, "appearance": (touched > 0.5) & ~covered, "physics": (moved > 0.5) & ~covered}
    regions["bystander"] = (bystander > 0.5) & ~covered
    regions["keep"] = (plate.view(np.uint16) == clean.view(np.uint16)).all(-1)
    return Frame(plate, clean, layers, matte, bystander.astype(np.float32), regions)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How surely they differ: float32 [H, W], 0 where it is noise, 1 where it is seen."""
    sigma = max(0.8, SMOOTH * one.shape[1] / 640)
    codes = srgb_encode(np.clip(one, 0, 4)) - srgb_encode(np.clip(other, 0, 4))
    by = np.abs(cv2.GaussianBlur(codes, (0, 0), sigma)).max(-1)
    share = np.clip((by - FAINT) / (SEEN - FAINT), 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)
