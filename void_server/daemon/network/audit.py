"""One line for everything that somebody was let do, or kept from doing: who, what, from where, about which job.

What comes in: words. What goes out: `audit.log` in the data folder, one JSON object a line, a few files of it at most.
It does not know sockets, and nothing here ever stops a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from void_server.daemon.files.disk import Disk
from void_server.daemon.watchers import Peer

_FILE_BYTES = 16 << 20
_FILES = 8
_REPEAT_S = 10.0
"""The same refusal of the same address is told once in this time, with how often it happened."""


class Audit:
    """Writes lines behind everybody's back. Belongs to the loop's thread; the disk's part is in another."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._lines: list[str] = []
        self._refused: dict[tuple[str, str, str], tuple[float, int]] = {}

    def note(self, what: str, peer: Peer, **more: Any) -> None:
        """Something was done for a peer."""
        self._add({"what": what, "who": peer.name, "key": peer.owner, "from": peer.host, **more})

    def refused(self, who: str, host: str, why: str) -> None:
        """Somebody was kept out. Many of the same become one line."""
        now, key = time.monotonic(), (who, host, why)
        since, count = self._refused.get(key, (0.0, 0))
        if count and now - since < _REPEAT_S:
            self._refused[key] = since, count + 1
            return
        if len(self._refused) > 1000:
            self._refused.clear()
        self._refused[key] = now, 1
        self._add({"what": "refuse", "key": who, "from": host, "why": why, "before": count})

    async def write(self) -> None:
        """Put what was said on the disk."""
        lines, self._lines = self._lines, []
        if lines:
            # A disk that is full must not stop the daemon; what it can't keep is lost.
            with contextlib.suppress(Exception):
                await self._disk.do(lambda: self._append(lines))

    def _add(self, fields: dict[str, Any]) -> None:
        if len(self._lines) < 10_000:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._lines.append(json.dumps({"at": stamp, **fields}) + "\n")

    def _append(self, lines: list[str]) -> None:
        if self._path.exists() and self._path.stat().st_size > _FILE_BYTES:
            for number in range(_FILES - 1, 0, -1):
                older = self._path.with_name(f"{self._path.name}.{number}")
                if older.exists():
                    older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
            self._path.with_name(f"{self._path.name}.{_FILES}").unlink(missing_ok=True)
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.writelines(lines)
