"""A camera at rest is known as such, whatever moves before it; one that drifts by half a pixel is not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from void_server.background.log_curve import LogCurve
from void_server.background.tracking.camera import follow
from void_server.background.tracking.survey import Survey
from void_server.wire.report import Report

HEIGHT, WIDTH, COUNT = 240, 320, 12


def frames(drift):
    """uint8 pictures of a wall below leaves that sway, otherwise on each frame, by a pixel or two."""
    rng = np.random.default_rng(8)
    coarse = cv2.resize(rng.uniform(40, 160, (30, 45)).astype(np.float32), (360, 240), interpolation=cv2.INTER_CUBIC)
    wall = coarse + 60 * cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, 360)).astype(np.float32), (0, 0), 1.2)
    columns, rows = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    out = []
    for index in range(COUNT):
        sway = [cv2.GaussianBlur(rng.normal(0, 25, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 6) for _ in range(2)]
        for way in sway:
            way[HEIGHT // 2 :] = 0
        seen = cv2.remap(wall, columns + 10 + drift * index + sway[0], rows + sway[1], cv2.INTER_CUBIC)
        out.append(np.clip(seen + rng.normal(0, 2, seen.shape), 0, 255).astype(np.uint8))
    return out


@pytest.mark.parametrize(("drift", "rests"), [(0.0, True), (0.05, False), (2.0, False)])
def test_leaves_do_not_move_a_camera_at_rest_and_a_slow_one_moves(drift, rests):
    blocked = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(COUNT)]
    for index, mask in enumerate(blocked):
        mask[100:140, 20 + 8 * index : 50 + 8 * index] = 255
    survey = Survey(range(COUNT), 1.0, LogCurve(0.02, 1.0), frames(drift), {}, blocked)
    assert follow(survey, Report()).still is rests
