"""Answers of a network that knows the truth, or its opposite. Needs the extra [training]."""

from __future__ import annotations

from typing import Any

import torch

from training import clips, losses


def answers(example: clips.Example, sure: float) -> tuple[Any, ...]:
    """Logits that say the truth so surely, or its opposite where `sure` is negative."""
    truths = (
        example.appearance,
        torch.nn.functional.max_pool2d(example.physics, 2),
        losses.cell_labels(example),
    )
    appearance, physics, cells = ((2 * truth - 1) * sure for truth in truths)
    return appearance, example.attenuation * (sure / 10), physics, cells
