"""Depth behind a hole: a board before a wall, its edge inside the hole, and a camera that moves sideways."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration import parallax, register
from void_server.background.registration.flow import Flow
from void_server.image.colour import REC709_LUMINANCE
from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]
HEIGHT, WIDTH, EDGE = 160, 240, 120
PAN_PX, NEARER_PX = 2.0, 1.1
"""By how much the wall moves from frame to frame, and by how much more the board does."""
HOLE = np.s_[30:130, 70:170]


def _texture(seed: int, level: float) -> Array:
    noise = np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH + 200)).astype(np.float32)
    return level + 0.15 * cv2.GaussianBlur(noise, (0, 0), 1.5)


def _seen(frame: int, nearer_px: float) -> Array:
    """float32 [h, w, 3], code: the wall, and to the right of EDGE the board."""
    columns, rows = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    wall = cv2.remap(_texture(1, 0.4), columns + 100 - np.float32(PAN_PX * frame), rows, cv2.INTER_CUBIC)
    moved = np.float32((PAN_PX + nearer_px) * frame)
    board = cv2.remap(_texture(2, 0.7), columns + 100 - moved, rows, cv2.INTER_CUBIC)
    share = np.clip(columns - EDGE - moved + 0.5, 0, 1)
    return np.repeat((wall + share * (board - wall))[..., None], 3, 2).astype(np.float32)


def _tried(nearer_px: float) -> tuple[register.Target, list[register.Candidates]]:
    """Frame 0 with its hole, and frames on both sides of it, which have none."""
    crop = Window(0, 0, WIDTH, HEIGHT)
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[HOLE] = True
    own = np.where(hole[..., None], 0.9, _seen(0, nearer_px)).astype(np.float32)
    target = register.make_target(0, crop, own @ REC709_LUMINANCE, hole, ~hole)
    candidates = []
    for frame in (-5, -4, -3, -2, 2, 3, 4, 5):
        donor = register.Donor(frame, crop, _seen(frame, nearer_px), np.full((HEIGHT, WIDTH), 255, np.uint8))
        pan = np.array([[1, 0, PAN_PX * frame], [0, 1, 0], [0, 0, 1]], np.float64)
        fitted = register.candidates(target, donor, pan, Flow())
        assert fitted is not None
        candidates.append(fitted)
    return target, candidates


def _off_along_the_edge(target: register.Target, candidates: list[register.Candidates]) -> float:
    """Root mean square of what donors laid over the hole miss, eight pixels to either side of the board's edge."""
    flows = register.settle(target, candidates)
    laid = [register.warp(target, one, flow).code for one, flow in zip(candidates, flows)]
    missed = np.median(np.stack(laid), axis=0) - _seen(0, NEARER_PX)
    return float(np.sqrt((missed[30:130, EDGE - 8 : EDGE + 8] ** 2).mean()))


def test_an_edge_of_depth_inside_the_hole_comes_back_where_it_is() -> None:
    target, candidates = _tried(NEARER_PX)
    without = _off_along_the_edge(target, candidates)
    parallax.offer(target, candidates)
    assert all(len(one.flows) == 5 for one in candidates)
    assert _off_along_the_edge(target, candidates) < 0.7 * without


def test_depth_moves_donors_from_before_and_after_in_opposite_directions_by_as_much_as_they_are_away() -> None:
    target, candidates = _tried(NEARER_PX)
    depth = parallax.around(target, candidates)
    assert depth.explained > 0.8
    by_frame = depth.directions[:, 0] / depth.directions[-1, 0]
    np.testing.assert_allclose(by_frame, np.array([-5, -4, -3, -2, 2, 3, 4, 5]) / 5, atol=0.1)
    np.testing.assert_allclose(depth.directions[:, 1] / depth.directions[-1, 0], 0, atol=0.05)


def test_a_flat_scene_is_offered_no_depth() -> None:
    target, candidates = _tried(0.0)
    parallax.offer(target, candidates)
    assert all(len(one.flows) == 4 for one in candidates)
