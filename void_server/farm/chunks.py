"""A long shot in chunks: which frames each task makes, and how much of each goes into a frame that two tasks made.

What comes in: frame ranges and numbers. What goes out: ranges, folders, weights. It reads no pixels and no files.

A chunk delivers its own frames and `overlap` frames more at either end, so that its neighbour made those too: over them
one is faded into the other. It reads `handles` frames more for context, which it does not make.

    shot      1001 ............................ 1048
    chunk     1001 ......... 1024                        own frames
              1001 ......... 1024 1025-1028              made (overlap 4)
              1001 ......... 1024 1025-1028 1029-1036    read (handles 8)
    next                    1021-1024 1025 ..... 1048    made; 1021 to 1028 are faded
"""

from __future__ import annotations

import re
from pathlib import Path

from void_server.wire.errors import SettingsError
from void_server.wire.shot import FrameRange

DEFAULT_OVERLAP = 4
"""Frames made beyond either end of a chunk: eight faded frames, a third of a second, hide a step (as in pipeline)."""

FOLDER = ".chunks"
"""Where chunks lie inside the output folder until they are assembled; each has a folder of its own, so that tasks on
different machines never write into the same one."""


def evened(shot: FrameRange, most: int) -> int:
    """Frames a chunk, so that all chunks of at most `most` frames are about as long: a farm's last one is no stub.

    >>> evened(FrameRange(1001, 1023), 10)
    8
    """
    if most < 1:
        raise SettingsError(f"Chunks of {most} frames can't be made.", "Give --chunk 1 or more frames.")
    count = -(-len(shot) // most)
    return -(-len(shot) // count)


def split(shot: FrameRange, size: int) -> list[FrameRange]:
    """Chunks of `size` frames, the last one shorter, as Deadline 10 cuts them.

    >>> [str(c) for c in split(FrameRange(1001, 1023), 8)]
    ['1001-1008', '1009-1016', '1017-1023']
    """
    return [FrameRange(f, min(f + size - 1, shot.last)) for f in range(shot.first, shot.last + 1, size)]


def made(chunk: FrameRange, shot: FrameRange, overlap: int) -> FrameRange:
    """The frames that a chunk's task makes: its own and `overlap` more at either end, inside the shot.

    >>> str(made(FrameRange(1025, 1048), FrameRange(1001, 1048), 4))
    '1021-1048'
    """
    return FrameRange(max(shot.first, chunk.first - overlap), min(shot.last, chunk.last + overlap))


def check_overlap(chunks: list[FrameRange], overlap: int) -> None:
    """Raises SettingsError where a frame would be faded at both ends of its chunk at once."""
    if overlap < 0:
        raise SettingsError(f"An overlap of {overlap} frames can't be.", "Give --overlap 0 or more frames.")
    shortest = min(chunks, key=len)
    if len(chunks) > 1 and len(shortest) < 2 * overlap:
        raise SettingsError(
            f"Chunk {shortest} has {len(shortest)} frames, too few to be faded over {2 * overlap} at either end.",
            f"Give --overlap {len(shortest) // 2} or less, or longer chunks.",
        )


def share_of_later(frame: int, seam: int, overlap: int) -> float:
    """How much of the later chunk goes into a frame, where the later chunk's own frames begin at `seam`.

    Linear over the frames that both made. The middle of the fade lies on the seam.

    >>> [round(share_of_later(f, 1025, 2), 2) for f in range(1022, 1028)]
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    return min(1.0, max(0.0, (frame - (seam - overlap) + 1) / (2 * overlap + 1)))


def folder(out: Path, chunk: FrameRange) -> Path:
    """Where a chunk's frames lie until they are assembled."""
    return out / FOLDER / f"{chunk.first}_{chunk.last}"


def parse_folder(name: str) -> FrameRange | None:
    """The frames of a chunk by its folder's name; None for anything else that lies there.

    >>> parse_folder("1001_1024"), parse_folder("tmp")
    (FrameRange(first=1001, last=1024), None)
    """
    match = re.fullmatch(r"(-?\d+)_(-?\d+)", name)
    if not match or int(match[2]) < int(match[1]):
        return None
    return FrameRange(int(match[1]), int(match[2]))
