"""A worker and the processes that it made: what they take of the machine's memory together, and their end.

What comes in: the id of a process that leads a group of its own; whatever it forks or runs stays in that group. What
goes out: bytes, and a signal. It knows no jobs. Counting takes some milliseconds: not in the daemon's loop.

Source of the files read: proc_pid_stat(5), proc_pid_statm(5), proc_pid_smaps(5). Where there is no /proc nothing is
known of memory, and nothing is refused for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

_PROC = Path("/proc")


def memory_bytes(leader: int, enough: int) -> int:
    """What the group holds in memory, pages that several share counted once; 0 where that can't be told.

    enough: up to here nobody minds. A sum in which shared pages count for each is returned where even that is no more:
    to tell shared pages apart the kernel must walk through all of them.
    """
    pids = members(leader)
    resident = [_resident_bytes(pid) for pid in pids]
    if len(pids) < 2 or sum(resident) <= enough:
        return sum(resident)
    shares = [_share_bytes(pid) for pid in pids]
    # Where the kernel does not say what is shared: as much as the largest has is surely taken.
    return max(sum(shares), *resident) if all(shares) else max(resident)


def members(leader: int) -> list[int]:
    """Ids of all processes of the group. Every process is looked at: not each kernel lists a process's children."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(_PROC):
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(entry.name)
                # A process's name comes before, in brackets, and may hold anything.
                state, _, group = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[:3]
                if int(group) == leader and state != b"Z":
                    found.append(pid)
    return found


def kill(leader: int) -> None:
    """End all of the group now; the leader itself may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _resident_bytes(pid: int) -> int:
    try:
        pages = int((_PROC / str(pid) / "statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _share_bytes(pid: int) -> int:
    """A process's own pages and its share of those it has in common with others ("Pss"); 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    return 0
