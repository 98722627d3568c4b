"""Keep parts of many frames on disk for a while, so that each plate file is decoded once and memory stays flat.

What comes in: arrays of float32 by key. What goes out: any rectangle of them, read back. It does not know pictures.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server.shot.contract import Array
from void_server.wire.errors import StoreError
from void_server.wire.shot import Window


def packed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`array` as half floats where it is of floats and those hold it exactly, else as it is: most plates are, and take
    half the disk traffic. A matter of time as well, so it is for workers to ask.

    >>> packed(np.float32([0.5, 2])).dtype, packed(np.float32([0.1])).dtype
    (dtype('float16'), dtype('float32'))
    """
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else array


class Spool:
    """An unnamed temporary file of rectangles; gone when closed or when the process ends."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="void-spool-")  # noqa: SIM115 - closed with the spool
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._index: dict[Hashable, tuple[int, Window, tuple[int, ...], npt.DTypeLike]] = {}

    def close(self) -> None:
        self._file.close()
        self._index.clear()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._index

    def window(self, key: Hashable) -> Window:
        return self._index[key][1]

    def put(self, key: Hashable, window: Window, array: npt.NDArray[np.generic]) -> None:
        """Store `array` [h, w, ...] that covers `window`. Raises StoreError when the disk is full."""
        data = np.ascontiguousarray(array)
        try:
            os.pwrite(self._file.fileno(), data.data, self._end) if data.nbytes else None
        except OSError as error:
            raise StoreError(
                f"Temporary space ran out after {self._end >> 20} MiB: {error.strerror}.",
                "Free space in the temporary folder, or point TMPDIR at a larger disk.",
            ) from error
        self._index[key] = (self._end, window, data.shape, data.dtype)
        self._end += data.nbytes

    def get(self, key: Hashable, window: Window) -> Array:
        """The part `window` of what was stored; it must lie inside. Floats come back as float32."""
        start, whole, shape, dtype = self._index[key]
        row = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        rows, columns = window.slices(whole)
        raw = os.pread(self._file.fileno(), window.height * row, start + rows.start * row)
        array = np.frombuffer(raw, dtype).reshape(window.height, *shape[1:])[:, columns]
        return array.astype(np.float32 if array.dtype.kind == "f" else array.dtype)
