"""What one look at a shot found, and the marks that follow from it.

What comes in: the affected mattes of every frame at one reduced size. What goes out: `Marks`, and which frames are
worth a word. It does not know how anything was found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from void_server.effects.find import Affected
from void_server.shot.marks import Found, Marks, Soft
from void_server.shot.surveyed import SurveyedShot

MOVED_PX = 4
"""A frame of the reduced size says that something would move differently from this many pixels on."""
SUSPECTED_PX = 60
"""Less is not worth a word: the rim of somebody who passes by."""


@dataclasses.dataclass(frozen=True)
class Look:
    """By frame, at one reduced size."""

    affected: Mapping[int, Affected]
    stays: bool
    """Whether neither the camera nor the object moves to speak of: no frame shows the place without its effect."""

    def marks(self, surveyed: SurveyedShot, *, physics: bool, bold: bool, corrected: bool) -> Marks:
        """The shot's marks with what was found. physics: whether what would move differently may change as well; bold:
        whether what is no more than suspected may."""

        def rows() -> Iterator[tuple[int, Soft, Soft, Soft]]:
            for frame, one in self.affected.items():
                changes = np.maximum(one.appearance, one.suspected) if bold else one.appearance
                yield frame, np.maximum(changes, one.physics) if physics else changes, one.physics, one.suspected

        return Marks(surveyed.checked, Found.collected(rows()), corrected=corrected)

    def doubted(self) -> list[int]:
        """Frames on which something is suspected, and no more."""
        return [frame for frame, one in self.affected.items() if (one.suspected > 0.5).sum() >= SUSPECTED_PX]

    def moved(self) -> list[int]:
        """Frames on which something would move differently."""
        return [frame for frame, one in self.affected.items() if (one.physics > 0.5).sum() >= MOVED_PX]
