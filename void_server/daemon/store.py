"""The truth about every job: one sqlite database that survives power loss; what it says is so, nothing else is.

What comes in: what was asked and what happened. What goes out: `JobStatus`, rows. It does not know sockets, workers or
the bytes of a file (`frames.py` and `jobfolder.py` keep those). Used by the server's own thread only.

WAL with synchronous=FULL: once a call returns, the change is on the disk (`keep_frame` apart). Measured cost of a
transaction: 0.2 ms on an idle disk, 4 ms, and up to 19 ms, on one that takes an upload.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from void_server.wire.errors import JobNotFoundError, LimitError, SettingsError, StoreError, VoidError
from void_server.wire.errors import from_wire as error_from_wire
from void_server.wire.errors import to_wire as error_to_wire
from void_server.wire.jobs import JobStatus
from void_server.wire.messages import FINAL, LIMITS

_SCHEMA = """
create table if not exists meta (name text primary key, value text not null);
create table if not exists jobs (
    job text primary key, owner text not null, request text not null, asked text not null, name text not null,
    settings text not null, state text not null, created real not null, changed real not null,
    queued integer not null default 0, attempt integer not null default 0, crashes integer not null default 0,
    error text, warnings text not null default '[]', unique (owner, request)
);
create table if not exists files (
    job text not null references jobs on delete cascade, number integer not null, role text not null,
    frame integer not null, name text not null, size integer not null, fingerprint text not null,
    mtime_ns integer not null, path text, held text, primary key (job, number)
);
create index if not exists files_by_held on files (held);
create table if not exists frames (
    owner text not null, name text not null, size integer not null, fingerprint text not null,
    crc32 integer not null, sha256 text, verified integer not null default 0, used real not null,
    primary key (owner, name)
);
create index if not exists frames_by_fingerprint on frames (owner, fingerprint);
create index if not exists frames_by_hash on frames (owner, sha256);
create table if not exists events (
    job text not null references jobs on delete cascade, seq integer not null, event text not null,
    primary key (job, seq)
);
create table if not exists results (
    job text not null references jobs on delete cascade, attempt integer not null, name text not null,
    size integer not null, sha256 text not null, primary key (job, attempt, name)
);
"""
_VERSION = "2"


class JobFile(NamedTuple):
    """One file of a job as it was asked for."""

    number: int
    role: str
    frame: int
    name: str
    size: int
    fingerprint: str
    mtime_ns: int
    path: str | None
    """Where the daemon itself sees it, under a trusted root; None where the bytes travel."""
    held: str | None
    """The frame that holds its content; None until it has come."""


class Store:
    """The database. Every method is one transaction."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError if the database can't be opened or is of another version."""
        with _disk():
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma foreign_keys = on")
            self._db.executescript(_SCHEMA)
            self._db.execute("insert or ignore into meta values ('version', ?)", (_VERSION,))
            version = self._db.execute("select value from meta where name = 'version'").fetchone()[0]
        if version != _VERSION:
            raise StoreError(f"{path} is of store version {version}, not {_VERSION}.", "Use another --data.")

    def close(self) -> None:
        self._db.close()

    def submit(self, owner: str, request: str, asked: dict[str, Any], files: Sequence[JobFile]) -> str:
        """Keep a new job in `receiving`, or find the one this owner already has under `request`. Returns its id.

        Raises SettingsError where the request's id stands for another shot, LimitError for too many unfinished jobs.
        """
        text = json.dumps([asked, [[f.role, f.frame, f.size, f.fingerprint] for f in files]], sort_keys=True)
        with self._transaction() as db:
            row = db.execute("select job, asked from jobs where owner = ? and request = ?", (owner, request)).fetchone()
            if row:
                if row[1] != text:
                    raise SettingsError(f"Request {request} already stands for another shot.", "Use a new request id.")
                return str(row[0])
            open_ = "select count(*) from jobs where owner = ? and state in ('receiving', 'queued', 'running')"
            if db.execute(open_, (owner,)).fetchone()[0] >= LIMITS["queued_jobs"].value:
                raise LimitError(f"{LIMITS['queued_jobs'].value} of your jobs are unfinished.", "Cancel some, or wait.")
            now = time.time()
            job = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + uuid.uuid4().hex[:8]
            db.execute(
                "insert into jobs (job, owner, request, asked, name, settings, state, created, changed)"
                " values (?, ?, ?, ?, ?, ?, 'receiving', ?, ?)",
                (job, owner, request, text, asked["name"], json.dumps(asked["settings"]), now, now),
            )
            db.executemany("insert into files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [(job, *f) for f in files])
            self._add_event(db, job, {"event": "state", "state": "receiving"})
        return job

    def find(self, owner: str, request: str) -> str | None:
        """The job that this owner submitted under `request`, if any."""
        row = _first(self._select("select job from jobs where owner = ? and request = ?", (owner, request)))
        return str(row[0]) if row else None

    def owner(self, job: str) -> str:
        """Whose job it is. Raises JobNotFoundError."""
        return str(self._row(job, "owner"))

    def settings(self, job: str) -> dict[str, Any]:
        return dict(json.loads(self._row(job, "settings")))

    def files(self, job: str) -> list[JobFile]:
        columns = ", ".join(JobFile._fields)
        return [JobFile(*r) for r in self._select(f"select {columns} from files where job = ? order by number", (job,))]

    def bind(self, job: str, bound: Iterable[tuple[int, str]]) -> None:
        """Say which frames hold some of a job's files; rows are (number, name)."""
        with self._transaction() as db:
            rows = [(name, job, number) for number, name in bound]
            db.executemany("update files set held = ? where job = ? and number = ?", rows)
            db.execute("update jobs set changed = ? where job = ?", (time.time(), job))

    def status(self, job: str) -> JobStatus:
        """One job as the database knows it: without the passing progress. Raises JobNotFoundError."""
        row = _first(self._select(f"{_STATUS} where job = ?", (job,)))
        if row is None:
            raise JobNotFoundError(f"There is no job {job} of yours.", "See: void-server status.", job=job)
        return _to_status(row)

    def statuses(self, owner: str) -> list[JobStatus]:
        """An owner's jobs, newest first."""
        found = self._select(
            f"{_STATUS} where owner = ? order by created desc limit ?", (owner, LIMITS["listed_jobs"].value)
        )
        return [_to_status(row) for row in found]

    def in_state(self, *states: str) -> list[str]:
        """Jobs in these states, those first that were queued first."""
        marks = ", ".join("?" * len(states))
        found = self._select(f"select job from jobs where state in ({marks}) order by queued, created", states)
        return [row[0] for row in found]

    def move(self, job: str, to: str, *, since: Sequence[str], error: VoidError | None = None) -> bool:
        """Change a job's state, if it is in one of `since`; whether it was. Adds the event that says so."""
        with self._transaction() as db:
            fields = json.dumps(error_to_wire(error)) if error else None
            marks = ", ".join("?" * len(since))
            queued = (
                ", queued = case queued when 0 then (select max(queued) + 1 from jobs) else queued end"
                if to == "queued"
                else ""
            )
            changed = db.execute(
                f"update jobs set state = ?, error = ?, changed = ?{queued} where job = ? and state in ({marks})",
                (to, fields, time.time(), job, *since),
            ).rowcount
            if changed:
                event = {"event": "state", "state": to}
                self._add_event(db, job, {**event, "error": error_to_wire(error)} if error else event)
        return bool(changed)

    def begin_attempt(self, job: str) -> int | None:
        """Queued becomes running, under a new attempt number; None if the job is no longer queued."""
        with self._transaction() as db:
            moved = db.execute(
                "update jobs set state = 'running', attempt = attempt + 1, changed = ?"
                " where job = ? and state = 'queued'",
                (time.time(), job),
            ).rowcount
            if not moved:
                return None
            attempt = int(db.execute("select attempt from jobs where job = ?", (job,)).fetchone()[0])
            self._add_event(db, job, {"event": "state", "state": "running", "attempt": attempt})
        return attempt

    def crashed(self, job: str) -> int:
        """Count a crash of whoever worked on the job; returns how many there were since it last finished a frame."""
        with self._transaction() as db:
            db.execute("update jobs set crashes = crashes + 1 where job = ?", (job,))
            return int(db.execute("select crashes from jobs where job = ?", (job,)).fetchone()[0])

    def carry_results(self, job: str, attempt: int, latest: int, names: Iterable[str]) -> None:
        """Files of the attempt `latest` that now stand in this one, too."""
        with self._transaction() as db:
            db.executemany(
                "insert or ignore into results select job, ?, name, size, sha256 from results"
                " where job = ? and attempt = ? and name = ?",
                [(attempt, job, latest, name) for name in names],
            )

    def add_results(self, job: str, attempt: int, files: Iterable[Sequence[Any]], event: dict[str, Any]) -> None:
        """Finished files as (name, size, sha256), with the event that tells of them; progress forgives crashes."""
        with self._transaction() as db:
            rows = [(job, attempt, *file) for file in files]
            db.executemany("insert or replace into results values (?, ?, ?, ?, ?)", rows)
            db.execute("update jobs set crashes = 0 where job = ?", (job,))
            if event:
                self._add_event(db, job, event)

    def results(self, job: str) -> list[tuple[str, int, str]]:
        """Finished files of the job's current attempt, by name."""
        found = self._select(
            "select results.name, size, sha256 from results join jobs using (job, attempt)"
            " where job = ? order by results.name",
            (job,),
        )
        return [(row[0], row[1], row[2]) for row in found]

    def drop_results(self, job: str) -> None:
        with self._transaction() as db:
            db.execute("delete from results where job = ?", (job,))

    def add_event(self, job: str, event: dict[str, Any]) -> None:
        with self._transaction() as db:
            if event.get("event") == "warning":
                warnings = json.loads(self._row(job, "warnings"))
                text = json.dumps([*warnings, str(event.get("message", ""))][:100])
                db.execute("update jobs set warnings = ? where job = ?", (text, job))
            self._add_event(db, job, event)

    def events(self, job: str, after: int, limit: int = 100) -> list[tuple[int, dict[str, Any]]]:
        """Lasting events with a number above `after`, in order."""
        found = self._select(
            "select seq, event from events where job = ? and seq > ? order by seq limit ?", (job, after, limit)
        )
        return [(row[0], json.loads(row[1])) for row in found]

    def holds(self, owner: str, name: str) -> bool:
        """Whether a frame of this name is held."""
        return bool(self._select("select 1 from frames where owner = ? and name = ?", (owner, name)))

    def frame_like(self, owner: str, size: int, fingerprint: str, sums: tuple[str, int]) -> str | None:
        """The frame that holds the content of these sums (sha256, crc32), if any does.

        A frame whose hash is not known yet, and which nothing tells from this content, gets the hash as its sender's
        word: the worker that verifies the frame takes it for damaged should it have another one.
        """
        query = (
            "select name from frames where owner = ? and size = ?"
            " and (sha256 = ? or (sha256 is null and crc32 = ? and fingerprint = ?)) order by sha256 is null limit 1"
        )
        row = _first(self._select(query, (owner, size, *sums, fingerprint)))
        if row is None:
            return None
        with self._transaction() as db:
            db.execute("update frames set sha256 = ? where owner = ? and name = ?", (sums[0], owner, row[0]))
        return str(row[0])

    def knows_fingerprint(self, owner: str, fingerprint: str) -> bool:
        found = self._select("select 1 from frames where owner = ? and fingerprint = ?", (owner, fingerprint))
        return bool(found)

    def keep_frame(self, job: str, number: int, name: str, crc32: int) -> None:
        """A file of a job lies on the disk as frame `name`, synced, with the checksum that its sender gave.

        The one change that the next one makes durable: whoever pulls the plug before `start` sends some files again.
        """
        with self._transaction("normal") as db:
            db.execute(
                "insert or ignore into frames select owner, ?, files.size, fingerprint, ?, null, 0, ? from files"
                " join jobs using (job) where job = ? and number = ?",
                (name, crc32, time.time(), job, number),
            )
            db.execute("update files set held = ? where job = ? and number = ?", (name, job, number))
            db.execute("update jobs set changed = ? where job = ?", (time.time(), job))

    def unverified(self, job: str) -> dict[str, tuple[int, str | None]]:
        """Frames among the job's files that no worker has checked yet: (crc32, sha256 if a sender gave it) by name."""
        found = self._select(
            "select frames.name, crc32, sha256 from files join jobs using (job)"
            " join frames on frames.owner = jobs.owner and frames.name = held where job = ? and not verified",
            (job,),
        )
        return {row[0]: (row[1], row[2]) for row in found}

    def verified(self, owner: str, hashes: Mapping[str, str]) -> None:
        """A worker found these frames, by name, to be what was sent, and to have these hashes."""
        with self._transaction() as db:
            rows = [(sha256, time.time(), owner, name) for name, sha256 in hashes.items()]
            db.executemany("update frames set verified = 1, sha256 = ?, used = ? where owner = ? and name = ?", rows)

    def forget_frame(self, owner: str, name: str) -> None:
        with self._transaction() as db:
            db.execute("delete from frames where owner = ? and name = ?", (owner, name))

    def used_bytes(self, owner: str) -> int:
        """Bytes of an owner's frames, held and still expected."""
        held = _first(self._select("select coalesce(sum(size), 0) from frames where owner = ?", (owner,)))[0]
        expected = self._select(
            "select coalesce(sum(size), 0) from files join jobs using (job)"
            " where owner = ? and state = 'receiving' and held is null and path is null",
            (owner,),
        )[0][0]
        return int(held) + int(expected)

    def unused_frames(self, before: float, owner: str | None = None) -> list[tuple[str, str, int]]:
        """Frames (owner, name, size) that no unfinished job needs and nobody used since, longest unused first."""
        found = self._select(
            "select owner, name, size from frames where used < ? and (? is null or owner = ?) and not exists ("
            " select 1 from files join jobs using (job) where held = frames.name"
            " and jobs.owner = frames.owner and state in ('receiving', 'queued', 'running')) order by used",
            (before, owner, owner),
        )
        return [(row[0], row[1], row[2]) for row in found]

    def old_jobs(self, before: float, *states: str) -> list[str]:
        """Jobs in these states that have not changed since."""
        marks = ", ".join("?" * len(states))
        found = self._select(f"select job from jobs where changed < ? and state in ({marks})", (before, *states))
        return [row[0] for row in found]

    def forget_job(self, job: str) -> None:
        with self._transaction() as db:
            db.execute(f"delete from jobs where job = ? and state in ({', '.join('?' * len(FINAL))})", (job, *FINAL))

    def _row(self, job: str, column: str) -> Any:
        row = _first(self._select(f"select {column} from jobs where job = ?", (job,)))
        if row is None:
            raise JobNotFoundError(f"There is no job {job} of yours.", "See: void-server status.", job=job)
        return row[0]

    @staticmethod
    def _add_event(db: sqlite3.Connection, job: str, event: dict[str, Any]) -> None:
        db.execute(
            "insert into events select ?, coalesce(max(seq), 0) + 1, ? from events where job = ?",
            (job, json.dumps(event), job),
        )

    def _select(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with _disk():
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self, synchronous: str = "full") -> Iterator[sqlite3.Connection]:
        with _disk():
            self._db.execute(f"pragma synchronous = {synchronous}")
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")


_STATUS = (
    "select job, name, state, created, attempt, error, warnings,"
    " (select count(*) from results r where r.job = jobs.job and r.attempt = jobs.attempt and r.name like 'clean.%'),"
    " (select count(*) from jobs o where jobs.state = 'queued' and o.state = 'queued' and o.queued <= jobs.queued)"
    " from jobs"
)


def _to_status(row: Sequence[Any]) -> JobStatus:
    job, name, state, created, attempt, error, warnings, frames_done, position = row
    return JobStatus(
        job=job,
        name=name,
        state=state,
        created=created,
        attempt=attempt,
        error=error_from_wire(json.loads(error)) if error else None,
        warnings=tuple(json.loads(warnings)),
        frames_done=frames_done,
        position=position,
    )


def _first(rows: list[Any]) -> Any:
    return rows[0] if rows else None


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Turn what sqlite raises into our error."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"The daemon's database can't be used: {error}.", "Free space on its disk.") from error
