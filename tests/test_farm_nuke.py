"""From the node to the farm and back: Remove submits to Deadline, frames land, the node shows them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from tests import farm_floor
from tests.fakes import nuke
from tests.nuke_session import comp, started, status
from tests.test_nuke_end_to_end import CRASH

pytestmark = pytest.mark.timeout(120)
ADDRESS = f"deadline10:plugin_directory={farm_floor.ROOT}/plugins/deadline;retries=0"


@pytest.fixture
def farm(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    repository.mkdir()
    program = tmp_path / "deadlinecommand"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {farm_floor.ROOT}/tests/fakes/deadlinecommand.py "$@"\n')
    program.chmod(0o755)
    for name, value in farm_floor.environment(DEADLINE_PATH=tmp_path, FAKE_DEADLINE_REPOSITORY=repository).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(farm_floor.THINKBOX))
    monkeypatch.syspath_prepend(str(farm_floor.ROOT / "tests/fakes"))
    worker = importlib.import_module("deadline_worker")
    yield worker.Worker(repository, {"VoidExecutable": str(farm_floor.BIN / "void-server")})
    for name in ("deadline_worker", "Deadline", "Deadline.Plugins", "Deadline.Scripting"):
        sys.modules.pop(name, None)


def submitted(tmp_path):
    return [path.stem for path in (tmp_path / "repository").glob("*.json")]


def test_remove_sends_to_the_farm_and_the_result_lands_in_the_node(farm, tmp_path):
    with started() as session:
        node, _ = comp(tmp_path, ADDRESS)
        session.press(node, "remove")
        session.wait_for(node, "QUEUED")
        (job,) = submitted(tmp_path)
        (task,) = farm.run(job)
        assert task["status"] == "Completed", task
        session.wait()
        assert status(node).startswith("READY: v001 (The plate does not say its colour space"), status(node)
        (folder,) = (tmp_path / "void").glob("*/v001")
        assert farm.job(job)["job"]["OutputDirectory0"] == str(folder)
        assert len(list(folder.glob("clean.*.exr"))) == 8


def test_cancel_on_the_node_stops_the_farms_task(farm, tmp_path):
    with started() as session:
        node, _ = comp(tmp_path, ADDRESS)
        session.press(node, "remove")
        session.wait_for(node, "QUEUED")
        (job,) = submitted(tmp_path)
        (record,) = (tmp_path / "void").glob("*/v001/job.json")
        assert json.loads(record.read_text())["job"] == f"deadline10:{job}"
        session.press(node, "cancel_job")
        session.wait()
        assert status(node).startswith("CANCELLED")
        (task,) = farm.run(job)
        assert task["errors"][0].startswith("Cancelled.")


def test_a_script_opened_again_after_a_crash_takes_the_farms_result_up(farm, tmp_path):
    words = [sys.executable, "-c", CRASH, str(tmp_path), ADDRESS, "saved"]
    crashed = subprocess.run(words, check=False, cwd=farm_floor.ROOT, capture_output=True, text=True, timeout=60)
    assert crashed.returncode == 1, crashed.stderr
    (job,) = submitted(tmp_path)
    (task,) = farm.run(job)
    assert task["status"] == "Completed"
    with started() as session:
        nuke._open(tmp_path / "sh010_comp_v002.nk")
        node = nuke.allNodes("Group")[0]
        session.press(node, "refresh")
        session.wait_for(node, "DETACHED")
        session.press(node, "reattach")
        session.wait()
        assert status(node).startswith("READY: v001"), status(node)
