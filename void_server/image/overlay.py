"""What is marked, laid over the plate for review: the object outlined in red, what it affected in blue.

What comes in: light, a matte and an affected matte of one frame. What goes out: one 8-bit sRGB picture. The object is
only outlined, so that what it stands on stays in sight. It knows neither sheets nor movies.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.image import colour, matte, sheet

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def outlined(plate_lin: Array, marked: Array, affected: Array, chromaticities: tuple[float, ...]) -> Bytes:
    """plate_lin: [H, W, 3]; marked, affected: [H, W] in [0, 1], of the same size. The stronger affected, the bluer."""
    picture = sheet.tinted(sheet.dimmed(plate_lin, chromaticities), affected, sheet.AFFECTED_TINT)
    inside = (marked > matte.MATTE_FLOOR).astype(np.uint8)
    # Drawn on the pixels around the object, since the object's own edge is what is being judged.
    picture[cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside] = sheet.OBJECT_TINT
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def plain(plate_lin: Array, chromaticities: tuple[float, ...]) -> Bytes:
    """The same frame with nothing laid over it."""
    return colour.display(plate_lin, chromaticities)
