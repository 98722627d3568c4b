"""What is promised, whatever happens: every job that was accepted ends done, failed with a reason, or cancelled; every
result hashes as recorded and is what the shot asked for; the daemon's memory and descriptors return.

What comes in: a scenario whose trouble is over, and whose daemon runs. What goes out: a line in `broken` for each
promise that was not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import psutil

from tests.live_daemon import until
from void_server.wire.client import Client
from void_server.wire.errors import JobNotFoundError
from void_server.wire.messages import FINAL
from void_server.wire.shot import ShotFiles

if TYPE_CHECKING:
    from tests.faults.scenario import Scenario

PATIENCE_S = 90.0
"""How long the last job of a scenario may take to end once all trouble is over."""


def account(s: Scenario) -> None:
    """All trouble is over: does everything end, and is it as promised?"""
    assert s.live
    if s.live.process is None or s.live.process.poll() is not None:
        s.broken.append("the daemon is gone")
        return
    with Client(s.live.address, timeout_s=30.0, patience_s=30.0) as client:
        until_s = time.monotonic() + PATIENCE_S
        for job, files in s.accepted.items():
            if job in s.dropped:
                continue
            try:
                status = client.status(job)
                while status.state != "receiving" and status.state not in FINAL and time.monotonic() < until_s:
                    threading.Event().wait(0.05)
                    status = client.status(job)
            except JobNotFoundError:
                s.broken.append(f"{job} was accepted, and is unknown")
                continue
            if status.state == "done":
                check_results(s, client, job, files)
            elif status.state == "failed" and not (status.error and status.error.message):
                s.broken.append(f"{job} failed without a reason")
            elif status.state not in (*FINAL, "receiving"):
                s.broken.append(f"{job} is still {status.state}")
    _check_disk(s)
    _check_daemon(s)


def check_results(s: Scenario, client: Client, job: str, files: ShotFiles) -> None:
    """A finished job's frames are what the fake pipeline makes of the plate."""
    out = s.folder / "out" / job
    client.fetch(job, out)
    for frame, plate in files.plate.items():
        if (out / f"clean.{frame}.exr").read_bytes() != plate.read_bytes()[::-1]:
            s.broken.append(f"{job}: clean frame {frame} is not what the shot asked for")


def _check_disk(s: Scenario) -> None:
    assert s.live
    with contextlib.closing(sqlite3.connect(s.live.data / "store.sqlite", timeout=30.0)) as db:
        found = db.execute(
            "select job, attempt, results.name, size, sha256 from results join jobs using (job, attempt)"
            " where state = 'done'"
        ).fetchall()
    for job, attempt, name, size, sha256 in found:
        data = (s.live.data / "jobs" / job / f"attempt-{attempt}" / name).read_bytes()
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            s.broken.append(f"{job}: {name} does not hash as recorded")


def _check_daemon(s: Scenario) -> None:
    assert s.live and s.live.process
    process = psutil.Process(s.live.process.pid)

    def returned() -> bool:
        return process.num_fds() < 90 and process.memory_info().rss < s.before + (200 << 20)

    try:
        until(returned, 30.0)
    except AssertionError:
        grown = (process.memory_info().rss - s.before) >> 20
        s.broken.append(f"the daemon holds {process.num_fds()} descriptors and {grown} MiB more than before")
