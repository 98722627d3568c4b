"""The truth about every job: one database that survives power loss; what it says is so, nothing else is.

What comes in: what was asked and what happened. What goes out: `JobStatus`, rows. It does not know sockets, workers or
the bytes of a file (`frames.py` and `jobfolder.py` keep those). `database.py` says which thread changes things and
which ones only look.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from void_server.daemon.store.frame_table import FrameTable, JobFile
from void_server.daemon.store.sqlite_file import as_store_error, first
from void_server.wire.errors import JobNotFoundError, LimitError, SettingsError, VoidError
from void_server.wire.errors import from_wire as error_from_wire
from void_server.wire.errors import to_wire as error_to_wire
from void_server.wire.jobs import JobStatus
from void_server.wire.messages import FINAL, LIMITS

MOST_WARNING_CHARS = 1000


class Store(FrameTable):
    """The database. Every method is one transaction, or a part of the one that `batch` makes."""

    def _row(self, job: str, column: str) -> Any:
        row = first(self._select(f"select {column} from jobs where job = ?", (job,)))
        if row is None:
            raise JobNotFoundError(f"There is no job {job} of yours.", "See: void-server status.", job=job)
        return row[0]

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
                (job, owner, request, text, asked["name"], json.dumps(asked["settings"]), now, self.age()),
            )
            db.executemany("insert into files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [(job, *f) for f in files])
            self._add_event(db, job, {"event": "state", "state": "receiving"})
        return job

    def restore(self, *, files: Sequence[JobFile], results: Sequence[Sequence[Any]], **row: Any) -> None:
        """Put a job in, or back, as its folder tells of it; frames that it names are held, unread."""
        job, owner, state = row["job"], row["owner"], row["state"]
        with self._transaction() as db:
            # One owner's request names one job; another's folder must not take it away.
            taken = self.find(owner, row["request"])
            request = row["request"] if taken in (None, job) else job
            db.execute("delete from jobs where job = ?", (job,))
            error = json.dumps(row["error"]) if row["error"] else None
            db.execute(
                "insert into jobs (job, owner, request, asked, name, settings, state, created, changed, queued,"
                " attempt, error, warnings) values (?, ?, ?, ?, ?, ?, ?, ?, ?,"
                " (select coalesce(max(queued), 0) + 1 from jobs), ?, ?, ?)",
                (job, owner, request, row["asked"], row["name"], json.dumps(row["settings"]), state, row["created"],
                 self.age(), row["attempt"], error, json.dumps(row["warnings"])),
            )  # fmt: skip
            if state != "cancelled":
                db.executemany("insert into files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [(job, *f) for f in files])
                rows = [(job, row["attempt"], *result) for result in results]
                db.executemany("insert into results values (?, ?, ?, ?, ?)", rows)
            held = [(owner, f.held, f.size, f.fingerprint, self.age()) for f in files if f.held]
            db.executemany("insert or ignore into frames values (?, ?, ?, ?, -1, null, 0, ?)", held)
            db.execute(_COUNT_FRAMES, (job,))
            event: dict[str, Any] = {"event": "state", "state": state}
            # Whoever watched before has heard of numbers that nobody knows any more; none was as high as this.
            self._add_event(
                db, job, {**event, "error": row["error"]} if row["error"] else event, after=int(time.time())
            )

    def find(self, owner: str, request: str) -> str | None:
        """The job that this owner submitted under `request`, if any."""
        row = first(self._select("select job from jobs where owner = ? and request = ?", (owner, request)))
        return str(row[0]) if row else None

    def owner(self, job: str) -> str:
        """Whose job it is. Raises JobNotFoundError."""
        return str(self._row(job, "owner"))

    def state(self, job: str) -> str:
        """A job's state; "" where there is no such job."""
        row = first(self._select("select state from jobs where job = ?", (job,)))
        return str(row[0]) if row else ""

    def about(self, job: str) -> dict[str, Any]:
        """All that a job's folder must say for the job to be known again from it alone. Raises JobNotFoundError."""
        columns = "job, owner, request, asked, settings, created"
        row = first(self._select(f"select {columns} from jobs where job = ?", (job,)))
        if row is None:
            raise JobNotFoundError(f"There is no job {job} of yours.", "See: void-server status.", job=job)
        found = dict(zip(columns.split(", "), row))
        when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(found["created"]))
        return {**found, "when": when, "settings": json.loads(found["settings"])}

    def settings(self, job: str) -> dict[str, Any]:
        return dict(json.loads(self._row(job, "settings")))

    def files(self, job: str) -> list[JobFile]:
        columns = ", ".join(JobFile._fields)
        return [JobFile(*r) for r in self._select(f"select {columns} from files where job = ? order by number", (job,))]

    def bind(self, job: str, offered: Mapping[int, tuple[str, int]]) -> set[int]:
        """Give files of a job the frames that hold their content already; returns the numbers of the others.

        offered: (sha256, crc32) of some of the job's files, by number. Costs a look-up a file, one transaction in all.
        """
        with self._transaction() as db:
            owner, lacking = self.owner(job), set()
            files = {f.number: f for f in self.files(job)} if offered else {}
            for number, sums in offered.items():
                file = files[number]
                name = self.frame_like(owner, file.size, file.fingerprint, sums)
                if name:
                    db.execute("update files set held = ? where job = ? and number = ?", (name, job, number))
                else:
                    lacking.add(number)
            db.execute("update jobs set changed = ? where job = ?", (self.age(), job))
        return lacking

    def status(self, job: str) -> JobStatus:
        """One job as the database knows it: without the passing progress. Raises JobNotFoundError."""
        row = first(self._select(f"{_STATUS} where job = ?", (job,)))
        if row is None:
            raise JobNotFoundError(f"There is no job {job} of yours.", "See: void-server status.", job=job)
        return _to_status(row)

    def statuses(self, owner: str | None, after: str = "") -> list[JobStatus]:
        """An owner's jobs, or everybody's, newest first: those that follow the job `after`."""
        found = self._select(
            f"{_STATUS} where (? is null or owner = ?) and (? = '' or (created, job) < (select created, job from jobs"
            " where job = ?)) order by created desc, job desc limit ?",
            (owner, owner, after, after, LIMITS["listed_jobs"].value),
        )
        return [_to_status(row) for row in found]

    def queued(self) -> Iterator[tuple[str, str | None]]:
        """Jobs that wait for a device, those first that were queued first, with the device that they ask for."""
        with as_store_error():
            for job, settings in self._db.execute(
                "select job, settings from jobs where state = 'queued' order by queued, created"
            ):
                yield job, json.loads(settings).get("device")

    def in_state(self, *states: str) -> list[str]:
        """Jobs in these states, those first that were queued first."""
        marks = ", ".join("?" * len(states))
        found = self._select(f"select job from jobs where state in ({marks}) order by queued, created", states)
        return [row[0] for row in found]

    def move(self, job: str, to: str, *, since: Sequence[str], error: VoidError | None = None) -> bool:
        """Change a job's state, if it is in one of `since`; whether it was. Adds the event that says so.

        A cancelled job needs its list of files no more, and has no results from that moment on: nobody is offered a
        file that is about to go.
        """
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
                (to, fields, self.age(), job, *since),
            ).rowcount
            if changed and to == "done":
                current = "(select attempt from jobs where job = ?)"
                db.execute(f"delete from results where job = ? and attempt != {current}", (job, job))
            if changed and to == "cancelled":
                db.execute("delete from files where job = ?", (job,))
                db.execute("delete from results where job = ?", (job,))
                db.execute("update jobs set frames_done = 0 where job = ?", (job,))
            if changed:
                event = {"event": "state", "state": to}
                self._add_event(db, job, {**event, "error": error_to_wire(error)} if error else event)
        return bool(changed)

    def begin_attempt(self, job: str) -> int | None:
        """Queued becomes running, under a new attempt number; None if the job is no longer queued."""
        with self._transaction() as db:
            moved = db.execute(
                "update jobs set state = 'running', attempt = attempt + 1, frames_done = 0, changed = ?"
                " where job = ? and state = 'queued'",
                (self.age(), job),
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
            db.execute(_COUNT_FRAMES, (job,))

    def add_results(self, job: str, attempt: int, files: Iterable[Sequence[Any]], event: dict[str, Any]) -> None:
        """Finished files as (name, size, sha256), with the event that tells of them; progress forgives crashes.

        Of a job that was cancelled meanwhile nothing is kept.
        """
        with self._transaction() as db:
            if not db.execute("select 1 from jobs where job = ? and state = 'running'", (job,)).fetchone():
                return
            rows = [(job, attempt, *file) for file in files]
            db.executemany("insert or replace into results values (?, ?, ?, ?, ?)", rows)
            db.execute("update jobs set crashes = 0 where job = ?", (job,))
            db.execute(_COUNT_FRAMES, (job,))
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

    def result_size(self, job: str, name: str) -> int | None:
        """The size of one finished file of the job's current attempt; None where there is no such file."""
        found = self._select(
            "select size from results join jobs using (job, attempt) where job = ? and results.name = ?", (job, name)
        )
        return int(found[0][0]) if found else None

    def add_event(self, job: str, event: dict[str, Any]) -> None:
        with self._transaction() as db:
            if event.get("event") == "warning":
                warnings = json.loads(self._row(job, "warnings"))
                text = json.dumps([*warnings, str(event.get("message", ""))[:MOST_WARNING_CHARS]][:100])
                db.execute("update jobs set warnings = ? where job = ?", (text, job))
            self._add_event(db, job, event)

    def events(self, job: str, after: int, limit: int = 100) -> list[tuple[int, dict[str, Any]]]:
        """Lasting events with a number above `after`, in order."""
        found = self._select(
            "select seq, event from events where job = ? and seq > ? order by seq limit ?", (job, after, limit)
        )
        return [(row[0], json.loads(row[1])) for row in found]

    def set_fetched(self, job: str) -> None:
        """Somebody has had the job's last result file whole."""
        with self._transaction() as db:
            db.execute("update jobs set fetched = 1 where job = ?", (job,))

    def is_fetched(self, job: str) -> bool:
        return bool(self._row(job, "fetched"))

    def since_warning(self, job: str) -> float | None:
        """Seconds since it was said that the job's results will be dropped; None where it was not."""
        warned = self._row(job, "warned")
        return None if warned is None else self.age() - float(warned)

    def warn(self, job: str, event: dict[str, Any]) -> None:
        """Say, once, that the job's results will be dropped."""
        with self._transaction() as db:
            db.execute("update jobs set warned = ? where job = ?", (self.age(), job))
            self.add_event(job, event)

    def result_count(self, job: str) -> int:
        found = self._select("select count(*) from results join jobs using (job, attempt) where job = ?", (job,))
        return int(found[0][0])

    def old_jobs(self, older_than_s: float, *states: str) -> list[str]:
        """Jobs in these states that have not changed for so long."""
        marks = ", ".join("?" * len(states))
        found = self._select(
            f"select job from jobs where changed < ? and state in ({marks})",
            (self.age() - older_than_s, *states),
        )
        return [row[0] for row in found]

    def forget_job(self, job: str) -> None:
        with self._transaction() as db:
            db.execute(f"delete from jobs where job = ? and state in ({', '.join('?' * len(FINAL))})", (job, *FINAL))

    @staticmethod
    def _add_event(db: sqlite3.Connection, job: str, event: dict[str, Any], after: int = 0) -> None:
        db.execute(
            "insert into events select ?, coalesce(max(seq), ?) + 1, ? from events where job = ?",
            (job, after, json.dumps(event), job),
        )


_COUNT_FRAMES = (
    "update jobs set frames_done = (select count(*) from results where results.job = jobs.job"
    " and results.attempt = jobs.attempt and name >= 'clean.' and name < 'clean/') where job = ?"
)
_STATUS = (
    "select job, name, state, created, attempt, error, warnings,"
    " frames_done,"
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
