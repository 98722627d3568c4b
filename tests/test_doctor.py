"""The doctor's last line is a verdict; its report holds what a bug report needs and no picture."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

from tests import tiny_shot
from void_server import cli
from void_server.commands import doctor, report
from void_server.image import exr


def test_the_last_line_says_ready_and_which_engines(capsys):
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ready, with engine propagate")


def test_the_last_line_says_everything_that_keeps_it_from_being_ready():
    lacking = [
        doctor.Finding("numpy", False, "not installed"),
        doctor.Finding("EXR files", False, "can't be read"),
        doctor.Finding("ffmpeg", False, "previews come without a movie", required=False),
    ]
    last = doctor.spoken(lacking).splitlines()[-1]
    assert last == "not ready because numpy: not installed; EXR files: can't be read"


def test_json_carries_the_verdict_beside_the_findings(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["verdict"].startswith("ready") and answer["findings"]


@pytest.fixture
def packed(tmp_path, capsys):
    """The report of a machine with a daemon's job, a result and a damaged plate: file names and texts."""
    shot = tiny_shot.write(tmp_path / "shot")
    job = tmp_path / "data/jobs/j1"
    (job / "plate").mkdir(parents=True)
    (job / "attempt-1").mkdir()
    for name in ("job.json", "log.txt"):
        (job / name).write_text(f"this is {name}")
    for path in (shot.folder / "plate").iterdir():
        (job / "plate" / path.name).symlink_to(path)
    damaged = tmp_path / "damaged.exr"
    damaged.write_bytes(next((shot.folder / "plate").iterdir()).read_bytes()[:100])
    result = tmp_path / "clean"
    result.mkdir()
    (result / "manifest.json").write_text("{}")
    out = tmp_path / "report.zip"
    words = ["doctor", "--report", str(out), "--data", str(tmp_path / "data")]
    assert cli.main([*words, str(shot.folder / "plate"), str(damaged), str(result)]) == 0
    assert str(out) in capsys.readouterr().out
    with zipfile.ZipFile(out) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_it_holds_versions_logs_headers_and_manifests(packed):
    assert packed["doctor.txt"].splitlines()[-1].startswith("ready")
    assert "numpy " in packed["packages.txt"]
    assert packed["jobs/j1/log.txt"] == "this is log.txt"
    assert "display" in packed["jobs/j1/headers.txt"]
    assert "channel 'R'" in packed["about/1/headers.txt"]
    assert "can't be read" in packed["about/2/headers.txt"]
    assert packed["about/3/manifest.json"] == "{}"


def test_it_holds_text_alone_and_is_smaller_than_a_frame(packed):
    assert all(name.endswith((".txt", ".json", ".log")) for name in packed)
    assert all(len(text) <= report.MOST_BYTES for text in packed.values())


def test_only_variables_that_matter_are_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VOID_SERVER", "tcp://box:5790")
    monkeypatch.setenv("MY_PASSWORD", "sesame")
    report.write(tmp_path / "r.zip", [], tmp_path)
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        told = archive.read("environment.txt").decode()
        assert not [name for name in archive.namelist() if "sesame" in archive.read(name).decode()]
    assert "VOID_SERVER=tcp://box:5790" in told
    assert {line.split("=")[0] for line in told.splitlines()} <= set(os.environ)


def test_a_files_thumbnail_is_left_out_of_its_header(tmp_path):
    import numpy as np
    import OpenEXR

    pixels = np.arange(8 * 8 * 4, dtype=np.uint8).reshape(8, 8, 4)
    header = {"preview": OpenEXR.PreviewImage(pixels), "owner": "somebody"}
    channels = {name: np.zeros((16, 16), np.float16) for name in "RGB"}
    OpenEXR.File(header, channels).write(str(tmp_path / "with.exr"))
    lines = "\n".join(exr.describe(tmp_path / "with.exr"))
    assert "'preview' preview left out" in lines
    assert "'owner' string 'somebody'" in lines
    assert pixels.tobytes()[:32].hex() not in lines


def test_a_path_without_a_report_and_a_report_that_can_not_be_written_are_said(tmp_path, capsys):
    assert cli.main(["doctor", str(tmp_path)]) == 2
    assert "--report" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["doctor", "--report", str(tmp_path / "file/r.zip")]) == 2
    assert "can't be written" in capsys.readouterr().err
