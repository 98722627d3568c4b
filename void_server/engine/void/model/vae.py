"""The CogVideoX video autoencoder as VOID uses it: 22 latents decode to exactly 85 frames.

What comes in: latents [B, 16, F, h, w] or frames [B, 3, T, H, W]. What goes out: the other. It knows nothing of masks.

diffusers decodes latents two at a time from the front, so an even count gives 4 frames for the first latent too: 88
for 22, with everything shifted by 3. VOID's autoencoder decodes the first latent alone to one frame, then pairs, and a
last single latent to 4 frames like any other (released: videox_fun/models/cogvideox_vae.py:1366-1389, 252-259).
Encoding is the same in both.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.upsampling import CogVideoXUpsample3D
from diffusers.utils.accelerate_utils import apply_forward_hook

# diffusers asks the module of a component for its base class when it loads a saved pipeline.
__all__ = ["ModelMixin", "VoidVae"]


class FirstAwareUpsample(CogVideoXUpsample3D):  # type: ignore[misc]
    """Doubles time for every chunk but the first of a video, where the stock layer goes by the chunk's length."""

    first = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not self.compress_time or self.first:
            return super().forward(inputs)
        doubled = F.interpolate(inputs, scale_factor=2.0)
        batch = doubled.shape[0]
        flat = self.conv(doubled.transpose(1, 2).flatten(0, 1))
        return flat.unflatten(0, (batch, -1)).transpose(1, 2)


class ReleasedCausalConv(CogVideoXCausalConv3d):  # type: ignore[misc]
    """Pads its pictures before the convolution, as released (videox_fun/models/cogvideox_vae.py:142-146), where
    diffusers has the convolution pad. The same sums, but a card runs them in another order."""

    def forward(
        self, inputs: torch.Tensor, conv_cache: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        inputs = self.fake_context_parallel_forward(inputs, conv_cache)
        kept = inputs[:, :, -self.time_kernel_size + 1 :].clone()
        padded = F.pad(inputs, (self.width_pad, self.width_pad, self.height_pad, self.height_pad))
        return self.conv(padded), kept


class VoidVae(AutoencoderKLCogVideoX):  # type: ignore[misc]
    """`AutoencoderKLCogVideoX` with VOID's decoding. Loads the same configuration and weights.

    Decodes in chunks, so memory does not grow with the length of the shot beyond the frames themselves.
    """

    # diffusers reads the configuration's names off this signature, so it must be the parent's.
    @functools.wraps(AutoencoderKLCogVideoX.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        self._upsamplers: list[FirstAwareUpsample] = []
        for block in self.decoder.up_blocks:
            if block.upsamplers is None:
                continue
            for index, stock in enumerate(block.upsamplers):
                conv = stock.conv
                layer = FirstAwareUpsample(
                    conv.in_channels, conv.out_channels, padding=conv.padding[0], compress_time=stock.compress_time
                )
                block.upsamplers[index] = layer
                self._upsamplers.append(layer)

    def pad_as_released(self) -> None:
        """Have every convolution give the release's own bits on a card too."""
        for module in self.modules():
            if type(module) is CogVideoXCausalConv3d and module.pad_mode != "replicate":
                module.__class__ = ReleasedCausalConv
                module.conv.padding = (0, 0, 0)

    def widen(self) -> None:
        """Go on in bfloat16, whose range is float32's."""
        visit = getattr(self, "_hf_hook", None)
        if visit is not None and hasattr(visit, "leave"):
            visit.leave()
        self.to(torch.bfloat16)

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def decode_chunks(self, z: torch.Tensor) -> Iterator[torch.Tensor]:
        """Frames [B, 3, 1 or 4 or 8, H, W] in order, as soon as they are decoded; tiled where tiling is on."""
        tall, wide = z.shape[-2] > self.tile_latent_min_height, z.shape[-1] > self.tile_latent_min_width
        if self.use_tiling and (tall or wide):
            return iter([self.tiled_decode(z, return_dict=False)[0]])
        return self._chunks(z)

    def _chunks(self, z: torch.Tensor) -> Iterator[torch.Tensor]:
        cache = None
        step = self.num_latent_frames_batch_size
        starts = [0, *range(1, z.shape[2], step), z.shape[2]]
        for begin, end in zip(starts, starts[1:]):
            for layer in self._upsamplers:
                layer.first = begin == 0
            part = z[:, :, begin:end]
            if self.post_quant_conv is not None:
                part = self.post_quant_conv(part)
            frames, cache = self.decoder(part, conv_cache=cache)
            yield frames

    def _decode(self, z: torch.Tensor, return_dict: bool = True) -> Any:
        tall, wide = z.shape[-2] > self.tile_latent_min_height, z.shape[-1] > self.tile_latent_min_width
        if self.use_tiling and (tall or wide):
            return self.tiled_decode(z, return_dict=return_dict)
        frames = torch.cat(list(self._chunks(z)), dim=2)
        return DecoderOutput(sample=frames) if return_dict else (frames,)

    def tiled_decode(self, z: torch.Tensor, return_dict: bool = True) -> Any:
        """Decode in overlapping tiles with linear seams: less memory, nearly the same picture.

        Same tiles and seams as released (videox_fun/models/cogvideox_vae.py:1497-1631) and as diffusers, with VOID's
        chunks in time.
        """
        height, width = z.shape[-2:]
        stride_y = int(self.tile_latent_min_height * (1 - self.tile_overlap_factor_height))
        stride_x = int(self.tile_latent_min_width * (1 - self.tile_overlap_factor_width))
        # Seams follow from the strides, so that tiles of any size meet; at the released sizes they are the same.
        up = 2 ** (len(self.config.block_out_channels) - 1)
        keep_y, keep_x = stride_y * up, stride_x * up
        seam_y, seam_x = self.tile_sample_min_height - keep_y, self.tile_sample_min_width - keep_x
        above: list[torch.Tensor] = []
        rows = []
        for top in range(0, height, stride_y):
            tiles: list[torch.Tensor] = []
            for column, left in enumerate(range(0, width, stride_x)):
                part = z[..., top : top + self.tile_latent_min_height, left : left + self.tile_latent_min_width]
                tile = torch.cat(list(self._chunks(part)), dim=2)
                if above:
                    tile = self.blend_v(above[column], tile, seam_y)
                if tiles:
                    tile = self.blend_h(tiles[-1], tile, seam_x)
                tiles.append(tile)
            above = tiles
            rows.append(torch.cat([tile[..., :keep_y, :keep_x] for tile in tiles], dim=-1))
        frames = torch.cat(rows, dim=-2)
        return DecoderOutput(sample=frames) if return_dict else (frames,)
