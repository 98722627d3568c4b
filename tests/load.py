"""What a daemon and a reader bear: figures of docs/measurements.md, on loopback, bounded in count and time.

    python -m tests.load strangers | jobs | resubmit | messages | exr [--count N]

Prints one JSON object; its exit status is 1 where something was lost, crashed or hung.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import psutil

from tests.live_daemon import ROOT, LiveDaemon, make_shot, until
from tests.raw_client import RawClient, junk, rows
from void_server.daemon.network import keys
from void_server.wire.errors import ProtocolError
from void_server.wire.messages import KINDS, MAGIC, unpack
from void_server.wire.shot import ShotFiles, ShotSettings

_PROBE = """
import json, sys, time
from pathlib import Path
from void_server.wire.client import Client
address, job, folder = sys.argv[1:]
client = Client(address, keys=Path(folder) if folder else None, timeout_s=60.0)
client.status(job)
print("up", flush=True)
took = []
import threading
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
while not over.is_set():
    started = time.perf_counter()
    client.status(job)
    took.append(1000 * (time.perf_counter() - started))
    over.wait(0.01)
took.sort()
print(json.dumps({"asked": len(took), "median_ms": round(took[len(took) // 2], 2),
                  "p99_ms": round(took[int(len(took) * .99)], 2), "worst_ms": round(took[-1], 2)}))
"""


class Probe:
    """A process of its own that asks for `status` all the while."""

    def __init__(self, live: LiveDaemon, job: str, folder: str = "") -> None:
        command = [sys.executable, "-c", _PROBE, live.address, job, folder]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout
        assert self._process.stdout.readline().strip() == "up"

    def done(self) -> dict[str, Any]:
        out, _ = self._process.communicate("over\n", timeout=120)
        found: dict[str, Any] = json.loads(out)
        return found


def strangers(folder: Path, count: int) -> dict[str, Any]:
    """Connections without a key, held half open and then dropped, while an allowed client asks."""
    house, own = folder / "house", folder / "own"
    keys.new(house, "daemon")
    keys.allow(house, str(keys.new(own)), "anna")
    (own / "daemon.public").write_bytes((house / "daemon.public").read_bytes())
    with LiveDaemon(folder / "data", keys=str(house)) as live:
        assert live.process
        process, port = psutil.Process(live.process.pid), int(live.address.rpartition(":")[2])
        with live.client(keys=own) as client:
            job = client.submit(make_shot(folder / "in"), ShotSettings()).job
            client.watch(job)
        quiet = Probe(live, job, str(own))
        threading.Event().wait(5.0)
        before = quiet.done()
        probe, lines, most = Probe(live, job, str(own)), [], 0
        for number in range(count):
            line = socket.socket()
            line.settimeout(2)
            with contextlib.suppress(OSError):
                line.connect(("127.0.0.1", port))
                line.send(b"\xff" + bytes(7))
            lines.append(line)
            if len(lines) > 400:
                lines.pop(0).close()
            if number % 100 == 0:
                most = max(most, process.num_fds())
                threading.Event().wait(0.05)
        during = probe.done()
        for line in lines:
            line.close()
        until(lambda: process.num_fds() < 100)
        return {"connections": count, "quiet": before, "meanwhile": during, "most_descriptors": most}


def jobs(folder: Path, count: int) -> dict[str, Any]:
    """Tiny jobs by eight clients; the daemon's memory as they go, and what became of them."""
    with LiveDaemon(folder / "data", pipeline="tests.load:nothing") as live:
        assert live.process
        process = psutil.Process(live.process.pid)
        samples: list[float] = []
        ends: Counter[str] = Counter()

        def work(number: int) -> None:
            with RawClient(live.address) as raw:
                for turn in range(count // 8):
                    job = raw.upload(junk(1, 50))
                    # No owner may have more than 200 unfinished.
                    if turn % 20 == 19 or turn == count // 8 - 1:
                        until(lambda job=job: raw.state(job) not in ("queued", "running"), 300.0)
                    if number == 0 and turn % 10 == 0:
                        samples.append(process.memory_info().rss / 1e6)

        started = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        took = time.monotonic() - started
        with live.client(timeout_s=60.0) as client:
            ends.update(job.state for job in client.jobs())
        half = len(samples) // 2
        return {
            "jobs": count, "ended": dict(ends), "seconds": round(took), "a_second": round(count / took),
            "memory_mb_first_half": round(statistics.mean(samples[:half])),
            "memory_mb_second_half": round(statistics.mean(samples[half:])),
            "lost": count // 8 * 8 - ends["done"], "descriptors": process.num_fds(),
        }  # fmt: skip


def nothing(files: ShotFiles, settings: ShotSettings, out: Path, report: Any, *, found: Path) -> dict[str, Any]:
    """The least that a job can be."""
    (out / "manifest.json").write_text("{}")
    return {}


def resubmit(folder: Path, count: int) -> dict[str, Any]:
    """The same shot of many files a second time, with other settings, while another client asks."""
    files = make_shot(folder / "in", frames=count // 2, size=200)
    with LiveDaemon(folder / "data", pipeline="tests.load:nothing") as live, live.client(timeout_s=60.0) as client:
        first = client.submit(files, ShotSettings()).job
        client.watch(first)
        probe, sent = Probe(live, first), []
        started = time.monotonic()
        second = client.submit(files, ShotSettings(seed=1), on_event=sent.append)
        took = time.monotonic() - started
        return {"files": count, "seconds": round(took, 1), "sent": len(sent), "state": second.state,
                "meanwhile": probe.done()}  # fmt: skip


def messages(folder: Path, count: int) -> dict[str, Any]:
    """Messages that were legal once, changed at random: all are read, one in twenty is sent to a daemon, which stays
    as it was and answers."""
    own = random.Random(7)
    with LiveDaemon(folder / "data", pipeline="tests.load:nothing") as live:
        assert live.process
        process, raw = psutil.Process(live.process.pid), RawClient(live.address)
        job = raw.upload(junk(1, 100), start=False)
        settings = ShotSettings().to_wire()
        legal = {
            "hello": {"protocols": [2], "version": "x"},
            "submit": {"name": "n", "settings": settings, "files": rows(junk(1, 50))},
            "bind": {"job": job, "files": [[0, "0" * 64, 1]]}, "put": {"job": job, "file": 0, "offset": 0, "crc32": 1},
            "status": {"job": job}, "jobs": {"after": "", "all": True}, "watch": {"job": job, "after": 0},
            "cancel": {"job": "x"}, "results": {"job": job}, "drop": {"job": job}, "start": {"job": "x"},
            "get": {"job": job, "name": "clean.1001.exr", "offset": 0, "length": 10},
        }  # fmt: skip
        before, peak, started = process.memory_info().rss, 0, time.monotonic()
        sent = answered = 0
        ends: Counter[str] = Counter()
        for number in range(count):
            frames = _changed(own, legal)
            try:
                unpack(frames)
                ends["understood"] += 1
            except ProtocolError:
                ends["refused"] += 1
            if number % 20:
                continue
            raw.socket.send_multipart(frames)
            sent += 1
            if sent % 50:
                continue
            until_s = time.monotonic() + 20.0
            # A watch answers more than once, so the count is of the least that must come.
            while answered < sent and raw.receive(max(0.0, until_s - time.monotonic())) is not None:
                answered += 1
            if answered < sent:
                # A message may be of a kind that libzmq drops with its connection; a fresh one goes on.
                answered = sent
                raw.close()
                raw = RawClient(live.address)
            peak = max(peak, process.memory_info().rss)
        # One of them may well have cancelled and dropped the job.
        assert raw.call("hello", {"protocols": [2], "version": ""})["type"] == "hello_reply"
        return {
            "messages": count, **ends, "to_a_daemon": sent,
            "seconds": round(time.monotonic() - started), "alive": live.process.poll() is None,
            "grown_mb": round((process.memory_info().rss - before) / 1e6), "peak_mb": round(peak / 1e6),
            "descriptors": process.num_fds(),
        }  # fmt: skip


def _changed(own: random.Random, legal: dict[str, dict[str, Any]]) -> list[bytes]:
    type_ = own.choice(sorted(legal))
    header = {"type": type_, "request": f"{own.random()}", **legal[type_]}
    for _ in range(own.randint(0, 3)):
        name = own.choice([*header, "from_the_future"])
        header[name] = own.choice([
            None, True, -1, 0, 2**63, 2**64 - 1, 1.5, float("nan"), "", "x" * own.choice([1, 65, 5000]), [], {}, [[]],
            [[0, "0" * 64, 2**64 - 1]], {"a": 1}, b"raw", own.choice(sorted(KINDS)), [1] * 300,
        ])  # fmt: skip
    raw = bytearray(msgpack.packb(header))
    if own.random() < 0.4:
        for _ in range(own.randint(1, 6)):
            raw[own.randrange(len(raw))] = own.randrange(256)
    frames = [MAGIC if own.random() < 0.97 else own.randbytes(5), bytes(raw)]
    if type_ == "put" or own.random() < 0.1:
        frames.append(own.randbytes(own.choice([0, 10, 3000])))
    if own.random() < 0.02:
        frames += [b"more"] * own.randint(1, 8)
    return frames


def exr(folder: Path, count: int) -> dict[str, Any]:
    """Small EXRs of every codec, changed at random, read whole as plates in this process."""
    from tests.exr_files import part, write
    from void_server.image import exr as reader
    from void_server.wire.errors import PlateError
    from void_server.wire.shot import Window

    own = random.Random(11)
    whole = [
        write(folder / f"{codec}.exr", part(Window(-3, 5, 30, 40), dict.fromkeys("RGB", kind), compression=codec))
        for codec in range(10)
        for kind in ("half", "float")
    ]
    originals = [path.read_bytes() for path in whole]
    path, ends, slowest = folder / "changed.exr", Counter[str](), 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        raw = bytearray(own.choice(originals))
        for _ in range(own.choice([1, 1, 1, 2, 5])):
            at = own.randrange(min(len(raw), 600) if own.random() < 0.7 else len(raw))
            kind = own.random()
            if kind < 0.5:
                raw[at] = own.randrange(256)
            elif kind < 0.7:
                raw[at : at + 4] = own.choice([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", own.randbytes(4)])
            elif kind < 0.85:
                del raw[at : at + own.randint(1, 60)]
            else:
                raw[at:at] = own.randbytes(own.randint(1, 60))
        path.write_bytes(raw)
        started = time.process_time()
        try:
            reader.read_rgb(reader.read_plate_header(path))
            ends["read"] += 1
        except PlateError:
            ends["refused"] += 1
        slowest = max(slowest, time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"files": count, **ends, "slowest_cpu_s": round(slowest, 2), "grown_mb": round((peak - before) / 1000),
            "peak_mb": round(peak / 1000)}  # fmt: skip


COUNTS = {strangers: 10_000, jobs: 10_000, resubmit: 5_000, messages: 1_000_000, exr: 100_000}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load")
    what = {measure.__name__: measure for measure in COUNTS}
    parser.add_argument("what", choices=sorted(what))
    parser.add_argument("--count", type=int, default=None)
    args = parser.parse_args()
    measure = what[args.what]
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        found = measure(Path(folder), args.count or COUNTS[measure])
    print(json.dumps({**found, "load": round(os.getloadavg()[0], 1)}), flush=True)
    return 1 if found.get("lost") or found.get("alive") is False else 0


if __name__ == "__main__":
    sys.exit(main())
