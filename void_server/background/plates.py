"""The pixels of a shot that its fills are made of, read once and kept on disk while it is worked on.

What comes in: which part of which frame will be needed. What goes out: donors on any window of it. It chooses nothing.
"""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.log_curve import LogCurve
from void_server.background.registration.register import BARE, Bytes, Donor
from void_server.background.spool import Spool, packed
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.contract import Array, Shot, large
from void_server.wire.report import Report
from void_server.wire.shot import Window

NOTHING = Window(0, 0, 0, 0)


class Plates:
    """Call `need` for all windows, `collect` once, then read. Close it to free the disk."""

    def __init__(self, shot: Shot, curve: LogCurve) -> None:
        self.shot, self.curve = shot, curve
        self.frames = list(shot.frames)
        height, width = shot.size
        self.canvas = Window(0, 0, width, height)
        self._windows: dict[int, Window] = {}
        self._spool = Spool()

    def close(self) -> None:
        self._spool.close()

    def need(self, index: int, window: Window) -> None:
        """Say that `window` of a frame will be read."""
        inside = window.intersect(self.canvas)
        if not inside.empty:
            self._windows[index] = self._windows.get(index, NOTHING).union(inside)

    def collect(self, report: Report) -> None:
        """Read what was said to be needed, each plate once. Raises StoreError when the temporary disk is full."""
        needed = sorted(self._windows)

        def read(index: int) -> tuple[Array | npt.NDArray[np.float16], Bytes]:
            window, frame = self._windows[index], self.frames[index]
            return packed(self.shot.plate(frame, window)), self._free(frame, window)

        every = in_order(read, needed, threads(), report.check_cancelled, heavy=large(self.shot.size))
        with contextlib.closing(every):
            for done, (index, (plate, free)) in enumerate(zip(needed, every)):
                window = self._windows[index]
                self._spool.put(("plate", index), window, plate)
                self._spool.put(("free", index), window, free)
                report.progress("read", done + 1, len(needed), self.frames[index])

    def _free(self, frame: int, window: Window) -> Bytes:
        """255 background, BARE in the grown band around what is marked, 0 marked, kept in front or unknown."""
        shot = self.shot
        denied = shot.known(frame, window) < 0.999
        keep = shot.keep(frame, window)
        if keep.any():
            denied |= cv2.dilate(keep, np.ones((3, 3), np.uint8)) > 0
        free = np.full(denied.shape, 255, np.uint8)
        if shot.hole(frame) is not None:
            free[shot.change(frame, window) > 0] = BARE
            free[(shot.matte(frame, window) > 0) | (shot.affected(frame, window) > 0)] = 0
        free[denied] = 0
        return free

    def holds(self, index: int, window: Window) -> Window:
        """The part of `window` that was collected."""
        return window.intersect(self._windows.get(index, NOTHING))

    def light_of(self, index: int, window: Window) -> Array:
        """float32 [h, w, 3], scene-linear; `window` must have been needed."""
        return self._spool.get(("plate", index), window)

    def free_of(self, index: int, window: Window) -> Bytes:
        return self._spool.get(("free", index), window).astype(np.uint8)

    def donor(self, index: int, window: Window) -> Donor | None:
        """A frame's pixels on the collected part of `window`; None where nothing was."""
        inside = self.holds(index, window)
        if inside.empty:
            return None
        return Donor(index, inside, self.curve.encode(self.light_of(index, inside)), self.free_of(index, inside))

    def keep(self, index: int, window: Window, code: Array, usable: Bytes) -> None:
        """Put a picture that was made of a frame where plates lie. code: [h, w, 3]; usable: as in `Donor`."""
        self._spool.put(("made", index), window, code)
        self._spool.put(("usable", index), window, usable)

    def keeps(self, index: int) -> bool:
        return ("usable", index) in self._spool

    def kept(self, index: int) -> Donor:
        """What `keep` got: all of it can be registered by."""
        window = self._spool.window(("made", index))
        code, usable = (self._spool.get((name, index), window) for name in ("made", "usable"))
        return Donor(index, window, code, np.full(usable.shape, 255, np.uint8), usable.astype(np.uint8))

    def reference(self, index: int, window: Window) -> Donor | None:
        """The artist's picture of a frame: registered by all of it, used where it was painted.

        Painted is what lies in the frame's hole or differs from its plate; a plate shot clean differs everywhere.
        """
        inside = window.intersect(self.canvas)
        if inside.empty:
            return None
        frame = self.frames[index]
        painted, plate = self.shot.reference(frame, inside), self.shot.plate(frame, inside)
        differs = np.abs(self.curve.encode(painted) - self.curve.encode(plate)).max(2) > 1e-3
        usable = differs | (self.shot.change(frame, inside) > 0)
        return Donor(
            index,
            inside,
            self.curve.encode(painted),
            np.where(self.shot.known(frame, inside) >= 0.999, 255, 0).astype(np.uint8),
            np.where(usable, 255, 0).astype(np.uint8),
        )
