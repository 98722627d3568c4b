"""How the model is spread over card and host: four tiers, chosen from what the card has free, and stepped down.

What comes in: free bytes, or a name. What goes out: a tier, and a pipeline set up for it. It knows nothing of shots.

    tier           weights on the card              storage    autoencoder
    full           all, all the time                bfloat16   whole pictures
    model_offload  the model in use                 bfloat16   whole pictures
    float8         the model in use                 float8     tiles
    sequential     the block in use and the next    bfloat16   tiles

Whatever visits the card is copied there and dropped there again: the host keeps its own copy, so that nothing is ever
copied back. A card's memory that this process has only reserved counts as free: the allocator hands it out again.

float8 is real: linear weights are stored as e4m3 and widened layer by layer. The release's "qfloat8" is not: it loads
as float8, widens to bfloat16 and overwrites every tensor (released: predict_v2v.py:46-88, trap 7).
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module

from void_server.wire.errors import EngineError, GpuMemoryError, SettingsError

if TYPE_CHECKING:
    from void_server.engine.void.passes.pipeline import VoidPipeline

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Tier:
    """name: as the setting `memory` takes it. weights_bytes: of the transformer on the card while it works.
    beside_bytes: of the same while the autoencoder works. decode_bytes: what the autoencoder works in, for every
    384x672 pixels of a picture, or in all where it works in tiles."""

    name: str
    weights_bytes: int
    beside_bytes: int
    decode_bytes: int
    tiles: bool
    why: str

    def needs(self, pixels: int, float8: bool = False) -> int:
        """What 85 frames need. float8: whether the transformer's weights are of 8 bits whatever the tier."""
        pictures = pixels / RELEASED_PIXELS
        saved = FLOAT8_SAVES if float8 and self.name in ("full", "model_offload") else 0
        step = self.weights_bytes - saved + STEP_BYTES * pictures
        beside = self.beside_bytes - (saved if self.beside_bytes > saved else 0)
        decode = beside + self.decode_bytes * (1 if self.tiles else pictures) + FRAMES_BYTES * pictures
        return round(max(step, decode))


RELEASED_PIXELS = 384 * 672
FLOAT8_SAVES = 4 * GIB
"""Of 4.76 billion weights in the blocks' linear layers, one byte each; rounded down."""
STEP_BYTES = 3 * GIB // 2
"""What one step of 85 frames works in, for every 384x672 pixels."""
FRAMES_BYTES = GIB // 2
"""85 frames of 384x672 as they go in and come out, and the seams of tiles."""
HALF = GIB // 2
SMALLER = 0.96
"""Step by which a picture is made smaller until it fits."""
TIERS = (
    Tier("full", 23 * HALF, 23 * HALF, 7 * GIB, False, "all weights stay on the card"),
    Tier("model_offload", 23 * HALF, HALF, 7 * GIB, False, "each model visits the card while it works"),
    Tier("float8", 13 * HALF, HALF, 3 * GIB, True, "weights are stored as float8 and the autoencoder works in tiles"),
    Tier("sequential", 3 * HALF, HALF, 3 * GIB, True, "one block at a time visits the card, the next one on its way"),
)
"""Room measured on an H200 at 384x672 and 768x1360, weights counted; void-server bench void --case memory measures it
again under caps."""
NAMES = tuple(tier.name for tier in TIERS)


def named(name: str) -> Tier:
    """A tier by its name. Raises SettingsError."""
    for tier in TIERS:
        if tier.name == name:
            return tier
    raise SettingsError(f"memory='{name}' is unknown.", f"Use auto or one of: {', '.join(NAMES)}.")


def choose(asked: str, device: torch.device, pixels: int = RELEASED_PIXELS, float8: bool = False) -> tuple[Tier, str]:
    """The tier for this device and why, for the log. asked: "auto" or a name. pixels: of one picture of the shot.
    float8: whether the transformer multiplies in 8 bits."""
    if asked != "auto":
        return named(asked), "asked for"
    if device.type != "cuda":
        return TIERS[0], "no card to save memory on"
    free = usable_bytes(device)
    fitting = next((tier for tier in TIERS if tier.needs(pixels, float8) <= free), TIERS[-1])
    return fitting, f"{free / GIB:.1f} GiB free on {torch.cuda.get_device_name(device)}"


def most_pixels(asked: str, device: torch.device, at_most: int, float8: bool = False) -> int:
    """Pixels of the largest picture, from the release's to `at_most`, that the device has room for in the tier that is
    asked for, or in any."""
    if device.type != "cuda":
        return at_most
    free = usable_bytes(device)
    tiers = TIERS if asked == "auto" else (named(asked),)
    pixels = at_most
    while pixels > RELEASED_PIXELS and not any(tier.needs(pixels, float8) <= free for tier in tiers):
        pixels = round(pixels * SMALLER)
    return max(pixels, min(at_most, RELEASED_PIXELS))


def usable_bytes(device: torch.device) -> int:
    """What a shot could have of the card: what nobody uses, and all that this process has taken, since models kept from
    the last shot serve this one or make room for it."""
    return int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_reserved(device))


def lower(tier: Tier) -> Tier | None:
    """The next tier that needs less, or None."""
    index = TIERS.index(tier) + 1
    return TIERS[index] if index < len(TIERS) else None


def apply(pipe: VoidPipeline, tier: Tier, device: torch.device, stored_in_8_bits: bool = False) -> None:
    """Set a freshly loaded pipeline, still on the host, up for a tier. On the CPU only storage and tiling matter.

    stored_in_8_bits: the transformer's weights are so already, and are multiplied so.
    """
    if tier.name in ("float8", "sequential"):
        pipe.vae.enable_tiling()
    if tier.name == "float8" and not stored_in_8_bits:
        pipe.transformer.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=pipe.transformer.dtype
        )
    if device.type == "cpu":
        return
    if tier.name == "full":
        pipe.to(device)
    elif tier.name == "sequential":
        take_turns([pipe.vae], device)
        pipe.transformer.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=True,
            record_stream=True,
        )
    else:
        take_turns([pipe.vae, pipe.transformer], device)


def take_turns(models: list[torch.nn.Module], device: torch.device) -> None:
    """Have each of these models come to the device when it is called, the one before it leaving first."""
    visits: list[Visit] = []
    for model in models:
        visit = Visit(model, device, visits)
        visits.append(visit)
        add_hook_to_module(model, visit)


class Visit(ModelHook):  # type: ignore[misc]
    """One model's visits to the card. The host's tensors stay where they are, so leaving costs nothing: the copy on the
    card is dropped, not copied back. Weights are never written to while a model works."""

    def __init__(self, model: torch.nn.Module, device: torch.device, sharing: list[Visit]) -> None:
        super().__init__()
        self.execution_device = device
        self._sharing = sharing
        self._tensors = [*model.parameters(), *model.buffers()]
        self._at_home: list[torch.Tensor] = []

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if not self._at_home:
            for other in self._sharing:
                other.leave()
            self._at_home = [tensor.data for tensor in self._tensors]
            for tensor in self._tensors:
                tensor.data = tensor.data.to(self.execution_device, copy=True)
        return args, kwargs

    def leave(self) -> None:
        for tensor, home in zip(self._tensors, self._at_home):
            tensor.data = home
        self._at_home = []

    def detach_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        self.leave()
        return module


def rest(pipe: VoidPipeline) -> None:
    """After a shot: whoever still visits the card leaves it."""
    for model in (pipe.vae, pipe.transformer):
        hook = getattr(model, "_hf_hook", None)
        if isinstance(hook, Visit):
            hook.leave()


def free(device: torch.device) -> None:
    """Give back what is no longer referred to."""
    gc.collect()
    if device.type == "cuda":
        # cuBLAS keeps its workspaces until told otherwise.
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def let_go(error: BaseException) -> None:
    """Empty the frames that an exception was raised through. They hold the pipeline, its models and whatever was in
    flight: an exception that is still being handled, or is noted somewhere, would keep all that on the card."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        traceback.clear_frames(current.__traceback__)
        pending += [current.__cause__, current.__context__]


def prepare_allocator() -> None:
    """Have torch grow its blocks instead of cutting them up, where the user has not said otherwise: it is read when the
    card is first used. Sizes differ so much between transformer and autoencoder that fragments add up to gigabytes."""
    if not os.environ.get("PYTORCH_ALLOC_CONF") and not os.environ.get("PYTORCH_CUDA_ALLOC_CONF"):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"


@contextlib.contextmanager
def translated(tier: Tier, device: torch.device) -> Iterator[None]:
    """Torch's failures as ours: out of memory explains itself, everything else names the device."""
    try:
        yield
    except RuntimeError as error:
        # cuBLAS and cuDNN report a full card in their own words, not as torch.OutOfMemoryError.
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "ALLOC_FAILED" in str(error):
            below = lower(tier)
            advice = (
                f"memory={below.name}"
                if below
                else "--quality release, a smaller size, as size=256x448, or a larger card"
            )
            raise GpuMemoryError(
                f"{device} ran out of memory with memory={tier.name} ({tier.why}).", f"Use {advice}."
            ) from error
        raise EngineError(
            f"VOID failed on {device}: {str(error).splitlines()[0]}", "The job's log holds the traceback."
        ) from error
