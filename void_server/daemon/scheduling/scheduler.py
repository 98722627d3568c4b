"""The life of a job after its files have come: queue, attempts, crashes, cancel, publishing.

What comes in: what clients want and what workers say. What goes out: changes in the store, tasks for workers, and word
to the watchers. It does not know sockets.

One task per device, and it reads from top to bottom: have a process, choose a job, make an attempt at it. A job is
tried again after a crash only: whatever a worker says in words would be said again. Each attempt has a folder of its
own, and only the attempt that the store names can be published, so a forgotten worker harms nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from void_server.daemon.config import DaemonConfig
from void_server.daemon.files.disk import Disk, translated
from void_server.daemon.files.frames import FrameFolder
from void_server.daemon.files.jobfolder import JobFolders
from void_server.daemon.remarks import remark, remark_on
from void_server.daemon.scheduling.attempts import Attempt, Place, hear
from void_server.daemon.scheduling.workers import WorkerProcess
from void_server.daemon.store.database import Database
from void_server.daemon.store.frame_table import JobFile
from void_server.daemon.store.store import Store
from void_server.daemon.watchers import Watchers
from void_server.wire.errors import (
    EngineError,
    InternalError,
    SettingsError,
    StoreError,
    VoidError,
    from_wire,
)
from void_server.wire.jobs import JobStatus
from void_server.wire.messages import LIMITS
from void_server.wire.report import Event

_RETRY_S = 2.0
"""How soon a store that failed is tried again."""
_UNFINISHED = ("receiving", "queued", "running")


class Scheduler:
    """Moves jobs from `queued` to their end."""

    def __init__(
        self,
        config: DaemonConfig,
        database: Database,
        frames: FrameFolder,
        folders: JobFolders,
        disk: Disk,
        watchers: Watchers,
    ) -> None:
        self._config = config
        self._database = database
        self._frames = frames
        self._folders = folders
        self._disk = disk
        self._watchers = watchers
        self.workers = [WorkerProcess(device, config.pipeline, config.idle_release_s) for device in config.devices]
        self._progress: dict[str, tuple[str, int, int]] = {}
        self._place = Place(config, database, frames, folders, disk, watchers, self._progress)
        self._tasks: list[asyncio.Task[None]] = []
        self._behind: set[asyncio.Task[None]] = set()
        """Courtesies under way: sweeping, describing."""

    @property
    def engines(self) -> list[str]:
        return next((w.engines for w in self.workers if w.engines), [])

    async def recover(self) -> None:
        """After a start: whatever was running when the last daemon went down goes back to the queue, or fails."""
        for job in self._database.now.in_state("running"):
            await self._crashed(job, "The daemon went down")
        for job, device in list(self._database.now.queued()):
            if not any(_suits(worker, device) for worker in self.workers):
                await self._fail(job, self._no_device(str(device)))
        for job in self._folders.all():
            if self._database.now.state(job) in ("failed", "cancelled"):
                self._sweep(self._database.now.status(job))

    def start(self) -> None:
        """Begin to work through the queue."""
        self._tasks = [asyncio.create_task(self._tend(worker)) for worker in self.workers]

    async def stop(self) -> None:
        """End every worker; what they were doing goes back to the queue and is no crash."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(worker.stop() for worker in self.workers), return_exceptions=True)
        await asyncio.gather(*self._behind, return_exceptions=True)
        for job in self._database.now.in_state("running"):
            await self._database.change(lambda s, job=job: s.move(job, "queued", since=("running",)))  # type: ignore[misc]

    def check_device(self, device: str | None) -> None:
        """Raise SettingsError for a device that no worker has."""
        if not any(_suits(worker, device) for worker in self.workers):
            raise self._no_device(str(device))

    async def enqueue(self, job: str, files: list[JobFile]) -> None:
        """All files are here: make the job's folder, then queue it. Returns once that is durable.

        Not for two callers at a time with the same job.
        """
        owner = self._database.now.owner(job)
        inputs = [(f, Path(f.path) if f.path else self._frames.path(owner, f.held or "")) for f in files]
        about = self._about(job)

        def on_disk() -> None:
            self._frames.sync(owner)
            self._folders.create(job, inputs, about)

        await self._disk.do(on_disk)
        if await self._database.change(lambda s: s.move(job, "queued", since=("receiving",))):
            self._watchers.tell(job)
            self._describe(job)
        self._wake()

    def status(self, job: str) -> JobStatus:
        """The store's truth with the passing progress laid over it."""
        return self.with_progress(self._database.now.status(job))

    def with_progress(self, status: JobStatus) -> JobStatus:
        if status.state != "running" or status.job not in self._progress:
            return status
        stage, done, total = self._progress[status.job]
        return dataclasses.replace(status, stage=stage, done=done, total=total)

    async def cancel(self, job: str) -> None:
        """Nobody wants the job: it is cancelled now, and its worker is free within 2 s."""
        if not await self._database.change(lambda s: s.move(job, "cancelled", since=_UNFINISHED)):
            return
        self._watchers.tell(job)
        for worker in self.workers:
            if worker.job == job:
                worker.cancel()
                return
        await self._over(job)

    async def _tend(self, worker: WorkerProcess) -> None:
        """A device's life: a process, a job, an attempt; and again."""
        while True:
            try:
                if not worker.alive:
                    await worker.start()
                    if not await self._ready(worker):
                        continue
                job = await self._next(worker)
                if job is not None:
                    await self._attempt(worker, job)
            except (VoidError, OSError) as error:
                remark(translated(error))
                await asyncio.sleep(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - one job must never be the last that a device does
                remark_on(error)
                await worker.end()
                await asyncio.sleep(_RETRY_S)
            finally:
                worker.job = None

    async def _ready(self, worker: WorkerProcess) -> bool:
        """Wait for the process's first word; false where it died before."""
        while (event := await hear(worker, self._config)) is not None:
            if event["event"] == "ready":
                return True
        return False

    async def _next(self, worker: WorkerProcess) -> str | None:
        """Wait for a job that suits the device, and choose it; None where the process died meanwhile."""
        while worker.alive:
            worker.wanted.clear()
            chosen = {w.job for w in self.workers}
            for job, device in self._database.now.queued():
                if job not in chosen and _suits(worker, device):
                    worker.job = job
                    return job
            await worker.wanted.wait()
        return None

    async def _attempt(self, worker: WorkerProcess, job: str) -> None:
        """Try a job once, to whatever end."""
        attempt = await self._database.change(lambda s: s.begin_attempt(job))
        if attempt is None:
            return
        self._progress.pop(job, None)
        self._watchers.tell(job)
        try:
            try:
                trial = Attempt(self._place, worker, job, attempt)
                task = await trial.prepare()
            except StoreError as error:
                await self._fail(job, error)
                return
            if self._database.now.state(job) == "running":
                worker.run(task)
                self._describe(job)
                last = await trial.follow()
                await self._ended(worker, job, attempt, last)
            else:
                await self._over(job)
        except StoreError as error:
            # What the worker said can't be kept, so it has not been said.
            remark(error)
            await worker.end()
            await self._when_the_store_works(job)

    async def _ended(self, worker: WorkerProcess, job: str, attempt: int, last: Event) -> None:
        """An attempt is over; what that means for the job."""
        if self._database.now.state(job) != "running":
            # Cancelled meanwhile.
            await self._over(job)
        elif last["event"] == "crashed":
            await worker.end()
            await self._crashed(job, str(last["how"]))
        elif last["event"] == "done":
            results = await self._database.read(lambda s: s.results(job))
            try:
                await self._disk.do(lambda: self._folders.publish(job, attempt, results))
            except VoidError as error:
                await self._fail(job, error)
                return
            if await self._database.change(lambda s: s.move(job, "done", since=("running",))):
                self._watchers.tell(job)
                self._describe(job)
            self._progress.pop(job, None)
        elif last["event"] == "failed":
            why = last["error"] if isinstance(last["error"], VoidError) else from_wire(last["error"])
            if last.get("fresh") or isinstance(why, (EngineError, InternalError)):
                # A fresh process has a fresh device context: the surest way out of a full or broken card.
                await worker.end()
            await self._fail(job, why)
        else:
            await self._fail(job, InternalError("The worker gave up a job that nobody cancelled.", "Submit it again."))

    async def _when_the_store_works(self, job: str) -> None:
        """The store could not keep what became of a job; wait until it can, then the job goes on."""
        while True:
            await asyncio.sleep(_RETRY_S)
            try:
                if self._database.now.state(job) == "running":
                    await self._crashed(job, "The daemon's disk was full")
                return
            except StoreError as error:
                remark(error)

    async def _crashed(self, job: str, how: str) -> None:
        crashes, most = await self._database.change(lambda s: s.crashed(job)), LIMITS["crashes"].value
        if crashes >= most:
            log = self._folders.log(job)
            text = f"{how}; {crashes} times in a row without finishing a frame."
            await self._fail(job, InternalError(text, f"The log says what it was doing: {log}.", job=job))
            return

        def queue_again(store: Store) -> bool:
            moved = store.move(job, "queued", since=("running",))
            if moved:
                store.add_event(job, {"event": "note", "message": f"{how}; the job goes on where it was."})
            return moved

        if await self._database.change(queue_again):
            self._watchers.tell(job)
        elif self._database.now.state(job) == "cancelled":
            await self._over(job)
        self._wake()

    async def _fail(self, job: str, error: VoidError) -> None:
        error.job = job
        if await self._database.change(lambda s: s.move(job, "failed", since=_UNFINISHED, error=error)):
            self._watchers.tell(job)
        await self._over(job)

    async def _over(self, job: str) -> None:
        """The job ended without a result: nothing temporary stays, and of a cancelled one nothing but the log."""
        self._progress.pop(job, None)
        status = self._database.now.status(job)
        owner = self._database.now.owner(job)
        self._courtesy(self._disk.write(lambda: self._frames.give_up(owner, job)))
        self._sweep(status)
        self._describe(job)

    def _sweep(self, status: JobStatus) -> None:
        keep = status.attempt if status.state == "failed" else None
        self._courtesy(self._disk.do(lambda: self._folders.sweep(status.job, keep)))

    def _describe(self, job: str) -> None:
        about, status = self._about(job), self._database.now.status(job)
        self._courtesy(self._disk.write(lambda: self._folders.describe(about, status)))

    def _courtesy(self, work: Any) -> None:
        """See to something that may fail: a disk that refuses it says so where it matters, at the next write."""

        async def done() -> None:
            try:
                await work
            except VoidError as error:
                remark(error)

        task = asyncio.create_task(done())
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    def _wake(self) -> None:
        for worker in self.workers:
            worker.wanted.set()

    def _about(self, job: str) -> dict[str, Any]:
        return self._database.now.about(job)

    def _no_device(self, device: str) -> SettingsError:
        names = ", ".join(self._config.devices)
        return SettingsError(f"This daemon has no device '{device}'.", f"Use one of: {names}, or none.")


def _suits(worker: WorkerProcess, device: str | None) -> bool:
    """Whether a worker may take a job that names this device. "cuda" is any card; the CPU runs beside any of them."""
    return device in (None, "cpu", worker.device) or (device == "cuda" and worker.device.startswith("cuda"))
