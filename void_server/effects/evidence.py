"""What the predictor looks at, at its own small size and in the code it was trained on.

What comes in: scene-linear plate, background and matte of one frame, of any size. What goes out: float32 arrays,
channels first, 192 pixels on the short side. It knows no network and no file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from void_server.image.colour import REC709_LUMINANCE

Array = npt.NDArray[np.float32]

SHORT_SIDE, MULTIPLE = 192, 32
"""What the network was trained at, and what its sizes must be multiples of."""
MOST_LONG = 480
"""A panorama is squeezed rather than looked at in full."""
KNEE, GAMMA = 0.8, 2.2
"""The training pictures' curve: a power below the knee, a shoulder above (training/sensor.py)."""
DARKEST, BRIGHTEST = 0.06, 0.30
"""Mean light of training pictures; a plate outside is brought to the nearer end."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One frame, all float32 [C, h, w] in [0, 1]: plate and behind in code, the others of one channel."""

    plate: Array
    behind: Array
    matte: Array
    coverage: Array
    scatter: Array


def network_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which the network looks at a picture of this shape.

    >>> network_size(2160, 4096), network_size(480, 854), network_size(240, 320), network_size(1920, 1080)
    ((192, 352), (192, 352), (192, 256), (352, 192))
    """
    scale = SHORT_SIDE / min(height, width)
    fitted = [min(MOST_LONG, max(MULTIPLE, MULTIPLE * round(side * scale / MULTIPLE))) for side in (height, width)]
    return fitted[0], fitted[1]


def exposure(plates: Iterable[Array]) -> float:
    """The gain that brings a shot's light to where training pictures lie; 1 for most.

    plates: scene-linear [h, w, 3].
    """
    light = [np.clip(p @ REC709_LUMINANCE, 0, None) for p in plates]
    if not light:
        return 1.0
    mean = float(np.mean([np.minimum(x, 4 * x.mean() + 1e-9).mean() for x in light]))
    return float(np.clip(mean, DARKEST, BRIGHTEST) / mean) if mean > 0 else 1.0


def code(light: Array, gain: float) -> Array:
    """Scene-linear to the training pictures' code in [0, 1]."""
    x = np.clip(light * np.float32(gain), 0, 4)
    shoulder = KNEE + (1 - KNEE) * (1 - np.exp(-(np.maximum(x, KNEE) - KNEE) / (1 - KNEE)))
    return np.asarray(np.power(np.where(x > KNEE, shoulder, x), 1 / GAMMA), np.float32)


def gather(plate: Array, matte: Array, behind: Array, coverage: Array, scatter: Array, gain: float) -> Evidence:
    """One frame's evidence. plate, behind: float32 [H, W, 3], scene-linear; the others [H, W]; all of one size."""
    height, width = network_size(*plate.shape[:2])
    shrinks = plate.shape[0] > height or plate.shape[1] > width

    def small(picture: Array) -> Array:
        resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)

    covered = (small(coverage) > 0.99).astype(np.float32)
    coded = code(small(behind), gain)
    farther = code(small(behind)[..., 1] + small(scatter), gain)
    return Evidence(
        np.ascontiguousarray(code(small(plate), gain).transpose(2, 0, 1)),
        np.ascontiguousarray((coded * covered[..., None]).transpose(2, 0, 1)),
        (small(matte) > 0.3).astype(np.float32)[None],
        covered[None],
        ((farther - coded[..., 1]) * covered)[None],
    )
