"""What is looked at before an expensive run: the sheet, and a movie where there is an encoder."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes.effects import Believes
from void_server import preview
from void_server.effects import predictor
from void_server.image.review import movie, overlay, sheet
from void_server.shot import check
from void_server.wire.errors import JobCancelledError
from void_server.wire.report import Report
from void_server.wire.shot import ShotSettings

PAINTED = np.s_[44:60, 10:80]
REC709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)


@pytest.fixture
def encoder():
    """The command, which every machine that runs all tests has."""
    found = shutil.which("ffmpeg")
    if found is None:
        assert not os.environ.get("CI"), "ffmpeg is missing"
        pytest.skip("no ffmpeg here")
    return found


@pytest.fixture
def shot(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    for frame in tiny_shot.FRAMES:
        picture = np.zeros((64, 96), np.float16)
        picture[PAINTED] = 1
        tiny_shot.write_exr(shot.folder / f"affected/affected.{frame}.exr", {"A": picture})
    return shot


def review(shot, out, report=None):
    files = check.find_files(shot.plate, shot.matte, affected=str(shot.folder / "affected"))
    return preview.write_affected(files, ShotSettings(), out, report or Report())


def effects(shot, out, **environment):
    words = ["effects", shot.plate, "--matte", shot.matte, "--affected", shot.folder / "affected", "--out", out]
    return subprocess.run(
        [sys.executable, "-m", "void_server.cli", *map(str, words), "--json"],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def decoded(path):
    """uint8 [T, H, W, 3] and what the file says of itself, by way of ffmpeg's own tools."""
    asked = ["ffprobe", "-loglevel", "error", "-show_streams", "-of", "json", str(path)]
    about = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["streams"][0]
    words = ["ffmpeg", "-loglevel", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(words, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, about["height"], about["width"], 3), about


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".") or path.suffix == ".tmp"]


def test_the_movie_shows_every_frame_with_the_object_outlined_and_affected_in_blue(shot, tmp_path, encoder):
    review(shot, tmp_path / "out")
    frames, about = decoded(tmp_path / "out/affected.mp4")
    assert (about["codec_name"], about["pix_fmt"], about["color_space"]) == ("h264", "yuv420p", "bt709")
    assert frames.shape == (8, 64, 96, 3)
    for index, frame in enumerate(frames.astype(int)):
        rows, columns = tiny_shot.square(index)
        blue = frame[50:58, 20:70]
        assert (blue[..., 2] > blue[..., 0] + 40).mean() > 0.95
        # One line around the object: at half its colour resolution still the reddest there is.
        line = frame[rows.start - 1, columns.start + 2 : columns.stop - 2]
        assert (line[:, 0] > line[:, 2] + 40).all()
    assert not leftovers(tmp_path / "out")


def test_the_outline_leaves_the_object_in_sight_and_a_soft_region_is_a_soft_tint():
    plate = np.full((40, 40, 3), 0.2, np.float32)
    matte, affected = np.zeros((40, 40), np.float32), np.zeros((40, 40), np.float32)
    matte[10:20, 10:20] = 0.1
    affected[25:35, 5:15], affected[25:35, 20:30] = 0.5, 1
    suspected = np.zeros((40, 40), np.float32)
    suspected[30:36, 32:38] = 1
    picture = overlay.outlined(plate, matte, affected, suspected, REC709).astype(int)
    assert (picture[29, 32:38] == sheet.SUSPECTED_TINT).all() and (picture[33, 35] == picture[2, 2]).all()
    assert (picture[9, 9:21] == sheet.OBJECT_TINT).all()
    assert (picture[12, 12] == picture[2, 2]).all()
    blueness = picture[..., 2] - picture[..., 0]
    assert blueness[30, 25] > blueness[30, 10] + 10 > blueness[2, 2] + 20


def test_the_sheet_is_five_frames_of_plate_and_overlay(shot, tmp_path):
    review(shot, tmp_path / "out")
    page = cv2.imread(str(tmp_path / "out/sheet.png"))[..., ::-1].astype(int)
    assert page.shape[:2] == (5 * (64 + sheet.LABEL_PX + sheet.GAP_PX) + sheet.GAP_PX, 2 * 96 + 3 * sheet.GAP_PX)
    top, right = sheet.GAP_PX + sheet.LABEL_PX, 2 * sheet.GAP_PX + 96
    plate, laid = page[top : top + 64, sheet.GAP_PX : sheet.GAP_PX + 96], page[top : top + 64, right : right + 96]
    red = (laid == sheet.OBJECT_TINT).all(-1)
    assert red.sum() == 16 * 18 - 14 * 16, "an outline one pixel wide around 14x16"
    assert not (plate == sheet.OBJECT_TINT).all(-1).any()
    inside = plate[PAINTED]
    assert (laid[PAINTED][..., 2] - laid[PAINTED][..., 0] > inside[..., 2] - inside[..., 0] + 40).mean() > 0.9


def test_clean_frames_are_previewed_into_the_folder_they_lie_in(shot, tmp_path):
    """A preview writes no clean frame, so that one there may be its plate."""
    for frame in tiny_shot.FRAMES:
        shutil.copy(shot.folder / f"plate/plate.{frame}.exr", tmp_path / f"clean.{frame}.exr")
    again = dataclasses.replace(shot, plate=str(tmp_path / "clean.####.exr"))
    assert len(review(again, tmp_path)["frames"]) == len(tiny_shot.FRAMES)


def test_a_wide_plate_is_shown_no_wider_than_960_and_an_odd_one_is_shown_too(tmp_path, encoder):
    for width, height, size in ((2000, 30, (960, 14)), (97, 63, (98, 64))):
        folder = tmp_path / str(width)
        light, matte = np.full((height, width, 3), 0.2, np.float16), np.zeros((height, width), np.float16)
        matte[5:10, 5:10] = 1
        for frame in (1, 2):
            tiny_shot.write_exr(folder / f"plate/plate.{frame:04d}.exr", tiny_shot.rgb(light))
            tiny_shot.write_exr(folder / f"matte/matte.{frame:04d}.exr", {"A": matte})
        files = check.find_files(str(folder / "plate"), str(folder / "matte"))
        preview.write_affected(files, ShotSettings(physics_prior=False), folder / "out", Report())
        frames, about = decoded(folder / "out/affected.mp4")
        assert (about["width"], about["height"], len(frames)) == (*size, 2)


def test_without_an_encoder_one_note_names_the_package_and_nothing_fails(shot, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "affected.mp4").write_bytes(b"of an earlier run")
    done = effects(shot, out, PATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    notes = [e["message"] for e in map(json.loads, done.stdout.splitlines()) if e["event"] == "note"]
    (note,) = [text for text in notes if "mp4" in text]
    assert "apt install ffmpeg" in note
    names = {path.name for path in out.iterdir()}
    assert names == {f"affected.{f}.exr" for f in tiny_shot.FRAMES} | {"sheet.png", "manifest.json"}


@pytest.mark.parametrize("how", ["at once", "in the middle", "at the end"])
def test_an_encoder_that_fails_costs_the_movie_alone_and_says_why(shot, tmp_path, how):
    reads = {"at once": "", "in the middle": "head -c 40000 > /dev/null\n", "at the end": "cat > /dev/null\n"}[how]
    program = tmp_path / "bin/ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{reads}echo \"Unknown encoder 'libx264'\" >&2\nexit 1\n")
    program.chmod(0o755)
    done = effects(shot, tmp_path / "out", PATH=f"{program.parent}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unknown encoder 'libx264'" in done.stdout
    assert (tmp_path / "out/manifest.json").is_file()
    assert not (tmp_path / "out/affected.mp4").exists()
    assert not leftovers(tmp_path / "out")


def test_a_cancelled_preview_leaves_no_half_movie_and_no_encoder(shot, tmp_path, encoder, monkeypatch):
    started, real = [], subprocess.Popen
    monkeypatch.setattr(movie.subprocess, "Popen", lambda *a, **k: started.append(real(*a, **k)) or started[-1])
    written = []
    report = Report(lambda e: written.append(e) if e["event"] == "frame" else None, lambda: len(written) >= 3)
    with pytest.raises(JobCancelledError):
        review(shot, tmp_path / "out", report)
    assert len(written) == 3
    assert not leftovers(tmp_path / "out")
    assert not (tmp_path / "out/affected.mp4").exists()
    assert not (tmp_path / "out/manifest.json").exists()
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_a_long_movie_is_never_held_whole(tmp_path, encoder):
    picture = np.zeros((540, 960, 3), np.uint8)
    code = (
        "import resource, sys, numpy as np; from pathlib import Path; from void_server.image.review import movie\n"
        "with movie.writing(Path(sys.argv[1])) as film:\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    for n in range(200): film.add(np.full((540, 960, 3), n, np.uint8))\n"
        "assert not film.trouble, film.trouble\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.mp4")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20 * picture.nbytes, "a tenth of its frames would be more"
    assert len(decoded(tmp_path / "m.mp4")[0]) == 200


def test_what_may_move_differently_is_said_before_an_engine_leaves_it_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "shipped", lambda: Believes(appearance=0.0, physics=0.95))
    shot = tiny_shot.write(tmp_path / "shot")
    heard = []
    files = check.find_files(shot.plate, shot.matte)
    settings = ShotSettings(engine="propagate")
    preview.write_affected(files, settings, tmp_path / "out", Report(heard.append))
    told = json.loads((tmp_path / "out" / preview.MANIFEST).read_text())["warnings"]
    assert "physics-left" in [w["code"] for w in told]
    assert any(event.get("code") == "physics-left" for event in heard)
