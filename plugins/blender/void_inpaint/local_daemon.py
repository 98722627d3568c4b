# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon on this machine: found, started, stopped, its log and what `void-server doctor` finds.

What comes in: where the program is, an address, a folder of this add-on's own. What goes out: a process that outlives
Blender, so that jobs do too. It installs nothing, speaks no protocol and does not know Blender.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from void_server.wire.errors import OutputError, SettingsError

PROGRAM = "void-server"
STATE, LOG = "daemon.json", "daemon.log"
LOG_LIMIT_BYTES = 4 << 20
"""A log larger than this is begun anew at the next start."""
STOP_S = 10.0
"""A daemon that still lives this long after it was asked to end is killed; its jobs are on disk."""
NICE = 10
"""It computes on all cores beside Blender, whose window comes first."""

_own: dict[int, subprocess.Popen[bytes]] = {}
"""Processes of this session, which only we can reap."""


@dataclasses.dataclass(frozen=True)
class Started:
    """A daemon that this add-on started, perhaps in an earlier session."""

    pid: int
    address: str
    program: str
    since: float
    """Seconds since 1970."""


def find_program(asked: str = "") -> str:
    """The program's path: the one asked for, else on the PATH or where pip and pipx put it; "" where none is."""
    if asked:
        return asked if Path(asked).is_file() and os.access(asked, os.X_OK) else ""
    places = [os.environ.get("PATH", ""), str(Path.home() / ".local/bin")]
    if sys.platform == "win32":
        places += [str(path) for path in (Path.home() / "AppData/Roaming/Python").glob("Python*/Scripts")]
    return shutil.which(PROGRAM, path=os.pathsep.join(places)) or ""


def start(program: str, address: str, folder: Path) -> Started:
    """Start the daemon; it goes on when Blender quits. Raises SettingsError where it can't be started, OutputError."""
    if running := started(folder):
        return running
    log = folder / LOG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if log.is_file() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.unlink()
        out = log.open("ab")
    except OSError as error:
        raise OutputError(f"{log} can't be written: {error.strerror}.", "Free it.") from error
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        new = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        apart = {"creationflags": new | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    with out:
        try:
            process = subprocess.Popen(
                [program, "serve", "--bind", address],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(), cwd=Path.home(), **apart,
            )  # fmt: skip
        except OSError as error:
            raise SettingsError(f"{program} can't be started: {error.strerror}.", "Choose another program.") from error
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            # Behind this Blender, whatever place that has itself.
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    _own[process.pid] = process
    made = Started(process.pid, address, program, time.time())
    (folder / STATE).write_text(json.dumps(dataclasses.asdict(made)), encoding="utf-8")
    return made


def started(folder: Path) -> Started | None:
    """The daemon that this add-on started, if it lives."""
    try:
        made = Started(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return made if _lives(made) else None


def stop(folder: Path) -> bool:
    """End the daemon that this add-on started; jobs stay on its disk and go on at the next start. Whether one lived."""
    made = started(folder)
    if made is None:
        return False
    with contextlib.suppress(OSError):
        os.kill(made.pid, signal.SIGTERM)
    until = time.monotonic() + STOP_S
    while _lives(made):
        if time.monotonic() > until:
            with contextlib.suppress(OSError):
                os.kill(made.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            break
        _wait_for(made.pid)
    with contextlib.suppress(OSError):
        (folder / STATE).unlink()
    return True


def log_tail(folder: Path, lines: int = 4) -> list[str]:
    """The last lines that the daemon said."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            said = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in said if line.strip()][-lines:]


class Doctor:
    """`void-server doctor`, asked without waiting: it takes seconds."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program, "doctor", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=_environment(), text=True,
        )  # fmt: skip

    def findings(self) -> list[dict[str, Any]] | None:
        """What it found; None while it still looks. Raises SettingsError where it says nothing."""
        if self._process.poll() is None:
            return None
        assert self._process.stdout is not None
        with self._process.stdout as out:
            said = out.read().strip().splitlines()
        for line in reversed(said):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return list(json.loads(line)["findings"])
        last = said[-1] if said else f"status {self._process.returncode}"
        raise SettingsError(f"void-server doctor failed: {last}.", "Install void-server again.")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _environment() -> dict[str, str]:
    """Ours, without what Blender set for its own Python."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BLENDER", "VIRTUAL_ENV"))}


def _lives(made: Started) -> bool:
    own = _own.get(made.pid)
    if own is not None:
        return own.poll() is None
    if sys.platform == "win32":
        return False  # another session's: Windows can't tell cheaply, so it counts as started elsewhere
    try:
        os.kill(made.pid, 0)
    except OSError:
        return False
    return (
        _words_of(made.pid) is None or PROGRAM in str(_words_of(made.pid)) or "void_server" in str(_words_of(made.pid))
    )


def _words_of(pid: int) -> str | None:
    """The command of a process, so that another one with the same number is left alone; None where nobody tells."""
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_text(errors="replace")
    with contextlib.suppress(OSError):
        return subprocess.run(
            ["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
        ).stdout
    return None


def _wait_for(pid: int) -> None:
    """A moment, or until a process of this session ends."""
    if pid in _own:
        with contextlib.suppress(subprocess.TimeoutExpired):
            _own[pid].wait(0.1)
    else:
        time.sleep(0.1)  # another session's process, which nobody here can wait for
