"""What the transformer is told besides noise and text: the whole source video, and which of its pixels to remove.

What comes in: video and mask as tensors [B, C, F, H, W]. What goes out: the same, as the VAE is fed with them. It knows
neither the VAE nor the sampling.

The mask is "quad" on disk only: 63 (object and affected) falls together with 0 (object) in training and in pass 1, so
the network has three levels (released: videox_fun/data/dataset_image_video.py:630-672, pipeline 985-987).

    on disk   mask_video   VAE input, pass 1 and fixed   VAE input, released pass 2
    0         1.0          0                             0
    63        .753         0                             0
    127       .502         128/255 = .502                0   (127 > 0.5: remove)
    255       0            1                             1
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

Levels = Literal["three", "two"]

NOISE_STRENGTH = 0.0563
"""Standard deviation of the noise on the conditioning video, in [-1, 1]
(released: pipeline_cogvideox_fun_inpaint.py:769, noise_aug_strength)."""
AFFECTED = 127 / 255
DISK_STEPS = ((31, 0), (95, 63), (191, 127))
"""Highest value on disk that still counts as each label; above the last, 255 (released: utils.py:404-408)."""


def resize_area(video: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """[B, C, F, H, W] to another size by area averaging (released: videox_fun/utils/utils.py:343, 396)."""
    if video.shape[-2:] == (height, width):
        return video
    batch = video.shape[0]
    flat = F.interpolate(video.float().flatten(0, 1), (height, width), mode="area")
    return flat.unflatten(0, (batch, -1))


def scale_labels(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A mask in [0, 1], 1 = remove, at another size and back on its four labels, whatever codecs and scaling did.

    Works on values as they lie on disk (255 = keep), where the thresholds are defined. They are rounded first: the
    middle of two labels lies right on a threshold (191 between 127 and 255), where the last bit would decide.
    """
    disk = torch.round((255 - 255 * mask.float()) * 1024) / 1024
    disk = resize_area(disk, height, width)
    labels = torch.full_like(disk, 255)
    for highest, label in reversed(DISK_STEPS):
        labels = torch.where(disk <= highest, torch.full_like(disk, label), labels)
    return (255 - labels) / 255


def mask_levels(mask: torch.Tensor, levels: Levels, physics_prior: bool = True) -> torch.Tensor:
    """The mask with the levels the network is run with, 1 = remove.

    levels: "three" as trained and as in pass 1; "two" as in the released pass 2, where affected means remove (trap 4).
    physics_prior False keeps everything but the object itself.
    """
    mask = mask.float()
    if not physics_prior:
        return (mask > 0.75).float()
    if levels == "two":
        return (mask > 0.5).float()
    affected = torch.full_like(mask, AFFECTED)
    return torch.where(mask > 0.75, 1.0, torch.where(mask >= 0.25, affected, 0.0))


def mask_for_vae(mask: torch.Tensor) -> torch.Tensor:
    """Three channels in [0, 1], 0 = remove, 1 = keep; never moved to [-1, 1] (trap 8)."""
    return 1 - mask.tile(1, 3, 1, 1, 1)


def draw_noise(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Float32 on the generator's device, unit variance: what `add_noise` adds."""
    return torch.randn(shape, generator=generator, device=generator.device)


def add_noise(
    video: torch.Tensor,
    generator: torch.Generator | None,
    strength: float = NOISE_STRENGTH,
    drawn: torch.Tensor | None = None,
) -> torch.Tensor:
    """The conditioning video with the little noise it was trained with; samples that are exactly -1 stay.

    video: float32 in [-1, 1]. generator None draws from torch's global generator, as released
    (pipeline_cogvideox_fun_inpaint.py:259-269), which no `generator` of the caller reaches (trap 1); the video must be
    on the CPU then. drawn: noise that was drawn already.
    """
    if drawn is not None:
        noise = drawn.to(video.device)
    elif generator is None:
        # randn_like draws in the order of memory, and the released video is laid out frame by frame, not channel first.
        noise = torch.randn_like(video)
    else:
        noise = draw_noise(video.shape, generator).to(video.device)
    return torch.where(video == -1, video, video + noise * strength)
