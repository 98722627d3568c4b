"""Where the chunks of one EXR part lie: which pixels each holds, and where its bytes are.

In: a part's header and an open file. Out: a Layout that maps windows to chunks and chunks to stored bytes. Scanline
chunks and tiles are one thing here: a grid of blocks. Decodes nothing, and chooses no channels.

Refuses by name what has no such grid at full resolution: deep parts, mip and rip maps, subsampled channels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from void_server.image.exr.container import MAX_SIDE_PX, Container, PartHeader, Source
from void_server.wire.errors import PlateError
from void_server.wire.shot import Window

PXR24 = 5
ZIP = 3
LINES_PER_CHUNK = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32, 256, 1)
"""Rows per scanline chunk by compression number. Measured by writing each codec with OpenEXR 3.5.3."""
COMPRESSIONS = (
    "none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a",
    "dwaa", "dwab", "htj2k256", "htj2k32", "lj2k", "zstd",
)  # fmt: skip
"""Names by compression number, as in OpenEXR 3.5's `ImfCompression.h`."""

MAX_BLOCK_BYTES = 2**28
"""Largest chunk taken, decoded: the library and we hold four copies of it for a moment (measured: 1 GiB took 4.3 GB).
256 rows of DWAB, 8192 wide, 64 half channels are just as much."""

BYTES_PER_SAMPLE = {"half": 2, "float": 4, "uint": 4}


class Span(NamedTuple):
    """A chunk's place in the file: `start` of its header, `payload` of its packed pixels, `end`."""

    start: int
    payload: int
    end: int


@dataclass(frozen=True)
class Layout:
    """The grid of one flat, one-level part. `block` is the (width, height) of a full chunk."""

    part: PartHeader
    window: Window
    block: tuple[int, int]
    tiled: bool
    multipart: bool
    body_offset: int

    @property
    def columns(self) -> int:
        return -(-self.window.width // self.block[0])

    @property
    def chunk_count(self) -> int:
        return self.columns * -(-self.window.height // self.block[1])

    @property
    def bytes_per_pixel(self) -> int:
        return sum(BYTES_PER_SAMPLE[channel.dtype] for channel in self.part.channels)

    @property
    def header_layout(self) -> str:
        """Struct layout of the bytes before a chunk's payload: part number (multi-part only), coordinates, size."""
        return "<" + "i" * (self.multipart + (4 if self.tiled else 1) + 1)

    def block_window(self, chunk: int) -> Window:
        """The pixels that a chunk holds."""
        row, column = divmod(chunk, self.columns)
        x0 = self.window.x0 + column * self.block[0]
        y0 = self.window.y0 + row * self.block[1]
        return Window(x0, y0, x0 + self.block[0], y0 + self.block[1]).intersect(self.window)

    def chunks_over(self, window: Window) -> list[int]:
        """Every chunk that holds pixels of `window`, ascending."""
        window = window.intersect(self.window)
        if window.empty:
            return []
        width, height = self.block
        rows = range((window.y0 - self.window.y0) // height, (window.y1 - 1 - self.window.y0) // height + 1)
        columns = range((window.x0 - self.window.x0) // width, (window.x1 - 1 - self.window.x0) // width + 1)
        return [row * self.columns + column for row in rows for column in columns]

    def chunk_header(self, chunk: int, payload_bytes: int) -> bytes:
        """The bytes that precede a chunk's payload in the file."""
        row, column = divmod(chunk, self.columns)
        place = (column, row, 0, 0) if self.tiled else (self.window.y0 + row * self.block[1],)
        part = (self.part.index,) if self.multipart else ()
        return struct.pack(self.header_layout, *part, *place, payload_bytes)


def is_lossy(part: PartHeader) -> bool:
    """Whether saving the part again in its own codec would change samples.

    Measured with OpenEXR 3.5.3: an unchanged frame saved again loses 97 % of its half samples in DWA, 91 % in B44.
    """
    name = compression_name(part)
    dtypes = {channel.dtype for channel in part.channels}
    if name == "pxr24":
        return "float" in dtypes
    if name in ("b44", "b44a"):
        return "half" in dtypes
    return name in ("dwaa", "dwab", "lj2k")


def compression_name(part: PartHeader) -> str:
    known = part.compression < len(COMPRESSIONS)
    return COMPRESSIONS[part.compression] if known else f"number {part.compression}"


def find_layout(path: Path, container: Container, part: PartHeader) -> Layout:
    """The grid of a part. Raises PlateError for what can't be handled: deep, mip-mapped, subsampled, unknown codec."""
    _refuse_unsupported(path, part)
    window = part.data_window
    tiled = part.storage == "tiledimage"
    block = _tile_size(path, part) if tiled else (window.width, LINES_PER_CHUNK[part.compression])
    layout = Layout(part, window, block, tiled, container.multipart, 0)
    if min(block[0], window.width) * min(block[1], window.height) * layout.bytes_per_pixel > MAX_BLOCK_BYTES:
        raise PlateError(
            f"{path} packs more than {MAX_BLOCK_BYTES >> 20} MB into one chunk.",
            "Write the plate with ZIP compression, or with fewer channels in a part.",
        )
    if container.multipart and part.chunk_count != layout.chunk_count:
        raise PlateError(
            f"{path} declares {part.chunk_count} chunks in part {part.index}; its window needs {layout.chunk_count}.",
            "Render or copy the file again; it is damaged.",
        )
    last = container.parts[-1]
    body = last.table_offset + 8 * (last.chunk_count if container.multipart else layout.chunk_count)
    if body > container.size:
        raise PlateError(
            f"{path} is truncated: it ends inside its chunk table.", "Render or copy the file again; it is damaged."
        )
    return Layout(part, window, block, tiled, container.multipart, body)


def _refuse_unsupported(path: Path, part: PartHeader) -> None:
    if part.storage.startswith("deep"):
        raise PlateError(
            f"{path} holds deep pixels; only flat images are handled.",
            "Flatten it first, in Nuke: DeepToImage, then a Write node with ZIP compression.",
        )
    subsampled = [channel.name for channel in part.channels if channel.sampling != (1, 1)]
    if subsampled:
        raise PlateError(
            f"{path} stores luminance and subsampled chroma (channels {', '.join(sorted(subsampled)[:4])}).",
            "Convert it to RGB first, in Nuke: a Read and a Write node with channels rgb and ZIP compression.",
        )
    if part.compression >= len(LINES_PER_CHUNK):
        raise PlateError(
            f"{path} is compressed with codec {part.compression}, which this version does not know.",
            "Write the plate with ZIP or PIZ compression; if it should have been, the file is damaged.",
        )


def _tile_size(path: Path, part: PartHeader) -> tuple[int, int]:
    found = part.attributes.get("tiles")
    if found is None or found.type != "tiledesc" or len(found.value) != 9:
        raise PlateError(f"{path} is tiled but does not say how.", "Render or copy the file again; it is damaged.")
    width, height, mode = struct.unpack("<IIB", found.value)
    if mode & 0xF:
        raise PlateError(
            f"{path} is a mip-mapped or rip-mapped texture; only images of one resolution are handled.",
            "Write it as scanlines first, in Nuke: a Read and a Write node with ZIP compression.",
        )
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise PlateError(
            f"{path} has impossible tiles of {width}x{height} pixels.", "Render or copy the file again; it is damaged."
        )
    return width, height


def read_table(source: Source, layout: Layout) -> list[int]:
    """File offsets of the part's chunks. Raises PlateError when one is missing, outside the file, or there twice."""
    raw = source.read(layout.part.table_offset, 8 * layout.chunk_count)
    table = np.frombuffer(raw, "<u8")
    missing = np.flatnonzero(table == 0)
    if missing.size:
        first, last = layout.block_window(int(missing[0])), layout.block_window(int(missing[-1]))
        raise PlateError(
            f"{source.path} is incomplete: {missing.size} of {table.size} chunks were never written, "
            f"between rows {first.y0} and {last.y1 - 1}.",
            "Render the frame again, or wait until the render that writes it is done.",
        )
    if table.min() < layout.body_offset or table.max() >= source.size:
        raise source.damaged("is truncated or damaged: its chunk table points outside the file")
    if np.unique(table).size != table.size:
        raise source.damaged("has a broken chunk table: two chunks share one place")
    offsets: list[int] = table.tolist()
    # The chunk that lies last in the file is the one a cut copy loses.
    locate(source, layout, int(table.argmax()), offsets)
    return offsets


def locate(source: Source, layout: Layout, chunk: int, table: list[int]) -> Span:
    """Where a chunk lies, after checking that it is the chunk the table says. Raises PlateError when it is not."""
    start = table[chunk]
    size = struct.calcsize(layout.header_layout)
    *place, payload_bytes = struct.unpack(layout.header_layout, source.read(start, size))
    expected = struct.unpack(layout.header_layout, layout.chunk_header(chunk, 0))
    if tuple(place) != expected[:-1] or payload_bytes < 0:
        raise source.damaged(
            f"is damaged: the rows from {layout.block_window(chunk).y0} on are not where they should be"
        )
    if start + size + payload_bytes > source.size:
        raise source.damaged(f"is truncated in the rows from {layout.block_window(chunk).y0} on")
    return Span(start, start + size, start + size + payload_bytes)


def read_payloads(source: Source, layout: Layout, chunks: Iterable[int], table: list[int]) -> list[bytes]:
    """The packed pixels of chunks, in the order asked for."""
    spans = (locate(source, layout, chunk, table) for chunk in chunks)
    return [source.read(span.payload, span.end - span.payload) for span in spans]
