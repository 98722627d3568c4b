# SPDX-License-Identifier: GPL-3.0-or-later
"""Small EXR files written as they should be, channels read by name, windows: what Blender's own images can't do.

What comes in: float arrays, windows, EXR files. What goes out: single-part scanline EXR, ZIP compressed; channels of
the files that the daemon writes. It knows no Blender.

Why not Blender: `Image.save` writes 32-bit EXR without compression (33 MB a HD frame, measured), and knows no windows.
Source of the format: OpenEXR, "OpenEXR File Layout"; the ZIP filter is OpenEXR's own (split bytes, differences).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAGIC = 20000630
ROWS = 16
"""Scanlines in a block of ZIP compression."""
HALF, FLOAT, ZIP = 1, 2, 3
BLOCK_ROWS = {0: 1, 2: 1, ZIP: ROWS}
"""Scanlines in a block, by compression: none, ZIPS, ZIP. Source: OpenEXR, ImfCompression.h."""
LONGEST = 1 << 24
"""Longest attribute of a header that is read."""
Box = tuple[int, int, int, int]
"""EXR's own box: x0, y0, x1, y1, all inclusive, y down."""


def write(path: Path, channels: Mapping[str, np.ndarray], data: Box | None = None, display: Box | None = None) -> None:
    """Write [H, W] arrays by channel name, rows from the top; the name appears when the file is whole.

    Half where that changes no sample, else 32-bit float. data, display: the file's windows;
    without them, the picture's own size.
    """
    names = sorted(channels)
    height, width = channels[names[0]].shape
    with np.errstate(over="ignore", invalid="ignore"):
        halves = {name: channels[name].astype(np.float16) for name in names}
    fits = all(np.array_equal(halves[n], channels[n], equal_nan=True) for n in names)
    rows = halves if fits else {name: channels[name].astype(np.float32) for name in names}
    # [H, channels, W]: a row holds all of one channel, then all of the next, in the order of their names.
    pixels = np.stack([rows[name] for name in names], axis=1)
    data = data or (0, 0, width - 1, height - 1)
    head = _header(names, HALF if fits else FLOAT, data, display or data)
    blocks = [_packed(pixels[y : y + ROWS].tobytes()) for y in range(0, height, ROWS)]
    place = len(head) + 8 * len(blocks)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(head)
        for block in blocks:
            file.write(struct.pack("<Q", place))
            place += 8 + len(block)
        for index, block in enumerate(blocks):
            file.write(struct.pack("<ii", data[1] + index * ROWS, len(block)) + block)
    part.replace(path)


def windows(path: Path) -> tuple[Box, Box]:
    """(data window, display window) of an EXR file's first part. Raises OSError, and ValueError for what is no EXR."""
    with path.open("rb") as file:
        found = _attributes(file, path)
    if b"dataWindow" not in found or b"displayWindow" not in found:
        raise ValueError(f"{path} says no windows")
    return struct.unpack("<4i", found[b"dataWindow"]), struct.unpack("<4i", found[b"displayWindow"])


def channels(path: Path) -> list[str]:
    """Names of the channels of an EXR file's first part. Raises OSError, and ValueError for what is no EXR."""
    with path.open("rb") as file:
        return [name for name, _ in _channels(_attributes(file, path))]


def size(box: Box) -> tuple[int, int]:
    """Width and height of a box.

    >>> size((0, 0, 639, 359))
    (640, 360)
    """
    return box[2] - box[0] + 1, box[3] - box[1] + 1


def read(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """float32 [H, W] of the data window for each channel of `wanted` that the file has.

    For the files that the daemon writes: one part, scanlines, uncompressed or ZIP. Raises OSError, and ValueError for
    any other.
    """
    with path.open("rb") as file:
        found = _attributes(file, path)
        if b"dataWindow" not in found or (b"type" in found and found[b"type"] != b"scanlineimage"):
            raise ValueError(f"{path} is not one picture of scanlines")
        data = struct.unpack("<4i", found[b"dataWindow"])
        kind = found.get(b"compression", b"\xff")[0]
        if kind not in BLOCK_ROWS or b"tiles" in found:
            raise ValueError(f"{path} is compressed in a way that is not read here")
        width, height = size(data)
        dtypes = [(name, np.dtype("<f2") if pixels == HALF else np.dtype("<f4")) for name, pixels in _channels(found)]
        out = {name: np.zeros((height, width), np.float32) for name, _ in dtypes if name in wanted}
        blocks = -(-height // BLOCK_ROWS[kind])
        offsets = struct.unpack(f"<{blocks}Q", file.read(8 * blocks))
        for offset in offsets:
            file.seek(offset)
            first, length = struct.unpack("<ii", file.read(8))
            top = first - data[1]
            rows = min(BLOCK_ROWS[kind], height - top)
            whole = rows * width * sum(dtype.itemsize for _, dtype in dtypes)
            _unpack(_plain(file.read(length), whole), top, rows, width, dtypes, out)
    return out


def _plain(block: bytes, whole: int) -> bytes:
    """A block before the ZIP filter; one that is no smaller was stored as it is."""
    if len(block) >= whole:
        return block
    split = np.frombuffer(zlib.decompress(block), np.uint8).astype(np.int64)
    split[1:] -= 128
    split = np.cumsum(split).astype(np.uint8)
    raw = np.empty_like(split)
    half = (len(split) + 1) // 2
    raw[0::2], raw[1::2] = split[:half], split[half:]
    return raw.tobytes()


def _unpack(
    raw: bytes, top: int, rows: int, width: int, dtypes: list[tuple[str, np.dtype]], out: dict[str, np.ndarray]
) -> None:
    place = 0
    for row in range(top, top + rows):
        for name, dtype in dtypes:
            if name in out:
                out[name][row] = np.frombuffer(raw, dtype, width, place)
            place += width * dtype.itemsize


def _attributes(file: BinaryIO, path: Path) -> dict[bytes, bytes]:
    """The header of the first part: values by name."""
    if file.read(4) != struct.pack("<i", MAGIC):
        raise ValueError(f"{path} is no EXR file")
    file.read(4)
    found: dict[bytes, bytes] = {}
    while name := _word(file):
        _word(file)
        (length,) = struct.unpack("<i", file.read(4))
        if not 0 <= length <= LONGEST:
            raise ValueError(f"{path} has a damaged header")
        found[name] = file.read(length)
    return found


def _channels(found: Mapping[bytes, bytes]) -> list[tuple[str, int]]:
    """Name and kind (HALF, FLOAT, or 0 for whole numbers) of every channel, in the order of the file."""
    value, place, listed = found.get(b"channels", b"\0"), 0, []
    while value[place : place + 1] not in (b"\0", b""):
        end = value.index(b"\0", place)
        listed.append((value[place:end].decode(errors="replace"), value[end + 1]))
        place = end + 17
    return listed


def _word(file: BinaryIO) -> bytes:
    """Text up to a zero byte; empty at the end of a header."""
    letters = bytearray()
    while (letter := file.read(1)) not in (b"\0", b""):
        letters += letter
        if len(letters) > 255:  # the format's longest name
            raise ValueError("a name in the header never ends")
    return bytes(letters)


def _header(names: list[str], kind: int, data: Box, display: Box) -> bytes:
    channels = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1) for name in names) + b"\0"
    attributes = (
        ("channels", "chlist", channels),
        ("compression", "compression", struct.pack("<B", ZIP)),
        ("dataWindow", "box2i", struct.pack("<4i", *data)),
        ("displayWindow", "box2i", struct.pack("<4i", *display)),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    )
    written = (f"{n}\0{t}\0".encode() + struct.pack("<i", len(value)) + value for n, t, value in attributes)
    return struct.pack("<ii", MAGIC, 2) + b"".join(written) + b"\0"


def _packed(block: bytes) -> bytes:
    """A block through the ZIP filter; as it is where that makes it no smaller, as the format asks."""
    raw = np.frombuffer(block, np.uint8)
    split = np.concatenate([raw[0::2], raw[1::2]])
    split[1:] = np.diff(split) + np.uint8(128)
    packed = zlib.compress(split.tobytes(), 4)
    return packed if len(packed) < len(block) else block
