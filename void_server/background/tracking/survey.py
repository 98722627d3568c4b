"""Look at every frame of a shot once, small: enough to follow the camera and to predict who sees what.

What comes in: a `Shot`. What goes out: a `Survey`, small 8-bit pictures and masks of all frames. It does not know
what a camera or a donor is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.log_curve import LogCurve
from void_server.background.spool import Spool
from void_server.image.colour import REC709_LUMINANCE
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.contract import Shot
from void_server.wire.report import Report
from void_server.wire.shot import Window

Bytes = npt.NDArray[np.uint8]

WIDTH_LIMIT = 960
"""Widest small picture: measured enough for a homography good to a tenth of a pixel at 1080p."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Small pictures of a whole shot. Lists are by index: position in `frames`, 0-based."""

    frames: Sequence[int]
    scale: float
    curve: LogCurve
    grey: SpooledPictures | Sequence[Bytes]
    """uint8 [h, w], code of luminance."""
    index: Mapping[int, int]


@dataclasses.dataclass(frozen=True)
class Survey(Pictures):
    """The same, and what of them is background under one set of masks."""

    blocked: PackedMasks | Sequence[Bytes]
    """uint8 [h, w], 255 where nothing may be taken: the hole, what is kept in front, what no sample is known of."""


class SpooledPictures:
    """Pictures of a whole shot, kept on disk until the last reference goes: those of 500 frames would take 240 MB.

    >>> pictures = SpooledPictures([np.array([[1, 2, 3]], np.uint8)])
    >>> pictures[0].tolist()
    [[1, 2, 3]]
    """

    def __init__(self, pictures: Iterable[Bytes]) -> None:
        self._spool = Spool()
        for index, picture in enumerate(pictures):
            self._spool.put(index, Window(0, 0, picture.shape[1], picture.shape[0]), picture)

    def __getitem__(self, index: int) -> Bytes:
        return np.asarray(self._spool.get(index, self._spool.window(index)), np.uint8)


class PackedMasks:
    """Masks of 0 and 255, all of one size, held as bits: those of 500 frames take 30 MB instead of 250.

    >>> masks = PackedMasks([np.array([[0, 255, 255]], np.uint8)])
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
    return light @ REC709_LUMINANCE


def detail(picture: Bytes, within_px: float) -> npt.NDArray[np.float32]:
    """float32 [h, w]: what of a small picture varies over less than `within_px`, in its own code values."""
    light = picture.astype(np.float32)
    return np.asarray(light - cv2.GaussianBlur(light, (0, 0), within_px), np.float32)


def look(shot: Shot, report: Report) -> Pictures:
    """Read all frames of `shot` once, reduced to at most 960 pixels of width."""
    frames = list(shot.frames)
    scale = min(1.0, WIDTH_LIMIT / shot.size[1])
    picks = [frames[i] for i in sorted({0, len(frames) // 4, len(frames) // 2, 3 * len(frames) // 4, len(frames) - 1})]
    # The curve comes from fixed frames of the whole shot, so a resumed job finds the same one.
    curve = LogCurve.measured(
        np.concatenate([luminance(shot.plate(f, scale=scale / 4))[::2, ::2].ravel() for f in picks])
    )

    def small(frame: int) -> Bytes:
        return np.clip(curve.encode(luminance(shot.plate(frame, scale=scale))) * 220, 0, 255).astype(np.uint8)

    grey = SpooledPictures(_in_order(small, frames, "look", report))
    return Pictures(frames, scale, curve, grey, {f: i for i, f in enumerate(frames)})


def masked(pictures: Pictures, shot: Shot, report: Report) -> Survey:
    """The shot's small pictures with its masks as they are now."""

    def mask(frame: int) -> Bytes:
        return np.where(taken(shot, frame, pictures.scale), 255, 0).astype(np.uint8)

    blocked = PackedMasks(_in_order(mask, pictures.frames, "masks", report))
    return Survey(pictures.frames, pictures.scale, pictures.curve, pictures.grey, pictures.index, blocked)


def survey(shot: Shot, report: Report) -> Survey:
    """Small pictures and masks of a shot."""
    return masked(look(shot, report), shot, report)


def _in_order(make: Callable[[int], Bytes], frames: Sequence[int], stage: str, report: Report) -> Iterator[Bytes]:
    """One picture a frame, on all cores."""
    with contextlib.closing(in_order(make, frames, threads(), report.check_cancelled)) as made:
        for done, picture in enumerate(made):
            yield picture
            report.progress(stage, done + 1, len(frames), frames[done])


def taken(shot: Shot, frame: int, scale: float) -> npt.NDArray[np.bool_]:
    """bool [h, w], True where a frame's plate is no background: changed, kept in front, or unknown."""
    out: npt.NDArray[np.bool_] = shot.known(frame, scale=scale) < 0.999
    if shot.hole(frame) is not None:
        out |= shot.change(frame, scale=scale) > 0
    out |= shot.keep(frame, scale=scale) > 0
    return np.asarray(cv2.dilate(out.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
