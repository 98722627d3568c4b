"""Wheels that a host needs, from the package index or from a folder of a studio that is cut off from it.

What comes in: requirements, a Python, where to look. What goes out: wheel files in a folder, or why there are none. It
does not know which host they are for.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


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
