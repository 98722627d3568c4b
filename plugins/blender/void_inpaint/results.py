# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders beside the blend file: a version for each run, and the record with which it can be taken up again.

What comes in: paths and plain values. What goes out: folders, records. It knows neither Blender nor the wire.

    BLEND FILE'S FOLDER/void/STRIP/v001/          one Remove (affected_v001: one Preview)
        run.json                                  the record
        sent/plate.0010.exr matte.0010.exr ...    what was rendered to be sent; gone once the run is over
        clean.0010.exr aov.0010.exr sheet.png manifest.json
        patch.0010.exr                            what the strip shows where Output is Patch
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORD = "run.json"
UNFINISHED = "unfinished"


@dataclasses.dataclass(frozen=True)
class Record:
    """One run, on disk before anything is sent, so that whatever dies, it can be taken up."""

    folder: Path
    run: str
    """The mark that the source strip carries."""
    request: str
    """Names the job: the same id with the same shot is the same job, however often it is sent."""
    server: str
    scene: str
    strip: str
    version: int
    deliver: str
    output: str
    settings: Mapping[str, Any]
    first: int
    end: int
    """The strip's handles when the run began: first <= frame < end."""
    anchor: float
    """Where the strip's content began then; the result follows when it was moved since."""
    space: str
    """Blender's name of the colour space that the frames are in."""
    keys: str = ""
    files: Mapping[str, Mapping[int, str]] = dataclasses.field(default_factory=dict)
    """Empty while frames are still being rendered; such a run can't be taken up."""
    job: str = ""
    state: str = UNFINISHED
    """unfinished, done, failed or cancelled."""
    partial: bool = False
    """Whether it is a part of the strip only, laid over what is there."""
    error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def left_behind(self) -> bool:
        """Whether there is a run to take up, where nobody is waiting for it now."""
        return self.state == UNFINISHED and bool(self.files)

    def with_(self, **changes: Any) -> Record:
        """A changed copy, already on disk. Raises OSError."""
        changed = dataclasses.replace(self, **changes)
        changed.save()
        return changed

    def save(self) -> None:
        fields = {**dataclasses.asdict(self), "folder": None}
        part = self.folder / f".{RECORD}.{os.getpid()}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump(fields, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / RECORD)

    @classmethod
    def load(cls, folder: Path) -> Record | None:
        """The record in a folder; None where there is none that can be read."""
        try:
            fields = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            known = {field.name for field in dataclasses.fields(cls)}
            fields = {name: value for name, value in fields.items() if name in known}
            files = {role: {int(f): str(p) for f, p in paths.items()} for role, paths in fields["files"].items()}
            return cls(**{**fields, "folder": folder, "files": files, "warnings": tuple(fields["warnings"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def sent(self, role: str, frame: int) -> Path:
        return self.folder / "sent" / f"{role}.{frame:04d}.exr"

    def frame(self, part: str, frame: int) -> Path:
        """A file of the result: part is clean, patch, aov or affected."""
        return self.folder / f"{part}.{frame:04d}.exr"

    def tidy(self) -> None:
        """Remove what was rendered to be sent. Never fails: a file left over does no harm."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder / "sent")


def claim(root: Path, strip: str, deliver: str) -> tuple[Path, int]:
    """Make the folder of the next version and return it with its number; older ones are never written to.

    Raises OSError.
    """
    folder = root / (re.sub(r"[^A-Za-z0-9._-]+", "_", strip).strip(".") or "strip")
    folder.mkdir(parents=True, exist_ok=True)
    stem = "v" if deliver == "clean" else "affected_v"
    found = [re.fullmatch(rf"{stem}(\d{{3,}})", path.name) for path in folder.iterdir()]
    version = max((int(match[1]) for match in found if match), default=0) + 1
    while True:
        try:
            (folder / f"{stem}{version:03d}").mkdir()
        except FileExistsError:
            version += 1
        else:
            return folder / f"{stem}{version:03d}", version
