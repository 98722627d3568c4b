"""kill -9 of daemon, worker and client, at any moment: the job is finished, nothing finished is made again."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from tests.live_daemon import HOLD, ROOT, LiveDaemon, make_shot, until
from void_server.daemon.files.disk import translated
from void_server.daemon.files.frames import FrameFolder, Part
from void_server.daemon.scheduling import process_group, workers
from void_server.daemon.scheduling.workers import LOOK_S, WorkerProcess
from void_server.daemon.store.frame_table import JobFile
from void_server.daemon.store.store import Store
from void_server.wire import transfer
from void_server.wire.errors import InternalError, JobNotFoundError, LimitError, SettingsError, StoreError
from void_server.wire.messages import LIMITS
from void_server.wire.shot import ShotSettings


@pytest.fixture
def live(tmp_path):
    with LiveDaemon(tmp_path / "data") as daemon:
        yield daemon


def worker_of(live: LiveDaemon, job: str) -> int:
    log = (live.data / "jobs" / job / "log.txt").read_text()
    return int(log.rsplit("worker process ", 1)[1].split()[0])


def finished_frames(live: LiveDaemon, job: str) -> dict[str, tuple[int, int]]:
    """(mtime, inode) of every frame that stands in any attempt."""
    return {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in (live.data / "jobs" / job).glob("attempt-*/*.exr")
        if not path.name.startswith(".")
    }


def test_a_job_outlives_its_worker(live, tmp_path):
    gate = tmp_path / "gate"
    with live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"gate": str(gate)})).job
        until(lambda: client.status(job).frames_done == 1)
        before = finished_frames(live, job)
        assert set(before) == {"clean.1001.exr", "aov.1001.exr"}
        os.kill(worker_of(live, job), signal.SIGKILL)
        until(lambda: client.status(job).attempt == 2)
        gate.touch()
        status = client.watch(job)
        assert (status.state, status.attempt, status.frames_done) == ("done", 2, 3)
        after = finished_frames(live, job)
        assert {name: after[name] for name in before} == before, "finished frames are the same files"
        assert (live.data / "jobs" / job / "result").readlink() == Path("attempt-2")
        assert len(client.fetch(job, tmp_path / "out")) == 8
        assert not list((live.data / "jobs" / job).rglob(".left-over.tmp"))


def test_a_job_and_its_watcher_outlive_the_daemon(live, tmp_path):
    gate = tmp_path / "gate"
    events = []
    with live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"gate": str(gate)})).job
        found = []
        watcher = threading.Thread(target=lambda: found.append(client.watch(job, on_event=events.append)))
        watcher.start()
        until(lambda: any(e["event"] == "frame" for e in events))
        boot, before = client.hello().boot_id, finished_frames(live, job)
        live.kill()
        live.start()
        until(lambda: any(e.get("attempt") == 2 for e in events))
        gate.touch()
        watcher.join(60)
        assert found[0].state == "done"
        assert client.hello().boot_id != boot
        after = finished_frames(live, job)
        assert {name: after[name] for name in before} == before
    lasting = [e["seq"] for e in events if e["event"] != "progress"]
    assert lasting == list(range(1, len(lasting) + 1)), "each lasting event once, in order, across the restart"


@pytest.mark.parametrize("moment", range(6))
def test_the_daemon_can_be_killed_at_any_moment(tmp_path, moment):
    """Each run kills after another number of events; between them they meet every state."""
    live = LiveDaemon(tmp_path / "data").start()
    files = make_shot(tmp_path / "in", frames=4)
    seen, enough = [], threading.Event()

    def on_event(event):
        seen.append(event)
        if len(seen) > moment * 3:
            enough.set()

    with live.client() as client:
        found = []

        def work():
            job = client.submit(files, ShotSettings(options={"frame_s": 0.05}), request="r", on_event=on_event)
            found.append(client.watch(job.job, on_event=on_event))

        worker = threading.Thread(target=work)
        worker.start()
        assert enough.wait(30)
        live.kill()
        live.start()
        worker.join(60)
        assert found[0].state == "done" and found[0].frames_done == 4
        assert len(client.jobs()) == 1
    live.stop()


def test_a_job_that_kills_its_workers_fails_with_the_log_s_name(live, tmp_path):
    with live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"crash_at": 1002})).job
        status = client.watch(job)
    # The first attempt finished a frame, which forgives; then as many crashes as the limit says, without one.
    assert (status.state, status.attempt) == ("failed", LIMITS["crashes"].value)
    assert isinstance(status.error, InternalError) and "signal 9" in status.error.message
    assert str(live.data / "jobs" / job / "log.txt") in status.error.hint
    assert status.frames_done == 1


def test_a_worker_that_is_ended_as_it_ends_still_tells_how():
    async def statuses() -> list[int]:
        found = []
        for _ in range(20):
            code = "import os; os.kill(os.getpid(), 9)"
            process = await asyncio.create_subprocess_exec(sys.executable, "-Sc", code, stdout=subprocess.PIPE)
            await process.stdout.read()
            workers._end(process)
            found.append(await process.wait())
        return found

    assert asyncio.run(statuses()) == [-9] * 20


def test_a_job_that_crashes_once_is_finished(live, tmp_path):
    with live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"crash_once_at": 1002})).job
        status = client.watch(job)
    assert (status.state, status.attempt) == ("done", 2)


def test_an_upload_goes_on_at_the_byte_where_the_daemon_was_killed(live, tmp_path):
    files = make_shot(tmp_path / "in", frames=1, size=150_000_000)
    sent, half = [], threading.Event()

    def on_event(event):
        sent.append(event["done"])
        if event["done"] > 60_000_000:
            half.set()

    with live.client() as client:
        found = []
        sender = threading.Thread(
            target=lambda: found.append(client.submit(files, ShotSettings(), request="r", on_event=on_event))
        )
        sender.start()
        assert half.wait(60)
        live.kill()
        held = max(p.stat().st_size for p in (live.data / "frames").glob("*/*.part"))
        live.start()
        sender.join(60)
        assert client.watch(found[0].job).state == "done"
        client.fetch(found[0].job, tmp_path / "out")
    chunk = LIMITS["chunk_bytes"].value
    # Progress falls back to what the daemon holds, never to the beginning.
    falls = [after for before, after in zip(sent, sent[1:]) if after < before]
    assert held > 40_000_000 and all(done >= held - chunk for done in falls)
    clean = (tmp_path / "out" / "clean.1001.exr").read_bytes()
    assert clean == files.plate[1001].read_bytes()[::-1]
    assert not list((live.data / "frames").glob("*/*.part"))


def test_another_client_finishes_what_a_killed_one_began(live, tmp_path):
    files = make_shot(tmp_path / "in", frames=3, size=40_000_000)
    script = f"""
import os, signal
from pathlib import Path
from void_server.wire.client import Client
from void_server.wire.shot import ShotFiles, ShotSettings
folder = Path({str(tmp_path / "in")!r})
def of(role):
    return {{int(p.name.split(".")[1]): p for p in folder.glob(f"*{{role}}.*.exr")}}
def on_event(event):
    if event["done"] > 60_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
files = ShotFiles(plate=of("plate"), matte=of("matte"))
Client({live.address!r}).submit(files, ShotSettings(), request="r", on_event=on_event)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    gone = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert gone.returncode == -signal.SIGKILL
    sent = []
    with live.client() as client:
        assert client.jobs()[0].state == "receiving"
        job = client.submit(files, ShotSettings(), request="r", on_event=sent.append).job
        assert sent[0]["done"] > 40_000_000, "what arrived before is not sent again"
        assert client.watch(job).state == "done"
        assert len(client.jobs()) == 1


def test_a_daemon_frozen_for_a_while_is_waited_for(live, tmp_path):
    gate = tmp_path / "gate"
    with live.client(timeout_s=0.5) as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"gate": str(gate)})).job
        until(lambda: client.status(job).frames_done == 1)
        assert live.process
        live.process.send_signal(signal.SIGSTOP)
        found = []
        watcher = threading.Thread(target=lambda: found.append(client.watch(job).state))
        watcher.start()
        gate.touch()
        live.process.send_signal(signal.SIGCONT)
        watcher.join(60)
        assert found == ["done"]


def test_a_worker_that_is_stopped_is_ended_and_the_job_goes_on(tmp_path):
    gate = tmp_path / "gate"
    with LiveDaemon(tmp_path / "data", silence_s=7.0) as live, live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"gate": str(gate)})).job
        until(lambda: client.status(job).frames_done == 1)
        os.kill(worker_of(live, job), signal.SIGSTOP)
        until(lambda: client.status(job).attempt == 2)
        gate.touch()
        assert client.watch(job).state == "done"


def test_a_job_that_makes_no_progress_fails_and_the_next_one_has_its_turn(tmp_path):
    with LiveDaemon(tmp_path / "data", stalled_s=1.0) as live, live.client() as client:
        stuck = client.submit(make_shot(tmp_path / "in"), ShotSettings(**HOLD)).job
        status = client.watch(stuck)
        assert status.state == "failed" and "no progress" in status.error.message
        assert client.watch(client.submit(make_shot(tmp_path / "next"), ShotSettings()).job).state == "done"


def test_a_job_that_takes_too_much_memory_fails_rather_than_the_machine(tmp_path):
    with LiveDaemon(tmp_path / "data", worker_bytes=400 << 20) as live, live.client() as client:
        greedy = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"take_mb": 600})).job
        status = client.watch(greedy)
        assert isinstance(status.error, LimitError) and "gives a worker 0.4 GB" in status.error.message
        assert (status.state, status.attempt) == ("failed", 1)
        assert client.watch(client.submit(make_shot(tmp_path / "next"), ShotSettings()).job).state == "done"


def test_what_a_workers_child_takes_counts_however_busy_the_worker_reports(tmp_path):
    with LiveDaemon(tmp_path / "data", worker_bytes=400 << 20) as live, live.client() as client:
        greedy = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"child_takes_mb": 600})).job
        (worker,) = until(lambda: [p for p in psutil.Process(live.process.pid).children() if p.children()])
        (child,) = worker.children()
        status = client.watch(greedy)
        assert isinstance(status.error, LimitError) and "gives a worker 0.4 GB" in status.error.message
        assert (status.state, status.attempt) == ("failed", 1)
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        assert client.watch(client.submit(make_shot(tmp_path / "next"), ShotSettings()).job).state == "done"


def test_pages_that_a_worker_shares_with_its_children_count_once(tmp_path):
    """Ten processes of 150 MB each by what they map; 150 MB in all by what the machine lacks."""
    gate = tmp_path / "gate"
    with LiveDaemon(tmp_path / "data", worker_bytes=400 << 20) as live, live.client() as client:
        options = {"hold_mb": 150, "hold_hands": 9, "gate": str(gate)}
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options=options)).job
        until(lambda: client.status(job).frames_done == 1)
        leader = worker_of(live, job)
        assert len(process_group.members(leader)) == 10
        assert sum(psutil.Process(pid).memory_info().rss for pid in process_group.members(leader)) > 1000 << 20
        assert process_group.memory_bytes(leader, 1 << 40) > 1000 << 20, "nobody minds, so nobody looks closer"
        assert 150 << 20 < process_group.memory_bytes(leader, 0) < 300 << 20
        looks = LOOK_S * 3
        with contextlib.suppress(AssertionError):
            until(lambda: client.status(job).state != "running", looks)
        assert client.status(job).state == "running", "looked at more than once, and left alone"
        gate.touch()
        assert client.watch(job).state == "done"


def test_a_child_that_outlives_its_worker_does_not_keep_the_device(tmp_path):
    with LiveDaemon(tmp_path / "data") as live, live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(options={"child_stays": True})).job
        heard = []
        status = client.watch(job, on_event=heard.append)
        assert (status.state, status.attempt) == ("done", 2)
        assert any("exit status 7" in event.get("message", "") for event in heard)


def test_a_worker_that_is_only_being_started_goes_with_its_daemon(tmp_path):
    for _ in range(3):
        live = LiveDaemon(tmp_path / "data").start()
        assert live.process
        (worker,) = until(lambda live=live: psutil.Process(live.process.pid).children())
        live.kill()
        until(lambda worker=worker: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("turns", range(4))
def test_a_stop_that_comes_together_with_a_worker_s_word_is_not_lost(turns):
    # Lost, it left the daemon waiting at its end for a task that waited for the next job, with SIGTERM spent.
    async def cancelled_in_vain() -> bool:
        worker = WorkerProcess("cpu", "", 0.0)
        hearing = asyncio.create_task(worker.event(60.0))
        await asyncio.sleep(0)
        worker._events.put_nowait({"event": "alive"})
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = hearing.cancel()
        await asyncio.wait([hearing])
        return asked and not hearing.cancelled()

    assert not asyncio.run(cancelled_in_vain())


@pytest.mark.parametrize("reader", ["gone", "asleep"])
def test_a_terminal_that_was_closed_or_that_nobody_reads_costs_the_lines_alone(reader):
    # Written on the loop's own thread, the first raised in the sweep and ended the daemon, the second held it up.
    code = (
        "from void_server.daemon.remarks import last_words, remark\n"
        "for number in range(5000): remark(f'{number} ' + 100 * 'x')\n"
        "last_words(0.1)\n"
        "print('still here', flush=True)\n"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        if reader == "gone":
            process.stderr.close()
        assert process.stdout.readline() == "still here\n"
        assert process.wait() == 0


def test_a_nearly_full_disk_is_translated():
    assert "full" in translated(OSError(28, "No space left on device")).message
    assert isinstance(translated(OSError(5, "Input/output error")), StoreError)
    assert isinstance(translated(ZeroDivisionError()), InternalError)


class TestStore:
    """The database alone."""

    FILE = JobFile(0, "plate", 1, "p.exr", 10, "0" * 32, 0, None, None)
    ASKED: ClassVar = {"name": "n", "settings": {}}

    def test_what_it_says_is_there_after_a_kill(self, tmp_path):
        script = """
import os, signal, sys
from pathlib import Path
from void_server.daemon.store.frame_table import JobFile
from void_server.daemon.store.store import Store
store = Store(Path(sys.argv[1]))
file = JobFile(0, "plate", 1, "p.exr", 10, "0" * 32, 0, None, None)
while True:
    job = store.submit("o", os.urandom(8).hex(), {"name": "n", "settings": {}}, [file])
    store.move(job, "cancelled", since=("receiving",))
    sys.stdout.write(job + "\\n")
    sys.stdout.flush()
"""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "db")], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout
            said = [process.stdout.readline().strip() for _ in range(50)]
            process.kill()
        store = Store(tmp_path / "db")
        assert {store.status(job).state for job in said} == {"cancelled"}
        store.close()

    def test_a_store_of_a_later_version_is_left_alone(self, tmp_path):
        store = Store(tmp_path / "db")
        store._db.execute("update meta set value = '99'")
        store.close()
        with pytest.raises(StoreError, match="later"):
            Store(tmp_path / "db")

    def test_garbage_in_place_of_the_database_is_a_store_error(self, tmp_path):
        (tmp_path / "db").write_bytes(b"not a database at all" * 1000)
        with pytest.raises(StoreError):
            Store(tmp_path / "db")

    def test_final_states_are_final(self, tmp_path):
        store = Store(tmp_path / "db")
        job = store.submit("o", "r", self.ASKED, [self.FILE])
        assert store.move(job, "cancelled", since=("receiving", "queued", "running"))
        assert not store.move(job, "queued", since=("receiving",))
        assert store.begin_attempt(job) is None
        assert store.status(job).state == "cancelled"
        store.close()

    def test_frames_in_use_are_not_unused(self, tmp_path):
        store = Store(tmp_path / "db")
        job = store.submit("o", "r", self.ASKED, [self.FILE])
        other = store.submit("p", "r", self.ASKED, [self.FILE])
        store.keep_frame(job, 0, "frame", 7)
        store.keep_frame(other, 0, "frame", 7)
        store.move(other, "cancelled", since=("receiving",))
        assert [row[0] for row in store.unused_frames(-1.0)] == ["p"], "another owner's frame is not this one"
        store.move(job, "cancelled", since=("receiving",))
        assert len(store.unused_frames(-1.0)) == 2 and store.unused_frames(3600.0) == []
        store.close()

    def test_a_frame_that_nobody_read_yet_is_found_by_checksum_and_keeps_the_first_hash_claimed(self, tmp_path):
        store = Store(tmp_path / "db")
        job = store.submit("o", "r", self.ASKED, [self.FILE])
        store.keep_frame(job, 0, "frame", 7)
        assert store.unverified(job) == {"frame": (7, None)}
        like = functools.partial(store.frame_like, "o", self.FILE.size, self.FILE.fingerprint)
        assert like(("a" * 64, 8)) is None, "another checksum is another content"
        assert store.frame_like("p", self.FILE.size, self.FILE.fingerprint, ("a" * 64, 7)) is None
        assert like(("a" * 64, 7)) == "frame"
        assert store.unverified(job) == {"frame": (7, "a" * 64)}, "the worker holds the frame to what was claimed"
        assert like(("b" * 64, 7)) is None, "equal checksums are not equal contents once a hash is known"
        store.verified("o", {"frame": "a" * 64})
        assert like(("a" * 64, 0)) == "frame" and store.unverified(job) == {}
        store.close()

    def test_old_jobs_can_be_forgotten_but_only_finished_ones(self, tmp_path):
        store = Store(tmp_path / "db")
        job = store.submit("o", "r", self.ASKED, [self.FILE])
        store.forget_job(job)
        assert store.status(job).state == "receiving"
        store.move(job, "cancelled", since=("receiving",))
        store.forget_job(job)
        with pytest.raises(JobNotFoundError):
            store.status(job)
        store.close()

    def test_one_owner_cant_queue_without_end(self, tmp_path):
        store = Store(tmp_path / "db")
        for number in range(LIMITS["queued_jobs"].value):
            store.submit("o", str(number), self.ASKED, [self.FILE])
        with pytest.raises(LimitError):
            store.submit("o", "one more", self.ASKED, [self.FILE])
        store.submit("p", "another owner", self.ASKED, [self.FILE])
        with pytest.raises(SettingsError):
            store.submit("o", "0", {"name": "other", "settings": {}}, [self.FILE])
        store.close()


class TestFrames:
    """Bytes on their way, alone."""

    PART = Part("o", "j", 0)

    def test_chunks_may_repeat_and_overlap_but_leave_no_gap(self, tmp_path):
        frames = FrameFolder(tmp_path)
        data = memoryview(os.urandom(100))
        assert frames.append(self.PART, 0, data[:40]) == 40
        assert frames.append(self.PART, 0, data[:40]) == 40
        assert frames.append(self.PART, 60, data[60:]) == 40, "a gap is not written"
        assert frames.append(self.PART, 20, data[20:70]) == 70
        assert frames.append(self.PART, 70, data[70:]) == 100
        frames.let_go(self.PART)
        assert frames.held("o", "j") == {0: 100}
        assert not frames.finish(self.PART, 101)
        assert frames.finish(self.PART, 100) and frames.finish(self.PART, 100)
        assert frames.path("o", self.PART.name).read_bytes() == data
        assert frames.path("p", self.PART.name).parent != frames.path("o", self.PART.name).parent

    def test_a_short_write_goes_on(self, tmp_path, monkeypatch):
        pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7], offset))
        frames = FrameFolder(tmp_path)
        data = os.urandom(100)
        assert frames.append(self.PART, 0, memoryview(data)) == 100
        frames.let_go(self.PART)
        assert frames.finish(self.PART, 100)
        assert frames.path("o", self.PART.name).read_bytes() == data

    def test_a_fingerprint_sees_size_head_middle_and_tail(self, tmp_path):
        base = bytearray(1_000_000)
        seen = set()
        for position in (None, 0, 500_000, 999_999):
            data = bytearray(base)
            if position is not None:
                data[position] = 1
            path = Path(tmp_path / "f")
            path.write_bytes(data)
            seen.add(transfer.look_at("plate", 1, path).fingerprint)
        assert len(seen) == 4
