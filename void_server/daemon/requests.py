"""What the daemon answers to each message of the protocol.

What comes in: checked messages and whose they are. What goes out: the answer's fields, awaited. It knows the store,
the uploads and the scheduler, but no socket: `Answer` is sent by whoever asked for it.

Whose a job is decides about everything: an owner is a client's public key, and another's job does not exist.
Administrators list, watch, cancel and drop everybody's jobs; they fetch only their own.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import void_server
from void_server.daemon.config import DaemonConfig
from void_server.daemon.files.disk import Disk
from void_server.daemon.files.jobfolder import JobFolders
from void_server.daemon.files.retention import Retention
from void_server.daemon.network.audit import Audit
from void_server.daemon.scheduling.scheduler import Scheduler
from void_server.daemon.store.database import Database
from void_server.daemon.uploads import Uploads
from void_server.daemon.watchers import Peer, Watchers
from void_server.wire.errors import JobNotFoundError, ProtocolError, RefusedError, SettingsError, StoreError
from void_server.wire.jobs import JobStatus
from void_server.wire.messages import FINAL, KINDS, LIMITS, PROTOCOL, Buffer, Message
from void_server.wire.shot import ShotSettings
from void_server.wire.transfer import RESULT_NAME

_LISTED_BYTES = LIMITS["header_bytes"].value // 2
"""Size at which a list of jobs ends and the next answer has the rest."""


class Piece(NamedTuple):
    """Bytes of a file, which are read once whoever asked has room for them: hundreds may be asked for at a time."""

    size: int
    read: Callable[[], Awaitable[Buffer]]


class Answer(NamedTuple):
    """What answers a request. `after` runs once it was sent."""

    fields: dict[str, Any]
    piece: Piece | None = None
    after: Callable[[], None] | None = None


class Requests:
    """Answers every kind of request."""

    def __init__(
        self,
        config: DaemonConfig,
        database: Database,
        folders: JobFolders,
        disk: Disk,
        scheduler: Scheduler,
        uploads: Uploads,
        watchers: Watchers,
        retention: Retention,
        audit: Audit,
    ) -> None:
        self.boot_id = os.urandom(8).hex()
        self._config = config
        self._database = database
        self._folders = folders
        self._disk = disk
        self._scheduler = scheduler
        self._uploads = uploads
        self._watchers = watchers
        self._retention = retention
        self._audit = audit
        self._fetching: dict[tuple[bytes, str], None] = {}
        self._handlers: dict[str, Callable[[Peer, Message], Awaitable[Answer]]] = {
            "hello": self._hello,
            "submit": self._submit,
            "bind": self._bind,
            "put": self._put,
            "start": self._start,
            "status": self._status,
            "jobs": self._jobs,
            "watch": self._watch,
            "cancel": self._cancel,
            "results": self._results,
            "get": self._get,
            "drop": self._drop,
        }

    async def answer(self, peer: Peer, message: Message) -> Answer:
        """The answer to one message. Raises VoidError for what can't be done."""
        handler = self._handlers.get(message.type)
        if handler is None:
            raise ProtocolError(f"Only a daemon sends '{message.type}'.", "Send a request.")
        return await handler(peer, message)

    def _own(self, peer: Peer, job: str, *, manage: bool = False) -> str:
        """The job's id, if it is the peer's, or if administrators may do this with anybody's.

        Raises JobNotFoundError, the same for another's job and for none.
        """
        if self._database.now.owner(job) != peer.owner and not (manage and peer.admin):
            raise JobNotFoundError(f"There is no job {job} of yours.", "See: void-server status.", job=job)
        return job

    def _about(self, job: str) -> Answer:
        return Answer({"job": self._scheduler.status(job).to_wire()})

    async def _hello(self, peer: Peer, message: Message) -> Answer:
        if PROTOCOL not in message["protocols"]:
            theirs = ", ".join(str(p)[:8] for p in message["protocols"])
            raise ProtocolError(
                f"This daemon speaks protocol {PROTOCOL}, the client {theirs}.", "Update the older of the two."
            )
        limits = {name: limit.value for name, limit in LIMITS.items()}
        return Answer(
            {
                "protocol": PROTOCOL,
                "server_version": void_server.__version__,
                "boot_id": self.boot_id,
                "limits": {**limits, **self._config.limits()},
                "engines": self._scheduler.engines,
                "devices": list(self._config.devices),
                "time": time.time(),
                "settings": list(ShotSettings().to_wire()),
            }
        )

    async def _submit(self, peer: Peer, message: Message) -> Answer:
        status, offsets = await self._uploads.submit(peer, message)
        self._audit.note("submit", peer, job=status.job, name=status.name, files=len(offsets))
        return Answer({"job": status.to_wire(), "offsets": offsets})

    async def _bind(self, peer: Peer, message: Message) -> Answer:
        self._own(peer, message["job"])
        return Answer({"lacking": await self._uploads.bind(peer, message)})

    async def _put(self, peer: Peer, message: Message) -> Answer:
        self._own(peer, message["job"])
        return Answer(await self._uploads.put(peer, message))

    async def _start(self, peer: Peer, message: Message) -> Answer:
        status = await self._uploads.start(peer, self._own(peer, message["job"]))
        return Answer({"job": status.to_wire()})

    async def _status(self, peer: Peer, message: Message) -> Answer:
        return self._about(self._own(peer, message["job"], manage=True))

    async def _jobs(self, peer: Peer, message: Message) -> Answer:
        everybody = bool(message.fields.get("all"))
        if everybody and not peer.admin:
            raise RefusedError("Only administrators list everybody's jobs.", "void-server keys allow KEY --admin.")
        owner, after = (None if everybody else peer.owner), message.fields.get("after") or ""
        statuses: list[JobStatus] = await self._database.read(lambda s: s.statuses(owner, after))
        listed: list[dict[str, Any]] = []
        size = 0
        for status in statuses:
            fields = self._scheduler.with_progress(status).to_wire()
            # No text is shorter packed than its characters, nor longer than four bytes for each.
            size += 512 + 4 * sum(len(str(value)) for value in fields.values())
            if listed and size > _LISTED_BYTES:
                return Answer({"jobs": listed, "more": listed[-1]["job"]})
            listed.append(fields)
        full = len(statuses) == LIMITS["listed_jobs"].value
        return Answer({"jobs": listed, "more": listed[-1]["job"] if full else ""})

    async def _watch(self, peer: Peer, message: Message) -> Answer:
        job = self._own(peer, message["job"], manage=True)
        after = message["after"]
        return self._about(job)._replace(after=lambda: self._watchers.add(peer, message.request, job, after))

    async def _cancel(self, peer: Peer, message: Message) -> Answer:
        job = self._own(peer, message["job"], manage=True)
        self._audit.note("cancel", peer, job=job)
        await self._uploads.cancel(job)
        return self._about(job)

    async def _results(self, peer: Peer, message: Message) -> Answer:
        job = self._own(peer, message["job"])
        rows = await self._database.read(lambda s: s.results(job))
        return Answer({"job": self._scheduler.status(job).to_wire(), "files": [list(row) for row in rows]})

    async def _get(self, peer: Peer, message: Message) -> Answer:
        job = self._own(peer, message["job"])
        name, offset, length = message["name"], message["offset"], message["length"]
        size = self._database.now.result_size(job, name) if RESULT_NAME.fullmatch(name) else None
        if size is None:
            raise JobNotFoundError(f"Job {job} has no finished file {name}.", "Ask which it has.", job=job)
        path = self._folders.attempt(job, self._database.now.status(job).attempt) / name
        if (peer.identity, job) not in self._fetching:
            # One line for each time that somebody comes for a job's files, not for each of them.
            self._fetching[peer.identity, job] = None
            if len(self._fetching) > 1000:
                del self._fetching[next(iter(self._fetching))]
            self._audit.note("fetch", peer, job=job)
        length = max(0, min(length, size - offset))

        async def read() -> bytes:
            found = await self._disk.do(lambda: _read(path, offset, length))
            if len(found) < length:
                raise StoreError(f"Result {name} is shorter than it was made.", "Submit the shot again.")
            return found

        whole = offset + length >= size
        return Answer(
            {"name": name, "offset": offset},
            Piece(length, read),
            (lambda: self._retention.fetched(job, name)) if whole else None,
        )

    async def _drop(self, peer: Peer, message: Message) -> Answer:
        job = self._own(peer, message["job"], manage=True)
        status = self._scheduler.status(job)
        if status.state not in FINAL:
            raise SettingsError(f"Job {job} is {status.state}.", f"Cancel it first: void-server cancel {job}", job=job)
        self._audit.note("drop", peer, job=job)
        await self._retention.drop(job)
        return Answer({"job": status.to_wire()})


def _read(path: Path, offset: int, length: int) -> bytes:
    # Whatever lies there now: a pipe would hold up its reader for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise StoreError(f"Result {path.name} is no file any more.", "Submit the shot again.")
        file.seek(offset)
        return file.read(length) or b""


def answer_kind(message: Message) -> str:
    """The type of the message that answers one."""
    return KINDS[message.type].answer
