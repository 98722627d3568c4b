"""What becomes of a data folder whose database was lost, damaged, or put back from an older copy.

What comes in: a data folder. What goes out: a database that knows every job that lies there. Nothing is deleted that
somebody may want: what can't be understood goes to `quarantine/`, for a person to look at. Frames that no job names
are copies of what clients still have; they go.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server.daemon.files.disk import Disk
from void_server.daemon.files.frames import FrameFolder
from void_server.daemon.files.jobfolder import JobFolders, link_name
from void_server.daemon.remarks import remark
from void_server.daemon.store.database import Database
from void_server.daemon.store.frame_table import JobFile
from void_server.wire.errors import StoreError, VoidError
from void_server.wire.messages import FINAL, STATES
from void_server.wire.transfer import look_at, sums_of


def open_database(data: Path, make_room: Callable[[], bool]) -> Database:
    """Open the store in a data folder; one that is no database any more is laid aside, and a new one begun.

    Blocks. Raises StoreError where the disk can't be used, or where a later void-server wrote the store.
    """
    path = data / "store.sqlite"
    try:
        return Database(path, make_room)
    except StoreError as error:
        cause = error.__cause__
        if not isinstance(cause, sqlite3.DatabaseError) or isinstance(cause, sqlite3.OperationalError):
            raise
        aside = _aside(data, "store")
        aside.mkdir(parents=True)
        for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
            with contextlib.suppress(FileNotFoundError):
                (data / name).replace(aside / name)
        remark(f"The database was damaged ({cause}); it lies in {aside}. Jobs are taken up from their folders.")
        return Database(path, make_room)


async def take_in_strays(data: Path, database: Database, folders: JobFolders, disk: Disk) -> None:
    """Make the store know the jobs whose folders it does not know, or knows from an earlier time."""
    for job in folders.dropped():
        # A daemon that went down while it dropped a job: the job is there whole, or it goes.
        if database.now.state(job) and folders.is_emptied(job):
            await database.change(lambda s, job=job: s.forget_job(job))  # type: ignore[misc]
        if database.now.state(job):
            folders.bring_back(job)
        else:
            await disk.do(lambda job=job: folders.remove(job))  # type: ignore[misc]
    for job in folders.all():
        state = database.now.state(job)
        if state in FINAL:
            continue
        try:
            found = await disk.do(lambda job=job: _read_folder(folders, data / "frames", job))  # type: ignore[misc]
        except (VoidError, OSError) as error:
            if state:
                continue
            await disk.do(lambda job=job, error=error: _lay_aside(data, folders, job, error))  # type: ignore[misc]
            continue
        if state and found["state"] not in FINAL:
            continue
        await database.change(lambda s, found=found: s.restore(**found))  # type: ignore[misc]
        remark(f"Job {job} was taken up from its folder: {found['state']}.")
    known = await database.read(lambda s: s.frame_names())
    await disk.do(lambda: _drop_unknown_frames(data / "frames", known))


def _read_folder(folders: JobFolders, frames: Path, job: str) -> dict[str, Any]:
    """A job as its folder tells of it, as `Store.restore` takes it. Raises StoreError, OSError."""
    folder = folders.of(job)
    try:
        about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        listed = json.loads((folder / "files.json").read_text(encoding="utf-8"))
        state, attempt = str(about.get("state", "queued")), int(about.get("attempt", 0))
        if about["job"] != job or state not in STATES:
            raise StoreError(f"{folder / 'job.json'} is not about {job}.")
        owner = str(about["owner"])
        files = _files(folders, FrameFolder(frames), owner, job, listed)
        settings = dict(about["settings"])
        name = str(about.get("name", ""))
        # Folders of earlier versions do not say under which request the job came: then it is its own.
        request, asked = str(about.get("request") or job)[:64], str(about.get("asked") or "")
        results: list[list[Any]] = []
        if state == "done":
            results = _results(folder, folder / "result")
        elif state not in FINAL:
            attempt = max([attempt, *(int(p.name[8:]) for p in folder.glob("attempt-*") if p.name[8:].isdigit())])
            results = _results(folder, folders.attempt(job, attempt))
            gone = [f for f in files if not (folder / f.role / link_name(f)).exists()]
            state = "failed" if gone else "queued"
            if gone:
                about["error"] = {"code": "store", "message": "The job's files are gone.", "hint": "Submit it again."}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"The folder of job {job} can't be read: {error!r}.") from error
    return {
        "job": job,
        "owner": owner,
        "request": request,
        "asked": asked,
        "name": name,
        "settings": settings,
        "state": state,
        "created": float(about.get("created") or 0.0),
        "attempt": attempt,
        "error": about.get("error"),
        "warnings": [str(w) for w in about.get("warnings") or []],
        "files": files,
        "results": results,
    }


def _files(folders: JobFolders, frames: FrameFolder, owner: str, job: str, listed: dict[str, Any]) -> list[JobFile]:
    found: list[JobFile] = []
    for role, of_role in listed.items():
        for frame, row in of_role.items():
            fingerprint, held = str(row.get("fingerprint") or ""), row.get("held")
            size, mtime_ns = int(row["size"]), int(row.get("mtime_ns") or 0)
            if not fingerprint and held and frames.path(owner, held).is_file():
                fingerprint = look_at(role, int(frame), frames.path(owner, held)).fingerprint
            number = int(row.get("number", len(found)))
            found.append(
                JobFile(number, role, int(frame), row["name"], size, fingerprint, mtime_ns, row.get("path"), held)
            )
    return sorted(found)


def _results(folder: Path, result: Path) -> list[list[Any]]:
    """Finished files with size and hash: as written down, else as they lie there."""
    if not result.is_dir():
        return []
    with contextlib.suppress(FileNotFoundError):
        rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        return [row for row in rows if (result / row[0]).is_file() and (result / row[0]).stat().st_size == row[1]]
    unfinished = (".jsonl", ".tmp", ".part")
    names = sorted(
        p for p in result.iterdir() if p.is_file() and not p.name.startswith(".") and p.suffix not in unfinished
    )
    return [[path.name, path.stat().st_size, sums_of(path).sha256] for path in names]


def _lay_aside(data: Path, folders: JobFolders, job: str, why: Exception) -> None:
    aside = _aside(data, job)
    aside.parent.mkdir(exist_ok=True)
    shutil.move(folders.of(job), aside)
    remark(f"Nothing is known of job {job} ({why}); its folder lies in {aside}.")


def _drop_unknown_frames(frames: Path, known: set[str]) -> None:
    for path in frames.glob("*/*"):
        if path.suffix != ".part" and path.name not in known:
            path.unlink(missing_ok=True)


def _aside(data: Path, name: str) -> Path:
    number = 1
    while (found := data / "quarantine" / f"{name}-{number}").exists():
        number += 1
    return found
