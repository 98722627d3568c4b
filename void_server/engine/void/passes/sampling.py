"""One shot through VOID's passes: arrays to tensors, prompt to embedding, pass 1, pass 2, tensors to arrays.

What comes in: the shot at the model's size, its quadmask, prompt and seed. What goes out: what the model made, same
frames, same size. It knows neither plates nor where pipelines come from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.hooks import FirstBlockCacheConfig

from void_server.engine.void import duration
from void_server.engine.void.memory import Tier
from void_server.engine.void.model import weights
from void_server.engine.void.options import VoidOptions
from void_server.engine.void.passes import windows
from void_server.engine.void.passes.noise import released_noise, released_resize, warped_noise
from void_server.engine.void.passes.pipeline import GUIDANCE, STEPS, VoidPipeline
from void_server.engine.void.passes.prompts import PromptBook
from void_server.wire.errors import LimitError
from void_server.wire.report import Report

Array = npt.NDArray[np.float32]
LoadPipeline = Callable[[Path, bool, VoidOptions, Tier, torch.device], VoidPipeline]

DRAFT_STEPS = 8
"""A quarter of pass 1's own: with the autoencoder, a quarter of the release's time."""
DRAFT_CHANGE = 0.1
"""In a draft, a step whose first block changes what it adds by less than this share takes the rest from the step
before (first block cache of ParaAttention, through diffusers)."""


def number_format(device: torch.device, exact: bool) -> tuple[torch.dtype, torch.dtype]:
    """(transformer, autoencoder). The release runs both in bfloat16, and so does `exact`. Else the autoencoder runs in
    float16: as fast, an eighth of the rounding, so that smooth gradients stay smooth; where a picture leaves float16's
    range, the pipeline runs it again in bfloat16. A CPU has no fast form of either."""
    if device.type == "cpu":
        return torch.float32, torch.float32
    return torch.bfloat16, torch.bfloat16 if exact else torch.float16


class Sampler:
    def __init__(
        self, options: VoidOptions, tier: Tier, device: torch.device, load: LoadPipeline, report: Report
    ) -> None:
        self._options = options
        self._tier = tier
        self._device = device
        self._load = load
        self._report = report
        self._folder = options.weights or weights.default_folder()

    def run(self, video: Array, labels: npt.NDArray[np.uint8], prompt: str, seed: int) -> Array:
        """float32 [T, H, W, 3] in [0, 1]. video: the same, with the object in it. labels: the quadmask [T, H, W]."""
        refine = self._options.refine
        self._check_length(len(video))
        self._tell_duration(video.shape[:3])
        texts = [prompt, self._options.negative_prompt]
        embeddings = self._embed(texts, refine)
        made, condition = self._pass(False, video, labels, embeddings, seed, None, None)
        if not refine:
            return made
        noise = self._noise(made, len(video), seed)
        # The same mask, video and noise on it in both passes, except in the release, whose second mask has two levels.
        known = None if self._options.preset == "released" else condition
        return self._pass(True, video, labels, embeddings, seed, noise, known)[0]

    def _check_length(self, frames: int) -> None:
        """What the released scripts can't do, said before the model runs: they cut at 197 frames, and pass 2 fails
        beyond one window (trap 10)."""
        longest = self._options.window if self._options.refine else windows.RELEASED_MAX_FRAMES
        if self._options.preset == "released" and frames > longest:
            raise LimitError(
                f"preset=released takes {longest} frames at most{' with refine' if self._options.refine else ''}; "
                f"the shot has {frames}.",
                "Use preset=fixed, which takes any length.",
            )

    def _tell_duration(self, shape: tuple[int, ...]) -> None:
        """Before anything is loaded, so that whoever waits knows for how long. A CPU takes hours, as was said."""
        if self._device.type != "cuda":
            return
        options, config = self._options, _transformer_config(self._folder)
        window = windows.window_frames(options.window)
        longest = windows.RELEASED_MAX_FRAMES if options.preset == "released" else None
        total = windows.legal_frames(shape[0], at_least=window, at_most=longest)
        cuts = windows.spans(windows.latent_count(total), windows.latent_count(window))
        speed, needed = duration.card_speed(self._device), 0.0
        for name in ("pass 1", "pass 2")[: 1 + options.refine]:
            needed += duration.seconds(
                config,
                [end - begin for begin, end in cuts],
                total,
                (shape[1], shape[2]),
                options.steps or (DRAFT_STEPS if options.draft else STEPS[name]),
                speed,
                guided=(options.guidance or GUIDANCE[name]) > 1,
                streamed=self._tier.name == "sequential",
            )
        self._report.note(
            f"The model takes {duration.spoken(needed)} on this card at {shape[2]}x{shape[1]}, longer the first time."
        )

    def _embed(self, texts: list[str], refine: bool) -> list[torch.Tensor]:
        # Before any pipeline is loaded: the text encoder and the transformer never share the card.
        guided = refine or (self._options.guidance or GUIDANCE["pass 1"]) > 1
        config = _transformer_config(self._folder)
        book = PromptBook(
            self._folder,
            int(config.get("max_text_seq_length", 226)),
            number_format(self._device, exact=False)[0],
        )
        return book.embed(texts if guided else texts[:1], self._text_device(), self._report)

    def _text_device(self) -> torch.device:
        # 9.5 GB do not fit beside anything else on a small card, and a prompt is encoded once.
        return torch.device("cpu") if self._tier.name in ("float8", "sequential") else self._device

    def _pass(
        self,
        second: bool,
        video: Array,
        labels: npt.NDArray[np.uint8],
        embeddings: list[torch.Tensor],
        seed: int,
        noise: torch.Tensor | None,
        condition: torch.Tensor | None,
    ) -> tuple[Array, torch.Tensor]:
        """(what the model made, what it was told of video and mask)"""
        pipe = self._load(self._folder, second, self._options, self._tier, self._device)
        stage = "refine" if second else "void"
        steps = self._options.steps or (DRAFT_STEPS if self._options.draft else None)
        mask = 1 - torch.from_numpy(labels.astype(np.float32) / 255)

        def on_step(_: Any, index: int, __: Any, ___: Any) -> dict[str, Any]:
            self._report.progress(stage, index + 1, pipe.num_timesteps)
            return {}

        with self._drafting(pipe):
            result = pipe(
                video=torch.from_numpy(video).permute(3, 0, 1, 2)[None],
                mask_video=mask[None, None],
                height=video.shape[1],
                width=video.shape[2],
                num_frames=self._options.window,
                num_inference_steps=steps,
                guidance_scale=self._options.guidance,
                preset=self._options.preset,
                refine=second,
                generator=torch.Generator("cpu").manual_seed(seed),
                prompt_embeds=embeddings[0],
                negative_prompt_embeds=embeddings[1] if len(embeddings) > 1 else None,
                latents=noise,
                output_type="np",
                callback_on_step_end=on_step,
                condition=condition,
            )
        if pipe.left_float16:
            self._report.note("The autoencoder ran in bfloat16: this shot leaves the range of float16.")
        made: Array = np.asarray(result.frames[0][: len(video)], np.float32)
        return made, pipe.condition

    @contextlib.contextmanager
    def _drafting(self, pipe: VoidPipeline) -> Iterator[None]:
        # Blocks that are streamed in a fixed order can't be skipped.
        if not self._options.draft or self._tier.name == "sequential":
            yield
            return
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=DRAFT_CHANGE))
        try:
            yield
        finally:
            pipe.transformer.disable_cache()

    def _noise(self, made: Array, frames: int, seed: int) -> torch.Tensor:
        """What pass 2 starts from, at the padded length."""
        window = windows.window_frames(self._options.window)
        longest = windows.RELEASED_MAX_FRAMES if self._options.preset == "released" else None
        total = windows.legal_frames(frames, at_least=window, at_most=longest)
        padded = made[windows.ping_pong(frames, total)]
        channels = self._load(self._folder, False, self._options, self._tier, self._device).vae.config.latent_channels
        count = windows.latent_count(total)
        if self._options.preset == "released":
            noise = released_noise(made, channels, seed)
            height, width = made.shape[1] // 8, made.shape[2] // 8
            return torch.from_numpy(released_resize(noise, windows.latent_count(window), height, width))
        latents = warped_noise(padded, channels, seed, lambda latent: self._report.progress("noise", latent, count - 1))
        return torch.from_numpy(latents)[None]


def _transformer_config(folder: Path) -> dict[str, Any]:
    from void_server.engine.void.model.loading import transformer_config

    return transformer_config(weights.base_folder(folder))
