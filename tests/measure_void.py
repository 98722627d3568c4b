"""Measure VOID on a card with full-size random weights: seconds and peak memory of every tier, and of the autoencoder.

    python tests/measure_void.py FOLDER [--tiny]

FOLDER gets 11.6 GB of random weights, laid out like the real ones; random weights take the same time and memory. Prints
one JSON object a line. `--tiny` runs the same script with a tiny model on the CPU, to try the script itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fakes import tiny_void as tiny
from tests.fakes.shots import MemoryShot

FULL_TRANSFORMER: dict[str, Any] = tiny.TRANSFORMER | {
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "in_channels": 48,
    "out_channels": 16,
    "time_embed_dim": 512,
    "text_embed_dim": 4096,
    "num_layers": 42,
    "max_text_seq_length": 226,
}
FULL_VAE: dict[str, Any] = tiny.VAE | {
    "block_out_channels": (128, 256, 256, 512),
    "latent_channels": 16,
    "layers_per_block": 3,
    "norm_num_groups": 32,
    "sample_height": 480,
    "sample_width": 720,
}
TIERS = ("full", "model_offload", "float8", "sequential")


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def write_weights(folder: Path, transformer: dict[str, Any], vae: dict[str, Any], device: torch.device) -> None:
    from diffusers import CogVideoXTransformer3DModel
    from safetensors.torch import save_file

    from void_server.engine.void import VoidVae

    base = folder / tiny.BASE
    torch.set_default_dtype(torch.bfloat16)
    with device:
        model = CogVideoXTransformer3DModel(**transformer)
        VoidVae(**vae).save_pretrained(base / "vae")
    torch.set_default_dtype(torch.float32)
    save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / "pass1.part")
    (folder / "pass1.part").replace(folder / "void_pass1.safetensors")
    if not (folder / "void_pass2.safetensors").exists():
        os.link(folder / "void_pass1.safetensors", folder / "void_pass2.safetensors")
    config = {"_class_name": "CogVideoXTransformer3DModel", **transformer, "add_noise_in_inpaint_model": True}
    scheduler = {"_class_name": "CogVideoXDDIMScheduler", **tiny.SCHEDULER, "snr_shift_scale": 1.0}
    for name, content in (("transformer/config.json", config), ("scheduler/scheduler_config.json", scheduler)):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(json.dumps(content))


def know_prompts(folder: Path, transformer: dict[str, Any], dtype: torch.dtype) -> None:
    """Put random embeddings where the engine looks for known prompts: the text encoder is not measured here."""
    from void_server.engine.void.prompts import PromptBook

    book = PromptBook(folder, transformer["max_text_seq_length"], dtype)
    for text in ("", "a table"):
        shape = (1, transformer["max_text_seq_length"], transformer["text_embed_dim"])
        book._write(text, torch.randn(shape).to(dtype))


def a_shot(frames: int, height: int, width: int, **options: Any) -> MemoryShot:
    coarse = np.random.default_rng(0).random((1, height // 8, width // 8, 3)).astype(np.float32)
    plate = np.repeat(coarse, frames, 0).repeat(8, 1).repeat(8, 2)
    matte = np.zeros((frames, height, width), np.float32)
    matte[:, height // 3 : height // 2, width // 3 : width // 2] = 1
    return MemoryShot(plate, matte, options=options)


def measure(device: torch.device, shot: MemoryShot, **about: object) -> None:
    from void_server.engine.void import VoidEngine
    from void_server.wire.report import Report

    steps: dict[str, list[float]] = {}

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["stage"] in ("void", "refine"):
            steps.setdefault(event["stage"], []).append(time.monotonic())

    engine = VoidEngine(str(device))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begun = time.monotonic()
    fills = list(engine.fill(shot, Report(hear)))
    peaks = {}
    if device.type == "cuda":
        for name in ("allocated", "reserved"):
            peaks[f"peak_{name}_gib"] = round(getattr(torch.cuda, f"max_memory_{name}")() / 2**30, 2)
    seconds = {stage: round(float(np.median(np.diff(at))), 3) for stage, at in steps.items() if len(at) > 1}
    say(**about, frames=len(fills), seconds=round(time.monotonic() - begun, 1), seconds_a_step=seconds, **peaks)
    engine._forget()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    chosen = parser.parse_args()
    device = torch.device("cpu" if chosen.tiny else "cuda")
    transformer, vae = (tiny.TRANSFORMER, tiny.VAE) if chosen.tiny else (FULL_TRANSFORMER, FULL_VAE)
    frames, height, width = (21, 48, 64) if chosen.tiny else (85, 384, 672)
    os.environ["XDG_CACHE_HOME"] = str(chosen.folder / "cache")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    write_weights(chosen.folder, transformer, vae, device)
    know_prompts(chosen.folder, transformer, torch.float32 if chosen.tiny else torch.bfloat16)
    say(torch=torch.__version__, device="cpu" if chosen.tiny else torch.cuda.get_device_name())
    options: dict[str, Any] = {"weights": str(chosen.folder), "steps": 3, "window": frames}
    for tier in TIERS:
        for refine in (False, True):
            shot = a_shot(frames, height, width, **options, memory=tier, refine=refine)
            measure(device, shot, tier=tier, refine=refine, size=f"{height}x{width}")


if __name__ == "__main__":
    main()
