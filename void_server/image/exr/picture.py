"""Write a new EXR file that is nobody's copy: half float, with its colour space and frame rate in the header.

In: arrays by channel, primaries. Out: one ZIP file of one part. What a plate's own file becomes is `files.write_clean`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from void_server.image.exr.chunks import LINES_PER_CHUNK, ZIP
from void_server.image.exr.codec import encode
from void_server.image.exr.container import ChannelInfo
from void_server.image.exr.output import atomic, inclusive_box, write_scanlines
from void_server.wire.shot import Window

HALF_MAX = 65504.0
"""Largest finite half float (IEEE 754 binary16)."""


def write_picture(
    out: Path,
    channels: Mapping[str, np.ndarray],
    *,
    chromaticities: tuple[float, ...] | None = None,
    interop_id: str | None = None,
    frames_per_second: Fraction | None = None,
) -> None:
    """Write `out` whole or not at all.

    channels: float [H, W] by name, all of one size; rounded to half and held to its finite range. chromaticities and
    interop_id are left out of the file where None: a mask has no colour. Raises OutputError when it can't be written.
    """
    halves = {
        name: np.clip(channels[name], -HALF_MAX, HALF_MAX).astype(np.float16)
        for name in sorted(channels, key=lambda name: name.encode())
    }
    height, width = next(iter(halves.values())).shape
    window = Window(0, 0, width, height)
    attributes = {
        "displayWindow": ("box2i", inclusive_box(window)),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", struct.pack("<2f", 0, 0)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
    }
    if chromaticities:
        attributes["chromaticities"] = ("chromaticities", struct.pack("<8f", *chromaticities))
    if interop_id:
        attributes["colorInteropID"] = ("string", interop_id.encode())
    if frames_per_second:
        rate = frames_per_second.limit_denominator(100_000)
        attributes["framesPerSecond"] = ("rational", struct.pack("<iI", rate.numerator, rate.denominator))
    infos = tuple(ChannelInfo(name, "half", (1, 1), name.encode(), 0) for name in halves)
    with atomic(out) as file:
        write_scanlines(file, attributes, infos, window, encode(halves, LINES_PER_CHUNK[ZIP], infos, ZIP))
