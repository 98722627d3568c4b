"""A shot as effects, backgrounds and engines see it: any frame, any crop, any scale, in the colour that is asked for.

What comes in: nothing; these are types. What goes out: `Shot`, which `shot.marked.MarkedShot` meets. It knows no file.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]


LARGE_PIXELS = 1 << 20
"""Work on one frame of so many pixels takes long enough for it to be given to a process at once."""


def large(size: tuple[int, int]) -> bool:
    """Whether a canvas of (height, width) is large.

    >>> large((480, 854)), large((1080, 1920))
    (False, True)
    """
    return size[0] * size[1] >= LARGE_PIXELS


class Colour(enum.Enum):
    """The two spaces in which an engine may ask for pixels and give them back."""

    SCENE_LINEAR = "scene-linear"
    """Unbounded light, linear, primaries as in the plate; non-finite samples replaced by 0, negatives kept."""
    ENGINE = "engine"
    """[0, 1], Rec.709 primaries, sRGB below a knee and a log shoulder above; one fixed curve for the whole shot."""


class Shot(Protocol):
    """A shot as an engine sees it. All arrays are fresh: the engine may write into them.

    Crops are in canvas pixels: [0, 0] is the top left of the area the plate's frames cover together, y down. A crop may
    reach outside the canvas; there, plates are 0, mattes are 0 and `known` is 0. `scale` below 1 gives a smaller
    picture by area averaging: the result is round(height * scale) by round(width * scale).
    """

    @property
    def frames(self) -> Sequence[int]:
        """Every frame that can be read, ascending, handles included. May have gaps (`--missing skip`)."""

    @property
    def wanted(self) -> Sequence[int]:
        """Frames whose fill is asked for, ascending; a subset of `frames` (a resumed job lacks the finished ones).

        A frame's fill must not depend on which other frames are wanted: the farm splits, restarts and compares.
        """

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the canvas in plate pixels."""

    @property
    def plates_key(self) -> str:
        """The same for two shots of the same plates, and for no others."""

    @property
    def masks_key(self) -> str:
        """The same while matte, affected, keep and change are the same, and for no others."""

    @property
    def seed(self) -> int: ...

    @property
    def prompt(self) -> str: ...

    @property
    def quality(self) -> str:
        """How much time the artist gives for how good a picture: "draft", "release" or "fine". An engine that can't
        choose takes no notice."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The engine's own settings. Raise SettingsError for a name that the engine does not know."""

    def plate(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None) -> Array:
        """float32 [h, w, 3] in `colour`; None is what the engine's `needs.colour` says. Reads and decodes a file."""

    def known(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w], 1 where the plate has a finite sample, 0 outside its data window and at NaN and Inf."""

    def matte(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1], 1 = remove: the artist's matte as drawn, soft edges kept."""

    def affected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: what the object did to the scene, painted or found; 0 under the matte's core."""

    def keep(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: passes in front; never painted over, never used as background."""

    def change(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: the alpha with which the fill will be laid over the plate.

        This is the hole: fill wherever it is above 0, and take no background from such pixels of other frames.
        """

    def hole(self, frame: int) -> Window | None:
        """Bounding box of `change` > 0 on the canvas, or None where nothing is to be done. Cheap the second time."""

    @property
    def reference_frames(self) -> Sequence[int]:
        """Frames for which the artist gave a painted or clean-shot picture; trusted above anything the engine finds."""

    def reference(
        self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None
    ) -> Array:
        """float32 [h, w, 3]: the artist's picture of this frame without the object."""
