"""A shot on disk, as an engine sees it: any frame, any crop, any scale, in the colour it asks for.

What comes in: a `CheckedShot`. What goes out: arrays on the canvas, cut and scaled as asked. It holds the promise that
memory does not grow with the shot: decoded frames live in a cache of fixed size, and only reduced pictures of the
whole shot are kept, in a temporary file. It knows no engine and decides nothing about what is removed.
"""

from __future__ import annotations

import collections
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server import engine as engines
from void_server.check import CheckedShot
from void_server.engine import Colour
from void_server.image import colour, exr, fit, matte
from void_server.wire.errors import MatteError, about
from void_server.wire.report import Report
from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]

PROXY_WIDTH = 960
"""Width of the reduced pictures kept of the whole shot: enough for camera and donors (measured at 480p to 960p)."""
CACHE_BYTES = 512 << 20
SURVEY_SAMPLES = 20_000
"""Pixels a frame gives to the choice of the engine's curve."""


class _Cache:
    """Arrays by key, forgotten oldest first once they take more than `limit_bytes`. Safe to share between threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._held: collections.OrderedDict[Any, tuple[Window, npt.NDArray[Any]]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, window: Window) -> tuple[Window, npt.NDArray[Any]] | None:
        with self._lock:
            found = self._held.get(key)
            if found is None or not found[0].contains(window):
                return None
            self._held.move_to_end(key)
            return found

    def put(self, key: Any, window: Window, array: npt.NDArray[Any]) -> None:
        with self._lock:
            if key in self._held:
                self._bytes -= self._held.pop(key)[1].nbytes
            self._held[key] = (window, array)
            self._bytes += array.nbytes
            while self._bytes > self._limit_bytes and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1][1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self._bytes = 0


class ShotOnDisk:
    """Meets `engine.Shot`. Call `survey` once before anything else. Safe to read from several threads."""

    def __init__(self, checked: CheckedShot, default_colour: Colour = Colour.SCENE_LINEAR) -> None:
        self.checked = checked
        self._default_colour = default_colour
        self._wanted = checked.wanted
        self._canvas = checked.canvas
        self._plates = _Cache(CACHE_BYTES)
        self._mattes = _Cache(CACHE_BYTES // 4)
        self._holes: dict[int, Window | None] = {}
        self._found: dict[int, tuple[Window, npt.NDArray[np.float16]]] | None = None
        self._found_size = (0, 0)
        self._proxies = tempfile.TemporaryFile(prefix="void-proxies-")  # noqa: SIM115 - closed with the shot
        self._proxy_at: dict[int, int] = {}
        self._proxy_lock = threading.Lock()
        self.floor = 0.0
        self.peak = 1.0
        self.engine_space = colour.EngineSpace(chromaticities=checked.space.chromaticities)
        self.not_finite: dict[int, tuple[int, tuple[int, int]]] = {}

    def __enter__(self) -> ShotOnDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._proxies.close()
        self._plates.clear()
        self._mattes.clear()

    @property
    def frames(self) -> Sequence[int]:
        return self.checked.frames

    @property
    def wanted(self) -> Sequence[int]:
        return self._wanted

    def want(self, frames: Sequence[int]) -> None:
        """Narrow the frames to deliver: those that an earlier, interrupted run has not finished."""
        self._wanted = tuple(frames)

    @property
    def size(self) -> tuple[int, int]:
        return self._canvas.height, self._canvas.width

    @property
    def canvas(self) -> Window:
        """The canvas in EXR pixel coordinates; an engine's crop shifted by its corner gives the file's own."""
        return self._canvas

    @property
    def whole(self) -> Window:
        return Window(0, 0, self._canvas.width, self._canvas.height)

    @property
    def proxy_scale(self) -> float:
        """The scale at which `plate` costs no decoding, once surveyed."""
        return min(1.0, PROXY_WIDTH / self._canvas.width)

    @property
    def seed(self) -> int:
        return self.checked.settings.seed

    @property
    def prompt(self) -> str:
        return self.checked.settings.prompt

    @property
    def options(self) -> Mapping[str, Any]:
        return self.checked.settings.options

    @property
    def nothing_marked(self) -> bool:
        """Whether no frame has anything to remove."""
        return all(self.hole(frame) is None for frame in self.frames)

    def survey(self, report: Report) -> None:
        """Read every frame once: the shot's peak and floor, odd samples, the engine's curve, reduced pictures.

        Raises MatteError if nothing is marked on any frame, and PlateErrors for pixels that can't be decoded.
        """
        if self.nothing_marked:
            raise MatteError(
                "The matte is empty on every frame.", "Check the matte's channel (--matte-channel) and its frames."
            )
        # Looking at all holes at once: a curve chosen from moving windows would flicker.
        around = Window(0, 0, 0, 0)
        for frame in self.frames:
            around = around.union(self.hole(frame) or Window(0, 0, 0, 0))
        around = around.grow(max(around.width, around.height) // 2).intersect(self.whole)
        floors, peaks, samples = [], [], []
        with ThreadPoolExecutor(2) as pool:
            results: Iterator[tuple[float, float, Array]] = pool.map(
                lambda frame: self._survey_frame(frame, around), self.frames
            )
            for index, (low, high, sample) in enumerate(results):
                report.progress("read", index + 1, len(self.frames), self.frames[index])
                floors.append(low)
                peaks.append(high)
                samples.append(sample)
        self.floor, self.peak = min(0.0, *floors), max(peaks)
        self.engine_space = colour.engine_space(np.concatenate(samples), self.checked.space.chromaticities)

    def _survey_frame(self, frame: int, around: Window) -> tuple[float, float, Array]:
        native = self._native(frame, self.whole)
        finite = np.isfinite(native).all(-1)
        known = self._known_window(frame).slices(self.whole)
        odd = np.argwhere(~finite[known])
        if len(odd):
            row, column = odd[0] + (self._known_window(frame).y0, self._known_window(frame).x0)
            self.not_finite[frame] = (len(odd), (int(column) + self._canvas.x0, int(row) + self._canvas.y0))
        light = _finite(native)
        with self._proxy_lock:
            if self.proxy_scale < 1:
                small = np.clip(fit.resize(light.astype(np.float32), *self._proxy_size), -65504, 65504)
                self._proxies.seek(0, 2)
                self._proxy_at[frame] = self._proxies.tell()
                self._proxies.write(small.astype(np.float16).tobytes())
        shown = light[known]
        near, clear = light[around.slices(self.whole)], self.change(frame, around) == 0
        sample = near[clear & finite[around.slices(self.whole)]]
        step = max(1, len(sample) // SURVEY_SAMPLES)
        low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 0.0)
        return low, high, sample[::step].astype(np.float32)

    @property
    def _proxy_size(self) -> tuple[int, int]:
        return fit.scaled_size(*self.size, self.proxy_scale)

    def plate(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None) -> Array:
        window = crop or self.whole
        light = (colour or self._default_colour) is Colour.SCENE_LINEAR
        if light and window == self.whole and scale == self.proxy_scale and frame in self._proxy_at:
            return self._proxy(frame)
        native = self._native(frame, window)
        picture = _finite(native).astype(np.float32) if light else self.engine_space.encode(native)
        return _scaled(picture, scale)

    def _proxy(self, frame: int) -> Array:
        height, width = self._proxy_size
        with self._proxy_lock:
            self._proxies.seek(self._proxy_at[frame])
            raw = self._proxies.read(height * width * 6)
        return np.frombuffer(raw, np.float16).reshape(height, width, 3).astype(np.float32)

    def known(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        window = crop or self.whole
        mask = np.zeros((window.height, window.width), np.float32)
        inside = self._known_window(frame).intersect(window)
        if not inside.empty:
            mask[inside.slices(window)] = np.isfinite(self._native(frame, inside)).all(-1)
        return _scaled_soft(mask, scale)

    def matte(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._matte("matte", frame, crop, scale)

    def keep(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return self._matte("keep", frame, crop, scale)

    def affected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        if self._found is None:
            found = self._matte("affected", frame, crop, 1.0)
        else:
            found = self._found_on(frame, crop or self.whole)
        return _scaled_soft(found * (1 - self.matte(frame, crop)), scale)

    def find_affected(self, maps: Mapping[int, Array]) -> None:
        """Take what `effects` found, float32 [h, w] by frame at the proxies' size, in place of a painted `affected`."""
        self._found = {}
        for frame, found in maps.items():
            box = matte.bounds(found > 0)
            self._found_size = (found.shape[0], found.shape[1])
            if box is not None:
                whole = Window(0, 0, found.shape[1], found.shape[0])
                self._found[frame] = (box, found[box.slices(whole)].astype(np.float16))
        self._mattes.clear()
        self._holes.clear()

    def _found_on(self, frame: int, window: Window) -> Array:
        height, width = self._found_size
        entry = (self._found or {}).get(frame)
        if entry is None:
            return np.zeros((window.height, window.width), np.float32)
        small = fit.place(entry[1].astype(np.float32), entry[0], Window(0, 0, width, height))
        full = fit.resize_soft(small, *self.size)
        return fit.place(full, self.whole, window)

    def change(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        window = crop or self.whole
        box = self.hole(frame)
        if box is None:
            return _scaled_soft(np.zeros((window.height, window.width), np.float32), scale)
        held = self._mattes.get(("change", frame), box)
        if held is None:
            alpha = self._change(frame)
            held = (box, alpha[box.slices(self.whole)].copy())
            self._mattes.put(("change", frame), *held)
        return _scaled_soft(fit.place(held[1], box, window).astype(np.float32), scale)

    def _change(self, frame: int) -> Array:
        settings = self.checked.settings
        alpha = matte.change(
            self.matte(frame), self.affected(frame), self.keep(frame), settings.grow_px, settings.feather_px
        )
        # What the plate's own data window does not hold can't be written, so it does not change.
        inside = fit.place(
            np.ones((self._known_window(frame).height, self._known_window(frame).width), np.float32),
            self._known_window(frame),
            self.whole,
        )
        return alpha * inside

    def hole(self, frame: int) -> Window | None:
        if frame not in self._holes:
            alpha = self._change(frame)
            box = matte.bounds(alpha > 0)
            if box is not None:
                self._mattes.put(("change", frame), box, alpha[box.slices(self.whole)].copy())
            self._holes[frame] = box
        return self._holes[frame]

    @property
    def reference_frames(self) -> Sequence[int]:
        return sorted(self.checked.references)

    def reference(
        self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None
    ) -> Array:
        window = crop or self.whole
        header = self.checked.references[frame]
        native = self._read(("reference", frame), header, window)
        light = (colour or self._default_colour) is Colour.SCENE_LINEAR
        return _scaled(_finite(native).astype(np.float32) if light else self.engine_space.encode(native), scale)

    def plate_bits(self, frame: int, crop: Window) -> npt.NDArray[np.floating]:
        """The plate's own samples, float16 or float32 [h, w, 3], NaN and Inf included; 0 outside its data window."""
        return self._native(frame, crop)

    def _known_window(self, frame: int) -> Window:
        """The frame's data window on the canvas."""
        return self.checked.plates[frame].data_window.shift(-self._canvas.x0, -self._canvas.y0)

    def _native(self, frame: int, window: Window) -> npt.NDArray[np.floating]:
        return self._read(("plate", frame), self.checked.plates[frame], window)

    def _read(self, key: tuple[str, int], header: exr.ImageHeader, window: Window) -> npt.NDArray[np.floating]:
        """Samples of one file on a window of the canvas; whole rows are decoded and kept, since chunks are rows."""
        own = header.data_window.shift(-self._canvas.x0, -self._canvas.y0)
        inside = own.intersect(window)
        if inside.empty:
            return np.zeros((window.height, window.width, 3), np.float16)
        held = self._plates.get(key, inside)
        if held is None:
            rows = Window(own.x0, inside.y0 // 128 * 128, own.x1, -(-inside.y1 // 128) * 128).intersect(own)
            with about(frame=key[1]):
                pixels = exr.read_rgb(header, rows.shift(self._canvas.x0, self._canvas.y0))
            held = (rows, pixels)
            self._plates.put(key, rows, pixels)
        return fit.place(held[1], held[0], window)

    def _matte(self, role: str, frame: int, crop: Window | None, scale: float) -> Array:
        window = crop or self.whole
        header = self.checked.mattes[role].get(frame)
        if header is None:
            return _scaled_soft(np.zeros((window.height, window.width), np.float32), scale)
        own = header.data_window.shift(-self._canvas.x0, -self._canvas.y0)
        held = self._mattes.get((role, frame), own)
        if held is None:
            with about(frame=frame):
                held = (own, matte.clean_up(exr.read_matte(header)))
            self._mattes.put((role, frame), *held)
        return _scaled_soft(fit.place(held[1], held[0], window).astype(np.float32), scale)


def _finite(native: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Light an engine can compute with: non-finite samples become 0, negatives stay."""
    return np.asarray(np.nan_to_num(native, nan=0.0, posinf=0.0, neginf=0.0))


def _scaled(picture: Array, scale: float) -> Array:
    return picture if scale == 1 else fit.resize(picture, *fit.scaled_size(picture.shape[0], picture.shape[1], scale))


def _scaled_soft(mask: Array, scale: float) -> Array:
    return mask if scale == 1 else fit.resize_soft(mask, *fit.scaled_size(mask.shape[0], mask.shape[1], scale))


def as_engine_shot(shot: ShotOnDisk) -> engines.Shot:
    """The same object under the contract's type: mypy holds the two against each other here."""
    return shot
