"""An engine that knows the answer, and spoils it in the ways in which a generative model is known to be wrong.

What comes in: a shot, the clean frames in a folder, and faults. What goes out: fills smaller than their crop, in the
engine's colour. It is registered while a measurement runs, as anybody's engine would be, and is no part of the product.

Faults (options of the shot; every default but `scale` is none, and `TYPICAL` is what a model is taken to do)
    scale    of what it computes on, against the plate          blur     Gaussian, in its own pixels
    gain     of all codes                                       drift    a smooth offset over the picture, in 1/255
    flicker  an offset per frame, in 1/255                      noise    per pixel, in 1/255
    invent   share of its middle band that is replaced by texture from elsewhere, wherever it repaints
    wobble   geometric, in its own pixels

Instead of a scale, `pixels` gives it a picture of fixed area, as a model has: it then sees what engine `void` would see
of the shot with a model of that size, and with `follow` 0 what it would see at rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import cv2
import numpy as np

from void_server.engine import Array, Colour, Fill, Needs, Shot
from void_server.engine.void.region import crops
from void_server.image import exr, fit
from void_server.shot.marked import MarkedShot
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import Window

NAME = "stand-in"
TYPICAL: Mapping[str, float] = {"scale": 0.35, "blur": 0.7, "gain": 1.02, "drift": 3.0, "flicker": 1.0}
CONTEXT_PX = 80
"""Around all that it repaints over the whole shot."""
MIDDLE = 4.0
"""The middle band is what a Gaussian of so many of its pixels takes away."""
ELSEWHERE = (9, 23)


@dataclasses.dataclass(frozen=True)
class Faults:
    """See the head of this file."""

    scale: float = 1.0
    blur: float = 0.0
    gain: float = 1.0
    drift: float = 0.0
    flicker: float = 0.0
    noise: float = 0.0
    invent: float = 0.0
    wobble: float = 0.0
    pixels: float = 0.0
    follow: float = 1.0


class StandIn:
    """Reads `clean.####.exr` from the folder that option `truth` names. What it is not asked for it leaves, but for its
    faults."""

    name: ClassVar[str] = NAME
    needs: ClassVar[Needs] = Needs(colour=Colour.ENGINE, physics=True)

    def __init__(self, device: str | None = None) -> None:
        self.device = device

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        options: dict[str, Any] = dict(shot.options)
        truth = Path(str(options.pop("truth", "")))
        try:
            faults = Faults(**{name: float(value) for name, value in options.items()})
        except TypeError as error:
            raise SettingsError(f"Engine '{NAME}': {error}.", "bench/engines/stand_in.py lists its faults.") from error
        places, faults = _seen(shot, faults)
        for frame in shot.wanted:
            if shot.hole(frame) is None:
                continue
            report.check_cancelled()
            crop = places[frame]
            header = exr.read_plate_header(truth / f"clean.{frame:04d}.exr")
            clean = fit.place(exr.read_rgb(header), header.data_window, crop)
            asked = np.asarray(shot.change(frame, crop) > 0, np.float32)
            true = cast(MarkedShot, shot).engine_space.encode(clean)
            whole = fit.extend_edges(np.where(asked[..., None] > 0, true, shot.plate(frame, crop)), crop, shot.size)
            made = spoiled(whole, asked, frame, faults)
            none = np.zeros(made.shape[:2], np.float32)
            yield Fill(frame, crop, made, none, none + 0.5, none + 1)


class StandInAlone(StandIn):
    """The same, delivered as it is: enlarged, over the plate."""

    name: ClassVar[str] = f"{NAME}-alone"
    needs: ClassVar[Needs] = Needs(colour=Colour.ENGINE, physics=True, merged=False)


def _seen(shot: Shot, faults: Faults) -> tuple[dict[int, Window], Faults]:
    """(what it sees on each frame, its faults with the scale that follows)"""
    if not faults.pixels:
        return dict.fromkeys(shot.frames, _region(shot)), faults
    holes = [shot.hole(frame) for frame in shot.frames]
    found, size = crops(holes, shot.size, pixels=round(faults.pixels), follow=bool(faults.follow))
    return dict(zip(shot.frames, found)), dataclasses.replace(faults, scale=size[0] / found[0].height)


def _region(shot: Shot) -> Window:
    box = Window(0, 0, 0, 0)
    for frame in shot.frames:
        box = box.union(shot.hole(frame) or Window(0, 0, 0, 0))
    return box.grow(CONTEXT_PX).intersect(Window(0, 0, shot.size[1], shot.size[0]))


def spoiled(code: Array, repainted: Array, frame: int, faults: Faults) -> Array:
    """The true picture as the engine would draw it. code: [H, W, 3] at plate size; repainted: [H, W] in [0, 1].
    Returns float32 [h, w, 3] in [0, 1] at the engine's size; the same for the same frame."""
    height, width = repainted.shape
    rows, columns = (max(16, round(n * faults.scale)) for n in (height, width))
    if faults.wobble:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        reach = faults.wobble / faults.scale
        dx = reach * np.sin(6.28 * (x / width * 1.3 + y / height * 0.6) + frame * 1.1)
        dy = reach * np.cos(6.28 * (y / height * 1.1 - x / width * 0.7) + frame * 0.8)
        code = cv2.remap(
            code,
            (x + dx).astype(np.float32),
            (y + dy).astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        )
    made = fit.resize(code, rows, columns)
    if faults.invent:
        touched = cv2.resize(repainted, (columns, rows), interpolation=cv2.INTER_AREA) > 0
        soft = cv2.GaussianBlur(cv2.dilate(touched.astype(np.float32), np.ones((3, 3))), (0, 0), 1.0)
        middle = made - cv2.GaussianBlur(made, (0, 0), MIDDLE)
        made = made + faults.invent * soft[..., None] * (np.roll(middle, ELSEWHERE, (0, 1)) - middle)
    if faults.blur:
        made = cv2.GaussianBlur(made, (0, 0), faults.blur)
    if faults.noise:
        grain = np.random.default_rng(frame).standard_normal(made.shape).astype(np.float32)
        made = made + cv2.GaussianBlur(grain, (0, 0), 0.6) * np.float32(1.9 * faults.noise / 255)
    down, across = (np.linspace(0, 1, n, endpoint=False, dtype=np.float32) for n in (rows, columns))
    offset = faults.drift / 255 * np.sin(3 * across + 0.2)[None] * np.cos(2 * down - 0.4)[:, None]
    offset = offset + faults.flicker / 255 * np.sin(frame * 1.7)
    return np.asarray(np.clip(made * faults.gain + offset[..., None], 0, 1), np.float32)


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """While the context lasts, both engines can be named, as a package that somebody installed would have it."""
    with tempfile.TemporaryDirectory(prefix="void-stand-in-") as folder:
        info = Path(folder) / "void_stand_in-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: void-stand-in\nVersion: 1.0\n", encoding="utf-8")
        entry = "\n".join(f"{each.name} = {__name__}:{each.__name__}" for each in (StandIn, StandInAlone))
        (info / "entry_points.txt").write_text(f"[void_server.engines]\n{entry}\n", encoding="utf-8")
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
