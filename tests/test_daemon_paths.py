"""Files that the daemon sees itself: their path travels instead of their bytes, under trusted roots only."""

from __future__ import annotations

import os
import threading

import pytest

from tests.live_daemon import HOLD, LiveDaemon, make_shot, until
from void_server.wire.errors import MatteError, PlateError
from void_server.wire.shot import ShotFiles, ShotSettings


@pytest.fixture
def trusting(tmp_path):
    (tmp_path / "show").mkdir()
    with LiveDaemon(tmp_path / "data", trust=[str(tmp_path / "show")]) as live, live.client() as client:
        yield live, client


def test_a_path_under_a_trusted_root_travels_instead_of_bytes(trusting, tmp_path):
    live, client = trusting
    sent = []
    job = client.submit(make_shot(tmp_path / "show" / "sh"), ShotSettings(), on_event=sent.append).job
    assert sent == [] and not list((live.data / "frames").glob("*/*"))
    assert client.watch(job).state == "done"


def test_a_path_elsewhere_sends_its_bytes(trusting, tmp_path):
    _, client = trusting
    sent = []
    client.submit(make_shot(tmp_path / "elsewhere"), ShotSettings(), on_event=sent.append)
    assert sent


def test_a_link_leads_nowhere_out_of_the_root(trusting, tmp_path):
    live, client = trusting
    outside = make_shot(tmp_path / "outside")
    (tmp_path / "show" / "link").symlink_to(tmp_path / "outside")
    inside = {f: tmp_path / "show" / "link" / p.name for f, p in outside.plate.items()}
    climbing = {f: tmp_path / "show" / ".." / "outside" / p.name for f, p in outside.matte.items()}
    sent = []
    client.submit(ShotFiles(plate=inside, matte=climbing), ShotSettings(), on_event=sent.append)
    assert sent and len(list((live.data / "frames").glob("*/*"))) == 6


def test_a_file_that_changed_after_submit_is_named(trusting, tmp_path):
    _, client = trusting
    files = make_shot(tmp_path / "show" / "sh")
    blocker = client.submit(files, ShotSettings(**HOLD)).job
    until(lambda: client.status(blocker).state == "running")
    job = client.submit(files, ShotSettings()).job
    files.plate[1002].write_bytes(b"another take")
    client.cancel(blocker)
    error = client.watch(job).error
    assert isinstance(error, PlateError) and error.frame == 1002 and "changed after" in error.message


def held_job(client, tmp_path, gate):
    """A job on trusted files that waits after its first frame, its inputs checked long ago."""
    files = make_shot(tmp_path / "show" / "sh", frames=3, size=1000)
    job = client.submit(files, ShotSettings(options={"gate": str(gate)})).job
    until(lambda: client.status(job).frames_done == 1)
    return files, job


def test_a_file_swapped_for_a_link_after_the_check_leads_nowhere(trusting, tmp_path):
    _, client = trusting
    gate = tmp_path / "gate"
    files, job = held_job(client, tmp_path, gate)
    secret = make_shot(tmp_path / "secret", frames=3, size=1000)
    own = {frame: path.read_bytes() for frame, path in files.plate.items()}
    for frame, path in files.plate.items():
        link = path.with_suffix(".link")
        link.symlink_to(secret.plate[frame])
        link.replace(path)
    gate.touch()
    status = client.watch(job)
    assert status.state == "done" and any("was replaced while the job ran" in text for text in status.warnings)
    client.fetch(job, tmp_path / "out")
    for frame, data in own.items():
        assert (tmp_path / "out" / f"clean.{frame}.exr").read_bytes() == data[::-1]


def test_a_plate_written_into_while_the_job_runs_fails_it(trusting, tmp_path):
    _, client = trusting
    gate = tmp_path / "gate"
    files, job = held_job(client, tmp_path, gate)
    with files.plate[1003].open("r+b") as file:
        file.write(b"another take")
    gate.touch()
    error = client.watch(job).error
    assert isinstance(error, PlateError) and error.frame == 1003 and "written into" in error.message


@pytest.mark.parametrize("swap", ["pipe", "folder", "link", "folder on the way"])
def test_what_is_no_file_any_more_when_the_job_begins_is_named_and_holds_up_nobody(trusting, tmp_path, swap):
    live, client = trusting
    files = make_shot(tmp_path / "show" / "sh")
    blocker = client.submit(make_shot(tmp_path / "other"), ShotSettings(**HOLD)).job
    until(lambda: client.status(blocker).state == "running")
    job = client.submit(files, ShotSettings()).job
    path = files.matte[1002]
    if swap == "folder on the way":
        path.parent.rename(tmp_path / "show" / "real")
        path.parent.symlink_to(tmp_path / "show" / "real")
    else:
        path.rename(path.with_suffix(".kept"))
        {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir,
         "link": lambda: path.symlink_to(path.with_suffix(".kept"))}[swap]()  # fmt: skip
    client.cancel(blocker)
    error = client.watch(job).error
    assert isinstance(error, (PlateError, MatteError)) and str(path.parent.parent) in error.message
    assert client.watch(client.submit(make_shot(tmp_path / "next"), ShotSettings()).job).state == "done"
    assert not (live.data / "jobs" / job / ".open").exists()


def test_a_client_names_a_pipe_instead_of_waiting_for_it(tmp_path):
    files = make_shot(tmp_path / "in")
    files.plate[1001].unlink()
    os.mkfifo(files.plate[1001])
    found = []

    def submit():
        with LiveDaemon(tmp_path / "data") as live, live.client() as client:
            try:
                client.submit(files, ShotSettings())
            except PlateError as error:
                found.append(error)

    thread = threading.Thread(target=submit, daemon=True)
    thread.start()
    thread.join(30)
    assert found and found[0].frame == 1001 and "not a file" in found[0].message
