"""The card's memory: what a shot may have of it, what it keeps, and that nothing stays behind. On the CPU."""

from __future__ import annotations

import gc
import weakref

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from diffusers import CogVideoXTransformer3DModel  # noqa: E402
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXSafeConv3d  # noqa: E402

from tests.fakes import tiny_void as tiny  # noqa: E402
from tests.test_void_engine import a_shot  # noqa: E402
from void_server.engine.void import VoidEngine, VoidPipeline, VoidVae, memory  # noqa: E402
from void_server.engine.void.model import loading  # noqa: E402
from void_server.wire.errors import GpuMemoryError, JobCancelledError  # noqa: E402
from void_server.wire.report import Report  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def options(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return {"weights": str(weights), "steps": 2, "window": 21}


@pytest.fixture
def transformers(monkeypatch):
    """A weak reference to every transformer that was loaded, and at each load which of the earlier ones still lived."""
    loaded, alive_at_load = [], []
    real = loading.load_pipeline

    def load(*args, **kwargs):
        alive_at_load.append([seen() is not None for seen in loaded])
        pipe = real(*args, **kwargs)
        loaded.append(weakref.ref(pipe.transformer))
        return pipe

    monkeypatch.setattr(loading, "load_pipeline", load)
    return loaded, alive_at_load


def run_out_of_memory_in_the_decoder(monkeypatch, times):
    """As on a card: deep inside the autoencoder, many frames below the engine."""
    decode, forward = VoidPipeline._decode, CogVideoXSafeConv3d.forward
    left, deep = [times], [False]

    def watched(self, *args, **kwargs):
        deep[0] = True
        try:
            return decode(self, *args, **kwargs)
        finally:
            deep[0] = False

    def fails(self, x):
        if deep[0] and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, x)

    monkeypatch.setattr(VoidPipeline, "_decode", watched)
    monkeypatch.setattr(CogVideoXSafeConv3d, "forward", fails)


def test_the_second_try_begins_with_nothing_of_the_first_in_memory(options, transformers, monkeypatch):
    run_out_of_memory_in_the_decoder(monkeypatch, times=1)
    list(VoidEngine("cpu").fill(a_shot(options), Report()))
    assert transformers[1] == [[], [False]]


def test_a_failure_that_is_still_being_handled_holds_no_model(options, transformers, monkeypatch):
    run_out_of_memory_in_the_decoder(monkeypatch, times=2)
    with pytest.raises(GpuMemoryError) as caught:
        list(VoidEngine("cpu").fill(a_shot(options), Report()))
    assert caught.value.__cause__ is not None
    assert [seen() for seen in transformers[0]] == [None, None]


def test_a_cancelled_shot_holds_no_model_even_while_the_cancel_is_handled(options, transformers):
    report = Report(cancelled=lambda: any(seen() is not None for seen in transformers[0]))
    with pytest.raises(JobCancelledError):
        list(VoidEngine("cpu").fill(a_shot(options), report))
    assert [seen() for seen in transformers[0]] == [None]


def test_a_released_engine_holds_no_model_and_fills_the_next_shot(options, transformers):
    engine = VoidEngine("cpu")
    first = list(engine.fill(a_shot(options), Report()))
    assert transformers[0][0]() is not None, "kept for the next shot"
    engine.release()
    assert transformers[0][0]() is None
    again = list(engine.fill(a_shot(options), Report()))
    assert (first[0].rgb == again[0].rgb).all()


def test_what_this_process_has_reserved_itself_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 << 30, 48 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 43 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    tier, why = memory.choose("auto", torch.device("cuda"))
    assert tier.name == "full"
    assert "47.0 GiB free" in why


def test_models_that_take_turns_leave_without_being_copied_back():
    vae = tiny.fill(VoidVae(**tiny.VAE), 12)
    transformer = tiny.fill(CogVideoXTransformer3DModel(**tiny.TRANSFORMER), 11)
    models = {"vae": vae, "transformer": transformer}
    home = {name: [t.data_ptr() for t in model.parameters()] for name, model in models.items()}

    def visiting():
        now = {name: [t.data_ptr() for t in model.parameters()] for name, model in models.items()}
        return {name for name in models if not set(now[name]) & set(home[name])}

    memory.take_turns([vae, transformer], torch.device("cpu"))
    assert visiting() == set()
    vae._hf_hook.pre_forward(vae)
    assert visiting() == {"vae"}
    transformer._hf_hook.pre_forward(transformer)
    assert visiting() == {"transformer"}
    transformer._hf_hook.leave()
    back = {name: [t.data_ptr() for t in model.parameters()] for name, model in models.items()}
    assert back == home, "the same bytes, never copied back"


def test_a_pipeline_whose_models_take_turns_gives_the_same_frames(weights):
    def frames(turns):
        pipe = loading.load_pipeline(weights, refine=False, dtype=torch.float32, vae_dtype=torch.float32)
        if turns:
            memory.take_turns([pipe.vae, pipe.transformer], torch.device("cpu"))
        video, mask = tiny.clip(13)
        made = pipe(
            video=video,
            mask_video=mask,
            num_frames=13,
            num_inference_steps=2,
            prompt_embeds=tiny.array((1, tiny.TOKENS, tiny.TEXT_CHANNELS), 3),
            generator=torch.Generator().manual_seed(1),
            output_type="pt",
        ).frames
        pipe.remove_all_hooks()
        return made

    assert torch.equal(frames(True), frames(False))


def test_frames_that_an_exception_passed_through_are_emptied_along_its_whole_chain():
    class Held:
        pass

    def deep():
        held = Held()
        seen.append(weakref.ref(held))
        raise RuntimeError("first")

    seen = []
    try:
        try:
            deep()
        except RuntimeError as error:
            raise ValueError("second") from error
    except ValueError as error:
        assert seen[0]() is not None
        memory.let_go(error)
        gc.collect()
        assert seen[0]() is None


def test_a_worker_without_a_job_has_engines_give_back_what_they_keep(monkeypatch):
    import io

    from void_server.daemon.scheduling.worker import Worker
    from void_server.engine import registry

    class Kept:
        def release(self):
            worker._tasks.put({"job": "the next"})

    kept = {"kept": (Kept, "cpu", Kept()), "plain": (object, "cpu", object())}
    monkeypatch.setattr(registry, "_kept", kept)
    worker = Worker("cpu", "void_server.pipeline:deliver", io.StringIO(), idle_release_s=0.0)
    assert worker._next_task() == {"job": "the next"}, "and goes on waiting"
    assert kept == {}


def test_a_worker_told_to_keep_its_models_or_one_with_work_releases_nothing(monkeypatch):
    import io

    from void_server import engine as engines
    from void_server.daemon.scheduling.worker import Worker

    monkeypatch.setattr(engines, "release", lambda: pytest.fail("released"))
    for idle_s in (float("inf"), 3600.0):
        worker = Worker("cpu", "void_server.pipeline:deliver", io.StringIO(), idle_s)
        worker._tasks.put({"job": "waiting"})
        assert worker._next_task() == {"job": "waiting"}
