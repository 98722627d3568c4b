"""Files that a client named by path: opened once, beneath a trusted folder, and held until the job is over.

What comes in: paths that were found beneath a trusted root when the job came. What goes out: paths that lead to the
very files that were looked at, whatever their owner puts in their place meanwhile. It does not know jobs or pixels.

A path is walked from the root down, component by component, and no link is followed on the way: between a check and an
open by name, anybody who may write there could lead the reader out. What is handed on is a link to the open file
(`/proc/PID/fd/N`), so that swapping the name changes nothing any more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from void_server.wire.errors import LimitError, MatteError, PlateError, RequestError
from void_server.wire.shot import spoken_role
from void_server.wire.transfer import fingerprint_of

_DESCRIPTORS = Path("/proc/self/fd")


class _Held(NamedTuple):
    role: str
    frame: int
    path: str
    descriptor: int
    seen: os.stat_result


class TrustedFiles:
    """The files of one job. Used by one thread, as a context: at its end every file is let go of."""

    def __init__(self, folder: Path, roots: Sequence[str]) -> None:
        """folder: where the links to open files lie while the job runs; made and removed here."""
        self._folder = folder
        self._roots = [Path(root).resolve() for root in roots]
        self._held: list[_Held] = []

    def __enter__(self) -> TrustedFiles:
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._held:
            os.close(held.descriptor)
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, role: str, frame: int, path: str, name: str, as_it_was: tuple[int, int, str]) -> Path:
        """Open one file; returns the path under which to read it.

        as_it_was: (size, mtime_ns, fingerprint) when the job came. Raises PlateError or MatteError for a file that is
        another one now, LimitError where this process may hold no more files.
        """
        try:
            descriptor = self._open(path)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise LimitError(
                    f"This machine lets a process hold {len(self._held)} files; the shot has more.",
                    "Raise the limit of the daemon (ulimit -n), or send the files: start it without --trust.",
                ) from error
            raise _problem(role, frame, f"can't be read beneath a trusted folder: {path} ({error.strerror})") from error
        seen = os.fstat(descriptor)
        self._held.append(_Held(role, frame, path, descriptor, seen))
        if not stat.S_ISREG(seen.st_mode):
            raise _problem(role, frame, f"is not a file any more: {path}")
        if (seen.st_size, seen.st_mtime_ns, fingerprint_of(descriptor, seen.st_size)) != as_it_was:
            raise _problem(role, frame, f"changed after it was submitted: {path}")
        if not _DESCRIPTORS.is_dir():
            return Path(path)
        self._folder.mkdir(parents=True, exist_ok=True)
        link = self._folder / name
        link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        return link

    def check(self, warn: Callable[[str, str], None]) -> None:
        """After the work: raise where a file was written into meanwhile, warn where another took its place."""
        for held in self._held:
            now = os.fstat(held.descriptor)
            if (now.st_size, now.st_mtime_ns) != (held.seen.st_size, held.seen.st_mtime_ns):
                raise _problem(held.role, held.frame, f"was written into while the job ran: {held.path}")
            with contextlib.suppress(OSError):
                there = Path(held.path).lstat()
                if (there.st_dev, there.st_ino) == (now.st_dev, now.st_ino):
                    continue
            what = f"{spoken_role(held.role)} frame {held.frame} was replaced while the job ran"
            warn("replaced", f"{what}; the result is of the file as it was submitted.")

    def _open(self, path: str) -> int:
        """A descriptor of the file, reached without following a link. Raises OSError."""
        root = next((root for root in self._roots if Path(path).is_relative_to(root)), None)
        if root is None:
            raise PermissionError(errno.EACCES, "no trusted folder holds it")
        *folders, name = Path(path).relative_to(root).parts
        at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            # Not blocking: somebody may have put a pipe there.
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)


def hold_many() -> None:
    """Let this process hold as many files as it may."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _problem(role: str, frame: int, what: str) -> RequestError:
    kind = MatteError if role == "matte" else PlateError
    return kind(f"{spoken_role(role)} frame {frame} {what}.", "Submit the shot again.", frame=frame)
