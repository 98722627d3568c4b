from __future__ import annotations

import cv2
import numpy as np
import pytest

from void_server.image import grain


def _plate(rng: np.random.Generator, slope: float, offset: float) -> np.ndarray:
    ramp = np.tile(np.linspace(0.02, 0.9, 256, dtype=np.float32), (256, 1))[..., None].repeat(3, 2)
    noise = cv2.GaussianBlur(rng.standard_normal(ramp.shape).astype(np.float32), (0, 0), 0.7)
    noise /= noise.std()
    return ramp + noise * np.sqrt(slope * ramp + offset)


def _model(slope: float = 4e-4, offset: float = 2e-5) -> grain.GrainModel:
    rng = np.random.default_rng(3)
    free = np.ones((256, 256), bool)
    found = grain.estimate(
        grain.sampled(_plate(rng, slope, offset), _plate(rng, slope, offset), free) for _ in range(3)
    )
    assert found is not None
    return found


def test_strength_is_found_within_a_quarter_at_every_brightness() -> None:
    model = _model()
    for light in (0.05, 0.2, 0.5, 0.8):
        found = model.sigma(np.full((1, 1), light, np.float32))[0, 0]
        assert found == pytest.approx(np.sqrt(4e-4 * light + 2e-5), rel=0.25)


def test_made_grain_has_the_strength_and_the_grain_size_that_were_measured() -> None:
    model = _model()
    made = grain.synthesise(model, np.full((256, 256), 0.5, np.float32), 1001, 0)
    assert made.std() == pytest.approx(float(model.sigma(np.full((1, 1), 0.5, np.float32)).mean()), rel=0.1)
    neighbours = np.corrcoef(made[:, :-1, 1].ravel(), made[:, 1:, 1].ravel())[0, 1]
    soft = cv2.GaussianBlur(np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32), (0, 0), 0.7)
    expected = np.corrcoef(soft[:, :-1].ravel(), soft[:, 1:].ravel())[0, 1]
    assert neighbours == pytest.approx(expected, abs=0.12)


def test_a_frame_gets_the_same_grain_every_time_and_another_frame_another() -> None:
    model, light = _model(), np.full((64, 64), 0.5, np.float32)
    assert np.array_equal(grain.synthesise(model, light, 7, 1), grain.synthesise(model, light, 7, 1))
    assert (
        abs(
            np.corrcoef(grain.synthesise(model, light, 7, 1).ravel(), grain.synthesise(model, light, 8, 1).ravel())[
                0, 1
            ]
        )
        < 0.05
    )


def test_a_plate_without_grain_gets_none() -> None:
    still = _plate(np.random.default_rng(1), 4e-4, 2e-5)
    model = grain.estimate([grain.sampled(still, still, np.ones((256, 256), bool))])
    assert model is not None
    assert np.abs(grain.synthesise(model, np.full((32, 32), 0.5, np.float32), 1, 0)).max() < 1e-6


def test_nothing_to_measure_gives_no_model() -> None:
    plate = np.ones((64, 64, 3), np.float32)
    assert grain.estimate([grain.sampled(plate, plate, np.zeros((64, 64), bool))]) is None


def test_averaged_pixels_get_back_exactly_the_variance_they_lost() -> None:
    rng = np.random.default_rng(5)
    own = rng.standard_normal((200, 200, 3)).astype(np.float32)
    other = rng.standard_normal((200, 200, 3)).astype(np.float32)
    share = np.full((200, 200), 0.6, np.float32)
    assert grain.laid_over(own * 0.4, other, share).std() == pytest.approx(1.0, abs=0.02)
    assert np.array_equal(grain.laid_over(own, other, np.zeros((200, 200), np.float32)), own)


def test_foliage_in_the_middle_tones_gives_no_specks_to_the_shadows() -> None:
    """What moves in a way that no smooth motion explains looks like grain, at the tones where it is."""
    rng = np.random.default_rng(4)
    first, second = (_plate(rng, 4e-4, 0.0) for _ in range(2))
    leaves = rng.standard_normal(first.shape).astype(np.float32) * 0.05
    second = second + np.where((first > 0.2) & (first < 0.5), leaves, 0)
    model = grain.estimate([grain.sampled(first, second, np.ones((256, 256), bool))])
    assert model is not None
    for light in (0.05, 0.35, 0.8):
        found = model.sigma(np.full((1, 1), light, np.float32))[0, 0]
        assert (found < 1.6 * np.sqrt(4e-4 * light)).all(), light


def test_clipped_highlights_do_not_say_that_there_is_no_grain() -> None:
    rng = np.random.default_rng(4)
    pair = [np.minimum(_plate(rng, 4e-4, 2e-5), np.float32(0.6)) for _ in range(2)]
    model = grain.estimate([grain.sampled(*pair, np.ones((256, 256), bool))])
    assert model is not None
    found = model.sigma(np.full((1, 1), 0.3, np.float32))[0, 0]
    assert found == pytest.approx(np.sqrt(4e-4 * 0.3 + 2e-5), rel=0.3)
