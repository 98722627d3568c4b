"""What the model makes of a shot at its own size: pictures and quadmask in, pictures out.

What comes in: arrays, a prompt, a seed, settings. What goes out: arrays. It chooses how the model lies on the card,
tries once more where that was too much, and keeps the model for the next shot. It knows no plates.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from void_server.engine.contract import Array
from void_server.engine.void import memory, region
from void_server.engine.void.asked import Asked
from void_server.engine.void.memory import Tier
from void_server.engine.void.model import compiling, float8, loading
from void_server.engine.void.options import VoidOptions
from void_server.engine.void.passes.pipeline import VoidPipeline
from void_server.engine.void.passes.sampling import Sampler, number_format
from void_server.wire.errors import EngineError, GpuMemoryError, SettingsError
from void_server.wire.report import Report


class ModelHere:
    """The model in this process. device: "cuda", "cuda:1", "cpu"; None takes the first GPU, else the CPU."""

    def __init__(self, device: str | None = None) -> None:
        self._device_name = device
        self._loaded: tuple[Any, VoidPipeline] | None = None
        self._note: Callable[[str], object] = lambda message: None

    def prepare(self) -> None:
        """Nothing: torch is imported already, and weights wait until it is known how they fit."""

    def most_pixels(self, options: VoidOptions) -> int:
        """Of the largest picture of the model's that there is room for."""
        eight_bit = options.precision == "fp8"
        return memory.most_pixels(options.memory, self._device(), region.FINE_PIXELS, eight_bit)

    def generate(self, asked: Asked, options: VoidOptions, report: Report) -> Array:
        """float32 [T, H, W, 3]: what the model makes of the shot. One retry on the next lower tier of memory."""
        device = self._device()
        self._note = report.note
        eight_bit = options.precision == "fp8"
        tier, why = memory.choose(options.memory, device, asked.video[0, ..., 0].size, eight_bit)
        report.note(f"memory={tier.name}: {tier.why} ({why})")
        try:
            return self._run(asked, options, report, tier, device)
        except GpuMemoryError as error:
            below = memory.lower(tier)
            if below is None:
                raise
            report.warn("gpu_memory", f"{error.message} Trying once more with memory={below.name}.")
        return self._run(asked, options, report, below, device)

    def _run(self, asked: Asked, options: VoidOptions, report: Report, tier: Tier, device: torch.device) -> Array:
        try:
            with memory.translated(tier, device):
                sampler = Sampler(options, tier, device, self._pipeline, report)
                made = sampler.run(asked.video, asked.labels, asked.prompt, asked.seed)
        except BaseException as error:
            # A failed or cancelled shot leaves nothing on the card.
            memory.let_go(error)
            self.release()
            raise
        # What is kept for the next shot are weights, not the room that this one worked in.
        if self._loaded is not None:
            memory.rest(self._loaded[1])
        memory.free(device)
        return made

    def _pipeline(
        self, folder: Path, refine: bool, options: VoidOptions, tier: Tier, device: torch.device
    ) -> VoidPipeline:
        """The pipeline of one pass, kept from shot to shot while nothing about it changes."""
        exact = options.preset == "released"
        key = (folder, refine, tier.name, str(device), exact, options.precision, options.compile)
        if self._loaded is not None and self._loaded[0] == key:
            return self._loaded[1]
        self.release()
        eight_bit = options.precision == "fp8"
        if eight_bit and not float8.supported(device):
            raise SettingsError(f"{device} does not multiply in 8 bits.", "Leave precision=bf16, the default.")
        dtype, vae_dtype = number_format(device, exact)
        pipe = loading.load_pipeline(
            folder,
            refine=refine,
            dtype=dtype,
            vae_dtype=vae_dtype,
            fused_for=None if exact else device,
            float8_on=device if eight_bit else None,
        )
        if options.compile and not exact and device.type == "cuda" and (tier.name != "float8" or eight_bit):
            compiling.compile_blocks(
                pipe.transformer,
                lambda why: self._note(f"The transformer can't be compiled here and runs slower: {why}"),
            )
        memory.apply(pipe, tier, device, stored_in_8_bits=eight_bit)
        self._loaded = (key, pipe)
        return pipe

    def release(self) -> None:
        """Give back what is kept from shot to shot, and all of the card that this process can give back."""
        if self._loaded is not None:
            self._loaded[1].remove_all_hooks()
            self._loaded = None
        memory.free(self._device())

    def _device(self) -> torch.device:
        memory.prepare_allocator()
        name = self._device_name or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise SettingsError(f"'{name}' is not a device.", "Use cpu, cuda or cuda:0.") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise EngineError(f"There is no CUDA device for '{name}'.", "Use another device, or --engine propagate.")
        return device
