"""The change alpha: 1 on the object, soft outside it, exactly 0 elsewhere; and what `over` does with it."""

from __future__ import annotations

import numpy as np

from void_server.image import composite, fit, matte
from void_server.wire.shot import Window


def marked(*box: int) -> np.ndarray:
    mask = np.zeros((40, 60), np.float32)
    mask[Window(*box).slices(Window(0, 0, 60, 40))] = 1
    return mask


NOTHING = np.zeros((40, 60), np.float32)


def test_the_feather_lies_outside_the_matte_and_inside_the_grown_one():
    alpha = matte.change(marked(20, 10, 30, 20), NOTHING, NOTHING, grow_px=4, feather_px=2)
    assert (alpha[10:20, 20:30] == 1).all()
    assert (alpha[15, 18], alpha[15, 17], alpha[15, 16]) == (1, 0.5, 0)
    assert (alpha[:, :17] == 0).all()
    assert (alpha[:, 34:] == 0).all()


def test_a_soft_edge_is_replaced_whole_since_it_holds_light_of_the_object():
    soft = marked(20, 10, 30, 20) * 0.2
    assert (matte.change(soft, NOTHING, NOTHING, 3, 2)[10:20, 20:30] == 1).all()


def test_keep_wins_over_matte_and_affected():
    keep = marked(25, 0, 60, 40)
    alpha = matte.change(marked(20, 10, 30, 20), marked(30, 10, 40, 20), keep, 3, 2)
    assert (alpha[:, 25:] == 0).all()
    assert (alpha[10:20, 20:25] == 1).all()


def test_affected_joins_the_change_and_faint_traces_of_it_do_not():
    alpha = matte.change(NOTHING, marked(5, 5, 10, 10), NOTHING, 3, 2)
    assert (alpha[5:10, 5:10] == 1).all()
    assert not matte.change(NOTHING, marked(5, 5, 10, 10) * 0.05, NOTHING, 3, 2).any()


def test_an_empty_matte_changes_nothing():
    assert not matte.change(NOTHING, NOTHING, NOTHING, 3, 2).any()


def test_a_matte_at_the_border_does_not_wrap_or_crash():
    alpha = matte.change(marked(0, 0, 5, 40), NOTHING, NOTHING, 3, 2)
    assert (alpha[:, :5] == 1).all()
    assert not alpha[:, 10:].any()


def test_non_finite_and_wild_mattes_become_fit_for_use():
    wild = np.array([[np.nan, np.inf, -np.inf, 3, -1, 0.5]], np.float32)
    assert matte.clean_up(wild).tolist() == [[0, 1, 0, 1, 0, 0.5]]


def test_over_leaves_every_bit_of_unchanged_pixels_alone():
    odd = np.array([0x7E01, 0x7C00, 0xFC00, 0x8000, 0x0001, 0x7BFF], np.uint16).view(np.float16)
    plate = np.repeat(odd[None, :, None], 3, 2)
    result = composite.over(plate, np.ones((1, 6, 3), np.float32), np.zeros((1, 6), np.float32))
    assert np.array_equal(result.astype(np.float16).view(np.uint16), plate.view(np.uint16))


def test_fill_is_bounded_by_the_shot_and_never_nan():
    wild = np.array([[[np.nan, 900.0, -3.0]]], np.float32)
    assert composite.bounded(wild, -0.5, 20.0).tolist() == [[[0.0, 20.0, -0.5]]]


def test_a_picture_placed_on_another_window_keeps_its_place():
    picture = np.arange(6, dtype=np.float32).reshape(2, 3)
    placed = fit.place(picture, Window(2, 1, 5, 3), Window(4, 0, 7, 3))
    assert placed.tolist() == [[0, 0, 0], [2, 0, 0], [5, 0, 0]]


def test_a_found_matte_is_enlarged_to_the_same_values_whichever_part_is_asked_for():
    small = np.random.default_rng(0).random((9, 16)).astype(np.float32)
    whole = Window(0, 0, 64, 36)
    full = fit.enlarge_soft(small, whole, whole)
    part = Window(10, 5, 50, 30)
    assert np.array_equal(fit.enlarge_soft(small, whole, part), full[part.slices(whole)])
    assert np.abs(full - fit.resize_soft(small, 36, 64)).max() < 0.05
