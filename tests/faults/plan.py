"""What a seed means: drawn from it in one go, before anything happens."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.trouble import TROUBLE, Trouble


@dataclass(frozen=True)
class Plan:
    """One scenario. The generators of those who act begin with `artists` and `seeds`, one for each of `makers`."""

    small: bool
    """A disk of 20 MB, where one can be mounted."""
    devices: tuple[str, ...]
    makers: tuple[Trouble, ...]
    artists: tuple[float, ...]
    seeds: tuple[float, ...]

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The order of the draws is the meaning of all seeds ever reported: leave it."""
        draw = random.Random(seed)
        small = draw.random() < 0.35
        devices = ("cpu", "cuda:0") if draw.random() < 0.3 else ("cpu",)
        makers = tuple(draw.sample(TROUBLE, draw.randint(1, 4)))
        artists = tuple(draw.random() for _ in range(draw.randint(1, 3)))
        return cls(small, devices, makers, artists, tuple(draw.random() for _ in makers))
