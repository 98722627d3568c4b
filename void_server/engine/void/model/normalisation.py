"""Group normalisation with its activation and, in the decoder, its conditioning, in few passes over the picture.

What comes in: activations [B, C, T, H, W] and a norm's weights. What goes out: the activated picture, written where the
next convolution reads it. It knows neither layers nor caches.

The decoder's norms are conditioned on the latents: gain and bias are 1x1 convolutions of latents blown up to the
picture's size (diffusers: CogVideoXSpatialNorm3D). Nearest-neighbour blowing up and 1x1 convolution commute, so here
the convolutions run at the latents' size and their results are looked up. The bias of the convolution before is added
here too, where the picture is read anyway.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)


@functools.cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def by_kernels(x: torch.Tensor) -> bool:
    """Whether the kernels take x: on a card, channels last in memory and a power of two of them."""
    channels = x.shape[1]
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    return bool(x.is_cuda and has_triton() and last and channels & (channels - 1) == 0)


def norm_silu(
    x: torch.Tensor,
    added: torch.Tensor | None,
    norm: torch.nn.GroupNorm,
    out: torch.Tensor,
    condition: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> None:
    """out = silu(norm(x + added)), or silu(norm(x + added) * gain + bias).

    x: [B, C, T, H, W]. added: [C], or None. out: x's shape, may be a part of a longer clip. condition: gain and bias
    [B, C, t, h, w] at the latents' size; H / h must be a whole power of two, the same as W / w.
    """
    if by_kernels(x):
        on_card(x, added, norm, out, condition)
        return
    if added is not None:
        x = x + added[:, None, None, None]
    normed = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    if condition is not None:
        gain, bias = (_blown_up(part, x.shape[2:]) for part in condition)
        normed = normed * gain + bias
    out.copy_(F.silu(normed))


def on_card(
    x: torch.Tensor,
    added: torch.Tensor | None,
    norm: torch.nn.GroupNorm,
    out: torch.Tensor,
    condition: tuple[torch.Tensor, torch.Tensor] | None,
) -> None:
    """The same by the kernels."""
    from void_server.engine.void.model import norm_kernels

    found = None
    if condition is not None:
        found = (*condition, _frames_of(x.shape[2], condition[0].shape[2], x.device))
    norm_kernels.apply(x, out, *norm_kernels.scales(x, norm, added), found)


def add(x: torch.Tensor, other: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """x + other + added, in x's place. added: [C]."""
    if by_kernels(x) and by_kernels(other):
        from void_server.engine.void.model import norm_kernels

        norm_kernels.add(x, other, added)
        return x
    return x.add_(other).add_(added[:, None, None, None])


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
