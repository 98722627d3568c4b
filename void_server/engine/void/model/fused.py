"""The autoencoder's encoder and decoder arranged for a card: the same layers and weights, fewer passes over memory.

What comes in: a `VoidVae`. What goes out: the same, its encoder and decoder replaced by `FusedEncoder` and
`FusedDecoder`, which take and give what diffusers' do. It does not know tiles, chunks or latents' meaning.

Normalisation, conditioning and activation are one pass (`normalisation`) that writes straight into the frames that the
next convolution reads, behind the two it keeps from the chunk before. Nothing is computed at a picture's size that can
be at the latents'. Sums are taken in another order than in diffusers, so results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from void_server.engine.void.model.normalisation import add, norm_silu
from void_server.engine.void.model.vae import FirstAwareUpsample, VoidVae

MOST_BYTES = 2 << 30
"""Of 16-bit samples, what a convolution is given at a time: cuDNN counts samples in 32 bits."""
Tails = dict[torch.nn.Module, torch.Tensor]
"""Of every convolution through time, the last two frames it read: the next chunk begins with them."""


def fuse(vae: VoidVae, channels_last: bool) -> None:
    """Arrange an autoencoder in place. channels_last: whether activations lie [T, H, W, C] in memory, where a card's
    convolutions are a fifth to two fifths faster and the kernels of `normalisation` work."""
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    vae.encoder = FusedEncoder(vae.encoder, layout)
    vae.decoder = FusedDecoder(vae.decoder, layout)
    if channels_last:
        for module in vae.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
            elif isinstance(module, torch.nn.Conv2d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


class _Fused(torch.nn.Module):  # type: ignore[misc]
    """What encoder and decoder share: one chunk's way through residual blocks."""

    def __init__(self, stock: torch.nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        # diffusers' own modules under their own names, so that weights keep theirs.
        for name, module in stock.named_children():
            self.add_module(name, module)
        self._layout = layout

    def _convolved(self, conv: Any, x: torch.Tensor, tails: Tails, kept: Tails) -> torch.Tensor:
        return _through_time(conv, x, lambda room: room.copy_(x), tails, kept, conv.conv.bias, self._layout)

    def _normed(
        self,
        conv: Any,
        norm: Any,
        x: torch.Tensor,
        latents: torch.Tensor | None,
        tails: Tails,
        kept: Tails,
        added: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """conv(silu(norm(x + added))), conditioned where there are latents. bias: the convolution's, or None where
        whoever comes next adds it."""
        condition = None
        if latents is not None:
            gain, shift = (
                part.conv(latents).contiguous(memory_format=self._layout) for part in (norm.conv_y, norm.conv_b)
            )
            condition = gain, shift
            norm = norm.norm_layer
        x = x.contiguous(memory_format=self._layout)

        def write(room: torch.Tensor) -> None:
            norm_silu(x, added, norm, room, condition)

        return _through_time(conv, x, write, tails, kept, bias, self._layout)

    def _residual(
        self, block: Any, x: torch.Tensor, latents: torch.Tensor | None, tails: Tails, kept: Tails
    ) -> torch.Tensor:
        inner = self._normed(block.conv1, block.norm1, x, latents, tails, kept)
        inner = self._normed(block.conv2, block.norm2, inner, latents, tails, kept, added=block.conv1.conv.bias)
        if block.in_channels != block.out_channels:
            x = block.conv_shortcut(x)
        return add(inner, x, block.conv2.conv.bias)


def _through_time(
    conv: Any,
    x: torch.Tensor,
    write: Callable[[torch.Tensor], object],
    tails: Tails,
    kept: Tails,
    bias: torch.Tensor | None,
    layout: torch.memory_format,
) -> torch.Tensor:
    """A causal convolution over what `write` writes, shaped as x, behind the chunk before."""
    clips, channels, frames, height, width = x.shape
    before = conv.time_kernel_size - 1
    room = torch.empty(
        (clips, channels, before + frames, height, width), dtype=x.dtype, device=x.device, memory_format=layout
    )
    write(room[:, :, before:])
    room[:, :, :before] = tails[conv] if conv in tails else room[:, :, before : before + 1]
    kept[conv] = room[:, :, -before:].clone(memory_format=torch.preserve_format)
    # A large picture goes through in parts (diffusers: CogVideoXSafeConv3d).
    length = max(1, MOST_BYTES // (2 * room[:, :, 0].numel()) - before)
    made = [
        F.conv3d(
            room[:, :, begin : min(begin + length, frames) + before],
            conv.conv.weight,
            bias,
            padding=conv.const_padding_conv3d,
        )
        for begin in range(0, frames, length)
    ]
    return made[0] if len(made) == 1 else torch.cat(made, dim=2)


class FusedEncoder(_Fused):
    def forward(
        self, sample: torch.Tensor, temb: None = None, conv_cache: Tails | None = None
    ) -> tuple[torch.Tensor, Tails]:
        tails, kept = conv_cache or {}, {}  # type: tuple[Tails, Tails]
        x = self._convolved(self.conv_in, sample, tails, kept)
        for down in self.down_blocks:
            for block in down.resnets:
                x = self._residual(block, x, None, tails, kept)
            for sampler in down.downsamplers or ():
                x = _halved(sampler, x)
        for block in self.mid_block.resnets:
            x = self._residual(block, x, None, tails, kept)
        bias = self.conv_out.conv.bias
        return self._normed(self.conv_out, self.norm_out, x, None, tails, kept, bias=bias), kept


class FusedDecoder(_Fused):
    def forward(
        self, sample: torch.Tensor, temb: None = None, conv_cache: Tails | None = None
    ) -> tuple[torch.Tensor, Tails]:
        tails, kept = conv_cache or {}, {}  # type: tuple[Tails, Tails]
        x = self._convolved(self.conv_in, sample, tails, kept)
        for block in self.mid_block.resnets:
            x = self._residual(block, x, sample, tails, kept)
        for up in self.up_blocks:
            for block in up.resnets:
                x = self._residual(block, x, sample, tails, kept)
            for sampler in up.upsamplers or ():
                x = _doubled(sampler, x)
        bias = self.conv_out.conv.bias
        return self._normed(self.conv_out, self.norm_out, x, sample, tails, kept, bias=bias), kept


def _frame_by_frame(layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A layer for pictures, run on every frame of [B, C, T, H, W]; no copy where channels are last in memory."""
    clips, channels, _, height, width = x.shape
    flat = x.transpose(1, 2).flatten(0, 1)
    # What comes out may be four times as large.
    made = [layer(part) for part in flat.split(max(1, MOST_BYTES // (8 * channels * height * width)))]
    whole = made[0] if len(made) == 1 else torch.cat(made)
    return whole.unflatten(0, (clips, -1)).transpose(1, 2)


def _halved(sampler: Any, x: torch.Tensor) -> torch.Tensor:
    """Half the size and, where the layer says so, half the frames: means of two, the first of an odd number alone."""
    if sampler.compress_time:
        odd = x.shape[2] % 2
        pairs = (x[:, :, odd::2] + x[:, :, odd + 1 :: 2]) / 2
        x = torch.cat([x[:, :, :1], pairs], dim=2) if odd else pairs
    return _frame_by_frame(lambda flat: sampler.conv(F.pad(flat, (0, 1, 0, 1))), x)


def _doubled(sampler: FirstAwareUpsample, x: torch.Tensor) -> torch.Tensor:
    """Twice the size and, where the layer says so and the chunk is not a video's first, twice the frames."""
    if sampler.compress_time and not sampler.first:
        x = x.repeat_interleave(2, dim=2)
    return _frame_by_frame(lambda flat: sampler.conv(F.interpolate(flat, scale_factor=2.0)), x)
