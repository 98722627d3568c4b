"""Look at every frame of a shot once, small: enough to follow the camera and to predict who sees what.

What comes in: a `Shot`. What goes out: a `Survey`, small 8-bit pictures and masks of all frames. It does not know
what a camera or a donor is.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from void_server.engine import Shot
from void_server.engine.propagate.light import Light
from void_server.engine.propagate.spool import Spool
from void_server.wire.report import Report
from void_server.wire.shot import Window

Bytes = npt.NDArray[np.uint8]

WIDTH_LIMIT = 960
"""Widest small picture: measured enough for a homography good to a tenth of a pixel at 1080p."""


@dataclasses.dataclass
class Survey:
    """Small pictures of a whole shot. Lists are by index: position in `frames`, 0-based."""

    frames: list[int]
    scale: float
    light: Light
    grey: Pictures | list[Bytes]
    """uint8 [h, w], code of luminance."""
    blocked: Masks | list[Bytes]
    """uint8 [h, w], 255 where nothing may be taken: the hole, what is kept in front, what no sample is known of."""
    index: dict[int, int]

    def mask(self, shot: Shot, report: Report) -> None:
        """Look at the holes again: `affected` may have been found since."""

        def masks() -> Iterator[Bytes]:
            for done, frame in enumerate(self.frames):
                yield self._blocked(shot, frame)
                report.progress("masks", done + 1, len(self.frames), frame)

        self.blocked = Masks(masks())

    def masks_hold(self, shot: Shot, index: int) -> bool:
        """Whether the mask of one frame is still the shot's."""
        return np.array_equal(self.blocked[index], self._blocked(shot, self.frames[index]))

    def _blocked(self, shot: Shot, frame: int) -> Bytes:
        return np.where(taken(shot, frame, self.scale), 255, 0).astype(np.uint8)


class Pictures:
    """Pictures of a whole shot, kept on disk until the last reference goes: those of 500 frames would take 240 MB.

    >>> pictures = Pictures([np.array([[1, 2, 3]], np.uint8)])
    >>> pictures[0].tolist()
    [[1, 2, 3]]
    """

    def __init__(self, pictures: Iterable[Bytes]) -> None:
        self._spool = Spool()
        weakref.finalize(self, self._spool.close)
        for index, picture in enumerate(pictures):
            self._spool.put(index, Window(0, 0, picture.shape[1], picture.shape[0]), picture)

    def __getitem__(self, index: int) -> Bytes:
        return np.asarray(self._spool.get(index, self._spool.window(index)), np.uint8)


class Masks:
    """Masks of 0 and 255, all of one size, held as bits: those of 500 frames take 30 MB instead of 250.

    >>> masks = Masks([np.array([[0, 255, 255]], np.uint8)])
    >>> masks[0].tolist()
    [[0, 255, 255]]
    """

    def __init__(self, masks: Iterable[Bytes]) -> None:
        self._bits: list[Bytes] = []
        self._size = (0, 0)
        for mask in masks:
            self._size = mask.shape[0], mask.shape[1]
            self._bits.append(np.packbits(mask > 127))

    def __getitem__(self, index: int) -> Bytes:
        height, width = self._size
        bits = np.unpackbits(self._bits[index], count=height * width).reshape(height, width)
        return np.asarray(bits * np.uint8(255), np.uint8)


def luminance(light: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rec.709 weights whatever the primaries: it serves comparison, not colour."""
    return light @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def survey(shot: Shot, report: Report) -> Survey:
    """Read all frames of `shot` once, reduced to at most 960 pixels of width."""
    frames = list(shot.frames)
    scale = min(1.0, WIDTH_LIMIT / shot.size[1])
    picks = [frames[i] for i in sorted({0, len(frames) // 4, len(frames) // 2, 3 * len(frames) // 4, len(frames) - 1})]
    # The curve comes from fixed frames of the whole shot, so a resumed job finds the same one.
    light = Light.measured(np.concatenate([luminance(shot.plate(f, scale=scale / 4))[::2, ::2].ravel() for f in picks]))

    def pictures() -> Iterator[Bytes]:
        for done, frame in enumerate(frames):
            yield np.clip(light.code(luminance(shot.plate(frame, scale=scale))) * 220, 0, 255).astype(np.uint8)
            report.progress("look", done + 1, len(frames), frame)

    looked = Survey(frames, scale, light, Pictures(pictures()), [], {f: i for i, f in enumerate(frames)})
    looked.mask(shot, report)
    return looked


def taken(shot: Shot, frame: int, scale: float) -> npt.NDArray[np.bool_]:
    """bool [h, w], True where a frame's plate is no background: changed, kept in front, or unknown."""
    out: npt.NDArray[np.bool_] = shot.known(frame, scale=scale) < 0.999
    if shot.hole(frame) is not None:
        out |= shot.change(frame, scale=scale) > 0
    out |= shot.keep(frame, scale=scale) > 0
    return np.asarray(cv2.dilate(out.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
