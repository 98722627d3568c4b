"""Blur, warp and grow, on batches of pictures in torch. What comes in and goes out: tensors [N, C, h, w]."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Rec.709 weights of red, green and blue."""


def gauss(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, edges repeated: two products with matrices of bands. Quicker on a GPU than a convolution of
    planes, and than adding up shifted copies, which reads and writes the picture once for every tap."""
    down, across = (_bands(n, sigma, x.device) for n in x.shape[-2:])
    return down @ (x @ across.T)


@functools.cache
def _bands(size: int, sigma: float, device: torch.device) -> Tensor:
    """[size, size]: each row the weights with which one blurred pixel is made of all."""
    weights = torch.tensor(kernel(sigma), device=device)
    reach = len(weights) // 2
    near = torch.arange(-reach, reach + 1, device=device)
    read = (torch.arange(size, device=device)[:, None] + near).clamp(0, size - 1)
    return torch.zeros(size, size, device=device).scatter_add_(1, read, weights.expand(size, -1))


def kernel(sigma: float) -> list[float]:
    """Weights of a Gaussian at whole pixels out to three deviations, adding up to 1."""
    reach = max(1, int(3 * sigma + 0.5))
    raw = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)]
    return [w / sum(raw) for w in raw]


class Blur(nn.Module):
    """The same for a fixed number of channels: a convolution on CPUs and in the exported file, where that runs well."""

    def __init__(self, channels: int, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        weights = torch.tensor(kernel(sigma))
        self.channels, self.reach = channels, len(weights) // 2
        self.register_buffer("across", weights.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), persistent=False)
        self.register_buffer("down", weights.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return gauss(x, self.sigma)
        x = F.conv2d(F.pad(x, (self.reach, self.reach, 0, 0), mode="replicate"), self.across, groups=self.channels)
        return F.conv2d(F.pad(x, (0, 0, self.reach, self.reach), mode="replicate"), self.down, groups=self.channels)


def grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(x, y) of pixel centres, each [h, w]."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return x, y


def sample(x: Tensor, u: Tensor, v: Tensor, outside: str = "border") -> Tensor:
    """x [N, C, H, W] at columns u and rows v, each [N, h, w]."""
    height, width = x.shape[-2:]
    at = torch.stack([u / (width - 1) * 2 - 1, v / (height - 1) * 2 - 1], -1).clamp(-4, 4)
    return F.grid_sample(x, at, mode="bilinear", padding_mode=outside, align_corners=True)


def through(
    x: Tensor, place: Tensor, size: tuple[int, int] | None = None, outside: str = "border"
) -> tuple[Tensor, Tensor]:
    """x seen through homographies [N, 3, 3] from result pixels to x's: (picture, 1 where x has such a pixel)."""
    height, width = size or (x.shape[-2], x.shape[-1])
    column, row = grid(height, width, x.device)
    points = place.float() @ torch.stack([column, row, torch.ones_like(row)]).reshape(3, -1)
    u, v = (points[:, :2] / points[:, 2:]).reshape(-1, 2, height, width).unbind(1)
    inside = (u >= 0) & (u <= x.shape[-1] - 1) & (v >= 0) & (v <= x.shape[-2] - 1)
    return sample(x, u, v, outside), inside[:, None].float()


def grown(x: Tensor, pixels: int) -> Tensor:
    """Dilated by a square; negative pixels erode."""
    if pixels < 0:
        return 1 - grown(1 - x, -pixels)
    return F.max_pool2d(x, 2 * pixels + 1, 1, pixels) if pixels else x
