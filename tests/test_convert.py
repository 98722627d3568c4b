"""Movies and pictures become scene-linear EXR with their space said, and EXR becomes a movie again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import OpenEXR
import pytest

from tests import tiny_shot
from void_server import cli
from void_server.commands import convert
from void_server.image import codes, colour
from void_server.image.frames import footage
from void_server.wire.errors import ColourError, OutputError, PlateError, SettingsError
from void_server.wire.report import Report

RAMP = np.repeat(np.linspace(0, 255, 96).astype(np.uint8)[None], 64, 0)
PICTURE = np.stack([RAMP, RAMP[:, ::-1], RAMP // 2], -1)


@pytest.fixture
def ffmpeg():
    try:
        return footage.ffmpeg()
    except SettingsError:
        pytest.skip("no ffmpeg here")


def header(path):
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return dict(file.header())


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    order = picture[..., [2, 1, 0, 3][: picture.shape[2]]] if picture.ndim == 3 else picture
    path.write_bytes(cv2.imencode(path.suffix, order)[1].tobytes())


def made(source, out, space=None, first=1001):
    return convert.to_exr(str(source), out, space, first, Report())


@pytest.mark.parametrize("ending, dtype", [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint16)])
def test_pictures_become_light_by_their_curve_and_keep_their_numbers(tmp_path, ending, dtype):
    top = np.iinfo(dtype).max
    for frame in (7, 8, 9):
        write(tmp_path / f"in/p_{frame:04d}{ending}", (PICTURE.astype(np.float64) / 255 * top).astype(dtype))
    fields, text = made(tmp_path / f"in/p_0008{ending}", tmp_path / "out")
    assert fields["frames"] == "7-9"
    assert "lin_rec709, from srgb" in text
    light = tiny_shot.read_rgb(tmp_path / "out/p.0008.exr").astype(np.float32)
    assert np.allclose(light, colour.srgb_decode(PICTURE / 255), atol=6e-4)
    head = header(tmp_path / "out/p.0008.exr")
    assert head["colorInteropID"] == "lin_rec709_scene"
    assert np.allclose(head["chromaticities"], colour.REC709)


def test_a_mask_keeps_its_numbers_and_is_given_no_colour(tmp_path):
    write(tmp_path / "in/m.1001.png", RAMP)
    made(tmp_path / "in", tmp_path / "out", "raw")
    with OpenEXR.File(str(tmp_path / "out/m.1001.exr"), separate_channels=True) as file:
        assert list(file.channels()) == ["Y"]
        assert np.allclose(file.channels()["Y"].pixels, RAMP / 255, atol=3e-4)
    assert "chromaticities" not in header(tmp_path / "out/m.1001.exr")


def test_alpha_stays_and_light_is_multiplied_by_it(tmp_path):
    write(tmp_path / "in/a.1.png", np.dstack([PICTURE, RAMP]))
    made(tmp_path / "in", tmp_path / "out")
    alpha = tiny_shot.read_channel(tmp_path / "out/a.0001.exr", "A").astype(np.float32)
    light = tiny_shot.read_rgb(tmp_path / "out/a.0001.exr").astype(np.float32)
    assert np.allclose(alpha, RAMP / 255, atol=3e-4)
    assert np.allclose(light, colour.srgb_decode(PICTURE / 255) * (RAMP / 255)[..., None], atol=6e-4)


def test_a_camera_s_log_goes_through_opencolorio():
    grey = codes.to_light(np.full((1, 1, 3), 0.391, np.float32), "ARRI LogC3 (EI800)")
    assert np.allclose(grey, 0.18, atol=2e-3)
    with pytest.raises(ColourError, match="--input-space"):
        codes.to_light(np.zeros((1, 1, 3)), "lin_mars")


def test_film_scans_are_asked_about(tmp_path):
    (tmp_path / "scan.0001.dpx").touch()
    with pytest.raises(SettingsError, match="which curve it holds") as caught:
        made(tmp_path / "scan.0001.dpx", tmp_path / "out")
    assert "--input-space" in caught.value.hint


def test_nothing_is_overwritten_and_sizes_do_not_mix(tmp_path):
    write(tmp_path / "in/p.1.png", PICTURE)
    made(tmp_path / "in", tmp_path / "out")
    with pytest.raises(OutputError, match="already"):
        made(tmp_path / "in", tmp_path / "out")
    write(tmp_path / "in/p.2.png", PICTURE[:32])
    with pytest.raises(PlateError, match="Frame 2 is 96x32"):
        made(tmp_path / "in", tmp_path / "other")


def test_a_movie_given_to_run_is_answered_with_the_command_that_helps(tmp_path, capsys):
    (tmp_path / "my clip.mov").touch()
    assert cli.main(["check", str(tmp_path / "my clip.mov"), "--matte", "m"]) == 2
    err = capsys.readouterr().err
    assert "is a movie, not EXR" in err
    assert f"void-server convert '{tmp_path}/my clip.mov' --out " in err


def test_without_ffmpeg_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "clip.mov").write_bytes(b"moov")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(SettingsError, match="no ffmpeg") as caught:
        made(tmp_path / "clip.mov", tmp_path / "out")
    assert "apt install ffmpeg" in caught.value.hint


def movie_of(ffmpeg, path, *words):
    raw = b"".join(np.roll(PICTURE, 4 * index, 1).tobytes() for index in range(6))
    asked = [ffmpeg, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "96x64", "-r", "24000/1001"]
    subprocess.run([*asked, "-i", "-", *words, str(path)], input=raw, check=True)


def test_a_movie_becomes_frames_with_its_rate_and_comes_back(tmp_path, ffmpeg, monkeypatch):
    movie_of(ffmpeg, tmp_path / "clip.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p16le")
    fields, _ = made(tmp_path / "clip.mkv", tmp_path / "out", first=101)
    assert fields["frames"] == "101-106"
    light = tiny_shot.read_rgb(tmp_path / "out/clip.0101.exr").astype(np.float32)
    assert np.abs(colour.srgb_encode(light) * 255 - PICTURE).max() < 1.5
    rate = header(tmp_path / "out/clip.0101.exr")["framesPerSecond"]
    assert (rate.numerator, rate.denominator) == (24000, 1001)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ffmpeg").symlink_to(ffmpeg)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    convert.to_movie(str(tmp_path / "out"), tmp_path / "back.mp4", Report())
    told = footage.about(tmp_path / "back.mp4")
    assert (told.matrix, told.frames_per_second) == ("bt709", rate)
    back = list(footage.movie_frames(tmp_path / "back.mp4", told))
    assert len(back) == 6
    # H.264 keeps colour at half the size; light and dark come back.
    assert np.abs(back[0].mean(-1) * 255 - PICTURE.mean(-1))[4:-4, 4:-4].mean() < 2


def test_hdr_video_is_asked_about_and_a_broken_movie_is_named(tmp_path, ffmpeg):
    tags = ["-vf", "format=yuv420p10le,setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"]
    movie_of(ffmpeg, tmp_path / "hdr.mkv", *tags, "-c:v", "ffv1")
    with pytest.raises(SettingsError, match="HDR video"):
        made(tmp_path / "hdr.mkv", tmp_path / "out")
    (tmp_path / "bad.mov").write_bytes(b"nothing of the kind")
    with pytest.raises(PlateError, match=r"bad.mov can't be read as a movie"):
        made(tmp_path / "bad.mov", tmp_path / "out")


def test_convert_says_what_it_took_the_numbers_for(tmp_path, capsys):
    write(tmp_path / "in/p.1001.png", PICTURE)
    assert cli.main(["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any("taken for srgb" in line.get("message", "") for line in lines)
    assert (lines[-1]["frames"], lines[-1]["space"], lines[-1]["from"]) == ("1001", "lin_rec709", "srgb")
    assert cli.main(["convert", str(tmp_path / "in")]) == 2
