"""The folder a shot comes out in: what is finished, what it was made from, and the manifest that closes it.

What comes in: arrays and numbers of one frame at a time. What goes out: `clean.####.exr`, `aov.####.exr`, one line a
frame in `frames.jsonl`, and `manifest.json` last. An interrupted run is taken up where it stopped: a frame is finished
once its line stands in `frames.jsonl`, and a line counts only for the very same inputs, settings and version. It knows
no engine and computes no pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import void_server
from void_server.process import threads
from void_server.shot.check import CheckedShot
from void_server.wire.errors import OutputError, PlateError
from void_server.wire.report import Report

Hashes = Mapping[str, Mapping[int, tuple[str, str]]]
"""(file name, sha256) of every input, by role and frame."""

NOT_OF_THE_RESULT = ("frames", "handles", "device")
"""Settings that choose which frames are made or where, but not what is in them."""

APPEND_TRIES = 5
"""A network disk has no real appending: two machines that write at once may lose one line (open(2), on O_APPEND). So a
line is looked for after it was written, and written again."""


class ResultFolder:
    """One output folder. Frames appear whole or not at all, each under its final name."""

    def __init__(self, out: Path, fingerprint: str) -> None:
        """Raises OutputError if the folder can't be made or written to."""
        self.path = out
        self.fingerprint = fingerprint
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._journal_path.touch()
            self._lines = self._read_journal()
        except OSError as error:
            raise OutputError(
                f"Output folder {out} can't be used: {error.strerror}.", "Choose a folder you may write to."
            ) from error

    def clean(self, frame: int) -> Path:
        return self.path / f"clean.{frame:04d}.exr"

    def aov(self, frame: int) -> Path:
        return self.path / f"aov.{frame:04d}.exr"

    @property
    def sheet(self) -> Path:
        return self.path / "sheet.png"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def _journal_path(self) -> Path:
        return self.path / "frames.jsonl"

    def finished(self, frames: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Of `frames`, those already made from the same inputs and settings, with what was noted about each."""
        return {
            frame: self._lines[frame]
            for frame in frames
            if self._lines.get(frame, {}).get("fingerprint") == self.fingerprint and self._both_exist(frame)
        }

    def all_finished(self) -> dict[int, dict[str, Any]]:
        """Every frame made from the same inputs and settings by now, by this process or another; looks at the disk."""
        with _disk_errors(self.path):
            self._lines = self._read_journal()
        return self.finished(sorted(self._lines))

    def older(self, frame: int) -> Path | None:
        """The clean frame that stands here from other settings, or None."""
        return self._older(frame, self.clean(frame))

    def older_aov(self, frame: int) -> Path | None:
        """Its AOVs."""
        return self._older(frame, self.aov(frame))

    def _older(self, frame: int, path: Path) -> Path | None:
        line = self._lines.get(frame)
        stands = line is not None and line.get("fingerprint") != self.fingerprint and self._both_exist(frame)
        if not stands:
            return None
        return _kept(path) if _kept(path).is_file() else path

    def keep_older(self, frame: int) -> None:
        """A frame from other settings is about to be replaced: its files are kept aside until `note`.

        A run that ends between the two must not take its own new frame for the older one, and fade it into itself.
        """
        for path in (self.aov(frame), self.clean(frame)):
            if self._older(frame, path) is not None and not _kept(path).is_file():
                publish(path, _kept(path))

    def _both_exist(self, frame: int) -> bool:
        return self.clean(frame).is_file() and self.aov(frame).is_file()

    def sweep(self, frames: Iterable[int]) -> None:
        """Remove what writers that were ended in the middle have left of frames. Never fails: it is under no name that
        anybody looks for."""
        for frame in frames:
            for path in (self.clean(frame), self.aov(frame)):
                for left in self.path.glob(f".{path.name}.*.tmp"):
                    with contextlib.suppress(OSError):
                        left.unlink()

    def open_again(self) -> None:
        """Frames are about to change: what the manifest says no longer holds."""
        self.manifest.unlink(missing_ok=True)

    def note(self, frame: int, facts: Mapping[str, Any]) -> None:
        """Record that a frame's files are finished. Call after both lie under their final names."""
        line = {"frame": frame, "fingerprint": self.fingerprint, **facts}
        self._lines[frame] = line
        text = json.dumps(line).encode()
        with _disk_errors(self.path):
            for _ in range(APPEND_TRIES):
                _append(self._journal_path, text)
                if text in self._journal_path.read_bytes().splitlines():
                    break
            for path in (self.clean(frame), self.aov(frame)):
                _kept(path).unlink(missing_ok=True)

    def close(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, last of all."""
        with _disk_errors(self.path):
            write_text(self.manifest, json.dumps(manifest, indent=1, sort_keys=False) + "\n")

    def _read_journal(self) -> dict[int, dict[str, Any]]:
        lines: dict[int, dict[str, Any]] = {}
        for text in self._journal_path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
                lines[int(line["frame"])] = line
            except (ValueError, KeyError, TypeError):
                continue  # a line torn by a crash: its frame is made again
        return lines


def _kept(path: Path) -> Path:
    """Where a file from other settings waits while its place is taken."""
    return path.with_name(f".older.{path.name}")


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """Turn a full or vanished disk into an OutputError that names the folder."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Can't write to {out}: {error.strerror}.", "Free some space or choose another --out folder."
        ) from error


def publish(source: Path, target: Path) -> None:
    """Put a finished file under its final name: a second name of the same file where the disk has that, else a copy."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    with _disk_errors(target.parent):
        try:
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _append(path: Path, text: bytes) -> None:
    """Add a line, on a line of its own even where a crash tore the one before."""
    with path.open("ab+") as journal:
        if journal.tell() > 0:
            journal.seek(-1, os.SEEK_END)
            text = text if journal.read(1) == b"\n" else b"\n" + text
        journal.write(text + b"\n")
        journal.flush()
        os.fsync(journal.fileno())


def make_folder(out: Path) -> None:
    """Make an output folder. Raises OutputError where the disk refuses."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Output folder {out} can't be made: {error.strerror}.", "Choose another --out.") from error


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def hash_inputs(checked: CheckedShot, report: Report, known: Mapping[Path, str]) -> Hashes:
    """(file name, sha256) of every file the shot is made from, by role and frame. Reads each file once, and none whose
    digest is known."""
    headers = {"plate": checked.plates, **checked.mattes, "reference": checked.references}
    paths = sorted({header.path for role in headers.values() for header in role.values()})
    digests = {path: known[path] for path in paths if path in known}
    unread = [path for path in paths if path not in digests]
    with ThreadPoolExecutor(threads()) as pool:
        for index, (path, digest) in enumerate(zip(unread, pool.map(_sha256, unread))):
            digests[path] = digest
            report.progress("hash", index + 1, len(unread))
    return {
        role: {frame: (header.path.name, digests[header.path]) for frame, header in found.items()}
        for role, found in headers.items()
        if found
    }


def plates_key(checked: CheckedShot, hashes: Hashes) -> str:
    """One hash of everything that the plates of a shot look like: their files, how they are read, which frames."""
    basis = {
        "frames": list(checked.frames),
        "plates": {str(f): digest for f, (_, digest) in hashes["plate"].items()},
        "references": {str(f): digest for f, (_, digest) in hashes.get("reference", {}).items()},
        "space": checked.space.chromaticities,
        "layer": checked.settings.layer,
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True, default=str).encode()).hexdigest()


SHAPE_A_FINDING = ("matte_channel", "matte_invert", "matte_floor", "missing", "grow_px", "feather_px")
"""Settings that change what is found to be affected, beside those that change the plates."""


def finding_key(checked: CheckedShot, hashes: Hashes) -> str:
    """One hash of everything that decides what the object is found to have done: plates, mattes, how they are read. Not
    the artist's corrections, nor engine, seed or prompt: those come after."""
    basis = {
        "version": void_server.__version__,
        "plates": plates_key(checked, hashes),
        "mattes": {
            role: {str(f): digest for f, (_, digest) in hashes.get(role, {}).items()} for role in ("matte", "keep")
        },
        "settings": {name: getattr(checked.settings, name) for name in SHAPE_A_FINDING},
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True, default=str).encode()).hexdigest()


def fingerprint(checked: CheckedShot, hashes: Hashes, engine: str) -> str:
    """One hash of everything a frame's pixels depend on: inputs, settings, engine, version."""
    settings = {k: v for k, v in checked.settings.to_wire().items() if k not in NOT_OF_THE_RESULT}
    basis = {
        "version": void_server.__version__,
        "engine": engine,
        "settings": settings,
        "frames": list(checked.frames),
        "inputs": {role: {str(f): digest for f, (_, digest) in found.items()} for role, found in hashes.items()},
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True, default=str).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise PlateError(f"{path} can't be read: {error.strerror}.", "Check that the file is still there.") from error
    return digest.hexdigest()
