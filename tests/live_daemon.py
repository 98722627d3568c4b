"""A real daemon process for tests, and small shots to send to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server.wire.client import Client
from void_server.wire.shot import ShotFiles

PIPELINE = "tests.fakes.slow_pipeline:make"
HOLD = {"options": {"gate": "/nonexistent/gate"}}
"""Options of a job that goes on for ever after its first frame."""
ROOT = Path(__file__).parents[1]

_SERVE = """
import sys, json
from pathlib import Path
from void_server.daemon import server
from void_server.daemon.config import DaemonConfig
from void_server.wire.errors import VoidError
given = json.loads(sys.argv[1])
server._SWEEP_S = given.pop("sweep_s", server._SWEEP_S)
for name in ("data", "keys"):
    given[name] = Path(given[name]) if given.get(name) else None
given["trust"] = tuple(Path(p) for p in given.get("trust", ()))
given["devices"] = tuple(given.get("devices", ("cpu",)))
try:
    sys.exit(server.serve(DaemonConfig(**given), ready=lambda address: print(address, flush=True)))
except VoidError as error:
    sys.exit(f"{error.code}: {error}")
"""


class LiveDaemon:
    """A daemon in a process of its own. `kill` is kill -9; `start` starts it again on the same data and address.

    config: of `DaemonConfig`, and `sweep_s`, how often it looks what may be dropped.
    """

    def __init__(self, data: Path, **config: Any) -> None:
        self.config = {"data": str(data), "bind": "tcp://127.0.0.1:*", "pipeline": PIPELINE, **config}
        self.data = data
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self, prefix: tuple[str, ...] = ()) -> LiveDaemon:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [*prefix, sys.executable, "-c", _SERVE, json.dumps(self.config)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout and self.process.stderr
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            process, self.process = self.process, None
            raise RuntimeError(f"{process.communicate()[1]} (status {process.returncode})")
        self.config["bind"] = self.address
        return self

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process
        self.process.communicate()
        status = self.process.returncode
        self.process = None
        return status

    def __enter__(self) -> LiveDaemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self, **options: Any) -> Client:
        return Client(self.address, **{"patience_s": 30.0, **options})


def make_shot(folder: Path, frames: int = 3, size: int = 300_000, first: int = 1001) -> ShotFiles:
    """A shot of files that no EXR reader would take: the daemon must not care."""
    folder.mkdir(parents=True, exist_ok=True)
    plate, matte = {}, {}
    for frame in range(first, first + frames):
        plate[frame] = folder / f"sh010_plate.{frame}.exr"
        matte[frame] = folder / f"sh010_matte.{frame}.exr"
        plate[frame].write_bytes(os.urandom(size))
        matte[frame].write_bytes(os.urandom(1000))
    return ShotFiles(plate=plate, matte=matte)


def until(happens: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Wait for a condition that another process brings about; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := happens()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
    return value
