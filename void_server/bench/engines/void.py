"""What `void-server bench void` measures on a card: the model's share of a shot, ours against the release, and memory.

What comes in: a device, perhaps a checkout of the release, caps of memory. What goes out: figures. It knows no plates:
models have random weights, clips are noise.

The model's share is what a card does: video and mask encoded, 30 steps, the result decoded. Both sides run in one
process, in turns, on the same weights. Times are host clock around work that was waited for, warm, the median of three
for single steps and of one for a whole pass.
"""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from void_server.bench.engines import void_models
from void_server.bench.engines.void_models import Size
from void_server.engine.contract import Array, Colour
from void_server.engine.void import VoidPipeline, memory
from void_server.engine.void.model import compiling, float8, fused
from void_server.engine.void.passes import sampling
from void_server.wire.errors import SettingsError, VoidError
from void_server.wire.report import Report
from void_server.wire.shot import Window

CASES = ("pass", "memory")
CAPS_GB = (48, 24, 16, 12)
GIB = 1 << 30
CONTEXT_BYTES = 700 << 20
"""What CUDA itself takes of a card, and a screen or another program may: not the model's."""


def run(
    checkout: Path | None,
    cases: Sequence[str] | None,
    report: Report,
    *,
    size: Size | None = None,
    device: str = "cuda",
) -> tuple[dict[str, Any], str]:
    """(fields for --json, text). Raises SettingsError where there is no card."""
    if device != "cpu" and not torch.cuda.is_available():
        raise SettingsError("bench void needs a CUDA device.", "Run it on the machine that has one.")
    wanted = cases or CASES
    strange = sorted(set(wanted) - set(CASES))
    if strange:
        raise SettingsError(f"bench void has no case '{strange[0]}'.", f"It has: {', '.join(CASES)}.")
    on, size = torch.device(device), size or Size()
    memory.prepare_allocator()
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "clip": f"{size.height}x{size.width}x{size.frames}",
    }
    if "pass" in wanted:
        figures["pass"] = _Passes(size, on, report).measure(checkout)
    if "memory" in wanted:
        with tempfile.TemporaryDirectory(prefix="void-bench-") as folder:
            figures["memory"] = _memory(Path(folder), size, on, report)
    return figures, _text(figures)


class _Passes:
    """Whole passes of one clip, by the release and by us."""

    def __init__(self, size: Size, device: torch.device, report: Report) -> None:
        self._size, self._device, self._report = size, device, report
        generator = torch.Generator().manual_seed(3)
        rows, columns = size.height // 8, size.width // 8
        coarse = torch.rand(1, 3, size.frames, rows, columns, generator=generator)
        self._video = coarse.repeat_interleave(8, -1).repeat_interleave(8, -2)
        self._mask = torch.zeros(1, 1, size.frames, size.height, size.width)
        self._mask[..., size.height // 3 : size.height // 2, size.width // 3 : size.width // 2] = 1
        text = size.transformer["max_text_seq_length"], size.transformer["text_embed_dim"]
        self._text = torch.randn(1, *text, generator=generator).to(device, torch.bfloat16)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def measure(self, checkout: Path | None) -> list[dict[str, Any]]:
        rows = []
        transformer = void_models.random_transformer(self._size, self._device)
        vae = void_models.random_vae(self._size, self._device)
        exact = None
        if checkout is not None:
            found = void_models.released(checkout)
            theirs, their_vae = void_models.released_models(found, self._size, transformer, vae)
            self._released(found.pipeline, theirs, their_vae, 1)
            rows.append(self._row("released", lambda: self._released(found.pipeline, theirs, their_vae)))
            exact = rows[-1].pop("frames")
            del theirs, their_vae
        vae.pad_as_released()
        rows.append(self._row("ours, preset=released", lambda: self._ours(transformer, vae)))
        ours = rows[-1].pop("frames")
        if exact is None:
            exact = ours
        else:
            rows[-1]["apart"] = _apart(ours, exact)
        fast = void_models.random_vae(self._size, self._device).to(torch.float16 if self._on_card else torch.float32)
        fused.fuse(fast, channels_last=self._on_card)
        for name in ("ours", "ours, draft", "ours, precision=fp8"):
            if "fp8" in name:
                float8.convert(transformer, self._device, float8.LEAST_FEATURES if self._on_card else 32)
            if "draft" not in name:
                self._compile(transformer)
            steps = sampling.DRAFT_STEPS if "draft" in name else self._size.steps
            begun = time.perf_counter()
            self._ours(transformer, fast, 1)
            first = time.perf_counter() - begun
            rows.append(self._row(name, lambda steps=steps: self._ours(transformer, fast, steps)))  # type: ignore[misc]
            rows[-1] |= {"first_call_s": round(first, 2), "apart": _apart(rows[-1].pop("frames"), exact)}
        for row in rows:
            if checkout is not None:
                row["times_faster"] = round(rows[0]["seconds"] / row["seconds"], 2)
        return rows

    def _compile(self, transformer: Any) -> None:
        for block in transformer.transformer_blocks:
            vars(block).pop("forward", None)
        torch._dynamo.reset()
        compiling.compile_blocks(transformer, self._report.note, "inductor" if self._on_card else "eager")

    @property
    def _on_card(self) -> bool:
        return bool(self._device.type == "cuda")

    def _row(self, name: str, run: Callable[[], tuple[torch.Tensor, list[float]]]) -> dict[str, Any]:
        self._report.note(f"pass: {name}")
        _clear(self._device)
        begun = time.perf_counter()
        frames, at = run()
        ended = time.perf_counter()
        steps = np.diff(at)
        return {
            "what": name,
            "seconds": round(ended - begun, 2),
            "encode_s": round(at[0] - begun - float(np.median(steps)), 2) if len(steps) else None,
            "step_s": round(float(np.median(steps)), 4) if len(steps) else None,
            "steps": len(at),
            "decode_s": round(ended - at[-1], 2),
            "frames": frames,
            **_peaks(self._device),
        }

    def _ours(self, transformer: Any, vae: Any, steps: int | None = None) -> tuple[torch.Tensor, list[float]]:
        """With the released preset's noise, whatever the models, so that results can be held against the release's."""
        from diffusers import DDIMScheduler

        pipe = VoidPipeline(vae=vae, transformer=transformer, scheduler=DDIMScheduler(**void_models.SCHEDULER))
        pipe.set_progress_bar_config(disable=True)
        at: list[float] = []
        torch.manual_seed(5)
        frames = pipe(
            **self._clip(steps or self._size.steps),
            prompt_embeds=self._text if self._on_card else self._text.to(transformer.dtype),
            preset="released",
            output_type="pt",
            callback_on_step_end=lambda *_: self._tick(at),
        ).frames
        return frames.transpose(1, 2), at

    def _released(
        self, pipeline: Any, transformer: Any, vae: Any, steps: int | None = None
    ) -> tuple[torch.Tensor, list[float]]:
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler(**void_models.SCHEDULER)
        pipe = pipeline(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=scheduler)
        pipe.set_progress_bar_config(disable=True)
        at: list[float] = []
        torch.manual_seed(5)
        # Keyword by keyword what predict_v2v.py:213-231 passes.
        frames = pipe(
            **self._clip(steps or self._size.steps),
            prompt_embeds=self._text,
            negative_prompt_embeds=self._text,
            guidance_scale=1.0,
            strength=1.0,
            use_trimask=True,
            zero_out_mask_region=False,
            use_vae_mask=True,
            stack_mask=False,
            latents=None,
            callback_on_step_end=lambda *_: self._tick(at),
        ).videos
        return torch.as_tensor(frames), at

    def _clip(self, steps: int) -> dict[str, Any]:
        return {
            "video": self._video,
            "mask_video": self._mask,
            "height": self._size.height,
            "width": self._size.width,
            "num_frames": self._size.frames,
            "num_inference_steps": steps,
            "generator": torch.Generator().manual_seed(42),
        }

    def _tick(self, at: list[float]) -> dict[str, Any]:
        if self._on_card:
            torch.cuda.synchronize()
        at.append(time.perf_counter())
        self._report.check_cancelled()
        return {}


def _memory(folder: Path, size: Size, device: torch.device, report: Report) -> list[dict[str, Any]]:
    """A shot through the engine under each cap of memory, as the engine itself chooses, and in every tier by name."""
    from void_server.engine.void import VoidEngine
    from void_server.engine.void.model_here import ModelHere

    void_models.write_weights(folder, size, device)
    rows = []
    caps = [(cap, "auto") for cap in CAPS_GB] if device.type == "cuda" else []
    for cap, tier in [*caps, *((None, name) for name in memory.NAMES)]:
        # In this process, whose memory is looked at.
        engine = VoidEngine(str(device), ModelHere(str(device)))
        events: list[dict[str, Any]] = []
        options = {"weights": str(folder), "window": size.frames, "steps": 3, "memory": tier}
        shot = _NoiseShot(size, options)
        _clear(device)
        row: dict[str, Any] = {"cap_gb": cap, "memory": tier}
        ticks: list[float] = []

        def hear(event: dict[str, Any], events: list[dict[str, Any]] = events, ticks: list[float] = ticks) -> None:
            events.append(event)
            if event.get("stage") == "void":
                ticks.append(time.perf_counter())

        with _capped(cap, device):
            try:
                list(engine.fill(shot, Report(hear, report.is_cancelled)))
                row["done"] = True
            except VoidError as error:
                row |= {"done": False, "error": error.message}
        texts = [str(e["message"]) for e in events if e["event"] in ("note", "warning")]
        row["chosen"] = [text.partition(":")[0] for text in texts if text.startswith("memory=")]
        row["retried"] = any("Trying once more" in text for text in texts)
        row["step_s"] = round(float(np.diff(ticks)[-1]), 3) if len(ticks) > 1 else None
        row |= _peaks(device)
        if device.type == "cuda":
            row["kept_gib"] = round(torch.cuda.memory_reserved(device) / GIB, 2)
            engine.release()
            row["released_gib"] = round(torch.cuda.memory_reserved(device) / GIB, 2)
        engine.release()
        rows.append(row)
        report.note(f"memory: {row}")
    return rows


@contextlib.contextmanager
def _capped(cap_gb: int | None, device: torch.device) -> Iterator[None]:
    """A card of another size: torch refuses more, and the engine is told of no more."""
    if cap_gb is None:
        yield
        return
    usable = cap_gb * 10**9 - CONTEXT_BYTES
    device = torch.device(device.type, device.index or 0)
    whole = torch.cuda.get_device_properties(device).total_memory
    told = memory.usable_bytes
    torch.cuda.set_per_process_memory_fraction(min(1.0, usable / whole), device)
    memory.usable_bytes = lambda device: usable
    try:
        yield
    finally:
        memory.usable_bytes = told
        torch.cuda.set_per_process_memory_fraction(1.0, device)


class _NoiseShot:
    """A shot in memory: noise in blocks, and a box to remove. What `Shot` asks for, at scale 1."""

    seed = 0
    prompt = "a table"
    quality = "release"
    reference_frames: Sequence[int] = ()
    plates_key = masks_key = "noise"

    def __init__(self, size: Size, options: dict[str, Any]) -> None:
        self.options = options
        self.frames = self.wanted = range(size.frames)
        self.size = size.height, size.width
        rng = np.random.default_rng(0)
        coarse = rng.random((size.height // 8, size.width // 8, 3)).astype(np.float32)
        self._picture = coarse.repeat(8, 0).repeat(8, 1)
        self._box = Window(size.width // 8, size.height // 8, size.width * 7 // 8, size.height * 7 // 8)

    def plate(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None) -> Array:
        return self._cut(self._picture, crop)

    reference = plate

    def known(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._cut(np.ones(self.size, np.float32), crop)

    def matte(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        matte = np.zeros(self.size, np.float32)
        matte[self._box.y0 : self._box.y1, self._box.x0 : self._box.x1] = 1
        return self._cut(matte, crop)

    change = matte

    def affected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._cut(np.zeros(self.size, np.float32), crop)

    keep = affected

    def hole(self, frame: int) -> Window | None:
        return self._box

    def _cut(self, picture: Array, crop: Window | None) -> Array:
        if crop is None or (crop.height, crop.width) == self.size:
            return picture.copy()
        return np.ascontiguousarray(picture[max(0, crop.y0) : crop.y1, max(0, crop.x0) : crop.x1])


def _apart(ours: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    """How far two clips in [0, 1] lie apart: the largest difference, the mean, and relative to the other's norm."""
    a, b = ours.float().cpu(), other.float().cpu()
    away = (a - b).abs()
    return {
        "most": round(away.max().item(), 5),
        "mean": round(away.mean().item(), 6),
        "relative": round(((a - b).norm() / b.norm()).item(), 5),
    }


def _clear(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)


def _peaks(device: torch.device) -> dict[str, float]:
    if device.type != "cuda":
        return {}
    return {
        "allocated_gib": round(torch.cuda.max_memory_allocated(device) / GIB, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved(device) / GIB, 2),
    }


def _text(figures: dict[str, Any]) -> str:
    lines = [f"{figures['device']}, torch {figures['torch']}, {figures['clip']}"]
    for row in figures.get("pass", ()):
        faster = f"{row['times_faster']:.2f}x" if "times_faster" in row else ""
        lines.append(
            f"{row['what']:24s} {row['seconds']:7.2f} s {faster:>6s}  encode {row['encode_s']} s, "
            f"{row['steps']} steps of {row['step_s']} s, decode {row['decode_s']} s"
        )
    for row in figures.get("memory", ()):
        cap = f"{row['cap_gb']} GB" if row["cap_gb"] else "uncapped"
        peak = f"{row['reserved_gib']:.1f} GiB" if "reserved_gib" in row else ""
        done = "done" if row["done"] else "failed"
        lines.append(f"{cap:>9s} {row['memory']:14s} {done:6s} {' '.join(row['chosen']):24s} {peak} {row['step_s']} s")
    return "\n".join(lines)
