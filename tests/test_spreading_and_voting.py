"""Smooth filling of what is not known, and the value that most of the weight agrees on."""

from __future__ import annotations

import numpy as np
import pytest

from void_server.background.registration.pyramid import spread
from void_server.background.registration.voting import weighted_median


@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 1), (37, 53, 2), (41, 30, 5), (3, 1, 2)])
def test_known_values_are_kept_and_unknown_ones_lie_between_them(shape):
    rng = np.random.default_rng(1)
    field = rng.uniform(-2, 5, shape).astype(np.float32)
    weight = (rng.random(shape[:2]) > 0.4).astype(np.float32)
    weight[0, 0] = 1
    given, given_weight = field.copy(), weight.copy()
    out = spread(field, weight)
    assert out.shape == shape and out.dtype == np.float32
    assert np.array_equal(out[weight == 1], field[weight == 1])
    known = field[weight == 1]
    assert known.min() - 1e-4 <= out.min() and out.max() <= known.max() + 1e-4
    assert np.array_equal(field, given) and np.array_equal(weight, given_weight), "what came in is as it was"


def test_a_hole_in_an_even_field_is_filled_with_the_same_value():
    field, weight = np.full((64, 80), 3.25, np.float32), np.ones((64, 80), np.float32)
    weight[20:50, 10:70] = 0
    field[weight == 0] = np.float32(1e6)
    assert np.abs(spread(field, weight) - 3.25).max() < 1e-4


def test_where_nothing_is_known_nothing_is_made_up():
    assert not spread(np.ones((20, 30, 2), np.float32), np.zeros((20, 30), np.float32)).any()


def by_definition(values, weights):
    """The largest value with less than half of the weight below it."""
    return max(v for v in values if sum(w for o, w in zip(values, weights) if o < v) < sum(weights) / 2)


@pytest.mark.parametrize("count", [1, 2, 3, 9, 14])
def test_a_weighted_median_is_the_value_that_its_definition_names(count):
    rng = np.random.default_rng(count)
    stack = rng.integers(0, 6, (count, 40, 3)).astype(np.float32)  # many ties
    weight = rng.integers(0, 4, (count, 40)).astype(np.float32)
    weight[0] += 1  # somebody has a say everywhere
    out = weighted_median(stack, weight)
    for place in range(40):
        for channel in range(3):
            assert out[place, channel] == by_definition(stack[:, place, channel], weight[:, place])


def test_outliers_of_little_weight_have_no_say():
    stack = np.array([1.0, 1.1, 1.2, 50.0, -50.0], np.float32)[:, None, None]
    weight = np.array([1.0, 1.0, 1.0, 0.4, 0.4], np.float32)[:, None]
    assert weighted_median(stack, weight)[0, 0] == np.float32(1.1)
