"""One scenario: a daemon, honest clients who want frames, and whoever makes trouble meanwhile.

What comes in: a seed, and a folder to work in. What goes out: the promises that were broken, and how long each answer
took that was asked for all the while, wherever the daemon was not itself stopped.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tests.faults.plan import Plan
from tests.faults.promises import account, check_results
from tests.live_daemon import LiveDaemon, make_shot
from tests.raw_client import RawClient
from void_server.wire.client import Client
from void_server.wire.errors import LimitError, RequestError, StoreError, VoidError
from void_server.wire.shot import ShotFiles, ShotSettings

DISK = "20M"


class Scenario:
    """One seed: a daemon, honest clients who want frames, and whoever makes trouble meanwhile."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.plan = Plan.of(seed)
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
        self.small = self.plan.small and _mount(self.disk)
        reserve = 0 if self.small else 1 << 20
        self.live = LiveDaemon(
            self.disk / "data", reserve_bytes=reserve, silence_s=12.0, bind="tcp://127.0.0.1:*",
            devices=list(self.plan.devices),
        )  # fmt: skip
        try:
            self.live.start()
            self._trouble()
            account(self)
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
        self.before = psutil.Process(self.live.process.pid).memory_info().rss
        prober = threading.Thread(target=self._probe)
        prober.start()
        with ThreadPoolExecutor(12) as pool:
            artists, makers = self.plan.artists, zip(self.plan.makers, self.plan.seeds)
            working = [pool.submit(self._artist, random.Random(seed), number) for number, seed in enumerate(artists)]
            making = [pool.submit(maker, self, random.Random(seed)) for maker, seed in makers]
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
                            check_results(self, client, job.job, files)
                        if own.random() < 0.2:
                            client.drop(job.job)
                            self.dropped.add(job.job)
            except (LimitError, StoreError):
                pass  # a full disk, said in so many words
            except VoidError as error:
                if isinstance(error, RequestError):
                    self.broken.append(f"an honest shot was refused: {error}")
                # Anything else is the network's or the daemon's absence: what was accepted is still looked after.

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
