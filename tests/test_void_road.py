"""The whole road with engine void: EXR in, a tiny VOID on the CPU, EXR out; in one process and through a daemon."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from tests import tiny_shot  # noqa: E402
from tests.fakes import tiny_void as tiny  # noqa: E402
from tests.live_daemon import LiveDaemon  # noqa: E402
from void_server import pipeline  # noqa: E402
from void_server.shot import check  # noqa: E402
from void_server.wire.report import Report  # noqa: E402
from void_server.wire.shot import ShotSettings  # noqa: E402


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def shot(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tiny_shot.write(tmp_path / "shot")


def settings(weights, **more):
    options = {"weights": str(weights), "steps": 1, "window": 21}
    return ShotSettings(engine="void", device="cpu", prompt="a wall", physics_prior=False, options=options, **more)


def assert_clean_plates(out):
    for index, frame in enumerate(tiny_shot.FRAMES):
        clean = tiny_shot.read_rgb(out / f"clean.{frame}.exr")
        plate = tiny_shot.read_rgb(out.parent / f"shot/plate/plate.{frame}.exr")
        change = tiny_shot.read_channel(out / f"aov.{frame}.exr", "change")
        assert 0 < (change > 0).mean() < 0.25
        assert np.array_equal(clean.view(np.uint16)[change == 0], plate.view(np.uint16)[change == 0])
        inside = clean.astype(np.float32)[change > 0]
        assert np.isfinite(inside).all()
        assert inside.max() <= 12.0
        assert not np.array_equal(clean[tiny_shot.square(index)], plate[tiny_shot.square(index)])


def test_exr_goes_in_and_clean_exr_comes_out_bit_identical_outside(shot, weights, tmp_path):
    notes, warnings = [], []
    kept = {"note": notes, "warning": warnings}
    report = Report(lambda e: kept[e["event"]].append(e["message"]) if e["event"] in kept else None)
    files = check.find_files(shot.plate, shot.matte)
    manifest = pipeline.make_clean_plate(files, settings(weights), tmp_path / "out", report)
    assert_clean_plates(tmp_path / "out")
    assert manifest["engine"]["name"] == "void"
    assert manifest["coverage"] > 0.2, "weights of noise draw nothing that could outvote the wall"
    assert any(note.startswith("memory=full") for note in notes)
    (invented,) = [text for text in warnings if "of what was filled" in text]
    assert "drawn by engine void" in invented
    assert "or engine void" not in invented, "nobody is sent where he is"


def test_an_interrupted_shot_goes_on_to_the_same_frames(shot, weights, tmp_path):
    files = check.find_files(shot.plate, shot.matte)
    whole, again = tmp_path / "whole", tmp_path / "again"
    pipeline.make_clean_plate(files, settings(weights), whole, Report())
    stopped = []
    report = Report(stopped.append, lambda: sum(e["event"] == "frame" for e in stopped) >= 3)
    with pytest.raises(Exception, match="Cancelled"):
        pipeline.make_clean_plate(files, settings(weights), again, report)
    pipeline.make_clean_plate(files, settings(weights), again, Report())
    for frame in tiny_shot.FRAMES:
        assert (whole / f"clean.{frame}.exr").read_bytes() == (again / f"clean.{frame}.exr").read_bytes()


def test_the_command_line_runs_it_and_refuses_missing_weights_with_a_remedy(shot, weights, tmp_path):
    def run(folder):
        command = [sys.executable, "-m", "void_server.cli", "run", shot.plate, "--matte", shot.matte]
        command += [
            "--out",
            str(tmp_path / "out"),
            "--engine",
            "void",
            "--device",
            "cpu",
            "--no-physics-prior",
            "--json",
        ]
        command += ["--option", f"weights={folder}", "--option", "steps=1", "--option", "window=21"]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    refused = run(tmp_path / "nowhere")
    assert refused.returncode == 4
    assert "weights fetch" in refused.stdout + refused.stderr
    done = run(weights)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])
    assert_clean_plates(tmp_path / "out")


def test_a_daemon_runs_it_and_its_frames_come_back(shot, weights, tmp_path):
    files = check.find_files(shot.plate, shot.matte)
    with (
        LiveDaemon(tmp_path / "data", pipeline="void_server.pipeline:deliver") as daemon,
        daemon.client() as client,
    ):
        job = client.submit(files, settings(weights)).job
        status = client.watch(job)
        assert status.state == "done", status.error
        client.fetch(job, tmp_path / "out")
    assert_clean_plates(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["engine"]["name"] == "void"
