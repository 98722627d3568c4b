"""The life of a job after its files have come: queue, attempts, crashes, cancel, publishing.

What comes in: what clients want and what workers say. What goes out: changes in the store, tasks for workers, and a
call of `on_change` for whoever watches. It does not know sockets. Everything runs on the server's thread; the disk's
part is handed to `Disk`.

A job is retried after a crash only: whatever a worker says in words would be said again. Each attempt has a folder of
its own, and only the attempt that the store names can be published, so a forgotten worker harms nothing.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server.daemon.config import DaemonConfig
from void_server.daemon.disk import Disk
from void_server.daemon.frames import FrameFolder
from void_server.daemon.jobfolder import JobFolders, link_name
from void_server.daemon.store import Store
from void_server.daemon.workers import WorkerProcess
from void_server.wire.errors import (
    EngineError,
    InternalError,
    JobNotFoundError,
    SettingsError,
    StoreError,
    VoidError,
    from_wire,
)
from void_server.wire.jobs import JobStatus
from void_server.wire.messages import LIMITS
from void_server.wire.report import Event

_IDLE_S = 3600.0
_RETRY_S = 5.0
"""How soon a store that failed is tried again."""

OnChange = Callable[[str, "Event | None"], None]
"""Called with a job and a passing event, or None where lasting ones were added to the store."""


class Scheduler:
    """Moves jobs from `queued` to their end."""

    def __init__(
        self, config: DaemonConfig, store: Store, frames: FrameFolder, folders: JobFolders, disk: Disk
    ) -> None:
        self._config = config
        self._store = store
        self._frames = frames
        self._folders = folders
        self._disk = disk
        self.on_change: OnChange = lambda job, event: None
        self.workers = [
            WorkerProcess(d, config.pipeline, config.idle_release_s, disk, self._on_worker) for d in config.devices
        ]
        self._progress: dict[str, tuple[str, int, int]] = {}
        self._lost: set[str] = set()
        """Jobs whose worker was ended because the store could not keep what it said."""
        self._retry_s = _IDLE_S

    @property
    def engines(self) -> list[str]:
        return next((w.engines for w in self.workers if w.engines), [])

    def recover(self) -> None:
        """After a start: whatever was running when the last daemon went down goes back to the queue, or fails."""
        for job in self._store.in_state("running"):
            self._crashed(job, "The daemon went down")
        for job in self._folders.all():
            try:
                status = self._store.status(job)
            except JobNotFoundError:
                self._disk.do(lambda job=job: self._folders.remove(job), _ignore, _ignore)  # type: ignore[misc]
                continue
            if status.state in ("failed", "cancelled"):
                self._sweep(status)

    def tick(self) -> None:
        """Keep the workers going and give them what is queued."""
        for worker in self.workers:
            worker.tick()
        try:
            for job in sorted(self._lost):
                self._crashed(job, "The daemon's disk was full")
                self._lost.discard(job)
            self._hand_out()
            self._retry_s = _IDLE_S
        except StoreError as error:
            sys.stderr.write(f"{error}\n")
            self._retry_s = _RETRY_S

    def due_s(self) -> float:
        """Seconds until `tick` has something to do by the clock alone."""
        return min(self._retry_s, *(worker.due_s() for worker in self.workers))

    def check_device(self, device: str | None) -> None:
        """Raise SettingsError for a device that no worker has."""
        if device is not None and not any(_suits(worker, device) for worker in self.workers):
            names = ", ".join(self._config.devices)
            raise SettingsError(f"This daemon has no device '{device}'.", f"Use one of: {names}, or none.")

    def enqueue(self, job: str, then: Callable[[], None], failed: Callable[[VoidError], None]) -> None:
        """All files are here: make the job's folder, then queue it. `then` is called once that is durable."""
        owner = self._store.owner(job)
        files = self._store.files(job)
        inputs = [(f, Path(f.path) if f.path else self._frames.path(owner, f.held or "")) for f in files]
        about = self._about(job)

        def on_disk() -> None:
            self._frames.sync(owner)
            self._folders.create(job, inputs, about)

        def queue(_: None) -> None:
            if self._store.move(job, "queued", since=("receiving",)):
                self._changed(job)
                self._describe(job)
            then()
            self._hand_out()

        self._disk.do(on_disk, queue, failed)

    def status(self, job: str) -> JobStatus:
        """The store's truth with the passing progress laid over it."""
        return self.with_progress(self._store.status(job))

    def with_progress(self, status: JobStatus) -> JobStatus:
        if status.state != "running" or status.job not in self._progress:
            return status
        stage, done, total = self._progress[status.job]
        return dataclasses.replace(status, stage=stage, done=done, total=total)

    def cancel(self, job: str) -> None:
        """Nobody wants the job: it is cancelled now, and its worker is free within 2 s."""
        if not self._store.move(job, "cancelled", since=("receiving", "queued", "running")):
            return
        self._changed(job)
        for worker in self.workers:
            if worker.job == job:
                worker.cancel()
                return
        self._over(job)

    def stop(self) -> None:
        """End every worker; what they were doing goes back to the queue and is no crash."""
        for worker in self.workers:
            worker.stop()
        for job in self._store.in_state("running"):
            self._store.move(job, "queued", since=("running",))

    def _hand_out(self) -> None:
        free = [worker for worker in self.workers if worker.free]
        if not free:
            return
        for job in self._store.in_state("queued"):
            device = self._store.settings(job).get("device")
            worker = next((w for w in free if w.free and _suits(w, device)), None)
            if worker is not None:
                self._begin(worker, job)

    def _begin(self, worker: WorkerProcess, job: str) -> None:
        attempt = self._store.begin_attempt(job)
        if attempt is None:
            return
        worker.job, worker.attempt = job, attempt
        self._progress.pop(job, None)
        self._changed(job)
        unverified = self._store.unverified(job)
        files = [
            {**f._asdict(), "link": str(self._folders.of(job) / f.role / link_name(f))} for f in self._store.files(job)
        ]
        task = {
            "job": job,
            "attempt": attempt,
            "out": str(self._folders.attempt(job, attempt)),
            "log": str(self._folders.log(job)),
            "settings": self._store.settings(job),
            "unverified": unverified,
            "files": files,
        }

        def prepared(outcome: tuple[int, list[str], Path]) -> None:
            latest, names, path = outcome
            if worker.job != job or self._store.status(job).state != "running":
                if worker.job == job:
                    worker.rest()
                    self._over(job)
                return
            self._store.carry_results(job, attempt, latest, names)
            worker.run(path)
            self._describe(job)

        def unprepared(error: VoidError) -> None:
            if worker.job == job:
                worker.rest()
            self._fail(job, error)

        def prepare() -> tuple[int, list[str], Path]:
            return (*self._folders.begin(job, attempt), self._folders.write_task(job, task))

        self._disk.do(prepare, prepared, unprepared)

    def _on_worker(self, worker: WorkerProcess, event: Event | None) -> None:
        if event is None:
            job, ended = worker.job, worker.exit_status
            worker.rest()
            if job is not None:
                how = f"signal {-ended}" if ended < 0 else f"exit status {ended}"
                self._crashed(job, f"The worker on {worker.device} died ({how})")
        elif event["event"] != "ready" and (event.get("job"), event.get("attempt")) == (worker.job, worker.attempt):
            try:
                self._on_job_event(worker, event)
            except StoreError as error:
                sys.stderr.write(f"{error}\n")
                self._lost.add(str(event["job"]))
                worker.rest()
                worker.restart()
                self._retry_s = _RETRY_S
                return
        self.tick()

    def _on_job_event(self, worker: WorkerProcess, event: Event) -> None:
        job, attempt, kind = event["job"], event["attempt"], event["event"]
        event = {name: value for name, value in event.items() if name not in ("job", "attempt")}
        if self._store.status(job).state != "running":
            # Cancelled meanwhile: only the worker's last word counts, because it frees the worker.
            if kind in ("done", "failed", "cancelled"):
                worker.rest()
                self._over(job)
            return
        if kind == "progress":
            self._progress[job] = (str(event["stage"]), int(event["done"]), int(event["total"]))
            self.on_change(job, event)
        elif kind in ("frame", "results"):
            files = event.pop("files")
            self._store.add_results(job, attempt, files, event if kind == "frame" else {})
            self._changed(job)
        elif kind == "verified":
            self._store.verified(self._store.owner(job), event["hashes"])
        elif kind == "damaged":
            owner = self._store.owner(job)
            self._store.forget_frame(owner, event["held"])
            self._disk.do(lambda: self._frames.remove(owner, event["held"]), _ignore, _ignore)
        elif kind in ("warning", "note"):
            self._store.add_event(job, event)
            self._changed(job)
        else:
            worker.rest()
            self._ended(worker, job, attempt, event)

    def _ended(self, worker: WorkerProcess, job: str, attempt: int, event: Event) -> None:
        if event["event"] == "done":

            def published(_: None) -> None:
                if self._store.move(job, "done", since=("running",)):
                    self._changed(job)
                    self._describe(job)
                self._progress.pop(job, None)

            self._disk.do(lambda: self._folders.publish(job, attempt), published, lambda e: self._fail(job, e))
        elif event["event"] == "failed":
            error = from_wire(event["error"])
            if isinstance(error, (EngineError, InternalError)):
                # A fresh process has a fresh device context: the surest way out of a full or broken card.
                worker.restart()
            self._fail(job, error)
        else:
            self._fail(job, InternalError("The worker gave up a job that nobody cancelled.", "Submit it again."))

    def _crashed(self, job: str, how: str) -> None:
        if self._store.status(job).state == "cancelled":
            self._over(job)
            return
        crashes, most = self._store.crashed(job), LIMITS["crashes"].value
        if crashes >= most:
            log = self._folders.log(job)
            text = f"{how}; {crashes} times in a row without finishing a frame."
            self._fail(job, InternalError(text, f"The log says what it was doing: {log}.", job=job))
        elif self._store.move(job, "queued", since=("running",)):
            note = {"event": "note", "message": f"{how}; the job goes on where it was."}
            self._store.add_event(job, note)
            self._changed(job)

    def _fail(self, job: str, error: VoidError) -> None:
        error.job = job
        if self._store.move(job, "failed", since=("receiving", "queued", "running"), error=error):
            self._changed(job)
        self._over(job)

    def _over(self, job: str) -> None:
        """The job ended without a result: nothing temporary stays, and of a cancelled one nothing but the log."""
        self._progress.pop(job, None)
        status = self._store.status(job)
        if status.state == "cancelled":
            self._store.drop_results(job)
        owner = self._store.owner(job)
        self._disk.write(lambda: self._frames.give_up(owner, job), _ignore, _ignore)
        self._sweep(status)
        self._describe(job)

    def _sweep(self, status: JobStatus) -> None:
        keep = status.attempt if status.state == "failed" else None
        self._disk.do(lambda: self._folders.sweep(status.job, keep), _ignore, _ignore)

    def _changed(self, job: str) -> None:
        self.on_change(job, None)

    def _describe(self, job: str) -> None:
        about, status = self._about(job), self._store.status(job)
        self._disk.write(lambda: self._folders.describe(about, status), _ignore, _ignore)

    def _about(self, job: str) -> dict[str, Any]:
        created = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self._store.status(job).created))
        return {"job": job, "asked": created, "owner": self._store.owner(job), "settings": self._store.settings(job)}


def _suits(worker: WorkerProcess, device: str | None) -> bool:
    """Whether a worker may take a job that names this device. "cuda" is any card; the CPU runs beside any of them."""
    return device in (None, "cpu", worker.device) or (device == "cuda" and worker.device.startswith("cuda"))


def _ignore(_: object) -> None:
    """Sweeping and describing are courtesies: a disk that refuses them says so where it matters, at the next write."""
