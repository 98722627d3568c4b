"""The bytes around an EXR's pixels: headers, attributes, channel lists and where the chunk tables lie.

In: a path. Out: frozen records that hold every attribute's raw bytes and their place in the file. Knows nothing of
codecs, of which channels are the beauty, and never calls the OpenEXR library: headers it chokes on (Latin-1 strings,
rationals over zero, `deepImageState`, unknown types) are only bytes here. What is read is bounded by the file's size.

Source of the format: "OpenEXR File Layout", openexr.com/en/latest/OpenEXRFileLayout.html.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from void_server.wire.errors import PlateError
from void_server.wire.shot import Window

MAGIC = 20000630
TILED_FLAG, LONG_NAMES_FLAG, DEEP_FLAG, MULTIPART_FLAG = 0x200, 0x400, 0x800, 0x1000
KNOWN_FLAGS = 0xFF | TILED_FLAG | LONG_NAMES_FLAG | DEEP_FLAG | MULTIPART_FLAG

MAX_SIDE_PX = 65536
"""Widest and tallest window taken; cinema cameras end at 17K, panoramas at 32K."""
MAX_PIXELS = 2**27
"""Most pixels in one window (16384 x 8192): a damaged header can't ask for more memory than that. One frame of it in
half floats is 0.8 GB; cinema cameras end at 17216 x 6048."""
MAX_HEADER_BYTES = 64 << 20
"""Longest headers of a file, all parts together; a Cryptomatte's manifest is some megabytes."""
MAX_PARTS = 1024
MAX_ATTRIBUTES = 4096
"""Most attributes of one part."""
MAX_CHANNELS = 4096
"""Most channels of one part; renders with light groups and Cryptomattes have some hundreds."""
MAX_COORDINATE = 2**30
"""The OpenEXR library refuses windows beyond half the range of a 32-bit integer, so that widths can't overflow."""

DAMAGED_HINT = "Render or copy the file again; it is damaged or only partly written."

_OTHERS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"SDPX": "a DPX picture",
    b"XPDS": "a DPX picture",
    b"\x80\x2a\x5f\xd7": "a Cineon picture",
    b"#?RADIANCE": "a Radiance HDR picture",
    b"version https://git-lfs": "a Git LFS pointer",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"PK\x03\x04": "a ZIP archive",
}
"""How other files begin that go by an EXR's name."""

_FIRST_READ_BYTES = 1 << 16
_DTYPES = ("uint", "half", "float")
_REQUIRED: Mapping[str, tuple[str, int | None]] = {
    "channels": ("chlist", None),
    "compression": ("compression", 1),
    "dataWindow": ("box2i", 16),
    "displayWindow": ("box2i", 16),
    "lineOrder": ("lineOrder", 1),
    "pixelAspectRatio": ("float", 4),
    "screenWindowCenter": ("v2f", 8),
    "screenWindowWidth": ("float", 4),
}


class Attribute(NamedTuple):
    """One header attribute: its type's name, raw bytes, and the file offset of those bytes."""

    type: str
    value: bytes
    offset: int


@dataclass(frozen=True)
class ChannelInfo:
    """One channel of a part. `dtype` is 'half', 'float' or 'uint'; `sampling` is (x, y), (1, 1) for full resolution."""

    name: str
    dtype: str
    sampling: tuple[int, int]
    raw_name: bytes
    linear: int
    """The pLinear byte: B44 decodes by it."""


@dataclass(frozen=True)
class PartHeader:
    """One part's header. Windows are half-open.

    table_offset: where its chunk table starts in the file. chunk_count: as declared; 0 in a file of one part.
    """

    index: int
    attributes: Mapping[str, Attribute]
    channels: tuple[ChannelInfo, ...]
    display_window: Window
    data_window: Window
    storage: str
    """'scanlineimage', 'tiledimage', 'deepscanline' or 'deeptile'."""
    table_offset: int = 0
    chunk_count: int = 0

    @property
    def name(self) -> str:
        return self.text("name") or ""

    @property
    def view(self) -> str:
        return self.text("view") or ""

    @property
    def compression(self) -> int:
        return self.attributes["compression"].value[0]

    def text(self, attribute: str) -> str | None:
        """A string attribute; Latin-1 where it is not UTF-8, None where it is missing or of another type."""
        found = self.attributes.get(attribute)
        return decode_text(found.value) if found and found.type == "string" else None

    def unpack(self, attribute: str, type_name: str, layout: str) -> tuple[float, ...] | None:
        """An attribute's numbers by their struct layout; None where it is missing or of another type or size."""
        found = self.attributes.get(attribute)
        if not found or found.type != type_name or len(found.value) != struct.calcsize(layout):
            return None
        return struct.unpack(layout, found.value)


@dataclass(frozen=True)
class Container:
    """A whole file's headers."""

    size: int
    multipart: bool
    parts: tuple[PartHeader, ...]


class Source:
    """An EXR file open for reading. Every failure of the disk is a PlateError that names the file."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.size = size
        self._file = file

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes at `offset`. Raises PlateError when the file ends before that."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.damaged(f"is truncated: it ends at byte {self.size}, {offset + count} are needed")
        try:
            self._file.seek(offset)
            data = self._file.read(count)
            while len(data) < count:
                more = self._file.read(count - len(data))
                if not more:
                    raise PlateError(
                        f"{self.path} became shorter while it was read.",
                        "Wait until its render is done.",
                    )
                data += more
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return data

    def damaged(self, what: str) -> PlateError:
        return PlateError(f"{self.path} {what}.", DAMAGED_HINT)


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a regular file for reading. Raises PlateError for a folder, a pipe, or a file that can't be opened."""
    try:
        # A pipe would block for ever on open, so the kind is looked at first.
        if not stat.S_ISREG(path.stat().st_mode):
            raise PlateError(f"{path} is not a file.", "Name the frames of an EXR sequence.")
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    with file:
        yield Source(path, file, os.fstat(file.fileno()).st_size)


def _unreadable(path: Path, error: Exception) -> PlateError:
    reason = getattr(error, "strerror", None) or str(error)
    return PlateError(f"{path} can't be read: {reason}.", "Check that the file exists and that this user may read it.")


def _shown(text: str) -> str:
    """A name from the file, fit for a one-line message."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:64])


def decode_text(raw: bytes) -> str:
    """EXR strings should be UTF-8; what is not is read as Latin-1, which never fails."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_container(source: Source) -> Container:
    """Read and check all headers of a file; touches no pixels.

    Raises PlateError for anything that is not a well-formed EXR header with room for its chunk tables.
    """
    count = min(_FIRST_READ_BYTES, source.size)
    while True:
        data = source.read(0, count)
        try:
            version, headers, end = _scan(source, data)
            break
        except _MoreBytesError:
            if count == source.size:
                raise source.damaged("ends inside its header") from None
            if count >= MAX_HEADER_BYTES:
                raise source.damaged(f"has headers of more than {MAX_HEADER_BYTES >> 20} MB") from None
            count = min(count * 4, source.size, MAX_HEADER_BYTES)
    multipart = bool(version & MULTIPART_FLAG)
    if not headers:
        raise source.damaged("has no parts")
    parts = []
    for index, attributes in enumerate(headers):
        part = _part(source, index, attributes, version)
        # A single part's table is as long as its geometry says; `exr_chunks` works that out.
        chunks = _declared_chunks(source, part) if multipart else 0
        parts.append(dataclasses.replace(part, table_offset=end, chunk_count=chunks))
        end += 8 * chunks
        if end > source.size:
            raise source.damaged(f"has no room for the {chunks} chunks that part {index} declares")
    return Container(source.size, multipart, tuple(parts))


class _MoreBytesError(Exception):
    """The header goes on beyond the bytes read so far."""


def _scan(source: Source, data: bytes) -> tuple[int, list[dict[str, Attribute]], int]:
    if source.size < 8 or struct.unpack_from("<I", data)[0] != MAGIC:
        raise _no_exr(source, data)
    (version,) = struct.unpack_from("<I", data, 4)
    if version & 0xFF != 2 or version & ~KNOWN_FLAGS:
        raise source.damaged(
            f"declares EXR version {version & 0xFF}, flags {version >> 8:#x}: there is no such version"
        )
    headers: list[dict[str, Attribute]] = []
    at = 8
    while True:
        if at >= len(data):
            raise _MoreBytesError
        if version & MULTIPART_FLAG and data[at] == 0:
            return version, headers, at + 1
        attributes, at = _scan_header(source, data, at)
        headers.append(attributes)
        if len(headers) > MAX_PARTS:
            raise PlateError(
                f"{source.path} has more than {MAX_PARTS} parts.", "Write the plate without the parts nobody needs."
            )
        if not version & MULTIPART_FLAG:
            return version, headers, at


def _no_exr(source: Source, data: bytes) -> PlateError:
    """What a file is that does not begin as an EXR does."""
    if not source.size:
        return PlateError(f"{source.path} is empty (0 bytes).", "Render or copy it again; was the disk full?")
    if not any(data):
        return PlateError(
            f"{source.path} begins with {len(data)} zero bytes: it was never written to its end.", DAMAGED_HINT
        )
    if struct.pack("<I", MAGIC).startswith(data[:4]):
        return source.damaged(f"is cut off after {source.size} bytes")
    kind = next((name for start, name in _OTHERS.items() if data.startswith(start)), None)
    what = f"is {kind}, not an EXR file" if kind else "is not an EXR file"
    hint = "Convert the frames to scene-linear OpenEXR first: in your host, or with void-server convert."
    if kind and "picture" not in kind:
        hint = "Fetch or copy the real file."
    return PlateError(f"{source.path} {what}.", hint)


def _scan_header(source: Source, data: bytes, at: int) -> tuple[dict[str, Attribute], int]:
    attributes: dict[str, Attribute] = {}
    while True:
        raw_name, at = _scan_name(source, data, at)
        if not raw_name:
            return attributes, at
        raw_type, at = _scan_name(source, data, at)
        if at + 4 > len(data):
            raise _MoreBytesError
        (size,) = struct.unpack_from("<i", data, at)
        at += 4
        name = decode_text(raw_name)
        if size < 0 or at + size > min(source.size, MAX_HEADER_BYTES):
            raise source.damaged(f"has a broken header: attribute '{_shown(name)}' claims {size} bytes")
        if at + size > len(data):
            raise _MoreBytesError
        if name in attributes:
            raise source.damaged(f"has attribute '{_shown(name)}' twice in one header")
        if len(attributes) >= MAX_ATTRIBUTES:
            raise source.damaged(f"has more than {MAX_ATTRIBUTES} attributes in one header")
        attributes[name] = Attribute(decode_text(raw_type), data[at : at + size], at)
        at += size


def _scan_name(source: Source, data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\0", at, at + 256)
    if end >= 0:
        return data[at:end], end + 1
    if at + 256 > len(data):
        raise _MoreBytesError
    raise source.damaged("has a broken header: a name of more than 255 bytes")


def _part(source: Source, index: int, attributes: dict[str, Attribute], version: int) -> PartHeader:
    where = f"part {index} " if version & MULTIPART_FLAG else ""
    for name, (type_name, size) in _REQUIRED.items():
        found = attributes.get(name)
        if found is None or found.type != type_name or (size is not None and len(found.value) != size):
            raise source.damaged(f"has a broken header: {where}attribute '{name}' is missing or malformed")
    (aspect,) = struct.unpack("<f", attributes["pixelAspectRatio"].value)
    if not (math.isfinite(aspect) and 1e-6 < aspect < 1e6):  # The bounds of the OpenEXR library.
        raise source.damaged(f"has a broken header: {where}pixel aspect ratio {aspect}")
    windows = [_window(source, attributes[name].value, name) for name in ("displayWindow", "dataWindow")]
    return PartHeader(
        index=index,
        attributes=attributes,
        channels=_channels(source, attributes["channels"].value),
        display_window=windows[0],
        data_window=windows[1],
        storage=_storage(source, attributes, version),
    )


def _storage(source: Source, attributes: dict[str, Attribute], version: int) -> str:
    found = attributes.get("type")
    declared = decode_text(found.value) if found and found.type == "string" else None
    kinds = ("scanlineimage", "tiledimage", "deepscanline", "deeptile")
    if version & (MULTIPART_FLAG | DEEP_FLAG):
        if declared not in kinds:
            raise source.damaged(f"has a part of unknown type '{_shown(str(declared))}'")
        return declared
    storage = "tiledimage" if version & TILED_FLAG else "scanlineimage"
    if declared in kinds and declared != storage:
        raise source.damaged(f"says {storage} in its first bytes and {declared} in its header")
    return storage


def _window(source: Source, raw: bytes, name: str) -> Window:
    x0, y0, x1, y1 = struct.unpack("<4i", raw)
    window = Window(x0, y0, x1 + 1, y1 + 1)
    inside = min(x0, y0) > -MAX_COORDINATE and max(x1, y1) < MAX_COORDINATE
    if not inside or x1 < x0 or y1 < y0:
        raise source.damaged(f"has an impossible {name}: ({x0}, {y0}) to ({x1}, {y1})")
    if max(window.width, window.height) > MAX_SIDE_PX or window.width * window.height > MAX_PIXELS:
        raise PlateError(
            f"{source.path} is {window.width}x{window.height} ({name}); at most {MAX_SIDE_PX} pixels a side and "
            f"{MAX_PIXELS} in all are taken.",
            "Crop or scale the plate; if it is not that large, its header is damaged.",
        )
    return window


def _channels(source: Source, raw: bytes) -> tuple[ChannelInfo, ...]:
    channels: list[ChannelInfo] = []
    at = 0
    while at < len(raw) and raw[at] != 0:
        end = raw.find(b"\0", at)
        if end < 0 or end + 17 > len(raw):
            raise source.damaged("has a broken channel list")
        kind, linear, x, y = struct.unpack_from("<iB3xii", raw, end + 1)
        if not 0 <= kind < len(_DTYPES) or x < 1 or y < 1:
            raise source.damaged("has a broken channel list")
        if len(channels) >= MAX_CHANNELS:
            raise PlateError(
                f"{source.path} has more than {MAX_CHANNELS} channels in a part.",
                "Write the plate without the channels nobody needs.",
            )
        channels.append(ChannelInfo(decode_text(raw[at:end]), _DTYPES[kind], (x, y), raw[at:end], linear))
        at = end + 17
    if at != len(raw) - 1 or len({channel.name for channel in channels}) != len(channels):
        raise source.damaged("has a broken channel list")
    if not channels:
        raise source.damaged("has no channels")
    return tuple(channels)


def _declared_chunks(source: Source, part: PartHeader) -> int:
    """Chunks by the `chunkCount` attribute: in a file of several parts it alone says where the next table starts."""
    found = part.unpack("chunkCount", "int", "<i")
    if found is None or not 0 < found[0] <= source.size:
        raise source.damaged(f"has a broken header: part {part.index} has no usable chunk count")
    return int(found[0])
