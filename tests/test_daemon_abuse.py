"""Clients that break the rules, by mistake or on purpose: nobody else loses a job, a second or the daemon."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import zlib

import psutil
import pytest

from tests.live_daemon import HOLD, LiveDaemon, make_shot, until
from tests.raw_client import RawClient, junk, rows
from void_server.wire.client import Client
from void_server.wire.messages import LIMITS, MAGIC
from void_server.wire.shot import ShotSettings


@pytest.fixture
def live(tmp_path):
    with LiveDaemon(tmp_path / "data") as daemon:
        yield daemon


@pytest.fixture
def raw(live):
    with RawClient(live.address) as client:
        yield client


def resident_mb(live):
    return psutil.Process(live.process.pid).memory_info().rss / 1e6


@contextlib.contextmanager
def honest(live, job):
    """Another process's worth of `status`, asked all the while; its slowest answer in s is appended."""
    worst, stop = [0.0], threading.Event()

    def ask():
        with live.client(timeout_s=60.0) as client:
            while not stop.is_set():
                started = time.perf_counter()
                client.status(job)
                worst[0] = max(worst[0], time.perf_counter() - started)
                stop.wait(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield worst
    finally:
        stop.set()
        thread.join(60)


def test_many_starts_queue_a_job_once_and_harm_nothing(live, raw):
    files = junk(200, 40)
    for _ in range(3):
        job = raw.upload(files, start=False)
        asked = {raw.send("start", {"job": job}) for _ in range(6)}
        while asked:
            answer = raw.receive()
            assert answer["request"] not in asked or answer["type"] == "start_reply", answer
            asked.discard(answer["request"])
        assert until(lambda job=job: raw.state(job) not in ("queued", "running") and raw.state(job)) == "done"


class CuttingProxy:
    """A network that drops the connection as soon as it has passed `start` on, once."""

    def __init__(self, address):
        self._port = int(address.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cut = False
        self._lines = []
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for line in (self._listener, *self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._lines += [near, far]
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, one, other, watched):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
                if watched and b"start\xa7request" in data and not self._cut:
                    self._cut = True
                    break
        for line in (one, other):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


def test_a_connection_cut_after_start_costs_the_job_nothing(live, tmp_path):
    proxy = CuttingProxy(live.address)
    files = make_shot(tmp_path / "in", frames=200, size=300)
    with Client(proxy.address, patience_s=30.0) as client:
        job = client.submit(files, ShotSettings())
        assert client.watch(job.job).state == "done"
    proxy.close()


def test_a_link_that_is_gone_is_no_damage_to_the_frame(live, raw, tmp_path):
    blocker = raw.upload(junk(), options=HOLD["options"])
    until(lambda: raw.state(blocker) == "running")
    files = junk(2)
    job = raw.upload(files)
    (live.data / "jobs" / job / "plate" / "plate.1001.exr").unlink()
    raw.call("cancel", {"job": blocker})
    assert until(lambda: raw.state(job) == "failed")
    assert "is not where it was put" in raw.call("status", {"job": job})["job"]["error"]["message"]
    again = raw.call("submit", {"name": "again", "settings": ShotSettings().to_wire(), "files": rows(files)})
    assert again["offsets"] == [-2] * 4, "the frames themselves are still here"


def test_a_watch_of_a_long_finished_job_ends(live, tmp_path):
    files = make_shot(tmp_path / "in", frames=150, size=200)
    with live.client() as client:
        job = client.submit(files, ShotSettings()).job
        assert client.watch(job).state == "done"
        events = []
        assert client.watch(job, on_event=events.append).state == "done"
    assert [e["frame"] for e in events if e["event"] == "frame"] == list(range(1001, 1151))


def test_a_watcher_that_reads_late_gets_every_lasting_event(live, raw):
    job = raw.upload(junk(150, 50))
    until(lambda: raw.state(job) == "done")
    with RawClient(live.address, rcvhwm=1) as slow:
        watching = slow.send("watch", {"job": job, "after": 0})
        until(lambda: raw.state(job) == "done")
        seen = []
        while not seen or seen[-1].get("state") != "done":
            answer = slow.receive()
            assert answer is not None and answer["request"] == watching
            if answer["type"] == "event":
                seen.append(answer["event"])
    assert sum(event["event"] == "frame" for event in seen) == 150


def test_one_connection_watches_so_many_jobs_and_no_more(raw):
    job = raw.upload(junk(), options=HOLD["options"])
    for _ in range(LIMITS["watches"].value):
        raw.call("watch", {"job": job, "after": 0})
    raw.send("watch", {"job": job, "after": 0}, request="too many")
    answers = [raw.receive() for _ in range(2)]
    while not any(a and a["type"] == "error" and a["request"] == "too many" for a in answers):
        answers.append(raw.receive())
        assert answers[-1] is not None


def test_an_endless_error_is_cut_and_its_owner_still_sees_everything(live, raw):
    good = raw.upload(junk())
    bad = raw.upload(junk(), options={"fail": "long"})
    until(lambda: raw.state(bad) == "failed")
    with live.client() as client:
        status = client.status(bad)
        assert (
            3000 < len(status.error.message) <= LIMITS["text_chars"].value and "characters more" in status.error.message
        )
        assert client.watch(bad).state == "failed"
        assert {job.job for job in client.jobs()} >= {good, bad}


def test_a_bad_row_in_the_store_hides_no_other(live, raw):
    import sqlite3

    good, bad = raw.upload(junk()), raw.upload(junk())
    until(lambda: raw.state(bad) == "done")
    live.stop()
    with contextlib.closing(sqlite3.connect(live.data / "store.sqlite")) as db:
        text = '{"code": "plate", "message": "%s", "hint": ""}' % ("x" * 9000)
        db.execute("update jobs set error = ?, name = ? where job = ?", (text, "n" * 5000, bad))
        db.commit()
    live.start()
    with live.client() as client:
        assert {job.job for job in client.jobs()} == {good, bad}


def test_a_list_of_jobs_that_no_message_holds_comes_in_pages(live, raw):
    jobs = [raw.upload(junk(1, 20), options={"warnings": 100}) for _ in range(24)]
    for job in jobs:
        until(lambda job=job: raw.state(job) == "done")
    assert raw.call("jobs")["more"], "one message does not hold them"
    with live.client() as client:
        assert [job.job for job in client.jobs()] == jobs[::-1]


def test_a_shot_of_thousands_of_files_offered_again_stops_nobody(live, raw):
    data = os.urandom(64)
    files = [("plate", frame, data) for frame in range(1, 4001)] + [("matte", 1, os.urandom(20))]
    own = raw.upload(junk())
    raw.upload([files[0], files[-1]])
    job = raw.submit(files)
    import hashlib

    sums = [hashlib.sha256(data).hexdigest(), zlib.crc32(data)]
    with honest(live, own) as worst:
        answer = raw.call("bind", {"job": job, "files": [[number, *sums] for number in range(4000)]}, timeout_s=60)
        assert answer["lacking"] == []
        answer = raw.call("bind", {"job": job, "files": [[0, *sums]] * 10_000}, timeout_s=60)
        assert answer["lacking"] == []
    assert worst[0] < 1.0, "a second at the most, on a machine that others load; alone it is some milliseconds"


def zmtp(address):
    """A connection that has shaken hands as a DEALER without keys. Source of the bytes: ZeroMQ RFC 23 (ZMTP 3.0)."""
    line = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=10)
    line.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    kind = b"\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
    ready = b"\x05READY" + kind
    line.sendall(b"\x04" + bytes([len(ready)]) + ready)
    return line


def test_a_message_that_never_ends_is_cut_off(live, raw):
    own = raw.upload(junk())
    before = resident_mb(live)
    frame = bytes(LIMITS["header_bytes"].value)
    more = b"\x03" + len(frame).to_bytes(8, "big")
    with zmtp(live.address) as flood:
        with contextlib.suppress(OSError):
            for _ in range(250):
                flood.sendall(more + frame)
        until(lambda: raw.state(own) == "done")
        until(lambda: resident_mb(live) < before + 300)


def test_readers_that_never_read_cost_little_and_hold_up_nobody(live, raw, tmp_path):
    files = make_shot(tmp_path / "in", frames=1, size=8 << 20)
    with live.client() as client:
        job = client.submit(files, ShotSettings()).job
        client.watch(job)
        before = resident_mb(live)
        deaf = []
        for _ in range(12):
            reader = RawClient(live.address, rcvhwm=1)
            deaf.append(reader)
            for _ in range(100):
                reader.send("get", {"job": job, "name": "clean.1001.exr", "offset": 0, "length": 1 << 20})
        with RawClient(live.address) as other:
            assert other.call("get", {"job": job, "name": "clean.1001.exr", "offset": 0, "length": 100})["buffer"]
        assert len(client.fetch(job, tmp_path / "out")) == 4
        assert resident_mb(live) < before + 400
        for reader in deaf:
            reader.close()


def test_a_header_of_nothing_but_empty_maps_is_refused_before_it_takes_memory(live, raw):
    inner = b"\xdc\x9c\x40" + b"\x80" * 40_000
    body = b"\x83\xa4type\xa4jobs\xa7request\xa1r\xa1x" + b"\xdc\x00\x64" + inner * 100
    before = resident_mb(live)
    for _ in range(5):
        raw.socket.send_multipart([MAGIC, body])
        assert raw.receive()["type"] == "error"
    assert resident_mb(live) < before + 60


def test_a_chunk_for_a_file_that_is_held_or_a_job_that_began_is_not_written(live, raw):
    files = junk(1, 400_000)
    job = raw.upload(files, start=False)
    for number, (_, _, data) in enumerate(files):
        answer = raw.call("put", {"job": job, "file": number, "offset": 0}, data)
        assert (answer["offset"], answer["again"]) == (len(data), False)
    assert raw.call("start", {"job": job})["type"] == "start_reply"
    assert raw.call("put", {"job": job, "file": 0, "offset": 0}, b"x" * 10)["type"] == "error"
    until(lambda: raw.state(job) == "done")
    assert raw.call("put", {"job": job, "file": 0, "offset": 0}, b"x" * 10)["type"] == "error"
    assert not list((live.data / "frames").rglob("*.part"))


def test_more_requests_than_a_connection_may_have_open_are_refused(live, raw):
    for _ in range(4 * LIMITS["unanswered"].value):
        raw.send("submit", {"name": "", "settings": ShotSettings().to_wire(), "files": rows(junk(20, 10))})
    kinds = [raw.receive()["type"] for _ in range(4 * LIMITS["unanswered"].value)]
    assert set(kinds) == {"submit_reply", "error"} and raw.call("jobs")["type"] == "jobs_reply"
