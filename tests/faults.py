"""Seeded trouble for a real daemon: kills, stops, full disks, cut lines, junk, strangers, deaf readers; an account.

    python -m tests.faults --scenarios 500 --seed 1 --jobs 2      the long form: each broken promise with its seed
    python -m tests.faults --only 17                              one scenario again

What is promised, whatever happens: every job that was accepted ends done, failed with a reason, or cancelled; every
result hashes as recorded and is what the shot asked for; the daemon's memory and descriptors return; and `status` is
answered while all that goes on (how fast is measured, and printed, wherever the daemon was not itself stopped).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tests.live_daemon import LiveDaemon, make_shot, until
from tests.raw_client import RawClient, junk, rows
from void_server.wire.client import Client
from void_server.wire.errors import JobNotFoundError, LimitError, RequestError, StoreError, VoidError
from void_server.wire.messages import FINAL, MAGIC
from void_server.wire.shot import ShotFiles, ShotSettings

DISK = "20M"
BORN_S = 2.0
"""Age of a worker that has surely run its first lines."""
PATIENCE_S = 90.0
"""How long the last job of a scenario may take to end once all trouble is over."""


class Scenario:
    """One seed: a daemon, honest clients who want frames, and whoever makes trouble meanwhile."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.folder = folder
        self.disk = folder / "disk"
        self.small = False
        self.live: LiveDaemon | None = None
        self.accepted: dict[str, ShotFiles] = {}
        """Jobs that the daemon said it has, with what they are made from."""
        self.dropped: set[str] = set()
        self.broken: list[str] = []
        self.waits: list[float] = []
        self.disturbed = 0
        """How many hands have stopped the daemon now; no answer is expected then."""
        self.lock = threading.Lock()
        self.over = threading.Event()

    def run(self) -> list[str]:
        self.disk.mkdir(parents=True)
        self.small = self.random.random() < 0.35 and _mount(self.disk)
        reserve = 0 if self.small else 1 << 20
        self.live = LiveDaemon(
            self.disk / "data", reserve_bytes=reserve, silence_s=12.0, bind="tcp://127.0.0.1:*",
            devices=["cpu", "cuda:0"] if self.random.random() < 0.3 else ["cpu"],
        )  # fmt: skip
        try:
            self.live.start()
            self._trouble()
            self._account()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs in the account
            self.broken.append(f"the scenario itself ended with {type(error).__name__}: {error}")
        finally:
            self.over.set()
            with contextlib.suppress(Exception):
                status = self.live.stop()
                if status != 0:
                    self.broken.append(f"the daemon ended with status {status}")
            if self.small:
                subprocess.run(["umount", "-l", str(self.disk)], check=False)
        return self.broken

    def _trouble(self) -> None:
        assert self.live and self.live.process
        makers = self.random.sample(TROUBLE, self.random.randint(1, 4))
        artists = [random.Random(self.random.random()) for _ in range(self.random.randint(1, 3))]
        self.before = psutil.Process(self.live.process.pid).memory_info().rss
        prober = threading.Thread(target=self._probe)
        prober.start()
        with ThreadPoolExecutor(12) as pool:
            working = [pool.submit(self._artist, own, number) for number, own in enumerate(artists)]
            making = [pool.submit(maker, self, random.Random(self.random.random())) for maker in makers]
            for future in [*working, *making]:
                future.result()
        self.over.set()
        prober.join()

    def _artist(self, own: random.Random, number: int) -> None:
        """Somebody who wants frames, and sometimes changes their mind."""
        for turn in range(own.randint(1, 3)):
            assert self.live
            files = make_shot(
                self.folder / f"in{number}-{turn}", frames=own.randint(1, 5), size=own.choice([10, 3000, 200_000])
            )
            options: dict[str, Any] = {"frame_s": own.choice([0, 0, 0.02, 0.1])}
            chance = own.random()
            if chance < 0.08:
                options["fail"] = own.choice(["matte", "gpu", "bug", "long"])
            elif chance < 0.16:
                options["crash_once_at"] = 1001
            elif chance < 0.2:
                options["crash_at"] = 1001
            try:
                with Client(self.live.address, timeout_s=20.0, patience_s=60.0) as client:
                    job = client.submit(files, ShotSettings(options=options), request=f"{self.seed}-{number}-{turn}")
                    self.accepted[job.job] = files
                    if own.random() < 0.2:
                        client.cancel(job.job)
                    elif own.random() < 0.7:
                        status = client.watch(job.job)
                        if status.state == "done":
                            self._check_results(client, job.job, files)
                        if own.random() < 0.2:
                            client.drop(job.job)
                            self.dropped.add(job.job)
            except (LimitError, StoreError):
                pass  # a full disk, said in so many words
            except VoidError as error:
                if isinstance(error, RequestError):
                    self.broken.append(f"an honest shot was refused: {error}")
                # Anything else is the network's or the daemon's absence: what was accepted is still looked after.

    def _check_results(self, client: Client, job: str, files: ShotFiles) -> None:
        out = self.folder / "out" / job
        client.fetch(job, out)
        for frame, plate in files.plate.items():
            if (out / f"clean.{frame}.exr").read_bytes() != plate.read_bytes()[::-1]:
                self.broken.append(f"{job}: clean frame {frame} is not what the shot asked for")

    def _probe(self) -> None:
        """A client of its own that asks all the while."""
        while not self.over.is_set():
            assert self.live
            with contextlib.suppress(VoidError), Client(self.live.address, timeout_s=30.0) as client:
                while not self.over.is_set():
                    calm, started = self.disturbed, time.perf_counter()
                    client.jobs()
                    if not calm and not self.disturbed:
                        self.waits.append(time.perf_counter() - started)
                    self.over.wait(0.02)
            self.over.wait(0.05)

    def _account(self) -> None:
        """All trouble is over: does everything end, and is it as promised?"""
        assert self.live
        if self.live.process is None or self.live.process.poll() is not None:
            self.broken.append("the daemon is gone")
            return
        with Client(self.live.address, timeout_s=30.0, patience_s=30.0) as client:
            until_s = time.monotonic() + PATIENCE_S
            for job, files in self.accepted.items():
                if job in self.dropped:
                    continue
                try:
                    status = client.status(job)
                    while status.state != "receiving" and status.state not in FINAL and time.monotonic() < until_s:
                        threading.Event().wait(0.05)
                        status = client.status(job)
                except JobNotFoundError:
                    self.broken.append(f"{job} was accepted, and is unknown")
                    continue
                if status.state == "done":
                    self._check_results(client, job, files)
                elif status.state == "failed" and not (status.error and status.error.message):
                    self.broken.append(f"{job} failed without a reason")
                elif status.state not in (*FINAL, "receiving"):
                    self.broken.append(f"{job} is still {status.state}")
        self._check_disk()
        self._check_daemon()

    def _check_disk(self) -> None:
        assert self.live
        with contextlib.closing(sqlite3.connect(self.live.data / "store.sqlite", timeout=30.0)) as db:
            found = db.execute(
                "select job, attempt, results.name, size, sha256 from results join jobs using (job, attempt)"
                " where state = 'done'"
            ).fetchall()
        for job, attempt, name, size, sha256 in found:
            data = (self.live.data / "jobs" / job / f"attempt-{attempt}" / name).read_bytes()
            if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
                self.broken.append(f"{job}: {name} does not hash as recorded")

    def _check_daemon(self) -> None:
        assert self.live and self.live.process
        process = psutil.Process(self.live.process.pid)

        def returned() -> bool:
            return process.num_fds() < 90 and process.memory_info().rss < self.before + (200 << 20)

        try:
            until(returned, 30.0)
        except AssertionError:
            grown = (process.memory_info().rss - self.before) >> 20
            self.broken.append(f"the daemon holds {process.num_fds()} descriptors and {grown} MiB more than before")

    @contextlib.contextmanager
    def disturbing(self) -> Iterator[LiveDaemon]:
        """The daemon, for somebody who stops it: one hand at a time, and nobody counts its answers meanwhile."""
        with self.lock:
            self.disturbed += 1
            try:
                assert self.live
                yield self.live
            finally:
                self.disturbed -= 1

    def raw(self) -> RawClient:
        assert self.live
        return RawClient(self.live.address)

    def pause(self, seconds: float) -> None:
        self.over.wait(seconds)


def kill_daemon(s: Scenario, own: random.Random) -> None:
    for _ in range(own.randint(1, 3)):
        s.pause(own.uniform(0, 0.8))
        with s.disturbing() as live:
            live.kill()
            live.start()


def stop_daemon(s: Scenario, own: random.Random) -> None:
    s.pause(own.uniform(0, 0.5))
    with s.disturbing() as live:
        assert live.process
        live.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(own.uniform(0.1, 1.0))
        live.process.send_signal(signal.SIGCONT)


def restart_daemon(s: Scenario, own: random.Random) -> None:
    s.pause(own.uniform(0, 0.8))
    with s.disturbing() as live:
        live.stop()
        live.start()


def kill_workers(s: Scenario, own: random.Random) -> None:
    for _ in range(own.randint(1, 4)):
        s.pause(own.uniform(0, 0.6))
        with s.lock, contextlib.suppress(psutil.Error, IndexError):
            assert s.live and s.live.process
            own.choice(psutil.Process(s.live.process.pid).children()).send_signal(
                own.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
            )


def stop_worker(s: Scenario, own: random.Random) -> None:
    """A worker that is stopped and never goes on; it is ended after its silence."""
    s.pause(own.uniform(0, 0.5))

    def born() -> list[psutil.Process]:
        """Workers that have had time to ask the kernel to end them with their daemon; one stopped before stays for
        good, and holds the pipes that its daemon's end is read from."""
        assert s.live and s.live.process
        return [w for w in psutil.Process(s.live.process.pid).children() if time.time() - w.create_time() > BORN_S]

    with contextlib.suppress(psutil.Error, IndexError, AssertionError):
        until(born, 2 * BORN_S)
        with s.lock:
            own.choice(born()).suspend()


def repeat_starts(s: Scenario, own: random.Random) -> None:
    with s.raw() as raw, contextlib.suppress(AssertionError):
        files = junk(own.randint(1, 40), 30)
        job = raw.upload(files, start=False)
        for _ in range(own.randint(2, 8)):
            raw.send("start", {"job": job})
            s.pause(own.uniform(0, 0.02))
        raw.call("status", {"job": job})


def any_order(s: Scenario, own: random.Random) -> None:
    """Legal requests in any order, about any job that there is."""
    with s.raw() as raw, contextlib.suppress(AssertionError):
        job = raw.upload(junk(2, 200), start=False)
        for _ in range(150):
            kind = own.choice(["cancel", "status", "watch", "put", "bind", "results", "get", "jobs", "start", "drop"])
            fields = {
                "job": job, "after": 0, "file": own.randint(0, 4), "offset": own.randint(0, 300),
                "files": [[own.randint(0, 4), "0" * 64, 1]], "name": "clean.1001.exr", "length": 100,
            }  # fmt: skip
            if kind == "jobs":
                del fields["after"]
            raw.send(kind, fields, b"zz" if kind == "put" else None)
        raw.call("jobs")


def send_junk(s: Scenario, own: random.Random) -> None:
    with s.raw() as raw:
        for _ in range(200):
            frames = [own.choice([MAGIC, own.randbytes(own.randint(0, 20))])]
            frames += [own.randbytes(own.randint(0, 300)) for _ in range(own.randint(0, 4))]
            raw.socket.send_multipart(frames)
        while raw.receive(0.2):
            pass


def half_open(s: Scenario, own: random.Random) -> None:
    assert s.live
    port, lines = int(s.live.address.rpartition(":")[2]), []
    for _ in range(own.randint(50, 500)):
        line = socket.socket()
        lines.append(line)
        line.settimeout(1)
        with contextlib.suppress(OSError):
            line.connect(("127.0.0.1", port))
            line.send(own.choice([b"", b"\xff" + bytes(7), b"GET / HTTP/1.0\r\n\r\n", own.randbytes(70)]))
    s.pause(0.3)
    for line in lines:
        line.close()


def deaf_reader(s: Scenario, own: random.Random) -> None:
    with s.raw() as raw, contextlib.suppress(AssertionError):
        job = raw.upload([("plate", 1, own.randbytes(1 << 20)), ("matte", 1, b"m")])
        until(lambda: raw.state(job) in FINAL, 40.0)
        assert s.live
        with RawClient(s.live.address, rcvhwm=1) as deaf:
            for _ in range(100):
                deaf.send("get", {"job": job, "name": "clean.0001.exr", "offset": 0, "length": 1 << 20})
                deaf.send("watch", {"job": job, "after": 0})
            s.pause(0.5)


def lock_database(s: Scenario, own: random.Random) -> None:
    s.pause(own.uniform(0, 0.4))
    assert s.live
    path = s.live.data / "store.sqlite"
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=1)) as db,
    ):
        db.execute("begin immediate")
        threading.Event().wait(own.uniform(0.1, 2.0))
        db.execute("rollback")


def fill_disk(s: Scenario, own: random.Random) -> None:
    if not s.small:
        return
    s.pause(own.uniform(0, 0.8))
    path = s.disk / "fill"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    threading.Event().wait(own.uniform(0.1, 1.5))
    path.unlink(missing_ok=True)


def lose_database(s: Scenario, own: random.Random) -> None:
    """Only once all is quiet: what a database knew of an upload under way is nowhere else."""
    s.pause(own.uniform(0.2, 1.0))
    with s.disturbing() as live:
        with Client(live.address, timeout_s=20.0) as client, contextlib.suppress(VoidError):
            if any(job.state == "receiving" for job in client.jobs()):
                return
        live.stop()
        if all((live.data / "jobs" / job / "job.json").exists() for job in s.accepted if job not in s.dropped):
            for path in live.data.glob("store.sqlite*"):
                path.unlink()
        live.start()


def cut_in_the_middle(s: Scenario, own: random.Random) -> None:
    """A client that is gone in the middle of its upload, and one that finishes it."""
    files = [("plate", 1, own.randbytes(300_000)), ("matte", 1, b"m")]
    request = f"cut-{own.random()}"
    with s.raw() as raw, contextlib.suppress(AssertionError):
        job = raw.submit(files, request=request)
        raw.send("put", {"job": job, "file": 0, "offset": 0}, files[0][2][:100_000])
    with s.raw() as raw, contextlib.suppress(AssertionError):
        fields = {"name": "raw", "settings": ShotSettings().to_wire(), "files": rows(files)}
        answer = raw.call("submit", fields, request=request)
        if answer["type"] == "submit_reply":
            raw.send_files(answer["job"]["job"], files)
            raw.call("start", {"job": answer["job"]["job"]})


TROUBLE: list[Callable[[Scenario, random.Random], None]] = [
    kill_daemon, stop_daemon, restart_daemon, kill_workers, stop_worker, repeat_starts, any_order, send_junk,
    half_open, deaf_reader, lock_database, fill_disk, lose_database, cut_in_the_middle,
]  # fmt: skip


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def play(seed: int) -> tuple[int, list[str], list[float]]:
    """One scenario: (seed, broken promises, seconds that `jobs` took each time it was asked)."""
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
    scenario = Scenario(seed, folder)
    try:
        return seed, scenario.run(), scenario.waits
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--scenarios", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, default=None, metavar="SEED")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
    args = parser.parse_args()
    seeds = [args.only] if args.only is not None else range(args.seed, args.seed + args.scenarios)
    failed, waits, started = 0, [], time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:
        for seed, broken, own in pool.map(_apart, seeds):
            waits += own
            failed += bool(broken)
            for text in broken:
                print(f"seed {seed}: {text}", flush=True)
    waits.sort()
    print(json.dumps({
        "scenarios": len(seeds), "broken": failed, "minutes": round((time.monotonic() - started) / 60, 1),
        "asked": len(waits), "median_ms": round(1000 * waits[len(waits) // 2], 1) if waits else None,
        "p99_ms": round(1000 * waits[int(len(waits) * 0.99)], 1) if waits else None,
        "worst_ms": round(1000 * waits[-1], 1) if waits else None,
        "over_250_ms": sum(wait > 0.25 for wait in waits), "load": os.getloadavg()[1],
    }), flush=True)  # fmt: skip
    return 1 if failed else 0


def _apart(seed: int) -> tuple[int, list[str], list[float]]:
    """One scenario in a process of its own: no thread of one outlives into the next."""
    code = f"import json; from tests.faults import play; print('PLAYED' + json.dumps(play({seed})))"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400, check=False)
    except subprocess.TimeoutExpired:
        return seed, ["the scenario did not end within 400 s"], []
    for line in done.stdout.splitlines():
        if line.startswith("PLAYED"):
            found: tuple[int, list[str], list[float]] = json.loads(line[6:])
            return found
    return seed, [f"the scenario broke: {done.stderr[-400:]}"], []


if __name__ == "__main__":
    sys.exit(main())
