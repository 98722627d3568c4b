"""VoidPipeline keeps diffusers' conventions, so that people who know diffusers are at home."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from diffusers import CogVideoXTransformer3DModel, DDIMScheduler, DiffusionPipeline  # noqa: E402

from tests.fakes import tiny_void as tiny  # noqa: E402
from void_server.engine.void import VoidPipeline, VoidVae  # noqa: E402


@pytest.fixture
def pipe():
    transformer = tiny.fill(CogVideoXTransformer3DModel(**tiny.TRANSFORMER), 11)
    pipe = VoidPipeline(
        vae=tiny.fill(VoidVae(**tiny.VAE), 12), transformer=transformer, scheduler=DDIMScheduler(**tiny.SCHEDULER)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, frames=13, **settings):
    video, mask = tiny.clip(frames)
    settings = {"generator": torch.Generator().manual_seed(42), "num_inference_steps": 2, **settings}
    settings = {"num_frames": 13, "prompt_embeds": tiny.embeds(3), "output_type": "pt", **settings}
    return pipe(**({"video": video, "mask_video": mask} | settings))


def test_the_call_of_the_press_runs_as_written(pipe, tmp_path):
    from transformers import T5Tokenizer

    tiny.write_tokenizer(tmp_path / "tokenizer")
    pipe.register_modules(
        tokenizer=T5Tokenizer.from_pretrained(tmp_path / "tokenizer"), text_encoder=tiny.text_encoder()
    )
    video, mask = tiny.clip(6)
    frames = pipe(
        video=video,
        mask_video=mask,
        prompt="a table",
        negative_prompt="blurry",
        num_inference_steps=2,
        guidance_scale=7.5,
        enable_physics_prior=True,
    ).frames[0]
    assert len(frames) == 6
    assert frames[0].size == (48, 32)


@pytest.mark.parametrize(
    ("output_type", "shape"),
    [("pt", (1, 13, 3, 32, 48)), ("np", (1, 13, 32, 48, 3)), ("latent", (1, 4, tiny.LATENT_CHANNELS, 4, 6))],
)
def test_frames_come_in_the_shapes_of_diffusers(pipe, output_type, shape):
    frames = run(pipe, output_type=output_type).frames
    assert tuple(frames.shape) == shape
    if output_type == "np":
        assert frames.dtype == np.float32
    assert isinstance(run(pipe, return_dict=False), tuple)


def test_without_the_physics_prior_affected_pixels_are_kept(pipe):
    mask = tiny.clip(13)[1]
    object_alone = torch.where(mask > 0.75, 1.0, 0.0)
    off = run(pipe, enable_physics_prior=False).frames
    assert torch.equal(off, run(pipe, mask_video=object_alone).frames)
    assert not torch.equal(off, run(pipe).frames)


def test_a_saved_pipeline_loads_and_gives_the_same_frames(pipe, tmp_path):
    expected = run(pipe).frames
    pipe.save_pretrained(tmp_path)
    loaded = VoidPipeline.from_pretrained(tmp_path, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded, DiffusionPipeline)
    assert isinstance(loaded.vae, VoidVae)
    assert torch.equal(run(loaded).frames, expected)


def test_the_base_models_autoencoder_loads_as_ours(tmp_path):
    from diffusers import AutoencoderKLCogVideoX

    stock = tiny.fill(AutoencoderKLCogVideoX(**tiny.VAE), 12)
    stock.save_pretrained(tmp_path)
    ours = VoidVae.from_pretrained(tmp_path, use_safetensors=True)
    assert ours.config.scaling_factor == 0.7
    expected = stock.state_dict()
    assert expected.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())


def test_slicing_decodes_a_batch_clip_by_clip_to_the_same_frames(pipe):
    latents = tiny.array((2, tiny.LATENT_CHANNELS, 4, 4, 6), 5)
    with torch.no_grad():
        whole = pipe.vae.decode(latents).sample
        pipe.vae.enable_slicing()
        assert torch.allclose(pipe.vae.decode(latents).sample, whole, atol=1e-5)


def test_tiling_keeps_size_and_length(pipe):
    pipe.vae.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=96)
    latents = tiny.array((1, tiny.LATENT_CHANNELS, 6, 12, 20), 5)
    with torch.no_grad():
        assert pipe.vae.decode(latents).sample.shape == (1, 3, 21, 96, 160)


def test_a_callback_sees_every_step_and_may_change_the_latents(pipe):
    seen = []

    def zero(_, step, timestep, tensors):
        seen.append((step, int(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    latents = run(pipe, callback_on_step_end=zero, output_type="latent").frames
    assert [step for step, _ in seen] == [0, 1]
    assert seen[0][1] == 999
    assert not latents.any()


def test_a_callback_may_interrupt(pipe):
    seen = []

    def stop(pipeline, step, *_):
        seen.append(step)
        pipeline._interrupt = True
        return {}

    run(pipe, callback_on_step_end=stop, num_inference_steps=5)
    assert seen == [0]


def test_windows_do_not_depend_on_each_other_further_than_their_overlap(pipe):
    # Two clips that differ only beyond the first window agree before the overlap.
    video, mask = tiny.clip(45)
    other = video.clone()
    other[:, :, 38:] = 1 - other[:, :, 38:]
    noise = tiny.array((1, 12, tiny.LATENT_CHANNELS, 4, 6), 9)
    made = [
        run(
            pipe,
            45,
            video=v,
            mask_video=mask,
            num_frames=29,
            latents=noise,
            refine=False,
            num_inference_steps=1,
            output_type="latent",
            noise_strength=0.0,
        ).frames
        for v in (video, other)
    ]
    apart = (made[0] - made[1]).abs().amax(dim=(0, 2, 3, 4))
    assert apart[:4].max() == 0
    assert apart[9:].max() > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 40}, "multiples of 16"),
        ({"preset": "best"}, "preset"),
        ({"prompt_embeds": None, "prompt": "a table"}, "no text encoder"),
        ({"guidance_scale": 6.0}, "negative_prompt_embeds"),
        ({"video": torch.zeros(1, 13, 3, 32, 48)}, "video is"),
        ({"mask_video": torch.zeros(1, 3, 13, 32, 48)}, "mask_video is"),
        ({"latents": torch.zeros(1, 3, 4, 4, 6)}, "this clip takes"),
    ],
)
def test_settings_that_can_not_work_are_said(pipe, wrong, message):
    wrong = {"negative_prompt_embeds": tiny.embeds(4)} | wrong if "latents" in wrong else wrong
    with pytest.raises(ValueError, match=message):
        run(pipe, **wrong)


def test_the_clips_own_aspect_is_kept_in_fixed_and_squeezed_in_released(pipe):
    video, mask = torch.rand(1, 3, 5, 48, 112), torch.zeros(1, 1, 5, 48, 112)
    mask[..., 10:20, 30:50] = 1
    size = {"num_inference_steps": 1, "num_frames": 5, "video": video, "mask_video": mask}
    assert run(pipe, **size).frames.shape[-2:] == (48, 112)
    assert pipe._size(video, mask, None, None, "released") == (384, 672)
