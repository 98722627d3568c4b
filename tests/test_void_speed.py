"""What makes VOID fast changes its numbers by rounding only, says where it can't be had, and spares `released`."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from diffusers import CogVideoXTransformer3DModel, DDIMScheduler  # noqa: E402

from tests.fakes import tiny_void as tiny  # noqa: E402
from tests.test_void_engine import Heard, a_shot, fill  # noqa: E402
from void_server.engine.void import VoidPipeline, VoidVae  # noqa: E402
from void_server.engine.void.model import compiling, float8, fused  # noqa: E402
from void_server.engine.void.passes import sampling  # noqa: E402
from void_server.wire.errors import SettingsError  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights"), refine=True)


@pytest.fixture
def options(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return {"weights": str(weights), "steps": 2, "window": 21}


@pytest.fixture
def transformer():
    return tiny.fill(CogVideoXTransformer3DModel(**tiny.TRANSFORMER), 11)


def pipeline(transformer, dtype=torch.float32):
    vae = tiny.fill(VoidVae(**tiny.VAE), 12).to(dtype)
    pipe = VoidPipeline(vae=vae, transformer=transformer, scheduler=DDIMScheduler(**tiny.SCHEDULER))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, frames=13, window=13, **settings):
    video, mask = tiny.clip(frames)
    settings = {"num_inference_steps": 2, "prompt_embeds": tiny.embeds(3), "output_type": "pt", **settings}
    generator = torch.Generator().manual_seed(42)
    return pipe(video=video, mask_video=mask, num_frames=window, generator=generator, **settings).frames


def test_compiled_blocks_give_the_same_frames_and_one_compilation_serves_all(transformer, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    expected = run(pipeline(transformer))
    torch._dynamo.reset()
    compiling.compile_blocks(transformer, pytest.fail, backend=counting)
    assert torch.allclose(run(pipeline(transformer)), expected, atol=1e-5)
    assert len(graphs) == 1, "two blocks, two steps"
    run(pipeline(transformer), frames=29, window=29)
    assert len(graphs) == 1, "and a shot of another length"


def test_where_nothing_can_be_compiled_blocks_run_as_they_are_and_it_is_said_once(transformer, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def no_compiler(graph, inputs):
        raise RuntimeError("no C compiler found")

    expected, heard = run(pipeline(transformer)), []
    torch._dynamo.reset()
    compiling.compile_blocks(transformer, heard.append, backend=no_compiler)
    assert torch.equal(run(pipeline(transformer)), expected)
    assert len(heard) == 1
    assert "no C compiler found" in heard[0]


def test_what_is_compiled_lies_in_the_users_own_cache_unless_he_said_where(transformer, monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiling.compile_blocks(transformer, backend="eager")
    import os

    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "void-server" / "compiled")


def test_8_bit_layers_are_8_bit_and_close(transformer):
    block = transformer.transformer_blocks[0]
    x = tiny.array((1, 5, 32), 3)
    expected = block.ff(x)
    assert float8.convert(transformer, torch.device("cpu"), least_features=32) == 6 * len(
        transformer.transformer_blocks
    )
    assert block.attn1.to_q.weight.dtype == block.ff.net[2].weight.dtype == torch.float8_e4m3fn
    apart = (block.ff(x) - expected).norm() / expected.norm()
    assert 0 < apart < 0.06


def test_rows_of_very_different_size_each_keep_their_digits():
    linear = tiny.fill(torch.nn.Linear(64, 8), 4)
    x = tiny.array((4, 64), 3) * torch.tensor([1e-6, 1.0, 1e3, 0.0])[:, None]
    with torch.no_grad():
        linear.bias.zero_()
        got, expected = float8.Float8Linear(linear, torch.device("cpu"))(x), linear(x)
    rows = (got - expected).norm(dim=1) / expected.norm(dim=1).clamp(min=1e-12)
    assert rows.max() < 0.1
    assert not got[3].any()


@pytest.mark.parametrize("setting", [{"draft": True}, {"precision": "fp8"}])
def test_released_takes_nothing_that_changes_its_numbers(options, setting):
    with pytest.raises(SettingsError, match="preset=released"):
        fill(a_shot(options | {"preset": "released"} | setting))


@pytest.mark.parametrize("quality", ["draft", "fine"])
def test_released_takes_no_quality_but_its_own(options, quality):
    with pytest.raises(SettingsError, match="preset=released"):
        fill(a_shot(options | {"preset": "released"}, quality=quality))


def test_draft_is_a_spelling_of_quality_draft_and_none_of_fine(options):
    del options["steps"]
    assert all((a.rgb == b.rgb).all() for a, b in zip(
        fill(a_shot(options, frames=2, quality="draft")), fill(a_shot(options | {"draft": True}, frames=2))
    ))  # fmt: skip
    with pytest.raises(SettingsError, match="contradict"):
        fill(a_shot(options | {"draft": True}, quality="fine"))


def test_precision_and_draft_reach_the_model(options, monkeypatch):
    converted, cached = [], []
    monkeypatch.setattr(float8, "convert", lambda transformer, device: converted.append(device.type))
    enable = CogVideoXTransformer3DModel.enable_cache
    monkeypatch.setattr(
        CogVideoXTransformer3DModel, "enable_cache", lambda self, config: (cached.append(config), enable(self, config))
    )
    fill(a_shot(options))
    assert (converted, cached) == ([], [])
    fill(a_shot(options | {"precision": "fp8", "draft": True}))
    assert converted == ["cpu"]
    assert [config.threshold for config in cached] == [sampling.DRAFT_CHANGE]


def test_a_draft_takes_fewer_steps_unless_told_how_many(options):
    heard = Heard()
    del options["steps"]
    fill(a_shot(options, quality="draft"), heard.report)
    assert sum(event.get("stage") == "void" for event in heard.events) == sampling.DRAFT_STEPS
    heard = Heard()
    fill(a_shot(options | {"draft": True, "steps": 3}), heard.report)
    assert sum(event.get("stage") == "void" for event in heard.events) == 3


def test_a_draft_leaves_nothing_behind_for_the_next_shot(options):
    from void_server.engine.void import VoidEngine
    from void_server.wire.report import Report

    engine = VoidEngine("cpu")
    before = list(engine.fill(a_shot(options), Report()))
    list(engine.fill(a_shot(options | {"draft": True, "steps": 4}), Report()))
    after = list(engine.fill(a_shot(options), Report()))
    assert all((a.rgb == b.rgb).all() for a, b in zip(before, after))


def test_windows_of_a_draft_keep_apart_what_they_cached(transformer, monkeypatch):
    from diffusers.hooks import FirstBlockCacheConfig

    names = []
    context = CogVideoXTransformer3DModel.cache_context
    monkeypatch.setattr(
        CogVideoXTransformer3DModel, "cache_context", lambda self, name: (names.append(name), context(self, name))[1]
    )
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    run(pipeline(transformer), frames=45, window=29)
    assert names == ["window 0", "window 1"] * 2


def test_both_passes_share_what_they_are_told_of_video_and_mask(options, monkeypatch):
    encodes = []
    encode = VoidVae.encode
    monkeypatch.setattr(VoidVae, "encode", lambda self, x: (encodes.append(x.shape), encode(self, x))[1])
    fill(a_shot(options | {"refine": True}))
    assert len(encodes) == 2, "mask and video, once"
    encodes.clear()
    fill(a_shot(options | {"refine": True, "preset": "released"}))
    assert len(encodes) == 4, "the released second mask is another"


def test_a_given_condition_is_taken_for_what_would_be_encoded(transformer):
    pipe = pipeline(transformer)
    expected = run(pipe)
    assert torch.equal(run(pipe, condition=pipe.condition), expected)
    assert not torch.equal(run(pipe, condition=0 * pipe.condition), expected)


def test_only_released_frames_are_rounded_once_more_in_the_autoencoders_format(transformer):
    pipe = pipeline(transformer.to(torch.bfloat16), torch.bfloat16)
    settings = {"prompt_embeds": tiny.embeds(3).to(torch.bfloat16), "height": 32, "width": 48}
    released, plain = (run(pipe, preset=preset, **settings) for preset in ("released", "fixed"))
    assert torch.equal(released, released.to(torch.bfloat16).float())
    assert not torch.equal(plain, plain.to(torch.bfloat16).float())


@pytest.mark.parametrize("turns", [False, True])
def test_a_picture_that_leaves_float16_is_made_in_bfloat16(transformer, turns):
    from void_server.engine.void import memory

    pipe = pipeline(transformer, torch.float16)
    fused.fuse(pipe.vae, channels_last=False)
    if turns:
        memory.take_turns([pipe.vae, pipe.transformer], torch.device("cpu"))
    assert torch.isfinite(run(pipe)).all()
    assert not pipe.left_float16
    assert pipe.vae.dtype == torch.float16
    memory.rest(pipe)
    with torch.no_grad():
        pipe.vae.decoder.conv_out.conv.bias += 60000
        pipe.vae.decoder.conv_out.conv.weight *= 1e4
    frames = run(pipe)
    assert pipe.left_float16
    assert pipe.vae.dtype == torch.bfloat16
    assert torch.isfinite(frames).all()


def test_padding_before_a_convolution_is_padding_in_it():
    inside, before = (tiny.fill(VoidVae(**tiny.VAE), 12) for _ in range(2))
    before.pad_as_released()
    assert before.decoder.conv_in.conv.padding == (0, 0, 0)
    z, video = tiny.array((1, tiny.LATENT_CHANNELS, 5, 4, 6), 5), tiny.array((1, 3, 21, 32, 48), 6)
    with torch.no_grad():
        assert torch.allclose(before.decode(z).sample, inside.decode(z).sample, atol=1e-5)
        assert torch.allclose(
            before.encode(video).latent_dist.mode(), inside.encode(video).latent_dist.mode(), atol=1e-5
        )


def test_the_time_a_shot_takes_is_foretold_from_what_a_card_does():
    from void_server.bench.engines.void_models import TRANSFORMER
    from void_server.engine.void import duration

    size, h200 = (384, 672), 788e12
    assert duration.step_operations(TRANSFORMER, 22, size) == pytest.approx(173.7e12, rel=0.01)
    once = duration.seconds(TRANSFORMER, [22], 85, size, 30, h200)
    assert once == pytest.approx(12.9, rel=0.1), "measured on an H200"
    three = duration.seconds(TRANSFORMER, [22, 22, 14], 197, size, 30, h200)
    assert 2 * once < three < 3 * once
    streamed = duration.seconds(TRANSFORMER, [22], 85, size, 30, h200, streamed=True)
    assert streamed > once
    assert duration.seconds(TRANSFORMER, [22], 85, size, 50, h200, guided=True) > 2.5 * once


def test_the_time_of_a_larger_picture_is_told_before_it_starts(options, monkeypatch):
    from void_server.bench.engines.void_models import TRANSFORMER
    from void_server.engine.void import duration, memory
    from void_server.engine.void.options import VoidOptions

    monkeypatch.setattr(duration, "card_speed", lambda device: 788e12)
    monkeypatch.setattr(sampling, "_transformer_config", lambda folder: TRANSFORMER)
    monkeypatch.setattr(sampling.Sampler, "_embed", lambda self, *_: (_ for _ in ()).throw(KeyboardInterrupt))
    told = {}
    for quality, size in (("draft", (384, 672)), ("release", (384, 672)), ("fine", (768, 1360))):
        heard = Heard()
        chosen = VoidOptions.parse({}, quality)
        sampler = sampling.Sampler(chosen, memory.named("full"), torch.device("cuda"), None, heard.report)
        with pytest.raises(KeyboardInterrupt):
            sampler.run(np.zeros((85, *size, 3), np.float32), np.zeros((85, *size), np.uint8), "", 0)
        told[quality] = heard.notes()
    assert told["draft"].startswith("The model takes about 10 s on this card at 672x384")
    assert told["release"].startswith("The model takes about 10 s on this card at 672x384")
    assert told["fine"].startswith("The model takes about 2 min on this card at 1360x768")


def test_a_shots_flags_reach_the_engine():
    import argparse

    from void_server.commands import shot_flags

    parser = argparse.ArgumentParser()
    shot_flags.add_to(parser)
    words = ["plate", "--matte", "matte", "--out", "out", "--quality", "fine", "--precision", "fp8"]
    given = shot_flags.settings(parser.parse_args(words))
    assert (given.quality, given.options) == ("fine", {"precision": "fp8"})
    given = shot_flags.settings(parser.parse_args(words[:5]))
    assert (given.quality, given.options) == ("release", {})
    assert shot_flags.settings(parser.parse_args([*words[:5], "--draft"])).quality == "draft"
