"""The ten traps in VOID's release, each with a test that fails if we step into it unawares."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from diffusers import CogVideoXTransformer3DModel, DDIMScheduler  # noqa: E402

from tests.fakes import tiny_void as tiny  # noqa: E402
from void_server.engine.void import VoidPipeline, VoidVae, memory  # noqa: E402
from void_server.engine.void.passes import conditioning, noise  # noqa: E402
from void_server.engine.void.passes.pipeline import GUIDANCE, STEPS  # noqa: E402


class Spy(torch.nn.Module):
    """Records what a module is called with, and passes it on."""

    def __init__(self, module):
        super().__init__()
        self.module, self.calls = module, []

    def forward(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.module(*args, **kwargs)


@pytest.fixture
def pipe():
    transformer = tiny.fill(CogVideoXTransformer3DModel(**tiny.TRANSFORMER), 11)
    pipe = VoidPipeline(tiny.fill(VoidVae(**tiny.VAE), 12), transformer, DDIMScheduler(**tiny.SCHEDULER))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, frames=13, **settings):
    video, mask = tiny.clip(frames)
    settings = {"generator": torch.Generator().manual_seed(42), "num_inference_steps": 2, **settings}
    settings = {"height": 32, "width": 48, "num_frames": 13, "prompt_embeds": tiny.embeds(3), **settings}
    return pipe(**({"video": video, "mask_video": mask} | settings), output_type="pt").frames


def encoder_inputs(pipe, monkeypatch, **settings):
    """What the autoencoder is fed with: (mask, video)."""
    seen = []
    encode = pipe.vae.encode
    monkeypatch.setattr(pipe.vae, "encode", lambda x: (seen.append(x), encode(x))[1])
    run(pipe, **settings)
    return seen


def test_trap_01_conditioning_noise_comes_from_the_global_generator_only_in_released(pipe):
    def twice(preset):
        torch.manual_seed(1)
        first = run(pipe, preset=preset)
        torch.manual_seed(2)
        return first, run(pipe, preset=preset)

    first, second = twice("released")
    assert not torch.equal(first, second)
    first, second = twice("fixed")
    assert torch.equal(first, second)


def test_trap_01_conditioning_noise_has_the_released_strength_and_spares_exact_minus_one():
    video = torch.zeros(1, 3, 5, 64, 64)
    video[..., :32] = -1
    noisy = conditioning.add_noise(video, torch.Generator().manual_seed(0))
    assert torch.equal(noisy[..., :32], video[..., :32])
    assert noisy[..., 32:].std().item() == pytest.approx(0.0563, rel=0.02)


def test_trap_02_22_latents_decode_to_85_frames_where_stock_gives_88():
    from diffusers import AutoencoderKLCogVideoX

    latents = tiny.array((1, tiny.LATENT_CHANNELS, 22, 2, 2), 1)
    ours, stock = VoidVae(**tiny.VAE), AutoencoderKLCogVideoX(**tiny.VAE)
    tiny.fill(ours, 12), tiny.fill(stock, 12)
    with torch.no_grad():
        assert ours.decode(latents).sample.shape[2] == 85
        assert stock.decode(latents).sample.shape[2] == 88


def test_trap_03_overlap_means_remove_as_in_training():
    disk = torch.tensor([0.0, 63, 127, 255]).view(1, 1, 1, 1, 4)
    levels = conditioning.mask_levels((255 - disk) / 255, "three")
    fed = conditioning.mask_for_vae(levels)[0, 0].flatten()
    assert fed.tolist() == pytest.approx([0, 0, 128 / 255, 1])


def test_trap_04_pass_two_is_binary_only_in_released(pipe, monkeypatch):
    latents = tiny.array((1, 4, tiny.LATENT_CHANNELS, 4, 6), 7)
    negative = tiny.embeds(4)
    for preset, levels in (("released", {0.0, 1.0}), ("fixed", {0.0, 128 / 255, 1.0})):
        mask, _ = encoder_inputs(pipe, monkeypatch, latents=latents, negative_prompt_embeds=negative, preset=preset)
        assert {round(v, 5) for v in mask.unique().tolist()} == {round(v, 5) for v in levels}


def test_trap_05_pass_one_takes_30_steps_and_pass_two_50(pipe):
    assert STEPS == {"pass 1": 30, "pass 2": 50}
    seen = []
    run(pipe, num_inference_steps=None, callback_on_step_end=lambda p, i, t, k: seen.append(i) or {})
    assert len(seen) == 30


def test_trap_06_pass_one_never_reads_the_negative_prompt(pipe):
    assert GUIDANCE == {"pass 1": 1.0, "pass 2": 6.0}
    with_negative = run(pipe, negative_prompt_embeds=tiny.embeds(4))
    assert torch.equal(with_negative, run(pipe))
    guided = run(pipe, negative_prompt_embeds=tiny.embeds(4), guidance_scale=6.0)
    assert not torch.equal(with_negative, guided)


def test_trap_07_float8_storage_is_float8(pipe):
    before = run(pipe)
    memory.apply(pipe, memory.named("float8"), torch.device("cpu"))
    block = pipe.transformer.transformer_blocks[0]
    assert block.attn1.to_q.weight.dtype == block.ff.net[2].weight.dtype == torch.float8_e4m3fn
    after = run(pipe)
    assert block.attn1.to_q.weight.dtype == torch.float8_e4m3fn
    assert 0 < (before - after).abs().max() < 0.5


def test_trap_08_mask_reaches_the_autoencoder_in_0_1_and_video_in_minus_1_1(pipe, monkeypatch):
    mask, video = encoder_inputs(pipe, monkeypatch)
    assert mask.min() == 0
    assert mask.max() == 1
    assert video.min() < -0.7


def test_trap_09_the_whole_video_is_seen_object_included(pipe, monkeypatch):
    _, seen = encoder_inputs(pipe, monkeypatch, noise_strength=0.0)
    video, mask = tiny.clip(13)
    assert torch.allclose(seen, video * 2 - 1, atol=1e-6)
    assert (mask == 1).any()


def test_trap_10_released_noise_is_squeezed_to_two_thirds_of_its_variance_and_22_latents():
    file = np.random.default_rng(0).standard_normal((72, 60, 90, 16)).astype(np.float32)
    released = noise.released_resize(file, 22, 48, 84)
    assert released.shape == (1, 22, 16, 48, 84)
    assert released.std() == pytest.approx(0.661, abs=0.003)


def test_trap_10_our_noise_has_unit_variance_at_any_aspect_and_length():
    base = np.random.default_rng(0).random((24, 60, 3)).astype(np.float32).repeat(8, 0).repeat(8, 1)
    clip = np.stack([base[:128, 3 * i : 3 * i + 320] for i in range(29)])
    made = noise.warped_noise(clip, 8, seed=1)
    assert made.shape == (8, 8, 16, 40)
    for latent in made:
        assert latent.std() == pytest.approx(1, abs=0.05)
        assert abs(np.mean(latent[:, :, 1:] * latent[:, :, :-1])) < 0.05
    # 12 pixels of motion a latent: 3 cells in 2 latents.
    assert np.mean(made[2:, :, :, :-3] * made[:-2, :, :, 3:]) > 0.5
    assert abs(np.mean(made[2:] * made[:-2])) < 0.1


def test_the_released_configuration_loads_with_48_channels(tmp_path):
    from void_server.engine.void.model.loading import load_transformer

    tiny.write_weights(tmp_path, encoder=False)
    config = json.loads((tmp_path / tiny.BASE / "transformer" / "config.json").read_text())
    assert config["in_channels"] != tiny.TRANSFORMER["in_channels"]
    model = load_transformer(tmp_path, "void_pass1", tiny.TRANSFORMER["in_channels"], torch.float32)
    assert model.config.in_channels == tiny.TRANSFORMER["in_channels"]
