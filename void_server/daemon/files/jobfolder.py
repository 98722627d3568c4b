"""The folder of one job, laid out so that `ls` and `cat` explain it to whoever looks after the daemon.

What comes in: what the store knows of a job. What goes out: files and links. Nothing is read back from here to decide
anything while there is a store: that is the truth. Where it was lost, `rebuild.py` makes it anew from what lies here.

    jobs/JOB/job.json                what was asked, and how it stands
    jobs/JOB/plate/plate.1001.exr    -> the frame, by content, or the client's own file under a trusted root
    jobs/JOB/attempt-1/              what the first worker made
    jobs/JOB/result                  -> the attempt that counts, once the job is done
    jobs/JOB/files.json, results.json    every input; every result with its hash
    jobs/JOB/log.txt, error.txt      what workers said; why there is no result
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from void_server.daemon.files.frames import sync_folder
from void_server.daemon.store.frame_table import JobFile
from void_server.wire.errors import VoidError
from void_server.wire.jobs import JobStatus

_UNFINISHED = re.compile(r"^\.|\.(tmp|part)$")
_DROPPED = ".dropped-"
_NOT_CARRIED = ("manifest.json", "sheet.png", "affected.mp4")


def link_name(file: JobFile) -> str:
    """The name of an input in its job's folder. Only the ending is the client's, and only if it is harmless.

    >>> link_name(JobFile(0, "plate", 7, "../../etc/sh010.EXR", 1, "", 0, None, None))
    'plate.0007.EXR'
    """
    suffix = Path(file.name).suffix
    return f"{file.role}.{file.frame:04d}{suffix if re.fullmatch(r'[.][A-Za-z0-9]{1,8}', suffix) else ''}"


class JobFolders:
    """The folders of all jobs. Every method blocks on the disk, raises OSError, and is kept off the server's loop."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, job: str) -> Path:
        return self.root / job

    def attempt(self, job: str, number: int) -> Path:
        return self.of(job) / f"attempt-{number}"

    def log(self, job: str) -> Path:
        return self.of(job) / "log.txt"

    def create(self, job: str, inputs: Sequence[tuple[JobFile, Path]], about: dict[str, Any]) -> None:
        """Make the folder with a link for each input (file, where it lies), and `job.json`.

        Safe to repeat, also while somebody reads: a link that is there and right is left alone, one that is not is
        replaced in one step.
        """
        folder = self.of(job)
        folder.mkdir(parents=True, exist_ok=True)
        for role in {file.role for file, _ in inputs}:
            (folder / role).mkdir(exist_ok=True)
        for file, target in inputs:
            link = folder / file.role / link_name(file)
            # Relative into the data folder, so that the data folder can be moved.
            inside = target.is_relative_to(self.root.parent)
            to = os.path.relpath(target, link.parent) if inside else str(target)
            try:
                link.symlink_to(to)
            except FileExistsError:
                if str(link.readlink()) != to:
                    fresh = link.with_name(f".{link.name}.tmp")
                    fresh.unlink(missing_ok=True)
                    fresh.symlink_to(to)
                    fresh.replace(link)
        files: dict[str, dict[str, Any]] = {}
        for file, _ in inputs:
            row = {name: value for name, value in file._asdict().items() if value is not None}
            files.setdefault(row.pop("role"), {})[str(row.pop("frame"))] = row
        _write(folder / "files.json", json.dumps(files, indent=1))
        _write(folder / "job.json", json.dumps(about, indent=1))
        sync_folder(folder)
        sync_folder(self.root)

    def describe(self, about: dict[str, Any], status: JobStatus) -> None:
        """Bring `job.json`, and after a failure `error.txt`, up to date."""
        folder = self.of(status.job)
        if not folder.is_dir():
            return
        _write(folder / "job.json", json.dumps({**about, **status.to_wire()}, indent=1))
        if status.error:
            _write(folder / "error.txt", _spoken(status.error))

    def begin(self, job: str, number: int) -> tuple[int, list[str]]:
        """Make the folder of an attempt with all that the latest one before it finished.

        Returns that one's number (0: none) and the names of the files carried over. Frames are linked, so that they
        stay what and as old as they are; everything else is copied, because a worker writes into it.
        """
        folder = self.attempt(job, number)
        # Under another name until it is complete: a crash in here must not leave half of the frames behind.
        fresh = folder.with_name(f".{folder.name}")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.mkdir(parents=True)
        carried = []
        latest = next((n for n in range(number - 1, 0, -1) if self.attempt(job, n).is_dir()), 0)
        for path in sorted(self.attempt(job, latest).iterdir()) if latest else []:
            if not path.is_file() or path.is_symlink() or _UNFINISHED.search(path.name) or path.name in _NOT_CARRIED:
                continue
            if path.suffix == ".exr":
                os.link(path, fresh / path.name)
            else:
                shutil.copy2(path, fresh / path.name)
            carried.append(path.name)
        fresh.replace(folder)
        sync_folder(folder.parent)
        return latest, carried

    def write_task(self, job: str, task: dict[str, Any]) -> Path:
        """Write down what the next attempt's worker is to do; returns the file."""
        path = self.of(job) / "task.json"
        _write(path, json.dumps(task, indent=1))
        return path

    def publish(self, job: str, number: int, results: Sequence[Sequence[Any]]) -> None:
        """Make an attempt the job's result, at once or not at all, and drop the others.

        results: its finished files as (name, size, sha256); written down for whoever finds the folder alone.
        """
        folder = self.of(job)
        _write(folder / "results.json", json.dumps([list(row) for row in results], indent=1))
        sync_folder(self.attempt(job, number))
        fresh = folder / ".result"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(f"attempt-{number}")
        fresh.replace(folder / "result")
        sync_folder(folder)
        self._drop(job, keep=number)

    def sweep(self, job: str, keep: int | None) -> None:
        """After a job is over without a result: drop every attempt but `keep`, and that one's unfinished files."""
        self._drop(job, keep)
        if keep is not None and self.attempt(job, keep).is_dir():
            for path in self.attempt(job, keep).iterdir():
                if _UNFINISHED.search(path.name) and path.is_file():
                    path.unlink()

    def begin_drop(self, job: str) -> None:
        """Take the folder out of sight, before the store forgets the job; `remove` follows."""
        with contextlib.suppress(FileNotFoundError):
            self.of(job).replace(self._dropped(job))

    def bring_back(self, job: str) -> None:
        """Undo `begin_drop`."""
        self._dropped(job).replace(self.of(job))

    def dropped(self) -> list[str]:
        """Jobs whose drop was begun and not finished."""
        return [path.name.removeprefix(_DROPPED) for path in self.root.glob(f"{_DROPPED}*")]

    def empty(self, job: str) -> None:
        """Delete what lies in a folder that is being dropped; the folder itself says so until `remove`."""
        for path in self._dropped(job).glob("*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def is_emptied(self, job: str) -> bool:
        return not any(self._dropped(job).glob("attempt-*"))

    def remove(self, job: str) -> None:
        """Delete what `begin_drop` took out of sight."""
        shutil.rmtree(self._dropped(job), ignore_errors=True)

    def all(self) -> list[str]:
        """Jobs that have a folder."""
        return [path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _dropped(self, job: str) -> Path:
        return self.root / f"{_DROPPED}{job}"

    def _drop(self, job: str, keep: int | None) -> None:
        for path in self.of(job).glob("attempt-*"):
            if path.name != f"attempt-{keep}":
                shutil.rmtree(path, ignore_errors=True)


def _spoken(error: VoidError) -> str:
    return f"{error.code}: {error.message}\n{error.hint}\n"


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.tmp")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
