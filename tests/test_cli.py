"""The command line: stable flags, honest exit statuses, one line and one hint for everything that is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests import tiny_shot
from void_server import cli


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shot")


def void_server(*words, **more):
    """The command as a shell would start it."""
    return subprocess.run(
        [sys.executable, "-m", "void_server.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **more,
    )


def test_run_writes_frames_and_says_where(shot, tmp_path, capsys):
    status = cli.main(["run", shot.plate, "--matte", shot.matte, "--out", str(tmp_path / "out"), "--engine=propagate"])
    out, err = capsys.readouterr()
    assert status == 0
    assert "8 clean frames" in out
    assert str(tmp_path / "out/sheet.png") in out
    assert "warning: The plate does not say its colour space" in err


def test_json_is_one_object_a_line_and_the_last_is_the_result(shot, tmp_path):
    done = void_server(
        "run", shot.plate, "--matte", shot.matte, "--out", tmp_path / "out", "--no-physics-prior", "--json"
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert {"progress", "frame", "warning", "result"} <= {e["event"] for e in events}
    assert events[-1]["event"] == "result"
    assert events[-1]["coverage"] == 1.0
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words, place",
    [
        (["run"], "PLATE"),
        (["fly"], "fly"),
        (["run", "{plate}", "--matte", "{matte}"], "--out"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--frames", "2-1"], "2-1"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--engine", "magic"], "magic"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--colorspace", "lin_mars"], "lin_mars"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--missing", "guess"], "guess"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--option", "steps"], "steps"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--layer", "nowhere"], "nowhere"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--matte-channel", "Q"], "Q"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{out}", "--seed", "-4"], "-4"),
        (["run", "no/such/plate.####.exr", "--matte", "{matte}", "--out", "{out}"], "no/such"),
        (["run", "{plate}", "--matte", "{matte}", "--out", "{plate_file}"], "plate.1001.exr"),
    ],
)
def test_every_wrong_word_gets_one_line_a_hint_and_status_2(shot, tmp_path, capsys, words, place):
    names = {
        "plate": shot.plate, "matte": shot.matte, "out": tmp_path / "out",
        "plate_file": shot.folder / "plate/plate.1001.exr",
    }  # fmt: skip
    status = cli.main([word.format(**names) for word in words])
    out, err = capsys.readouterr()
    assert status == 2
    assert place in err
    assert "hint: " in err
    assert "Traceback" not in out + err


def test_a_wrong_word_is_json_too_where_json_was_asked_for(capsys):
    assert cli.main(["run", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["event"] == "error"
    assert answer["exit_status"] == 2


@pytest.mark.parametrize("command", [["status"], ["cancel", "j1"], ["fetch", "j1", "--out", "{out}"]])
def test_a_daemon_that_is_not_there_is_status_3_at_once(tmp_path, capsys, command):
    words = [word.format(out=tmp_path / "out") for word in command]
    assert cli.main([*words, "--server", "tcp://127.0.0.1:9"]) == 3
    assert "hint: " in capsys.readouterr().err


def test_interrupted_runs_stop_between_frames_with_status_130(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    words = ["run", shot.plate, "--matte", shot.matte, "--out", tmp_path / "out", "--no-physics-prior", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "void_server.cli", *map(str, words)], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "progress":
                process.send_signal(signal.SIGINT)
                break
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 130
    assert rest[-1]["code"] == "job_cancelled"
    assert not (tmp_path / "out/manifest.json").exists()
    assert not [p for p in (tmp_path / "out").glob("*") if p.suffix == ".tmp"]


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    out = tmp_path / "out"
    words = ["run", shot.plate, "--matte", shot.matte, "--out", out, "--no-physics-prior", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "void_server.cli", *map(str, words)], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "frame":
                process.kill()
                break
    first = (out / "clean.1001.exr").stat().st_mtime_ns
    again = void_server(*words)
    assert again.returncode == 0
    assert (out / "clean.1001.exr").stat().st_mtime_ns == first
    assert json.loads(again.stdout.splitlines()[-1])["frames"].keys() == {str(f) for f in tiny_shot.FRAMES}


def test_effects_writes_mattes_that_can_be_painted_on_and_given_back(shot, tmp_path, capsys):
    out = tmp_path / "affected"
    assert cli.main(["effects", shot.plate, "--matte", shot.matte, "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} - {".found"} == {f"affected.{f}.exr" for f in tiny_shot.FRAMES} | {
        "sheet.png",
        "manifest.json",
        *(["affected.mp4"] if shutil.which("ffmpeg") else []),
    }
    again = [
        "run",
        shot.plate,
        "--matte",
        shot.matte,
        "--affected",
        str(out / "affected.####.exr"),
        "--engine=propagate",
    ]
    assert cli.main([*again, "--out", str(tmp_path / "out")]) == 0


def test_a_library_that_is_not_there_is_named_with_the_python_it_needs(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "void_server.commands.doctor", None)
    monkeypatch.delattr("void_server.commands.doctor", raising=False)
    assert cli.main(["doctor"]) == 2
    err = capsys.readouterr().err
    assert "is not installed for Python" in err
    assert "Python 3.11 or later" in err


def test_doctor_finds_this_machine_fit(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "engine propagate" in out
    assert "MISSING" not in out


def test_help_names_every_flag_of_the_design():
    shown = void_server("run", "--help", env={**os.environ, "COLUMNS": "200"}).stdout
    for flag in (
        "--affected", "--affected-add", "--affected-sub", "--keep", "--reference", "--frames", "--handles", "--engine",
        "--physics-prior", "--no-physics-prior", "--prompt", "--colorspace", "--layer", "--matte-channel", "--device",
        "--seed", "--missing", "--json", "--matte-invert", "--no-matte-invert", "--matte-floor", "--preview",
    ):  # fmt: skip
        assert flag in shown


def test_check_says_what_will_happen_and_writes_nothing(shot, capsys):
    before = sorted(shot.folder.rglob("*"))
    assert cli.main(["check", shot.plate, "--matte", shot.matte, "--engine", "propagate", "--frames", "1002-1004"]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "deliver 1002-1004; read 1001-1008" in rows["Frames"]
    assert "96x64, R, G, B (half, zip)" in rows["Plate"]
    assert "lin_rec709 (assumed)" in rows["Space"]
    assert "channel A: marks 3.6% to 3.6% of the frame" in rows["Matte"]
    assert "propagate (asked for by name)" in rows["Engine"]
    assert {"Time", "Memory", "Disk", "Affected"} <= set(rows)
    assert "warning: The plate does not say its colour space" in err
    assert sorted(shot.folder.rglob("*")) == before


def test_check_refuses_what_run_would_refuse_and_tells_what_it_would_tell(shot, tmp_path, capsys):
    assert cli.main(["check", shot.plate, "--matte", shot.plate, "--json"]) == 2
    error = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "colour picture" in error["message"]
    assert cli.main(["check", shot.plate, "--matte", shot.matte, "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [warning["code"] for warning in result["warnings"]] == ["colour-assumed"]


def test_a_range_below_zero_is_a_range_and_no_flag(tmp_path, capsys):
    shot = tiny_shot.write(tmp_path)
    for role in ("plate", "matte"):
        for frame in tiny_shot.FRAMES:
            (tmp_path / f"{role}/{role}.{frame}.exr").rename(tmp_path / f"{role}/{role}.{frame - 1004:05d}.exr")
    words = ["check", str(tmp_path / "plate"), "--matte", str(tmp_path / "matte"), "--frames", "-3--1", "--json"]
    assert cli.main(words) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["frames"]["deliver"] == "-3--1"
    assert shot.folder == tmp_path


def test_a_pattern_that_the_shell_took_apart_is_told_to_be_quoted(capsys):
    assert cli.main(["check", "plate.1001.exr", "plate.1002.exr", "--matte", "m"]) == 2
    assert "in quotes" in capsys.readouterr().err


def test_a_job_that_somebody_else_cancels_is_not_done_whatever_lies_in_the_folder(shot, tmp_path):
    from tests.live_daemon import LiveDaemon, until

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text('{"coverage": 1.0, "frames": {}}')
    with LiveDaemon(tmp_path / "data") as live, live.client() as client:
        words = ["submit", shot.plate, "--matte", shot.matte, "--out", str(tmp_path / "out"), "--server", live.address]
        gate = tmp_path / "nothing"
        process = subprocess.Popen(
            [sys.executable, "-m", "void_server.cli", *words, "--engine", "propagate", "--option", f"gate={gate}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        job = until(client.jobs)[0].job
        until(lambda: client.status(job).frames_done == 1)
        client.cancel(job)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "was cancelled" in err and "clean frames" not in out
