"""From the node to the farm and back: Remove submits to Deadline, frames land, the node shows them."""

from __future__ import annotations

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


def submitted(tmp_path):
    return [path.stem for path in (tmp_path / "repository").glob("*.json")]


def test_remove_sends_to_the_farm_and_the_result_lands_in_the_node(farm, tmp_path):
    with started() as session:
        node, _ = comp(tmp_path, ADDRESS)
        node["effects"].setValue("bold")
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
        assert json.loads((folder / "manifest.json").read_text())["settings"]["effects"] == "bold"
        assert node["has_suspected"].value() and node["has_grain"].value()


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


def test_a_job_that_failed_on_the_farm_says_so_on_the_node_and_its_late_result_can_be_taken_up(
    farm, tmp_path, monkeypatch
):
    monkeypatch.setattr("void_server.farm.client.ASK_S", 0.0)
    with started() as session:
        node, _ = comp(tmp_path, ADDRESS)
        torn = tmp_path / "plates/plate/plate.1005.exr"
        whole = torn.read_bytes()
        torn.write_bytes(whole[:300])
        session.press(node, "remove")
        session.wait_for(node, "QUEUED")
        (job,) = submitted(tmp_path)
        (task,) = farm.run(job)
        assert task["status"] == "Failed"
        session.wait()
        assert status(node).startswith(f"FAILED: Job {job} failed on the farm: ") and "1005" in status(node)
        torn.write_bytes(whole)
        farm.requeue(job)
        (task,) = farm.run(job)
        assert task["status"] == "Completed", task
        session.press(node, "refresh")
        session.wait_for(node, "DETACHED")
        session.press(node, "reattach")
        session.wait()
        assert status(node).startswith("READY: v001"), status(node)
