"""The channels of `aov.####.exr`: what was done to each pixel of a frame, and the grain that was added to it.

What comes in: such a file. What goes out: its channels' names, and arrays. It computes nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from void_server.image import exr
from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]

MASKS = ("change", "affected", "suspected", "physics", "coverage", "confidence")
"""One channel each, 0 to 1."""
GRAIN = ("grain.R", "grain.G", "grain.B")
"""The grain that was added to the clean frame, scene-linear: `clean - grain` has none of it. 0 where none was added."""


def read(path: Path) -> dict[str, Array]:
    """Every AOV of a frame by name, float32 [H, W]. Raises MatteError."""
    found = {name: exr.read_matte(exr.read_matte_header(path, name)) for name in MASKS}
    grain = read_grain(path)
    return {**found, **{name: grain[..., index] for index, name in enumerate(GRAIN)}}


def read_grain(path: Path, window: Window | None = None) -> Array:
    """The added grain on `window`, else on the whole data window: float32 [h, w, 3]. Zeros where a file of an earlier
    version tells of none. Raises PlateError, MatteError."""
    header = exr.read_matte_header(path, MASKS[0])
    window = header.data_window if window is None else window
    if not set(GRAIN) <= {channel.name for channel in header.channels}:
        return np.zeros((window.height, window.width, 3), np.float32)
    return exr.read_rgb(exr.read_plate_header(path, GRAIN[0].partition(".")[0]), window).astype(np.float32)
