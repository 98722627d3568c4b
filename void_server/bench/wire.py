"""Measures the wire on this machine: upload rate beside a plain socket copy, memory, latency, strangers at the door.

What comes in: a folder with room, and how many bytes. What goes out: one map of figures, each with its unit. It starts
daemons of its own in processes of their own, and knows nothing of pixels: the "frames" are noise.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from void_server.daemon.network import keys
from void_server.wire.client import Client
from void_server.wire.errors import InternalError, JobCancelledError
from void_server.wire.report import Event, Report
from void_server.wire.shot import ShotFiles, ShotSettings

FRAME_BYTES = 41_700_000
"""A 4096x1696 RGB half frame without compression, as the reference measurements used."""

_SERVE = """
import json, sys
from pathlib import Path
from void_server.daemon.config import DaemonConfig
from void_server.daemon.server import serve
given = json.loads(sys.argv[1])
keys = Path(given["keys"]) if given["keys"] else None
config = DaemonConfig(bind="tcp://127.0.0.1:*", data=Path(given["data"]), keys=keys, pipeline=given["pipeline"])
serve(config, ready=lambda address: (sys.stdout.write(address + chr(10)), sys.stdout.flush()))
"""
_RECEIVE = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
sys.stdout.write(f"{listener.getsockname()[1]}\\n")
sys.stdout.flush()
line, _ = listener.accept()
view = memoryview(bytearray(1 << 20))
for number, size in enumerate(map(int, sys.argv[2:])):
    with open(f"{sys.argv[1]}/{number}", "wb", buffering=0) as file:
        while size:
            count = line.recv_into(view[: min(size, len(view))])
            file.write(view[:count])
            size -= count
        os.fsync(file.fileno())
folder = os.open(sys.argv[1], os.O_RDONLY)
os.fsync(folder)
line.sendall(b"k")
"""
_SEND = """
import socket, sys, time
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
view = memoryview(bytearray(1 << 20))
started = time.perf_counter()
for path in sys.argv[2:]:
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(view):
            line.sendall(view[:count])
line.recv(1)
print(time.perf_counter() - started, flush=True)
"""


def measure_wire(
    folder: Path, total_bytes: int = 2_000_000_000, rounds: int = 4, strangers: int = 1000
) -> dict[str, Any]:
    """Every figure of the wire, measured in `folder`, which needs room for three times `total_bytes`. Blocks; a minute.

    `upload_share` is the median over the rounds of (rate of an upload) / (rate of a plain file-socket-file copy of the
    same bytes, synced like the upload, just before or after it).
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = _frames(folder / "in", total_bytes)
    plain, upload, memory, cpu, load = [], [], [], [], []
    second = 0
    try:
        for number in range(rounds):
            with _daemon(folder / "data") as (address, pid), Client(address, timeout_s=30.0) as client:
                client.hello()
                before = _cpu_s(pid)
                # Whoever writes first may meet memory that the machine has yet to find: each goes first in turn.
                if number % 2 == 0:
                    plain.append(_plain_copy(files, folder / "copy"))
                with _memory_of(pid) as samples:
                    started = time.perf_counter()
                    job = client.submit(files, ShotSettings())
                    upload.append(time.perf_counter() - started)
                if number % 2:
                    plain.append(_plain_copy(files, folder / "copy"))
                cpu.append([round((b - a) / total_bytes * 1e9, 2) for a, b in zip(before, _cpu_s(pid))])
                load.append(round(os.getloadavg()[0], 1))
                memory += [min(samples), max(samples)]
                client.cancel(job.job)
                if number == rounds - 1:
                    second = _second_upload(client, files)
            shutil.rmtree(folder / "data")
        latency = _latency_while_computing(folder)
        door = _knock(folder, strangers)
    finally:
        shutil.rmtree(folder / "in", ignore_errors=True)
    return {
        "bytes": total_bytes,
        "plain_mb_per_s": [round(total_bytes / 1e6 / took_s) for took_s in plain],
        "upload_mb_per_s": [round(total_bytes / 1e6 / took_s) for took_s in upload],
        "upload_share": round(statistics.median(p / u for p, u in zip(plain, upload)), 3),
        "cpu_s_per_gb_client_daemon_plain": cpu,
        "load_average": load,
        "daemon_rss_mb": [round(min(memory)), round(max(memory))],
        "second_upload_chunks": second,
        **latency,
        **door,
    }


def busy(files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, found: Path) -> dict[str, Any]:
    """A stand-in for the pipeline that keeps a core busy until it is cancelled."""
    while True:
        hashlib.pbkdf2_hmac("sha256", b"busy", b"salt", 50_000)
        report.progress("fill", 0, 1)


def _frames(folder: Path, total_bytes: int) -> ShotFiles:
    """Noise in files of a frame's size, in the page cache by the time they are returned."""
    folder.mkdir(parents=True, exist_ok=True)
    plate: dict[int, Path] = {}
    left = total_bytes
    while left > 0:
        frame = 1001 + len(plate)
        plate[frame] = folder / f"plate.{frame}.exr"
        plate[frame].write_bytes(os.urandom(min(FRAME_BYTES, left)))
        left -= FRAME_BYTES
    matte = folder / "matte.1001.exr"
    matte.write_bytes(b"matte")
    os.sync()
    return ShotFiles(plate=plate, matte={1001: matte})


def _plain_copy(files: ShotFiles, out: Path) -> float:
    """Seconds that the same bytes take from files through a socket into files, without anything else.

    One process sends and one receives, as client and daemon do; each file is synced, and at the end the folder.
    """
    out.mkdir()
    paths = [path for _, _, path in files.items()]
    receive = [sys.executable, "-c", _RECEIVE, str(out), *(str(path.stat().st_size) for path in paths)]
    with subprocess.Popen(receive, stdout=subprocess.PIPE) as receiver:
        assert receiver.stdout
        send = [sys.executable, "-c", _SEND, receiver.stdout.readline().decode().strip(), *map(str, paths)]
        with subprocess.Popen(send, stdout=subprocess.PIPE) as sender:
            assert sender.stdout
            took_s = float(sender.stdout.readline())
    shutil.rmtree(out)
    return took_s


def _cpu_s(pid: int) -> tuple[float, float, float]:
    """CPU seconds, of user and system, so far: this process (the client), the daemon, ended children (plain copies)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    daemon_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own.ru_utime + own.ru_stime, daemon_s, ended.ru_utime + ended.ru_stime


def _second_upload(client: Client, files: ShotFiles) -> int:
    """How many chunks the same shot with other settings sends."""
    sent: list[Event] = []
    client.cancel(client.submit(files, ShotSettings(seed=1), on_event=sent.append).job)
    return len(sent)


def _latency_while_computing(folder: Path, asked: int = 300) -> dict[str, float]:
    """How long `status` takes while a worker computes, and how long a cancel takes to free it, in ms."""
    shot = _frames(folder / "small", 1_000_000)
    with _daemon(folder / "busy", pipeline="void_server.bench.wire:busy") as (address, _), Client(address) as client:
        job = client.submit(shot, ShotSettings()).job
        while client.status(job).stage != "fill":
            threading.Event().wait(0.01)
        took = []
        for _ in range(asked):
            started = time.perf_counter()
            client.status(job)
            took.append(1000 * (time.perf_counter() - started))
        client.cancel(job)
        started = time.perf_counter()
        # The one worker takes up the next job only when it has let go of this one.
        following = client.submit(shot, ShotSettings(seed=1)).job
        while client.status(following).state != "running":
            threading.Event().wait(0.01)
        freed_s = time.perf_counter() - started
        client.cancel(following)
    shutil.rmtree(folder / "busy")
    shutil.rmtree(folder / "small")
    return {
        "status_ms_median": round(statistics.median(took), 2),
        "status_ms_max": round(max(took), 2),
        "cancel_to_next_job_s": round(freed_s, 2),
    }


def _knock(folder: Path, strangers: int) -> dict[str, int | float]:
    """Strangers with keys made just now at a daemon with keys; how many got in, and what an allowed client noticed."""
    own = folder / "keys"
    keys.new(own, "daemon")
    keys.allow(own, str(keys.new(own, "client")), "bench")
    server_key = (own / "daemon.public").read_bytes().strip()
    admitted = refused = 0
    took = []
    with _daemon(folder / "guarded", keys_folder=own) as (address, _), Client(address, keys=own) as client:
        context: zmq.Context[Any] = zmq.Context()
        for number in range(strangers):
            stranger = context.socket(zmq.DEALER)
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.setsockopt(zmq.RECONNECT_IVL, -1)
            if number % 2:
                # Every other one has no key at all.
                stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
                stranger.curve_serverkey = server_key
            monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _FAILED)
            stranger.connect(address)
            if monitor.poll(5000):
                event = parse_monitor_message(monitor.recv_multipart())["event"]
                admitted += event == zmq.EVENT_HANDSHAKE_SUCCEEDED
                refused += bool(event & _FAILED) or event == zmq.EVENT_DISCONNECTED
            stranger.disable_monitor()
            monitor.close(0)
            stranger.close(0)
            if number % 20 == 0:
                started = time.perf_counter()
                client.jobs()
                took.append(1000 * (time.perf_counter() - started))
        context.term()
    shutil.rmtree(folder / "guarded")
    shutil.rmtree(own)
    return {
        "strangers": strangers,
        "strangers_admitted": admitted,
        "strangers_told_at_once": refused,
        "honest_ms_max": round(max(took), 2),
    }


_FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


@contextmanager
def _daemon(
    data: Path, keys_folder: Path | None = None, pipeline: str = "void_server.bench.wire:refuse"
) -> Iterator[tuple[str, int]]:
    """A daemon for as long as the block lasts: (address, process id)."""
    given = {"data": str(data), "keys": str(keys_folder) if keys_folder else None, "pipeline": pipeline}
    command = [sys.executable, "-c", _SERVE, json.dumps(given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        if not address:
            raise InternalError("The daemon under measurement did not start.", "Its own output says why.")
        try:
            yield address, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def refuse(files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, found: Path) -> dict[str, Any]:
    """A stand-in for the pipeline where only the wire is measured."""
    raise JobCancelledError("Only the wire is measured.")


@contextmanager
def _memory_of(pid: int) -> Iterator[list[float]]:
    """Resident memory of a process in MB, sampled from /proc for as long as the block lasts."""
    samples: list[float] = []
    over = threading.Event()

    def sample() -> None:
        while True:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            samples.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            if over.wait(0.02):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
