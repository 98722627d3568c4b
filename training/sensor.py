"""What a camera, a codec and a hasty roto artist do to a perfect picture.

What comes in: linear light and exact masks. What goes out: display-like code in [0, 1] with exposure, contrast,
softness, grain, flicker and blocks; mattes that are grown, shrunk, shaken or late. It knows no scene.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.filters import gauss, grown

KNEE = 0.8
SOFT = (0.45, 0.8, 1.4)
"""Blurs of lenses, in pixels."""
MOST_OFF = 0.06
"""Mattes are off by up to this share of the object's size (root of its area)."""


def exposed(light: Tensor, reference: Tensor, bright: Tensor, contrast: Tensor) -> Tensor:
    """Code of light [N, T, 3, h, w]: `reference`'s mean comes out at `bright`; a soft shoulder,
    then a contrast curve."""

    def each(value: Tensor) -> Tensor:
        return value.view(-1, 1, 1, 1, 1)

    gain = each(bright) ** 2.2 / reference.mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-4)
    x = (light * gain).clamp(0, 4)
    x = torch.where(x > KNEE, KNEE + (1 - KNEE) * (1 - torch.exp(-(x - KNEE) / (1 - KNEE))), x).clamp_min(1e-5) ** (
        1 / 2.2
    )
    return (x + each(contrast) * (x * x * (3 - 2 * x) - x)).clamp(0, 1)


def photographed(code: Tensor, generator: torch.Generator) -> Tensor:
    """code [N, T, 3, h, w] as a real camera delivers it; one set of faults for each clip."""
    count, takes, _, height, width = code.shape

    def uniform(low: float, high: float) -> Tensor:
        return (torch.rand(count, generator=generator, device=code.device) * (high - low) + low).repeat_interleave(
            takes
        )

    def each(value: Tensor) -> Tensor:
        return value.view(-1, 1, 1, 1)

    x = code.reshape(-1, 3, height, width)
    soft = (uniform(0, 3)).long().clamp_max(2)
    levels = torch.stack([gauss(x, s) for s in SOFT])
    x = levels[soft, torch.arange(len(x), device=x.device)]
    flicker = torch.randn(len(x), generator=generator, device=x.device) * (uniform(0, 1) < 0.35) * uniform(0.003, 0.025)
    x = x * each(1 + flicker)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    noise = torch.where(each(soft % 2) > 0, gauss(noise, 0.7) * 1.8, noise)
    x = x + noise * each(torch.exp(uniform(float(np.log(0.002)), float(np.log(0.03))))) * (0.4 + x.clamp(0, 1).sqrt())
    coarse = torch.where(uniform(0, 1) < 0.55, uniform(6, 40), torch.zeros_like(flicker))
    return torch.where(each(coarse) > 0, _blocks(x, coarse.clamp_min(1)), x).clamp(0, 1).reshape(code.shape)


@functools.cache
def _cosines(device: torch.device) -> tuple[Tensor, Tensor]:
    k = np.arange(8)
    dct = np.cos((2 * k[None] + 1) * k[:, None] * np.pi / 16) * np.sqrt(2 / 8)
    dct[0] /= np.sqrt(2)
    to_ycc = [[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]]  # ITU-T T.871
    return torch.tensor(dct, dtype=torch.float32, device=device), torch.tensor(to_ycc, device=device)


def _blocks(x: Tensor, coarse: Tensor) -> Tensor:
    """Quantise 8x8 cosine blocks in YCC, coarser with frequency, as JPEG and its descendants do."""
    dct, to_ycc = _cosines(x.device)
    count, _, height, width = x.shape
    y = torch.einsum("ij,njhw->nihw", to_ycc, x)
    blocks = y.reshape(count, 3, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    row = torch.arange(8, device=x.device, dtype=torch.float32)
    step = (1 + 0.45 * (row[:, None] + row[None])) * coarse.view(-1, 1, 1, 1, 1, 1) / 255
    step = step * torch.tensor([1.0, 1.8, 1.8], device=x.device).view(1, 3, 1, 1, 1, 1)
    blocks = dct.T @ (((dct @ blocks @ dct.T) / step).round() * step) @ dct
    y = blocks.permute(0, 1, 2, 4, 3, 5).reshape(count, 3, height, width)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), y)


def rotoscoped(masks: Tensor, generator: torch.Generator) -> Tensor:
    """masks [N, T, h, w] as artists hand them over: exact, grown, shrunk, shaken from frame to frame,
    or a frame late."""
    count, takes = masks.shape[:2]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=masks.device)

    size = masks.flatten(2).sum(2).mean(1).clamp_min(1).sqrt()
    off = (uniform() * MOST_OFF * size).round().clamp(0, 5).long()
    fault = uniform()
    out: list[Any] = []
    shake = ((uniform(takes, 2) * 2 - 1) * (off.view(-1, 1, 1) + 0.49)).round().long()
    for n in range(count):
        mask, pixels, pick = masks[n : n + 1], int(off[n]), float(fault[n])
        if pick < 0.3:
            made = grown(mask, 1 if pick < 0.1 else 0)
        elif pick < 0.58:
            made = grown(mask, max(1, pixels))
        elif pick < 0.7:
            made = grown(mask, -max(1, min(pixels, 3)))
        elif pick < 0.85:
            rolled = [torch.roll(mask[:, t], (int(shake[n, t, 0]), int(shake[n, t, 1])), (1, 2)) for t in range(takes)]
            made = torch.stack(rolled, 1)
        else:
            made = torch.cat([mask[:, :1], mask[:, :-1]], 1)
        out.append(made)
    return torch.cat(out)
