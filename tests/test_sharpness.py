"""What was averaged or resampled gets the sharpness of its surroundings, and the last fraction of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from void_server.background import sharpness

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

HEIGHT, WIDTH = 120, 160
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[40:80, 50:110] = True
RING = np.asarray(cv2.dilate(HOLE.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0) & ~HOLE
EVERYWHERE = np.ones_like(HOLE)


@pytest.fixture
def ground() -> Array:
    noise = np.random.default_rng(4).normal(0.5, 0.1, (HEIGHT, WIDTH, 3)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.2), np.float32)


def off(found: Array, truth: Array) -> float:
    return float(np.sqrt(((found - truth)[HOLE] ** 2).mean()))


def test_a_fill_that_averaging_blurred_becomes_as_sharp_as_its_ring(ground: Array) -> None:
    blurred = np.asarray(cv2.GaussianBlur(ground, (0, 0), 0.8), np.float32)
    found = sharpness.match(blurred, EVERYWHERE, ground, RING)
    assert off(found, ground) < 0.3 * off(blurred, ground)


def test_a_fill_a_third_of_a_pixel_off_is_moved_into_place(ground: Array) -> None:
    move = np.array([[1, 0, 0.33], [0, 1, -0.2]], np.float32)
    beside = np.asarray(cv2.warpAffine(ground, move, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC), np.float32)
    found = sharpness.match(beside, EVERYWHERE, ground, RING)
    assert off(found, ground) < 0.3 * off(beside, ground)


def test_what_shows_something_else_in_the_ring_has_no_say(ground: Array) -> None:
    blurred = np.asarray(cv2.GaussianBlur(ground, (0, 0), 0.8), np.float32)
    seen = ground.copy()
    seen[30:36, 45:70] = 1.5
    found = sharpness.match(blurred, EVERYWHERE, seen, RING)
    assert off(found, ground) < 0.35 * off(blurred, ground)


def test_nothing_is_changed_where_the_ring_tells_too_little(ground: Array) -> None:
    little = np.zeros_like(RING)
    little[38:40, 50:110] = True
    assert np.array_equal(sharpness.match(ground, EVERYWHERE, ground + 0.05, little), ground)
    assert np.array_equal(sharpness.match(ground, ~EVERYWHERE, ground + 0.05, RING), ground)
