"""How much of the machine this process may use, and how its memory is laid out.

What comes in: what the user asked for, what the system grants. What goes out: numbers; the process is changed where
said. It knows no shot.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

HEAPS = 2
"""glibc gives up to eight heaps a core to a process's threads, and each keeps what it once held: a 4096x2160 shot,
whose frames are read, filled and written by some ten threads, took 3.15 GiB as it came and 2.54 with two heaps, in
the same time (24 frames, 2 cores, both side by side on one machine)."""
_M_ARENA_MAX = -8
"""Source: mallopt(3), malloc.h of the GNU C library."""
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Source: Control Group v2, cpu.max: "quota period", or "max period"."""
THREADS_VARIABLE = "VOID_THREADS"
"""Cores that processes which no flag reaches may use: a daemon's workers, a farm's tasks."""
FREE_SHARE = 0.5
"""Of the memory that is free, a shot's working processes take no more than this share together."""

_asked: int | None = None


def use_threads(asked: int | None) -> None:
    """Let this process use so many cores from now on; None is all that the system grants."""
    global _asked  # noqa: PLW0603 - one process, one answer
    _asked = asked


def threads() -> int:
    """Cores that this process may use: what the user asked for, at most what the system grants."""
    granted = granted_cores()
    asked = _asked
    if asked is None:
        told = os.environ.get(THREADS_VARIABLE, "")
        asked = int(told) if told.isdigit() else granted
    return max(1, min(asked, granted))


def granted_cores() -> int:
    """Cores that the system grants: the scheduler's affinity, and a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()[:2]
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return cores


def hands(each_bytes: int) -> int:
    """How many processes may work at a time, each taking `each_bytes`: one a core, fewer where memory is short."""
    free = free_bytes()
    most = threads() if free is None else int(free * FREE_SHARE) // max(1, each_bytes)
    return max(1, min(threads(), most))


def free_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say (not Linux)."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def limit_malloc_arenas() -> None:
    """Let threads that start from now on share HEAPS heaps. Does nothing without the GNU C library."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, HEAPS)
