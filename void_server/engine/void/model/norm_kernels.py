"""Triton kernels of group normalisation: moments of many pieces, merged; then scale, condition, activate in one pass.

What comes in: tensors [B, C, T, H, W] on a CUDA device whose channels lie last in memory, C a power of two. What goes
out: scale and offset of every channel, or the activated picture. Nothing but `normalisation` imports it, where Triton
is there.

Torch's own kernel gives each group to one block of threads, 32 for a clip, where a card has a hundred processors and
more. Here a group is cut into pieces, and each piece's mean and sum of squared deviations are merged afterwards by
Chan's formula (Chan, Golub, LeVeque, The American Statistician 37, 1983), which loses nothing to cancellation. Sizes of
pictures are no constants: a shot of another size builds no kernel anew.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

TILE = 4096
"""Samples that one program holds in registers at a time."""
REPEATS = 16
"""Such tiles that one program goes through: fewer, larger pieces to merge."""
MERGED = 1024
"""Pieces that are merged at a time."""


@triton.jit(do_not_specialize=["length"])
def _moments(x, mean, squares, length, CHANNELS: tl.constexpr, ROWS: tl.constexpr, REPEATS: tl.constexpr):
    channel = tl.arange(0, CHANNELS)[None, :]
    first = tl.program_id(0) * ROWS * REPEATS
    start = tl.program_id(1).to(tl.int64) * length
    at = first + tl.arange(0, ROWS)[:, None]
    pivot = tl.sum(tl.load(x + (start + at) * CHANNELS + channel, mask=at < length, other=0.0).to(tl.float32), 0)
    pivot = (pivot / tl.minimum(length - first, ROWS))[None, :]
    total = tl.zeros([ROWS, CHANNELS], tl.float32)
    total_squares = tl.zeros([ROWS, CHANNELS], tl.float32)
    for _ in range(REPEATS):
        inside = at < length
        away = tl.load(x + (start + at) * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32) - pivot
        away = tl.where(inside, away, 0.0)
        total += away
        total_squares += away * away
        at += ROWS
    count = tl.minimum(length - first, ROWS * REPEATS).to(tl.float32)
    shift = tl.sum(total, 0)[None, :] / count
    place = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * CHANNELS + channel
    tl.store(mean + place, pivot + shift)
    tl.store(squares + place, tl.maximum(tl.sum(total_squares, 0)[None, :] - shift * shift * count, 0.0))


@triton.jit(do_not_specialize=["length", "pieces"])
def _merge(
    mean, squares, added, weight, bias, scale, offset, length, pieces, eps,
    CHANNELS: tl.constexpr, GROUP: tl.constexpr, PIECE: tl.constexpr, HAS_ADDED: tl.constexpr, MERGED: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(1)
    channel = tl.program_id(0) * GROUP + tl.arange(0, GROUP)[None, :]
    own = tl.zeros([1, GROUP], tl.float32)
    if HAS_ADDED:
        own += tl.load(added + channel).to(tl.float32)
    here = mean + clip * pieces * CHANNELS
    squares += clip * pieces * CHANNELS
    pivot = tl.sum(tl.load(here + channel) + own) / GROUP
    total = tl.zeros([MERGED, GROUP], tl.float32)
    total_squares = tl.zeros([MERGED, GROUP], tl.float32)
    for begin in range(0, pieces, MERGED):
        piece = begin + tl.arange(0, MERGED)[:, None]
        inside = piece < pieces
        count = tl.where(inside, tl.minimum(length - piece * PIECE, PIECE), 0).to(tl.float32)
        away = tl.load(here + piece * CHANNELS + channel, mask=inside, other=0.0) + own - pivot
        total += count * away
        total_squares += tl.load(squares + piece * CHANNELS + channel, mask=inside, other=0.0) + count * away * away
    samples = length.to(tl.float32) * GROUP
    shift = tl.sum(total) / samples
    variance = tl.maximum(tl.sum(total_squares) / samples - shift * shift, 0.0)
    scales = tl.load(weight + channel).to(tl.float32) / tl.sqrt(variance + eps)
    tl.store(scale + clip * CHANNELS + channel, scales)
    offsets = tl.load(bias + channel).to(tl.float32) + (own - pivot - shift) * scales
    tl.store(offset + clip * CHANNELS + channel, offsets)


@triton.jit(do_not_specialize=["frames", "out_clip", "low_frames", "height", "width", "shrink"])
def _apply(
    x, out, scale, offset, gain, bias, source, frames, out_clip, low_frames, height, width, shrink,
    CONDITIONED: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(2).to(tl.int64)
    frame = tl.program_id(1)
    channel = tl.arange(0, CHANNELS)[None, :]
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    inside = at < height * width
    here = (clip * frames + frame) * (height * width) + at
    value = tl.load(x + here * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
    value = value * tl.load(scale + clip * CHANNELS + channel) + tl.load(offset + clip * CHANNELS + channel)
    if CONDITIONED:
        low = clip * low_frames + tl.load(source + frame)
        low = (low * (height // shrink) + at // width // shrink) * (width // shrink) + at % width // shrink
        value = value * tl.load(gain + low * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
        value += tl.load(bias + low * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
    value = value * tl.sigmoid(value)
    there = clip * out_clip + (frame * (height * width) + at).to(tl.int64) * CHANNELS
    tl.store(out + there + channel, value.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["length"])
def _add(x, other, added, length, CHANNELS: tl.constexpr, ROWS: tl.constexpr):
    channel = tl.arange(0, CHANNELS)[None, :]
    at = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    inside = at < length
    value = tl.load(x + at * CHANNELS + channel, mask=inside).to(tl.float32)
    value += tl.load(other + at * CHANNELS + channel, mask=inside).to(tl.float32)
    value += tl.load(added + channel).to(tl.float32)
    tl.store(x + at * CHANNELS + channel, value.to(x.dtype.element_ty), mask=inside)


def scales(x: torch.Tensor, norm: torch.nn.GroupNorm, added: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, offset), float32 [B, C], with which norm(x + added) = x * scale + offset. added: [C], or None."""
    clips, channels = x.shape[:2]
    length, rows = x[0, 0].numel(), TILE // channels
    pieces = triton.cdiv(length, rows * REPEATS)
    mean, squares = torch.empty((2, clips, pieces, channels), dtype=torch.float32, device=x.device)
    _moments[(pieces, clips)](
        x, mean, squares, length, CHANNELS=channels, ROWS=rows, REPEATS=REPEATS, num_warps=8
    )  # fmt: skip
    scale, offset = torch.empty((2, clips, channels), dtype=torch.float32, device=x.device)
    group = channels // norm.num_groups
    _merge[(norm.num_groups, clips)](
        mean, squares, norm.weight if added is None else added, norm.weight, norm.bias, scale, offset, length, pieces,
        norm.eps, CHANNELS=channels, GROUP=group, PIECE=rows * REPEATS, HAS_ADDED=added is not None,
        MERGED=max(16, MERGED // group), num_warps=4,
    )  # fmt: skip
    return scale, offset


def apply(
    x: torch.Tensor,
    out: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    condition: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None,
) -> None:
    """out = silu(x * scale + offset), or silu((x * scale + offset) * gain + bias) with gain and bias looked up.

    out: [B, C, T, H, W], frames side by side. scale, offset: float32 [B, C]. condition: gain and bias [B, C, t, h, w],
    and for each of the T frames which of the t, int32.
    """
    clips, channels, frames, height, width = x.shape
    gain, bias, source = condition or (x, x, x)
    rows = TILE // 2 // channels
    _apply[(triton.cdiv(height * width, rows), frames, clips)](
        x, out, scale, offset, gain, bias, source, frames, out.stride(0), gain.shape[2], height, width,
        height // gain.shape[3], CONDITIONED=condition is not None, CHANNELS=channels, ROWS=rows, num_warps=8,
    )  # fmt: skip


def add(x: torch.Tensor, other: torch.Tensor, added: torch.Tensor) -> None:
    """x += other + added, in one pass. added: [C]."""
    channels = x.shape[1]
    length, rows = x.numel() // channels, TILE // channels
    _add[(triton.cdiv(length, rows),)](x, other, added, length, CHANNELS=channels, ROWS=rows, num_warps=8)
