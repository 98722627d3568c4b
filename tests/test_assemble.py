"""Chunks become one result: the same bits where they must be, faded seams where they can't, and nothing stale."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests import farm_floor, tiny_shot
from void_server import pipeline
from void_server.farm import chunks
from void_server.farm_worker import assemble, farm_task
from void_server.shot import check
from void_server.wire.errors import JobError, SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import FrameRange, ShotSettings

COUNT = 16
SHOT = FrameRange(tiny_shot.FIRST, tiny_shot.FIRST + COUNT - 1)
SETTINGS = ShotSettings(engine="propagate", physics_prior=False)
SEAM_LIMIT = 0.5 / 255


def write_panning(folder, count=COUNT, width=128, height=72):
    """A noise-free wall under a camera that pans by parts of a pixel, and a box that crosses it."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(0.05, 0.8, (height // 6, 64, 3)).astype(np.float32)
    wall = np.clip(cv2.resize(coarse, (64 * 6, height), interpolation=cv2.INTER_CUBIC), 0.02, 4)
    for index in range(count):
        shift = np.float32([[1, 0, 20 + 1.37 * index], [0, 1, 0]])
        plate = cv2.warpAffine(wall, shift, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        x, box = 10 + 5 * index, np.zeros((height, width), np.float16)
        box[28:48, x : x + 16] = 1
        plate[box > 0] = (0.7, 0.1, 0.1)
        name = tiny_shot.FIRST + index
        tiny_shot.write_exr(folder / f"plate/plate.{name}.exr", tiny_shot.rgb(plate.astype(np.float16)))
        tiny_shot.write_exr(folder / f"matte/matte.{name}.exr", {"A": box})
    return check.find_files(str(folder / "plate/plate.####.exr"), str(folder / "matte/matte.####.exr"))


@pytest.fixture(scope="module")
def panning(tmp_path_factory):
    """(files, folder of the whole-shot result)."""
    folder = tmp_path_factory.mktemp("panning")
    files = write_panning(folder)
    pipeline.make_clean_plate(files, SETTINGS, folder / "whole", Report())
    return files, folder / "whole"


def in_chunks(files, out, size, overlap, settings=SETTINGS):
    for chunk in chunks.split(SHOT, size):
        farm_task.run_chunk(files, settings, out, chunk, overlap, Report())
    return assemble.assemble(files, settings, out, overlap, Report())


def encoded(path):
    """sRGB without rounding to 8 bits, so that half a step can be measured."""
    light = np.clip(farm_floor.light(path), 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def test_chunks_that_read_the_whole_plate_are_the_whole_shot_to_the_bit(panning, tmp_path):
    files, whole = panning
    manifest = in_chunks(files, tmp_path / "out", 8, 3)
    farm_floor.same_frames(whole, tmp_path / "out")
    assert len(manifest["chunks"]["cross_faded"]) == 6
    for frame in manifest["chunks"]["cross_faded"]:
        name = f"clean.{frame}.exr"
        assert np.abs(encoded(tmp_path / "out" / name) - encoded(whole / name)).max() <= SEAM_LIMIT


def test_with_few_handles_chunks_differ_and_their_seam_is_faded_frame_by_frame(panning, tmp_path):
    """No frame of a seam is further from either chunk than its share says: a cut is spread over the whole overlap."""
    files, _ = panning
    settings = ShotSettings(engine="propagate", physics_prior=False, handles=2)
    parts, overlap, out = chunks.split(SHOT, 8), 3, tmp_path / "out"
    for part in parts:
        farm_task.run_chunk(files, settings, out, part, overlap, Report())
    shutil.copytree(out / chunks.FOLDER, tmp_path / "kept")
    manifest = assemble.assemble(files, settings, out, overlap, Report())
    assert (manifest["chunks"]["handles"], manifest["chunks"]["cross_faded"]) == (2, list(range(1006, 1012)))
    gaps = []
    for frame in manifest["chunks"]["cross_faded"]:
        name, share = f"clean.{frame}.exr", chunks.share_of_later(frame, 1009, overlap)
        first, later = (farm_floor.light(tmp_path / "kept" / chunks.folder(out, part).name / name) for part in parts)
        made = farm_floor.light(out / name)
        gaps.append(np.abs(later - first).max())
        assert np.abs(made - (first + (later - first) * share)).max() <= 2**-11 * np.abs(made).max()
    assert max(gaps) > SEAM_LIMIT, "were there nothing to hide, hiding it would prove nothing"


def test_a_fade_is_linear_and_leaves_everything_outside_the_hole_alone(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot", count=8)
    files = check.find_files(shot.plate, shot.matte)
    out = tmp_path / "out"
    for first, value in ((1001, 0.25), (1005, 0.75)):
        _flat_chunk(files, out, FrameRange(first, first + 3), value)
    _assemble_flat(files, out)
    inside = [float(farm_floor.light(out / f"clean.{f}.exr")[30, 11 + 10 * (f - 1001), 0]) for f in tiny_shot.FRAMES]
    assert inside == pytest.approx([0.25, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.75], abs=1e-3)
    for frame in tiny_shot.FRAMES:
        plate, clean = farm_floor.light(files.plate[frame]), farm_floor.light(out / f"clean.{frame}.exr")
        kept = tiny_shot.read_channel(out / f"aov.{frame}.exr", "change") == 0
        assert kept.any()
        assert (plate[kept] == clean[kept]).all()


class _Flat:
    """An engine that fills with one value."""

    def __init__(self, value):
        from void_server.engine import Needs

        self.value, self.needs, self.name = value, Needs(), "propagate"

    def fill(self, shot, report):
        from void_server.engine import Fill

        for frame in shot.wanted:
            crop = shot.hole(frame)
            ones = np.ones((crop.height, crop.width), np.float32)
            yield Fill(frame, crop, np.repeat(ones[..., None] * self.value, 3, -1).astype(np.float32), ones, ones)


FLAT = ShotSettings(engine="propagate", physics_prior=False, handles=2, feather_px=0)


def _flat_chunk(files, out, chunk, value):
    patch = pytest.MonkeyPatch()
    with patch.context() as held:
        held.setattr("void_server.engine.load", lambda name, device: _Flat(value))
        farm_task.run_chunk(files, FLAT, out, chunk, 2, Report())


def _assemble_flat(files, out):
    return assemble.assemble(files, FLAT, out, 2, Report())


def test_a_chunk_of_other_settings_is_not_taken(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    files, out = check.find_files(shot.plate, shot.matte), tmp_path / "out"
    for chunk in (FrameRange(1001, 1004), FrameRange(1005, 1008)):
        farm_task.run_chunk(files, SETTINGS, out, chunk, 1, Report())
    other = ShotSettings(engine="propagate", physics_prior=False, grow_px=5)
    with pytest.raises(JobError, match="chunk 1001-1004 was made from other inputs, settings or another overlap"):
        assemble.assemble(files, other, out, 1, Report())
    with pytest.raises(JobError, match="another overlap"):
        assemble.assemble(files, SETTINGS, out, 2, Report())
    assert not list(out.glob("clean.*"))
    assemble.assemble(files, SETTINGS, out, 1, Report())


def test_a_plate_that_changed_after_its_chunk_was_made_is_noticed(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    files, out = check.find_files(shot.plate, shot.matte), tmp_path / "out"
    for chunk in (FrameRange(1001, 1004), FrameRange(1005, 1008)):
        farm_task.run_chunk(files, SETTINGS, out, chunk, 1, Report())
    plate = tiny_shot.wall(seed=9)
    tiny_shot.write_exr(shot.folder / "plate/plate.1007.exr", tiny_shot.rgb(plate))
    with pytest.raises(JobError, match="made from other inputs"):
        assemble.assemble(files, SETTINGS, out, 1, Report())


def test_a_missing_chunk_is_named(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    files, out = check.find_files(shot.plate, shot.matte), tmp_path / "out"
    with pytest.raises(JobError, match="no chunk that begins at frame 1001"):
        assemble.assemble(files, SETTINGS, out, 1, Report())
    farm_task.run_chunk(files, SETTINGS, out, FrameRange(1001, 1004), 1, Report())
    with pytest.raises(JobError, match="no chunk that begins at frame 1005"):
        assemble.assemble(files, SETTINGS, out, 1, Report())
    farm_task.run_chunk(files, SETTINGS, out, FrameRange(1005, 1008), 1, Report())
    (chunks.folder(out, FrameRange(1005, 1008)) / "manifest.json").unlink()
    with pytest.raises(JobError, match="chunk 1005-1008 is not finished"):
        assemble.assemble(files, SETTINGS, out, 1, Report())


def test_folders_left_by_another_splitting_are_passed_over(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    files, out = check.find_files(shot.plate, shot.matte), tmp_path / "out"
    for first, last in ((1001, 1002), (1001, 1004), (1005, 1008), (1007, 1008)):
        farm_task.run_chunk(files, SETTINGS, out, FrameRange(first, last), 1, Report())
    (out / ".chunks/notes").mkdir()
    assert assemble.assemble(files, SETTINGS, out, 1, Report())["chunks"]["ranges"] == ["1001-1004", "1005-1008"]


def test_an_assembly_that_was_stopped_goes_on_and_one_that_was_finished_stays(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    files, out = check.find_files(shot.plate, shot.matte), tmp_path / "out"
    for chunk in (FrameRange(1001, 1004), FrameRange(1005, 1008)):
        farm_task.run_chunk(files, SETTINGS, out, chunk, 1, Report())
    seen = []

    def stop_after_three(event):
        seen.append(event)

    enough = Report(stop_after_three, lambda: sum(e["event"] == "frame" for e in seen) >= 3)
    with pytest.raises(Exception, match="Cancelled"):
        assemble.assemble(files, SETTINGS, out, 1, enough)
    assert not (out / "manifest.json").exists()
    stamp = (out / "clean.1001.exr").stat().st_mtime_ns
    manifest = assemble.assemble(files, SETTINGS, out, 1, Report())
    assert (out / "clean.1001.exr").stat().st_mtime_ns == stamp
    assert manifest["frames"].keys() == {str(f) for f in tiny_shot.FRAMES}
    shutil.rmtree(out / ".chunks", ignore_errors=True)
    assert assemble.assemble(files, SETTINGS, out, 1, Report()) == json.loads((out / "manifest.json").read_text())


def test_a_chunk_in_which_nothing_is_marked_is_the_plate(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    for frame in range(1005, 1009):
        empty = np.zeros((tiny_shot.HEIGHT, tiny_shot.WIDTH), np.float16)
        tiny_shot.write_exr(shot.folder / f"matte/matte.{frame}.exr", {"A": empty})
    files, out = check.find_files(shot.plate, shot.matte), tmp_path / "out"
    settings = ShotSettings(engine="propagate", physics_prior=False, handles=0)
    for chunk in (FrameRange(1001, 1004), FrameRange(1005, 1008)):
        farm_task.run_chunk(files, settings, out, chunk, 0, Report())
    manifest = assemble.assemble(files, settings, out, 0, Report())
    assert manifest["chunks"]["cross_faded"] == []
    for frame in range(1005, 1009):
        assert (farm_floor.light(out / f"clean.{frame}.exr") == farm_floor.light(files.plate[frame])).all()


def test_an_overlap_longer_than_half_a_chunk_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="too few to be faded"):
        chunks.check_overlap(chunks.split(SHOT, 8), 5)
    chunks.check_overlap([SHOT], 50)


def test_two_ranges_of_one_shot_may_run_into_one_folder_at_once(tmp_path):
    """What a farm without our plug-in does: `void-server run --frames` on two machines, one output folder."""
    shot = tiny_shot.write(tmp_path / "shot")
    out = tmp_path / "out"
    words = [sys.executable, "-m", "void_server.cli", "run", *farm_floor.shot_words(shot, out, "propagate"), "--json"]
    runs = [
        subprocess.Popen([*words, f"--frames={frames}"], env=farm_floor.environment(), stdout=subprocess.DEVNULL)
        for frames in ("1001-1004", "1005-1008")
    ]
    assert [run.wait(60) for run in runs] == [0, 0]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["frames"].keys() == {str(f) for f in tiny_shot.FRAMES}
    farm_floor.void_server("run", *farm_floor.shot_words(shot, tmp_path / "local", "propagate"))
    farm_floor.same_frames(tmp_path / "local", out)


def test_a_torn_journal_line_costs_its_own_frame_alone(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    files, out = check.find_files(shot.plate, shot.matte), tmp_path / "out"
    settings = ShotSettings(engine="propagate", physics_prior=False, frames=FrameRange(1001, 1004))
    pipeline.make_clean_plate(files, settings, out, Report())
    journal = out / "frames.jsonl"
    torn = json.loads(journal.read_text().splitlines()[-1])["frame"]
    journal.write_bytes(journal.read_bytes()[:-30])
    said = []
    both = ShotSettings(engine="propagate", physics_prior=False)
    pipeline.make_clean_plate(files, both, out, Report(said.append))
    assert [e["frame"] for e in said if e["event"] == "frame"] == [torn, 1005, 1006, 1007, 1008]
    said.clear()
    pipeline.make_clean_plate(files, both, out, Report(said.append))
    assert not [e for e in said if e["event"] == "frame"]
