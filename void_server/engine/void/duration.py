"""How long a shot will take, told before it runs: the model's operations over what the card was just seen to do.

What comes in: the transformer's configuration, the shot's lengths, a speed. What goes out: seconds, and words for them.
It loads no model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

PROBE = 8192
"""Side of the matrices multiplied to see what a card does: large enough to fill it, over in milliseconds."""
STEP_SHARE = 0.62
AUTOENCODER_SHARE = 0.45
"""Of that speed, what steps and autoencoder reach (H200: 788 TFLOP/s, a step of 173.7 TFLOP in 0.35 s)."""
ENCODE, DECODE = 2.26e12, 4.74e12
"""Operations of the autoencoder's convolutions for every frame of 384x672 pixels, counted layer by layer."""
COPIED_BYTES_S = 20e9
"""At what rate blocks reach a card that has no room for them: a PCIe 4.0 slot's, less its overhead."""


def card_speed(device: torch.device) -> float:
    """Operations a second of a large 16-bit matrix product, right now."""
    left = torch.randn(PROBE, PROBE, device=device, dtype=torch.bfloat16)
    right = torch.randn_like(left)
    left @ right
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    for _ in range(3):
        left @ right
    torch.cuda.synchronize(device)
    return 3 * 2 * PROBE**3 / (time.perf_counter() - begun)


def step_operations(config: Mapping[str, Any], latents: int, size: tuple[int, int]) -> float:
    """Of one call of the transformer: its linear layers by tokens, its attention by their square."""
    inner = config["num_attention_heads"] * config["attention_head_dim"]
    tokens = config["max_text_seq_length"] + latents // 2 * (size[0] // 16) * (size[1] // 16)
    linear = 2 * 12 * inner**2 * tokens
    attention = 4 * inner * tokens**2
    return float(config["num_layers"] * (linear + attention))


def seconds(
    config: Mapping[str, Any],
    windows: Sequence[int],
    frames: int,
    size: tuple[int, int],
    steps: int,
    speed: float,
    *,
    guided: bool = False,
    streamed: bool = False,
) -> float:
    """Of one pass. windows: latents of each. guided: two calls a step. streamed: blocks are copied in every call."""
    pictures = frames * size[0] * size[1] / (384 * 672)
    autoencoder = (2 * ENCODE + DECODE) * pictures / (AUTOENCODER_SHARE * speed)
    one_step = 0.0
    for latents in windows:
        computed = (1 + guided) * step_operations(config, latents, size) / (STEP_SHARE * speed)
        weights = 2 * 12 * (config["num_attention_heads"] * config["attention_head_dim"]) ** 2 * config["num_layers"]
        one_step += max(computed, weights / COPIED_BYTES_S if streamed else 0.0)
    return autoencoder + steps * one_step


def spoken(length_s: float) -> str:
    """
    >>> spoken(7.2), spoken(48), spoken(250), spoken(7900)
    ('about 10 s', 'about 50 s', 'about 4 min', 'about 2.2 h')
    """
    if length_s < 60:
        return f"about {max(10, round(length_s / 10) * 10)} s"
    return f"about {length_s / 60:.0f} min" if length_s < 3600 else f"about {length_s / 3600:.1f} h"
