"""Job bundles to AWS Deadline Cloud, through its own command `deadline`.

What comes in: a bundle's folder and the names of a farm and a queue. What goes out: a job id. It holds no credentials
and asks for none: `deadline` has its own, from its configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from void_server.wire.errors import RefusedError, UnreachableError

ANSWER_S = 3600
"""Longest wait: without shared disks, submitting sends every plate to the cloud."""


def submit(bundle: Path, farm: str = "", queue: str = "", name: str = "", more: Sequence[str] = ()) -> str:
    """Submit a bundle; returns the job's id. Blocks while inputs are sent. Raises UnreachableError, RefusedError.

    farm, queue: empty takes what `deadline config` holds. more: words for `deadline bundle submit`.
    """
    command = shutil.which("deadline")
    if command is None:
        raise UnreachableError(
            "The command 'deadline' was not found.", "Install it (pip install deadline), or write a bundle instead."
        )
    words = [command, "bundle", "submit", str(bundle), "--yes"]
    words += [f"--farm-id={farm}"] if farm else []
    words += [f"--queue-id={queue}"] if queue else []
    words += [f"--name={name}"] if name else []
    try:
        done = subprocess.run(
            [*words, *more], capture_output=True, timeout=ANSWER_S, check=False, env={**os.environ, "NO_COLOR": "1"}
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(
            f"'deadline' did not answer within {ANSWER_S} s.", "Look in the Monitor before you submit again."
        ) from error
    text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    found = re.search(r"job-[0-9a-f]{32}", text)
    if done.returncode != 0 or found is None:
        said = " ".join(text.split())[-400:] or f"exit status {done.returncode}, no words"
        raise RefusedError(
            f"Deadline Cloud refused the job: {said}", "Log in (deadline auth login); the bundle is kept."
        )
    return found[0]
