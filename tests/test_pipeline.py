"""The main path on real files: the object goes, everything else stays to the last bit, and nothing is done twice."""

from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import OpenEXR
import pytest

from tests import tiny_shot
from void_server import pipeline
from void_server.image import exr
from void_server.shot import check
from void_server.wire.errors import JobCancelledError, MatteError, RequestError, SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import FrameRange, ShotSettings

PLAIN = ShotSettings(engine="propagate", physics_prior=False)


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shot")


def remove(shot, out, settings=PLAIN, report=None, **more):
    return pipeline.make_clean_plate(
        check.find_files(shot.plate, shot.matte, **more), settings, out, report or Report()
    )


def bits(array):
    return array.view({2: np.uint16, 4: np.uint32}[array.dtype.itemsize])


def test_the_object_is_gone_and_the_wall_behind_it_is_back(shot, tmp_path):
    manifest = remove(shot, tmp_path / "out")
    for index, frame in enumerate(tiny_shot.FRAMES):
        clean = tiny_shot.read_rgb(tmp_path / f"out/clean.{frame}.exr").astype(np.float32)
        error = np.abs(clean - shot.truth.astype(np.float32))[tiny_shot.square(index)]
        assert error.mean() < 0.02
    assert manifest["coverage"] == 1.0


def test_pixels_outside_the_change_are_bit_identical(shot, tmp_path):
    remove(shot, tmp_path / "out")
    for frame in tiny_shot.FRAMES:
        clean = tiny_shot.read_rgb(tmp_path / f"out/clean.{frame}.exr")
        plate = tiny_shot.read_rgb(shot.folder / f"plate/plate.{frame}.exr")
        change = tiny_shot.read_channel(tmp_path / f"out/aov.{frame}.exr", "change")
        assert 0 < (change > 0).mean() < 0.25
        assert np.array_equal(bits(clean)[change == 0], bits(plate)[change == 0])


def test_nan_inf_and_negatives_outside_the_hole_survive_and_inside_there_are_none(shot, tmp_path):
    for frame in tiny_shot.FRAMES:
        path = shot.folder / f"plate/plate.{frame}.exr"
        plate = tiny_shot.read_rgb(path)
        plate[60, :3] = [np.nan, np.inf, -np.inf]
        plate[30, 50] = np.nan
        tiny_shot.write_exr(path, tiny_shot.rgb(plate))
    manifest = remove(shot, tmp_path / "out")
    for frame in tiny_shot.FRAMES:
        clean = tiny_shot.read_rgb(tmp_path / f"out/clean.{frame}.exr")
        plate = tiny_shot.read_rgb(shot.folder / f"plate/plate.{frame}.exr")
        change = tiny_shot.read_channel(tmp_path / f"out/aov.{frame}.exr", "change")
        assert np.array_equal(bits(clean)[change == 0], bits(plate)[change == 0])
        assert np.isfinite(clean[change > 0]).all()
        assert clean[change > 0].max() <= 12.0
    assert "not-finite" in [w["code"] for w in manifest["warnings"]]


def test_overscan_and_offset_windows_stay_where_they_are(shot, tmp_path):
    for frame in tiny_shot.FRAMES:
        path = shot.folder / f"plate/plate.{frame}.exr"
        plate = tiny_shot.read_rgb(path)
        tiny_shot.write_exr(
            path, tiny_shot.rgb(plate),
            dataWindow=tiny_shot.window(-10, -6, 86, 58), displayWindow=tiny_shot.window(0, 0, 80, 50),
        )  # fmt: skip
        matte = shot.folder / f"matte/matte.{frame}.exr"
        alpha = tiny_shot.read_channel(matte, "A")
        tiny_shot.write_exr(
            matte, {"A": alpha[20:40]},
            dataWindow=tiny_shot.window(-10, 14, 86, 34), displayWindow=tiny_shot.window(0, 0, 80, 50),
        )  # fmt: skip
    remove(shot, tmp_path / "out")
    for index, frame in enumerate(tiny_shot.FRAMES):
        with OpenEXR.File(str(tmp_path / f"out/clean.{frame}.exr")) as file:
            assert file.header()["dataWindow"][0].tolist() == [-10, -6]
        clean = tiny_shot.read_rgb(tmp_path / f"out/clean.{frame}.exr").astype(np.float32)
        assert np.abs(clean - shot.truth.astype(np.float32))[tiny_shot.square(index)].mean() < 0.02


def test_frames_without_a_matte_are_the_plate_byte_for_byte(shot, tmp_path):
    path = shot.folder / "matte/matte.1003.exr"
    tiny_shot.write_exr(path, {"A": np.zeros((64, 96), np.float16)})
    remove(shot, tmp_path / "out")
    plate = (shot.folder / "plate/plate.1003.exr").read_bytes()
    assert (tmp_path / "out/clean.1003.exr").read_bytes() == plate


def test_an_empty_matte_is_an_error_and_not_a_silent_copy(shot, tmp_path):
    for frame in tiny_shot.FRAMES:
        tiny_shot.write_exr(shot.folder / f"matte/matte.{frame}.exr", {"A": np.zeros((64, 96), np.float16)})
    with pytest.raises(MatteError, match="empty on every frame"):
        remove(shot, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_the_result_is_complete_and_the_manifest_says_what_it_was_made_from(shot, tmp_path):
    manifest = remove(shot, tmp_path / "out")
    out = tmp_path / "out"
    written = {p.name for p in out.iterdir()}
    expected = {f"{n}.{f}.exr" for n in ("clean", "aov") for f in tiny_shot.FRAMES}
    assert written == expected | {"manifest.json", "sheet.png", "frames.jsonl"}
    assert json.loads((out / "manifest.json").read_text())["coverage"] == manifest["coverage"]
    assert len(manifest["inputs"]["plate"]["1001"]["sha256"]) == 64
    with OpenEXR.File(str(out / "aov.1001.exr"), separate_channels=True) as file:
        assert set(file.channels()) == {
            "change", "affected", "suspected", "physics", "coverage", "confidence", "grain.R", "grain.G", "grain.B",
        }  # fmt: skip


def grainy(shot):
    """Give every frame of a shot grain of its own."""
    rng = np.random.default_rng(8)
    for frame in tiny_shot.FRAMES:
        path = shot.folder / f"plate/plate.{frame}.exr"
        plate = tiny_shot.read_rgb(path).astype(np.float32)
        tiny_shot.write_exr(path, tiny_shot.rgb((plate + rng.normal(0, 0.02, plate.shape)).astype(np.float16)))


def added_grain(folder, frame):
    return np.stack([tiny_shot.read_channel(folder / f"aov.{frame}.exr", f"grain.{c}") for c in "RGB"], -1)


def test_the_grain_that_was_added_lies_beside_and_can_be_taken_off_again(shot, tmp_path, monkeypatch):
    grainy(shot)
    # A still of many frames lost its grain to averaging, so some is added nearly everywhere in the hole.
    remove(shot, tmp_path / "out")
    monkeypatch.setattr("void_server.image.grain.estimate", lambda pairs: None)
    remove(shot, tmp_path / "bare")
    for frame in tiny_shot.FRAMES:
        clean, bare = (
            tiny_shot.read_rgb(tmp_path / f"{n}/clean.{frame}.exr").astype(np.float32) for n in ("out", "bare")
        )
        grain, change = (
            added_grain(tmp_path / "out", frame),
            tiny_shot.read_channel(tmp_path / f"out/aov.{frame}.exr", "change"),
        )
        assert grain.dtype == np.float16 and not grain[change == 0].any()
        assert 0.002 < grain[change == 1].std() < 0.03, "about the grain of the plate"
        assert np.abs(clean - grain - bare).max() <= 2**-10, "a step of half at this light"
        assert not added_grain(tmp_path / "bare", frame).any()


def test_where_a_plate_has_no_light_its_grain_is_none_that_is_infinite(shot, tmp_path):
    grainy(shot)
    for frame in tiny_shot.FRAMES:
        path = shot.folder / f"plate/plate.{frame}.exr"
        plate = tiny_shot.read_rgb(path)
        plate[20:40] = np.inf
        tiny_shot.write_exr(path, tiny_shot.rgb(plate))
    remove(shot, tmp_path / "out")
    for frame in tiny_shot.FRAMES:
        assert np.isfinite(added_grain(tmp_path / "out", frame)).all()


class StopAfter:
    """Cancels a run once it has written a number of frames."""

    def __init__(self, frames):
        self.left = frames

    def __call__(self, event):
        self.left -= event["event"] == "frame"

    def cancelled(self):
        return self.left <= 0


def test_an_interrupted_run_goes_on_where_it_stopped_and_gives_the_same_bits(shot, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    stop = StopAfter(3)
    with pytest.raises(JobCancelledError):
        remove(shot, out, report=Report(stop, stop.cancelled))
    assert not (out / "manifest.json").exists()
    early = {p.name: p.stat().st_mtime_ns for p in out.glob("*.exr")}
    assert 3 <= len([name for name in early if name.startswith("clean")]) < tiny_shot.COUNT
    done = []
    remove(shot, out, report=Report(lambda e: done.append(e["frame"]) if e["event"] == "frame" else None))
    finished = {int(line["frame"]) for line in map(json.loads, (out / "frames.jsonl").read_text().splitlines())}
    assert finished == set(tiny_shot.FRAMES)
    assert not {1001, 1002, 1003} & set(done)
    assert all((out / f"clean.{f}.exr").stat().st_mtime_ns == early[f"clean.{f}.exr"] for f in (1001, 1002, 1003))
    remove(shot, whole)
    for frame in tiny_shot.FRAMES:
        for name in ("clean", "aov"):
            assert (out / f"{name}.{frame}.exr").read_bytes() == (whole / f"{name}.{frame}.exr").read_bytes()


def test_a_run_that_is_cancelled_while_a_frame_is_written_leaves_nothing_of_that_frame(shot, tmp_path, monkeypatch):
    """Its writers are ended in the middle of a file."""
    real = exr.write_clean
    writing = tmp_path / "writing"

    def held(header, out, *rest):
        if out.name == "clean.1003.exr":
            out.with_name(f".{out.name}.0123456789ab.tmp").write_bytes(b"half")
            writing.touch()
            threading.Event().wait(60)
        real(header, out, *rest)

    monkeypatch.setattr("void_server.image.exr.write_clean", held)
    monkeypatch.setattr("void_server.pipeline.hands", lambda _bytes: 2)
    other = tmp_path / "out/.clean.1090.exr.0123456789ab.tmp"
    other.parent.mkdir()
    other.write_bytes(b"another machine's")
    with pytest.raises(JobCancelledError):
        remove(shot, tmp_path / "out", report=Report(cancelled=writing.exists))
    assert [p.name for p in (tmp_path / "out").glob(".*")] == [other.name]


STAGES = ["mattes", "read", "look", "masks", "camera", "effects", "plan", "fill", "frames", "sheet"]
"""In the order in which a run first comes to them."""


@pytest.mark.parametrize("stage", STAGES[:-2])
def test_a_run_is_cancelled_in_any_stage_and_goes_no_further(shot, tmp_path, stage):
    heard = []

    def told(event):
        heard.append(event.get("stage"))

    with pytest.raises(JobCancelledError):
        remove(shot, tmp_path / "out", ShotSettings(engine="propagate"), Report(told, lambda: stage in heard))
    assert not set(heard) & set(STAGES[STAGES.index(stage) + 1 :])
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_finished_run_computes_nothing_again_unless_something_changed(shot, tmp_path):
    out = tmp_path / "out"
    remove(shot, out)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.exr")}
    remove(shot, out)
    assert {p.name: p.stat().st_mtime_ns for p in out.glob("*.exr")} == before
    remove(shot, out, ShotSettings(engine="propagate", physics_prior=False, grow_px=4))
    assert all(p.stat().st_mtime_ns != before[p.name] for p in out.glob("*.exr"))


def test_a_changed_input_is_noticed(shot, tmp_path):
    out = tmp_path / "out"
    remove(shot, out)
    before = (out / "clean.1001.exr").stat().st_mtime_ns
    path = shot.folder / "plate/plate.1008.exr"
    plate = tiny_shot.read_rgb(path)
    plate[0, 0] = 0.5
    tiny_shot.write_exr(path, tiny_shot.rgb(plate))
    remove(shot, out)
    assert (out / "clean.1001.exr").stat().st_mtime_ns != before


def test_a_torn_line_of_the_journal_is_made_again(shot, tmp_path):
    out = tmp_path / "out"
    remove(shot, out)
    journal = out / "frames.jsonl"
    # Two writers finish in either order, so the last line is not always the last frame's.
    last = json.loads(journal.read_text().splitlines()[-1])["frame"]
    journal.write_text(journal.read_text()[:-20])
    before = {f: (out / f"clean.{f}.exr").stat().st_mtime_ns for f in tiny_shot.FRAMES}
    remove(shot, out)
    changed = [f for f in tiny_shot.FRAMES if (out / f"clean.{f}.exr").stat().st_mtime_ns != before[f]]
    assert changed == [last]


def test_a_range_made_again_is_faded_into_the_frames_beside_it(shot, tmp_path):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    remove(shot, out)
    old = {f: tiny_shot.read_rgb(out / f"clean.{f}.exr").astype(np.float32) for f in tiny_shot.FRAMES}
    other = ShotSettings(engine="propagate", physics_prior=False, grow_px=6, frames=FrameRange(1003, 1006))
    remove(shot, fresh, other)
    shutil.copytree(out, tmp_path / "copy")
    remove(shot, tmp_path / "copy", other)
    for frame in (1001, 1002, 1007, 1008):
        assert (tmp_path / f"copy/clean.{frame}.exr").read_bytes() == (out / f"clean.{frame}.exr").read_bytes()
    new = tiny_shot.read_rgb(fresh / "clean.1003.exr").astype(np.float32)
    faded = tiny_shot.read_rgb(tmp_path / "copy/clean.1003.exr").astype(np.float32)
    expected = old[1003] + (new - old[1003]) * 0.2
    assert np.abs(faded - expected).max() < 0.01


def test_the_grain_of_a_range_made_again_is_faded_as_its_light_is(shot, tmp_path):
    grainy(shot)
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    remove(shot, out)
    other = ShotSettings(engine="propagate", physics_prior=False, grow_px=6, seed=4, frames=FrameRange(1003, 1006))
    remove(shot, fresh, other)
    old, new = (added_grain(folder, 1003).astype(np.float32) for folder in (out, fresh))
    remove(shot, out, other)
    assert np.abs(new - old).max() > 0.02, "or it would prove nothing"
    assert np.abs(added_grain(out, 1003) - (old + (new - old) * 0.2)).max() < 1e-3
    assert not list(out.glob(".older*"))


def test_keep_is_never_painted_over(shot, tmp_path):
    for frame in tiny_shot.FRAMES:
        keep = np.zeros((64, 96), np.float16)
        keep[:, 30:60] = 1
        tiny_shot.write_exr(shot.folder / f"keep/keep.{frame}.exr", {"A": keep})
    remove(shot, tmp_path / "out", keep=str(shot.folder / "keep/keep.####.exr"))
    for frame in tiny_shot.FRAMES:
        clean = tiny_shot.read_rgb(tmp_path / f"out/clean.{frame}.exr")
        plate = tiny_shot.read_rgb(shot.folder / f"plate/plate.{frame}.exr")
        assert np.array_equal(bits(clean)[:, 30:60], bits(plate)[:, 30:60])


def test_a_truncated_plate_is_named_with_its_frame_and_nothing_passes_as_finished(shot, tmp_path):
    path = shot.folder / "plate/plate.1005.exr"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(RequestError) as caught:
        remove(shot, tmp_path / "out")
    assert "plate.1005.exr" in caught.value.message
    assert not (tmp_path / "out/manifest.json").exists()


def test_an_unknown_engine_is_refused_with_the_ones_there_are(shot, tmp_path):
    with pytest.raises(SettingsError) as caught:
        remove(shot, tmp_path / "out", ShotSettings(engine="magic"))
    assert "propagate" in caught.value.hint


def test_one_frame_is_a_shot(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot", count=1)
    manifest = remove(shot, tmp_path / "out")
    # The band around the matte shows this frame's own wall; what the square hides, no frame shows.
    assert manifest["coverage"] < 0.5
    coverage = tiny_shot.read_channel(tmp_path / "out/aov.1001.exr", "coverage")
    assert coverage[tiny_shot.square(0)].max() == 0
    assert "invented" in [w["code"] for w in manifest["warnings"]]
    clean = tiny_shot.read_rgb(tmp_path / "out/clean.1001.exr").astype(np.float32)
    assert np.isfinite(clean).all()
    assert np.abs(clean - shot.truth.astype(np.float32))[tiny_shot.square(0)].mean() < 0.2
