"""How wrong the network's answers are. What comes in: its logits and an `Example`. What goes out: one number and its
parts."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor

from training.clips import Example
from training.looks import WINDOW
from training.network import CELL_PX

MISSED, INVENTED = 0.5, 0.5
"""Tversky's weights (Salehi et al., arXiv 1706.05721). Even: with .6 for what was missed regions
came out wide, and what is marked beyond an effect costs true picture."""
FOUND = 1.3
"""Weight of a pixel that holds an effect against one that holds none: most hold none. 2 makes regions wide, too."""
SMALL = 20
"""Clips with fewer pixels of effect than this say nothing of overlap."""


def loss(example: Example, outputs: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
    looks, attenuation, physics, cells = (o.float() for o in outputs)
    at_quarter = F.max_pool2d(example.physics, 2), F.avg_pool2d(example.physics_weight, 2)
    wanted = example.appearance_weight * (example.appearance + 0.03)
    parts = {
        "appearance": _cross(looks, example.appearance, example.appearance_weight),
        "overlap": 0.6 * _tversky(looks, example.appearance, example.appearance_weight),
        "physics": 1.2 * _cross(physics, *at_quarter),
        "physics overlap": 0.8 * _tversky(physics, *at_quarter),
        "attenuation": 0.5 * ((attenuation - example.attenuation).abs() * wanted).sum() / wanted.sum().clamp_min(1),
        "cells": 0.7 * _cross(cells, cell_labels(example), example.valid.expand(-1, 2, -1, -1)),
    }
    return torch.stack(list(parts.values())).sum(), {name: float(part.detach()) for name, part in parts.items()}


def cell_labels(example: Example) -> Tensor:
    """[N, 2, h/24, w/24]: cells that hold any pixel of either kind."""
    both = (example.appearance, example.appearance_weight), (example.physics, example.physics_weight)
    return torch.cat([cells_of(*one) for one in both], 1)


def cells_of(marked: Tensor, weight: Tensor) -> Tensor:
    """[N, 1, h/24, w/24] of marks at half size: cells that hold any where that is known."""
    return F.max_pool2d(marked * weight, CELL_PX // 2, ceil_mode=True)


def _cross(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(
        logits, truth, pos_weight=torch.tensor(FOUND, device=logits.device), reduction="none"
    )
    weight = weight.expand_as(each)
    return (each * weight).sum() / weight.sum().clamp_min(1)


def _tversky(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Over whole clips, so that a frame with little effect does not outvote the others."""
    found = (torch.sigmoid(logits) * weight).reshape(-1, WINDOW * logits[0].numel())
    true = (truth * weight).reshape(found.shape)
    both = (found * true).sum(1)
    missed, invented = (true * (1 - found)).sum(1), (found * (1 - true)).sum(1)
    counts = (true.sum(1) > SMALL).float()
    index = (both + 10) / (both + MISSED * missed + INVENTED * invented + 10)
    return ((1 - index) * counts).sum() / counts.sum().clamp_min(1)
