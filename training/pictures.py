"""The pictures that training scenes are covered with, as one file.

What comes in and goes out: tiles for the ray caster's surfaces, whole plates to paste on. It does not know where they
came from; `photographs` makes them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

TILE, PLATE = 256, (448, 784)
HELD_OUT = 8
"""Every eighth tile and plate is kept from training."""


@dataclasses.dataclass
class Pictures:
    """tiles: uint8 [n, bytes], four sizes of each one after another, as root of light, photographs first;
    plates: uint8 [m, 3, 448, 784], display code."""

    tiles: Bytes
    photographic: int
    plates: Bytes

    def part(self, held_out: bool) -> Pictures:
        """The pictures for training, or those kept from it."""
        tiles, plates = ((np.arange(n) % HELD_OUT == 3) == held_out for n in (len(self.tiles), len(self.plates)))
        return Pictures(self.tiles[tiles], int(tiles[: self.photographic].sum()), self.plates[plates])

    def save(self, path: Path) -> None:
        np.savez_compressed(path, tiles=self.tiles, photographic=self.photographic, plates=self.plates)

    @classmethod
    def load(cls, path: Path) -> Pictures:
        with np.load(path) as held:
            return cls(held["tiles"], int(held["photographic"]), held["plates"])
