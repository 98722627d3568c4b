"""VOID at full size with random weights, ours and the release's: they take the time and memory of the real ones.

What comes in: a size, a device, perhaps a checkout of the release. What goes out: models, or a folder of weights laid
out like the real one. It measures nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch

from void_server.engine.void.model import weights
from void_server.wire.errors import SettingsError

TRANSFORMER: dict[str, Any] = {
    "num_layers": 42,
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "in_channels": 48,
    "out_channels": 16,
    "time_embed_dim": 512,
    "text_embed_dim": 4096,
    "max_text_seq_length": 226,
    "sample_width": 680,
    "sample_height": 384,
    "sample_frames": 85,
    "patch_size": 2,
    "patch_size_t": 2,
    "patch_bias": False,
    "spatial_interpolation_scale": 1.875,
    "temporal_interpolation_scale": 1.0,
    "use_rotary_positional_embeddings": True,
}
"""The base model's transformer/config.json, with VOID's 48 channels (released: cogvideox_transformer3d.py:700)."""
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 256, 512),
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "latent_channels": 16,
    "layers_per_block": 3,
    "norm_num_groups": 32,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 0.7,
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
"""The base model's scheduler_config.json, without `snr_shift_scale` 1.0, which CogVideoXDDIMScheduler alone knows."""


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured: models, and the clip they work on."""

    transformer: dict[str, Any] = dataclasses.field(default_factory=lambda: TRANSFORMER)
    vae: dict[str, Any] = dataclasses.field(default_factory=lambda: VAE)
    frames: int = 85
    height: int = 384
    width: int = 672
    steps: int = 30

    @property
    def latents(self) -> tuple[int, int, int]:
        """(frames, height, width) of the clip's latents."""
        return (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8


@torch.no_grad()  # type: ignore[untyped-decorator]
def random_transformer(size: Size, device: torch.device) -> Any:
    """bfloat16. Weights are scaled so that every layer counts; diffusers' own start would leave most out."""
    from diffusers import CogVideoXTransformer3DModel

    model = _built(CogVideoXTransformer3DModel, size.transformer, device)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 or name.endswith("bias"):
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5 if weight.ndim == 2 else 0.02)
    return model


def random_vae(size: Size, device: torch.device) -> Any:
    """bfloat16, arranged as released."""
    from void_server.engine.void import VoidVae

    return _built(VoidVae, size.vae, device)


def _built(model: Any, config: dict[str, Any], device: torch.device) -> Any:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return model(**config).eval()
    finally:
        torch.set_default_dtype(before)


@dataclasses.dataclass(frozen=True)
class Released:
    """The release's own classes."""

    transformer: Any
    vae: Any
    pipeline: Any


def released(checkout: Path) -> Released:
    """From a checkout of Netflix/void-model; it needs `einops`. Raises SettingsError."""
    if not (checkout / "videox_fun" / "models").is_dir():
        raise SettingsError(f"{checkout} is no checkout of Netflix/void-model.", "Clone it, and give its folder.")
    sys.path.insert(0, str(checkout))
    # The released package imports its data loaders, which need much that its models do not.
    for name in ("videox_fun", "videox_fun.models", "videox_fun.pipeline"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout.joinpath(*name.split(".")))]
        sys.modules[name] = package
    from transformers import T5EncoderModel, T5Tokenizer

    models: Any = sys.modules["videox_fun.models"]
    models.T5EncoderModel, models.T5Tokenizer = T5EncoderModel, T5Tokenizer
    import importlib

    try:
        transformer = importlib.import_module("videox_fun.models.cogvideox_transformer3d").CogVideoXTransformer3DModel
        vae = importlib.import_module("videox_fun.models.cogvideox_vae").AutoencoderKLCogVideoX
        models.CogVideoXTransformer3DModel, models.AutoencoderKLCogVideoX = transformer, vae
        place = "videox_fun.pipeline.pipeline_cogvideox_fun_inpaint"
        return Released(transformer, vae, importlib.import_module(place).CogVideoXFunInpaintPipeline)
    except ImportError as error:
        raise SettingsError(f"The released code can't be loaded: {error}.", "pip install einops.") from error


def released_models(found: Released, size: Size, transformer: Any, vae: Any) -> tuple[Any, Any]:
    """The release's transformer and autoencoder on the same weights; the transformer's share their memory."""
    device = next(vae.parameters()).device
    with torch.device("meta"):
        theirs = found.transformer(**size.transformer, add_noise_in_inpaint_model=True).eval()
    theirs.load_state_dict(transformer.state_dict(), strict=True, assign=True)
    for name, buffer in transformer.named_buffers():
        parent, _, leaf = name.rpartition(".")
        theirs.get_submodule(parent)._buffers[leaf] = buffer
    their_vae = _built(found.vae, size.vae, device)
    their_vae.load_state_dict(vae.state_dict())
    return theirs, their_vae


def write_weights(folder: Path, size: Size, device: torch.device) -> None:
    """A folder of random weights, and embeddings of its two prompts in the user's cache: no text encoder is needed."""
    from safetensors.torch import save_file

    from void_server.engine.void.passes.prompts import PromptBook

    base = folder / weights.BASE_FOLDER
    random_vae(size, device).save_pretrained(base / "vae")
    state = random_transformer(size, device).state_dict()
    save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, folder / "void_pass1.safetensors")
    if not (folder / "void_pass2.safetensors").exists():
        os.link(folder / "void_pass1.safetensors", folder / "void_pass2.safetensors")
    config = {"_class_name": "CogVideoXTransformer3DModel", **size.transformer, "add_noise_in_inpaint_model": True}
    scheduler = {"_class_name": "CogVideoXDDIMScheduler", **SCHEDULER, "snr_shift_scale": 1.0}
    for name, content in (("transformer/config.json", config), ("scheduler/scheduler_config.json", scheduler)):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(json.dumps(content))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    tokens, channels = size.transformer["max_text_seq_length"], size.transformer["text_embed_dim"]
    book = PromptBook(folder, tokens, dtype)
    for text in ("", "a table"):
        book.keep(text, torch.randn(1, tokens, channels).to(dtype))
