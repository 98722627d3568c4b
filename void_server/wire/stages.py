"""How much of a job each stage of its work takes, so that a node, a panel and a farm's monitor show the same percent.

What comes in: progress as a Report tells it. What goes out: a share of the whole. It knows no engine: stages of an
engine that is not named here move nothing.
"""

from __future__ import annotations

from typing import Final, Optional

SHARES: Final = {
    "hash": (0, 1),
    "mattes": (1, 2),
    "read": (2, 8),
    "weights": (8, 12),
    "look": (8, 10),
    "masks": (10, 12),
    "camera": (12, 18),
    "effects": (18, 28),
    "plan": (28, 30),
    "affected": (18, 30),
    "void": (12, 55),
    "noise": (55, 57),
    "refine": (57, 95),
    "frames": (30, 97),
    "assemble": (2, 97),
    "sheet": (97, 100),
    "shots": (0, 100),
}
"""Which part of 0 to 100 each stage takes. Engine propagate's as measured: its frames cost most. Engine void's by the
steps of its two passes (30 and 50); it draws all frames at once, and they are only written after."""


def share_of_job(stage: str, done: int, total: int) -> Optional[float]:  # noqa: UP045 - read on Python 3.9 by hosts
    """The share [0, 1] of a job that is behind it; None where the stage is not known. Stages may alternate, and engines
    leave some out: whoever shows it keeps the largest.

    >>> share_of_job("frames", 5, 10), share_of_job("sheet", 1, 1), share_of_job("tea", 1, 2)
    (0.635, 1.0, None)
    """
    if stage not in SHARES:
        return None
    low, high = SHARES[stage]
    return (low + (high - low) * min(1.0, done / max(1, total))) / 100
