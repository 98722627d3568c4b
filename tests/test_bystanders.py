"""Whoever crosses the object is somebody: he was seen apart from it before, and what he covers is none of its doing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes.effects import Believes, Seen
from void_server.effects.find import find_affected
from void_server.wire.errors import JobCancelledError
from void_server.wire.report import Report

HEIGHT, WIDTH, COUNT = 120, 200, 14
OBJECT, SHADOW = np.s_[40:80, 120:140], np.s_[80:90, 120:150]


def crossing(coat, *, first=8, speed=9):
    """(plates, mattes, where somebody stands by frame, background): he walks past a box that stands there."""
    rng = np.random.default_rng(4)
    behind = (0.4 + 0.05 * rng.standard_normal((HEIGHT, WIDTH, 3))).astype(np.float32)
    pattern = (1 + 0.2 * rng.standard_normal((50, 16, 1))).astype(np.float32)
    plates, mattes, somebody = {}, {}, {}
    for t in range(COUNT):
        plate = behind + 0.004 * rng.standard_normal(behind.shape).astype(np.float32)
        plate[SHADOW] *= 0.5
        plate[OBJECT] = 0.9
        x = first + speed * t
        there = np.zeros((HEIGHT, WIDTH), bool)
        there[58:108, x : x + 16] = True
        plate[58:108, x : x + 16] = np.float32(coat) * pattern
        matte = np.zeros((HEIGHT, WIDTH), np.float32)
        matte[OBJECT] = 1
        matte[there] = 0
        plates[1001 + t], mattes[1001 + t], somebody[1001 + t] = np.clip(plate, 0.01, None), matte, there
    return plates, mattes, somebody, behind


def found(plates, mattes, behind, report=None):
    seen = Seen(behind, at_rest=False)
    return dict(
        find_affected(
            list(plates), plates.__getitem__, mattes.__getitem__, lambda _: seen, Believes(0.9), report or Report()
        )
    )


@pytest.mark.parametrize("coat", [(0.7, 0.1, 0.1), (0.1, 0.1, 0.5)])
def test_who_walks_past_the_object_is_left_alone_and_the_shadow_still_goes(coat):
    plates, mattes, somebody, behind = crossing(coat)
    changed, shade = [], []
    for frame, each in found(plates, mattes, behind).items():
        sure = each.appearance > 0.5
        if frame >= 1004:  # a network that believes everything, everywhere, is heard where he stands apart as well
            changed.append(sure[somebody[frame]].mean())
        shadow = np.zeros_like(sure)
        shadow[SHADOW] = True
        if not somebody[frame][SHADOW].any():
            shade.append(sure[shadow].mean())
    assert max(changed) < 0.1
    assert min(shade) > 0.8


def test_a_thing_that_lies_still_is_not_somebody():
    """What deviates because the background is wrong there moves with nothing, and hides no shadow."""
    plates, mattes, somebody, behind = crossing((0.7, 0.1, 0.1), speed=0)
    for frame, each in found(plates, mattes, behind).items():
        assert (each.appearance > 0.5)[somebody[frame]].mean() > 0.8


def test_following_somebody_ends_when_the_job_is_cancelled():
    plates, mattes, _, behind = crossing((0.7, 0.1, 0.1))
    asked = []

    def cancelled():
        asked.append(None)
        return len(asked) > COUNT + 3

    with pytest.raises(JobCancelledError):
        found(plates, mattes, behind, Report(cancelled=cancelled))
