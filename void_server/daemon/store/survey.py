"""What a daemon's data folder holds, for whoever looks after the disk.

What comes in: a folder, also one that a daemon uses right now. What goes out: lines. It changes nothing, and needs no
daemon.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from void_server.daemon.config import DaemonConfig, default_data
from void_server.wire.messages import LIMITS

_LEAST_FREE_BYTES = 4 << 30

Line = tuple[str, bool, str, str]
"""(what, whether it is well, what is there, what to do about it)."""


def examine(data: Path | None) -> list[Line]:
    """The store, the disk and the limits, as lines."""
    data, given = data or default_data(), data is not None
    limits = ", ".join(f"{name} {value}" for name, value in DaemonConfig(data=data).limits().items())
    shown = ", ".join(f"{name} {limit.value}" for name, limit in LIMITS.items())
    lines: list[Line] = [("limits", True, f"{shown}; by default {limits}", "")]
    store = data / "store.sqlite"
    if not store.is_file():
        return [*lines, ("store", not given, f"no daemon has kept anything in {data}", "Name its folder: --data DIR")]
    free = shutil.disk_usage(data).free
    lines.append((
        "store disk", free > _LEAST_FREE_BYTES, f"{_gb(free)} free for {data}",
        "void-server jobs drop JOB frees what a finished job made.",
    ))  # fmt: skip
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=2.0)) as db:
            lines += [("store", True, text, "") for text in _tables(db)]
    except sqlite3.Error as error:
        hint = "A daemon lays a damaged one aside when it starts, and takes the jobs up from their folders."
        lines.append(("store", False, f"{store} can't be read: {error}", hint))
    aside = sorted(path.name for path in (data / "quarantine").glob("*"))
    if aside:
        hint = f"Look at {data / 'quarantine'}, and delete what nobody misses."
        lines.append(("quarantine", False, f"{len(aside)} laid aside: {', '.join(aside[:5])}", hint))
    return lines


def _tables(db: sqlite3.Connection) -> list[str]:
    states = db.execute("select state, count(*) from jobs group by state order by state").fetchall()
    jobs = ", ".join(f"{count} {state}" for state, count in states) or "no jobs"
    frames, frame_bytes = db.execute("select count(*), coalesce(sum(size), 0) from frames").fetchone()
    results, result_bytes = db.execute("select count(*), coalesce(sum(size), 0) from results").fetchone()
    lines = [
        f"jobs: {jobs}",
        f"frames held: {frames}, {_gb(frame_bytes)}; results: {results}, {_gb(result_bytes)}",
    ]
    waiting = "select count(*) from jobs where state = 'done' and not fetched"
    if "fetched" in {row[1] for row in db.execute("pragma table_info(jobs)")}:
        lines.append(f"results that nobody has fetched: {db.execute(waiting).fetchone()[0]} jobs")
    largest = db.execute(
        "select job, sum(size) from results group by job having sum(size) > 0 order by sum(size) desc limit 3"
    ).fetchall()
    if largest:
        lines.append("largest: " + ", ".join(f"{job} {_gb(size)}" for job, size in largest))
    return lines


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
