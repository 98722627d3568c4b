"""The bytes of received frames on the daemon's disk: one file per content, one space per owner.

What comes in: chunks with their place. What goes out: frames, and how far a file that is still on its way has come. It
never computes: a frame is named after the file that brought it, and the store knows which content that is, first by
the sender's word and for certain once a worker has read it. Because every owner has a space of their own, nobody can
have somebody else's job read a wrong frame.

    frames/OWNER/JOB.NUMBER       a whole frame, synced
    frames/OWNER/JOB.NUMBER.part  the first bytes of a file of a job; its size says how many
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from void_server.wire.errors import ProtocolError

_OPEN_PARTS = 64


class Part(NamedTuple):
    """A file on its way: which of which job, and whose."""

    owner: str
    job: str
    number: int

    @property
    def name(self) -> str:
        """The name of the frame that it becomes."""
        return f"{self.job}.{self.number}"


class FrameFolder:
    """Received frames. `append` belongs to one thread; everything else may be called from any. Raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: collections.OrderedDict[Path, int] = collections.OrderedDict()

    def path(self, owner: str, name: str) -> Path:
        """Where a frame lies, if it is held."""
        return self._space(owner) / name

    def held(self, owner: str, job: str) -> dict[int, int]:
        """How many first bytes are here of each file of a job that is on its way, by its number."""
        found = {}
        for part in self._space(owner).glob(f"{job}.*.part"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                found[int(part.name.split(".")[1])] = part.stat().st_size
        return found

    def append(self, part: Part, offset: int, data: memoryview) -> int:
        """Write what of `data` is not here yet; returns the bytes held. A gap is not written, so the caller sees it."""
        descriptor = self._descriptor(self._part(part), create=offset == 0)
        if descriptor is None:
            return 0
        held = os.fstat(descriptor).st_size
        if offset > held:
            return held
        fresh = data[held - offset :]
        while fresh:
            # A nearly full disk takes less than it was given before it says that it is full.
            count = os.pwrite(descriptor, fresh, held)
            held, fresh = held + count, fresh[count:]
        return held

    def let_go(self, part: Part) -> None:
        """Close the file that `append` kept open. Same thread as `append`."""
        self._close(self._part(part))

    def finish(self, part: Part, size: int) -> bool:
        """Make a frame of a file that has come whole, synced; whether it was whole. Safe to repeat."""
        fresh, final = self._part(part), self.path(part.owner, part.name)
        try:
            descriptor = os.open(fresh, os.O_RDWR)
        except FileNotFoundError:
            return final.is_file() and final.stat().st_size == size
        try:
            if os.fstat(descriptor).st_size != size:
                return False
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(final)
        return True

    def give_up(self, owner: str, job: str) -> None:
        """Drop what came of a job's unfinished files. Same thread as `append`."""
        for path in self._space(owner).glob(f"{job}.*.part"):
            self._close(path)
            path.unlink(missing_ok=True)

    def sync(self, owner: str) -> None:
        """Make the names of an owner's frames durable."""
        space = self._space(owner)
        if space.is_dir():
            sync_folder(space)

    def remove(self, owner: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path(owner, name).unlink()

    def remove_parts(self, keep: set[str]) -> None:
        """Drop files on their way, but for those of the jobs in `keep`. Same thread as `append`."""
        for path in self.root.glob("*/*.part"):
            if path.name.split(".")[0] not in keep:
                self._close(path)
                path.unlink(missing_ok=True)

    def part_bytes(self) -> int:
        """Bytes that have come of files on their way."""
        found = 0
        for path in self.root.glob("*/*.part"):
            with contextlib.suppress(FileNotFoundError):
                found += path.stat().st_size
        return found

    def _close(self, path: Path) -> None:
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def _space(self, owner: str) -> Path:
        # A key's text holds '/' and '*'; its hash is a name on every file system.
        return self.root / hashlib.sha256(owner.encode()).hexdigest()[:16]

    def _part(self, part: Part) -> Path:
        return self._space(part.owner) / f"{part.name}.part"

    def _descriptor(self, part: Path, create: bool) -> int | None:
        if part in self._open:
            self._open.move_to_end(part)
            return self._open[part]
        try:
            if create:
                part.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        except FileNotFoundError:
            return None
        self._open[part] = descriptor
        if len(self._open) > _OPEN_PARTS:
            os.close(self._open.popitem(last=False)[1])
        return descriptor


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def trusted_path(path: str, size: int, mtime_ns: int, roots: tuple[Path, ...]) -> str | None:
    """The real place of a client's file, if this daemon sees the very same file under a trusted root; else None.

    Links are followed before the root is compared, so that a link inside a root can't lead out of it.
    """
    if not path or "\0" in path or not roots:
        return None
    try:
        real = Path(path).resolve(strict=True)
        stat = real.stat()
    except (OSError, RuntimeError, ValueError):
        return None
    inside = any(real.is_relative_to(root.resolve()) for root in roots)
    same = real.is_file() and stat.st_size == size and stat.st_mtime_ns == mtime_ns
    return str(real) if inside and same else None


def check_hash(sha256: str) -> str:
    """`sha256` if it is 64 lower-case hex digits; raises ProtocolError."""
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ProtocolError("A hash is not 64 hex digits.", "Update the older of the two ends.")
    return sha256
