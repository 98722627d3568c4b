"""One frame of a shot at its fill's size: what the engine drew beside what is known.

What comes in: arrays. What goes out: nothing; these are types. Everything is in code, at the fill's size, on its crop.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from void_server.engine import Array
from void_server.wire.shot import Window

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A fill and the plate it was drawn from."""

    frame: int
    crop: Window
    fill: Array
    """[h, w, 3], as the engine gave it."""
    plate: Array
    """[h, w, 3]"""
    known: Mask
    """[h, w]: the plate shows here what the fill should show, since the engine had nothing to repaint."""
    asked: Array
    """[h, w] in [0, 1]: what the engine was asked to repaint."""
    hole: Array
    """[h, w] in [0, 1]: what has to be replaced. Between the two lies the decoy ring, where the truth is known."""

    @property
    def size(self) -> tuple[int, int]:
        return self.fill.shape[0], self.fill.shape[1]


@dataclasses.dataclass(frozen=True)
class Behind:
    """The recovered background of the same frame."""

    code: Array
    """[h, w, 3]; the plate outside the hole."""
    coverage: Array
    """[h, w] in [0, 1]; 1 outside the hole."""
    scatter: Array
    """[h, w]: by how much its sources are expected to be off."""
