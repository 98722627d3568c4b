"""Run the released VOID and ours side by side with the same tiny random weights, and print how far they are apart.

    python tests/compare_released_void.py PATH_OF_A_CHECKOUT [--write] [--full-size]

PATH_OF_A_CHECKOUT is a checkout of Netflix/void-model (known good: 66e9c0e5). It needs `einops` besides the `void`
extra. `--full-size` needs a card with 30 GB and compares one step of the 5.57 B transformer, bfloat16, random weights,
and nothing else. `--write` stores the released numbers in tests/data/released_void.npz, against which tests run without
a checkout.

Exits with 1 if anything differs by more than 1e-4, or with `--full-size` by more than 1e-2 relative.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.fakes import tiny_void as tiny  # noqa: E402
from void_server.bench.engines import void_models  # noqa: E402

GOLDEN = HERE / "data" / "released_void.npz"
LIMIT = 1e-4
FULL_SIZE_LIMIT = 1e-2
KEPT_SAMPLES = 1500
STEPS = 3
INPUT_SIZE, INPUT_FRAMES, INPUT_WINDOW = (384, 672), 11, 13
"""Eleven frames are no legal length, so reading them pads."""


def samples(result: torch.Tensor) -> np.ndarray:
    """Numbers that stand for a whole result: evenly strided samples, then mean and standard deviation."""
    flat = result.double().flatten()
    stride = max(1, len(flat) // KEPT_SAMPLES)
    return torch.cat([flat[::stride], flat.mean()[None], flat.std()[None]]).numpy()


def warped_noise() -> torch.Tensor:
    """What pass 2 starts from: [1, 22, 4, 4, 6], smoother than noise, like the released one."""
    noise = tiny.array((1, 22, tiny.LATENT_CHANNELS, tiny.SIZE[0] // 8, tiny.SIZE[1] // 8), 77)
    return 0.66 * noise


class Ours:
    def __init__(self) -> None:
        from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel, DDIMScheduler

        from void_server.engine.void import VoidPipeline, VoidVae

        self.transformer = tiny.fill(CogVideoXTransformer3DModel(**tiny.TRANSFORMER), 11)
        self.vae = tiny.fill(VoidVae(**tiny.VAE), 12)
        first, second = DDIMScheduler(**tiny.SCHEDULER), CogVideoXDDIMScheduler(**tiny.SCHEDULER, snr_shift_scale=1.0)
        self.pipes = [VoidPipeline(self.vae, self.transformer, scheduler) for scheduler in (first, second)]
        for pipe in self.pipes:
            pipe.set_progress_bar_config(disable=True)

    def transformer_step(self) -> torch.Tensor:
        noisy, condition, rotary, when = transformer_inputs(self.pipes[0])
        with torch.no_grad():
            return self.transformer(torch.cat([noisy, condition], 2), tiny.embeds(3), when, image_rotary_emb=rotary)[0]

    def encode(self) -> torch.Tensor:
        with torch.no_grad():
            return self.vae.encode(tiny.clip(85)[0] * 2 - 1).latent_dist.mode()

    def decode(self) -> torch.Tensor:
        with torch.no_grad():
            return self.vae.decode(decoder_input()).sample

    def decode_tiled(self) -> torch.Tensor:
        return tiled(self.vae)

    def run(self, frames: int, second: bool) -> torch.Tensor:
        video, mask = tiny.clip(frames)
        torch.manual_seed(5)
        result = self.pipes[second](
            video=video,
            mask_video=mask,
            height=tiny.SIZE[0],
            width=tiny.SIZE[1],
            num_frames=85,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(42),
            prompt_embeds=tiny.embeds(3),
            negative_prompt_embeds=tiny.embeds(4),
            preset="released",
            output_type="pt",
            latents=warped_noise() if second else None,
        )
        return result.frames.transpose(1, 2)

    def cases(self) -> dict[str, Callable[[], torch.Tensor]]:
        return {
            "transformer": self.transformer_step,
            "vae_encode_85": self.encode,
            "vae_decode_22": self.decode,
            "vae_decode_tiled": self.decode_tiled,
            "pass1_85": lambda: self.run(85, False),
            "pass1_197": lambda: self.run(197, False),
            "pass2_85": lambda: self.run(85, True),
        }


class Released(Ours):
    def __init__(self, checkout: Path) -> None:
        from diffusers import CogVideoXDDIMScheduler, DDIMScheduler

        found = void_models.released(checkout)
        self.transformer = tiny.fill(found.transformer(**tiny.TRANSFORMER, add_noise_in_inpaint_model=True), 11)
        self.vae = tiny.fill(found.vae(**tiny.VAE), 12)
        first, second = DDIMScheduler(**tiny.SCHEDULER), CogVideoXDDIMScheduler(**tiny.SCHEDULER, snr_shift_scale=1.0)
        self.pipes = []
        for scheduler in (first, second):
            pipe = found.pipeline(
                tokenizer=None, text_encoder=None, vae=self.vae, transformer=self.transformer, scheduler=scheduler
            )
            pipe.set_progress_bar_config(disable=True)
            self.pipes.append(pipe)

    def transformer_step(self) -> torch.Tensor:
        noisy, condition, rotary, when = transformer_inputs(self.pipes[0])
        with torch.no_grad():
            return self.transformer(
                noisy, tiny.embeds(3), when, inpaint_latents=condition, image_rotary_emb=rotary, return_dict=False
            )[0]

    def run(self, frames: int, second: bool) -> torch.Tensor:
        video, mask = tiny.clip(frames)
        torch.manual_seed(5)
        # Keyword by keyword what predict_v2v.py:213-231 and inference_with_pass1_warped_noise.py:414-424 pass.
        return self.pipes[second](
            prompt_embeds=tiny.embeds(3),
            negative_prompt_embeds=tiny.embeds(4),
            num_frames=85,
            height=tiny.SIZE[0],
            width=tiny.SIZE[1],
            generator=torch.Generator().manual_seed(42),
            guidance_scale=6.0 if second else 1.0,
            num_inference_steps=STEPS,
            video=video,
            mask_video=mask,
            strength=1.0,
            use_trimask=not second,
            zero_out_mask_region=False,
            use_vae_mask=True,
            stack_mask=False,
            latents=warped_noise() if second else None,
        ).videos


def transformer_inputs(pipe: Any) -> tuple[torch.Tensor, torch.Tensor, Any, torch.Tensor]:
    down = tiny.SIZE[0] // 8, tiny.SIZE[1] // 8
    noisy = tiny.array((1, 22, tiny.LATENT_CHANNELS, *down), 21)
    condition = tiny.array((1, 22, 2 * tiny.LATENT_CHANNELS, *down), 22)
    rotary = pipe._prepare_rotary_positional_embeddings(*tiny.SIZE, 22, torch.device("cpu"))
    return noisy, condition, rotary, torch.tensor([701])


def decoder_input() -> torch.Tensor:
    return tiny.array((1, tiny.LATENT_CHANNELS, 22, tiny.SIZE[0] // 8, tiny.SIZE[1] // 8), 31)


def tiled(vae: Any) -> torch.Tensor:
    vae.enable_tiling()
    with torch.no_grad(), contextlib.ExitStack() as after:
        after.callback(vae.disable_tiling)
        return vae.decode(tiny.array((1, tiny.LATENT_CHANNELS, 6, 8, 12), 32)).sample


def released_reader(checkout: Path) -> Callable[..., Any]:
    """The release's `get_video_mask_input`, without the packages that its module imports for other purposes."""

    class Silent:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None

    def read_video(path: str) -> np.ndarray:
        capture, frames = cv2.VideoCapture(str(path)), []
        while len(frames) < INPUT_FRAMES + 1:
            more, frame = capture.read()
            if not more:
                break
            frames.append(frame[..., ::-1])
        return np.stack(frames)

    stand_ins = {
        "mediapy": {"read_video": read_video},
        "loguru": {"logger": Silent()},
        "videox_fun.data": {},
        "videox_fun.data.dataset_image_video": {"get_random_mask": None},
        **{name: {} for name in ("imageio", "torchvision", "skimage", "matplotlib")},
    }
    for name, members in stand_ins.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules.setdefault(name, module)
    package = types.ModuleType("videox_fun.utils")
    package.__path__ = [str(checkout / "videox_fun" / "utils")]
    sys.modules["videox_fun.utils"] = package
    from videox_fun.utils.utils import get_video_mask_input

    return get_video_mask_input


def compare_inputs(checkout: Path) -> float:
    """The published samples through the release's reading and ours: area scaling, labels, padding. Worst difference."""
    from void_server.engine.void.passes import conditioning, windows

    read = released_reader(checkout)
    read_video = sys.modules["mediapy"].read_video
    worst = 0.0
    for sample in sorted((checkout / "sample").iterdir()):
        masks = sorted(sample.glob("*quadmask*.mp4"))
        if not masks:
            continue
        with tempfile.TemporaryDirectory() as folder:
            # Four of the seven samples carry names that the release's own reader does not find.
            place = Path(folder) / sample.name
            place.mkdir()
            source = sample / "input_video.mp4"
            shutil.copy(source if source.is_file() and source.stat().st_size else masks[0], place / "input_video.mp4")
            shutil.copy(masks[0], place / "quadmask_0.mp4")
            shutil.copy(sample / "prompt.json", place / "prompt.json")
            expected = read(
                sample.name,
                sample_size=INPUT_SIZE,
                max_video_length=INPUT_FRAMES,
                temporal_window_size=INPUT_WINDOW,
                data_rootdir=folder,
                use_quadmask=True,
            )
            video, disk = (read_video(place / name)[:INPUT_FRAMES] for name in ("input_video.mp4", "quadmask_0.mp4"))
        found = sorted(int(v) for v in np.unique(disk))
        order = windows.ping_pong(
            len(video), windows.legal_frames(len(video), at_least=INPUT_WINDOW, at_most=INPUT_FRAMES)
        )
        pictures = torch.from_numpy(np.ascontiguousarray(video)).permute(3, 0, 1, 2)[None].float() / 255
        removed = 1 - torch.from_numpy(disk[..., 0].copy()).float()[None, None] / 255
        ours = [
            conditioning.resize_area(pictures[:, :, order], *INPUT_SIZE),
            conditioning.scale_labels(removed[:, :, order], *INPUT_SIZE),
        ]
        apart = [(a - b).abs().max().item() for a, b in zip(ours, expected)]
        levels = conditioning.mask_for_vae(conditioning.mask_levels(ours[1], "three")).unique()
        sys.stdout.write(
            f"{sample.name:22} values {found}, to the autoencoder {[round(v, 3) for v in levels.tolist()]}, "
            f"max |difference| video {apart[0]:.3g} mask {apart[1]:.3g}\n"
        )
        worst = max(worst, *apart)
    return worst


def compare_full_size(released: Released, config: dict[str, Any], device: torch.device) -> float:
    """One step at 85 frames and 384x672 through the stock class and the released one: relative difference."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with device:
        pair = [type(model)(**config).eval() for model in (Ours().transformer, released.transformer)]
    torch.set_default_dtype(torch.float32)
    for name, weight in pair[0].named_parameters():
        # The usual start is so small that most layers would not count.
        std = weight.shape[1] ** -0.5 if weight.ndim == 2 else 0.02
        if weight.ndim == 2 or name.endswith("bias"):
            torch.nn.init.normal_(weight, std=std)
    pair[1].load_state_dict(pair[0].state_dict())

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=torch.bfloat16)

    channels = config["out_channels"]
    noisy, condition = draw(1, 22, channels, 48, 84), draw(1, 22, 2 * channels, 48, 84)
    text = draw(1, config["max_text_seq_length"], config["text_embed_dim"])
    pipe = Ours().pipes[0]
    pipe.transformer = pair[0]
    rotary = pipe._prepare_rotary_positional_embeddings(384, 672, 22, device)
    when = torch.tensor([999], device=device)
    with torch.no_grad():
        got = pair[0](torch.cat([noisy, condition], 2), text, when, image_rotary_emb=rotary, return_dict=False)[0]
        expected = pair[1](noisy, text, when, inpaint_latents=condition, image_rotary_emb=rotary, return_dict=False)[0]
    return ((got.float() - expected.float()).norm() / expected.float().norm()).item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--write", action="store_true", help=f"store the released numbers in {GOLDEN.name}")
    parser.add_argument("--full-size", action="store_true", help="compare the full-size transformer on the card")
    chosen = parser.parse_args()
    theirs = Released(chosen.checkout.resolve())
    if chosen.full_size:
        apart = compare_full_size(theirs, void_models.TRANSFORMER, torch.device("cuda"))
        sys.stdout.write(f"full-size transformer step, relative difference {apart:.3g}\n")
        return int(apart > FULL_SIZE_LIMIT)
    ours, released = Ours().cases(), theirs.cases()
    worst = 0.0
    golden = {}
    for name, run in released.items():
        expected, got = run(), ours[name]()
        if expected.shape != got.shape:
            sys.stdout.write(f"{name:22} shape {tuple(got.shape)}, released {tuple(expected.shape)}\n")
            worst = float("inf")
            continue
        apart = (expected.double() - got.double()).abs().max().item()
        worst = max(worst, apart)
        golden[name] = samples(expected)
        sys.stdout.write(f"{name:22} {tuple(got.shape)!s:26} max |difference| {apart:.3g}\n")
    worst = max(worst, compare_inputs(chosen.checkout.resolve()))
    if chosen.write:
        GOLDEN.parent.mkdir(exist_ok=True)
        np.savez_compressed(GOLDEN, **golden)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
