"""Keep what was found on a shot, so that another seed, prompt, engine or correction does not find it anew.

What comes in: a folder, a key made of everything the finding depends on, a `Look`. What goes out: the same `Look`, bit
for bit. What can't be read again is as good as not kept: a finding is never worth a failed job. It knows no shot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import uuid
import zipfile
from pathlib import Path

import numpy as np

from void_server.effects.find import Affected
from void_server.effects.look import Look

LIMIT_BYTES = 64 << 20
"""Of one folder; a finding of 100 frames takes some hundred kilobytes."""
KEEP_S = 30 * 86400
"""A finding nobody asked for in so long is dropped."""
ROLES = ("appearance", "physics", "suspected")
STAYS = "stays"


@dataclasses.dataclass(frozen=True)
class Finding:
    """Where one finding is kept: a file of its own in a folder that several processes may use."""

    folder: Path
    key: str

    def get(self) -> Look | None:
        """What was found; None if nothing is kept under this key, or it can't be read."""
        path = self._path
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                frames = sorted({int(name.partition(".")[0]) for name in kept.files if name != STAYS})
                affected = {frame: Affected(*(kept[f"{frame}.{role}"] for role in ROLES)) for frame in frames}
                look = Look(affected, bool(kept[STAYS]))
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return look

    def put(self, look: Look) -> None:
        """Keep it, and drop what was not asked for longest. A full or locked disk keeps nothing."""
        arrays = {f"{frame}.{role}": getattr(one, role) for frame, one in look.affected.items() for role in ROLES}
        written = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            self.folder.mkdir(exist_ok=True)
            with written.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **{STAYS: np.array(look.stays)}, **arrays)
            written.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
            return
        sweep(self.folder)

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.key}.npz"


def sweep(folder: Path) -> None:
    """Drop findings that are too old, and the oldest of what is too much."""
    total, now = 0, time.time()
    with contextlib.suppress(OSError):
        kept = [(entry.stat(), Path(entry.path)) for entry in os.scandir(folder) if entry.is_file()]
        for facts, path in sorted(kept, key=lambda one: -one[0].st_mtime):
            total += facts.st_size
            if total > LIMIT_BYTES or now - facts.st_mtime > KEEP_S:
                path.unlink(missing_ok=True)
