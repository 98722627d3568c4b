"""Disks that are full, databases that are locked, lost or old, clocks that jump: no result is lost, all goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live_daemon import HOLD, LiveDaemon, make_shot, until
from tests.raw_client import RawClient, junk, rows
from void_server.daemon.files.retention import GRACE_S
from void_server.daemon.store.frame_table import JobFile
from void_server.daemon.store.store import Store
from void_server.wire.errors import JobNotFoundError, LimitError, StoreError
from void_server.wire.shot import ShotSettings

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 20 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"mounting a file system needs root ({made.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def start():
    """Starts a daemon that ends with the test, whatever the test does with it."""
    started = []

    def begin(data, **config):
        started.append(LiveDaemon(data, **config))
        return started[-1].start()

    yield begin
    for daemon in started:
        daemon.stop()


def fill(folder):
    """Take all the room that there is."""
    with (folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def promise(raw, frames=9):
    """A job of so many MiB, of which nothing is sent."""
    files = [["plate", frame, "n.exr", MIB, os.urandom(16).hex(), 0, ""] for frame in range(frames)]
    files.append(["matte", 1, "n.exr", 1, os.urandom(16).hex(), 0, ""])
    return raw.call("submit", {"name": "x", "settings": ShotSettings().to_wire(), "files": files})


def test_what_was_promised_to_one_shot_is_not_promised_to_another(small_disk):
    with LiveDaemon(small_disk / "data", reserve_bytes=6 * MIB) as live, RawClient(live.address) as raw:
        answers = [promise(raw) for _ in range(3)]
        assert [answer["type"] for answer in answers] == ["submit_reply", "error", "error"]
        assert answers[1]["code"] == "store"
        job = answers[0]["job"]["job"]
        for number in range(9):
            assert raw.call("put", {"job": job, "file": number, "offset": 0}, os.urandom(MIB))["type"] == "put_reply"
        assert shutil.disk_usage(small_disk).free >= 6 * MIB


def test_an_artist_can_free_space_on_a_full_disk(small_disk):
    with LiveDaemon(small_disk / "data", reserve_bytes=0) as live, RawClient(live.address) as raw:
        done = raw.upload(junk(2, 200_000))
        until(lambda: raw.state(done) == "done")
        job = promise(raw)["job"]["job"]
        for number in range(6):
            raw.call("put", {"job": job, "file": number, "offset": 0}, os.urandom(MIB))
        until((live.data / "ballast").exists)
        fill(small_disk)
        assert raw.call("status", {"job": job})["type"] == "status_reply"
        answer = raw.call("cancel", {"job": job})
        assert answer["type"] == "cancel_reply" and answer["job"]["state"] == "cancelled"
        until(lambda: shutil.disk_usage(small_disk).free > 5 * MIB)
        fill(small_disk)
        assert raw.call("drop", {"job": done})["type"] == "drop_reply"
        until(lambda: shutil.disk_usage(small_disk).free > 400_000)


def test_a_daemon_starts_on_a_disk_that_is_full(start, small_disk):
    live = start(small_disk / "data", reserve_bytes=0)
    with live.client() as client, RawClient(live.address) as raw:
        job = raw.upload(junk())
        client.watch(job)
        until((live.data / "ballast").exists)
        held = raw.upload(junk(), options=HOLD["options"])
        until(lambda: raw.state(held) == "running")
        live.kill()
        fill(small_disk)
        live.start()
        assert client.status(job).state == "done"
        assert client.cancel(held).state == "cancelled"
    assert live.stop() == 0


def test_a_job_that_met_a_full_disk_is_finished_once_there_is_room(small_disk, tmp_path):
    gate = tmp_path / "gate"
    with LiveDaemon(small_disk / "data", reserve_bytes=0) as live, RawClient(live.address) as raw:
        job = raw.upload(junk(3, 1000), options={"gate": str(gate)})
        until(lambda: raw.call("status", {"job": job})["job"]["frames_done"] == 1)
        (live.data / "ballast").unlink(missing_ok=True)
        fill(small_disk)
        gate.touch()
        for _ in range(100):
            assert raw.call("status", {"job": job})["type"] == "status_reply"
        (small_disk / "fill").unlink()
        ended = until(lambda: raw.state(job) in ("done", "failed") and raw.call("status", {"job": job})["job"])
        # Whoever met it, the worker or the store: it is said, or the job went on.
        assert ended["state"] == "done" or "space" in str(ended["error"]) or "full" in str(ended["error"])
        again = raw.upload(junk(1))
        until(lambda: raw.state(again) == "done")


def test_a_database_that_another_program_locks_is_waited_for(tmp_path):
    with LiveDaemon(tmp_path / "data") as live, RawClient(live.address) as raw:
        job = raw.upload(junk())
        until(lambda: raw.state(job) == "done")
        with contextlib.closing(sqlite3.connect(live.data / "store.sqlite", isolation_level=None)) as other:
            other.execute("begin immediate")
            request = raw.send("submit", {"name": "", "settings": ShotSettings().to_wire(), "files": rows(junk(1))})
            started = time.monotonic()
            with RawClient(live.address) as second:
                assert second.state(job) == "done"
            assert time.monotonic() - started < 2.0, "looking needs no lock"
            other.execute("rollback")
        answer = raw.receive(20)
        assert answer["request"] == request and answer["type"] == "submit_reply"


def test_a_sweep_that_meets_a_locked_database_does_its_work_later(tmp_path):
    with LiveDaemon(tmp_path / "data", keep_s=0.5, sweep_s=0.2) as live, live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"frame_s": 0.5})).job
        with contextlib.closing(sqlite3.connect(live.data / "store.sqlite", isolation_level=None)) as other:
            client.watch(job)
            client.fetch(job, tmp_path / "out")
            other.execute("begin immediate")
            assert live.process and live.process.stderr
            while not (line := live.process.stderr.readline()).startswith("sweep: "):
                assert line, "the daemon is gone"
            with RawClient(live.address) as raw:
                assert raw.call("jobs")["type"] == "jobs_reply"
            other.execute("rollback")
        until(lambda: not (live.data / "jobs" / job).exists())
        assert client.watch(client.submit(make_shot(tmp_path / "next"), ShotSettings()).job).state == "done"


def test_a_sweep_on_a_full_disk_makes_room(small_disk, tmp_path):
    with LiveDaemon(small_disk / "data", keep_s=0.5, sweep_s=0.2, reserve_bytes=0) as live, live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"frame_s": 0.5})).job
        client.watch(job)
        client.fetch(job, tmp_path / "out")
        fill(small_disk)
        until(lambda: not (live.data / "jobs" / job).exists())
        (small_disk / "fill").unlink()
        assert client.watch(client.submit(make_shot(tmp_path / "next"), ShotSettings()).job).state == "done"


def test_a_data_folder_that_cant_be_written_to_is_said_in_one_line(small_disk):
    with LiveDaemon(small_disk / "data", reserve_bytes=0) as live, RawClient(live.address) as raw:
        job = raw.upload(junk(1))
        until(lambda: raw.state(job) == "done")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RuntimeError) as caught:
        live.start()
    said = str(caught.value)
    assert said.startswith(f"store: The data folder {small_disk / 'data'} can't be used") and "--data" in said
    assert "Traceback" not in said and len(said.splitlines()) == 2, "the second is this test's own"


def test_a_result_that_became_a_pipe_holds_up_nobody(tmp_path):
    with LiveDaemon(tmp_path / "data") as live, RawClient(live.address) as raw:
        job = raw.upload(junk(1))
        until(lambda: raw.state(job) == "done")
        for path in (live.data / "jobs" / job).rglob("clean.1001.exr"):
            path.unlink()
            os.mkfifo(path)
        for _ in range(20):
            answer = raw.call("get", {"job": job, "name": "clean.1001.exr", "offset": 0, "length": 10})
            assert answer["code"] == "store" and "clean.1001.exr is no file any more" in answer["message"]
        again = raw.upload(junk(1))
        until(lambda: raw.state(again) == "done")
        assert live.stop() == 0


def lose_database(data):
    for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
        (data / name).unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["lost", "garbage", "truncated", "empty"])
def test_jobs_and_results_outlive_their_database(start, tmp_path, how):
    live = start(tmp_path / "data")
    files = make_shot(tmp_path / "in")
    with live.client() as client:
        done = client.submit(files, ShotSettings(), name="kept", request="r1").job
        client.watch(done)
        failed = client.submit(files, ShotSettings(options={"fail": "matte"})).job
        client.watch(failed)
        held = client.submit(files, ShotSettings(**HOLD)).job
        until(lambda: client.status(held).frames_done == 1)
        until(lambda: '"done"' in (live.data / "jobs" / done / "job.json").read_text())
        until(lambda: '"failed"' in (live.data / "jobs" / failed / "job.json").read_text())
        live.stop()
        store = live.data / "store.sqlite"
        if how == "lost":
            lose_database(live.data)
        else:
            data = store.read_bytes()
            lose_database(live.data)
            store.write_bytes({"garbage": os.urandom(9000), "truncated": data[:9000], "empty": b""}[how])
        live.start()
        assert client.status(done).state == "done" and client.status(done).name == "kept"
        assert client.status(failed).state == "failed" and "empty" in client.status(failed).error.message
        assert {path.name for path in client.fetch(done, tmp_path / "out")} >= {"clean.1001.exr", "manifest.json"}
        until(lambda: client.status(held).frames_done == 1)
        sent = []
        assert client.submit(files, ShotSettings(), name="kept", request="r1", on_event=sent.append).job == done
        assert sent == []
    live.stop()
    if how in ("garbage", "truncated"):
        assert list((live.data / "quarantine").glob("store-*/store.sqlite"))


def test_a_watcher_outlives_the_database_too(start, tmp_path):
    live = start(tmp_path / "data")
    gate, heard = tmp_path / "gate", []
    with live.client() as client:
        job = client.submit(make_shot(tmp_path / "in", frames=5), ShotSettings(options={"gate": str(gate)})).job
        with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as opened:
            opened.callback(gate.touch)
            watched = pool.submit(client.watch, job, heard.append)
            until(lambda: any(event["event"] == "frame" for event in heard))
            until(lambda: '"running"' in (live.data / "jobs" / job / "job.json").read_text())
            live.stop()
            lose_database(live.data)
            gate.touch()
            live.start()
            assert watched.result(60).state == "done"
    assert heard[-1]["state"] == "done"


def test_an_older_copy_of_the_database_costs_no_newer_result(start, tmp_path):
    live = start(tmp_path / "data")
    files = make_shot(tmp_path / "in")
    gate = tmp_path / "gate"
    with live.client() as client:
        running = client.submit(files, ShotSettings(options={"gate": str(gate)})).job
        until(lambda: client.status(running).frames_done == 1)
        live.stop()
        shutil.copy(live.data / "store.sqlite", tmp_path / "yesterday")
        gate.touch()
        live.start()
        client.watch(running)
        newer = client.submit(files, ShotSettings(seed=1)).job
        client.watch(newer)
        until(lambda: '"done"' in (live.data / "jobs" / newer / "job.json").read_text())
        until(lambda: '"done"' in (live.data / "jobs" / running / "job.json").read_text())
        live.stop()
        lose_database(live.data)
        shutil.copy(tmp_path / "yesterday", live.data / "store.sqlite")
        live.start()
        for job in (running, newer):
            assert client.status(job).state == "done"
            assert len(client.fetch(job, tmp_path / job)) == 8
    live.stop()


def test_a_folder_that_says_nothing_is_laid_aside_and_not_deleted(tmp_path):
    data = tmp_path / "data"
    (data / "jobs" / "20200101-000000-deadbeef").mkdir(parents=True)
    (data / "jobs" / "20200101-000000-deadbeef" / "precious.exr").write_bytes(b"light")
    with LiveDaemon(data), contextlib.suppress(FileNotFoundError):
        pass
    assert (data / "quarantine" / "20200101-000000-deadbeef-1" / "precious.exr").read_bytes() == b"light"


def test_dropping_a_job_deletes_its_results_and_another_owner_s_stay(tmp_path):
    with LiveDaemon(tmp_path / "data") as live, live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
        other = client.submit(make_shot(tmp_path / "in2"), ShotSettings()).job
        client.watch(job)
        client.watch(other)
        assert client.drop(job).job == job
        assert not (live.data / "jobs" / job).exists() and (live.data / "jobs" / other).exists()
        with pytest.raises(JobNotFoundError):
            client.status(job)
        held = client.submit(make_shot(tmp_path / "in3"), ShotSettings(**HOLD)).job
        with pytest.raises(Exception, match="Cancel it first"):
            client.drop(held)


def test_results_count_for_the_quota_and_dropping_them_makes_room(tmp_path):
    with LiveDaemon(tmp_path / "data", quota_bytes=4_500_000) as live, live.client() as client:
        first = client.submit(make_shot(tmp_path / "a", frames=2, size=MIB), ShotSettings()).job
        client.watch(first)
        with pytest.raises(LimitError, match="jobs drop"):
            client.submit(make_shot(tmp_path / "b", frames=3, size=MIB), ShotSettings())
        client.drop(first)
        assert client.watch(client.submit(make_shot(tmp_path / "b", frames=3, size=MIB), ShotSettings()).job).final


def test_making_room_never_drops_the_frames_that_the_new_shot_shares(tmp_path):
    files = make_shot(tmp_path / "in", frames=2, size=MIB)
    with LiveDaemon(tmp_path / "data", quota_bytes=5_300_000) as live, live.client() as client:
        job = client.submit(files, ShotSettings()).job
        client.watch(job)
        more = make_shot(tmp_path / "in", frames=1, size=MIB, first=1003)
        files.plate.update(more.plate)
        files.matte.update(more.matte)
        sent = []
        client.submit(files, ShotSettings(), on_event=sent.append)
        assert {event["frame"] for event in sent} == {1003}


class TestAges:
    """The store alone, and the sweep."""

    FILE = JobFile(0, "plate", 1, "p.exr", 10, "0" * 32, 0, None, None)

    def test_a_clock_that_jumps_ages_nothing(self, tmp_path, monkeypatch):
        store = Store(tmp_path / "db")
        job = store.submit("o", "r", {"name": "n", "settings": {}}, [self.FILE])
        monkeypatch.setattr(time, "time", lambda: 9e9)
        assert store.old_jobs(3600.0, "receiving") == []
        store._age = 7200.0
        assert store.old_jobs(3600.0, "receiving") == [job]
        store.save_age()
        store.close()
        store = Store(tmp_path / "db")
        assert store.age() >= 7200.0
        store.close()


def test_results_that_nobody_fetched_go_only_after_a_warning(start, tmp_path):
    live = start(tmp_path / "data")
    with live.client() as client:
        unfetched = client.submit(make_shot(tmp_path / "a"), ShotSettings()).job
        fetched = client.submit(make_shot(tmp_path / "b"), ShotSettings()).job
        client.watch(unfetched)
        client.watch(fetched)
        client.fetch(fetched, tmp_path / "out")

        def age(seconds):
            live.stop()
            with contextlib.closing(sqlite3.connect(live.data / "store.sqlite")) as db:
                db.execute("update meta set value = value + ? where name = 'age'", (seconds,))
                db.commit()
            live.start()

        age(32 * 86400.0)
        until(lambda: not (live.data / "jobs" / fetched).exists())
        until(
            lambda: (
                client.status(unfetched).warnings[-1:] and "will be dropped" in client.status(unfetched).warnings[-1]
            )
        )
        assert client.status(unfetched).state == "done"
        age(GRACE_S + 60.0)
        until(lambda: not (live.data / "jobs" / unfetched).exists())
    live.stop()


OLD_STORES = {
    "1": """
        create table meta (name text primary key, value text not null);
        create table jobs (job text primary key, owner text not null, request text not null, asked text not null,
            name text not null, settings text not null, state text not null, created real not null,
            changed real not null, queued integer not null default 0, attempt integer not null default 0,
            crashes integer not null default 0, error text, warnings text not null default '[]',
            unique (owner, request));
        create table files (job text not null references jobs on delete cascade, number integer not null,
            role text not null, frame integer not null, name text not null, size integer not null,
            fingerprint text not null, mtime_ns integer not null, path text, sha256 text, primary key (job, number));
        create index files_by_hash on files (sha256);
        create table frames (owner text not null, sha256 text not null, size integer not null,
            fingerprint text not null, verified integer not null default 0, used real not null,
            primary key (owner, sha256));
        create index frames_by_fingerprint on frames (owner, fingerprint);
        create table events (job text not null references jobs on delete cascade, seq integer not null,
            event text not null, primary key (job, seq));
        create table results (job text not null references jobs on delete cascade, attempt integer not null,
            name text not null, size integer not null, sha256 text not null, primary key (job, attempt, name));
        insert into files values ('J', 0, 'plate', 1, 'p.exr', 3, 'f', 0, null, 'aaa');
        insert into frames values ('local', 'aaa', 3, 'f', 1, 1.0);
    """,
    "2": """
        create table meta (name text primary key, value text not null);
        create table jobs (job text primary key, owner text not null, request text not null, asked text not null,
            name text not null, settings text not null, state text not null, created real not null,
            changed real not null, queued integer not null default 0, attempt integer not null default 0,
            crashes integer not null default 0, error text, warnings text not null default '[]',
            unique (owner, request));
        create table files (job text not null references jobs on delete cascade, number integer not null,
            role text not null, frame integer not null, name text not null, size integer not null,
            fingerprint text not null, mtime_ns integer not null, path text, held text, primary key (job, number));
        create index files_by_held on files (held);
        create table frames (owner text not null, name text not null, size integer not null,
            fingerprint text not null, crc32 integer not null, sha256 text, verified integer not null default 0,
            used real not null, primary key (owner, name));
        create index frames_by_fingerprint on frames (owner, fingerprint);
        create index frames_by_hash on frames (owner, sha256);
        create table events (job text not null references jobs on delete cascade, seq integer not null,
            event text not null, primary key (job, seq));
        create table results (job text not null references jobs on delete cascade, attempt integer not null,
            name text not null, size integer not null, sha256 text not null, primary key (job, attempt, name));
        insert into files values ('J', 0, 'plate', 1, 'p.exr', 3, 'f', 0, null, 'aaa');
        insert into frames values ('local', 'aaa', 3, 'f', 7, 'aaa', 1, 1.0);
    """,
}


@pytest.mark.parametrize("version", OLD_STORES)
def test_a_store_of_an_older_version_is_brought_up_with_all_that_it_holds(tmp_path, version):
    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as db:
        db.executescript(OLD_STORES[version])
        db.execute("insert into meta values ('version', ?)", (version,))
        db.execute(
            "insert into jobs (job, owner, request, asked, name, settings, state, created, changed, attempt)"
            " values ('J', 'local', 'r', '', 'old', '{}', 'done', 1.0, 1.0, 1)"
        )
        db.execute("insert into results values ('J', 1, 'clean.0001.exr', 5, 'h'), ('J', 1, 'sheet.png', 5, 'h')")
        db.commit()
    for _ in range(2):
        store = Store(tmp_path / "db")
        status = store.status("J")
        assert (status.state, status.frames_done, status.name) == ("done", 1, "old")
        assert store.files("J")[0].held == "aaa" and store.knows_fingerprint("local", "f")
        assert store.old_jobs(3600.0, "done") == []
        store.close()


def test_doctor_says_what_a_daemon_keeps(tmp_path):
    from void_server.daemon.store import survey

    assert any("no daemon" in line[2] for line in survey.examine(tmp_path / "nothing"))
    with LiveDaemon(tmp_path / "data") as live, live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
        client.watch(job)
        said = "\n".join(line[2] for line in survey.examine(live.data))
    assert "1 done" in said and "frames held: 6" in said and "nobody has fetched: 1 jobs" in said and job in said
    (live.data / "store.sqlite").write_bytes(b"garbage" * 1000)
    assert any(not ok and "can't be read" in text for _, ok, text, _ in survey.examine(live.data))


def test_a_job_for_a_device_that_is_gone_after_a_restart_says_so(start, tmp_path):
    live = start(tmp_path / "data", devices=["cpu", "cuda:0"])
    with live.client() as client:
        blocker = client.submit(make_shot(tmp_path / "a"), ShotSettings(device="cuda:0", **HOLD)).job
        until(lambda: client.status(blocker).frames_done == 1)
        job = client.submit(make_shot(tmp_path / "b"), ShotSettings(device="cuda:0")).job
        live.stop()
        live.config["devices"] = ["cpu"]
        live.start()
        for one in (blocker, job):
            status = client.watch(one)
            assert status.state == "failed" and "no device 'cuda:0'" in status.error.message
    live.stop()


def test_a_shot_that_was_sent_damaged_is_not_kept_for_the_next(tmp_path):
    with LiveDaemon(tmp_path / "data") as live, RawClient(live.address) as raw:
        files = junk(1)
        job = raw.submit(files)
        for number, (_, _, data) in enumerate(files):
            raw.call("put", {"job": job, "file": number, "offset": 0, "crc32": zlib.crc32(data) ^ 1}, data)
        raw.call("start", {"job": job})
        until(lambda: raw.state(job) == "failed")
        assert raw.call("status", {"job": job})["job"]["error"]["code"] == StoreError.code
