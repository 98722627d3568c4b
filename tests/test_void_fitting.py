"""Fitting VOID to a plate: the region it sees, and what it made brought to meet the plate."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from void_server.engine.void.fitting import FINE_PIXELS, TRAINED_PIXELS, correct_drift, extend_edges, region
from void_server.wire.shot import Window

CANVASES = [(1080, 1920), (2160, 4096), (1556, 2048), (858, 2048), (480, 854), (1920, 1080), (60, 100)]


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("most", [TRAINED_PIXELS, FINE_PIXELS])
def test_the_region_holds_every_hole_at_a_legal_size_and_exact_aspect(canvas, share, most):
    height, width = canvas
    rng = np.random.default_rng(0)
    for _ in range(20):
        h, w = max(1, int(height * share * rng.uniform(0.5, 1))), max(1, int(width * share * rng.uniform(0.5, 1)))
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        hole = Window(int(x), int(y), int(x) + w, int(y) + h)
        crop, (rows, columns) = region([hole], canvas, most_pixels=most)
        assert crop.contains(hole)
        assert rows % 16 == columns % 16 == 0
        assert rows * columns <= 1.1 * most
        scale = rows / crop.height
        assert scale <= 1
        assert (round(crop.height * scale), round(crop.width * scale)) == (rows, columns)


def test_a_small_hole_is_seen_at_full_resolution_and_a_large_one_with_context():
    crop, size = region([Window(900, 500, 1000, 560)], (1080, 1920))
    assert (crop.height, crop.width) == size
    large = Window(400, 300, 1300, 800)
    crop, _ = region([large], (1080, 1920))
    assert crop.contains(large.grow(round(0.25 * large.height)))


def test_a_larger_area_is_taken_only_as_far_as_it_shows_more():
    small, middling = [Window(900, 500, 1000, 560)], [Window(600, 300, 1200, 700)]
    assert region(small, (1080, 1920), most_pixels=FINE_PIXELS) == region(small, (1080, 1920))
    crop, (rows, columns) = region(middling, (1080, 1920), most_pixels=FINE_PIXELS)
    assert (crop.height, crop.width) == (rows, columns), "at the plate's own size"
    crop, (rows, columns) = region([Window(0, 0, 4096, 2160)], (2160, 4096), most_pixels=FINE_PIXELS)
    assert 0.9 * FINE_PIXELS < rows * columns <= 1.02 * FINE_PIXELS


def test_a_moving_hole_gets_one_region_for_the_shot():
    holes = [Window(100 + 20 * i, 300, 200 + 20 * i, 500) for i in range(30)]
    crop, _ = region(holes, (1080, 1920))
    assert all(crop.contains(hole) for hole in holes)


def test_a_tall_thin_hole_is_seen_finer_than_in_the_plates_aspect():
    crop, (rows, columns) = region([Window(900, 40, 980, 1040)], (1080, 1920))
    assert rows > columns
    assert rows / crop.height > 1.5 * 384 / 1080


def test_an_asked_for_size_is_kept():
    crop, size = region([Window(0, 0, 1920, 1080)], (1080, 1920), size=(544, 960))
    assert size == (544, 960)
    assert round(crop.width * 544 / crop.height) == 960


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
