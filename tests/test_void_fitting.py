"""Fitting VOID to a plate: no black borders, and what it made brought to meet the plate."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from void_server.engine.void.fitting import correct_drift
from void_server.image.fit import extend_edges
from void_server.wire.shot import Window


def test_outside_the_canvas_the_nearest_pixel_goes_on():
    picture = np.arange(12, dtype=np.float32).reshape(3, 4)
    crop = Window(-1, -1, 3, 2)
    assert extend_edges(picture, crop, (1, 2)).tolist() == [[5, 5, 6, 6]] * 3


def drifted(seed=0, height=192, width=320):
    """(truth, plate with an object, what a model made: truth a little off, hole)"""
    rng = np.random.default_rng(seed)
    truth = cv2.GaussianBlur(rng.random((height, width, 3)).astype(np.float32), (0, 0), 6)
    truth = (truth - truth.min()) / np.ptp(truth) * 0.8 + 0.1
    hole = np.zeros((height, width), bool)
    hole[60:130, 120:210] = True
    plate = truth.copy()
    plate[hole] = 0.9
    field = cv2.GaussianBlur(rng.standard_normal(truth.shape).astype(np.float32), (0, 0), 40)
    made = truth * (1 + 0.02 * rng.standard_normal(3)) + 0.012 * rng.standard_normal(3) + field * (0.01 / field.std())
    return truth, plate, made.astype(np.float32), hole


@pytest.mark.parametrize("seed", range(3))
def test_drift_is_gone_from_the_seam_and_most_of_it_from_inside(seed):
    truth, plate, made, hole = drifted(seed)
    fitted = correct_drift(made, plate, hole, np.ones_like(hole))
    seam = hole & ~cv2.erode(hole.astype(np.uint8), np.ones((9, 9))).astype(bool)

    def error(picture, where):
        return 255 * np.sqrt(np.mean((picture - truth)[where] ** 2))

    assert error(fitted, seam) < 1.0
    assert error(fitted, hole) < 0.5 * error(made, hole)


def test_what_the_model_changed_on_purpose_is_not_taken_for_drift():
    truth, plate, made, hole = drifted()
    other = np.zeros_like(hole)
    other[60:130, 212:226] = True
    plate[other] += 0.3
    fitted = correct_drift(made, plate, hole, np.ones_like(hole))
    assert 255 * np.abs((fitted - truth)[hole].mean(axis=0)).max() < 2


def test_where_nothing_is_known_nothing_is_corrected():
    _, plate, made, hole = drifted()
    assert correct_drift(made, plate, hole, np.zeros_like(hole)) is made
