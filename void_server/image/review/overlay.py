"""What is marked, laid over the plate for review: the object outlined in red, what it affected in blue, what it may
have affected outlined in amber.

What comes in: light and mattes of one frame. What goes out: one 8-bit sRGB picture. The object is
only outlined, so that what it stands on stays in sight. It knows neither sheets nor movies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from void_server.image import colour, matte
from void_server.image.review import sheet

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def outlined(
    plate_lin: Array, marked: Array, affected: Array, suspected: Array, chromaticities: tuple[float, ...]
) -> Bytes:
    """plate_lin: [H, W, 3]; marked, affected, suspected: [H, W] in [0, 1], of one size. More affected is bluer."""
    picture = sheet.tinted(sheet.dimmed(plate_lin, chromaticities), affected, sheet.AFFECTED_TINT)
    picture[sheet.around(suspected > 0.5)] = sheet.SUSPECTED_TINT
    # Drawn on the pixels around the object, since the object's own edge is what is being judged.
    picture[sheet.around(marked > matte.MATTE_FLOOR)] = sheet.OBJECT_TINT
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def plain(plate_lin: Array, chromaticities: tuple[float, ...]) -> Bytes:
    """The same frame with nothing laid over it."""
    return colour.display(plate_lin, chromaticities)
