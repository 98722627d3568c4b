"""Replace samples of one EXR part and keep every other byte of the file.

In: an open plate, its layout, the chunks to touch and a function that edits their pixels. Out: the new file's bytes,
written in order to a stream. Untouched bytes are copied as they lie, whatever they mean; touched chunks are decoded,
edited and packed again where they lay; only the offset tables are adjusted. Knows no colour and no file names.

A lossy part can't keep its codec (a second DWA save changes 87 % of the samples, measured): all its chunks are
packed again as ZIP, its compression byte and chunk count change, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import BinaryIO

import numpy as np

from void_server.image.exr.chunks import (
    LINES_PER_CHUNK,
    ZIP,
    Layout,
    Span,
    is_lossy,
    locate,
    read_table,
)
from void_server.image.exr.codec import BATCH_BYTES, decode, encode
from void_server.image.exr.container import Container, Source
from void_server.wire.shot import Window

Edit = Callable[[Window, Mapping[str, np.ndarray]], None]
"""Changes the pixels of one block in place: its window, and one array [h, w] per channel."""

_COPY_BYTES = 4 << 20


def decode_blocks(
    source: Source, layout: Layout, chunks: Sequence[int], spans: Mapping[int, Span]
) -> Iterator[tuple[list[int], tuple[int, int], dict[str, np.ndarray]]]:
    """Decode chunks in groups of one block size and at most `BATCH_BYTES`.

    Yields (chunks, (width, height) of their blocks, arrays [len(chunks) * height, width] by channel).
    """

    def size(chunk: int) -> tuple[int, int]:
        window = layout.block_window(chunk)
        return window.width, window.height

    for (width, height), group in groupby(chunks, key=size):
        wanted = list(group)
        step = max(1, BATCH_BYTES // (width * height * layout.bytes_per_pixel))
        for at in range(0, len(wanted), step):
            batch = wanted[at : at + step]
            payloads = [source.read(spans[chunk].payload, spans[chunk].end - spans[chunk].payload) for chunk in batch]
            yield (
                batch,
                (width, height),
                decode(source.path, payloads, (width, height), layout.part.channels, layout.part.compression),
            )


def write_spliced(
    source: Source, container: Container, layout: Layout, *, touched: Sequence[int], edit: Edit, out: BinaryIO
) -> None:
    """Write the file with `edit` applied to the chunks in `touched`, all else verbatim.

    In a lossy part every chunk is packed anew, whatever `touched` says. Raises PlateError for a damaged source.
    """
    table = read_table(source, layout)
    lossy = is_lossy(layout.part)
    chunks = range(layout.chunk_count) if lossy else touched
    target = _as_zip(layout) if lossy else layout
    spans = {chunk: locate(source, layout, chunk, table) for chunk in chunks}
    in_file_order = sorted(spans, key=lambda chunk: spans[chunk].start)
    _refuse_overlaps(source, [spans[chunk] for chunk in in_file_order])

    out.write(_patched_header(source, layout, target))
    grown = 8 * (target.chunk_count - layout.chunk_count)
    new_table = np.zeros(target.chunk_count, "<u8")
    moves = [(layout.body_offset, grown)]
    copied = layout.body_offset
    packed = _packed(source, layout, target, chunks=in_file_order, spans=spans, edit=edit)
    for chunk, pieces in packed:
        span = spans[chunk]
        _copy(source, copied, span.start, out)
        for index, payload in pieces:
            new_table[index] = out.tell()
            out.write(target.chunk_header(index, len(payload)))
            out.write(payload)
        copied = span.end
        moves.append((span.end, out.tell() - span.end))
    _copy(source, copied, source.size, out)
    _write_tables(source, container, layout, new_table=new_table, moves=moves, spans=spans, out=out)


def _as_zip(layout: Layout) -> Layout:
    block = layout.block if layout.tiled else (layout.block[0], LINES_PER_CHUNK[ZIP])
    grown = 8 * (dataclasses.replace(layout, block=block).chunk_count - layout.chunk_count)
    attributes = dict(layout.part.attributes)
    attributes["compression"] = attributes["compression"]._replace(value=bytes([ZIP]))
    part = dataclasses.replace(layout.part, attributes=attributes)
    return dataclasses.replace(layout, part=part, block=block, body_offset=layout.body_offset + grown)


def _refuse_overlaps(source: Source, spans: Sequence[Span]) -> None:
    for one, following in zip(spans, spans[1:]):
        if one.end > following.start:
            raise source.damaged(f"has a broken chunk table: two chunks share byte {following.start}")


def _patched_header(source: Source, layout: Layout, target: Layout) -> bytes:
    """Everything up to the first chunk, with room for the target's table; tables are filled in at the end."""
    head = bytearray(source.read(0, layout.body_offset))
    part = layout.part
    head[part.attributes["compression"].offset] = target.part.compression
    count = part.attributes.get("chunkCount")
    if count is not None and len(count.value) == 4 and target.chunk_count != layout.chunk_count:
        head[count.offset : count.offset + 4] = target.chunk_count.to_bytes(4, "little")
    table_end = part.table_offset + 8 * layout.chunk_count
    head[table_end:table_end] = bytes(max(0, target.body_offset - layout.body_offset))
    return bytes(head)


def _packed(
    source: Source, layout: Layout, target: Layout, *, chunks: Sequence[int], spans: Mapping[int, Span], edit: Edit
) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """For every chunk, in the order given: the chunks that replace it, as (number, payload) in the line order."""
    ratio = layout.block[1] // target.block[1]
    downward = layout.part.attributes["lineOrder"].value != b"\1"
    for batch, (_, height), arrays in decode_blocks(source, layout, chunks, spans):
        for row, chunk in enumerate(batch):
            rows = slice(row * height, (row + 1) * height)
            edit(layout.block_window(chunk), {name: array[rows] for name, array in arrays.items()})
        payloads = encode(arrays, min(height, target.block[1]), layout.part.channels, target.part.compression)
        each = len(payloads) // len(batch)
        for row, chunk in enumerate(batch):
            numbers = range(chunk * ratio, chunk * ratio + each)
            pieces = list(zip(numbers, payloads[row * each : (row + 1) * each]))
            yield chunk, pieces if downward else pieces[::-1]


def _copy(source: Source, start: int, end: int, out: BinaryIO) -> None:
    while start < end:
        count = min(_COPY_BYTES, end - start)
        out.write(source.read(start, count))
        start += count


def _write_tables(
    source: Source,
    container: Container,
    layout: Layout,
    *,
    new_table: np.ndarray,
    moves: Sequence[tuple[int, int]],
    spans: Mapping[int, Span],
    out: BinaryIO,
) -> None:
    """Fill in where every chunk of every part lies now. `moves`: from this byte of the source on, moved by so much."""
    froms = np.array([at for at, _ in moves], np.int64)
    shifts = np.array([shift for _, shift in moves], np.int64)
    replaced = sorted((span.start, span.end) for span in spans.values())
    starts = np.array([start for start, _ in replaced], np.int64)
    ends = np.array([end for _, end in replaced], np.int64)
    at = min(part.table_offset for part in container.parts)
    for part in container.parts:
        own = part.index == layout.part.index
        count = layout.chunk_count if own else part.chunk_count
        old = np.frombuffer(source.read(part.table_offset, 8 * count), "<u8")
        written = old[old > 0]
        if written.size and not layout.body_offset <= int(written.min()) <= int(written.max()) < source.size:
            raise source.damaged(f"is truncated or damaged: part {part.index} has chunks outside the file")
        old = old.astype(np.int64)
        moved = old + shifts[np.maximum(np.searchsorted(froms, old, "right") - 1, 0)]
        moved[old == 0] = 0
        if replaced:
            span = np.maximum(np.searchsorted(starts, old, "right") - 1, 0)
            inside = (old > starts[span] if own else old >= starts[span]) & (old < ends[span])
            if inside.any():
                raise source.damaged(f"has a broken chunk table: part {part.index} points into another chunk")
        if own:
            fresh = np.array(new_table)
            if fresh.size == moved.size:
                fresh[fresh == 0] = moved[fresh == 0].astype("<u8")
            moved = fresh
        out.seek(at)
        out.write(moved.astype("<u8").tobytes())
        at += 8 * moved.size
    out.seek(0, 2)
