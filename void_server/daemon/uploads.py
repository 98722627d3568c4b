"""How a shot's files come in: asked for, offered by content, sent in chunks, and queued once all are here.

What comes in: checked messages and whose they are. What goes out: fields of answers. It knows the store, the disk and
the scheduler, but no socket.

Chunks of a file are handed to the disk in the order in which they came, and answered when they lie there. A job takes
one `start` at a time, and no file once one began: what a worker may read already is never touched again.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import re
from typing import Any

from void_server.daemon.config import DaemonConfig
from void_server.daemon.files.disk import Disk
from void_server.daemon.files.frames import FrameFolder, Part, check_hash, trusted_path
from void_server.daemon.files.retention import Retention
from void_server.daemon.scheduling.scheduler import Scheduler
from void_server.daemon.store.database import Database
from void_server.daemon.store.frame_table import JobFile
from void_server.daemon.watchers import Peer
from void_server.wire.errors import JobCancelledError, LimitError, ProtocolError, SettingsError
from void_server.wire.jobs import JobStatus
from void_server.wire.messages import LIMITS, Message, checked_row
from void_server.wire.shot import ROLES, ShotSettings, spoken_role

_WAITING_BYTES = 256 << 20
"""Received bytes that wait for the disk, all clients together; more are refused, to be sent again a little later."""
_OPEN_JOBS = 256


@dataclasses.dataclass
class _Open:
    """A job that is receiving, as the loop knows it."""

    owner: str
    files: list[JobFile]
    held: set[int]
    """Numbers of the files that are here."""


class Uploads:
    """Everything before a job is queued. Belongs to the loop's thread; nothing here waits for a disk inline."""

    def __init__(
        self,
        config: DaemonConfig,
        database: Database,
        frames: FrameFolder,
        disk: Disk,
        scheduler: Scheduler,
        retention: Retention,
    ) -> None:
        self._config = config
        self._database = database
        self._frames = frames
        self._disk = disk
        self._scheduler = scheduler
        self._retention = retention
        self._waiting_bytes = 0
        self._open: collections.OrderedDict[str, _Open] = collections.OrderedDict()
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    async def submit(self, peer: Peer, message: Message) -> tuple[JobStatus, list[int]]:
        """Keep a shot in `receiving`; returns its status and what `submit_reply` says of each file."""
        settings = ShotSettings.from_wire(message["settings"])
        self._scheduler.check_device(settings.device)
        rows = _checked_rows(message["files"])
        known = self._database.now.find(peer.owner, message.request)

        def look() -> tuple[list[JobFile], dict[int, int]]:
            """What only the disk can say: which files the daemon sees itself, and how far the others have come."""
            roots = self._config.trust
            files = [f._replace(path=trusted_path(f.path or "", f.size, f.mtime_ns, roots)) for f in rows]
            return files, self._frames.held(peer.owner, known) if known else {}

        files, held = await self._disk.do(look)
        asked = {"name": message["name"], "settings": settings.to_wire()}
        async with self._retention.admission:
            if known is None:
                await self._retention.make_room(peer.owner, files)
            job = await self._database.change(lambda s: s.submit(peer.owner, message.request, asked, files))
        status = self._scheduler.status(job)
        if status.state != "receiving":
            return status, [-1] * len(files)
        kept = await self._database.read(lambda s: (s.files(job), s.known_fingerprints(job)))
        return status, [_offset(file, held.get(file.number, 0), kept[1]) for file in kept[0]]

    async def bind(self, peer: Peer, message: Message) -> list[list[int]]:
        """Offers by content; returns [number, offset] of the files to send after all."""
        job, offered = message["job"], {}
        async with self._turn(job):
            job_open = await self._receiving(peer, job)
            for row in message["files"]:
                number, sha256, crc32 = checked_row(row, int, str, int)
                _check_number(job, number, job_open)
                if not 0 <= crc32 < 1 << 32:
                    raise ProtocolError(f"The checksum of file {number} is out of bounds.")
                offered[number] = (check_hash(sha256), crc32)
            lacking = await self._database.change(lambda s: s.bind(job, offered))
            job_open.held |= offered.keys() - lacking
        return [[number, 0] for number in sorted(lacking)]

    async def put(self, peer: Peer, message: Message) -> dict[str, Any]:
        """One chunk; returns the fields of `put_reply` once it lies on the disk, synced where it was the last."""
        job, number, offset = message["job"], message["file"], message["offset"]
        crc32, data = message.fields.get("crc32"), memoryview(message.buffer or b"")
        part = Part(peer.owner, job, number)
        async with self._turn(job):
            job_open = await self._receiving(peer, job)
            file = _check_number(job, number, job_open)
            if offset + len(data) > file.size or (crc32 is not None and offset + len(data) != file.size):
                raise ProtocolError(
                    f"A chunk reaches beyond its file of {file.size} bytes.", "The file changed meanwhile."
                )
            if number in job_open.held:
                # The answer to the first time was lost. A frame that jobs may read already is never written again.
                return {"file": number, "offset": file.size, "again": False}
            if self._waiting_bytes + len(data) > _WAITING_BYTES:
                return {"file": number, "offset": 0, "again": True}
            self._waiting_bytes += len(data)

            def write() -> int:
                self._retention.check_reserve(len(data))
                held = self._frames.append(part, offset, data)
                if crc32 is not None:
                    self._frames.let_go(part)
                return held

            # Handed over while it is this chunk's turn; awaited outside, so that others can follow.
            written = self._disk.write(write)
        try:
            held = await written
        finally:
            self._waiting_bytes -= len(data)
        if crc32 is None:
            return {"file": number, "offset": held, "again": held < offset + len(data)}
        whole = await self._disk.do(lambda: self._frames.finish(part, file.size))
        if whole:
            # The next durable change keeps it; whoever pulls the plug before `start` sends some files again.
            await self._database.change(lambda s: s.keep_frame(job, number, part.name, crc32), durable=False)
            job_open.held.add(number)
        return {"file": number, "offset": file.size if whole else 0, "again": not whole}

    async def start(self, peer: Peer, job: str) -> JobStatus:
        """All files are here: queue the job, once, however often this is asked; returns when that is durable."""
        async with self._turn(job):
            status = self._scheduler.status(job)
            if status.state != "receiving":
                return status
            files = await self._database.read(lambda s: s.files(job))
            lacking = [f for f in files if not f.path and not f.held]
            if lacking:
                raise ProtocolError(
                    f"{len(lacking)} files were not sent, {lacking[0].role} frame {lacking[0].frame} first.",
                    "Submit again: only these travel.",
                )
            self._open.pop(job, None)
            await self._scheduler.enqueue(job, files)
        return self._scheduler.status(job)

    async def cancel(self, job: str) -> None:
        """Nobody wants the job: after whatever is being done to its files."""
        async with self._turn(job):
            self._open.pop(job, None)
            await self._scheduler.cancel(job)

    async def _receiving(self, peer: Peer, job: str) -> _Open:
        """A job of the peer's that takes files. Raises JobNotFoundError, or says that the time for sending is over."""
        found = self._open.get(job)
        if found is None:
            status = self._database.now.status(job)
            if status.state == "cancelled":
                raise JobCancelledError(f"Job {job} is cancelled.", "Submit the shot again.", job=job)
            if status.state != "receiving":
                raise ProtocolError(f"Job {job} is {status.state}; it takes no files.", "Ask for its status.")
            files = await self._database.read(lambda s: s.files(job))
            found = _Open(peer.owner, files, {f.number for f in files if f.held or f.path})
            self._open[job] = found
            if len(self._open) > _OPEN_JOBS:
                self._open.popitem(last=False)
        return found

    def _turn(self, job: str) -> _Turn:
        return _Turn(self._turns, job)


class _Turn:
    """A job's requests that change it, one after the other, in the order in which they came."""

    def __init__(self, turns: dict[str, tuple[asyncio.Lock, int]], job: str) -> None:
        self._turns = turns
        self._job = job

    async def __aenter__(self) -> None:
        lock, users = self._turns.get(self._job) or (asyncio.Lock(), 0)
        self._turns[self._job] = lock, users + 1
        await lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        lock, users = self._turns[self._job]
        lock.release()
        if users == 1:
            del self._turns[self._job]
        else:
            self._turns[self._job] = lock, users - 1


def _offset(file: JobFile, held: int, known: set[str]) -> int:
    """-1 the file is here, -2 it may be here, else from which byte on it is lacking."""
    if file.path or file.held:
        return -1
    if not held and file.fingerprint in known:
        return -2
    return min(held, file.size)


def _check_number(job: str, number: int, found: _Open) -> JobFile:
    if not 0 <= number < len(found.files):
        raise ProtocolError(f"Job {job} has {len(found.files)} files; there is no number {number}.")
    return found.files[number]


def _checked_rows(rows: list[Any]) -> list[JobFile]:
    """The files of a `submit`; raises ProtocolError, LimitError, SettingsError."""
    files, seen = [], set()
    for number, row in enumerate(rows):
        role, frame, name, size, fingerprint, mtime_ns, path = checked_row(row, str, int, str, int, str, int, str)
        if role not in ROLES or not re.fullmatch(r"[0-9a-f]{32}", fingerprint) or not abs(frame) < 2**31:
            raise ProtocolError(f"File {number} of the shot is not described as the protocol asks.")
        if not 0 <= size <= LIMITS["file_bytes"].value:
            raise LimitError(f"{spoken_role(role)} frame {frame} is {size} bytes long.", "Such a file is not taken.")
        if (role, frame) in seen:
            raise SettingsError(f"{spoken_role(role)} frame {frame} is given twice.", "Give each frame once.")
        if not abs(mtime_ns) < 2**63 or len(name) > 255:
            raise ProtocolError(f"File {number} of the shot has no usable name or time.")
        seen.add((role, frame))
        files.append(JobFile(number, role, frame, name, size, fingerprint, mtime_ns, path, None))
    return files
