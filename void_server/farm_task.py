"""What a farm's worker runs: one shot, one chunk of a shot, or some rows of a batch.

What comes in: files, settings, folders, a Report. What goes out: the frames, and for batches one outcome a shot. It
decides what a task makes and where; how it is made is `pipeline`'s business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from void_server import pipeline
from void_server.assemble import chunk_settings
from void_server.farm import chunks
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import FrameRange, ShotFiles, ShotSettings


def run_shot(files: ShotFiles, settings: ShotSettings, out: Path, report: Report) -> dict[str, Any]:
    """A whole shot: the same as `void-server run`. Returns the manifest; raises like the pipeline."""
    return pipeline.make_clean_plate(files, settings, out, report)


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
    return pipeline.make_clean_plate(files, part, chunks.folder(out, chunk), report, part_of_shot=True)
