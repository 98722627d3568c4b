from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.effects.cues import find_affected
from void_server.wire.report import Report

Array = npt.NDArray[np.float32]
SIZE = (90, 140)


def _scene(count: int = 6) -> tuple[dict[int, Array], dict[int, Array], dict[int, Array], Array]:
    """(plates, mattes, true shadows, background): a box with a shadow at its foot, moving right."""
    rng = np.random.default_rng(2)
    behind = (0.4 + 0.02 * rng.standard_normal((*SIZE, 3))).astype(np.float32)
    plates, mattes, shadows = {}, {}, {}
    for t in range(count):
        x = 20 + 6 * t
        matte, shadow = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
        matte[30:60, x : x + 20] = 1
        shadow[60:68, x : x + 34] = 1
        plate = behind + 0.004 * rng.standard_normal(behind.shape)
        plate = np.where(shadow[..., None] > 0, plate * 0.5, plate)
        plates[1001 + t] = np.where(matte[..., None] > 0, 0.9, plate).astype(np.float32)
        mattes[1001 + t], shadows[1001 + t] = matte, shadow
    return plates, mattes, shadows, behind


def test_a_shadow_at_the_objects_foot_is_found_whole_and_nothing_four_pixels_away() -> None:
    plates, mattes, shadows, behind = _scene()
    seen = np.ones(SIZE, np.float32)
    found = find_affected(list(plates), plates.__getitem__, mattes.__getitem__, lambda _: (behind, seen), Report())
    for frame, matte in found.items():
        true = shadows[frame] > 0
        near = cv2.dilate((true | (mattes[frame] > 0)).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert (matte > 0.5)[true & (mattes[frame] == 0)].mean() > 0.95
        assert not ((matte > 0.5) & ~near).any()
        assert matte[mattes[frame] > 0].max() == 0


def test_darkness_away_from_the_object_is_not_its_doing() -> None:
    plates, mattes, _, behind = _scene()
    for plate in plates.values():
        plate[5:15, 100:130] *= 0.4
    seen = np.ones(SIZE, np.float32)
    found = find_affected(list(plates), plates.__getitem__, mattes.__getitem__, lambda _: (behind, seen), Report())
    assert all(matte[5:15, 100:130].max() == 0 for matte in found.values())


def test_without_a_background_nothing_is_claimed() -> None:
    plates, mattes, _, _ = _scene()
    found = find_affected(list(plates), plates.__getitem__, mattes.__getitem__, lambda _: None, Report())
    assert list(found) == list(plates)
    assert all(matte.max() == 0 for matte in found.values())
