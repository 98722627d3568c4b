"""How well a found affected region agrees with the true one.

What comes in: masks over time. What goes out: shares between 0 and 1. It reads no files and knows no cases.

All counts are taken over the whole clip before they are divided: a frame with three true pixels weighs as three pixels.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

GRID_ROWS = 8
CELL_SAMPLES = 16
"""Samples along each side of a cell; one of them being true by TOUCHED makes the cell true."""
TOUCHED = 0.05


@dataclasses.dataclass(frozen=True)
class Overlap:
    """iou, precision, recall: None where there is nothing to divide by. Shares are of all pixels of the clip."""

    iou: float | None
    precision: float | None
    recall: float | None
    true_share: float
    found_share: float
    false_share: float


def overlap(found: Mask, true: Mask, counted: Mask) -> Overlap:
    """Compare two regions where `counted`. All bool [T, H, W].

    >>> a, b = np.array([[[1, 1, 0, 0]]], bool), np.array([[[0, 1, 1, 1]]], bool)
    >>> overlap(a, b, np.ones_like(a))
    Overlap(iou=0.25, precision=0.5, recall=0.3333333333333333, true_share=0.75, found_share=0.5, false_share=0.25)
    """
    found, true = found & counted, true & counted
    both, either = int((found & true).sum()), int((found | true).sum())
    finds, trues, area = int(found.sum()), int(true.sum()), found.size
    return Overlap(
        iou=both / either if either else None,
        precision=both / finds if finds else None,
        recall=both / trues if trues else None,
        true_share=trues / area,
        found_share=finds / area,
        false_share=(finds - both) / area,
    )


def cell_iou(found: Mask, true: Mask) -> float:
    """The same overlap in cells of an eighth of the height, as VOID's quadmasks are drawn. Both bool [T, H, W]."""
    pairs = [(_cells(f), _cells(t)) for f, t in zip(found, true)]
    both = sum(int((f & t).sum()) for f, t in pairs)
    either = sum(int((f | t).sum()) for f, t in pairs)
    return both / max(either, 1)


def _cells(mask: Mask) -> Mask:
    columns = round(GRID_ROWS * mask.shape[1] / mask.shape[0])
    size = (columns * CELL_SAMPLES, GRID_ROWS * CELL_SAMPLES)
    samples = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    blocks = samples.reshape(GRID_ROWS, CELL_SAMPLES, columns, CELL_SAMPLES)
    return np.asarray(blocks.max((1, 3)) > TOUCHED)
