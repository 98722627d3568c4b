"""Put a finished EXR on the disk: under its final name only when it is whole.

In: a name and what to write. Out: the file, or nothing and an OutputError. `write_scanlines` makes a new one-part file
from packed rows. Knows nothing of how a plate is read or which of its samples changed.
"""

from __future__ import annotations

import contextlib
import os
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from void_server.image.exr.chunks import LINES_PER_CHUNK, ZIP
from void_server.image.exr.container import MAGIC, ChannelInfo
from void_server.wire.errors import OutputError
from void_server.wire.shot import Window


@contextlib.contextmanager
def atomic(out: Path, not_over: Path | None = None) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is whole and on the disk; nothing is left behind on failure."""
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        if not_over is not None and out.exists() and out.samefile(not_over):
            raise OutputError(f"{out} is the plate itself.", "Choose another output folder.")
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
        _sync_folder(out.parent)
    except OSError as error:
        raise OutputError(
            f"{out} can't be written: {error.strerror or error}.", "Check the folder's rights and the free disk space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_scanlines(
    file: BinaryIO,
    attributes: Mapping[str, tuple[str, bytes]],
    channels: Sequence[ChannelInfo],
    window: Window,
    payloads: Sequence[bytes],
) -> None:
    """Write a one-part ZIP file of half channels on the data window `window`.

    attributes: type and raw bytes by name, display window included. channels: in the order of their raw names.
    payloads: packed chunks of 16 rows, top to bottom.
    """
    chlist = b"".join(channel.raw_name + struct.pack("<xiB3xii", 1, 0, 1, 1) for channel in channels) + b"\0"
    own = {
        "channels": ("chlist", chlist),
        "compression": ("compression", bytes([ZIP])),
        "dataWindow": ("box2i", inclusive_box(window)),
        "lineOrder": ("lineOrder", b"\0"),
    }
    head = struct.pack("<II", MAGIC, 2)
    for name, (kind, value) in sorted({**attributes, **own}.items()):
        head += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
    head += b"\0"
    offset = len(head) + 8 * len(payloads)
    file.write(head)
    for payload in payloads:
        file.write(struct.pack("<Q", offset))
        offset += 8 + len(payload)
    for index, payload in enumerate(payloads):
        file.write(struct.pack("<ii", window.y0 + LINES_PER_CHUNK[ZIP] * index, len(payload)))
        file.write(payload)


def inclusive_box(window: Window) -> bytes:
    """EXR's box of a half-open window: four 32-bit integers, both corners inside."""
    return struct.pack("<4i", window.x0, window.y0, window.x1 - 1, window.y1 - 1)
