"""How the model is spread over card and host: four tiers, chosen from what the card has free, and stepped down.

What comes in: free bytes, or a name. What goes out: a tier, and a pipeline set up for it. It knows nothing of shots.

    tier           weights on the card     storage    autoencoder
    full           all, all the time       bfloat16   whole pictures, float32
    model_offload  the model in use        bfloat16   whole pictures, bfloat16 (as released)
    float8         the model in use        float8     tiles, bfloat16
    sequential     the layer in use        bfloat16   tiles, bfloat16

float8 is real: linear weights are stored as e4m3 and widened layer by layer. The release's "qfloat8" is not: it loads
as float8, widens to bfloat16 and overwrites every tensor (released: predict_v2v.py:46-88, trap 7).
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from void_server.wire.errors import EngineError, GpuMemoryError, SettingsError

if TYPE_CHECKING:
    from void_server.engine.void.pipeline import VoidPipeline

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Tier:
    """name: as the setting `memory` takes it. resident_bytes, picture_bytes: what 85 frames need on the card, whatever
    their size, and for every 384x672 pixels of it."""

    name: str
    resident_bytes: int
    picture_bytes: int
    why: str

    def needs(self, pixels: int) -> int:
        return self.resident_bytes + round(self.picture_bytes * pixels / RELEASED_PIXELS)


RELEASED_PIXELS = 384 * 672
TIERS = (
    Tier("full", 12 * GIB, 24 * GIB, "all weights stay on the card"),
    Tier("model_offload", 2 * GIB, 12 * GIB, "each model visits the card while it works"),
    Tier("float8", 7 * GIB, 2 * GIB, "weights are stored as float8 and the autoencoder works in tiles"),
    Tier("sequential", 0, 0, "one layer at a time visits the card: slow"),
)
"""Measured peaks on an H100, 85 frames at 384x672, full-size weights, nothing else on the card: 32.9, 11.7, 7.3 and
3.8 GiB; pass 2's guidance takes .9 more in the middle two. The rest is room for the allocator. The autoencoder on whole
pictures sets the first two (22.8 GiB in float32, 11.4 in bfloat16), stored weights the third."""
NAMES = tuple(tier.name for tier in TIERS)


def named(name: str) -> Tier:
    """A tier by its name. Raises SettingsError."""
    for tier in TIERS:
        if tier.name == name:
            return tier
    raise SettingsError(f"memory='{name}' is unknown.", f"Use auto or one of: {', '.join(NAMES)}.")


def choose(asked: str, device: torch.device, pixels: int = RELEASED_PIXELS) -> tuple[Tier, str]:
    """The tier for this device and why, for the log. asked: "auto" or a name. pixels: of one picture of the shot."""
    if asked != "auto":
        return named(asked), "asked for"
    if device.type != "cuda":
        return TIERS[0], "no card to save memory on"
    free = torch.cuda.mem_get_info(device)[0]
    fitting = next((tier for tier in TIERS if tier.needs(pixels) <= free), TIERS[-1])
    return fitting, f"{free / GIB:.1f} GiB free on {torch.cuda.get_device_name(device)}"


def lower(tier: Tier) -> Tier | None:
    """The next tier that needs less, or None."""
    index = TIERS.index(tier) + 1
    return TIERS[index] if index < len(TIERS) else None


def apply(pipe: VoidPipeline, tier: Tier, device: torch.device) -> None:
    """Set a freshly loaded pipeline, still on the host, up for a tier. On the CPU only storage and tiling matter."""
    if tier.name in ("float8", "sequential"):
        pipe.vae.enable_tiling()
    if tier.name == "float8":
        pipe.transformer.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=pipe.transformer.dtype
        )
    if device.type == "cpu":
        return
    if tier.name == "full":
        pipe.to(device)
    elif tier.name == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.enable_model_cpu_offload(device=device)


def free(device: torch.device) -> None:
    """Give back what is no longer referred to."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def translated(tier: Tier, device: torch.device) -> Iterator[None]:
    """Torch's failures as ours: out of memory explains itself, everything else names the device."""
    try:
        yield
    except RuntimeError as error:
        # cuBLAS and cuDNN report a full card in their own words, not as torch.OutOfMemoryError.
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "ALLOC_FAILED" in str(error):
            below = lower(tier)
            advice = f"memory={below.name}" if below else "a smaller size, as size=256x448, or a larger card"
            raise GpuMemoryError(
                f"{device} ran out of memory with memory={tier.name} ({tier.why}).", f"Use {advice}."
            ) from error
        raise EngineError(
            f"VOID failed on {device}: {str(error).splitlines()[0]}", "The job's log holds the traceback."
        ) from error
