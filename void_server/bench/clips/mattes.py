"""Spoil a true matte the way a hurried roto does, by a stated amount.

What comes in: true mattes over time, and one word. What goes out: mattes of the same shape, the same for the same input
every time. It knows no clips and no scores.

The amount is a share of the size (root of the area) of each part of the matte that hangs together, so that a small car
far away is not swallowed by what is nothing to a lorry in front.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

SLACK = 0.06
"""Most by which an edge lies wrong, over the size of its part."""
WAYS = ("grow", "shrink", "jitter", "late")


def sloppy(matte: Mask, way: str) -> Mask:
    """bool [T, H, W]: grown or shrunk by SLACK, moved by up to SLACK in each frame, or late by one frame.

    Raises ValueError for another word.
    """
    if way == "late":
        return np.concatenate([matte[:1], matte[:-1]])
    if way == "grow":
        return np.stack([_union(mask, [_distance(~part) <= reach for part, reach in _parts(mask)]) for mask in matte])
    if way == "shrink":
        return np.stack([_union(mask, [_distance(part) > reach for part, reach in _parts(mask)]) for mask in matte])
    if way == "jitter":
        return np.stack([_moved(mask, index) for index, mask in enumerate(matte)])
    raise ValueError(f"a matte can't be '@{way}'; there are @{', @'.join(WAYS)}")


def _parts(mask: Mask) -> list[tuple[Mask, float]]:
    """Each part that hangs together, with how far its edges may lie wrong, in pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [(labels == i, SLACK * math.sqrt(stats[i, cv2.CC_STAT_AREA])) for i in range(1, count)]


def _distance(mask: Mask) -> npt.NDArray[np.float32]:
    """How deep each pixel lies in the mask: 1 for those at its edge."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def _moved(mask: Mask, index: int) -> Mask:
    """All parts moved the same way, each by the same share of its size."""
    rng = np.random.default_rng(index)
    share, angle = math.sqrt(rng.random()), rng.random() * 2 * math.pi
    size = (mask.shape[1], mask.shape[0])
    moved = []
    for part, reach in _parts(mask):
        # Whole pixels, towards zero: the promise is a most.
        x, y = int(reach * share * math.cos(angle)), int(reach * share * math.sin(angle))
        shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
        moved.append(cv2.warpAffine(part.astype(np.uint8), shift, size, flags=cv2.INTER_NEAREST) > 0)
    return _union(mask, moved)


def _union(like: Mask, parts: list[Mask]) -> Mask:
    whole = np.zeros_like(like)
    for part in parts:
        whole |= part
    return whole
