"""What stays on the daemon's disk and for how long: room for new shots, old results, and a last resort.

What comes in: shots that want room, the configuration's ages and quotas. What goes out: room, or a refusal in time. It
does not know sockets or workers.

Ages are hours that a daemon was up, not the clock's: a clock that jumps deletes nothing, and neither does a long
weekend. Results that nobody fetched are dropped a week after a warning said so. Frames are only a cache of what
clients still have: unused ones make room first, but never those that the very shot which needs room shares.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from void_server.daemon.config import DaemonConfig
from void_server.daemon.files.disk import Disk
from void_server.daemon.files.frames import FrameFolder
from void_server.daemon.files.jobfolder import JobFolders
from void_server.daemon.remarks import remark
from void_server.daemon.store.database import Database
from void_server.daemon.store.frame_table import JobFile
from void_server.daemon.watchers import Watchers
from void_server.wire.errors import LimitError, StoreError, VoidError
from void_server.wire.messages import FINAL

GRACE_S = 7 * 24 * 3600.0
"""How long after the warning results stay that nobody has fetched."""


class Ballast:
    """A file that takes room, to be given up where the disk is so full that not even a cancel could be kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def release(self) -> bool:
        """Whether there is more room now."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def take(self) -> None:
        """Lay it down where there is plenty of room. Raises nothing: it is for better days."""
        with contextlib.suppress(OSError):
            total, _, free = shutil.disk_usage(self._path.parent)
            size = max(1 << 20, min(16 << 20, total // 100))
            if self._path.exists() or free < 4 * size:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)


class Retention:
    """Decides what is dropped. Belongs to the loop's thread, `check_reserve` apart."""

    def __init__(
        self,
        config: DaemonConfig,
        database: Database,
        frames: FrameFolder,
        folders: JobFolders,
        disk: Disk,
        watchers: Watchers,
        ballast: Ballast,
    ) -> None:
        self._config = config
        self._database = database
        self._frames = frames
        self._folders = folders
        self._disk = disk
        self._watchers = watchers
        self._ballast = ballast
        self._delivered: dict[str, set[str]] = {}
        self.admission = asyncio.Lock()
        """Held while a shot is given room and until that is written down."""

    async def make_room(self, owner: str, files: list[JobFile]) -> None:
        """Raise LimitError or StoreError now rather than in the middle of an upload that can't end well."""
        new = {f.fingerprint: f.size for f in files if not f.path}
        known = await self._database.read(lambda s: {f for f in new if s.knows_fingerprint(owner, f)})
        needed = sum(size for fingerprint, size in new.items() if fingerprint not in known)
        used = await self._database.read(lambda s: s.used_bytes(owner))
        over = used + needed - self._config.quota_bytes
        if over > 0:
            over -= await self._drop_frames(over, owner, keep=known)
        if over > 0:
            raise LimitError(
                f"The shot is {needed / 1e9:.1f} GB, {over / 1e9:.1f} GB more than this daemon keeps for you.",
                "Free what you no longer need (void-server jobs drop JOB), or have the daemon's --quota-gb raised.",
            )
        promised, arrived = await self._database.read(lambda s: s.expected_bytes()), await self._disk.do(self._arrived)
        free = shutil.disk_usage(self._config.data).free - max(0, promised - arrived)
        lacking = needed + self._config.reserve_bytes - free
        if lacking > 0:
            lacking -= await self._drop_frames(lacking, None, keep=known)
        if lacking > 0:
            raise StoreError(
                f"The shot is {needed / 1e9:.1f} GB; the daemon's disk has {max(0, free) / 1e9:.1f} GB left for it.",
                "Free space there (void-server jobs drop JOB), or start the daemon with another --data.",
            )

    def check_reserve(self, size: int) -> None:
        """Raise StoreError where `size` more bytes would touch the reserve. From any thread."""
        if shutil.disk_usage(self._config.data).free - size < self._config.reserve_bytes:
            raise StoreError("The daemon's disk is full.", "Free space there, then send again: what arrived is kept.")

    def fetched(self, job: str, name: str) -> None:
        """A result file was delivered to its end."""
        if self._database.now.state(job) != "done":
            return
        names = self._delivered.setdefault(job, set())
        names.add(name)
        if len(names) == self._database.now.result_count(job):
            del self._delivered[job]
            asyncio.get_running_loop().create_task(self._note_fetched(job))

    async def drop(self, job: str) -> None:
        """Forget a job that is over, with all that it made. Whole or not at all, also where the daemon goes down."""
        await self._disk.do(lambda: self._folders.begin_drop(job))
        try:
            await self._database.change(lambda s: s.forget_job(job))
        except StoreError:
            # No room even to forget: what goes anyway makes some.
            await self._disk.do(lambda: self._folders.empty(job))
            await self._database.change(lambda s: s.forget_job(job))
        self._watchers.tell(job)
        await self._disk.do(lambda: self._folders.remove(job))

    async def take_ballast(self) -> None:
        """Have something to give up again, once there is room."""
        await self._disk.do(self._ballast.take)

    async def sweep(self) -> None:
        """Drop what has been kept for long enough. Whatever can't be done now is done next time."""
        for step in (self._age, self._end_silent_uploads, self._drop_old_jobs, self._drop_old_frames, self._tidy):
            try:
                await step()
            except VoidError as error:
                remark(f"sweep: {error}")

    async def _age(self) -> None:
        await self._database.change(lambda s: s.save_age())

    async def _end_silent_uploads(self) -> None:
        for job in self._database.now.old_jobs(self._config.receiving_s, "receiving"):
            silence = f"Nobody sent the rest of the shot for {self._config.receiving_s / 3600:.0f} hours."
            error = StoreError(silence, "Submit it again.", job=job)
            await self._database.change(
                lambda s, job=job, error=error: s.move(job, "failed", since=("receiving",), error=error)  # type: ignore[misc]
            )
            self._watchers.tell(job)

    async def _drop_old_jobs(self) -> None:
        for job in self._database.now.old_jobs(self._config.keep_s, *FINAL):
            if self._database.now.state(job) == "done" and not self._database.now.is_fetched(job):
                warned_s = self._database.now.since_warning(job)
                if warned_s is None:
                    await self._warn(job)
                if warned_s is None or warned_s < GRACE_S:
                    continue
            await self.drop(job)

    async def _warn(self, job: str) -> None:
        text = f"Nobody fetched this job's results; they will be dropped in {GRACE_S / 86400:.0f} days."
        remark(f"{job}: {text}")
        event = {"event": "warning", "code": "retention", "message": text}
        await self._database.change(lambda s: s.warn(job, event))
        self._watchers.tell(job)

    async def _drop_old_frames(self) -> None:
        for owner, name, _, _ in await self._database.read(lambda s: s.unused_frames(self._config.keep_s)):
            await self._drop_frame(owner, name)

    async def _tidy(self) -> None:
        receiving = set(self._database.now.in_state("receiving"))
        await self._disk.write(lambda: self._frames.remove_parts(receiving))
        await self._database.tidy()
        await self.take_ballast()

    async def _drop_frames(self, wanted_bytes: int, owner: str | None, keep: set[str]) -> int:
        """Drop unused frames, longest unused first, until that many bytes are free; returns how many are."""
        freed = 0
        for whose, name, size, fingerprint in await self._database.read(lambda s: s.unused_frames(-1.0, owner)):
            if freed >= wanted_bytes:
                break
            if fingerprint not in keep:
                await self._drop_frame(whose, name)
                freed += size
        return freed

    async def _drop_frame(self, owner: str, name: str) -> None:
        """Forget a frame, then delete it: a file that nobody knows is garbage, a row without its file is a lie."""
        await self._database.change(lambda s: s.forget_frame(owner, name))
        await self._disk.do(lambda: self._frames.remove(owner, name))

    async def _note_fetched(self, job: str) -> None:
        with contextlib.suppress(VoidError):
            await self._database.change(lambda s: s.set_fetched(job), durable=False)

    def _arrived(self) -> int:
        """Bytes that lie in files which are on their way."""
        return self._frames.part_bytes()
