"""From the node to the farm and back: Remove submits to Deadline, frames land, the node shows them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests import farm_floor, tiny_shot
from tests.fakes import nuke
from tests.nuke_session import comp, graded, started, status
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


def test_inputs_are_rendered_on_the_farm_first_and_the_removal_waits_for_them(farm, tmp_path):
    """The plate is graded and the matte comes from another channel, so both must be rendered; Nuke renders nothing."""
    with started() as session:
        node, shot = comp(tmp_path, f"{ADDRESS};nuke_pool=cpu")
        graded(node)
        node.node("MatteAsAlpha")["from0"].setValue("rgba.red")
        nuke.toNode("Matte")["file"].setValue(painted(shot))
        node["bake_on_farm"].setValue(True)
        script = sorted(p.name for p in tmp_path.glob("*.nk"))
        before = [child.cls for child in node._data.children]
        session.press(node, "remove")
        session.wait_for(node, "QUEUED")
        assert not session.session.messages and not session.session.rendered, "Nuke stays free"
        assert [child.cls for child in node._data.children] == before, "the script is as it was"
        jobs = {farm.job(identity)["plugin"].get("WriteNode", ""): identity for identity in submitted(tmp_path)}
        assert set(jobs) == {"VoidInpaint1.VoidBake_plate", "VoidInpaint1.VoidBake_matte", ""}
        ours = jobs.pop("")
        assert set(farm.pending(ours)) == set(jobs.values())
        for identity in jobs.values():
            job = farm.job(identity)
            assert (job["job"]["Pool"], job["job"]["Frames"], job["plugin"]["Version"]) == ("cpu", "1001-1008", "15.1")
            assert {task["status"] for task in farm.run(identity)} == {"Completed"}
        (task,) = farm.run(ours)
        assert task["status"] == "Completed", task
        session.wait()
        assert status(node).startswith("READY: v001"), status(node)
        clean = np.array(nuke._view(node, 1004, False)["rgba.red"])
        wall = shot.truth[..., 0].astype(np.float32) * 2
        assert np.abs(clean - wall)[tiny_shot.square(3)].mean() < 0.1
        assert sorted(p.name for p in tmp_path.glob("*.nk")) == script, "the copy is gone once it is over"
        assert not list((tmp_path / "void").glob("*/v001/sent"))


def painted(shot):
    """The shot's mattes, in red."""
    for frame in tiny_shot.FRAMES:
        alpha = tiny_shot.read_channel(shot.folder / f"matte/matte.{frame}.exr", "A")
        tiny_shot.write_exr(shot.folder / f"red/red.{frame}.exr", {"R": alpha, "A": np.zeros_like(alpha)})
    return str(shot.folder / "red/red.%04d.exr")


@pytest.mark.parametrize("how", ["fails", "is refused"])
def test_an_input_that_the_farm_cannot_render_ends_as_failed_with_the_jobs_that_are_left(
    farm, tmp_path, monkeypatch, how
):
    monkeypatch.setattr("void_server.farm.client.ASK_S", 0.0)
    monkeypatch.setattr("void_server.farm.client.LOOK_S", 0.01)
    with started() as session:
        node, shot = comp(tmp_path, f"{ADDRESS};nuke_pool={'cpu' if how == 'fails' else 'nowhere'}")
        graded(node)
        node["bake_on_farm"].setValue(True)
        session.press(node, "remove")
        if how == "fails":
            session.wait_for(node, "Nuke renders the inputs")
            (shot.folder / "plate/plate.1006.exr").unlink()
            (identity,) = (i for i in submitted(tmp_path) if farm.job(i)["job"]["Plugin"] == "Nuke")
            (task,) = farm.run(identity)
            assert "plate.1006.exr" in task["errors"][0]
        session.wait()
        said = {"fails": f"{identity if how == 'fails' else ''} failed on the farm: Nuke renders an input there",
                "is refused": "no such pool or group: nowhere"}  # fmt: skip
        assert status(node).startswith("FAILED: ") and said[how] in status(node), status(node)


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
