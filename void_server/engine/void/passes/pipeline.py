"""VOID in diffusers' own conventions: video and mask in, the scene without the object out.

What comes in: tensors, embeddings or a prompt, and settings. What goes out: frames. It knows no files but those that
diffusers loads and saves, and nothing of shots, plates or light.

    pipe = VoidPipeline(vae=vae, transformer=transformer, scheduler=scheduler)
    pipe(video=video, mask_video=mask, prompt="a table", num_inference_steps=30).frames[0]

Facts come from the released code, Netflix/void-model at 66e9c0e5; "released:" gives the place. Unless another file is
named, it is videox_fun/pipeline/pipeline_cogvideox_fun_inpaint.py.

The presets. `released` does what the released scripts do. `fixed`, the default, does the same but for these:

    what                    released                                            fixed
    conditioning noise      global generator, unseeded (258-269, 558-559)       own generator, from the caller's seed
    longer clips            cut to 197 frames (utils.py:343, 382)               any length, by the same windows
    shorter clips           padded to 85 or 8k + 5, returned padded             padded the same, returned trimmed
    aspect                  384x672 whatever the plate (predict_v2v.py:174)     the video's own, in multiples of 16
    mask in pass 2          two levels (989)                                    three, as pass 2 was trained
    frames                  8 bit, truncated, H.264 (predict_v2v.py:245)        float, untouched
    decoded picture         rounded to bfloat16 once more (575-583)             as it is
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.cogvideo.pipeline_output import CogVideoXPipelineOutput
from diffusers.utils.torch_utils import randn_tensor

from void_server.engine.void.passes import conditioning, windows

Preset = Literal["released", "fixed"]

RELEASED_SIZE = (384, 672)
"""Height and width the model was released at (released: config/quadmask_cogvideox.py, sample_size)."""
SIZE_MULTIPLE = 16
"""8 from the autoencoder times 2 from the transformer's patches. The released check asks for 8 only (593)."""
STEPS = {"pass 1": 30, "pass 2": 50}
"""Pass 1 hard-codes 30 over its config's 50 (released: predict_v2v.py:222, trap 5); pass 2 runs 50
(released: inference_with_pass1_warped_noise.py:251)."""
GUIDANCE = {"pass 1": 1.0, "pass 2": 6.0}
"""Pass 1 runs without classifier-free guidance, so its negative prompt is never read (trap 6)."""
DEFAULT_SEED = 42
"""Seeds the conditioning noise where the caller gives no generator (released: config, system.seed)."""


def own_size(height: int, width: int) -> tuple[int, int]:
    """The size a video is run at when none is asked for: its own aspect, multiples of 16, no larger than trained.

    >>> own_size(384, 672), own_size(1080, 1920), own_size(64, 96)
    ((384, 672), (384, 672), (64, 96))
    """
    scale = min(1.0, math.sqrt(RELEASED_SIZE[0] * RELEASED_SIZE[1] / (height * width)))
    fit = [max(SIZE_MULTIPLE, round(side * scale / SIZE_MULTIPLE) * SIZE_MULTIPLE) for side in (height, width)]
    return fit[0], fit[1]


class VoidPipeline(CogVideoXPipeline):  # type: ignore[misc]
    """Removes an object and what it did to the scene.

    vae: a `VoidVae`. transformer: the stock class with 48 input channels (16 noisy, 16 mask, 16 video). scheduler: the
    stock `DDIMScheduler` in pass 1 and `CogVideoXDDIMScheduler` in pass 2, as released. tokenizer and text_encoder may
    be left out where `prompt_embeds` are given.

    Offloading, tiling, progress bars, `from_pretrained` and `save_pretrained` are diffusers' own.
    """

    _optional_components = ["tokenizer", "text_encoder"]  # noqa: RUF012  (diffusers reads it as a list)

    def __init__(
        self,
        vae: AutoencoderKLCogVideoX,
        transformer: CogVideoXTransformer3DModel,
        scheduler: Any,
        tokenizer: Any = None,
        text_encoder: Any = None,
    ) -> None:
        super().__init__(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        self.frame_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor_spatial)

    def encode_prompt(self, prompt: Any = None, negative_prompt: Any = None, **settings: Any) -> Any:
        """As diffusers does, but says what is missing where there is no text encoder."""
        guided = settings.get("do_classifier_free_guidance", True)
        lacking = settings.get("prompt_embeds") is None or (guided and settings.get("negative_prompt_embeds") is None)
        if lacking and (self.text_encoder is None or self.tokenizer is None):
            raise ValueError(
                "This pipeline has no text encoder or tokenizer: give prompt_embeds"
                + (", and negative_prompt_embeds since guidance_scale is above 1." if guided else ".")
            )
        return super().encode_prompt(prompt, negative_prompt, **settings)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def __call__(
        self,
        video: torch.Tensor,
        mask_video: torch.Tensor,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        enable_physics_prior: bool = True,
        preset: Preset = "fixed",
        refine: bool | None = None,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int = 226,
        noise_strength: float = conditioning.NOISE_STRENGTH,
        condition: torch.Tensor | None = None,
    ) -> CogVideoXPipelineOutput | tuple[Any]:
        """Fill what `mask_video` marks.

        video: [B, 3, F, H, W] in [0, 1], the whole picture with the object in it: VOID looks at it (trap 9).
        mask_video: [B, 1, F, H, W] in [0, 1]: 1 remove, 127/255 affected, 0 keep, the opposite of a quadmask on disk.
        prompt: the scene after removal. num_frames: frames of one temporal window (85), longer clips take several.
        num_inference_steps, guidance_scale: None takes what the released script of this pass takes.
        enable_physics_prior: False inpaints the object alone and keeps affected pixels.
        refine: whether this is pass 2; None says so where `latents` (warped noise, [B, F', 16, h, w]) are given.
        generator: for the first noise and, in `fixed`, the conditioning noise.
        condition: encoded mask and video as an earlier call left them in the attribute `condition`; spares encoding.

        Returns frames in [0, 1]: "pil" a list of images for each clip, "np" [B, F, H, W, 3], "pt" [B, F, 3, H, W],
        "latent" [B, F', 16, h, w]. Raises ValueError for shapes and settings that can't work.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        released = preset == "released"
        this_pass = "pass 2" if (latents is not None if refine is None else refine) else "pass 1"
        steps = STEPS[this_pass] if num_inference_steps is None else num_inference_steps
        self._guidance_scale = GUIDANCE[this_pass] if guidance_scale is None else guidance_scale
        self._attention_kwargs = None
        self._current_timestep = None
        self._interrupt = False
        height, width = self._size(video, mask_video, height, width, preset)
        self.check_inputs(
            prompt,
            height,
            width,
            negative_prompt,
            list(callback_on_step_end_tensor_inputs),
            prompt_embeds,
            negative_prompt_embeds,
        )
        device = self._execution_device
        guided = self._guidance_scale > 1
        prompt_embeds, negative_prompt_embeds = self.encode_prompt(
            prompt,
            negative_prompt,
            do_classifier_free_guidance=guided,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            max_sequence_length=max_sequence_length,
            device=device,
        )
        batch, dtype = prompt_embeds.shape[0], prompt_embeds.dtype
        prompt_embeds = prompt_embeds.to(device)
        if guided:
            prompt_embeds = torch.cat([negative_prompt_embeds.to(device), prompt_embeds])

        self.scheduler.set_timesteps(steps, device=device)
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)

        given = video.shape[2]
        longest = windows.RELEASED_MAX_FRAMES if released else None
        window = windows.window_frames(num_frames or windows.WINDOW_FRAMES)
        total = windows.legal_frames(given, at_least=window, at_most=longest)
        order = windows.ping_pong(given, total) if total > given else list(range(total))
        noise = self._first_noise(
            latents, (batch, windows.latent_count(total)), height, width, dtype, device, generator
        )
        self.left_float16 = False
        self._rotaries: dict[Any, Any] = {}
        if condition is None:
            # The released noise is drawn on the host, in the order in which the host keeps the video.
            video, mask_video = (part.to("cpu" if released else device) for part in (video, mask_video))
            condition = self._condition(
                conditioning.resize_area(video[:, :, order], height, width),
                self._mask(mask_video[:, :, order], height, width, this_pass, preset, enable_physics_prior),
                None if released else _noise_generator(generator),
                noise_strength,
                device,
                dtype,
            )
        self.condition = condition.cpu()
        condition = condition.to(device, dtype).expand(batch, -1, -1, -1, -1)
        latents = self._denoise(
            noise,
            torch.cat([condition] * 2) if guided else condition,
            prompt_embeds,
            windows.latent_count(window),
            (height, width),
            self.prepare_extra_step_kwargs(generator, eta),
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        )
        if output_type == "latent":
            frames: Any = latents
        else:
            decoded = self._in_range(self._decode, latents, total if released else given)
            if released:
                frames = self._released_frames(decoded, output_type)
            else:
                frames = self.video_processor.postprocess_video(decoded, output_type=output_type)
        self.maybe_free_model_hooks()
        return CogVideoXPipelineOutput(frames=frames) if return_dict else (frames,)

    def _size(
        self, video: torch.Tensor, mask: torch.Tensor, height: int | None, width: int | None, preset: str
    ) -> tuple[int, int]:
        if preset not in ("released", "fixed"):
            raise ValueError(f"preset is '{preset}'; use 'released' or 'fixed'.")
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"video is {tuple(video.shape)}; give [batch, 3, frames, height, width].")
        if mask.ndim != 5 or mask.shape[1] != 1 or mask.shape[2] != video.shape[2]:
            raise ValueError(f"mask_video is {tuple(mask.shape)}; give [batch, 1, {video.shape[2]}, height, width].")
        own = RELEASED_SIZE if preset == "released" else own_size(*video.shape[-2:])
        height, width = height or own[0], width or own[1]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"height {height} and width {width} must be multiples of {SIZE_MULTIPLE}.")
        return height, width

    def _mask(
        self, mask: torch.Tensor, height: int, width: int, this_pass: str, preset: str, physics_prior: bool
    ) -> torch.Tensor:
        if mask.shape[-2:] != (height, width):
            mask = conditioning.scale_labels(mask, height, width)
        binary = this_pass == "pass 2" and preset == "released"
        return conditioning.mask_levels(mask, "two" if binary else "three", physics_prior)

    def _first_noise(
        self,
        latents: torch.Tensor | None,
        leading: tuple[int, int],
        height: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> torch.Tensor:
        down = self.vae_scale_factor_spatial
        shape = (*leading, self.vae.config.latent_channels, height // down, width // down)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"latents are {tuple(latents.shape)}; this clip takes {shape}.")
        return latents.to(device, dtype) * self.scheduler.init_noise_sigma

    def _condition(
        self,
        video: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator | None,
        noise_strength: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """[B, F', 32, h, w]: the encoded mask, then the encoded video."""
        flat = video.float().transpose(1, 2).flatten(0, 1)
        normalised = self.frame_processor.preprocess(flat, height=video.shape[-2], width=video.shape[-1])
        source = normalised.unflatten(0, (video.shape[0], -1)).transpose(1, 2)
        # A card's noise would depend on the card, and the host takes its time: it draws while the mask is encoded.
        with ThreadPoolExecutor(1) as host:
            drawing = host.submit(conditioning.draw_noise, source.shape, generator) if generator else None
            encoded = [self._in_range(self._encode, conditioning.mask_for_vae(mask), device)]
            drawn = drawing.result() if drawing else None
        noisy = conditioning.add_noise(source, generator, noise_strength, drawn)
        encoded.append(self._in_range(self._encode, noisy, device))
        return torch.cat(encoded, dim=1).transpose(1, 2).to(dtype)

    def _encode(self, video: torch.Tensor, device: torch.device) -> torch.Tensor:
        # One clip at a time, and the mode of the distribution rather than a sample (released: 544-569).
        clips = [self.vae.encode(clip.to(device, self.vae.dtype)).latent_dist.mode() for clip in video.split(1)]
        return torch.cat(clips) * self.vae.config.scaling_factor

    def _in_range(self, run: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
        """What the autoencoder makes; run again in bfloat16, which has float32's range, where float16 overflows."""
        made = run(*args)
        if self.vae.dtype != torch.float16 or bool(torch.isfinite(made).all()):
            return made
        del made
        self.left_float16 = True
        self.vae.widen()
        return run(*args)

    def _denoise(
        self,
        latents: torch.Tensor,
        condition: torch.Tensor,
        prompt_embeds: torch.Tensor,
        window: int,
        size: tuple[int, int],
        step_settings: dict[str, Any],
        on_step_end: Callable[..., Any] | None,
        step_end_inputs: Sequence[str],
    ) -> torch.Tensor:
        """Every step runs model and scheduler in each window, then blends what they made (released: 1173-1212)."""
        total = latents.shape[1]
        cuts = windows.spans(total, window)
        with self.progress_bar(total=self._num_timesteps) as bar:
            for index, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                self._current_timestep = t
                if len(cuts) == 1:
                    latents = self._step(0, latents, condition, prompt_embeds, t, size, step_settings)
                else:
                    canvas = torch.zeros_like(latents, dtype=torch.float32)
                    sums = torch.zeros(1, total, 1, 1, 1, device=latents.device)
                    for number, (begin, end) in enumerate(cuts):
                        span = slice(begin, end)
                        told = condition[:, span]
                        part = self._step(number, latents[:, span], told, prompt_embeds, t, size, step_settings)
                        ramp = torch.tensor(windows.weights((begin, end), total)).to(part).view(1, -1, 1, 1, 1)
                        canvas[:, span] += part * ramp
                        sums[:, span] += ramp
                    latents = (canvas / sums).to(latents.dtype)
                if on_step_end is not None:
                    known = {"latents": latents, "prompt_embeds": prompt_embeds}
                    answer = on_step_end(self, index, t, {name: known.get(name) for name in step_end_inputs}) or {}
                    latents = answer.get("latents", latents)
                    prompt_embeds = answer.get("prompt_embeds", prompt_embeds)
                bar.update()
        return latents

    def _step(
        self,
        window: int,
        latents: torch.Tensor,
        condition: torch.Tensor,
        prompt_embeds: torch.Tensor,
        t: torch.Tensor,
        size: tuple[int, int],
        step_settings: dict[str, Any],
    ) -> torch.Tensor:
        guided = prompt_embeds.shape[0] > latents.shape[0]
        noisy = self.scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
        # What caching keeps from the step before belongs to one window.
        caching = getattr(self.transformer, "is_cache_enabled", False)
        with self.transformer.cache_context(f"window {window}") if caching else contextlib.nullcontext():
            prediction = self.transformer(
                hidden_states=torch.cat([noisy, condition], dim=2),
                encoder_hidden_states=prompt_embeds,
                timestep=t.expand(noisy.shape[0]),
                image_rotary_emb=self._rotary(size, latents.shape[1], latents.device),
                return_dict=False,
            )[0].float()
        if guided:
            without, with_prompt = prediction.chunk(2)
            prediction = without + self._guidance_scale * (with_prompt - without)
        stepped: torch.Tensor = self.scheduler.step(prediction, t, latents, **step_settings, return_dict=False)[0]
        return stepped.to(prompt_embeds.dtype)

    def _rotary(
        self, size: tuple[int, int], latents: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Positions of a window's tokens; made once for a shot's windows, not once a step."""
        if not self.transformer.config.use_rotary_positional_embeddings:
            return None
        key = (*size, latents, device)
        if key not in self._rotaries:
            # On the host, as released: a card's sines differ in the last bit, which a step makes visible. Tensors of
            # their own: what is compiled for a view depends on what it is a view of.
            parts = self._prepare_rotary_positional_embeddings(*size, latents, torch.device("cpu"))
            self._rotaries[key] = tuple(part.clone().to(device) for part in parts)
        rotary: tuple[torch.Tensor, torch.Tensor] = self._rotaries[key]
        return rotary

    def _decode(self, latents: torch.Tensor, keep: int) -> torch.Tensor:
        """float32 [B, 3, keep, H, W] in [-1, 1] on the CPU; frames leave the card as they are decoded."""
        scaled = (1 / self.vae.config.scaling_factor * latents.transpose(1, 2)).to(self.vae.dtype)
        chunks = [chunk.float().cpu() for chunk in self.vae.decode_chunks(scaled)]
        return torch.cat(chunks, dim=2)[:, :, :keep]

    def _released_frames(self, decoded: torch.Tensor, output_type: str) -> Any:
        """As diffusers gives frames, but moved to [0, 1] in the autoencoder's format, which rounds once more, before
        they leave for float32 (released: 575-583)."""
        clips = []
        for clip in (decoded.to(self.vae.dtype) / 2 + 0.5).clamp(0, 1).float():
            frames = clip.transpose(0, 1)
            clips.append(self.video_processor.postprocess(frames, output_type, [False] * len(frames)))
        joined = {"np": np.stack, "pt": torch.stack}.get(output_type, list)
        return joined(clips)


def _noise_generator(generator: torch.Generator | list[torch.Generator] | None) -> torch.Generator:
    """A generator of its own for the conditioning noise, so that it does not move with what was drawn before."""
    first = generator[0] if isinstance(generator, list) else generator
    seed = DEFAULT_SEED if first is None else first.initial_seed()
    return torch.Generator("cpu").manual_seed((seed + 1) % 2**63)
