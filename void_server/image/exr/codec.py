"""Packed EXR chunks to arrays and back: the only place that calls the OpenEXR library.

In: packed blocks of one size, and the channels they hold. Out: one array per channel, blocks below each other; and the
reverse. Knows no files: every block travels through a small in-memory tiled EXR with a header of our own making, so
that nothing a plate's header holds can reach the library.

Why that works: a scanline chunk and a tile of the same size hold the same bytes in every codec (tested), so a stack of
blocks is a legal one-column tiled image.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import OpenEXR

from void_server.image.exr.container import LONG_NAMES_FLAG, MAGIC, TILED_FLAG, ChannelInfo
from void_server.wire.errors import InternalError, PlateError

DTYPES: Mapping[str, type[np.generic]] = {"half": np.float16, "float": np.float32, "uint": np.uint32}

BATCH_BYTES = 64 << 20
"""Decoded bytes held at once: a plate of 200 channels streams through in slices of this size."""


def decode(
    path: Path, payloads: Sequence[bytes], size: tuple[int, int], channels: Sequence[ChannelInfo], compression: int
) -> dict[str, np.ndarray]:
    """Unpack blocks of `size` (width, height) into arrays [len(payloads) * height, width] by channel name.

    Raises PlateError naming `path` when the library refuses the bytes. It does so in two ways: by an exception, or by
    printing a warning and leaving the part out (openexr PR 2148), so parts, channels and shapes are counted.
    """
    names = {_library_name(channel): channel for channel in channels}
    stream = io.BytesIO(_stack(payloads, size, channels, compression))
    try:
        parts = OpenEXR.File(stream, separate_channels=True, num_threads=0).parts
        found = {name: np.asarray(channel.pixels) for part in parts for name, channel in part.channels.items()}
    except Exception as error:
        raise _broken(path, str(error)) from error
    if not parts:
        raise _broken(path, "they do not unpack")
    shape = (len(payloads) * size[1], size[0])
    if found.keys() != names.keys():
        raise _broken(path, "channels are missing")
    for name, pixels in found.items():
        if pixels.shape != shape or pixels.dtype != DTYPES[names[name].dtype]:
            raise _broken(path, f"channel {names[name].name} has another size or type")
    return {channel.name: found[name] for name, channel in names.items()}


def encode(
    pixels: Mapping[str, np.ndarray], block_height: int, channels: Sequence[ChannelInfo], compression: int
) -> list[bytes]:
    """Pack arrays [H, W] into blocks of `block_height` rows (the last may be lower), top to bottom.

    Every array must have its channel's own type already; raises InternalError when one has not.
    """
    arrays: dict[str, np.ndarray] = {}
    for channel in channels:
        array = pixels[channel.name]
        if array.dtype != DTYPES[channel.dtype]:
            raise InternalError(f"Channel {channel.name} is {array.dtype}; the file holds {channel.dtype}.")
        # The library writes wrong pixels for strided arrays, silently (openexr issue 1929).
        arrays[_library_name(channel)] = np.ascontiguousarray(array)
    height, width = next(iter(arrays.values())).shape
    tiles = OpenEXR.TileDescription()
    tiles.xSize, tiles.ySize, tiles.mode = width, block_height, OpenEXR.ONE_LEVEL
    header = {"compression": OpenEXR.Compression(compression), "type": OpenEXR.tiledimage, "tiles": tiles}
    stream = io.BytesIO()
    OpenEXR.File(header, arrays, num_threads=0).write(stream)
    return list(_unstack(stream.getvalue(), -(-height // block_height)))


def _stack(
    payloads: Sequence[bytes], size: tuple[int, int], channels: Sequence[ChannelInfo], compression: int
) -> bytes:
    width, height = size
    kinds = {"uint": 0, "half": 1, "float": 2}
    chlist = b"".join(
        _library_name(channel).encode() + struct.pack("<xiB3xii", kinds[channel.dtype], channel.linear, 1, 1)
        for channel in channels
    )
    box = struct.pack("<4i", 0, 0, width - 1, height * len(payloads) - 1)
    attributes = {
        ("channels", "chlist"): chlist + b"\0",
        ("compression", "compression"): bytes([compression]),
        ("dataWindow", "box2i"): box,
        ("displayWindow", "box2i"): box,
        ("lineOrder", "lineOrder"): b"\0",
        ("pixelAspectRatio", "float"): struct.pack("<f", 1),
        ("screenWindowCenter", "v2f"): struct.pack("<2f", 0, 0),
        ("screenWindowWidth", "float"): struct.pack("<f", 1),
        ("tiles", "tiledesc"): struct.pack("<IIB", width, height, 0),
    }
    out = [struct.pack("<II", MAGIC, 2 | TILED_FLAG | LONG_NAMES_FLAG)]
    for (name, kind), value in attributes.items():
        out.append(b"%s\0%s\0%s%s" % (name.encode(), kind.encode(), struct.pack("<i", len(value)), value))
    out.append(b"\0")
    offset = sum(map(len, out)) + 8 * len(payloads)
    table = []
    for payload in payloads:
        table.append(offset)
        offset += 20 + len(payload)
    out.append(struct.pack(f"<{len(table)}Q", *table))
    for row, payload in enumerate(payloads):
        out += struct.pack("<5i", 0, row, 0, 0, len(payload)), payload
    return b"".join(out)


def _unstack(data: bytes, count: int) -> Iterator[bytes]:
    """The payloads of a one-column tiled EXR that the library has just written."""
    at = 8
    while data[at]:
        for _ in range(2):
            at = data.index(0, at) + 1
        at += 4 + struct.unpack_from("<i", data, at)[0]
    for row, offset in enumerate(struct.unpack_from(f"<{count}Q", data, at + 1)):
        _, tile_row, _, _, size = struct.unpack_from("<5i", data, offset)
        if tile_row != row:
            raise InternalError(f"The EXR library put tile {tile_row} in the place of tile {row}.")
        yield data[offset + 20 : offset + 20 + size]


def _library_name(channel: ChannelInfo) -> str:
    """A channel's name as the library must get it: valid UTF-8, one to one, in the same order, ASCII as it is.

    Every byte is read as a Latin-1 letter. The suffixes R, G, B stay, by which DWA decodes.
    """
    return channel.raw_name.decode("latin-1")


def _broken(path: Path, reason: str) -> PlateError:
    return PlateError(
        f"{path} has damaged pixels: {' '.join(reason.split())[:200]}.",
        "Render or copy the file again; a reader that shows it fills the damaged rows with black.",
    )
