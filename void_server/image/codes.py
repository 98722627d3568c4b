"""From the code values of movies and pictures to scene-linear light.

What comes in: codes in [0, 1] and the name of their space. What goes out: light in primaries with a name. It opens no
file.

sRGB and the pure powers are exact here; every other name is OpenColorIO's business, through `$OCIO` or its own configs.
A picture for display has no scene behind it: 1 is its white, and that is what 1 will be.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from void_server.image import colour, colour_space
from void_server.wire.errors import ColourError

Array = npt.NDArray[np.float32]

DISPLAY: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "srgb": colour.srgb_decode,
    "bt1886": lambda code: np.maximum(code, 0) ** 2.4,
    "gamma2.2": lambda code: np.maximum(code, 0) ** 2.2,
    "linear": lambda code: code,
    "raw": lambda code: code,
}
"""Curves by name. Sources: IEC 61966-2-1, ITU-R BT.1886. `raw` is for masks: numbers stay as they are."""


def to_light(codes: npt.NDArray[np.floating], space: str) -> Array:
    """codes: float [H, W, 3] in [0, 1]. Returns light float32 [H, W, 3]: linear, in Rec.709 for names of a config and
    in the codes' own primaries for curves. Raises ColourError for a space nobody knows."""
    curve = DISPLAY.get(space.lower())
    if curve is not None:
        return np.asarray(curve(np.asarray(codes, np.float64)), np.float32)
    return _through_config(np.ascontiguousarray(codes, np.float32), space)


def knows(space: str) -> bool:
    """Whether `to_light` takes this name. Raises ColourError where it does not."""
    to_light(np.zeros((1, 1, 3), np.float32), space)
    return True


def _through_config(codes: Array, space: str) -> Array:
    import PyOpenColorIO

    for _, config in colour_space.configs(os.environ.get("OCIO", "")):
        if config.getColorSpace(space) is None:
            continue
        try:
            make = PyOpenColorIO.Config.GetProcessorToBuiltinColorSpace
            processor = make(config, space, "Linear Rec.709 (sRGB)").getDefaultCPUProcessor()
        except PyOpenColorIO.Exception as error:
            why = " ".join(str(error).split())[:160]
            raise ColourError(f"Space '{space}' can't be made linear: {why}.", "Name another --input-space.") from error
        light = codes.reshape(-1, 3).copy()
        processor.applyRGB(light)
        return light.reshape(codes.shape)
    raise ColourError(
        f"Space '{space}' (--input-space) is unknown.",
        f"Use one of {', '.join(DISPLAY)}, or a name of $OCIO or of an ACES config, as ARRI LogC4.",
    )
