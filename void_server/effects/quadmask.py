"""VOID's quadmask, built here and nowhere else, from the matte and the affected matte.

What comes in: two soft mattes over time, 1 = remove and 1 = affected. What goes out: one uint8 label per pixel, of the
opposite polarity. It knows neither the model that reads it nor how the affected matte was found.

Labels and rules are those of the release (Netflix/void-model 66e9c0e5, VLM-MASK-REASONER/stage4_combine_masks.py:21-50;
grid: stage3a_generate_grey_masks_v2.py:152-198).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]

OBJECT, OVERLAP, AFFECTED, KEEP = 0, 63, 127, 255
GRID_ROWS = 8
"""Cells along the shorter side of VOID's own grey masks, which the model was trained on."""
TOUCHED = 0.05
"""Share of a pixel from which it counts. Low, since a motion-blurred edge left in the picture comes back as a ghost."""


def grid_cells(height: int, width: int, rows: int = GRID_ROWS) -> tuple[int, int]:
    """(rows, columns) of nearly square cells with `rows` along the shorter side.

    >>> grid_cells(384, 672), grid_cells(672, 384)
    ((8, 14), (14, 8))
    """
    if width >= height:
        return rows, max(rows, round(rows * width / height))
    return max(rows, round(rows * height / width)), rows


def to_grid(affected: npt.NDArray[np.bool_], rows: int = GRID_ROWS) -> npt.NDArray[np.bool_]:
    """Fill every cell of the grid that holds a single affected pixel. affected: bool [T, H, W]."""
    frames, height, width = affected.shape
    down, across = grid_cells(height, width, rows)
    row_of = np.minimum(np.arange(height) * down // height, down - 1)
    column_of = np.minimum(np.arange(width) * across // width, across - 1)
    cells = np.zeros((frames, down, across), bool)
    frame, y, x = np.nonzero(affected)
    cells[frame, row_of[y], column_of[x]] = True
    return np.asarray(cells[:, row_of][:, :, column_of])


def quadmask(
    matte: Array, affected: Array, *, grid_rows: int | None = None, grey_on_first_frame: bool = False
) -> Labels:
    """Label every pixel: uint8 [T, H, W], 0 object, 63 object and affected, 127 affected, 255 keep.

    matte, affected: float32 [T, H, W] in [0, 1]. grid_rows: 8 gives VOID's blocky grey, None keeps the painted shape.
    grey_on_first_frame: False clears 127 from the first frame, as the model was trained; 63 stays, as released.

    >>> quadmask(np.array([[[0, 1, 1, 0]]] * 2, np.float32), np.array([[[0, 0, 1, 1]]] * 2, np.float32))[:, 0].tolist()
    [[255, 0, 63, 255], [255, 0, 63, 127]]
    """
    is_object = matte > TOUCHED
    is_affected = affected > TOUCHED
    if grid_rows is not None:
        is_affected = to_grid(is_affected, grid_rows)
    labels = np.full(matte.shape, KEEP, np.uint8)
    labels[is_affected] = AFFECTED
    labels[is_object] = OBJECT
    labels[is_object & is_affected] = OVERLAP
    if not grey_on_first_frame and len(labels):
        labels[0][labels[0] == AFFECTED] = KEEP
    return labels
