"""Wheels: fetched from the package index or from a folder, and packed from files.

What comes in: requirements, a Python, where to look; or the files of a wheel. What goes out: wheel files in a folder,
or why there are none. It does not know which host they are for.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

STAMP = (1980, 1, 1, 0, 0, 0)
"""Time of every file in an archive, so that the same content is the same archive."""
_OF_THE_INSTALLATION = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json")
"""Files of a .dist-info folder that say how it was installed, and are in no wheel. Source: PyPA, recorded projects."""


def download(
    requirements: Sequence[str], python: str, into: Path, folder: Path | None, more: Sequence[str] = ()
) -> str:
    """Put the wheels of `requirements` for `python` ("3.11") into `into`; returns "", or where and why that failed.

    folder: where to look instead of the package index. more: further words for `pip download`, such as a platform.
    """
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", "--dest", str(into), *more]
    if folder is not None:
        words += ["--no-index", "--find-links", str(folder)]
    done = subprocess.run([*words, *requirements], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
    where = f"in {folder}" if folder is not None else "from the package index"
    return f"{where}: {(lines or ['pip failed'])[0]}"


def packed(folder: Path, name: str) -> Path | None:
    """The wheel that a distribution was installed from, packed again from its files; None for an editable one.

    Source of the format: PyPA, Binary distribution format (wheel 1.0).
    """
    found = importlib.metadata.distribution(name)
    files = {
        file.as_posix(): Path(str(file.locate())).read_bytes()
        for file in found.files or ()
        if not file.as_posix().startswith("..")
        and "__pycache__" not in file.parts
        and not (file.parts[0].endswith(".dist-info") and file.parts[-1] in _OF_THE_INSTALLATION)
    }
    package = name.replace("-", "_")
    info = f"{package}-{found.version}.dist-info"
    if f"{package}/__init__.py" not in files or f"{info}/WHEEL" not in files:
        return None
    wheel = folder / f"{package}-{found.version}-py3-none-any.whl"
    pack(wheel, {**files, f"{info}/RECORD": record(files, info)}.items())
    return wheel


def record(files: Mapping[str, bytes], info: str) -> bytes:
    """The RECORD of a wheel with these files; info: its .dist-info folder."""
    rows = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    return "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()


def pack(out: Path, files: Iterable[tuple[str, Path | bytes]]) -> None:
    """Write a zip archive, the same bytes for the same content."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files):
            if isinstance(content, bytes) or content.is_file():
                data = content if isinstance(content, bytes) else content.read_bytes()
                archive.writestr(zipfile.ZipInfo(name, STAMP), data, zipfile.ZIP_DEFLATED)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
