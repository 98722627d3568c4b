"""The VOID engine: a shot's hole, at the model's size, through the model, and back with its drift corrected.

What comes in: a shot. What goes out: one fill per wanted frame, smaller than its crop, in the engine's display-like
colour. It does not know where the model runs (`asked`), its sampling (`pipeline`) or the weights' files (`weights`).

Road of a shot: one region, at rest or following the hole -> pictures and quadmask at the model's size -> prompt to
embedding -> pass 1 in temporal windows -> optionally pass 2 from noise that follows pass 1's motion -> drift corrected
on known pixels.

Imports nothing heavy until a shot comes, so that `available` can answer on any machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from void_server.effects.quadmask import GRID_ROWS, KEEP, quadmask
from void_server.engine.contract import Array, Availability, Colour, Fill, Needs, Shot
from void_server.engine.void import fitting, model_process, region
from void_server.engine.void.asked import Asked, Model
from void_server.engine.void.model import weights
from void_server.engine.void.options import VoidOptions
from void_server.image import fit
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.contract import large
from void_server.wire.errors import EngineError, WeightsError
from void_server.wire.report import Report
from void_server.wire.shot import QUALITY, Window

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "sentencepiece", "google.protobuf")
WHOLLY = 0.999
"""A reduced pixel is known where all plate pixels in it are, rounding aside."""
GENERATED_CONFIDENCE = 0.5
"""VOID says nothing about how sure it is; what it drew is trusted half, what it was told fully."""


@dataclasses.dataclass
class _Reduced:
    """The whole shot at the model's size: the only arrays that hold all frames."""

    frames: list[int]
    crops: list[Window]
    """One a frame, all of one size."""
    video: Array
    """float32 [T, H, W, 3], engine colour; reference frames already hold the artist's picture."""
    labels: npt.NDArray[np.uint8]
    hole: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]


class VoidEngine:
    """Netflix VOID. device: "cuda", "cuda:1", "cpu"; None takes the first GPU, else the CPU."""

    name: ClassVar[str] = "void"
    needs: ClassVar[Needs] = Needs(
        colour=Colour.ENGINE,
        devices=("cuda", "cpu"),
        size_multiple=region.MULTIPLE,
        memory_bytes=16 << 30,
        device_memory_bytes=6 << 30,
        qualities=QUALITY,
        physics=True,
    )

    def __init__(self, device: str | None = None, model: Model | None = None) -> None:
        """model: where it runs; else on a card in a process of its own, and without one in this process."""
        self._model = model or _model_on(device)

    def prepare(self) -> None:
        """Begin with what takes long before the first shot, and return at once."""
        self._model.prepare()

    def release(self) -> None:
        """Give back what is kept from shot to shot."""
        self._model.release()

    @classmethod
    def available(cls, device: str | None) -> Availability:
        """Whether packages, weights and a GPU are here. Asks for the cheapest first; imports torch last."""
        absent = [name for name in PACKAGES if not _installed(name)]
        if absent:
            return Availability(
                False, f"{', '.join(absent)} not installed; install it with: pip install 'void-server[void]'"
            )
        folder = weights.default_folder()
        lacking = weights.missing(folder)
        if lacking:
            return Availability(
                False, f"weights are missing in {folder} ({lacking[0]}); run: void-server weights fetch {folder}"
            )
        import torch

        if device == "cpu":
            return Availability(True, f"weights in {folder}; on the CPU, which takes hours")
        # Counted, not named: whoever asks a card for its name holds it from then on (see `model_process`).
        if not torch.cuda.device_count():
            return Availability(False, "no CUDA device; VOID needs one to be of use")
        return Availability(True, f"weights in {folder}, on {device or 'cuda'}")

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        options = VoidOptions.parse(shot.options, shot.quality)
        holes = {frame: shot.hole(frame) for frame in shot.frames}
        wanted = [frame for frame in shot.wanted if holes[frame] is not None]
        if not wanted:
            return
        folder = options.weights or weights.default_folder()
        lacking = weights.missing(folder, options.refine)
        if lacking:
            raise WeightsError(f"{folder} lacks {', '.join(lacking)}.", weights.FETCH_HINT)
        reduced = self._reduce(shot, options, list(holes.values()), report)
        made = self._model.generate(Asked(reduced.video, reduced.labels, shot.prompt, shot.seed), options, report)
        references = set(shot.reference_frames)

        def met(frame: int) -> Fill:
            index = reduced.frames.index(frame)
            return self._as_fill(reduced, made[index], index, given=frame in references)

        with contextlib.closing(in_order(met, wanted, threads(), report.check_cancelled)) as fills:
            yield from fills

    def _reduce(self, shot: Shot, options: VoidOptions, holes: list[Window | None], report: Report) -> _Reduced:
        # More than the trained area only where that is asked for and there is room.
        most = self._model.most_pixels(options) if options.quality == "fine" else region.TRAINED_PIXELS
        follow = options.follow and options.preset != "released"
        crops, size = region.crops(holes, shot.size, options.context, options.size, most_pixels=most, follow=follow)
        scale = size[0] / crops[0].height
        report.note(
            f"VOID sees {crops[0].width}x{crops[0].height} plate pixels at {size[1]}x{size[0]} (scale {scale:.3f})"
            + (", following the hole" if len(set(crops)) > 1 else "")
        )
        self._tell_fine(options, size, scale, most, report)
        frames = list(shot.frames)
        shape = (len(frames), *size)
        video = np.empty((*shape, 3), np.float32)
        labels = np.empty(shape, np.uint8)
        hole, known = (np.empty(shape, bool) for _ in range(2))
        references = set(shot.reference_frames)

        def seen(index: int) -> tuple[Array, npt.NDArray[np.uint8], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
            frame, crop = frames[index], crops[index]
            read = shot.reference if frame in references else shot.plate
            picture = _exactly(read(frame, crop, scale, Colour.ENGINE), size)
            marked = quadmask(
                _exactly(shot.matte(frame, crop, scale), size)[None],
                _exactly(shot.affected(frame, crop, scale), size)[None],
                grid_rows=GRID_ROWS if options.grid else None,
                grey_on_first_frame=index > 0,
            )[0]
            if frame in references:
                marked[:] = KEEP
            return (
                np.clip(fit.extend_edges(picture, crop, shot.size), 0, 1),
                marked,
                _exactly(shot.change(frame, crop, scale), size) > 0,
                (_exactly(shot.known(frame, crop, scale), size) > WHOLLY) & (marked == KEEP),
            )

        every = in_order(seen, range(len(frames)), threads(), report.check_cancelled, heavy=large(shot.size))
        with contextlib.closing(every):
            for index, one in enumerate(every):
                report.progress("read", index, len(frames), frames[index])
                video[index], labels[index], hole[index], known[index] = one
        report.progress("read", len(frames), len(frames))
        return _Reduced(frames, crops, video, labels, hole, known)

    @staticmethod
    def _tell_fine(options: VoidOptions, size: tuple[int, int], scale: float, most: int, report: Report) -> None:
        """What became of --quality fine, where it is less than somebody may expect of it."""
        if options.quality != "fine":
            return
        if options.size is not None:
            report.note("--quality fine chooses no size here: size is given.")
        elif scale == 1 and size[0] * size[1] <= 1.02 * region.TRAINED_PIXELS:
            report.note("--quality fine changes nothing here: release shows all of this at the plate's own size.")
        elif scale < 1 and most < region.FINE_PIXELS:
            report.note(
                f"--quality fine: the card has room for {most / region.TRAINED_PIXELS:.1f} times the release's area."
            )

    def _as_fill(self, reduced: _Reduced, made: Array, index: int, given: bool) -> Fill:
        labels, hole = reduced.labels[index], reduced.hole[index]
        if given:
            rgb, told = reduced.video[index], np.ones(hole.shape, np.float32)
        else:
            rgb = fitting.correct_drift(made, reduced.video[index], hole | (labels != KEEP), reduced.known[index])
            told = np.zeros(hole.shape, np.float32)
        confidence = np.where(told > 0, 1.0, GENERATED_CONFIDENCE).astype(np.float32)
        return Fill(
            frame=reduced.frames[index],
            crop=reduced.crops[index],
            rgb=np.clip(rgb, 0, 1).astype(np.float32),
            coverage=told,
            confidence=confidence,
            grainless=1 - told,
        )


def _model_on(device: str | None) -> Model:
    apart = device != "cpu" and sys.platform == "linux"
    return model_process.ModelProcess(device) if apart else model_process.in_this_process(device)


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _exactly(picture: Array, size: tuple[int, int]) -> Array:
    if picture.shape[:2] != size:
        raise EngineError(
            f"A crop came as {picture.shape[1]}x{picture.shape[0]}, not {size[1]}x{size[0]}.", "This is a bug."
        )
    return picture
