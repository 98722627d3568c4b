"""One attempt at one job: its folder, its task for the worker, and what the worker says until its last word.

What comes in: a worker and a job that was chosen for it. What goes out: rows in the store, word to the watchers, and
the event that ends the attempt. What that means for the job is for `scheduler.py` to say.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from void_server.daemon.config import DaemonConfig
from void_server.daemon.files.disk import Disk
from void_server.daemon.files.frames import FrameFolder
from void_server.daemon.files.jobfolder import JobFolders, link_name
from void_server.daemon.scheduling.workers import LOOK_S, WorkerProcess
from void_server.daemon.store.database import Database
from void_server.daemon.watchers import Watchers
from void_server.wire.errors import InternalError, LimitError
from void_server.wire.messages import LIMITS
from void_server.wire.report import Event


@dataclasses.dataclass(frozen=True)
class Place:
    """What every attempt works with."""

    config: DaemonConfig
    database: Database
    frames: FrameFolder
    folders: JobFolders
    disk: Disk
    watchers: Watchers
    progress: dict[str, tuple[str, int, int]]
    """(stage, done, total) of running jobs: too fleeting for the store."""


class Attempt:
    """A worker, a job, and which try it is."""

    def __init__(self, place: Place, worker: WorkerProcess, job: str, number: int) -> None:
        self._config = place.config
        self._database = place.database
        self._frames = place.frames
        self._folders = place.folders
        self._disk = place.disk
        self._watchers = place.watchers
        self._progress = place.progress
        self._worker = worker
        self._job = job
        self._number = number

    async def prepare(self) -> Path:
        """Make the attempt's folder with all that earlier ones finished; returns the file that tells the worker."""
        job, attempt = self._job, self._number
        files, unverified = await self._database.read(lambda s: (s.files(job), s.unverified(job)))
        links = self._folders.of(job)
        task = {
            "job": job,
            "attempt": attempt,
            "out": str(self._folders.attempt(job, attempt)),
            "log": str(self._folders.log(job)),
            "found": str(self._config.data / "found"),
            "settings": self._database.now.settings(job),
            "unverified": unverified,
            "trust": [str(root) for root in self._config.trust],
            "files": [{**f._asdict(), "link": str(links / f.role / link_name(f))} for f in files],
        }

        def on_disk() -> tuple[int, list[str], Path]:
            return (*self._folders.begin(job, attempt), self._folders.write_task(job, task))

        latest, names, path = await self._disk.do(on_disk)
        await self._database.change(lambda s: s.carry_results(job, attempt, latest, names))
        return path

    async def follow(self) -> Event:
        """Keep what the worker says of an attempt; returns its last word, or one that stands for it."""
        worker, job, attempt = self._worker, self._job, self._number
        moved = time.monotonic()
        while True:
            try:
                event = await hear(worker, self._config)
            except TimeoutError:
                return {"event": "crashed", "how": f"The worker on {worker.device} stopped answering"}
            except LimitError as error:
                return {"event": "failed", "error": error, "fresh": True}
            if event is None:
                ended = worker.exit_status
                how = f"signal {-ended}" if ended < 0 else f"exit status {ended}"
                return {"event": "crashed", "how": f"The worker on {worker.device} died ({how})"}
            if event["event"] == "alive":
                if time.monotonic() - moved > self._config.stalled_s:
                    hours = f"{self._config.stalled_s / 3600:.2g} hours"
                    text = f"The job made no progress for {hours}; its worker was ended."
                    hint = f"The log says what it was doing: {self._folders.log(job)}."
                    return {"event": "failed", "error": InternalError(text, hint), "fresh": True}
                continue
            moved = time.monotonic()
            if (event.get("job"), event.get("attempt")) != (job, attempt):
                continue
            event = {name: value for name, value in event.items() if name not in ("job", "attempt")}
            if event["event"] in ("done", "failed", "cancelled"):
                return event
            if self._database.now.state(job) == "running":
                await self._keep(event)

    async def _keep(self, event: Event) -> None:
        """One thing that happened."""
        job, attempt = self._job, self._number
        kind = event["event"]
        if kind == "progress":
            self._progress[job] = (str(event["stage"]), int(event["done"]), int(event["total"]))
            self._watchers.tell(job, event)
        elif kind in ("frame", "results"):
            files = event.pop("files")
            lasting = event if kind == "frame" else {}
            await self._database.change(lambda s: s.add_results(job, attempt, files, lasting))
            self._watchers.tell(job)
        elif kind == "verified":
            await self._database.change(lambda s: s.verified(s.owner(job), event["hashes"]))
        elif kind == "damaged":
            owner = self._database.now.owner(job)
            await self._database.change(lambda s: s.forget_frame(owner, event["held"]))
            await self._disk.do(lambda: self._frames.remove(owner, event["held"]))
        elif kind in ("warning", "note"):
            event["message"] = str(event.get("message", ""))[: LIMITS["text_chars"].value]
            await self._database.change(lambda s: s.add_event(job, event))
            self._watchers.tell(job)


async def hear(worker: WorkerProcess, config: DaemonConfig) -> Event | None:
    """A worker's next event; None where it is gone. Raises TimeoutError, LimitError for too much memory."""
    until = time.monotonic() + config.silence_s
    while True:
        taken, most = worker.look(config.worker_bytes), config.worker_bytes
        if taken > most:
            worker.kill()
            raise LimitError(
                f"The job took {taken / 1e9:.1f} GB of memory; this daemon gives a worker {most / 1e9:.1f} GB.",
                "Use fewer or smaller frames, or have the daemon's --worker-gb raised.",
            )
        try:
            return await worker.event(LOOK_S)
        except TimeoutError:
            if time.monotonic() > until:
                worker.kill()
                raise
