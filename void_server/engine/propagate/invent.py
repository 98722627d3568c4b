"""Fill what no frame ever shows.

What comes in: a picture with a gap. What goes out: the picture without it. It does not know donors or cameras.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from void_server.background.registration.pyramid import spread
from void_server.engine.contract import Array


def smooth(code: Array, known: npt.NDArray[np.bool_]) -> Array:
    """Continue the known surroundings smoothly: plausible for sky and walls, steady everywhere."""
    out: Array = np.where(known[..., None], code, spread(code, known.astype(np.float32)))
    return out
