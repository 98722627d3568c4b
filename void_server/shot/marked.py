"""A shot with one set of marks: what effects, backgrounds and engines work on.

What comes in: a surveyed shot's reader and curve, and `Marks`. What goes out: `Shot`, as `contract` has it. It is
frozen: other marks make another `MarkedShot`. It knows no engine and decides nothing about what is removed.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from void_server.image import fit
from void_server.image.colour import EngineSpace
from void_server.shot.check import CheckedShot
from void_server.shot.contract import Array, Colour, Shot
from void_server.shot.marks import Marks
from void_server.shot.plate_reader import PlateReader, Samples, is_finite
from void_server.wire.shot import Window


@dataclasses.dataclass(frozen=True)
class MarkedShot:
    """Meets `contract.Shot`. Safe to read from several threads and forked processes."""

    checked: CheckedShot
    reader: PlateReader
    marks: Marks
    plates_key: str
    engine_space: EngineSpace
    not_finite: frozenset[int]
    """Frames that hold samples that are not finite."""
    wanted: Sequence[int]
    default_colour: Colour = Colour.SCENE_LINEAR

    def with_marks(self, marks: Marks) -> MarkedShot:
        """The same shot under other marks."""
        return dataclasses.replace(self, marks=marks)

    def prepared(self, check: Callable[[], None]) -> MarkedShot:
        """The same shot; its marks are read and made already, on all cores. check: asked meanwhile; may raise."""
        collections.deque(self.marks.prepare(self.frames, check), maxlen=0)
        return self

    def ready(self, wanted: Sequence[int], default_colour: Colour) -> MarkedShot:
        """The same shot for an engine: with the frames that it is to fill, in the colour that it asks for."""
        return dataclasses.replace(self, wanted=tuple(wanted), default_colour=default_colour)

    @property
    def nothing_marked(self) -> bool:
        """Whether no frame has anything to remove."""
        return all(self.hole(frame) is None for frame in self.frames)

    @property
    def masks_key(self) -> str:
        return self.marks.key

    @property
    def frames(self) -> Sequence[int]:
        return self.checked.frames

    @property
    def size(self) -> tuple[int, int]:
        return self.canvas.height, self.canvas.width

    @property
    def canvas(self) -> Window:
        """The canvas in EXR pixel coordinates; an engine's crop shifted by its corner gives the file's own."""
        return self.checked.canvas

    @property
    def whole(self) -> Window:
        return self.reader.whole

    @property
    def proxy_scale(self) -> float:
        """The scale at which `plate` costs no decoding."""
        return self.reader.proxy_scale

    @property
    def seed(self) -> int:
        return self.checked.settings.seed

    @property
    def prompt(self) -> str:
        return self.checked.settings.prompt

    @property
    def quality(self) -> str:
        return self.checked.settings.quality

    @property
    def options(self) -> Mapping[str, Any]:
        return self.checked.settings.options

    def plate(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None) -> Array:
        window = crop or self.whole
        light = (colour or self.default_colour) is Colour.SCENE_LINEAR
        if light and window == self.whole and scale <= self.proxy_scale:
            proxy = self.reader.proxy(frame)
            if proxy is not None:
                return proxy if scale == self.proxy_scale else fit.resize(proxy, *fit.scaled_size(*self.size, scale))
        return self._picture(self.reader.plate(frame, window), scale, colour)

    def reference(
        self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None
    ) -> Array:
        return self._picture(self.reader.reference(frame, crop or self.whole), scale, colour)

    def _picture(self, samples: Samples, scale: float, colour: Colour | None) -> Array:
        light = (colour or self.default_colour) is Colour.SCENE_LINEAR
        picture = _finite(samples) if light else self.engine_space.encode(samples)
        return (
            picture if scale == 1 else fit.resize(picture, *fit.scaled_size(picture.shape[0], picture.shape[1], scale))
        )

    @property
    def reference_frames(self) -> Sequence[int]:
        return sorted(self.checked.references)

    def plate_bits(self, frame: int, crop: Window) -> Samples:
        """The plate's own samples, float16 or float32 [h, w, 3], NaN and Inf included; 0 outside its data window."""
        return self.reader.plate(frame, crop)

    def known(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        window = crop or self.whole
        mask = np.zeros((window.height, window.width), np.float32)
        inside = self.reader.data_window(frame).intersect(window)
        if not inside.empty:
            # Most frames were found to be finite throughout; decoding one again takes a third of a second at 4K.
            odd = frame in self.not_finite
            mask[inside.slices(window)] = is_finite(self.reader.plate(frame, inside)).all(-1) if odd else 1
        return _scaled_soft(mask, scale)

    def matte(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._marked("matte", frame, crop, scale)

    def keep(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._marked("keep", frame, crop, scale)

    def affected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._marked("affected", frame, crop, scale)

    def change(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._marked("change", frame, crop, scale)

    def physics(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: what would move differently without the object, as far as it was found; 0 else."""
        return self._marked("physics", frame, crop, scale)

    def suspected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: what may be the object's doing and is left as it is; 0 where it is changed."""
        return self._marked("suspected", frame, crop, scale)

    def _marked(self, role: str, frame: int, crop: Window | None, scale: float) -> Array:
        return _scaled_soft(self.marks.on(role, frame, crop or self.whole), scale)

    def hole(self, frame: int) -> Window | None:
        return self.marks.hole(frame)

    def share(self, role: str, frame: int) -> float:
        """Share of the format, 0 to 1, that one role's matte marks, or "change"."""
        return self.marks.share(role, frame)


def _finite(samples: Samples) -> Array:
    """Light an engine can compute with: non-finite samples become 0, negatives stay."""
    light = samples.astype(np.float32)
    finite = is_finite(samples)
    if not finite.all():
        light[~finite] = 0
    return light


def _scaled_soft(mask: Array, scale: float) -> Array:
    return mask if scale == 1 else fit.resize_soft(mask, *fit.scaled_size(mask.shape[0], mask.shape[1], scale))


def as_shot(shot: MarkedShot) -> Shot:
    """The same object under the contract's type: mypy holds the two against each other here."""
    return shot
