"""A predictor that believes one thing everywhere, a background that is known, and a scene with a true shadow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from void_server.effects.evidence import Evidence
from void_server.effects.find import Affected
from void_server.effects.predictor import Belief

Array = npt.NDArray[np.float32]
SIZE = (90, 140)


class Believes:
    """Refuses evidence the shipped network would refuse, and notes how many frames it was asked about at a time."""

    def __init__(self, appearance: float, physics: float = 0.0) -> None:
        self.appearance, self.physics = appearance, physics
        self.asked: list[int] = []

    def look(self, evidence: Sequence[Evidence]) -> list[Belief]:
        assert 1 <= len(evidence) <= 8
        self.asked.append(len(evidence))
        return [self._belief(e) for e in evidence]

    def _belief(self, evidence: Evidence) -> Belief:
        channels, height, width = evidence.plate.shape
        assert channels == 3 and height % 32 == 0 and width % 32 == 0
        for one in (evidence.plate, evidence.behind, evidence.matte, evidence.coverage, evidence.scatter):
            assert one.dtype == np.float32 and one.shape[1:] == (height, width)
            assert np.isfinite(one).all() and one.min() >= 0 and one.max() <= 1
        half = np.full((height // 2, width // 2), self.appearance, np.float32)
        quarter = np.full((height // 4, width // 4), self.physics, np.float32)
        return Belief(half, np.zeros_like(half), quarter, np.zeros((2, height // 24, width // 24), np.float32))


class Seen:
    """The same background behind every frame, beyond suspicion."""

    def __init__(self, rgb: Array, at_rest: bool = True) -> None:
        self.rgb = rgb
        self.coverage = np.ones(rgb.shape[:2], np.float32)
        self.scatter = np.full(rgb.shape[:2], 0.005, np.float32)
        self.clear = np.ones(rgb.shape[:2], np.float32)
        self.at_rest = at_rest
        self.others = np.zeros(rgb.shape[:2], np.float32)


def scene(count: int = 6) -> tuple[dict[int, Array], dict[int, Array], dict[int, Array], Array]:
    """(plates, mattes, true shadows, background): a box with a shadow at its foot, moving right."""
    rng = np.random.default_rng(2)
    behind = (0.4 + 0.02 * rng.standard_normal((*SIZE, 3))).astype(np.float32)
    plates, mattes, shadows = {}, {}, {}
    for t in range(count):
        x = 20 + 6 * (t % 12)
        matte, shadow = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
        matte[30:60, x : x + 20] = 1
        shadow[60:68, x : x + 34] = 1
        plate = behind + 0.004 * rng.standard_normal(behind.shape)
        plate = np.where(shadow[..., None] > 0, plate * 0.5, plate)
        plates[1001 + t] = np.where(matte[..., None] > 0, 0.9, plate).astype(np.float32)
        mattes[1001 + t], shadows[1001 + t] = matte, shadow
    return plates, mattes, shadows, behind


def sized(found: Mapping[int, Affected]) -> tuple[int, ...]:
    """The one shape of all that was found."""
    shapes = {part.shape for each in found.values() for part in (each.appearance, each.physics)}
    assert len(shapes) == 1
    return shapes.pop()
