"""A node's way to the farm: submit, look, cancel, take up again, with a daemon's own words."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests import farm_floor, tiny_shot
from void_server.farm.client import FarmClient, parse, pattern
from void_server.shot import check
from void_server.wire.errors import JobNotFoundError, OutputError, RefusedError, SettingsError
from void_server.wire.shot import FrameRange, ShotSettings

SETTINGS = ShotSettings(engine="farm-test", physics_prior=False, frames=FrameRange(1001, 1008))


@pytest.fixture
def files(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    return check.find_files(shot.plate, shot.matte)


ADDRESS = f"deadline10:plugin_directory={farm_floor.ROOT}/plugins/deadline"


def jobs(status):
    return status.job.removeprefix("deadline10:").split("+")


@pytest.mark.parametrize("more", ["", ";chunk=4;overlap=1;handles=100"])
def test_a_job_is_submitted_watched_and_found_where_it_was_asked_for(files, farm, tmp_path, more):
    out, heard = tmp_path / "out", []
    with FarmClient(ADDRESS + more, out) as client:
        status = client.submit(files, SETTINGS, name="VoidInpaint1", request="r1")
        assert (status.state, status.done, status.total) == ("queued", 0, 8)
        assert client.submit(files, SETTINGS, name="VoidInpaint1", request="r1").job == status.job
        assert len(list((tmp_path / "repository").glob("*.json"))) == len(jobs(status))
        last = []
        watching = threading.Thread(target=lambda: last.append(client.watch(status.job, heard.append)))
        watching.start()
        for job in jobs(status):
            assert {task["status"] for task in farm.run(job)} == {"Completed"}
        watching.join(60)
    assert (last[0].state, last[0].done) == ("done", 8)
    assert heard[-2] == {"event": "state", "state": "done", "job": status.job}
    assert heard[1]["event"] == "progress", "a stage is told from the first look on"
    # Another host, later: the folder is all that it needs.
    again = FarmClient(ADDRESS, out)
    assert again.status(status.job).state == "done"
    names = {path.name for path in again.fetch(status.job, out)}
    assert {"clean.1001.exr", "aov.1008.exr", "manifest.json", "sheet.png"} <= names
    assert "farm.json" not in names


def test_a_host_that_wants_it_no_more_stops_the_tasks(files, farm, tmp_path):
    client = FarmClient(ADDRESS + ";retries=0", tmp_path / "out")
    status = client.submit(files, SETTINGS, request="r1")
    assert client.watch(status.job, cancelled=lambda: True).state == "cancelled"
    (task,) = farm.run(jobs(status)[0])
    assert task["status"] == "Failed"
    assert task["errors"][0].startswith("Cancelled.")
    assert not list((tmp_path / "out").glob("clean.*"))
    again = client.submit(files, SETTINGS, request="r2")
    (task,) = farm.run(jobs(again)[0])
    assert task["status"] == "Completed"
    assert client.status(again.job).state == "done"


def test_a_failure_on_the_farm_is_told_and_a_retry_clears_it(files, farm, tmp_path, monkeypatch):
    bad = tmp_path / "bad"
    bad.write_text("1006")
    monkeypatch.setenv("FARM_ENGINE_BAD", str(bad))
    client = FarmClient(ADDRESS + ";retries=0", tmp_path / "out")
    status = client.submit(files, SETTINGS, request="r1")
    farm.run(jobs(status)[0])
    status = client.status(status.job)
    assert (status.state, status.stage) == ("running", "on the farm: Frame 1006 burnt.")
    assert 0 < status.done < 8
    bad.write_text("")
    farm.requeue(jobs(status)[0])
    farm.run(jobs(status)[0])
    assert client.status(status.job).state == "done"
    assert not (tmp_path / "out/failed.json").exists()


@pytest.fixture
def at_once(monkeypatch):
    """Deadline is asked with every look, and looks follow each other at once."""
    monkeypatch.setattr("void_server.farm.client.ASK_S", 0.0)
    monkeypatch.setattr("void_server.farm.client.LOOK_S", 0.01)


@pytest.mark.parametrize("key", ["JobStatus", "Status"])
@pytest.mark.parametrize("more", ["", ";chunk=4;overlap=1"])
def test_a_job_that_failed_for_good_ends_as_failed_with_its_reason(
    files, farm, tmp_path, monkeypatch, at_once, key, more
):
    bad = tmp_path / "bad"
    bad.write_text("1001")
    monkeypatch.setenv("FARM_ENGINE_BAD", str(bad))
    monkeypatch.setenv("FAKE_DEADLINE_STATUS_KEY", key)
    client, heard = FarmClient(f"{ADDRESS};retries=0{more}", tmp_path / "out"), []
    submitted = client.submit(files, SETTINGS, request="r1")
    farm.run(jobs(submitted)[0])
    status = client.watch(submitted.job, heard.append)
    assert status.state == "failed" and status.final
    assert status.error.code == "job"
    assert status.error.message.startswith(f"Job {jobs(submitted)[0]} failed on the farm: Frame 1001 burnt.")
    assert "_0.bz2. Requeue it there, or submit again." in status.error.hint
    assert heard[-1]["event"] == "progress" and heard[-1]["stage"] == "on the farm: Frame 1001 burnt."


def test_a_task_that_never_started_says_so_in_deadlines_words(files, farm, tmp_path, at_once):
    """As where the plug-in finds no void-server: nothing of ours ever ran, and nothing lies in the folder."""
    farm._config["VoidExecutable"] = "/nowhere/void-server"
    client = FarmClient(f"{ADDRESS};retries=0", tmp_path / "out")
    submitted = client.submit(files, SETTINGS, request="r1")
    farm.run(jobs(submitted)[0])
    status = client.watch(submitted.job)
    assert status.state == "failed" and "no task left a reason" in status.error.message
    assert f"{jobs(submitted)[0]}_0.bz2" in status.error.hint


def test_a_deleted_job_ends_as_failed_and_one_unanswered_look_does_not(files, farm, tmp_path, at_once):
    client = FarmClient(ADDRESS, tmp_path / "out")
    submitted = client.submit(files, SETTINGS, request="r1")
    (job,) = jobs(submitted)
    (tmp_path / "repository" / f"{job}.json").unlink()
    status = client.watch(submitted.job)
    assert (status.state, status.error.message) == ("failed", f"Deadline no longer knows job {job}.")


def test_a_job_whose_result_lies_on_another_disk_ends_as_failed(files, farm, tmp_path, at_once):
    client = FarmClient(ADDRESS, tmp_path / "out")
    submitted = client.submit(files, SETTINGS, request="r1")
    farm.run(jobs(submitted)[0])
    (tmp_path / "out/manifest.json").unlink()
    status = client.watch(submitted.job)
    assert status.state == "failed" and "the same disk" in status.error.hint


@pytest.mark.parametrize("what", ["suspended", "no deadlinecommand"])
def test_a_job_that_waits_says_for_what_and_goes_on_waiting(files, farm, tmp_path, monkeypatch, at_once, what):
    client, heard = FarmClient(ADDRESS, tmp_path / "out"), []
    submitted = client.submit(files, SETTINGS, request="r1")
    if what == "suspended":
        path = tmp_path / "repository" / f"{jobs(submitted)[0]}.json"
        record = json.loads(path.read_text())
        record["job"]["InitialStatus"] = "Suspended"
        path.write_text(json.dumps(record))
    else:
        (tmp_path / "deadlinecommand").unlink()
    looks = iter([False] * 5)
    status = client.watch(submitted.job, heard.append, lambda: next(looks, True))
    assert status.state == "cancelled"
    stages = [event["stage"] for event in heard if event["event"] == "progress"]
    assert any("suspended in the Monitor" in s or "deadlinecommand was not found" in s for s in stages), stages


def test_what_cant_be_sent_is_refused_before_anything_is_submitted(files, farm, tmp_path):
    client = FarmClient(ADDRESS, tmp_path / "out")
    with pytest.raises(SettingsError, match="not affected"):
        client.submit(files, ShotSettings(deliver="affected"))
    with pytest.raises(RefusedError, match="no such pool"):
        FarmClient(ADDRESS + ";pool=nowhere", tmp_path / "out").submit(files, SETTINGS)
    with pytest.raises(JobNotFoundError):
        client.status("deadline10:" + "0" * 24)
    assert not list((tmp_path / "repository").glob("*.json"))
    status = client.submit(files, SETTINGS)
    with pytest.raises(OutputError, match="The farm writes to"):
        client.fetch(status.job, tmp_path / "elsewhere")
    record = json.loads((tmp_path / "out/farm.json").read_text())
    assert record["frames"] == "1001-1008"


@pytest.mark.parametrize(
    "address, reason",
    [
        ("tcp://127.0.0.1:1", "names no farm"),
        ("deadline10:pool", "no pair"),
        ("deadline10:pool=a;pool=b", "stands twice"),
        ("deadline10:chunk=many", "no number"),
        ("deadline10:gpu=1", "unknown"),
    ],
)
def test_a_wrong_address_is_told(address, reason):
    with pytest.raises(SettingsError, match=reason):
        parse(address)


def test_an_address_says_where_and_how():
    target = parse("deadline10:pool=gpu;limits=void,nuke;chunk=24;handles=8;concurrent_tasks=2;gpus=1;priority=70")
    assert (target.placement.pool, target.placement.limits) == ("gpu", ("void", "nuke"))
    assert (target.chunk, target.handles, target.placement.concurrent_tasks) == (24, 8, 2)
    assert (target.options.gpus, target.options.priority) == (1, 70)


@pytest.mark.parametrize(
    "names, found",
    [
        ({8: "p.0008.exr", 9: "p.0009.exr", 10: "p.0010.exr"}, "p.####.exr"),
        ({9: "p.9.exr", 10: "p.10.exr"}, "p.#.exr"),
        ({1001: "sh_v02-1001.exr"}, "sh_v02-####.exr"),
        ({-1: "p.-001.exr", 2: "p.0002.exr"}, "p.####.exr"),
        ({1: "p.0001.exr", 2: "q.0002.exr"}, None),
        ({1: "p.1001.exr", 2: "p.1002.exr"}, None),
        ({1: "still.exr"}, None),
    ],
)
def test_a_sequence_of_files_is_a_pattern_or_refused(names, found):
    files = {frame: Path("/p") / name for frame, name in names.items()}
    if found is None:
        with pytest.raises(SettingsError):
            pattern("plate", files)
    else:
        assert pattern("plate", files) == f"/p/{found}"
