"""What a bug report needs, in one file: what the doctor found, versions, logs, headers. No pictures.

What comes in: findings, a daemon's data folder, files that the trouble is about. What goes out: a zip archive of text.
It reads no pixels and sends nothing anywhere.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from void_server.commands import doctor
from void_server.daemon.config import default_data
from void_server.wire.errors import OutputError

JOBS = 5
"""As many of a daemon's last jobs are packed, and of this user's last tracebacks."""
MOST_BYTES = 1 << 20
"""Of a log the end is packed: that is where it went wrong."""
VARIABLES = ("OCIO", "NUKE_PATH", "CUDA_VISIBLE_DEVICES", "HF_HOME", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Taken as they are, with all that begin with VOID_; no other variable is."""
OF_A_JOB = ("job.json", "log.txt", "error.txt")


def write(out: Path, findings: list[doctor.Finding], data: Path | None = None, about: Sequence[Path] = ()) -> list[str]:
    """Write the archive and return the names in it.

    data: a daemon's data folder, by default this user's. about: EXR files, folders of them, or folders of results; of
    each folder the first and the last file's header is packed. Raises OutputError.
    """
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in _texts(findings, data or default_data(), about):
                archive.writestr(name, text)
            names = archive.namelist()
        part.replace(out)
    except OSError as error:
        raise OutputError(f"{out} can't be written: {error.strerror or error}.", "Choose another place.") from error
    return names


def _texts(findings: list[doctor.Finding], data: Path, about: Sequence[Path]) -> Iterator[tuple[str, str]]:
    yield "doctor.txt", doctor.spoken(findings) + "\n"
    yield "doctor.json", json.dumps([finding.to_wire() for finding in findings], indent=1)
    found = {f"{d.metadata['Name']} {d.version}" for d in importlib.metadata.distributions()}
    yield "packages.txt", "\n".join(sorted(found, key=str.lower)) + "\n"
    told = {k: v for k, v in sorted(os.environ.items()) if k in VARIABLES or k.startswith("VOID_")}
    yield "environment.txt", "".join(f"{name}={value}\n" for name, value in told.items())
    for log in _newest(Path(tempfile.gettempdir()), "void-server-*.log"):
        yield f"tracebacks/{log.name}", _end_of(log)
    for job in _newest(data / "jobs", "*/job.json"):
        folder = job.parent
        for name in OF_A_JOB:
            if (folder / name).is_file():
                yield f"jobs/{folder.name}/{name}", _end_of(folder / name)
        roles = (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("attempt"))
        lines = [line for role in roles for line in _headers(role)]
        yield f"jobs/{folder.name}/headers.txt", "\n".join(lines) + "\n"
    for number, path in enumerate(about, 1):
        yield f"about/{number}/headers.txt", "\n".join([str(path), *_headers(path)]) + "\n"
        if (path / "manifest.json").is_file():
            yield f"about/{number}/manifest.json", _end_of(path / "manifest.json")


def _newest(folder: Path, pattern: str) -> list[Path]:
    """The last `JOBS` files of that name, of those that this user may read."""
    found = [path for path in folder.glob(pattern) if path.is_file() and os.access(path, os.R_OK)]
    return sorted(found, key=lambda path: path.stat().st_mtime)[-JOBS:]


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MOST_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"can't be read: {error}\n"


def _headers(path: Path) -> list[str]:
    """The header of a file, or those of the first and the last EXR file of a folder."""
    from void_server.image import exr

    if not path.is_dir():
        return exr.describe(path)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".exr")
    if not files:
        return [f"{path} holds no EXR file"]
    chosen = files if len(files) < 2 else [files[0], files[-1]]
    return [f"{path} holds {len(files)} EXR files", *(line for file in chosen for line in exr.describe(file))]
