"""What the pipeline makes of any engine: registered by anybody, streaming or not, in light or in its own colour."""

from __future__ import annotations

import importlib
import sys
import weakref

import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes.engines import GREY, GreyEngine, LazyEngine, SmallEngine
from void_server import engine, pipeline
from void_server.shot import check
from void_server.wire.errors import EngineError, SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import ShotSettings


@pytest.fixture(autouse=True)
def registered(tmp_path, monkeypatch):
    """The fakes, installed as a third party's package would be: by entry points in a distribution on the path."""
    dist = tmp_path / "site/fakes-1.0.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: fakes\nVersion: 1.0\n")
    lines = [f"{cls.name} = tests.fakes.engines:{cls.__name__}" for cls in (GreyEngine, SmallEngine, LazyEngine)]
    (dist / "entry_points.txt").write_text("[void_server.engines]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shot")


def remove(shot, out, name):
    settings = ShotSettings(engine=name, physics_prior=False)
    return pipeline.make_clean_plate(check.find_files(shot.plate, shot.matte), settings, out, Report())


def test_engines_of_third_parties_are_found_by_entry_point():
    assert {"propagate", "void", "grey", "small"} <= set(engine.names())
    assert type(engine.load("grey", "cpu")).__name__ == "GreyEngine"
    with pytest.raises(SettingsError, match="magic"):
        engine.load("magic", None)


@pytest.mark.parametrize(
    "code", ["import a_library_that_is_not_there", "def broken(:", "raise OSError('libcuda.so.1: no such file')", ""]
)
def test_a_third_party_s_engine_that_cant_be_imported_is_named_and_costs_no_other(code, tmp_path, monkeypatch):
    (tmp_path / "site/engine_of_others.py").write_text(code)
    with (tmp_path / "site/fakes-1.0.dist-info/entry_points.txt").open("a") as file:
        file.write("others = engine_of_others:Engine\n")
    monkeypatch.delitem(sys.modules, "engine_of_others", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(EngineError, match=r"Engine 'others' \(engine_of_others:Engine\) can't be loaded") as caught:
        engine.load("others", "cpu")
    assert "Repair or remove the package" in caught.value.hint
    assert [name for name in engine.names() if engine.available(name, "cpu").ok] == [
        "propagate",
        "grey",
        "lazy",
        "small",
    ]


def test_an_engine_asked_for_on_another_device_goes_before_the_new_one_comes(monkeypatch):
    alive, at_once = weakref.WeakSet(), []

    class Counted(GreyEngine):
        def __init__(self, device):
            super().__init__(device)
            alive.add(self)
            at_once.append(len(alive))

    monkeypatch.setattr("tests.fakes.engines.GreyEngine", Counted)
    for device in ("cpu", "cuda:0", "cpu", "cpu"):
        engine.load("grey", device)
    engine.release()
    assert at_once == [1, 1, 1]


def test_auto_says_what_it_chose_and_why():
    name, reason = engine.choose("auto", "cpu")
    assert name == "propagate"
    assert "void" in reason


def test_a_streaming_engine_paints_its_own_light_where_the_matte_says(shot, tmp_path):
    manifest = remove(shot, tmp_path / "out", "grey")
    assert manifest["engine"]["name"] == "grey"
    assert manifest["coverage"] == 0
    for index, frame in enumerate(tiny_shot.FRAMES):
        clean = tiny_shot.read_rgb(tmp_path / f"out/clean.{frame}.exr")
        assert (clean[tiny_shot.square(index)] == np.float16(GREY)).all()


def test_an_engine_that_answers_small_and_in_its_own_colour_comes_back_as_light_at_plate_size(shot, tmp_path):
    manifest = remove(shot, tmp_path / "out", "small")
    assert manifest["coverage"] > 0.9, "the engine told of half; other frames show nearly all, and were used"
    for index, frame in enumerate(tiny_shot.FRAMES):
        clean = tiny_shot.read_rgb(tmp_path / f"out/clean.{frame}.exr").astype(np.float32)
        truth = shot.truth.astype(np.float32)
        error = np.abs(clean - truth)[tiny_shot.square(index)]
        assert error.mean() < 0.02
        assert clean.max() <= 12.0


def test_an_engine_that_forgets_a_frame_is_found_out(shot, tmp_path):
    with pytest.raises(EngineError, match="lazy gave frame 1004 for frame 1003"):
        remove(shot, tmp_path / "out", "lazy")
    assert not (tmp_path / "out/manifest.json").exists()


@pytest.mark.parametrize("quality", ["release", "fine"])
def test_an_engine_that_knows_one_quality_says_so_once_and_goes_on(shot, tmp_path, quality):
    said: list[str] = []
    report = Report(lambda event: said.append(event.get("message", "")))
    settings = ShotSettings(engine="grey", physics_prior=False, quality=quality)
    pipeline.make_clean_plate(check.find_files(shot.plate, shot.matte), settings, tmp_path / "out", report)
    told = [line for line in said if "quality" in line]
    assert told == ([] if quality == "release" else ["Engine grey knows one quality; --quality fine changes nothing."])


@pytest.mark.parametrize("name", ["propagate", "grey", "small"])
def test_a_frame_does_not_depend_on_which_others_are_wanted(shot, tmp_path, name):
    from void_server.wire.shot import FrameRange

    remove(shot, tmp_path / "whole", name)
    settings = ShotSettings(engine=name, physics_prior=False, frames=FrameRange(1004, 1005))
    pipeline.make_clean_plate(check.find_files(shot.plate, shot.matte), settings, tmp_path / "part", Report())
    for frame in (1004, 1005):
        part, whole = (tmp_path / folder / f"clean.{frame}.exr" for folder in ("part", "whole"))
        assert part.read_bytes() == whole.read_bytes()
