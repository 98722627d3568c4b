"""The kinds of trouble: each is a function that makes it once, for a scenario, with a random generator of its own.

What comes in: a scenario under way. What goes out: nothing; what it broke is found by those who keep the account.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from tests.live_daemon import until
from tests.raw_client import RawClient, junk, rows
from void_server.wire.client import Client
from void_server.wire.errors import VoidError
from void_server.wire.messages import FINAL, MAGIC
from void_server.wire.shot import ShotSettings

if TYPE_CHECKING:
    from tests.faults.scenario import Scenario

BORN_S = 2.0
"""Age of a worker that has surely run its first lines."""


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


Trouble = Callable[["Scenario", random.Random], None]

TROUBLE: list[Trouble] = [
    kill_daemon, stop_daemon, restart_daemon, kill_workers, stop_worker, repeat_starts, any_order, send_junk,
    half_open, deaf_reader, lock_database, fill_disk, lose_database, cut_in_the_middle,
]  # fmt: skip
"""Their order is part of what a seed means: a new kind goes last, and changes every seed's draw."""
