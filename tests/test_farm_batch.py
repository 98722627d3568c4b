"""Batches: ten thousand shots in seconds, little on the scheduler, no shot made twice, every failure told by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests import farm_floor, tiny_shot
from tests.farm_floor import command, void_server
from void_server.farm import batch
from void_server.wire.errors import SequenceError, SettingsError

MANY = 10_000
SUBMIT_LIMIT_S = 30
SCHEDULER_LIMIT_BYTES = 1024


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Ten thousand shots of two frames each. Their files are empty: submitting opens none."""
    folder = tmp_path_factory.mktemp("catalogue") / "show/episode_104"
    for number in range(MANY):
        for role in ("plate", "matte"):
            path = folder / f"cam{number % 7}_{number:05d}" / role
            path.mkdir(parents=True)
            (path / f"{role}.1001.exr").touch()
    return folder


def test_ten_thousand_shots_are_a_bundle_in_seconds(many, tmp_path):
    words = ["--batch", many, "--out", tmp_path / "out", "--bundle", tmp_path / "bundle"]
    void_server("farm", "bundle", *words, timeout_s=SUBMIT_LIMIT_S)
    kept = sum(path.stat().st_size for path in (tmp_path / "bundle").iterdir())
    assert kept / MANY < SCHEDULER_LIMIT_BYTES
    summary = command(farm_floor.BIN / "openjd", "summary", tmp_path / "bundle/template.yaml").stdout
    assert f"1-{MANY}" in summary
    report = void_server("farm", "report", tmp_path / "bundle/shots.csv", "--out", tmp_path / "out", "--json")
    assert json.loads(report.stdout.splitlines()[-1])["counts"] == {"waiting": MANY}


def test_ten_thousand_shots_are_one_deadline_job_in_seconds(many, tmp_path):
    repository = tmp_path / "repository"
    (repository / "custom/plugins").mkdir(parents=True)
    (repository / "custom/plugins/VoidInpaint").symlink_to(farm_floor.ROOT / "plugins/deadline/VoidInpaint")
    program = tmp_path / "deadlinecommand"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {farm_floor.ROOT}/tests/fakes/deadlinecommand.py "$@"\n')
    program.chmod(0o755)
    done = void_server(
        "farm", "submit", "--batch", many, "--out", tmp_path / "out", "--json", timeout_s=SUBMIT_LIMIT_S,
        DEADLINE_PATH=tmp_path, FAKE_DEADLINE_REPOSITORY=repository,
    )  # fmt: skip
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    record = json.loads((repository / f"{job}.json").read_text())
    assert len(record["tasks"]) == MANY
    kept = sum(len(json.dumps(record[part])) for part in ("job", "plugin"))
    kept += sum(path.stat().st_size for path in (repository / job).iterdir())
    assert kept / MANY < SCHEDULER_LIMIT_BYTES


def test_a_batch_that_was_killed_goes_on_and_makes_no_frame_twice(tmp_path):
    for name in ("s1", "s2", "s3", "s4"):
        tiny_shot.write(tmp_path / "shots" / name, count=3)
    log, out = tmp_path / "log", tmp_path / "out"
    words = [tmp_path / "shots", f"--out={out}", "--engine=farm-test", "--no-physics-prior"]
    environment = farm_floor.environment(FARM_ENGINE_LOG=log)
    run = [sys.executable, "-m", "void_server.cli", "farm", "batch", *map(str, words), "--json"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if json.loads(line).get("stage") == "s3: frames":
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait(60)
    before = farm_floor.made(log)
    assert 7 <= len(before) < 12
    stamps = {p: p.stat().st_mtime_ns for name in ("s1", "s2") for p in (out / name).glob("*.exr")}
    void_server("farm", "batch", *words, FARM_ENGINE_LOG=log)
    again = farm_floor.made(log)[len(before) :]
    assert len(again) <= 5
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    report = void_server("farm", "report", tmp_path / "shots", "--out", out)
    assert report.stdout.strip() == "4 done, 0 failed, 0 started, 0 waiting"


def test_a_bad_shot_stops_no_other_and_a_mended_one_is_taken_up(tmp_path):
    for name in ("s1", "s2", "s3"):
        tiny_shot.write(tmp_path / "shots" / name, count=2)
    matte = tmp_path / "shots/s2/matte/matte.1002.exr"
    content = matte.read_bytes()
    matte.unlink()
    words = [tmp_path / "shots", f"--out={tmp_path / 'out'}", "--engine=farm-test", "--no-physics-prior"]
    done = void_server("farm", "batch", *words, "--json", status=4)
    error = json.loads(done.stdout.splitlines()[-1])
    assert error["message"] == "1 of 3 shots failed: s2: Matte frames 1002 are missing."
    failed = json.loads((tmp_path / "out/s2/failed.json").read_text())
    assert (failed["code"], failed["name"]) == ("matte", "s2")
    matte.write_bytes(content)
    void_server("farm", "batch", *words)
    assert not (tmp_path / "out/s2/failed.json").exists()


def test_rows_override_what_is_said_for_all(tmp_path):
    tiny_shot.write(tmp_path / "shots/a", count=2)
    table = tmp_path / "shots.csv"
    plate, matte = tmp_path / "shots/a/plate/plate.####.exr", tmp_path / "shots/a/matte"
    table.write_text(
        "name,plate,matte,seed,prompt,physics_prior,frames\n"
        f"one,{plate},{matte},,,no,\n"
        f'two,{plate},{matte},9,"an empty road, at night",off,1002\n',
        encoding="utf-16",
    )
    void_server("farm", "batch", table, f"--out={tmp_path / 'out'}", "--engine=farm-test", "--seed=4")
    one, two = (json.loads((tmp_path / f"out/{name}/manifest.json").read_text()) for name in ("one", "two"))
    assert (one["settings"]["seed"], two["settings"]["seed"]) == (4, 9)
    assert two["settings"]["prompt"] == "an empty road, at night"
    assert list(two["frames"]) == ["1002"]


def test_corrections_are_columns_of_a_table_and_folders_of_a_shots_folder(tmp_path):
    shot = tiny_shot.write(tmp_path / "shots/a", count=3)
    picture = np.zeros((64, 96), np.float16)
    picture[44:54] = 1
    tiny_shot.write_exr(shot.folder / "affected_add/add.1002.exr", {"A": picture})
    table = tmp_path / "shots.csv"
    add = shot.folder / "affected_add/add.####.exr"
    table.write_text(f"name,plate,matte,affected_add\na,{shot.plate},{shot.matte},{add}\n")
    for source, out in ((table, "one"), (tmp_path / "shots", "two")):
        void_server("farm", "batch", source, f"--out={tmp_path / out}", "--engine=farm-test", "--no-physics-prior")
        assert tiny_shot.read_channel(tmp_path / out / "a/aov.1002.exr", "affected")[44:54].min() == 1
        assert not tiny_shot.read_channel(tmp_path / out / "a/aov.1001.exr", "affected").any()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("plate,matte,colour\n/p,/m,red", "unknown columns colour"),
        ("plate\n/p", "not one column each of plate and matte"),
        ("plate,matte\n/p,", "row 1: no matte"),
        ("plate,matte\n/p,/m,extra", "row 1 has more cells"),
        ("name,plate,matte\na,/p,/m\na,/p,/m", "rows 1, 2 would all write to"),
        ("name,plate,matte\n../up,/p,/m", "can't be a folder's name"),
        ('name,plate,matte\n"a\nb",/p,/m', "line break"),
        ("plate,matte,physics_prior\n/p,/m,maybe", "neither yes nor no"),
        ("plate,matte\n", "holds no shots"),
        ("", "not one column each"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_by_row(tmp_path, text, reason):
    path = tmp_path / "shots.csv"
    path.write_text(text)
    with pytest.raises((SettingsError, SequenceError), match=reason):
        batch.read(path, str(tmp_path / "out"))


def test_every_problem_of_a_batch_is_in_one_message(tmp_path):
    tiny_shot.write(tmp_path / "shots/a", count=1)
    plate, matte = (tmp_path / f"shots/a/{role}" for role in ("plate", "matte"))
    (tmp_path / "shots.csv").write_text(
        f"name,plate,matte,seed\na,{plate},{matte},x\nb,{plate},{matte},1\nc,{plate},{matte},-3\n"
    )
    words = ["--batch", tmp_path / "shots.csv", "--out", tmp_path / "out", "--bundle", tmp_path / "bundle"]
    done = void_server("farm", "bundle", *words, status=2)
    assert "2 problems" in done.stderr
    assert "row 1 (a)" in done.stderr
    assert "row 3 (c)" in done.stderr
    (tmp_path / "shots.csv").write_text(f"name,plate,matte\na,{plate},{tmp_path}/none/m.####.exr\nb,/none,{matte}\n")
    done = void_server("farm", "bundle", *words, status=2)
    assert "row 1 (a): matte" in done.stderr
    assert "row 2 (b): plate" in done.stderr
    assert not (tmp_path / "bundle").exists()
