"""From a folder of weights to a pipeline on the host, ready for a memory tier.

What comes in: the folder, the pass, the number format. What goes out: a `VoidPipeline` without text encoder. It knows
nothing of shots and cards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel, DDIMScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file

from void_server.engine.void.model import float8, fused, weights
from void_server.engine.void.model.vae import VoidVae
from void_server.engine.void.passes.pipeline import VoidPipeline
from void_server.wire.errors import WeightsError


def load_pipeline(
    folder: Path,
    *,
    refine: bool,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
    fused_for: torch.device | None = None,
    float8_on: torch.device | None = None,
) -> VoidPipeline:
    """Pass 1, or with `refine` pass 2. Raises WeightsError that names the file at fault.

    fused_for: the device that the autoencoder is arranged for; None leaves it as released. float8_on: the device on
    which the transformer's weights are rounded to 8 bits, layer by layer; None leaves them. Both stay on the host.
    """
    base = weights.base_folder(folder)
    try:
        vae = _load_vae(folder, base, vae_dtype)
        transformer = load_transformer(
            folder, "void_pass2" if refine else "void_pass1", 3 * vae.config.latent_channels, dtype
        )
        # Pass 1 was released with the one class and pass 2 with the other; with snr_shift_scale 1 they differ by
        # rounding (released: predict_v2v.py:131-143, inference_with_pass1_warped_noise.py:322).
        scheduler = (CogVideoXDDIMScheduler if refine else DDIMScheduler).from_pretrained(
            base / "scheduler", local_files_only=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(f"VOID can't be loaded from {folder}: {error}", weights.FETCH_HINT) from error
    if fused_for is None:
        vae.pad_as_released()
    else:
        fused.fuse(vae, channels_last=fused_for.type == "cuda")
    if float8_on is not None:
        float8.convert(transformer, float8_on)
    pipe = VoidPipeline(vae=vae, transformer=transformer, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _load_vae(folder: Path, base: Path, dtype: torch.dtype) -> VoidVae:
    weights.verify(
        folder, sorted((base / "vae").glob("*.safetensors")) or [base / "vae" / "diffusion_pytorch_model.safetensors"]
    )
    vae: VoidVae = VoidVae.from_pretrained(base / "vae", torch_dtype=dtype, use_safetensors=True, local_files_only=True)
    vae.eval()
    return vae


def transformer_config(base: Path) -> dict[str, Any]:
    """The base transformer's configuration. The stock class does not know `add_noise_in_inpaint_model`: that noise is
    the pipeline's business."""
    config: dict[str, Any] = json.loads((base / "transformer" / "config.json").read_text())
    config.pop("add_noise_in_inpaint_model", None)
    return config


def load_transformer(folder: Path, stem: str, channels: int, dtype: torch.dtype) -> CogVideoXTransformer3DModel:
    """The stock transformer with VOID's tensors, all of them: the base model's own are neither needed nor read.

    channels: what goes in; 48 in the release, whose configuration says 33 (released: models/cogvideox_transformer3d.py:
    700-702). Takes one file, or shards with an index as diffusers and transformers write them.
    """
    config = transformer_config(weights.base_folder(folder)) | {"in_channels": channels}
    with init_empty_weights():
        model = CogVideoXTransformer3DModel.from_config(config)
    whole, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if index.is_file() and not whole.is_file():
        shards = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    else:
        shards = [whole]
    weights.verify(folder, shards)
    state: dict[str, torch.Tensor] = {}
    for shard in shards:
        state.update(load_file(shard))
    try:
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise WeightsError(
            f"Weight file {shards[0]} does not hold VOID's transformer: {lines[min(1, len(lines) - 1)]}",
            weights.FETCH_HINT,
        ) from error
    return model.eval()
