"""Where the time of one shot goes: `void-server bench speed`.

What comes in: a shot's files and settings. What goes out: seconds, share and cores of every stage, and the most memory
that the shot took. The shot is made once, into a folder that is thrown away. It judges no picture.

A stage's seconds are those in which its progress was the last that was told. Cores are processor seconds, those of
working processes included, over seconds; they are known of a working process once it has ended, with its stage.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from void_server import pipeline, process
from void_server.wire.report import Event, Report
from void_server.wire.shot import ShotFiles, ShotSettings

SAMPLE_S = 0.05


def run(files: ShotFiles, settings: ShotSettings, report: Report) -> tuple[dict[str, Any], str]:
    """(fields for --json, a table as text). Raises like `pipeline.make_clean_plate`."""
    clock = _Stages()

    def heard(event: Event) -> None:
        clock.heard(event)
        report.forward(event)

    with tempfile.TemporaryDirectory(prefix="void-bench-") as folder, _MemoryWatch() as memory:
        pipeline.make_clean_plate(files, settings, Path(folder) / "out", Report(heard, report.is_cancelled))
        clock.close()
    total = sum(seconds for seconds, _ in clock.stages.values())
    stages = {
        name: {
            "seconds": round(seconds, 3),
            "share": round(seconds / max(total, 1e-9), 4),
            "cores": round(cpu / max(seconds, 1e-9), 2),
        }
        for name, (seconds, cpu) in clock.stages.items()
    }
    fields = {
        "cores": process.threads(),
        "frames": len(files.plate),
        "seconds": round(total, 3),
        "cores_used": round(sum(cpu for _, cpu in clock.stages.values()) / max(total, 1e-9), 2),
        "peak_bytes": memory.peak_bytes,
        "device": _card(),
        "stages": stages,
    }
    return fields, _table(fields)


def _table(fields: dict[str, Any]) -> str:
    rows = [f"{'stage':10s} {'seconds':>8s} {'share':>7s} {'cores':>6s}"]
    for name, one in fields["stages"].items():
        rows.append(f"{name:10s} {one['seconds']:8.2f} {one['share']:7.1%} {one['cores']:6.1f}")
    rows.append(f"{'all':10s} {fields['seconds']:8.2f} {'100.0%':>7s} {fields['cores_used']:6.1f} of {fields['cores']}")
    rows.append(f"{fields['frames']} frames, {fields['peak_bytes'] / 2**30:.2f} GiB at most, card: {fields['device']}")
    return "\n".join(rows)


class _Stages:
    """Seconds and processor seconds by stage, as progress is told."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[float, float]] = {}
        self._name = "open"
        self._since = time.monotonic(), _cpu_s()

    def heard(self, event: Event) -> None:
        if event.get("event") == "progress" and event["stage"] != self._name:
            self.close()
            self._name = event["stage"]

    def close(self) -> None:
        """End the stage at hand."""
        now = time.monotonic(), _cpu_s()
        seconds, cpu = self.stages.get(self._name, (0.0, 0.0))
        self.stages[self._name] = seconds + now[0] - self._since[0], cpu + now[1] - self._since[1]
        self._since = now


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


class _MemoryWatch:
    """The most memory that this process and those it forked held together, looked at many times a second.

    Pages that processes share are counted once each (proportional set size, proc(5)); 0 where the system has no /proc.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, sum(_held_bytes(pid) for pid in _family()))


def _family() -> list[str]:
    """Ids of this process and all that came of it. Every process is looked at: not each kernel lists children."""
    mothers: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError, IndexError):
                if entry.name.isdigit():
                    # A process's name comes before, in brackets, and may hold anything.
                    mothers[entry.name] = (
                        Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                    )
    found = [str(os.getpid())] if mothers else []
    for mother in found:
        found += [pid for pid, hers in mothers.items() if hers == mother]
    return found


def _held_bytes(pid: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _card() -> str:
    """The card that the shot was worked on with; none where no engine loaded torch."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name(0)) if torch is not None and torch.cuda.is_available() else "none"
