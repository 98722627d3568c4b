"""A real daemon and a real client: what is accepted, refused, resumed, cancelled and brought back."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path

import msgpack
import pytest
import zmq

from tests.live_daemon import HOLD, LiveDaemon, make_shot, until
from void_server.wire import transfer
from void_server.wire.connection import Connection
from void_server.wire.errors import (
    GpuMemoryError,
    InternalError,
    JobCancelledError,
    JobNotFoundError,
    LimitError,
    MatteError,
    OutputError,
    PlateError,
    SettingsError,
    StoreError,
)
from void_server.wire.messages import LIMITS, MAGIC
from void_server.wire.shot import ShotFiles, ShotSettings


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with LiveDaemon(tmp_path_factory.mktemp("daemon") / "data") as live:
        yield live


@pytest.fixture
def client(daemon):
    with daemon.client() as found:
        yield found


def raw(address: str) -> zmq.Socket:
    dealer = zmq.Context.instance().socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(address)
    return dealer


def ask(dealer: zmq.Socket, frames: list[bytes]) -> dict:
    dealer.send_multipart(frames)
    assert dealer.poll(10_000), "the daemon did not answer"
    return msgpack.unpackb(dealer.recv_multipart()[1])


def test_a_shot_goes_in_and_its_frames_come_back(client, tmp_path):
    files = make_shot(tmp_path / "in", frames=3, size=2_500_000)
    events = []
    job = client.submit(files, ShotSettings(), name="sh010 é", on_event=events.append)
    assert events[-1]["done"] == events[-1]["total"] == sum(p.stat().st_size for _, _, p in files.items())
    seen = []
    status = client.watch(job.job, on_event=seen.append)
    assert (status.state, status.frames_done, status.name) == ("done", 3, "sh010 é")
    assert status.warnings == ("Frame 1001 is half invented.",)
    lasting = [e["seq"] for e in seen if e["event"] != "progress"]
    assert lasting == list(range(1, len(lasting) + 1))
    assert [e["frame"] for e in seen if e["event"] == "frame"] == [1001, 1002, 1003]

    paths = client.fetch(job.job, tmp_path / "out")
    assert sorted(p.name for p in paths) == sorted(p.name for p in (tmp_path / "out").iterdir())
    assert "manifest.json" in {p.name for p in paths} and "frames.jsonl" not in {p.name for p in paths}
    for frame, plate in files.plate.items():
        assert (tmp_path / "out" / f"clean.{frame}.exr").read_bytes() == plate.read_bytes()[::-1]


def test_what_was_fetched_is_left_alone_and_what_was_damaged_is_fetched_again(client, tmp_path):
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
    client.watch(job)
    first = {p: p.stat().st_mtime_ns for p in client.fetch(job, tmp_path / "out")}
    damaged = tmp_path / "out" / "clean.1002.exr"
    right = damaged.read_bytes()
    damaged.write_bytes(b"x" * len(right))
    client.fetch(job, tmp_path / "out")
    assert damaged.read_bytes() == right
    assert all(p.stat().st_mtime_ns == then for p, then in first.items() if p != damaged)


def test_what_a_killed_client_had_half_fetched_goes_with_the_next_fetch(client, tmp_path):
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
    client.watch(job)
    (tmp_path / "out").mkdir()
    old, young, other = (
        tmp_path / "out" / name for name in (".clean.1001.exr.0a.part", ".clean.1002.exr.0b.part", ".comp.exr.0c.part")
    )
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (1e9, 1e9))
    client.fetch(job, tmp_path / "out")
    left = {path.name for path in (tmp_path / "out").glob(".*")}
    assert left == {young.name, other.name}, "somebody may still write to a young one, and a comp is nobody's"


def test_a_result_that_cant_be_written_is_an_output_error(client, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
    with pytest.raises(OutputError):
        client.fetch(job, tmp_path / "file" / "out")


def test_a_second_try_with_other_settings_sends_nothing(client, tmp_path):
    files = make_shot(tmp_path / "in")
    client.submit(files, ShotSettings())
    events = []
    client.submit(files, ShotSettings(seed=2), on_event=events.append)
    assert events == []


def test_frames_with_equal_samples_are_told_apart(client, tmp_path):
    """Uncompressed mattes of one shot often differ in a few rows that no sample meets."""
    files = make_shot(tmp_path / "in", frames=3)
    for index, path in enumerate(files.plate.values()):
        data = bytearray(1_000_000)
        data[300_000] = index
        path.write_bytes(data)
    assert len({transfer.look_at("plate", 1, p).fingerprint for p in files.plate.values()}) == 1
    job = client.submit(files, ShotSettings()).job
    client.watch(job)
    client.fetch(job, tmp_path / "out")
    for frame, plate in files.plate.items():
        assert (tmp_path / "out" / f"clean.{frame}.exr").read_bytes() == plate.read_bytes()[::-1]


def test_one_file_may_serve_many_frames(client, tmp_path):
    files = make_shot(tmp_path / "in")
    held = dataclasses.replace(files, matte=dict.fromkeys(files.plate, files.matte[1001]))
    assert client.watch(client.submit(held, ShotSettings()).job).state == "done"


def test_an_empty_file_travels(client, tmp_path):
    files = make_shot(tmp_path / "in", frames=1)
    files.matte[1001].write_bytes(b"")
    assert client.watch(client.submit(files, ShotSettings()).job).state == "done"


def test_the_same_request_is_the_same_job(client, daemon, tmp_path):
    files = make_shot(tmp_path / "in")
    first = client.submit(files, ShotSettings(), request="render-7")
    client.watch(first.job)
    assert client.submit(files, ShotSettings(), request="render-7").job == first.job
    with daemon.client() as other:
        assert other.submit(files, ShotSettings(), request="render-7").state == "done"
    with pytest.raises(SettingsError, match="another shot"):
        client.submit(files, ShotSettings(seed=9), request="render-7")


def test_unknown_jobs_are_unknown_and_never_done(client, tmp_path):
    for ask_for in (client.status, client.cancel, client.watch, lambda job: client.fetch(job, tmp_path / "out")):
        with pytest.raises(JobNotFoundError):
            ask_for("20260101-000000-00000000")


@pytest.mark.parametrize(
    ("fail", "kind"), [("matte", MatteError), ("gpu", GpuMemoryError), ("bug", InternalError)], ids=str
)
def test_a_failed_job_says_why_and_is_not_retried(client, daemon, tmp_path, fail, kind):
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"fail": fail})).job
    status = client.watch(job)
    assert (status.state, status.attempt) == ("failed", 1)
    assert isinstance(status.error, kind) and status.error.job == job
    folder = daemon.data / "jobs" / job
    until((folder / "error.txt").exists)
    assert status.error.message in (folder / "error.txt").read_text()
    assert "Traceback" in (folder / "log.txt").read_text()
    assert client.watch(client.submit(make_shot(tmp_path / "next"), ShotSettings()).job).state == "done"


def test_the_job_folder_explains_itself(client, daemon, tmp_path):
    files = make_shot(tmp_path / "in")
    job = client.submit(files, ShotSettings(prompt="a table")).job
    client.watch(job)
    folder = daemon.data / "jobs" / job
    until(lambda: json.loads((folder / "job.json").read_text()).get("state") == "done")
    assert json.loads((folder / "job.json").read_text())["settings"]["prompt"] == "a table"
    assert (folder / "plate" / "plate.1002.exr").read_bytes() == files.plate[1002].read_bytes()
    assert (folder / "result").readlink() == Path("attempt-1")
    assert "written to stdout by a C library" in (folder / "log.txt").read_text()
    assert json.loads((folder / "files.json").read_text())["plate"]["1002"]["name"] == "sh010_plate.1002.exr"


def test_cancel_in_every_state_and_twice(client, daemon, tmp_path):
    files = make_shot(tmp_path / "in")
    running = client.submit(files, ShotSettings(**HOLD)).job
    queued = client.submit(files, ShotSettings(seed=1)).job
    until(lambda: client.status(running).frames_done == 1)
    assert (client.status(queued).state, client.status(queued).position) == ("queued", 1)

    assert client.cancel(queued).state == "cancelled"
    assert client.cancel(running).state == "cancelled"
    assert client.fetch(running, tmp_path / "out") == []
    assert client.cancel(running).state == "cancelled"
    folder = daemon.data / "jobs" / running
    until(lambda: not list(folder.glob("attempt-*")))
    assert (folder / "log.txt").exists()

    done = client.submit(files, ShotSettings(seed=2)).job
    assert client.watch(done).state == "done"
    assert client.cancel(done).state == "done"

    stop = threading.Event()
    fresh = make_shot(tmp_path / "fresh", frames=2, size=5_000_000)
    with pytest.raises(JobCancelledError):
        client.submit(fresh, ShotSettings(), on_event=lambda event: stop.set(), cancelled=stop.is_set)
    assert client.jobs()[0].state == "cancelled"
    until(lambda: not list((daemon.data / "frames").glob("*/*.part")))


def test_a_worker_that_does_not_listen_is_ended(client, tmp_path):
    files = make_shot(tmp_path / "in")
    deaf = client.submit(files, ShotSettings(options={**HOLD["options"], "hang": True})).job
    until(lambda: client.status(deaf).frames_done == 1)
    client.cancel(deaf)
    assert client.watch(client.submit(files, ShotSettings(seed=3)).job).state == "done"


def test_a_watcher_can_cancel(client, tmp_path):
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings(**HOLD)).job
    stop = threading.Event()

    def on_event(event):
        if event["event"] == "frame":
            stop.set()

    assert client.watch(job, on_event=on_event, cancelled=stop.is_set).state == "cancelled"


def test_finished_frames_can_be_fetched_while_the_job_runs(client, tmp_path):
    gate = tmp_path / "gate"
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"gate": str(gate)})).job
    until(lambda: client.status(job).frames_done == 1)
    assert {p.name for p in client.fetch(job, tmp_path / "out")} == {"clean.1001.exr", "aov.1001.exr"}
    gate.touch()
    assert client.watch(job).state == "done"
    assert len(client.fetch(job, tmp_path / "out")) == 8


def test_one_client_serves_many_threads(client, tmp_path):
    gate = tmp_path / "gate"
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"gate": str(gate)})).job
    found = []
    watchers = [threading.Thread(target=lambda: found.append(client.watch(job).state)) for _ in range(4)]
    for thread in watchers:
        thread.start()
    until(lambda: client.status(job).frames_done == 1)
    gate.touch()
    for thread in watchers:
        thread.join(30)
    assert found == ["done"] * 4


def test_a_file_that_changes_on_its_way_is_named(daemon, tmp_path):
    files = make_shot(tmp_path / "in", frames=2, size=30_000_000)

    def on_event(event):
        os.truncate(files.plate[1002], 1000)

    with daemon.client() as client, pytest.raises(PlateError, match="Plate frame 1002"):
        client.submit(files, ShotSettings(), on_event=on_event)


def test_a_missing_file_is_named_before_anything_is_sent(client, tmp_path):
    files = make_shot(tmp_path / "in")
    files.matte[1003].unlink()
    with pytest.raises(MatteError, match="Matte frame 1003") as caught:
        client.submit(files, ShotSettings())
    assert caught.value.frame == 1003


def test_a_damaged_frame_is_named_and_sent_anew(client, daemon, tmp_path):
    files = make_shot(tmp_path / "in")
    blocker = client.submit(make_shot(tmp_path / "other"), ShotSettings(**HOLD)).job
    until(lambda: client.status(blocker).state == "running")
    job = client.submit(files, ShotSettings()).job
    held = (daemon.data / "jobs" / job / "plate" / "plate.1002.exr").resolve()
    held.write_bytes(b"x" * held.stat().st_size)
    client.cancel(blocker)
    status = client.watch(job)
    assert isinstance(status.error, StoreError) and status.error.frame == 1002
    until(lambda: not held.exists())
    sent = []
    again = client.submit(files, ShotSettings(), on_event=sent.append)
    assert {event["frame"] for event in sent} == {1002}
    assert client.watch(again.job).state == "done"


def test_a_newer_client_is_told_which_protocol_is_spoken(daemon):
    with raw(daemon.address) as dealer:
        header = {"type": "hello", "request": "r", "protocols": [9], "version": "9"}
        answer = ask(dealer, [MAGIC, msgpack.packb(header)])
    assert answer["code"] == "protocol" and "speaks protocol 2" in answer["message"]


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xc1"] * 9,
        [b"noise"],
        [b""],
        [MAGIC, b"\xdd\xff\xff\xff\xff"],
        [MAGIC, b"\x91" * 100_000],
        [MAGIC, msgpack.packb({"type": "nope", "request": "r"})],
        [MAGIC, msgpack.packb({"type": "hello_reply", "request": "r"})],
        [MAGIC, msgpack.packb({"type": "put", "request": "r", "job": "nope", "file": 0, "offset": 0}), b"x"],
        [MAGIC, msgpack.packb({"type": "submit", "request": "r", "name": "", "settings": {}, "files": [1]})],
        [
            MAGIC,
            msgpack.packb(
                {
                    "type": "submit",
                    "request": "r",
                    "name": "",
                    "settings": {},
                    "files": [["plate", 1, "../../x", -1, "0" * 32, 0, ""]],
                }
            ),
        ],
        [
            MAGIC,
            msgpack.packb({"type": "submit", "request": "r", "name": "", "settings": {"seed": "x"}, "files": [[]]}),
        ],
        [MAGIC, msgpack.packb({"type": "bind", "request": "r", "job": "x", "files": [[10**30 % 2**63, "z"]]})],
    ],
    ids=range(12),
)
def test_noise_gets_an_error_and_the_daemon_lives(daemon, client, frames):
    with raw(daemon.address) as dealer:
        assert ask(dealer, frames)["type"] == "error"
    assert client.hello().protocol == 2


def test_a_message_beyond_the_limit_ends_its_connection_only(daemon, client):
    boot = client.hello().boot_id
    with raw(daemon.address) as dealer:
        dealer.send_multipart([MAGIC, bytes(LIMITS["header_bytes"].value + 1)])
        hello = {"type": "hello", "request": "r", "protocols": [2], "version": ""}
        assert ask(dealer, [MAGIC, msgpack.packb(hello)])["type"] == "hello_reply"
    assert client.hello().boot_id == boot


def test_results_can_only_be_got_by_their_own_name(daemon, client, tmp_path):
    job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
    client.watch(job)
    connection = Connection(zmq.Context.instance(), daemon.address, None, 5.0)
    try:
        for name in ("../log.txt", "../../../store.sqlite", "frames.jsonl", "/etc/passwd", ".left-over.tmp"):
            with pytest.raises(JobNotFoundError):
                connection.call("get", {"job": job, "name": name, "offset": 0, "length": 10}, 5.0)
    finally:
        connection.close()


def test_a_device_the_daemon_lacks_is_refused_at_submit(client, tmp_path):
    with pytest.raises(SettingsError, match="cuda:3"):
        client.submit(make_shot(tmp_path / "in"), ShotSettings(device="cuda:3"))


def test_too_little_room_is_said_before_anything_is_sent(tmp_path):
    files = make_shot(tmp_path / "in", frames=3, size=1_000_000)
    with LiveDaemon(tmp_path / "small", quota_bytes=2_500_000) as daemon, daemon.client() as client:
        with pytest.raises(LimitError, match="more than this daemon keeps"):
            client.submit(files, ShotSettings())
        one = ShotFiles(plate={1001: files.plate[1001]}, matte={1001: files.matte[1001]})
        assert client.watch(client.submit(one, ShotSettings()).job).state == "done"
        two = ShotFiles(plate={1002: files.plate[1002]}, matte={1002: files.matte[1002]})
        assert client.watch(client.submit(two, ShotSettings()).job).state == "done", "unused frames make room"
    with LiveDaemon(tmp_path / "full", reserve_bytes=1 << 60) as daemon, daemon.client() as client:  # noqa: SIM117
        with pytest.raises(StoreError, match="disk has"):
            client.submit(files, ShotSettings())


def test_a_second_daemon_on_the_same_data_is_refused(daemon):
    with pytest.raises(RuntimeError, match="Another daemon"):
        LiveDaemon(daemon.data).start()


def test_a_taken_port_is_named(daemon, tmp_path):
    with pytest.raises(RuntimeError, match="Can't listen"):
        LiveDaemon(tmp_path / "data", bind=daemon.address).start()


def test_a_daemon_told_to_stop_stops_and_keeps_what_is_queued(tmp_path):
    live = LiveDaemon(tmp_path / "data").start()
    with live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(**HOLD)).job
        until(lambda: client.status(job).frames_done == 1)
        assert live.stop() == 0
    with live, live.client() as client:
        assert client.status(job).state in ("queued", "running")
        until(lambda: client.status(job).attempt == 2)


def test_nothing_outlives_the_daemon(tmp_path):
    live = LiveDaemon(tmp_path / "data").start()
    with live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={**HOLD["options"], "hang": True})).job
        until(lambda: client.status(job).frames_done == 1)
    log = (live.data / "jobs" / job / "log.txt").read_text()
    worker = Path("/proc") / log.split("worker process ")[1].split()[0]
    assert worker.exists()
    live.kill()
    until(lambda: not worker.exists() or "Z" in (worker / "stat").read_text().rsplit(")", 1)[1][:3])
