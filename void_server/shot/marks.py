"""What is marked on each frame of a shot: matte, affected, keep, and the change that follows from them.

What comes in: a `CheckedShot`, and later what `effects` found. What goes out: mattes on any window of the canvas, each
kept only where it is not 0, and as half floats, since a roto covers little of a 4K frame. It knows no engine, and of
plates their windows only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from void_server.image import fit, matte
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot import mask_reading
from void_server.shot.check import CheckedShot
from void_server.shot.contract import large
from void_server.shot.frame_cache import FrameCache, Held
from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]
Soft = npt.NDArray[np.floating]

CACHE_BYTES = 128 << 20
NOTHING: Held = (Window(0, 0, 0, 0), np.zeros((0, 0), np.float32))


@dataclasses.dataclass(frozen=True)
class Found:
    """What `effects` found, each matte cut to where it is not 0, as half floats."""

    size: tuple[int, int]
    """(height, width) of the reduced pictures it was found on."""
    affected: Mapping[int, Held]
    physics: Mapping[int, Held]
    suspected: Mapping[int, Held]

    @classmethod
    def collected(cls, found: Iterable[tuple[int, Soft, Soft, Soft]]) -> Found:
        """From (frame, affected, physics, suspected), [h, w] in [0, 1], all of one size."""
        size, cuts = (0, 0), []
        for frame, affected, physics, suspected in found:
            size = (affected.shape[0], affected.shape[1])
            cuts.append((frame, *cut_out(affected, physics, suspected)))
        return cls.of_cuts(size, cuts)

    @classmethod
    def of_cuts(cls, size: tuple[int, int], found: Sequence[tuple[int, Held, Held, Held]]) -> Found:
        """From (frame, affected, physics, suspected) as `cut_out` gives them. size: (height, width) of the whole."""
        kept: tuple[dict[int, Held], ...] = ({}, {}, {})
        for frame, *cuts in found:
            for role, held in zip(kept, cuts):
                role[frame] = held
        return cls(size, *kept)


class Marks:
    """Windows are on the canvas: [0, 0] is the canvas's top left corner, whatever the files' own coordinates.

    found: takes the place of a painted `affected`; its physics and what is suspected are told to people and change
    nothing by themselves.
    corrected: whether `affected` is shown with the artist's corrections, or as it was painted or found.
    """

    def __init__(self, checked: CheckedShot, found: Found | None = None, *, corrected: bool = True) -> None:
        self.key = uuid.uuid4().hex
        """No two sets of marks share it."""
        self.found = found
        self._checked = checked
        self._canvas = checked.canvas
        self._corrected = corrected
        self.whole = Window(0, 0, checked.canvas.width, checked.canvas.height)
        self._cache = FrameCache(CACHE_BYTES)
        self._holes: dict[int, Window | None] = {}

    def on(self, role: str, frame: int, window: Window) -> Array:
        """One role's matte, or "change", on a window, float32 in [0, 1]."""
        box, marked = self._marked(role, frame)
        return np.asarray(fit.place(marked, box, window), np.float32)

    def prepare(self, frames: Sequence[int], check: Callable[[], None]) -> Iterator[int]:
        """Read and make the marks of `frames` on all cores; yields each frame once it is held."""

        def made(frame: int) -> dict[str, Held]:
            return {role: self._marked(role, frame) for role in ("matte", "affected", "keep", "change")}

        heavy = large((self.whole.height, self.whole.width))
        with contextlib.closing(in_order(made, frames, threads(), check, heavy=heavy)) as found:
            for frame, one in zip(frames, found):
                for role, held in one.items():
                    self._cache.put((role, frame), held)
                self._holes[frame] = None if one["change"][0].empty else one["change"][0]
                yield frame

    def hole(self, frame: int) -> Window | None:
        """Bounding box of the change, or None."""
        if frame not in self._holes:
            box = self._marked("change", frame)[0]
            self._holes[frame] = None if box.empty else box
        return self._holes[frame]

    def share(self, role: str, frame: int) -> float:
        """Share of the format, 0 to 1, that one role's matte marks."""
        shown = mask_reading.format_of(self._checked, frame).shift(-self._canvas.x0, -self._canvas.y0)
        box, marked = self._marked(role, frame)
        inside = box.intersect(shown)
        if inside.empty:
            return 0.0
        count = int((marked[inside.slices(box)] > (0 if role == "change" else mask_reading.counts_from(role))).sum())
        return count / (shown.width * shown.height)

    def clear(self) -> None:
        self._cache.clear()

    def data_window(self, frame: int) -> Window:
        """Where the frame's plate has samples, on the canvas."""
        return self._checked.plates[frame].data_window.shift(-self._canvas.x0, -self._canvas.y0)

    def _marked(self, role: str, frame: int) -> Held:
        held = self._cache.get((role, frame))
        if held is None:
            if role == "change":
                held = self._change(frame)
            elif role == "affected":
                held = self._affected(frame)
            elif role == "physics":
                held = self._without_denied(frame, *self._scaled_up(self.found.physics if self.found else {}, frame))
            elif role == "suspected":
                held = self._suspected(frame)
            else:
                held = self._painted(role, frame)
            self._cache.put((role, frame), held)
        return held

    def _painted(self, role: str, frame: int) -> Held:
        header = self._checked.mattes[role].get(frame)
        if header is None:
            return NOTHING
        pixels = mask_reading.read(self._checked, role, frame)
        floor = mask_reading.floor(self._checked, role)
        if floor > matte.MATTE_FLOOR:
            pixels[pixels <= floor] = 0
        return cropped(pixels, header.data_window.shift(-self._canvas.x0, -self._canvas.y0))

    def _affected(self, frame: int) -> Held:
        """Painted, or found and scaled up, then corrected; without what lies under the matte, removed anyway."""
        if self.found is not None:
            box, marked = self._scaled_up(self.found.affected, frame)
        else:
            box, marked = self._painted("affected", frame)
        if self._corrected:
            box, marked = self._with_corrections(frame, box, marked)
        if box.empty:
            return NOTHING
        return cropped(marked * (1 - self.on("matte", frame, box)), box)

    def _suspected(self, frame: int) -> Held:
        """What may be the object's doing and is not changed: what was suspected and what would move differently, less
        what is affected or removed anyway."""
        if self.found is None:
            return NOTHING
        box, marked = self._without_denied(frame, *self._scaled_up(self.found.suspected, frame))
        physics, moved = self._marked("physics", frame)
        both = box.union(physics)
        if both.empty:
            return NOTHING
        marked = np.maximum(fit.place(marked, box, both), fit.place(moved, physics, both))
        taken = np.maximum(self.on("affected", frame, both), self.on("matte", frame, both))
        return cropped(np.asarray(np.where(taken > 0, 0, marked), np.float32), both)

    def _with_corrections(self, frame: int, box: Window, marked: Soft) -> Held:
        """max(affected, add) * (1 - sub): taking away wins where both are painted. A matte is out of its reach."""
        add = self._marked("affected_add", frame)[0]
        if not add.empty:
            both = box.union(add)
            marked = np.maximum(fit.place(marked, box, both), self.on("affected_add", frame, both))
            box = both
        return self._without_denied(frame, box, marked)

    def _without_denied(self, frame: int, box: Window, marked: Soft) -> Held:
        """Without what the artist says is no effect."""
        if self._corrected and not self._marked("affected_sub", frame)[0].intersect(box).empty:
            marked = marked * (1 - self.on("affected_sub", frame, box))
        return box, marked

    def _scaled_up(self, found: Mapping[int, Held], frame: int) -> Held:
        """What was found, at the canvas's size; only where it lies, since a full 4K matte takes time to make."""
        box, small = found.get(frame, NOTHING)
        if box.empty or self.found is None:
            return NOTHING
        height, width = self.found.size
        down, across = self.whole.height / height, self.whole.width / width
        room = box.grow(1)
        near = Window(
            int(room.x0 * across), int(room.y0 * down), int(room.x1 * across) + 1, int(room.y1 * down) + 1
        ).intersect(self.whole)
        whole = np.asarray(fit.place(small, box, Window(0, 0, width, height)), np.float32)
        return cropped(fit.enlarge_soft(whole, self.whole, near), near)

    def _change(self, frame: int) -> Held:
        settings = self._checked.settings
        marked = self._marked("matte", frame)[0].union(self._marked("affected", frame)[0])
        if marked.empty:
            return NOTHING
        # One pixel more than the growth, so that the alpha ends inside the window.
        near = marked.grow(int(np.ceil(settings.grow_px)) + 1)
        alpha = matte.change(
            self.on("matte", frame, near),
            self.on("affected", frame, near),
            self.on("keep", frame, near),
            settings.grow_px,
            settings.feather_px,
        )
        # What the plate's own data window does not hold can't be written, so it does not change.
        inside = self.data_window(frame).intersect(near)
        return cropped(alpha[inside.slices(near)], inside) if not inside.empty else NOTHING


def cut_out(affected: Soft, physics: Soft, suspected: Soft) -> tuple[Held, Held, Held]:
    """Each cut to where it is not 0; all three of one size."""
    window = Window(0, 0, affected.shape[1], affected.shape[0])
    return cropped(affected, window), cropped(physics, window), cropped(suspected, window)


def cropped(mask: Soft, at: Window) -> Held:
    """A mask that covers window `at`, cut to where it is not 0."""
    box = matte.bounds(mask > 0)
    if box is None:
        return NOTHING
    rows, columns = box.slices(Window(0, 0, at.width, at.height))
    return box.shift(at.x0, at.y0), mask[rows, columns].astype(np.float16)
