"""Group normalisation with its activation and, in the decoder, its conditioning, in two passes over the picture.

What comes in: activations [B, C, T, H, W] and a norm's weights. What goes out: the activated picture, written where the
next convolution reads it. It knows neither layers nor caches.

The decoder's norms are conditioned on the latents: gain and bias are 1x1 convolutions of latents blown up to the
picture's size (diffusers: CogVideoXSpatialNorm3D). Nearest-neighbour blowing up and 1x1 convolution commute, so here
the convolutions run at the latents' size and their results are looked up.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)


@functools.cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def norm_silu(
    x: torch.Tensor,
    norm: torch.nn.GroupNorm,
    out: torch.Tensor,
    condition: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> None:
    """out = silu(norm(x)), or silu(norm(x) * gain + bias).

    x: [B, C, T, H, W]. out: the same shape, may be a part of a longer clip. condition: gain and bias [B, C, t, h, w]
    at the latents' size; H / h must be a whole power of two, the same as W / w.
    """
    groups = norm.num_groups
    if not (x.is_cuda and has_triton()):
        normed = F.group_norm(x, groups, norm.weight, norm.bias, norm.eps)
        if condition is not None:
            gain, bias = (_blown_up(part, x.shape[2:]) for part in condition)
            normed = normed * gain + bias
        out.copy_(F.silu(normed))
        return
    on_card(x, norm, out, condition)


def on_card(
    x: torch.Tensor,
    norm: torch.nn.GroupNorm,
    out: torch.Tensor,
    condition: tuple[torch.Tensor, torch.Tensor] | None,
) -> None:
    """The same by the kernels."""
    from void_server.engine.void import norm_kernels

    clips, channels = x.shape[:2]
    rows = clips * norm.num_groups
    mean, squares, samples = (part.reshape(rows, -1) for part in norm_kernels.moments(x, rows))
    total = samples.sum(-1, keepdim=True)
    middle = (mean * samples).sum(-1, keepdim=True) / total
    variance = (squares + samples * (mean - middle).square()).sum(-1, keepdim=True) / total
    inverse = torch.rsqrt(variance + norm.eps)
    scale = norm.weight.float() * _by_channel(inverse, clips, channels)
    offset = norm.bias.float() - _by_channel(middle, clips, channels) * scale
    found = None
    if condition is not None:
        found = (*condition, _frames_of(x.shape[2], condition[0].shape[2], x.device))
    norm_kernels.apply(x, out, scale, offset, found)


def _by_channel(of_groups: torch.Tensor, clips: int, channels: int) -> torch.Tensor:
    """[B * groups, 1] to [B, C]."""
    return of_groups.reshape(clips, -1).repeat_interleave(channels * clips // of_groups.numel(), dim=1)


def _blown_up(low: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """[B, C, t, h, w] to [B, C, T, H, W] by nearest neighbours, the first frame of an odd number by itself."""
    picked = low[:, :, _frames_of(size[0], low.shape[2], low.device).long()]
    return F.interpolate(picked, size=tuple(size))


@functools.lru_cache(maxsize=64)
def _frames_of(frames: int, low: int, device: torch.device) -> torch.Tensor:
    """Which of `low` latents each of `frames` frames belongs to, int32 (diffusers: CogVideoXSpatialNorm3D.forward)."""
    if frames > 1 and frames % 2:
        rest = [1 + index * (low - 1) // (frames - 1) for index in range(frames - 1)]
        found = [0, *rest]
    else:
        found = [index * low // frames for index in range(frames)]
    return torch.tensor(found, dtype=torch.int32, device=device)
