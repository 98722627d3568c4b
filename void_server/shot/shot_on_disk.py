"""A shot on disk, as an engine sees it: any frame, any crop, any scale, in the colour it asks for.

What comes in: a `CheckedShot`. What goes out: arrays on the canvas, cut and scaled as asked. It holds the promise that
memory does not grow with the shot: decoded frames live in a cache of fixed size, and only reduced pictures of the
whole shot are kept, in a temporary file. It knows no engine and decides nothing about what is removed.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server import engine as engines
from void_server.engine import Colour
from void_server.image import colour, exr, fit
from void_server.shot.check import CheckedShot
from void_server.shot.frame_cache import FrameCache
from void_server.shot.marks import Marks, Soft
from void_server.wire.errors import MatteError, about
from void_server.wire.report import Report
from void_server.wire.shot import CORRECTIONS, Window

Array = npt.NDArray[np.float32]

PROXY_WIDTH = 960
"""Width of the reduced pictures kept of the whole shot: enough for camera and donors (measured at 480p to 960p)."""
CACHE_BYTES = 128 << 20
SURVEY_SAMPLES, SURVEY_TOTAL = 80_000, 2_000_000
"""Pixels that a frame, and the whole shot, give to the choice of the engine's curve."""


class ShotOnDisk:
    """Meets `engine.Shot`. Call `survey` once before anything else. Safe to read from several threads."""

    def __init__(self, checked: CheckedShot, default_colour: Colour = Colour.SCENE_LINEAR) -> None:
        self.checked = checked
        self._default_colour = default_colour
        self._wanted = checked.wanted
        self._canvas = checked.canvas
        self._plates = FrameCache(CACHE_BYTES)
        self._marks = Marks(checked)
        self._proxies = tempfile.TemporaryFile(prefix="void-proxies-")  # noqa: SIM115 - closed with the shot
        self._proxy_at: dict[int, int] = {}
        self._proxy_lock = threading.Lock()
        self.floor = 0.0
        self.peak = 1.0
        self.engine_space = colour.EngineSpace(chromaticities=checked.space.chromaticities)
        self.not_finite: dict[int, tuple[int, tuple[int, int]]] = {}
        self._surveyed: set[int] = set()

    def __enter__(self) -> ShotOnDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._proxies.close()
        self._plates.clear()
        self._marks.clear()

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
        for index, frame in enumerate(self.frames):
            around = around.union(self.hole(frame) or Window(0, 0, 0, 0))
            report.progress("mattes", index + 1, len(self.frames), frame)
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
        finite = _is_finite(native)
        light = native.astype(np.float32)
        own = self._marks.data_window(frame)
        known = own.slices(self.whole)
        if not finite[known].all():
            odd = np.argwhere(~finite[known].all(-1))
            row, column = odd[0] + (own.y0, own.x0)
            self.not_finite[frame] = (len(odd), (int(column) + self._canvas.x0, int(row) + self._canvas.y0))
            light[~finite] = 0
        self._surveyed.add(frame)
        if self.proxy_scale < 1:
            small = np.clip(fit.resize(light, *self._proxy_size), -65504, 65504).astype(np.float16)
            with self._proxy_lock:
                self._proxies.seek(0, 2)
                self._proxy_at[frame] = self._proxies.tell()
                self._proxies.write(small.tobytes())
        # Every k-th pixel each way: a percentile needs no more, frames are large and shots are long.
        most = min(SURVEY_SAMPLES, max(1, SURVEY_TOTAL // len(self.frames)))
        step = max(1, int((around.width * around.height / most) ** 0.5))
        rows, columns = around.slices(self.whole)
        clear = self.change(frame, around)[::step, ::step] == 0
        thinned = (slice(rows.start, rows.stop, step), slice(columns.start, columns.stop, step))
        sample = light[thinned][clear & finite[thinned].all(-1)]
        shown = light[known]
        low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 0.0)
        return low, high, sample[:most]

    @property
    def _proxy_size(self) -> tuple[int, int]:
        return fit.scaled_size(*self.size, self.proxy_scale)

    def plate(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None) -> Array:
        window = crop or self.whole
        light = (colour or self._default_colour) is Colour.SCENE_LINEAR
        if light and window == self.whole and scale <= self.proxy_scale and frame in self._proxy_at:
            proxy = self._proxy(frame)
            return proxy if scale == self.proxy_scale else fit.resize(proxy, *fit.scaled_size(*self.size, scale))
        native = self._native(frame, window)
        picture = _finite(native) if light else self.engine_space.encode(native)
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
        inside = self._marks.data_window(frame).intersect(window)
        if not inside.empty:
            # Most frames were found to be finite throughout; decoding one again takes a third of a second at 4K.
            sound = frame in self._surveyed and frame not in self.not_finite
            mask[inside.slices(window)] = 1 if sound else _is_finite(self._native(frame, inside)).all(-1)
        return _scaled_soft(mask, scale)

    def matte(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return _scaled_soft(self._marks.on("matte", frame, crop or self.whole), scale)

    def keep(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return _scaled_soft(self._marks.on("keep", frame, crop or self.whole), scale)

    def affected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return _scaled_soft(self._marks.on("affected", frame, crop or self.whole), scale)

    def change(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        return _scaled_soft(self._marks.on("change", frame, crop or self.whole), scale)

    def hole(self, frame: int) -> Window | None:
        return self._marks.hole(frame)

    def covers(self, role: str, frame: int) -> bool:
        """Whether one role's matte marks every pixel of the canvas."""
        return self._marks.covers(role, frame)

    def physics(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: what would move differently without the object, as far as it was found; 0 else."""
        return _scaled_soft(self._marks.on("physics", frame, crop or self.whole), scale)

    def take_found(self, found: Iterable[tuple[int, Soft, Soft]]) -> None:
        """Take what `effects` found, (frame, affected, physics), [h, w] all of one reduced size, in place of a painted
        `affected`. The shot shows none of it before all of it has come, so it may be found by looking at the shot.

        affected is what may change; physics is told to people and changes nothing by itself.
        """
        self._marks.take_found(found)

    @contextlib.contextmanager
    def uncorrected(self) -> Iterator[None]:
        """Show `affected` without the artist's corrections while it is being found: what was painted on one frame then
        changes nothing that was right elsewhere, and the result is what was looked at before, corrected."""
        if not any(self.checked.mattes[role] for role in CORRECTIONS):
            yield
            return
        self._marks.correct(False)
        try:
            yield
        finally:
            self._marks.correct(True)

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
        return _scaled(_finite(native) if light else self.engine_space.encode(native), scale)

    def plate_bits(self, frame: int, crop: Window) -> npt.NDArray[np.floating]:
        """The plate's own samples, float16 or float32 [h, w, 3], NaN and Inf included; 0 outside its data window."""
        return self._native(frame, crop)

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
            held = self._plates.put(key, (rows, pixels))
        return fit.place(held[1], held[0], window)


def _is_finite(native: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Per sample; for half floats by their exponent bits, ten times faster than `np.isfinite` (measured)."""
    if native.dtype == np.float16:
        return np.asarray((native.view(np.uint16) & 0x7C00) != 0x7C00)
    return np.asarray(np.isfinite(native))


def _finite(native: npt.NDArray[np.floating]) -> Array:
    """Light an engine can compute with: non-finite samples become 0, negatives stay."""
    light = native.astype(np.float32)
    finite = _is_finite(native)
    if not finite.all():
        light[~finite] = 0
    return light


def _scaled(picture: Array, scale: float) -> Array:
    return picture if scale == 1 else fit.resize(picture, *fit.scaled_size(picture.shape[0], picture.shape[1], scale))


def _scaled_soft(mask: Array, scale: float) -> Array:
    return mask if scale == 1 else fit.resize_soft(mask, *fit.scaled_size(mask.shape[0], mask.shape[1], scale))


def as_engine_shot(shot: ShotOnDisk) -> engines.Shot:
    """The same object under the contract's type: mypy holds the two against each other here."""
    return shot
