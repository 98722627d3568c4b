"""The quadmask: VOID's labels and rules, from the two mattes."""

from __future__ import annotations

import numpy as np

from void_server.effects.quadmask import AFFECTED, KEEP, OBJECT, OVERLAP, grid_cells, quadmask, to_grid


def mattes(frames=3, height=64, width=112):
    matte = np.zeros((frames, height, width), np.float32)
    affected = np.zeros_like(matte)
    matte[:, 10:20, 10:30] = 1
    affected[:, 16:40, 20:50] = 1
    return matte, affected


def test_labels_are_object_overlap_affected_keep():
    labels = quadmask(*mattes())
    assert labels.dtype == np.uint8
    assert labels[1, 12, 12] == OBJECT
    assert labels[1, 18, 25] == OVERLAP
    assert labels[1, 30, 40] == AFFECTED
    assert labels[1, 60, 100] == KEEP
    assert set(np.unique(labels)) == {0, 63, 127, 255}


def test_the_first_frame_carries_no_grey_but_keeps_its_overlap():
    labels = quadmask(*mattes())
    assert AFFECTED not in labels[0]
    assert OVERLAP in labels[0]
    assert AFFECTED in labels[1]
    assert AFFECTED in quadmask(*mattes(), grey_on_first_frame=True)[0]


def test_soft_edges_of_the_matte_count_as_object():
    matte, affected = mattes()
    matte[:, 9] = 0.1 * (matte[:, 10] > 0)
    assert quadmask(matte, affected)[1, 9, 12] == OBJECT


def test_the_grid_has_eight_rows_and_square_cells():
    assert grid_cells(384, 672) == (8, 14)
    assert grid_cells(672, 384) == (14, 8)


def test_a_touched_cell_is_filled_whole_and_its_neighbours_are_not():
    touched = np.zeros((2, 64, 112), bool)
    touched[1, 9, 17] = True
    grid = to_grid(touched)
    assert not grid[0].any()
    assert grid[1].sum() == 8 * 8
    assert grid[1, 8:16, 16:24].all()


def test_the_grid_makes_affected_blocky_and_leaves_the_object_alone():
    matte, affected = mattes()
    plain, blocky = quadmask(matte, affected), quadmask(matte, affected, grid_rows=8)
    assert np.array_equal(blocky < AFFECTED, matte > 0) or (blocky == OVERLAP).sum() > (plain == OVERLAP).sum()
    assert (blocky == OBJECT).sum() + (blocky == OVERLAP).sum() == (matte > 0).sum()
    assert (blocky[1] == AFFECTED).sum() > (plain[1] == AFFECTED).sum()
