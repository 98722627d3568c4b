"""Noise that moves with the picture, from which pass 2 starts: grain stays on what it lies on, so surfaces hold still.

What comes in: the frames that pass 1 made. What goes out: Gaussian noise on the latent grid, unit variance, no
correlation between pixels of a frame. It knows neither latents' meaning nor the model.

The idea is Go-with-the-Flow's (Burgert et al., arXiv 2501.08331): noise at pixel resolution follows optical flow, each
noise pixel that several pixels ask for is shared out so that they stay independent and of unit variance, and the sum
over a latent's cell is noise again. Flow is OpenCV's DIS (Kroeger et al., arXiv 1603.03590), which needs no download;
the release takes RAFT-large from the network at run time (released: inference/cogvideox_fun/make_warped_noise.py).

The release's own noise is off in three ways (trap 10), all kept in `released_resize`, none in `warped_noise`: it is
made at 3:2 and squeezed to the video's aspect, so it lies beside the pixels it should follow; bilinear resizing leaves
a standard deviation of about .66; and it always has 22 latents, so longer clips fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server.image.colour import REC709_LUMINANCE

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

CELL_PX = 8
"""Pixels along a latent's side."""
FRAMES_PER_LATENT = 4
RELEASED_NOISE_FRAMES = 72
RELEASED_NOISE_SIZE = (480, 720)
CONSISTENT_PX = 1.5
"""Where flow there and back ends further away than this, the pixel was hidden before, and gets fresh noise."""


def warped_noise(
    frames: Array,
    channels: int,
    seed: int,
    on_frame: Callable[[int], object] = lambda latent: None,
    frames_per_latent: int = FRAMES_PER_LATENT,
) -> Array:
    """Noise for a clip of 4k + 1 frames: float32 [k + 1, channels, H/8, W/8].

    frames: float32 [4k + 1, H, W, 3] in [0, 1], H and W multiples of 8. on_frame is called for every latent.
    """
    count, height, width = frames.shape[:3]
    numbers = np.random.default_rng(seed)
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fine = numbers.standard_normal((height, width, channels), np.float32)
    latents = (count - 1) // frames_per_latent + 1
    result = np.empty((latents, channels, height // CELL_PX, width // CELL_PX), np.float32)
    result[0] = _to_cells(fine)
    before = _grey(frames[0])
    for latent in range(1, latents):
        # A latent covers four frames, and four small steps of flow find what one large step loses.
        source, visible = _identity(height, width), np.ones((height, width), bool)
        for index in range(frames_per_latent * (latent - 1) + 1, frames_per_latent * latent + 1):
            now = _grey(frames[index])
            step, seen = _previous(flow_of, before, now)
            source, visible = source[step[..., 1], step[..., 0]], seen & visible[step[..., 1], step[..., 0]]
            before = now
        fine = share_out(fine, source, visible, numbers)
        result[latent] = _to_cells(fine)
        on_frame(latent)
    return result


def share_out(noise: Array, source: Indices, visible: npt.NDArray[np.bool_], numbers: np.random.Generator) -> Array:
    """Noise pulled through a map, still independent between pixels and of unit variance.

    noise: [H, W, C]. source: int [H, W, 2], (x, y) of the pixel that each comes from. visible: False gets fresh noise.
    k pixels that share a source x become x / sqrt(k) + z - mean(z) with fresh z: variance 1/k + 1 - 1/k = 1, covariance
    1/k - 1/k = 0.
    """
    height, width, channels = noise.shape
    fresh = numbers.standard_normal(noise.shape, np.float32)
    flat = (source[..., 1] * width + source[..., 0])[visible]
    size = height * width
    askers = np.bincount(flat, minlength=size)
    drawn = fresh[visible]
    share = 1 / askers[flat].astype(np.float32)
    pulled = noise.reshape(size, channels)[flat] * np.sqrt(share)[:, None]
    for channel in range(channels):
        mean = np.bincount(flat, weights=drawn[:, channel], minlength=size)[flat] * share
        pulled[:, channel] += drawn[:, channel] - mean.astype(np.float32)
    fresh[visible] = pulled
    return fresh


def _grey(frame: Array) -> npt.NDArray[np.uint8]:
    # Flow is measured at 8 bit, as DIS wants it; no pixel of the result passes through here.
    return np.asarray(np.rint(np.clip(frame @ REC709_LUMINANCE, 0, 1) * 255), np.uint8)


def _identity(height: int, width: int) -> Indices:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)


def _previous(
    flow_of: Any, before: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8]
) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """For every pixel now, (x, y) where it was before, and whether it was visible there."""
    height, width = now.shape
    back = flow_of.calc(now, before, None)
    there = flow_of.calc(before, now, None)
    target = _identity(height, width) + back
    at = np.rint(target).astype(np.intp)
    inside = (at[..., 0] >= 0) & (at[..., 0] < width) & (at[..., 1] >= 0) & (at[..., 1] < height)
    at = np.stack([at[..., 0].clip(0, width - 1), at[..., 1].clip(0, height - 1)], axis=-1)
    round_trip = np.linalg.norm(back + there[at[..., 1], at[..., 0]], axis=-1)
    return at, inside & (round_trip <= CONSISTENT_PX)


def _to_cells(fine: Array) -> Array:
    """[H, W, C] to [C, H/8, W/8]: the sum over a cell of n unit-variance numbers, over sqrt(n)."""
    height, width, channels = fine.shape
    cells = fine.reshape(height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX, channels)
    return np.ascontiguousarray(cells.sum(axis=(1, 3)).transpose(2, 0, 1) / CELL_PX, np.float32)


def released_noise(frames: Array, channels: int, seed: int) -> Array:
    """A stand-in for the release's noises.npy: [72, 60, 90, channels], with its lengths and its 3:2 crop.

    The clip is stretched to 72 frames, scaled to cover 480x720 and cropped in the middle (released:
    make_warped_noise.py:52-55). Its RAFT and its warping library come from the network at run time; DIS and
    `warped_noise` stand in for them here, so this is the release's geometry, not its numbers.
    """
    picked = frames[np.rint(np.linspace(0, len(frames) - 1, RELEASED_NOISE_FRAMES)).astype(int)]
    height, width = picked.shape[1:3]
    tall, wide = RELEASED_NOISE_SIZE
    scale = max(tall / height, wide / width)
    rows, columns = max(tall, round(height * scale)), max(wide, round(width * scale))
    top, left = (rows - tall) // 2, (columns - wide) // 2
    covering = [
        cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR)[top : top + tall, left : left + wide]
        for frame in picked
    ]
    made = warped_noise(np.stack(covering), channels, seed, frames_per_latent=1)
    return np.ascontiguousarray(made.transpose(0, 2, 3, 1))


def released_resize(noise: Array, latents: int, height: int, width: int) -> Array:
    """The release's way from its noise file to latents: [1, latents, C, height, width], variance not restored.

    noise: [T, h, w, C] or [T, C, h, w], as noises.npy holds it: 72 frames of 60x90. Frames are picked evenly, channels
    resized bilinearly (released: inference_with_pass1_warped_noise.py:154-215).
    """
    noise = noise.astype(np.float32)
    if noise.shape[1] == 16:
        noise = noise.transpose(0, 2, 3, 1)
    picked = noise[np.linspace(0, len(noise) - 1, latents).astype(int)] if len(noise) != latents else noise
    resized = np.empty((latents, noise.shape[-1], height, width), np.float32)
    for index, frame in enumerate(picked):
        for channel in range(noise.shape[-1]):
            resized[index, channel] = cv2.resize(
                np.ascontiguousarray(frame[..., channel]), (width, height), interpolation=cv2.INTER_LINEAR
            )
    return resized[None]
