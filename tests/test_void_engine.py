"""The engine on a shot, with a tiny model on the CPU: what it sees, what it yields, how it fails."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from tests.fakes import tiny_void as tiny  # noqa: E402
from tests.fakes.shots import MemoryShot  # noqa: E402
from void_server import engine as engines  # noqa: E402
from void_server.engine import Colour  # noqa: E402
from void_server.engine.void import VoidEngine, memory  # noqa: E402
from void_server.engine.void.passes import sampling  # noqa: E402
from void_server.engine.void.passes.prompts import PromptBook  # noqa: E402
from void_server.wire.errors import (  # noqa: E402
    EngineError,
    GpuMemoryError,
    JobCancelledError,
    LimitError,
    SettingsError,
    WeightsError,
)
from void_server.wire.report import SHARES, Report  # noqa: E402


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights"), refine=True)


@pytest.fixture
def options(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return {"weights": str(weights), "steps": 2, "window": 21}


def a_shot(options, frames=6, **more):
    rng = np.random.default_rng(0)
    plate = np.repeat(rng.random((1, 12, 16, 3)).astype(np.float32), frames, 0).repeat(4, 1).repeat(4, 2)
    matte = np.zeros((frames, 48, 64), np.float32)
    for index in range(frames):
        matte[index, 16:30, 20 + index : 32 + index] = 1
    return MemoryShot(plate, matte, options=options, **more)


def fill(shot, report=None):
    return list(VoidEngine("cpu").fill(shot, report or Report()))


class Heard:
    def __init__(self):
        self.events = []
        self.report = Report(self.events.append)

    def notes(self):
        return " ".join(e["message"] for e in self.events if e["event"] == "note")

    def warnings(self):
        return [e["code"] for e in self.events if e["event"] == "warning"]


def test_every_wanted_frame_gets_a_legal_fill_that_holds_its_hole(options):
    shot = a_shot(options)
    fills = fill(shot)
    assert [f.frame for f in fills] == list(shot.frames)
    assert len({(f.crop, f.rgb.shape) for f in fills}) == 1
    for made in fills:
        assert made.crop.contains(shot.hole(made.frame))
        assert made.rgb.shape[0] % 16 == made.rgb.shape[1] % 16 == 0
        assert made.rgb.dtype == np.float32
        assert np.isfinite(made.rgb).all()
        assert made.rgb.min() >= 0
        assert made.rgb.max() <= 1
        assert made.rgb.std() > 0


def test_a_frame_does_not_depend_on_which_others_are_wanted(options):
    whole = {f.frame: f.rgb for f in fill(a_shot(options))}
    (alone,) = fill(a_shot(options, wanted=[1004]))
    assert np.array_equal(alone.rgb, whole[1004])


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(options):
    torch.manual_seed(1)
    first = fill(a_shot(options))[2].rgb
    torch.manual_seed(2)
    assert np.array_equal(first, fill(a_shot(options))[2].rgb)
    assert not np.array_equal(first, fill(a_shot(options, seed=7))[2].rgb)


def test_a_shot_longer_than_the_window_is_filled_to_its_last_frame(options):
    assert len(fill(a_shot(options | {"steps": 1}, frames=31))) == 31


def test_refine_runs_the_second_pass_with_its_own_weights(options):
    heard = Heard()
    plain = fill(a_shot(options))
    refined = fill(a_shot(options | {"refine": True}), heard.report)
    stages = {e["stage"] for e in heard.events if e["event"] == "progress"}
    assert {"void", "noise", "refine"} <= stages <= set(SHARES), "every stage moves the percent that artists see"
    assert not np.allclose(plain[0].rgb, refined[0].rgb)


def test_released_with_refine_says_that_it_takes_one_window_only(options):
    with pytest.raises(LimitError, match="21 frames at most"):
        fill(a_shot(options | {"refine": True, "preset": "released"}, frames=22))


def test_a_reference_frame_comes_back_as_the_artist_painted_it(options):
    shot = a_shot(options)
    painted = np.full((48, 64, 3), 0.25, np.float32)
    shot._reference[1003] = painted
    by_frame = {f.frame: f for f in fill(shot)}
    assert np.allclose(by_frame[1003].rgb, 0.25)
    assert (by_frame[1003].coverage == 1).all()
    assert (by_frame[1002].coverage == 0).all()


def test_a_known_prompt_needs_no_text_encoder(options, tmp_path, monkeypatch):
    first = fill(a_shot(options))
    monkeypatch.setattr(PromptBook, "_encode", lambda *_: pytest.fail("the text encoder was loaded"))
    assert np.array_equal(first[0].rgb, fill(a_shot(options))[0].rgb)
    shot = a_shot(options)
    shot.prompt = "another table"
    with pytest.raises(pytest.fail.Exception):
        fill(shot)


def test_a_damaged_prompt_cache_is_written_anew(options, tmp_path):
    first = fill(a_shot(options))
    (cached,) = (tmp_path / "void-server" / "prompts").iterdir()
    cached.write_bytes(cached.read_bytes()[:-7])
    assert np.array_equal(first[0].rgb, fill(a_shot(options))[0].rgb)
    assert len(list((tmp_path / "void-server" / "prompts").iterdir())) == 1


def test_the_prompt_goes_through_the_released_tokenizer_and_encoder(options, weights, tmp_path):
    import sentencepiece

    book = PromptBook(weights, tiny.TOKENS, torch.float32, tmp_path / "cache")
    (embedding,) = book.embed(["a table with a cup"], torch.device("cpu"), Report())
    model = sentencepiece.SentencePieceProcessor(str(weights / tiny.BASE / "tokenizer" / "spiece.model"))
    ids = [*model.encode("a table with a cup"), 1]
    padded = torch.tensor([ids + [0] * (tiny.TOKENS - len(ids))])
    with torch.no_grad():
        assert torch.allclose(embedding, tiny.text_encoder()(padded)[0], atol=1e-6)


def test_memory_runs_out_once_and_the_next_lower_tier_is_tried(options, monkeypatch):
    run, tiers = sampling.Sampler.run, []

    def out_of_memory_once(self, *args):
        tiers.append(self._tier.name)
        if len(tiers) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return run(self, *args)

    monkeypatch.setattr(sampling.Sampler, "run", out_of_memory_once)
    heard = Heard()
    assert len(fill(a_shot(options), heard.report)) == 6
    assert tiers == ["full", "model_offload"]
    assert heard.warnings() == ["gpu_memory"]


def test_memory_that_runs_out_twice_is_explained(options, monkeypatch):
    def always(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(sampling.Sampler, "run", always)
    with pytest.raises(GpuMemoryError, match="memory=model_offload") as caught:
        fill(a_shot(options))
    assert "memory=float8" in caught.value.hint


def test_other_failures_of_torch_come_as_engine_errors(options, monkeypatch):
    def fails(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(sampling.Sampler, "run", fails)
    with pytest.raises(EngineError, match="illegal memory access"):
        fill(a_shot(options))


def test_cancel_stops_between_steps_and_frees_the_model(options):
    seen = []
    engine = VoidEngine("cpu")
    report = Report(seen.append, lambda: any(e.get("stage") == "void" for e in seen))
    with pytest.raises(JobCancelledError):
        list(engine.fill(a_shot(options), report))
    assert sum(e.get("stage") == "void" for e in seen) == 1
    assert engine._model._loaded is None


def test_the_chosen_tier_and_region_are_in_the_log(options):
    heard = Heard()
    fill(a_shot(options | {"memory": "float8"}), heard.report)
    assert "memory=float8" in heard.notes()
    assert "64x48 plate pixels" in heard.notes()


def large(options, **more):
    """A shot that is larger than the model's trained area, most of it hole."""
    plate = np.random.default_rng(0).random((2, 640, 960, 3)).astype(np.float32)
    matte = np.zeros((2, 640, 960), np.float32)
    matte[:, 120:500, 160:780] = 1
    return MemoryShot(plate, matte, options=options | {"steps": 1}, **more)


@pytest.mark.parametrize("quality", ["release", "fine"])
def test_fine_shows_the_model_what_the_plate_has_and_release_the_area_it_was_trained_at(options, quality, monkeypatch):
    monkeypatch.setattr(sampling.Sampler, "run", lambda self, video, *_: video)
    heard = Heard()
    made = fill(large(options, quality=quality), heard.report)
    rows, columns = made[0].rgb.shape[:2]
    if quality == "release":
        assert rows * columns <= 1.02 * 384 * 672
        assert rows < made[0].crop.height
    else:
        assert (made[0].crop.height, made[0].crop.width) == (rows, columns)
        assert "scale 1.000" in heard.notes()


def crossing(options, **more):
    """A box that crosses a plate of seven times the model's area, before a photograph's worth of detail."""
    rng = np.random.default_rng(0)
    plate = np.repeat(rng.random((1, 96, 160, 3)).astype(np.float32).repeat(10, 1).repeat(10, 2), 24, 0)
    matte = np.zeros(plate.shape[:3], np.float32)
    for index in range(24):
        matte[index, 400:520, 20 + 55 * index : 140 + 55 * index] = 1
    return MemoryShot(plate, matte, options=options | {"steps": 1}, **more)


def test_a_hole_that_travels_is_followed_and_seen_finer_and_every_fill_lies_where_it_was_read(options, monkeypatch):
    monkeypatch.setattr(sampling.Sampler, "run", lambda self, video, *_: video)
    heard, shot = Heard(), crossing(options)
    followed, at_rest = fill(shot, heard.report), fill(crossing(options | {"follow": False}))
    assert len({made.crop for made in at_rest}) == 1 < len({made.crop for made in followed})
    assert "following the hole" in heard.notes()
    scales = [made[0].rgb.shape[0] / made[0].crop.height for made in (followed, at_rest)]
    assert scales[0] >= 1.25 * scales[1]
    assert len({(made.crop.width, made.crop.height, made.rgb.shape) for made in followed}) == 1
    for made in followed:
        assert made.crop.contains(shot.hole(made.frame))
        plate = shot.plate(made.frame, made.crop, scales[0], Colour.ENGINE)
        assert np.abs(made.rgb - plate).max() < 0.02, "a model that changes nothing gives the plate back"


def test_the_region_rests_for_released(options, monkeypatch):
    monkeypatch.setattr(sampling.Sampler, "run", lambda self, video, *_: video)
    made = fill(crossing(options | {"preset": "released", "window": 85}))
    assert len({one.crop for one in made}) == 1


def test_a_shot_that_is_followed_runs_through_both_passes(options):
    shot = crossing(options | {"size": "48x64", "refine": True})
    followed = fill(shot)
    assert len({made.crop for made in followed}) > 1
    assert all(made.crop.contains(shot.hole(made.frame)) and made.rgb.shape == (48, 64, 3) for made in followed)


def test_fine_says_when_release_shows_everything_already(options):
    heard = Heard()
    release, fine = fill(a_shot(options)), fill(a_shot(options, quality="fine"), heard.report)
    assert all((a.rgb == b.rgb).all() for a, b in zip(release, fine))
    assert "fine changes nothing here" in heard.notes()


@pytest.mark.parametrize(
    ("memory_", "free_gib", "area"),
    [("auto", 78, 4.05), ("auto", 8, 4.05), ("auto", 5, 2.3), ("auto", 2, 1), ("full", 30, 2.4)],
)
def test_fine_is_as_large_as_the_card_has_room_for(monkeypatch, memory_, free_gib, area):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_gib << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    pixels = memory.most_pixels(memory_, torch.device("cuda"), 768 * 1360)
    assert pixels / (384 * 672) == pytest.approx(area, rel=0.05)
    tiers = memory.TIERS if memory_ == "auto" else [memory.named(memory_)]
    assert pixels == 384 * 672 or any(tier.needs(pixels) <= free_gib << 30 for tier in tiers)


@pytest.mark.parametrize(
    ("free_gib", "tier"), [(78, "full"), (20, "full"), (14, "model_offload"), (10, "float8"), (7, "sequential")]
)
def test_the_tier_follows_what_the_card_has_free(monkeypatch, free_gib, tier):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_gib << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    chosen, why = memory.choose("auto", torch.device("cuda"))
    assert chosen.name == tier
    assert "a card" in why
    assert memory.choose("sequential", torch.device("cuda"))[0].name == "sequential"


def test_a_larger_picture_takes_a_lower_tier_on_the_same_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    tiers = [memory.choose("auto", torch.device("cuda"), h * w)[0].name for h, w in [(384, 672), (704, 1248)]]
    assert tiers == ["full", "model_offload"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("stepz", 3), ("steps", 0), ("steps", 2.5), ("memory", "lots"), ("size", "100x200"), ("refine", "maybe")],
)
def test_settings_void_can_not_take_are_named(options, name, value):
    with pytest.raises(SettingsError, match=name):
        fill(a_shot(options | {name: value}))


def test_settings_may_come_as_text_from_a_command_line(options):
    assert len(fill(a_shot(options | {"steps": "1", "refine": "false", "size": "32x48", "guidance": "2.5"}))) == 6


def test_missing_weights_are_named_before_anything_is_computed(options, tmp_path):
    with pytest.raises(WeightsError) as caught:
        fill(a_shot(options | {"weights": str(tmp_path / "nowhere")}))
    assert "weights fetch" in caught.value.hint


def test_availability_says_what_is_lacking(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("VOID_WEIGHTS", str(tmp_path))
    answer = engines.available("void", None)
    assert not answer.ok
    assert "weights fetch" in answer.reason
    monkeypatch.setenv("VOID_WEIGHTS", str(weights))
    assert engines.available("void", "cpu").ok
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "no CUDA device" in engines.available("void", None).reason
    assert engines.choose("auto", None)[0] == "propagate"


def test_availability_needs_no_torch(tmp_path):
    import subprocess
    import sys

    script = (
        "import importlib.util as u, sys\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('torch', 'diffusers') else found(name, *a)\n"
        "from void_server import engine\n"
        "print(engine.available('void', None).reason)\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("torch, diffusers not installed")


def test_8_bit_weights_leave_room_for_a_higher_tier_on_the_same_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (16 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    tiers = [memory.choose("auto", torch.device("cuda"), float8=eight_bit)[0].name for eight_bit in (False, True)]
    assert tiers == ["model_offload", "full"]
