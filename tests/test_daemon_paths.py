"""Files that the daemon sees itself: their path travels instead of their bytes, under trusted roots only."""

from __future__ import annotations

import pytest

from tests.live_daemon import HOLD, LiveDaemon, make_shot, until
from void_server.wire.errors import PlateError
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
