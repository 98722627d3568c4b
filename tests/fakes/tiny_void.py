"""A VOID of a few thousand weights: the released architecture in miniature, the same numbers on every machine.

What comes in: seeds. What goes out: configurations, weights, clips. Weights come from NumPy's PCG64, whose stream is
fixed, since the numbers that torch initialises layers with may change between its versions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from void_server.bench.engines.void_models import SCHEDULER

# Two threads wait for each other on layers this small: a pass takes 0.3 s with one, and 9 s with two on a busy machine.
torch.set_num_threads(1)

LATENT_CHANNELS = 4
TEXT_TOKENS, TEXT_CHANNELS = 7, 16
SIZE = (32, 48)
TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 3 * LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "time_embed_dim": 8,
    "text_embed_dim": TEXT_CHANNELS,
    "num_layers": 2,
    "sample_width": 680,
    "sample_height": 384,
    "sample_frames": 85,
    "patch_size": 2,
    "patch_size_t": 2,
    "max_text_seq_length": TEXT_TOKENS,
    "spatial_interpolation_scale": 1.875,
    "temporal_interpolation_scale": 1.0,
    "use_rotary_positional_embeddings": True,
    "patch_bias": False,
}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "latent_channels": LATENT_CHANNELS,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "sample_height": 96,
    "sample_width": 160,
    "scaling_factor": 0.7,
}


def fill(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give every weight a number from PCG64, in the order of their names."""
    numbers = np.random.Generator(np.random.PCG64(seed))
    with torch.no_grad():
        for name, weight in sorted(model.state_dict().items()):
            drawn = torch.from_numpy(numbers.standard_normal(tuple(weight.shape)).astype(np.float32))
            is_scale = weight.ndim == 1 and name.endswith("weight")
            fan_in = max(1, weight[0].numel()) if weight.ndim > 1 else 1
            weight.copy_(1 + 0.1 * drawn if is_scale else drawn / fan_in**0.5 if weight.ndim > 1 else 0.1 * drawn)
    return model.eval()


def array(shape: tuple[int, ...], seed: int, uniform: bool = False) -> torch.Tensor:
    numbers = np.random.Generator(np.random.PCG64(seed))
    drawn = numbers.random(shape) if uniform else numbers.standard_normal(shape)
    return torch.from_numpy(drawn.astype(np.float32))


def clip(frames: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """(video [1, 3, F, H, W] in [0, 1], mask_video [1, 1, F, H, W]): a box that moves over a pattern, with a shadow."""
    height, width = SIZE
    video = 0.5 + 0.4 * torch.sin(array((1, 3, frames, height // 4, width // 4), seed))
    video = video.repeat_interleave(4, -1).repeat_interleave(4, -2).clamp(0, 1)
    mask = torch.zeros(1, 1, frames, height, width)
    for index in range(frames):
        left = 4 + index % (width - 24)
        if index:
            mask[..., index, 20:28, left : left + 16] = 127 / 255
        mask[..., index, 8:20, left : left + 10] = 1.0
        mask[..., index, 18:20, left : left + 10] = 192 / 255
    return video, mask


def embeds(seed: int) -> torch.Tensor:
    return array((1, TEXT_TOKENS, TEXT_CHANNELS), seed)


BASE = "CogVideoX-Fun-V1.5-5b-InP"
TOKENS = 16


def text_encoder() -> Any:
    from transformers import T5Config, T5EncoderModel

    return fill(
        T5EncoderModel(
            T5Config(
                vocab_size=200,
                d_model=TEXT_CHANNELS,
                d_kv=8,
                d_ff=16,
                num_layers=1,
                num_heads=2,
                feed_forward_proj="gated-gelu",
            )
        ),
        13,
    )


def write_tokenizer(folder: Path) -> None:
    """A spiece.model, as the base model has it, and nothing that would spare reading it."""
    import io

    import sentencepiece

    words = [f"a table with a cup on it number {i} of the scene after removal" for i in range(200)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=model,
        vocab_size=50,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 100}')
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "added_tokens.json").write_text("{}")


def write_weights(folder: Path, refine: bool = False, encoder: bool = True) -> Path:
    """A folder of weights laid out like the real one, the text encoder in two shards."""
    from diffusers import CogVideoXTransformer3DModel
    from safetensors.torch import save_file

    from void_server.engine.void import VoidVae

    base = folder / BASE
    fill(VoidVae(**VAE), 12).save_pretrained(base / "vae")
    config = TRANSFORMER | {"in_channels": 9, "add_noise_in_inpaint_model": True, "max_text_seq_length": TOKENS}
    (base / "transformer").mkdir()
    (base / "transformer" / "config.json").write_text(
        json.dumps({"_class_name": "CogVideoXTransformer3DModel", **config})
    )
    (base / "scheduler").mkdir()
    scheduler = {"_class_name": "CogVideoXDDIMScheduler", **SCHEDULER, "snr_shift_scale": 1.0}
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    for seed, stem in [(11, "void_pass1"), (14, "void_pass2")][: 1 + refine]:
        model = fill(CogVideoXTransformer3DModel(**TRANSFORMER), seed)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / f"{stem}.safetensors")
    if encoder:
        text_encoder().save_pretrained(base / "text_encoder", max_shard_size="8KB")
        write_tokenizer(base / "tokenizer")
    return folder
