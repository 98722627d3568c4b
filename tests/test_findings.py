"""What the object did is found once: another seed, a correction, a preview before the removal start from it."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from tests import tiny_shot
from void_server import pipeline
from void_server.effects import findings
from void_server.effects.find import Affected
from void_server.effects.findings import Finding
from void_server.effects.look import Look
from void_server.shot import check
from void_server.wire.report import Report
from void_server.wire.shot import ShotSettings

SETTINGS = ShotSettings(engine="propagate")


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shot")


def ask(shot, out, found=None, settings=SETTINGS, **more):
    """The frames of a job, and the stages it went through."""
    stages = []
    report = Report(lambda event: stages.append(event.get("stage")))
    pipeline.deliver(check.find_files(shot.plate, shot.matte, **more), settings, out, report, found=found)
    return {path.name: path.read_bytes() for path in sorted(out.glob("clean.*.exr"))}, set(stages)


def look(value=0.5, frames=(1001, 1002)):
    one = Affected(*(np.full((4, 6), np.float16(value + i)) for i in range(3)))
    return Look(dict.fromkeys(frames, one), stays=True)


def test_another_seed_starts_from_what_was_found_and_comes_out_as_if_it_had_not(shot, tmp_path):
    _, stages = ask(shot, tmp_path / "first", tmp_path / "found")
    assert "effects" in stages
    other = dataclasses.replace(SETTINGS, seed=7)
    again, stages = ask(shot, tmp_path / "again", tmp_path / "found", other)
    fresh, _ = ask(shot, tmp_path / "fresh", tmp_path / "elsewhere", other)
    assert "effects" not in stages
    assert again == fresh
    assert again


def test_a_preview_finds_for_the_removal_that_follows(shot, tmp_path):
    preview = dataclasses.replace(SETTINGS, deliver="affected")
    _, stages = ask(shot, tmp_path / "preview", tmp_path / "found", preview)
    assert "effects" in stages
    _, stages = ask(shot, tmp_path / "out", tmp_path / "found")
    assert "effects" not in stages


def test_without_a_shared_folder_it_lies_beside_the_result(shot, tmp_path):
    ask(shot, tmp_path / "out")
    _, stages = ask(shot, tmp_path / "out", settings=dataclasses.replace(SETTINGS, feather_px=2.0, seed=3))
    assert "effects" not in stages


def test_another_matte_is_found_anew(shot, tmp_path):
    ask(shot, tmp_path / "first", tmp_path / "found")
    matte = shot.folder / "matte/matte.1003.exr"
    grown = tiny_shot.read_channel(matte, "A")
    grown[40:44, 30:40] = 1
    tiny_shot.write_exr(matte, {"A": grown})
    _, stages = ask(shot, tmp_path / "second", tmp_path / "found")
    assert "effects" in stages


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_finding_is_as_good_as_none(shot, tmp_path, damage):
    first, _ = ask(shot, tmp_path / "first", tmp_path / "found")
    (kept,) = (tmp_path / "found").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:-100] if damage is None else damage)
    again, stages = ask(shot, tmp_path / "second", tmp_path / "found")
    assert "effects" in stages
    assert again == first


def test_a_look_comes_back_bit_for_bit(tmp_path):
    Finding(tmp_path / "found", "a").put(look())
    back = Finding(tmp_path / "found", "a").get()
    assert back is not None
    assert back.stays
    assert list(back.affected) == [1001, 1002]
    for frame, one in look().affected.items():
        for role in ("appearance", "physics", "suspected"):
            kept = getattr(back.affected[frame], role)
            assert kept.dtype == np.float16
            assert np.array_equal(kept, getattr(one, role))


def test_what_nobody_asked_for_longest_goes_first_when_the_folder_is_full(tmp_path, monkeypatch):
    for age, key in enumerate("abc"):
        Finding(tmp_path, key).put(look())
        when = (tmp_path / f"{key}.npz").stat().st_mtime - 100 * (3 - age)
        os.utime(tmp_path / f"{key}.npz", (when, when))
    assert Finding(tmp_path, "a").get() is not None  # asked for now
    monkeypatch.setattr(findings, "LIMIT_BYTES", 2 * (tmp_path / "a.npz").stat().st_size + 10)
    findings.sweep(tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == ["a", "c"]


def test_a_folder_that_cannot_be_written_costs_no_job(shot, tmp_path):
    (tmp_path / "found").write_text("a file where the folder should be")
    frames, _ = ask(shot, tmp_path / "out", tmp_path / "found")
    assert frames
