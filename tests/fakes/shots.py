"""A shot held in memory, for tests of engines: strict about frames, crops and scales.

What comes in: arrays over time. What goes out: the `Shot` protocol of `void_server.engine`. It knows nothing of files.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]


def grown(matte: Array, grow_px: float = 2.0, feather_px: float = 1.5) -> Array:
    """The alpha that the pipeline lays a fill down with: the matte grown, with a soft edge inside the grown shape."""
    reach = round(grow_px)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    shape = cv2.dilate((matte > 0).astype(np.uint8), kernel)
    depth = cv2.distanceTransform(np.pad(shape, 1, mode="edge"), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.clip(depth / max(feather_px, 1e-6), 0, 1).astype(np.float32) if feather_px else shape.astype(np.float32)


class MemoryShot:
    """plate: float32 [T, H, W, 3], scene-linear; matte, affected, keep, known: [T, H, W] in [0, 1]."""

    def __init__(
        self,
        plate: Array,
        matte: Array,
        affected: Array | None = None,
        keep: Array | None = None,
        known: Array | None = None,
        reference: Mapping[int, Array] | None = None,
        frames: Sequence[int] | None = None,
        wanted: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        grow_px: float = 2.0,
        quality: str = "release",
    ) -> None:
        zeros = np.zeros(plate.shape[:3], np.float32)
        self._plate = plate.astype(np.float32)
        self._matte = matte.astype(np.float32)
        self._affected = zeros if affected is None else affected.astype(np.float32)
        self._keep = zeros if keep is None else keep.astype(np.float32)
        self._known = zeros + 1 if known is None else known.astype(np.float32)
        self._reference = dict(reference or {})
        self.frames: Sequence[int] = list(frames) if frames is not None else list(range(1001, 1001 + len(plate)))
        self.wanted: Sequence[int] = list(wanted) if wanted is not None else list(self.frames)
        self.size: tuple[int, int] = (plate.shape[1], plate.shape[2])
        self.plates_key = uuid.uuid4().hex
        self.masks_key = uuid.uuid4().hex
        self.seed = seed
        self.prompt = ""
        self.quality = quality
        self.options: Mapping[str, Any] = dict(options or {})
        self.reads: dict[int, int] = {}
        """How often each frame's plate was read."""
        self._change = [
            (np.maximum(grown(m, grow_px), grown(a, grow_px)) * (1 - k)).astype(np.float32)
            for m, a, k in zip(self._matte, self._affected, self._keep)
        ]

    def _index(self, frame: int) -> int:
        if frame not in self.frames:
            raise KeyError(f"frame {frame} is not of this shot")
        return list(self.frames).index(frame)

    def _cut(self, image: Array, crop: Window | None, scale: float) -> Array:
        if not 0 < scale <= 1:
            raise ValueError(f"scale {scale}")
        height, width = self.size
        canvas = Window(0, 0, width, height)
        crop = crop or canvas
        out = np.zeros((crop.height, crop.width, *image.shape[2:]), np.float32)
        seen = crop.intersect(canvas)
        if not seen.empty:
            out[seen.slices(crop)] = image[seen.slices(canvas)]
        if scale < 1:
            small = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
            out = cv2.resize(out, small, interpolation=cv2.INTER_AREA)
        return out

    def plate(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Any = None) -> Array:
        index = self._index(frame)
        self.reads[frame] = self.reads.get(frame, 0) + 1
        return self._cut(self._plate[index], crop, scale)

    def known(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._cut(self._known[self._index(frame)], crop, scale)

    def matte(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._cut(self._matte[self._index(frame)], crop, scale)

    def affected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._cut(self._affected[self._index(frame)], crop, scale)

    def keep(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._cut(self._keep[self._index(frame)], crop, scale)

    def change(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._cut(self._change[self._index(frame)], crop, scale)

    def hole(self, frame: int) -> Window | None:
        rows, columns = np.nonzero(self._change[self._index(frame)])
        if not len(rows):
            return None
        return Window(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)

    @property
    def reference_frames(self) -> Sequence[int]:
        return sorted(self._reference)

    def reference(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Any = None) -> Array:
        return self._cut(self._reference[frame], crop, scale)
