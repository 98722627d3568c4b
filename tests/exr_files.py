"""EXR files for tests, made with the OpenEXR library or byte by byte, and a second opinion on what a file holds.

In: window, channel types, codec. Out: files with the awkward samples (NaN, infinities, -0, denormals, large ids) that
a plate may hold. Reading here goes through the OpenEXR library alone, never through `void_server`, so that a mistake of
ours can't hide itself.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import OpenEXR

from void_server.wire.shot import Window

KINDS = {"half": np.float16, "float": np.float32, "uint": np.uint32}
RGB = {"R": "half", "G": "half", "B": "half"}
AWKWARD = (np.nan, np.inf, -np.inf, -0.0, 6e-8, -1.5, 65504.0)


def samples(shape: tuple[int, int], kind: str, seed: int) -> np.ndarray:
    """Grain on a ramp with the awkward values strewn in; all 32 bits for ids."""
    rng = np.random.default_rng(seed)
    if kind == "uint":
        return rng.integers(0, 2**32, shape, dtype=np.uint32)
    light = np.linspace(0, 12, shape[1])[None] + rng.normal(0, 0.05, shape)
    light.flat[rng.integers(0, light.size, len(AWKWARD))] = AWKWARD
    return light.astype(KINDS[kind])


def channels(window: Window, kinds: Mapping[str, str], seed: int = 0) -> dict[str, np.ndarray]:
    shape = (window.height, window.width)
    return {name: samples(shape, kind, seed + index) for index, (name, kind) in enumerate(kinds.items())}


def part(
    window: Window,
    kinds: Mapping[str, str] | None = None,
    *,
    compression: int = 3,
    display: Window | None = None,
    tile: tuple[int, int] | None = None,
    name: str = "",
    seed: int = 0,
    **header: object,
) -> OpenEXR.Part:
    """One part for `write`; windows are half-open."""

    def box(half_open: Window) -> tuple[np.ndarray, np.ndarray]:
        x0, y0, x1, y1 = half_open
        return np.array([x0, y0], np.int32), np.array([x1 - 1, y1 - 1], np.int32)

    fields: dict[str, object] = {
        "compression": OpenEXR.Compression(compression),
        "type": OpenEXR.tiledimage if tile else OpenEXR.scanlineimage,
        "dataWindow": box(window),
        "displayWindow": box(display or window),
        **header,
    }
    if tile:
        tiles = OpenEXR.TileDescription()
        tiles.xSize, tiles.ySize, tiles.mode = (*tile, OpenEXR.ONE_LEVEL)
        fields["tiles"] = tiles
    return OpenEXR.Part(fields, channels(window, kinds or RGB, seed), name)


def write(path: Path, *parts: OpenEXR.Part) -> Path:
    OpenEXR.File(list(parts)).write(str(path))
    return path


def patch(data_window: Window, seed: int = 5) -> tuple[Window, np.ndarray, np.ndarray]:
    """A soft-edged change somewhere inside the data window: where, light, alpha."""
    rng = np.random.default_rng(seed)
    x0, y0, x1, y1 = data_window
    window = Window(x0 + 5, y0 + (y1 - y0) // 3, x1 - 9, y0 + (y1 - y0) // 3 + (y1 - y0) // 4)
    change = np.clip(rng.random((window.height, window.width), np.float32) - 0.5, 0, 1)
    rgb = rng.normal(3, 2, (*change.shape, 3)).astype(np.float32)
    return window, rgb, change


def read_bits(data: bytes) -> list[dict[str, np.ndarray]]:
    """Every channel of every part as unsigned integers of its own width, by the OpenEXR library."""
    header_parts = len(OpenEXR.File(io.BytesIO(data), header_only=True).parts)
    file = OpenEXR.File(io.BytesIO(data), separate_channels=True)
    assert len(file.parts) == header_parts, "the library left a part out"
    width = {2: np.uint16, 4: np.uint32}
    return [
        {name: np.asarray(c.pixels).view(width[np.asarray(c.pixels).itemsize]) for name, c in one.channels.items()}
        for one in file.parts
    ]


def header_end(data: bytes) -> int:
    """Offset of the first chunk table."""
    multipart = struct.unpack_from("<I", data, 4)[0] & 0x1000
    at = 8
    while True:
        while data[at]:
            for _ in range(2):
                at = data.index(0, at) + 1
            at += 4 + struct.unpack_from("<i", data, at)[0]
        at += 1
        if not multipart or not data[at]:
            return at + (1 if multipart else 0)


def table(data: bytes) -> list[int]:
    """Chunk offsets of a file of one part: the table ends where the first chunk begins."""
    at = header_end(data)
    offsets: list[int] = []
    while not offsets or at < min(offsets):
        offsets += struct.unpack_from("<Q", data, at)
        at += 8
    return offsets


def attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
    return name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value


def with_attributes(data: bytes, extra: bytes) -> bytes:
    """The same one-part file with more attributes at the end of its header."""
    end, offsets = header_end(data), table(data)
    moved = struct.pack(f"<{len(offsets)}Q", *(offset + len(extra) for offset in offsets))
    return data[: end - 1] + extra + b"\0" + moved + data[end + len(moved) :]


def without_attributes(data: bytes, extra: bytes) -> bytes:
    """The reverse of `with_attributes`, for files the library can't open."""
    at = data.index(extra)
    data = data[:at] + data[at + len(extra) :]
    end = header_end(data)
    count = (struct.unpack_from("<Q", data, end)[0] - len(extra) - end) // 8
    offsets = [offset - len(extra) for offset in struct.unpack_from(f"<{count}Q", data, end)]
    return data[:end] + struct.pack(f"<{count}Q", *offsets) + data[end + 8 * count :]


def shuffled(data: bytes, order: Sequence[int], line_order: int) -> bytes:
    """The same one-part file with its chunks lying in another order, and the line order byte that says so."""
    end, offsets = header_end(data), table(data)
    bounds = sorted([*offsets, len(data)])
    chunks = {offset: data[offset : bounds[bounds.index(offset) + 1]] for offset in offsets}
    new, body, at = [0] * len(offsets), [], end + 8 * len(offsets)
    for index in order:
        new[index] = at
        body.append(chunks[offsets[index]])
        at += len(body[-1])
    place = data.index(b"lineOrder\0lineOrder\0") + 24
    head = data[:place] + bytes([line_order]) + data[place + 1 : end]
    return head + struct.pack(f"<{len(new)}Q", *new) + b"".join(body)
