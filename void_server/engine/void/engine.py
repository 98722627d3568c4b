"""The VOID engine: a shot's hole, at the model's size, through the model, and back with its drift corrected.

What comes in: a shot. What goes out: one fill per wanted frame, smaller than its crop, in the engine's display-like
colour. It does not know the sampling (`pipeline`), the weights' files (`weights`, `loading`) or the card (`memory`).

Road of a shot: one region, at rest or following the hole -> pictures and quadmask at the model's size -> prompt to
embedding -> pass 1 in temporal windows -> optionally pass 2 from noise that follows pass 1's motion -> drift corrected
on known pixels.

Imports nothing heavy until a shot comes, so that `available` can answer on any machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from void_server.effects.quadmask import GRID_ROWS, KEEP, quadmask
from void_server.engine.contract import Array, Availability, Colour, Fill, Needs, Shot
from void_server.engine.void import fitting, region
from void_server.engine.void.model import weights
from void_server.engine.void.options import VoidOptions
from void_server.image import fit
from void_server.parallel import in_order
from void_server.process import threads
from void_server.wire.errors import EngineError, GpuMemoryError, SettingsError, WeightsError
from void_server.wire.report import Report
from void_server.wire.shot import QUALITY, Window

if TYPE_CHECKING:
    import torch

    from void_server.engine.void.memory import Tier
    from void_server.engine.void.passes.pipeline import VoidPipeline

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

    def __init__(self, device: str | None = None) -> None:
        self._device_name = device
        self._loaded: tuple[Any, VoidPipeline] | None = None
        self._note: Callable[[str], object] = lambda message: None

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
        if not torch.cuda.is_available():
            return Availability(False, "no CUDA device; VOID needs one to be of use")
        return Availability(True, f"weights in {folder}, {torch.cuda.get_device_name(device)}")

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
        made = self._generate(shot, options, reduced, report)
        references = set(shot.reference_frames)

        def met(frame: int) -> Fill:
            index = reduced.frames.index(frame)
            return self._as_fill(reduced, made[index], index, given=frame in references)

        with contextlib.closing(in_order(met, wanted, threads(), report.check_cancelled)) as fills:
            yield from fills

    def _reduce(self, shot: Shot, options: VoidOptions, holes: list[Window | None], report: Report) -> _Reduced:
        most = self._most_pixels(options)
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

        every = in_order(seen, range(len(frames)), threads(), report.check_cancelled)
        with contextlib.closing(every):
            for index, one in enumerate(every):
                report.progress("read", index, len(frames), frames[index])
                video[index], labels[index], hole[index], known[index] = one
        report.progress("read", len(frames), len(frames))
        return _Reduced(frames, crops, video, labels, hole, known)

    def _most_pixels(self, options: VoidOptions) -> int:
        """Of one picture of the model's: more than the trained area only where that is asked for and there is room."""
        if options.quality != "fine":
            return region.TRAINED_PIXELS
        from void_server.engine.void import memory

        float8 = options.precision == "fp8"
        return memory.most_pixels(options.memory, self._device(), region.FINE_PIXELS, float8)

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

    def _generate(self, shot: Shot, options: VoidOptions, reduced: _Reduced, report: Report) -> Array:
        """float32 [T, H, W, 3]: what the model makes of the shot. One retry on the next lower tier of memory."""
        from void_server.engine.void import memory

        device = self._device()
        self._note = report.note
        float8 = options.precision == "fp8"
        tier, why = memory.choose(options.memory, device, reduced.video[0, ..., 0].size, float8)
        report.note(f"memory={tier.name}: {tier.why} ({why})")
        try:
            return self._run(shot, options, reduced, report, tier, device)
        except GpuMemoryError as error:
            below = memory.lower(tier)
            if below is None:
                raise
            report.warn("gpu_memory", f"{error.message} Trying once more with memory={below.name}.")
        return self._run(shot, options, reduced, report, below, device)

    def _run(
        self, shot: Shot, options: VoidOptions, reduced: _Reduced, report: Report, tier: Tier, device: torch.device
    ) -> Array:
        from void_server.engine.void import memory
        from void_server.engine.void.passes.sampling import Sampler

        try:
            with memory.translated(tier, device):
                sampler = Sampler(options, tier, device, self._pipeline, report)
                made = sampler.run(reduced.video, reduced.labels, shot.prompt, shot.seed)
        except BaseException as error:
            # A failed or cancelled shot leaves nothing on the card.
            memory.let_go(error)
            self.release()
            raise
        # What is kept for the next shot are weights, not the room that this one worked in.
        if self._loaded is not None:
            memory.rest(self._loaded[1])
        memory.free(device)
        return made

    def _pipeline(
        self, folder: Path, refine: bool, options: VoidOptions, tier: Tier, device: torch.device
    ) -> VoidPipeline:
        """The pipeline of one pass, kept from shot to shot while nothing about it changes."""
        from void_server.engine.void import memory
        from void_server.engine.void.model import compiling, float8, loading
        from void_server.engine.void.passes.sampling import number_format

        exact = options.preset == "released"
        key = (folder, refine, tier.name, str(device), exact, options.precision, options.compile)
        if self._loaded is not None and self._loaded[0] == key:
            return self._loaded[1]
        self.release()
        eight_bit = options.precision == "fp8"
        if eight_bit and not float8.supported(device):
            raise SettingsError(f"{device} does not multiply in 8 bits.", "Leave precision=bf16, the default.")
        dtype, vae_dtype = number_format(device, exact)
        pipe = loading.load_pipeline(
            folder,
            refine=refine,
            dtype=dtype,
            vae_dtype=vae_dtype,
            fused_for=None if exact else device,
            float8_on=device if eight_bit else None,
        )
        if options.compile and not exact and device.type == "cuda" and (tier.name != "float8" or eight_bit):
            compiling.compile_blocks(
                pipe.transformer,
                lambda why: self._note(f"The transformer can't be compiled here and runs slower: {why}"),
            )
        memory.apply(pipe, tier, device, stored_in_8_bits=eight_bit)
        self._loaded = (key, pipe)
        return pipe

    def release(self) -> None:
        """Give back what is kept from shot to shot, and all of the card that this process can give back."""
        from void_server.engine.void import memory

        if self._loaded is not None:
            self._loaded[1].remove_all_hooks()
            self._loaded = None
        memory.free(self._device())

    def _device(self) -> torch.device:
        try:
            import torch

            from void_server.engine.void import memory
        except ImportError as error:
            raise EngineError(f"VOID needs torch: {error}.", "pip install 'void-server[void]'.") from error
        memory.prepare_allocator()
        name = self._device_name or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise SettingsError(f"'{name}' is not a device.", "Use cpu, cuda or cuda:0.") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise EngineError(f"There is no CUDA device for '{name}'.", "Use another device, or --engine propagate.")
        return device

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
