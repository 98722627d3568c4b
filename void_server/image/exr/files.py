"""EXR in, EXR out: read plates and mattes, and give back the plate's own file with only the changed samples replaced.

In: paths, windows, arrays. Out: headers, float arrays, files. Only the `exr*` modules know EXR's inclusive boxes, and
only `exr_codec` calls the OpenEXR library. Knows no colour spaces, no sequences and no display.

What is refused, by name and with the remedy: deep, mip-mapped and luminance/chroma files, damaged and unfinished ones,
windows beyond `exr_container.MAX_SIDE_PX` a side or `MAX_PIXELS` in all. Files are opened anew by every call and
nothing is cached, so all functions may be called from many threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from void_server.image.exr.chunks import (
    BYTES_PER_SAMPLE,
    LINES_PER_CHUNK,
    ZIP,
    Layout,
    compression_name,
    find_layout,
    is_lossy,
    locate,
    read_table,
)
from void_server.image.exr.codec import encode
from void_server.image.exr.container import (
    ChannelInfo,
    Container,
    Source,
    open_source,
    read_container,
)
from void_server.image.exr.layers import choose_beauty, choose_matte
from void_server.image.exr.output import atomic, inclusive_box, write_scanlines
from void_server.image.exr.splice import decode_blocks, write_spliced
from void_server.wire.errors import MatteError, PlateError
from void_server.wire.shot import Window

HALF_MAX = 65504.0
"""Largest finite half float (IEEE 754 binary16)."""
HALF_TINY = 2.0**-24
"""Smallest half float above zero (IEEE 754 binary16)."""

AOV_ATTRIBUTES = (
    "pixelAspectRatio",
    "screenWindowCenter",
    "screenWindowWidth",
    "timeCode",
    "framesPerSecond",
    "keyCode",
)
"""What an AOV file takes over from its plate, byte for byte, so that it lines up in a host's viewer and timeline."""


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an EXR before its pixels are read. Windows are half-open, y down, in EXR pixel coordinates."""

    path: Path
    display_window: Window
    data_window: Window
    """Of the chosen part; pixels exist only here."""
    part: int
    part_name: str
    layer: str
    """Prefix of the chosen channels: '' for plain R, G, B."""
    rgb: tuple[str, str, str] | None
    """Channels of the chosen beauty; None for a matte that has none."""
    matte_channel: str | None
    """The channel that `read_matte_header` chose; None for a plate."""
    channels: tuple[ChannelInfo, ...]
    """All channels of the chosen part."""
    part_count: int
    """Of the whole file."""
    compression: str
    lossy: bool
    """Whether saving again in the same codec would change samples; `write_clean` then writes ZIP."""
    tiled: bool
    pixel_aspect: float
    chromaticities: tuple[float, ...] | None
    """x, y of red, green, blue and white, where the file says."""
    aces_container: bool
    color_interop_id: str | None
    frames_per_second: Fraction | None
    timecode: str | None
    """'01:00:00:00', ';' before the frames where drop-frame; None where the file has none."""
    notes: tuple[str, ...]
    """Choices the artist should know of."""
    others: tuple[ImageHeader, ...] = ()
    """Headers of the parts that hold green and blue, where each colour is in a part of its own."""

    @property
    def decoded_bytes(self) -> int:
        """What all chunks hold that must be decoded for the beauty or matte: every channel of its part or parts."""
        own = sum(BYTES_PER_SAMPLE[channel.dtype] for channel in self.channels)
        return own * self.data_window.width * self.data_window.height + sum(o.decoded_bytes for o in self.others)

    @property
    def planes(self) -> tuple[tuple[ImageHeader, tuple[str, ...]], ...]:
        """Which channels of the beauty are in which part."""
        rgb = self.rgb or ()
        return tuple((one, (name,)) for one, name in zip((self, *self.others), rgb)) if self.others else ((self, rgb),)


def read_plate_header(path: Path, layer: str | None = None) -> ImageHeader:
    """Read a plate's header and choose its beauty; reads no pixels.

    layer: a layer, part or view by name; None takes R, G, B, else the one layer that can only be the beauty.
    Checks all that can be checked without decoding: the chunk table is complete and inside the file. Raises PlateError.
    """
    path = Path(path)
    with open_source(path) as source:
        container = read_container(source)
        beauty = choose_beauty(path, container, layer)
        parts = (beauty.part, *beauty.others)
        layout, *others = (find_layout(path, container, part) for part in parts)
        dtypes = {channel.name: channel.dtype for part in parts[::-1] for channel in part.channels}
        if any(dtypes[name] == "uint" for name in beauty.rgb):
            raise PlateError(
                f"{path} holds whole numbers in {', '.join(beauty.rgb)}; light is half or float.",
                "Write the plate as 16-bit half or 32-bit float.",
            )
        for one in (layout, *others):
            read_table(source, one)
        green_and_blue = tuple(_header(path, container, one, beauty.layer, notes=()) for one in others)
        header = _header(path, container, layout, beauty.layer, rgb=beauty.rgb, notes=beauty.notes)
        return dataclasses.replace(header, lossy=any(map(is_lossy, parts)), others=green_and_blue)


def read_matte_header(path: Path, channel: str | None = None) -> ImageHeader:
    """Read a matte's header and choose its channel; reads no pixels.

    channel: a channel by its full name (`A`, `mask.a`, `part.A`), or a layer or part of one channel. None takes alpha,
    else the only channel, else one that is called a matte, else R of plain R, G, B, and says so. Raises MatteError.
    """
    path = Path(path)
    with _as_matte_error(), open_source(path) as source:
        container = read_container(source)
        choice = choose_matte(path, container, channel)
        layout = find_layout(path, container, choice.part)
        dtypes = {info.name: info.dtype for info in choice.part.channels}
        if dtypes[choice.channel] == "uint":
            raise PlateError(
                f"{path} holds whole numbers in {choice.channel}; a matte is half or float, 0 to 1.",
                "Turn the ids into a matte first, in Nuke: an Expression or Cryptomatte node.",
            )
        read_table(source, layout)
        layer = choice.channel.rpartition(".")[0]
        return _header(path, container, layout, layer, matte_channel=choice.channel, notes=choice.notes)


def read_rgb(header: ImageHeader, window: Window | None = None) -> np.ndarray:
    """Read the beauty on `window` (default: all of the data window), decoding only the chunks that hold it.

    Returns rgb_lin: [h, w, 3], float16 where all three channels are half, else float32. NaN and infinities are kept.
    Raises PlateError when the pixels are damaged or the file is no longer the one whose header was read.
    """
    if header.rgb is None:
        raise ValueError(f"{header.path} was read as a matte")
    planes = [_read(one, names, window) for one, names in header.planes]
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


def read_matte(header: ImageHeader, window: Window | None = None) -> np.ndarray:
    """Read the matte on `window` within the data window. Returns matte: float32 [h, w]. Raises MatteError."""
    if header.matte_channel is None:
        raise ValueError(f"{header.path} was not read as a matte")
    with _as_matte_error():
        return _read(header, (header.matte_channel,), window)[..., 0].astype(np.float32)


def write_clean(header: ImageHeader, out: Path, window: Window, rgb_lin: np.ndarray, change: np.ndarray) -> None:
    """Write the plate's file to `out` with its beauty replaced where `change` > 0, every other sample its own.

    rgb_lin: float32 [h, w, 3], scene-linear, and change: float32 [h, w], both on `window`, which lies in the data
    window. Values are rounded to each channel's own type, and held to the finite range of half where that is the type.
    A lossless plate keeps every byte outside the chunks that change; a lossy one is packed again as ZIP.

    Raises PlateError when the plate can't be read, OutputError when `out` can't be written (the disk is full, or it is
    the plate itself), ValueError for arrays off the window or a NaN under `change`.
    """
    if header.rgb is None:
        raise ValueError(f"{header.path} was read as a matte")
    if rgb_lin.shape != (window.height, window.width, 3) or change.shape != rgb_lin.shape[:2]:
        raise ValueError(f"arrays {rgb_lin.shape} and {change.shape} do not lie on {window}")
    if not header.data_window.contains(window):
        raise ValueError(f"{window} reaches out of the data window {header.data_window}")
    mask = change > 0
    if np.isnan(rgb_lin[mask]).any():
        raise ValueError("a NaN would replace light of the plate")
    # Colours in parts of their own are replaced one after the other, each in the file that the one before left.
    steps = [out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.tmp") for _ in header.others]
    at, path = 0, header.path
    try:
        for (one, names), target in zip(header.planes, [*steps, out]):
            light = rgb_lin[..., at : at + len(names)]
            _replace(dataclasses.replace(one, path=path), names, target, window, light, mask, not_over=header.path)
            at, path = at + len(names), target
    finally:
        for step in steps:
            step.unlink(missing_ok=True)


def _replace(
    header: ImageHeader,
    names: tuple[str, ...],
    out: Path,
    window: Window,
    light: np.ndarray,
    mask: np.ndarray,
    *,
    not_over: Path,
) -> None:
    """Write the file of `header` to `out` with channels `names` of one part replaced by `light` where `mask` is set."""

    def edit(block: Window, arrays: Mapping[str, np.ndarray]) -> None:
        both = block.intersect(window)
        if both.empty:
            return
        where = mask[both.slices(window)]
        new = light[both.slices(window)][where]
        for index, name in enumerate(names):
            arrays[name][both.slices(block)][where] = _rounded(new[:, index], arrays[name].dtype)

    with _open_again(header) as (source, container, layout):
        touched = _chunks_under(layout, window, mask)
        with atomic(out, not_over=not_over) as file:
            write_spliced(source, container, layout, touched=touched, edit=edit, out=file)


def write_aov(out: Path, like: ImageHeader, channels: Mapping[str, np.ndarray]) -> None:
    """Write a half-float ZIP file of `channels` on the windows of a plate.

    channels: float32 or float16 [H, W] on `like.data_window`, by name. Values are held to the finite range of half; in
    a channel named `change` nothing above 0 becomes 0, because 0 means the plate's own bits. Pixel aspect, time code
    and frame rate are the plate's. Raises PlateError when the plate is gone, OutputError when `out` can't be written.
    """
    shape = (like.data_window.height, like.data_window.width)
    halves = {}
    for name in sorted(channels, key=lambda name: name.encode()):
        if channels[name].shape != shape:
            raise ValueError(f"channel {name} is {channels[name].shape}; the data window is {shape}")
        halves[name] = _rounded(channels[name], np.dtype(np.float16))
        if name == "change":
            lost = (channels[name] > 0) & (halves[name] == 0)
            halves[name][lost] = HALF_TINY
    infos = tuple(ChannelInfo(name, "half", (1, 1), name.encode(), 0) for name in halves)
    with open_source(like.path) as source:
        parts = read_container(source).parts
    # Time code and rate are often in the first part only; what the beauty's own part says comes last and wins.
    attributes: dict[str, tuple[str, bytes]] = {}
    for part in (parts[0], parts[min(like.part, len(parts) - 1)]):
        attributes.update({name: part.attributes[name][:2] for name in AOV_ATTRIBUTES if name in part.attributes})
    attributes["displayWindow"] = ("box2i", inclusive_box(like.display_window))
    with atomic(out, not_over=like.path) as file:
        payloads = encode(halves, LINES_PER_CHUNK[ZIP], infos, ZIP)
        write_scanlines(file, attributes, infos, like.data_window, payloads)


def _header(
    path: Path,
    container: Container,
    layout: Layout,
    layer: str,
    *,
    rgb: tuple[str, str, str] | None = None,
    matte_channel: str | None = None,
    notes: tuple[str, ...],
) -> ImageHeader:
    part = layout.part
    # Some writers put what all parts share into the first one only.
    both = (part, container.parts[0])
    chromaticities = _first(p.unpack("chromaticities", "chromaticities", "<8f") for p in both)
    aces = _first(p.unpack("acesImageContainerFlag", "int", "<i") for p in both)
    rate = _first(p.unpack("framesPerSecond", "rational", "<iI") for p in both)
    timecode = _first(p.unpack("timeCode", "timecode", "<2I") for p in both)
    (aspect,) = part.unpack("pixelAspectRatio", "float", "<f") or (1.0,)
    return ImageHeader(
        path=path,
        display_window=part.display_window,
        data_window=part.data_window,
        part=part.index,
        part_name=part.name,
        layer=layer,
        rgb=rgb,
        matte_channel=matte_channel,
        channels=part.channels,
        part_count=len(container.parts),
        compression=compression_name(part),
        lossy=is_lossy(part),
        tiled=layout.tiled,
        pixel_aspect=aspect,
        chromaticities=chromaticities,
        aces_container=bool(aces and aces[0] == 1),
        color_interop_id=part.text("colorInteropID") or container.parts[0].text("colorInteropID"),
        frames_per_second=Fraction(int(rate[0]), int(rate[1])) if rate and rate[0] > 0 < rate[1] else None,
        timecode=_timecode(int(timecode[0])) if timecode else None,
        notes=notes,
    )


def _first(values: Iterator[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    return next((value for value in values if value is not None), None)


def _timecode(packed: int) -> str | None:
    """SMPTE 12M binary-coded decimal in EXR's TV60 packing (`ImfTimeCode.h`); None where a digit is above 9."""
    fields = [(packed >> shift) & mask for shift, mask in ((24, 0x3F), (16, 0x7F), (8, 0x7F), (0, 0x3F))]
    if any(field & 0xF > 9 for field in fields):
        return None
    hours, minutes, seconds, frames = (f"{field >> 4}{field & 0xF}" for field in fields)
    drop = ";" if packed & 0x40 else ":"
    return f"{hours}:{minutes}:{seconds}{drop}{frames}"


@contextlib.contextmanager
def _as_matte_error() -> Iterator[None]:
    try:
        yield
    except PlateError as error:
        raise MatteError(error.message, error.hint) from error


@contextlib.contextmanager
def _open_again(header: ImageHeader) -> Iterator[tuple[Source, Container, Layout]]:
    """The file behind a header, which must still be the file whose header was read."""
    with open_source(header.path) as source:
        container = read_container(source)
        part = container.parts[header.part] if header.part < len(container.parts) else None
        if part is None or part.data_window != header.data_window or part.channels != header.channels:
            raise PlateError(
                f"{header.path} changed since its header was read.", "Wait until the render that writes it is done."
            )
        yield source, container, find_layout(header.path, container, part)


def _read(header: ImageHeader, names: tuple[str, ...], window: Window | None) -> np.ndarray:
    window = header.data_window if window is None else window
    if not header.data_window.contains(window):
        raise ValueError(f"{window} reaches out of the data window {header.data_window}")
    dtypes = {channel.name: channel.dtype for channel in header.channels}
    dtype = np.float16 if all(dtypes[name] == "half" for name in names) else np.float32
    with _open_again(header) as (source, _, layout):
        table = read_table(source, layout)
        chunks = layout.chunks_over(window)
        spans = {chunk: locate(source, layout, chunk, table) for chunk in chunks}
        pixels = None
        for batch, (_, height), arrays in decode_blocks(source, layout, chunks, spans):
            if pixels is None:
                # Only now: a header that promises a giant picture fails before it costs memory.
                pixels = np.empty((window.height, window.width, len(names)), dtype)
            for row, chunk in enumerate(batch):
                block = layout.block_window(chunk)
                both = block.intersect(window)
                for index, name in enumerate(names):
                    rows = arrays[name][row * height : (row + 1) * height]
                    pixels[(*both.slices(window), index)] = rows[both.slices(block)]
    return np.empty((0, 0, len(names)), dtype) if pixels is None else pixels


def _chunks_under(layout: Layout, window: Window, mask: np.ndarray) -> list[int]:
    """Chunks in which the mask is set anywhere."""
    found = []
    for chunk in layout.chunks_over(window):
        both = layout.block_window(chunk).intersect(window)
        if mask[both.slices(window)].any():
            found.append(chunk)
    return found


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in a channel's type, to the nearest; half is held to its finite range."""
    if dtype == np.float16:
        values = np.clip(values, -HALF_MAX, HALF_MAX)
    return values.astype(dtype)
