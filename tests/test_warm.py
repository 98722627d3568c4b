"""A session's daemon: the engine is built once for all tasks, and nothing else about a task changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import farm_floor, tiny_shot
from tests.farm_floor import BIN, command, void_server

OPENJD = BIN / "openjd"


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shot")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """What a local run makes of the shot, which is the same in every test."""
    folder = tmp_path_factory.mktemp("local")
    void_server("run", *farm_floor.shot_words(tiny_shot.write(folder / "shot"), folder / "clean"))
    return folder / "clean"


@pytest.fixture
def session(tmp_path):
    """A session's daemon, started and stopped by the very commands that the job template names."""
    data = tmp_path / "session"
    loads, log, bad = tmp_path / "loads", tmp_path / "log", tmp_path / "bad"
    started = void_server(
        "farm", "warm", "start", "--data", data, FARM_ENGINE_LOADS=loads, FARM_ENGINE_LOG=log, FARM_ENGINE_BAD=bad
    )
    name, _, address = started.stdout.strip().removeprefix("openjd_env: ").partition("=")
    yield {name: address}
    void_server("farm", "warm", "stop", "--data", data)
    assert not Path(address.removeprefix("ipc://")).exists()


def test_all_tasks_of_a_session_share_one_engine_and_make_a_local_runs_frames(shot, local, tmp_path):
    words = farm_floor.shot_words(shot, tmp_path / "out")
    void_server("farm", "bundle", *words, "--bundle", tmp_path / "bundle", "--chunk=3", "--overlap=1", "--warm")
    template, loads = tmp_path / "bundle/template.yaml", tmp_path / "loads"
    command(OPENJD, "check", template)
    done = command(OPENJD, "run", template, FARM_ENGINE_LOADS=loads)
    assert "openjd_env: VOID_WARM_DAEMON=ipc://" in done.stdout
    assert "the session's daemon is stopped" in done.stdout
    assert loads.read_text().split() == ["loaded"]
    farm_floor.same_frames(local, tmp_path / "out")


def test_the_socket_is_this_users_alone(session):
    (address,) = session.values()
    folder = Path(address.removeprefix("ipc://")).parent
    assert folder.stat().st_mode & 0o077 == 0


def test_a_failure_says_its_reason_and_a_later_try_makes_only_what_is_missing(session, shot, local, tmp_path):
    words, out = farm_floor.shot_words(shot, tmp_path / "out"), tmp_path / "out"
    (tmp_path / "bad").write_text("1006")
    done = void_server("farm", "task", *words, "--log-format=openjd", status=4, **session)
    assert "openjd_fail: Frame 1006 burnt. Mend the test." in done.stdout
    first = farm_floor.made(tmp_path / "log")
    assert (out / "clean.1002.exr").is_file(), "what was finished before is kept"
    assert not [p for p in out.iterdir() if p.name.startswith(".warm")]
    (tmp_path / "bad").write_text("")
    void_server("farm", "task", *words, **session)
    again = farm_floor.made(tmp_path / "log")[len(first) :]
    assert again
    assert 1002 not in again
    farm_floor.same_frames(local, out)


def test_a_daemon_that_dies_costs_no_finished_frame(shot, local, tmp_path):
    data, log, out = tmp_path / "session", tmp_path / "log", tmp_path / "out"
    started = void_server("farm", "warm", "start", "--data", data, FARM_ENGINE_LOG=log, FARM_ENGINE_HOLD=1006)
    name, _, address = started.stdout.strip().removeprefix("openjd_env: ").partition("=")
    words = farm_floor.shot_words(shot, out)
    environment = farm_floor.environment(**{name: address})
    with subprocess.Popen(
        [BIN / "void-server", "farm", "task", *words, "--json"], stdout=subprocess.PIPE, text=True, env=environment
    ) as task:
        for line in task.stdout:
            event = json.loads(line)
            if (event["event"], event.get("frame")) == ("frame", 1002):
                break
        while not (out / "clean.1002.exr").exists():
            assert task.poll() is None
        os.kill(json.loads((data / "warm.json").read_text())["pid"], signal.SIGKILL)
        said = [json.loads(line) for line in task.stdout]
        task.wait(60)
    assert task.returncode == 3
    assert said[-1]["code"] == "unreachable"
    void_server("farm", "warm", "stop", "--data", data)
    first = farm_floor.made(log)
    void_server("farm", "task", *words, FARM_ENGINE_LOG=log)
    again = farm_floor.made(log)[len(first) :]
    assert 1006 in again
    assert 1002 not in again
    farm_floor.same_frames(local, out)


def test_stopping_what_was_never_started_is_no_error(tmp_path):
    assert "there was no daemon" in void_server("farm", "warm", "stop", "--data", tmp_path).stdout


def test_a_daemon_that_cant_start_says_why(tmp_path):
    (tmp_path / "store.sqlite").mkdir()
    done = void_server("farm", "warm", "start", "--data", tmp_path, status=3)
    assert "The session's daemon did not start" in done.stderr
