"""What a farm's worker runs: one shot, one chunk of a shot, or some rows of a batch.

What comes in: files, settings, folders, a Report. What goes out: the frames, and for batches one outcome a shot. It
decides what a task makes and where; how it is made is `pipeline`'s business.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from void_server import pipeline
from void_server.commands import shot_flags
from void_server.farm import batch, chunks
from void_server.farm import client as farm_client
from void_server.farm.batch import Row
from void_server.farm_worker import warm
from void_server.farm_worker.assemble import chunk_settings
from void_server.wire.errors import JobCancelledError, JobError, SettingsError, VoidError
from void_server.wire.report import Report
from void_server.wire.shot import FrameRange, ShotFiles, ShotSettings


@dataclasses.dataclass
class BatchOutcome:
    """What became of a task's shots."""

    done: list[str] = dataclasses.field(default_factory=list)
    failed: list[tuple[str, VoidError]] = dataclasses.field(default_factory=list)

    def error(self, out: str) -> JobError:
        """One error that names every shot that failed."""
        lines = "; ".join(f"{name}: {error.message}" for name, error in self.failed[:20])
        more = f"; and {len(self.failed) - 20} more" if len(self.failed) > 20 else ""
        total = len(self.failed) + len(self.done)
        return JobError(
            f"{len(self.failed)} of {total} shots failed: {lines}{more}",
            f"The others are finished. Each reason lies in its folder under {out}, in failed.json.",
        )


def run_batch(rows: Sequence[Row], general: Sequence[str], report: Report) -> BatchOutcome:
    """Shots of a batch, one after the other; one that fails stops no other. general: settings that rows may override.

    Raises JobCancelledError alone. A shot that is finished already is not made again.
    """
    outcome, reader = BatchOutcome(), shot_flags.reader()
    for index, row in enumerate(rows):
        report.progress("shots", index, len(rows))
        try:
            args = reader.parse_args([*general, *row.words()])
            run_shot(shot_flags.files(args), shot_flags.settings(args), row.out, report.within(row.name))
        except JobCancelledError:
            raise
        except VoidError as error:
            outcome.failed.append((row.name, error))
            batch.note_failure(row, error)
            report.warn("shot-failed", f"{row.name}: {error}")
        else:
            outcome.done.append(row.name)
            batch.note_success(row)
    report.progress("shots", len(rows), len(rows))
    return outcome


@contextlib.contextmanager
def told_in(out: Path, name: str) -> Iterator[None]:
    """Leave a task's failure beside its frames, for hosts that wait there; take it away when it succeeds.

    out: the folder of the task's own frames. name: what the shot is called.
    """
    try:
        yield
    except JobCancelledError:
        raise
    except VoidError as error:
        batch.write_failure(out, name, error)
        raise
    (out / batch.FAILED).unlink(missing_ok=True)


def unwanted(out: Path, cancelled: Callable[[], bool]) -> Callable[[], bool]:
    """Whether the farm, or the host that waits for the result, wants it no more. Looks at the disk once a second."""
    looked, found = 0.0, False

    def ask() -> bool:
        nonlocal looked, found
        now = time.monotonic()
        if now - looked > farm_client.LOOK_S:
            looked, found = now, (out / farm_client.CANCELLED).exists()
        return found or cancelled()

    return ask


def run_shot(files: ShotFiles, settings: ShotSettings, out: Path, report: Report) -> dict[str, Any]:
    """A whole shot: the same as `void-server run`. Returns the manifest; raises like the pipeline."""
    return _make(files, settings, out, report)


def run_chunk(
    files: ShotFiles, settings: ShotSettings, out: Path, chunk: FrameRange, overlap: int, report: Report
) -> dict[str, Any]:
    """One chunk, into a folder of its own under `out`, from where `assemble` takes it. Raises like the pipeline.

    settings.frames: the whole shot's. Takes up an interrupted chunk where it stopped.
    """
    shot = settings.frames or FrameRange(min(files.plate), max(files.plate))
    if chunk.first < shot.first or chunk.last > shot.last:
        raise SettingsError(f"Chunk {chunk} reaches outside the shot, which has {shot}.", "Give --frames of the shot.")
    part = chunk_settings(settings, chunk, shot, overlap)
    return _make(files, part, chunks.folder(out, chunk), report, part_of_shot=True)


def _make(
    files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, part_of_shot: bool = False
) -> dict[str, Any]:
    """In this process, or by the session's daemon where there is one: its engine is warm."""
    address = os.environ.get(warm.VARIABLE)
    if address:
        return warm.make_clean_plate(address, files, settings, out, report, part_of_shot=part_of_shot)
    return pipeline.make_clean_plate(files, settings, out, report, part_of_shot=part_of_shot)
