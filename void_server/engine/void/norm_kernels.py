"""Triton kernels of group normalisation in two passes: moments of many pieces, then scale, condition and activate.

What comes in: dense tensors on a CUDA device, channels first or last in memory. What goes out: what `normalisation`
wants of them. It does not know groups; nothing but `normalisation` imports it, where Triton is there.

Torch's own kernel gives each group to one block of threads, 32 for a clip, where a card has a hundred processors and
more. Here a group is cut into pieces, and each piece's mean and sum of squared deviations are merged afterwards by
Chan's formula (Chan, Golub, LeVeque, The American Statistician 37, 1983), which loses nothing to cancellation.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

PIECE = 4096
"""Samples that one program holds in registers at a time."""
REPEATS = 8
"""Such pieces that one program goes through: fewer, larger pieces to merge."""


@triton.jit
def _row_moments(x, mean, squares, length, PIECE: tl.constexpr, REPEATS: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * PIECE * REPEATS
    at = first + tl.arange(0, PIECE)
    pivot = tl.sum(tl.load(x + row * length + at, mask=at < length, other=0.0).to(tl.float32), 0)
    pivot = pivot / tl.minimum(length - first, PIECE)
    total = tl.zeros([PIECE], tl.float32)
    total_squares = tl.zeros([PIECE], tl.float32)
    for _ in range(REPEATS):
        inside = at < length
        away = tl.load(x + row * length + at, mask=inside, other=0.0).to(tl.float32) - pivot
        away = tl.where(inside, away, 0.0)
        total += away
        total_squares += away * away
        at += PIECE
    count = tl.minimum(length - first, PIECE * REPEATS).to(tl.float32)
    shift = tl.sum(total, 0) / count
    place = row * tl.num_programs(0) + tl.program_id(0)
    tl.store(mean + place, pivot + shift)
    tl.store(squares + place, tl.maximum(tl.sum(total_squares, 0) - shift * shift * count, 0.0))


@triton.jit
def _column_moments(x, mean, squares, length, CHANNELS: tl.constexpr, PIECE: tl.constexpr, REPEATS: tl.constexpr):
    channel = tl.arange(0, CHANNELS)[None, :]
    first = tl.program_id(0) * PIECE * REPEATS
    start = tl.program_id(1).to(tl.int64) * length
    at = first + tl.arange(0, PIECE)[:, None]
    pivot = tl.sum(tl.load(x + (start + at) * CHANNELS + channel, mask=at < length, other=0.0).to(tl.float32), 0)
    pivot = (pivot / tl.minimum(length - first, PIECE))[None, :]
    total = tl.zeros([PIECE, CHANNELS], tl.float32)
    total_squares = tl.zeros([PIECE, CHANNELS], tl.float32)
    for _ in range(REPEATS):
        inside = at < length
        away = tl.load(x + (start + at) * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32) - pivot
        away = tl.where(inside, away, 0.0)
        total += away
        total_squares += away * away
        at += PIECE
    count = tl.minimum(length - first, PIECE * REPEATS).to(tl.float32)
    shift = tl.sum(total, 0)[None, :] / count
    place = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * CHANNELS + channel
    tl.store(mean + place, pivot + shift)
    tl.store(squares + place, tl.maximum(tl.sum(total_squares, 0)[None, :] - shift * shift * count, 0.0))


@triton.jit
def _apply_rows(
    x,
    out,
    scale,
    offset,
    gain,
    bias,
    source,
    frames,
    out_row,
    low_frames,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    SHRINK: tl.constexpr,
    CONDITIONED: tl.constexpr,
    PIECE: tl.constexpr,
):
    row = tl.program_id(2).to(tl.int64)
    frame = tl.program_id(1)
    at = tl.program_id(0) * PIECE + tl.arange(0, PIECE)
    inside = at < HEIGHT * WIDTH
    value = tl.load(x + (row * frames + frame) * (HEIGHT * WIDTH) + at, mask=inside, other=0.0).to(tl.float32)
    value = value * tl.load(scale + row) + tl.load(offset + row)
    if CONDITIONED:
        low = row * low_frames + tl.load(source + frame)
        low = (low * (HEIGHT // SHRINK) + at // WIDTH // SHRINK) * (WIDTH // SHRINK) + at % WIDTH // SHRINK
        value = value * tl.load(gain + low, mask=inside, other=0.0).to(tl.float32)
        value += tl.load(bias + low, mask=inside, other=0.0).to(tl.float32)
    value = value * tl.sigmoid(value)
    tl.store(out + row * out_row + frame * (HEIGHT * WIDTH) + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _apply_columns(
    x,
    out,
    scale,
    offset,
    gain,
    bias,
    source,
    frames,
    out_clip,
    low_frames,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    SHRINK: tl.constexpr,
    CONDITIONED: tl.constexpr,
    CHANNELS: tl.constexpr,
    PIECE: tl.constexpr,
):
    clip = tl.program_id(2).to(tl.int64)
    frame = tl.program_id(1)
    channel = tl.arange(0, CHANNELS)[None, :]
    at = tl.program_id(0) * PIECE + tl.arange(0, PIECE)[:, None]
    inside = at < HEIGHT * WIDTH
    here = (clip * frames + frame) * (HEIGHT * WIDTH) + at
    value = tl.load(x + here * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
    value = value * tl.load(scale + clip * CHANNELS + channel) + tl.load(offset + clip * CHANNELS + channel)
    if CONDITIONED:
        low = clip * low_frames + tl.load(source + frame)
        low = (low * (HEIGHT // SHRINK) + at // WIDTH // SHRINK) * (WIDTH // SHRINK) + at % WIDTH // SHRINK
        value = value * tl.load(gain + low * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
        value += tl.load(bias + low * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
    value = value * tl.sigmoid(value)
    there = clip * out_clip + (frame * (HEIGHT * WIDTH) + at).to(tl.int64) * CHANNELS
    tl.store(out + there + channel, value.to(out.dtype.element_ty), mask=inside)


def moments(x: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(means, sums of squared deviations, samples) of pieces, each [rows, pieces] in float32.

    x: [B, C, T, H, W], dense. Channels first: rows are B times groups, whose samples lie side by side. Channels last:
    rows are B times C whatever is asked, each a channel; `normalisation` merges them.
    """
    if x.is_contiguous():
        length, piece = x.numel() // rows, PIECE
    else:
        length, piece = x[0, 0].numel(), max(1, PIECE // x.shape[1])
        rows = x.shape[0] * x.shape[1]
    pieces = triton.cdiv(length, piece * REPEATS)
    if x.is_contiguous():
        mean, squares = torch.empty((2, rows, pieces), dtype=torch.float32, device=x.device)
        _row_moments[(pieces, rows)](x, mean, squares, length, PIECE=piece, REPEATS=REPEATS, num_warps=8)
    else:
        channels = x.shape[1]
        both = torch.empty((2, x.shape[0], pieces, channels), dtype=torch.float32, device=x.device)
        _column_moments[(pieces, x.shape[0])](
            x, both[0], both[1], length, CHANNELS=channels, PIECE=piece, REPEATS=REPEATS, num_warps=8
        )
        mean, squares = both.transpose(2, 3).reshape(2, rows, pieces)
    samples = torch.full((pieces,), float(piece * REPEATS), device=x.device)
    samples[-1] = length - (pieces - 1) * piece * REPEATS
    return mean, squares, samples.expand(rows, -1)


def apply(
    x: torch.Tensor,
    out: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    condition: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None,
) -> None:
    """out = silu(x * scale + offset), or silu((x * scale + offset) * gain + bias) with gain and bias looked up.

    x: [B, C, T, H, W]. out: the same shape, frames side by side. scale, offset: float32 [B, C]. condition: gain and
    bias [B, C, t, h, w], and for each of the T frames which of the t, int32.
    """
    clips, channels, frames, height, width = x.shape
    gain, bias, source = condition or (x, x, x)
    shape = {
        "HEIGHT": height,
        "WIDTH": width,
        "SHRINK": height // gain.shape[3],
        "CONDITIONED": condition is not None,
        "num_warps": 8,
    }
    low_frames = gain.shape[2]
    if x.is_contiguous():
        grid = (triton.cdiv(height * width, PIECE // 2), frames, clips * channels)
        _apply_rows[grid](
            x, out, scale, offset, gain, bias, source, frames, out.stride(1), low_frames, PIECE=PIECE // 2, **shape
        )
        return
    piece = max(1, PIECE // 2 // channels)
    _apply_columns[(triton.cdiv(height * width, piece), frames, clips)](
        x, out, scale, offset, gain, bias, source, frames, out.stride(0), low_frames,
        CHANNELS=channels, PIECE=piece, **shape,
    )  # fmt: skip
