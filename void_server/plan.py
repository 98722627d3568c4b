"""Open a job: everything that is settled before the first pixel is computed.

What comes in: a shot's files and settings, a folder. What goes out: a frozen `Plan`: the checked shot, the engine and
why, digests of all inputs, the folder and which of its frames are finished. It decodes no picture. `run`, the daemon's
worker, a farm's tasks and the assembly of chunks all begin here, so that nothing is checked or hashed twice.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from void_server import engine as engines
from void_server.effects.findings import Finding
from void_server.result.folder import Hashes, ResultFolder, finding_key, fingerprint, hash_inputs, plates_key
from void_server.shot.check import WRITTEN, CheckedShot, check_output, check_shot
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings

FOUND = ".found"


@dataclasses.dataclass(frozen=True)
class Opened:
    """A shot whose headers agree and whose files are all read once, and where it will go. No engine is chosen."""

    checked: CheckedShot
    hashes: Hashes
    out: Path
    started: float
    """`time.monotonic()` when the job was opened."""
    found: Path
    """The folder in which what is found to be affected is kept from one job to the next."""

    @property
    def finding(self) -> Finding:
        """Where this shot's own is kept."""
        return Finding(self.found, finding_key(self.checked, self.hashes))

    @property
    def plates_key(self) -> str:
        """The same for two shots of the same plates, and for no others."""
        return plates_key(self.checked, self.hashes)


@dataclasses.dataclass(frozen=True)
class Plan(Opened):
    """A job that may begin."""

    engine: str
    reason: str
    """Why this engine, in words for the artist."""
    result: ResultFolder
    finished: Mapping[int, Mapping[str, Any]]
    """Frames to deliver that are made already, from the same inputs and settings, with what was noted about each."""

    @property
    def to_make(self) -> list[int]:
        """Frames that are still to be made, ascending."""
        return [frame for frame in self.checked.wanted if frame not in self.finished]

    def looked_again(self) -> Plan:
        """The same job with the frames that are finished by now, by this process or another."""
        made = self.result.all_finished()
        return dataclasses.replace(self, finished={f: made[f] for f in self.checked.wanted if f in made})


def open_shot(
    files: ShotFiles,
    settings: ShotSettings,
    out: Path,
    report: Report,
    *,
    digests: Mapping[Path, str] | None = None,
    found: Path | None = None,
    written: Iterable[str] = WRITTEN,
) -> Opened:
    """Check and hash a shot. Raises RequestErrors that list every problem.

    digests: sha256 of files whose bytes the caller knows already. found: a folder of findings that jobs share; without
    one they lie beside the result. written: names of the frames that will be, none of which may be an input.
    """
    started = time.monotonic()
    checked = check_shot(files, settings)
    check_output(out, files, written)
    return Opened(checked, hash_inputs(checked, report, digests or {}), out, started, found or out / FOUND)


def open_job(
    files: ShotFiles,
    settings: ShotSettings,
    out: Path,
    report: Report,
    *,
    digests: Mapping[Path, str] | None = None,
    found: Path | None = None,
) -> Plan:
    """The same, with an engine chosen and the result's folder opened. Raises OutputError for a folder that can't be
    written to."""
    opened = open_shot(files, settings, out, report, digests=digests, found=found)
    name, reason = engines.choose(settings.engine, settings.device)
    result = ResultFolder(out, fingerprint(opened.checked, opened.hashes, name))
    finished = result.finished(opened.checked.wanted)
    return Plan(opened.checked, opened.hashes, out, opened.started, opened.found, name, reason, result, finished)
