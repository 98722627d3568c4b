"""A pipeline for the daemon's tests: strict about what it is given, steered by the shot's own options.

Each clean frame is the plate's bytes reversed, so that a test can tell it was computed from the right file. Options:
`frame_s` how long a frame takes; `hang` never look at cancel; `crash_at` a frame at which the process dies, each time;
`crash_once_at` only in the first attempt; `fail` an error code; `warnings` how many; `take_mb` memory to take and keep;
`hold_mb` memory that this process and `hold_hands` forked ones share until the end; `child_takes_mb` memory that
a forked one takes while this one reports progress all the time; `child_stays` with the process gone, its child stays;
`gate` a file that must exist before frames after the first are made, so that a test decides when the job goes on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server.wire.errors import GpuMemoryError, MatteError
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_bytes(data)
    fresh.replace(path)


def _fork(work: Callable[[], object]) -> int:
    """A process that holds every descriptor of this one, and does not end with it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def _take(mb: int) -> None:
    taken = bytearray(mb << 20)
    taken[::4096] = b"x" * len(taken[::4096])
    _wait()


def _wait() -> None:
    threading.Event().wait()


def make(files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, found: Path) -> dict[str, Any]:
    assert isinstance(settings, ShotSettings) and out.is_dir(), "the daemon makes the attempt's folder"
    assert set(files.plate) == set(files.matte) and files.plate, "every plate frame has its matte"
    options = dict(settings.options)
    pause = threading.Event()
    sys.stdout.write("printed by a library\n")
    sys.stdout.flush()
    os.write(1, b"written to stdout by a C library\n")
    if options.get("fail") == "matte":
        raise MatteError("Matte is empty in frames 1001-1003.", "Draw it.")
    if options.get("fail") == "gpu":
        raise GpuMemoryError("The shot does not fit on the card.", "Use fewer frames.")
    taken = bytearray(options.get("take_mb", 0) << 20)
    while taken:
        pause.wait(0.05)
        taken[::4096] = b"x" * len(taken[::4096])
    if options.get("child_takes_mb"):
        _fork(lambda: _take(options["child_takes_mb"]))
        while True:
            report.progress("fill", 0, len(files.plate), 1001)
            report.warn("busy", "Still at it.")
            pause.wait(0.05)
    held = b"x" * (options.get("hold_mb", 0) << 20)
    hands = [_fork(lambda: (sum(held[::4096]), _wait())) for _ in range(options.get("hold_hands", 0))]
    if options.get("child_stays") and out.name == "attempt-1":
        _fork(_wait)
        os._exit(7)
    if options.get("fail") == "long":
        raise MatteError("Matte is wrong. " * 2000, "Draw it.")
    for number in range(options.get("warnings", 0)):
        report.warn("many", f"{number} " + "w" * 2000)
    if options.get("fail") == "bug":
        raise ZeroDivisionError("a bug")
    report.warn("coverage", "Frame 1001 is half invented.")
    (out / ".left-over.tmp").write_bytes(b"temporary")
    journal = out / "frames.jsonl"
    made = json.loads(journal.read_text()) if journal.exists() else []
    for index, frame in enumerate(sorted(files.plate)):
        report.progress("fill", index, len(files.plate), frame)
        clean, aov = out / f"clean.{frame:04d}.exr", out / f"aov.{frame:04d}.exr"
        if frame in made and clean.exists() and aov.exists():
            continue
        if options.get("crash_at") == frame or (options.get("crash_once_at") == frame and out.name == "attempt-1"):
            os.kill(os.getpid(), signal.SIGKILL)
        while index and options.get("gate") and not Path(options["gate"]).exists():
            if not options.get("hang"):
                report.check_cancelled()
            pause.wait(0.01)
        pause.wait(options.get("frame_s", 0))
        _write(clean, files.plate[frame].read_bytes()[::-1])
        _write(aov, files.matte[frame].read_bytes())
        made.append(frame)
        _write(journal, json.dumps(made).encode())
        report.frame_done(frame)
    for hand in hands:
        os.kill(hand, signal.SIGKILL)
        os.waitpid(hand, 0)
    (out / ".left-over.tmp").unlink()
    _write(out / "sheet.png", b"sheet")
    _write(out / "manifest.json", json.dumps({"frames": made}).encode())
    return {"frames": made}
