"""What the daemon answers to each message of the protocol.

What comes in: checked messages and whose they are. What goes out: answers, now or when the disk has done its part. It
knows the store, the disk and the scheduler, but no socket: `send` is given to it.

Whose a job is decides about everything: an owner is a client's public key, and another's job does not exist.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import void_server
from void_server.daemon.config import DaemonConfig
from void_server.daemon.disk import Disk
from void_server.daemon.frames import FrameFolder, Part, check_hash, trusted_path
from void_server.daemon.jobfolder import JobFolders
from void_server.daemon.scheduler import Scheduler
from void_server.daemon.store import JobFile, Store
from void_server.wire.errors import (
    JobCancelledError,
    JobNotFoundError,
    LimitError,
    ProtocolError,
    SettingsError,
    StoreError,
    VoidError,
    to_wire,
)
from void_server.wire.messages import KINDS, LIMITS, PROTOCOL, Buffer, Message
from void_server.wire.shot import ROLES, ShotSettings, spoken_role
from void_server.wire.transfer import RESULT_NAME

_WAITING_BYTES = 256 << 20
"""Received bytes that wait for the disk, all clients together; more are refused, to be sent again a little later."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """One connection: where answers go, and whose requests these are."""

    identity: bytes
    owner: str


Send = Callable[[Peer, str, str, Mapping[str, Any], "Buffer | None"], bool]
"""Sends (to, type, request, fields, buffer); false where the peer takes nothing more for now or is gone."""


class Requests:
    """Answers every kind of request. Runs on the loop's thread; nothing here waits for a disk."""

    def __init__(
        self,
        config: DaemonConfig,
        store: Store,
        frames: FrameFolder,
        folders: JobFolders,
        disk: Disk,
        scheduler: Scheduler,
        send: Send,
        watch: Callable[[Peer, str, str, int], None],
    ) -> None:
        self.boot_id = os.urandom(8).hex()
        self._config = config
        self._store = store
        self._frames = frames
        self._folders = folders
        self._disk = disk
        self._scheduler = scheduler
        self._send = send
        self._watch = watch
        self._waiting_bytes = 0
        self._receiving: dict[str, tuple[str, list[JobFile]]] = {}
        self._handlers: dict[str, Callable[[Peer, Message], None]] = {
            "hello": self._hello,
            "submit": self._submit,
            "bind": self._bind,
            "put": self._put,
            "start": self._start,
            "status": self._status,
            "jobs": self._jobs,
            "watch": self._watch_job,
            "cancel": self._cancel,
            "results": self._results,
            "get": self._get,
        }

    def handle(self, peer: Peer, message: Message) -> None:
        """Answer one message, in every case: what goes wrong is an `error` answer."""
        try:
            handler = self._handlers.get(message.type)
            if handler is None:
                raise ProtocolError(f"'{message.type}' is the daemon's to say.", "Send a request.")
            handler(peer, message)
        except VoidError as error:
            self.refuse(peer, message.request, error)

    def refuse(self, peer: Peer, request: str, error: VoidError) -> None:
        fields = to_wire(error)
        for name in ("message", "hint"):
            fields[name] = fields[name][: LIMITS["text_chars"].value]
        self._send(peer, "error", request, fields, None)

    def _answer(self, peer: Peer, message: Message, fields: Mapping[str, Any], buffer: Buffer | None = None) -> None:
        self._send(peer, KINDS[message.type].answer, message.request, fields, buffer)

    def _fail(self, peer: Peer, message: Message) -> Callable[[VoidError], None]:
        return lambda error: self.refuse(peer, message.request, error)

    def _own(self, peer: Peer, job: str) -> str:
        """The job's id, if it is the peer's. Raises JobNotFoundError, the same for another's job and for none."""
        if self._store.owner(job) != peer.owner:
            raise JobNotFoundError(f"There is no job {job} of yours.", "See: void-server status.", job=job)
        return job

    def _hello(self, peer: Peer, message: Message) -> None:
        if PROTOCOL not in message["protocols"]:
            theirs = ", ".join(str(p) for p in message["protocols"])
            raise ProtocolError(
                f"This daemon speaks protocol {PROTOCOL}, the client {theirs}.", "Update the older of the two."
            )
        limits = {name: limit.value for name, limit in LIMITS.items()}
        fields = {
            "protocol": PROTOCOL,
            "server_version": void_server.__version__,
            "boot_id": self.boot_id,
            "limits": {**limits, "quota_bytes": self._config.quota_bytes},
            "engines": self._scheduler.engines,
            "devices": list(self._config.devices),
            "time": time.time(),
        }
        self._answer(peer, message, fields)

    def _submit(self, peer: Peer, message: Message) -> None:
        settings = ShotSettings.from_wire(message["settings"])
        self._scheduler.check_device(settings.device)
        rows = _checked_rows(message["files"])
        known = self._store.find(peer.owner, message.request)

        def look() -> tuple[list[JobFile], dict[int, int]]:
            """What only the disk can say: which files the daemon sees itself, and how far the others have come."""
            roots = self._config.trust
            files = [f._replace(path=trusted_path(f.path or "", f.size, f.mtime_ns, roots)) for f in rows]
            return files, self._frames.held(peer.owner, known) if known else {}

        def keep(found: tuple[list[JobFile], dict[int, int]]) -> None:
            files, held = found
            if known is None:
                self._make_room(peer.owner, files)
            asked = {"name": message["name"], "settings": settings.to_wire()}
            job = self._store.submit(peer.owner, message.request, asked, files)
            status = self._scheduler.status(job)
            offsets = [-1] * len(files)
            if status.state == "receiving":
                offsets = [self._offset(peer.owner, f, held.get(f.number, 0)) for f in self._store.files(job)]
            self._answer(peer, message, {"job": status.to_wire(), "offsets": offsets})

        self._disk.do(look, keep, self._fail(peer, message))

    def _offset(self, owner: str, file: JobFile, held: int) -> int:
        """-1 the file is here, -2 it may be here, else from which byte on it is lacking."""
        if file.path or file.held:
            return -1
        if not held and self._store.knows_fingerprint(owner, file.fingerprint):
            return -2
        return min(held, file.size)

    def _make_room(self, owner: str, files: list[JobFile]) -> None:
        """Raise LimitError or StoreError now rather than in the middle of an upload that can't end well."""
        new = {f.fingerprint: f.size for f in files if not f.path}
        needed = sum(s for f, s in new.items() if not self._store.knows_fingerprint(owner, f))
        over = self._store.used_bytes(owner) + needed - self._config.quota_bytes
        if over > 0:
            for _, name, size in self._store.unused_frames(time.time(), owner):
                self.drop_frame(owner, name)
                over -= size
                if over <= 0:
                    break
            else:
                raise LimitError(
                    f"The shot is {needed / 1e9:.1f} GB, {over / 1e9:.1f} GB more than this daemon keeps for you.",
                    "Wait for your other jobs, cancel some, or have the daemon's --quota-gb raised.",
                )
        free = shutil.disk_usage(self._config.data).free
        if needed + self._config.reserve_bytes > free:
            raise StoreError(
                f"The shot is {needed / 1e9:.1f} GB; the daemon's disk has {free / 1e9:.1f} GB left.",
                "Free space there, or start the daemon with another --data.",
            )

    def drop_frame(self, owner: str, name: str) -> None:
        """Forget a frame, then delete it: a file that nobody knows is garbage, a row without its file is a lie."""
        self._store.forget_frame(owner, name)
        self._disk.do(lambda: self._frames.remove(owner, name), lambda _: None, lambda _: None)

    def _open(self, peer: Peer, job: str) -> list[JobFile]:
        """Files of a job that is receiving. Raises JobNotFoundError, or says that the time for sending is over."""
        if job not in self._receiving:
            self._own(peer, job)
            state = self._store.status(job).state
            if state == "cancelled":
                raise JobCancelledError(f"Job {job} is cancelled.", "Submit the shot again.", job=job)
            if state != "receiving":
                raise ProtocolError(f"Job {job} is {state}; it takes no files.", "Ask for its status.")
            if len(self._receiving) > 64:
                self._receiving.pop(next(iter(self._receiving)))
            self._receiving[job] = (peer.owner, self._store.files(job))
        owner, files = self._receiving[job]
        if owner != peer.owner:
            self._own(peer, job)
        return files

    def _file(self, peer: Peer, job: str, number: int) -> JobFile:
        files = self._open(peer, job)
        if number >= len(files):
            raise ProtocolError(f"Job {job} has {len(files)} files; there is no number {number}.")
        return files[number]

    def _bind(self, peer: Peer, message: Message) -> None:
        job, bound, lacking = message["job"], [], []
        self._open(peer, job)
        for row in message["files"]:
            number, sha256, crc32 = _row(row, int, str, int)
            file = self._file(peer, job, number)
            sums = (check_hash(sha256), crc32)
            name = self._store.frame_like(peer.owner, file.size, file.fingerprint, sums)
            if name:
                bound.append((number, name))
            else:
                lacking.append([number, 0])
        self._store.bind(job, bound)
        self._answer(peer, message, {"lacking": lacking})

    def _put(self, peer: Peer, message: Message) -> None:
        job, number, offset = message["job"], message["file"], message["offset"]
        crc32, data = message.fields.get("crc32"), memoryview(message.buffer or b"")
        file = self._file(peer, job, number)
        if offset + len(data) > file.size or (crc32 is not None and offset + len(data) != file.size):
            raise ProtocolError(f"A chunk reaches beyond its file of {file.size} bytes.", "The file changed meanwhile.")
        part = Part(peer.owner, job, number)
        if crc32 is not None and self._store.holds(peer.owner, part.name):
            # The answer to the first time was lost. A frame that jobs may read already is never written again.
            self._answer(peer, message, {"file": number, "offset": file.size, "again": False})
            return
        if self._waiting_bytes + len(data) > _WAITING_BYTES:
            self._answer(peer, message, {"file": number, "offset": 0, "again": True})
            return
        self._waiting_bytes += len(data)

        def write() -> int:
            held = self._frames.append(part, offset, data)
            if crc32 is not None:
                self._frames.let_go(part)
            return held

        def written(held: int) -> None:
            self._waiting_bytes -= len(data)
            if crc32 is not None:
                self._disk.do(lambda: self._frames.finish(part, file.size), finished, self._fail(peer, message))
            else:
                again = held < offset + len(data)
                self._answer(peer, message, {"file": number, "offset": held, "again": again})

        def finished(whole: bool) -> None:
            if whole:
                self._store.keep_frame(job, number, part.name, crc32 or 0)
            self._answer(peer, message, {"file": number, "offset": file.size if whole else 0, "again": not whole})

        def unwritten(error: VoidError) -> None:
            self._waiting_bytes -= len(data)
            self.refuse(peer, message.request, error)

        self._disk.write(write, written, unwritten)

    def _start(self, peer: Peer, message: Message) -> None:
        job = self._own(peer, message["job"])
        status = self._scheduler.status(job)
        if status.state != "receiving":
            self._answer(peer, message, {"job": status.to_wire()})
            return
        lacking = [f for f in self._store.files(job) if not f.path and not f.held]
        if lacking:
            raise ProtocolError(
                f"{len(lacking)} files were not sent, {lacking[0].role} frame {lacking[0].frame} first.",
                "Submit again: only these travel.",
            )
        self._receiving.pop(job, None)

        def queued() -> None:
            self._answer(peer, message, {"job": self._scheduler.status(job).to_wire()})

        self._scheduler.enqueue(job, queued, self._fail(peer, message))

    def _status(self, peer: Peer, message: Message) -> None:
        job = self._own(peer, message["job"])
        self._answer(peer, message, {"job": self._scheduler.status(job).to_wire()})

    def _jobs(self, peer: Peer, message: Message) -> None:
        statuses = [self._scheduler.with_progress(s).to_wire() for s in self._store.statuses(peer.owner)]
        self._answer(peer, message, {"jobs": statuses})

    def _watch_job(self, peer: Peer, message: Message) -> None:
        job = self._own(peer, message["job"])
        self._answer(peer, message, {"job": self._scheduler.status(job).to_wire()})
        self._watch(peer, message.request, job, message["after"])

    def _cancel(self, peer: Peer, message: Message) -> None:
        job = self._own(peer, message["job"])
        self._receiving.pop(job, None)
        self._scheduler.cancel(job)
        self._answer(peer, message, {"job": self._scheduler.status(job).to_wire()})

    def _results(self, peer: Peer, message: Message) -> None:
        job = self._own(peer, message["job"])
        rows = [list(row) for row in self._store.results(job)]
        self._answer(peer, message, {"job": self._scheduler.status(job).to_wire(), "files": rows})

    def _get(self, peer: Peer, message: Message) -> None:
        job = self._own(peer, message["job"])
        name, offset, length = message["name"], message["offset"], message["length"]
        status = self._store.status(job)
        if not RESULT_NAME.fullmatch(name) or all(row[0] != name for row in self._store.results(job)):
            raise JobNotFoundError(f"Job {job} has no finished file {name}.", "Ask which it has.", job=job)
        path = self._folders.attempt(job, status.attempt) / name

        def read() -> bytes:
            return _read(path, offset, length)

        def answer(piece: bytes) -> None:
            self._answer(peer, message, {"name": name, "offset": offset}, piece)

        self._disk.do(read, answer, self._fail(peer, message))


def _read(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(length) or b""


def _row(row: Any, *kinds: type) -> tuple[Any, ...]:
    """A row of a list in a header, checked; raises ProtocolError."""
    if not isinstance(row, list) or len(row) != len(kinds):
        raise ProtocolError(f"A row of {len(kinds)} was expected.", "Update the older of the two ends.")
    for value, kind in zip(row, kinds):
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ProtocolError(f"In a row, {type(value).__name__} stands for {kind.__name__}.")
    return tuple(row)


def _checked_rows(rows: list[Any]) -> list[JobFile]:
    """The files of a `submit`; raises ProtocolError, LimitError, SettingsError."""
    files, seen = [], set()
    for number, row in enumerate(rows):
        role, frame, name, size, fingerprint, mtime_ns, path = _row(row, str, int, str, int, str, int, str)
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
