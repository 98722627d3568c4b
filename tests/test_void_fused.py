"""The autoencoder arranged for a card gives what diffusers' arrangement gives. On the CPU, kernels interpreted."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from tests.fakes import tiny_void as tiny  # noqa: E402
from void_server.engine.void import VoidVae  # noqa: E402
from void_server.engine.void.model import fused  # noqa: E402


def pair(channels_last):
    stock, ours = (tiny.fill(VoidVae(**tiny.VAE), 12) for _ in range(2))
    fused.fuse(ours, channels_last)
    return stock, ours


@pytest.mark.parametrize("channels_last", [False, True])
def test_encoding_is_the_same_over_all_chunks(channels_last):
    stock, ours = pair(channels_last)
    video = tiny.array((2, 3, 29, 32, 48), 5)
    with torch.no_grad():
        expected, got = (vae.encode(video).latent_dist.mode() for vae in (stock, ours))
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("latents", [1, 2, 3, 8])
def test_decoding_is_the_same_over_all_chunks(channels_last, latents):
    stock, ours = pair(channels_last)
    z = tiny.array((1, tiny.LATENT_CHANNELS, latents, 4, 6), 5)
    with torch.no_grad():
        expected, got = (vae.decode(z).sample for vae in (stock, ours))
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-4)


def test_tiles_go_through_the_same_layers():
    stock, ours = pair(True)
    z, video = tiny.array((1, tiny.LATENT_CHANNELS, 6, 12, 20), 5), tiny.array((1, 3, 13, 96, 160), 6)
    with torch.no_grad():
        for vae in (stock, ours):
            vae.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=96)
        assert torch.allclose(ours.decode(z).sample, stock.decode(z).sample, atol=1e-4)
        assert torch.allclose(ours.encode(video).latent_dist.mode(), stock.encode(video).latent_dist.mode(), atol=2e-5)


def test_weights_keep_their_names():
    stock, ours = pair(False)
    assert stock.state_dict().keys() == ours.state_dict().keys()


KERNELS = """
import json, sys, torch
torch.manual_seed(0)
last = torch.channels_last_3d
worst = 0.0
for clips, channels, frames, low, added in ((1, 16, 5, None, None), (2, 8, 4, 2, True), (1, 32, 3, 2, True)):
    x = (torch.randn(clips, channels, frames, 24, 40) * 3 + 50).contiguous(memory_format=last)
    norm = torch.nn.GroupNorm(4, channels, eps=1e-6)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    added = added and 5 * torch.randn(channels)
    condition = None
    if low:
        condition = [torch.randn(clips, channels, low, 6, 10).contiguous(memory_format=last) for _ in range(2)]
    expected, got = (torch.full((clips, channels, frames + 2, 24, 40), 7.0, dtype=t) for t in (torch.float64, None))
    expected, got = (part.contiguous(memory_format=last) for part in (expected, got))
    with torch.no_grad():
        normalisation.on_card(x, added, norm, got[:, :, 2:], condition)
        exact = condition and [part.double() for part in condition]
        wide = None if added is None else added.double()
        normalisation.norm_silu(x.double(), wide, norm.double(), expected[:, :, 2:], exact)
    worst = max(worst, (expected - got).abs().max().item())
    if added is not None:
        other = torch.randn_like(x)
        sum_of_all = x + other + added[:, None, None, None]
        norm_kernels.add(x, other, added)
        worst = max(worst, (x - sum_of_all).abs().max().item())
print(json.dumps(worst))
"""


FOR_A_CARD = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
def build(kernel, pointers, numbers, fixed):
    signature = {**pointers, **dict.fromkeys(numbers, "i32"), **dict.fromkeys(fixed, "constexpr")}
    if "eps" in kernel.arg_names:
        signature["eps"] = "fp32"
    signature = {name: signature[name] for name in kernel.arg_names}
    triton.compile(ASTSource(fn=kernel, signature=signature, constexprs=fixed), target=GPUTarget("cuda", 90, 32))
for kind in ("*fp16", "*bf16", "*fp32"):
    found = {"x": kind, "mean": "*fp32", "squares": "*fp32"}
    build(norm_kernels._moments, found, ["length"], {"ROWS": 32, "REPEATS": 16, "CHANNELS": 128})
    found = dict.fromkeys(["added", "weight", "bias"], kind)
    found |= dict.fromkeys(["mean", "squares", "scale", "offset"], "*fp32")
    for added in (True, False):
        fixed = {"CHANNELS": 128, "GROUP": 4, "PIECE": 512, "HAS_ADDED": added, "MERGED": 256}
        build(norm_kernels._merge, found, ["length", "pieces"], fixed)
    found = dict.fromkeys(["x", "out", "gain", "bias"], kind) | {"scale": "*fp32", "offset": "*fp32", "source": "*i32"}
    numbers = ["frames", "out_clip", "low_frames", "height", "width", "shrink"]
    for conditioned in (True, False):
        build(norm_kernels._apply, found, numbers, {"CONDITIONED": conditioned, "ROWS": 16, "CHANNELS": 128})
    build(norm_kernels._add, dict.fromkeys(["x", "other", "added"], kind), ["length"], {"ROWS": 32, "CHANNELS": 128})
"""
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs Triton, which comes with torch for CUDA"
)


@needs_triton
def test_the_kernels_can_be_built_for_a_card_without_one(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", FOR_A_CARD], capture_output=True, text=True, env=environment, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr


@needs_triton
def test_the_kernels_compute_what_torch_does_far_from_zero_and_write_nowhere_else():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], capture_output=True, text=True, env=environment, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) < 3e-5


def test_a_picture_too_large_for_one_convolution_goes_through_in_parts(monkeypatch):
    stock, ours = pair(True)
    video, z = tiny.array((1, 3, 29, 32, 48), 5), tiny.array((1, tiny.LATENT_CHANNELS, 5, 4, 6), 5)
    monkeypatch.setattr(fused, "MOST_BYTES", 150_000)
    with torch.no_grad():
        assert torch.allclose(ours.encode(video).latent_dist.mode(), stock.encode(video).latent_dist.mode(), atol=1e-5)
        assert torch.allclose(ours.decode(z).sample, stock.decode(z).sample, atol=1e-4)
