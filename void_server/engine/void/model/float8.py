"""Linear layers in 8 bits: weights and what they are multiplied with, each row by a scale of its own.

What comes in: a transformer in bfloat16. What goes out: the same, its large linear layers `Float8Linear`. It knows
nothing of shots and tiers.

Unlike the memory tier of this name, which stores in 8 bits and computes in 16, the products themselves are 8 bit here:
twice as fast on cards that have them (Ada, Hopper and later), half the memory, and less exact.
"""

from __future__ import annotations

import torch

LARGEST = 448.0
"""The largest number of float8 e4m3 (OCP 8-bit Floating Point Specification 1.0)."""
LEAST_FEATURES = 1024
"""Smaller layers, such as those of the timestep, cost nothing and steer everything: they stay as they are."""


def supported(device: torch.device) -> bool:
    """Whether the device multiplies in 8 bits with a scale for every row."""
    return device.type != "cuda" or bool(torch.cuda.get_device_capability(device) >= (8, 9))


def convert(transformer: torch.nn.Module, device: torch.device, least_features: int = LEAST_FEATURES) -> int:
    """Replace the large linear layers of every block in place; returns how many. device: where rounding is done."""
    count = 0
    for block in transformer.transformer_blocks:
        for part in (block.attn1, block.ff):
            for name, module in list(part.named_modules()):
                if isinstance(module, torch.nn.Linear) and module.in_features >= least_features:
                    parent, _, leaf = name.rpartition(".")
                    setattr(part.get_submodule(parent), leaf, Float8Linear(module, device))
                    count += 1
    return count


class Float8Linear(torch.nn.Module):  # type: ignore[misc]
    """x W^T + b with both factors rounded to e4m3, a scale for every row of x and of W."""

    def __init__(self, linear: torch.nn.Linear, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        home = linear.weight.device
        quantised, scale = (part.to(home) for part in _rows(linear.weight.detach().to(device)))
        self.weight = torch.nn.Parameter(quantised, requires_grad=False)
        self.scale = torch.nn.Parameter(scale, requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, scale = _rows(x.reshape(-1, x.shape[-1]))
        if x.is_cuda:
            made = torch._scaled_mm(
                rows,
                self.weight.t(),
                scale_a=scale,
                scale_b=self.scale.t(),
                bias=self.bias,
                out_dtype=x.dtype,
                use_fast_accum=True,
            )
        else:
            made = torch.nn.functional.linear(rows.float() * scale, self.weight.float() * self.scale).to(x.dtype)
            made = made if self.bias is None else made + self.bias
        return made.unflatten(0, x.shape[:-1])


def _rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(e4m3 [n, m], float32 [n, 1]): every row by its own largest value."""
    wide = x.float()
    scale = wide.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (wide / scale).to(torch.float8_e4m3fn), scale
