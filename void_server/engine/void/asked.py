"""What engine `void` asks of its model, wherever that runs.

What comes in and goes out: the arrays of one shot at the model's size. This file imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

from void_server.engine.contract import Array
from void_server.engine.void.options import VoidOptions
from void_server.wire.report import Report


@dataclasses.dataclass(frozen=True)
class Asked:
    """video: float32 [T, H, W, 3], engine colour in [0, 1], with the object in it; labels: the quadmask [T, H, W]."""

    video: Array
    labels: npt.NDArray[np.uint8]
    prompt: str
    seed: int


class Model(Protocol):
    """The model, here or in a process of its own."""

    def prepare(self) -> None:
        """Begin with what takes long before the first shot, and return at once."""

    def most_pixels(self, options: VoidOptions) -> int:
        """Of the largest picture that there is room for."""

    def generate(self, asked: Asked, options: VoidOptions, report: Report) -> Array:
        """float32 [T, H, W, 3] in [0, 1]. Raises EngineError, SettingsError, WeightsError, JobCancelledError."""

    def release(self) -> None:
        """Give back what is kept from shot to shot."""
