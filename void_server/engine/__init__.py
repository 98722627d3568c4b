"""The contract every engine meets, and where engines are found.

What comes in: a `Shot`, which gives any frame, any crop, any scale, in the colour the engine asks for. What goes out:
one `Fill` per frame. An engine never sees a file, a socket or a job, and knows nothing of EXR.

Two engines shaped this contract. `propagate` streams: it reads crops of donor frames at plate resolution and yields
each frame as it is done. `void` holds the whole shot at its own size: it reads every frame of one crop scaled down,
works for minutes, then yields all frames in a row. So a `Fill` may be smaller than its crop (the pipeline scales it
up), and may be in the engine's display-like colour (the pipeline takes it back to light).

Third parties register an engine with an entry point in the group `void_server.engines`:

    [project.entry-points."void_server.engines"]
    mine = "my_package:MyEngine"
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from void_server.wire.errors import EngineError, SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]


class Colour(enum.Enum):
    """The two spaces in which an engine may ask for pixels and give them back."""

    SCENE_LINEAR = "scene-linear"
    """Unbounded light, linear, primaries as in the plate; non-finite samples replaced by 0, negatives kept."""
    ENGINE = "engine"
    """[0, 1], Rec.709 primaries, sRGB below a knee and a log shoulder above; one fixed curve for the whole shot."""


@dataclasses.dataclass(frozen=True)
class Needs:
    """What an engine asks of its surroundings, readable before it is run."""

    colour: Colour = Colour.SCENE_LINEAR
    """The colour of `Fill.rgb`, and the default of `Shot.plate`."""
    devices: tuple[str, ...] = ("cpu",)
    """Kinds of device it runs on: "cpu", "cuda"."""
    size_multiple: int = 1
    """Legal widths and heights of what it computes on are multiples of this."""
    memory_bytes: int = 1 << 30
    """Host memory it may need beyond what the shot's own cache takes, for any length of shot."""
    device_memory_bytes: int = 0
    physics: bool = False
    """Whether it can make things move as they would without the object. Else they stay as they are."""


class Shot(Protocol):
    """A shot as an engine sees it. All arrays are fresh: the engine may write into them.

    Crops are in canvas pixels: [0, 0] is the top left of the area the plate's frames cover together, y down. A crop may
    reach outside the canvas; there, plates are 0, mattes are 0 and `known` is 0. `scale` below 1 gives a smaller
    picture by area averaging: the result is round(height * scale) by round(width * scale).
    """

    @property
    def frames(self) -> Sequence[int]:
        """Every frame that can be read, ascending, handles included. May have gaps (`--missing skip`)."""

    @property
    def wanted(self) -> Sequence[int]:
        """Frames whose fill is asked for, ascending; a subset of `frames` (a resumed job lacks the finished ones).

        A frame's fill must not depend on which other frames are wanted: the farm splits, restarts and compares.
        """

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the canvas in plate pixels."""

    @property
    def seed(self) -> int: ...

    @property
    def prompt(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]:
        """The engine's own settings. Raise SettingsError for a name that the engine does not know."""

    def plate(self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None) -> Array:
        """float32 [h, w, 3] in `colour`; None is what the engine's `needs.colour` says. Reads and decodes a file."""

    def known(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w], 1 where the plate has a finite sample, 0 outside its data window and at NaN and Inf."""

    def matte(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1], 1 = remove: the artist's matte as drawn, soft edges kept."""

    def affected(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: what the object did to the scene, painted or found; 0 under the matte's core."""

    def keep(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: passes in front; never painted over, never used as background."""

    def change(self, frame: int, crop: Window | None = None, scale: float = 1.0) -> Array:
        """float32 [h, w] in [0, 1]: the alpha with which the fill will be laid over the plate.

        This is the hole: fill wherever it is above 0, and take no background from such pixels of other frames.
        """

    def hole(self, frame: int) -> Window | None:
        """Bounding box of `change` > 0 on the canvas, or None where nothing is to be done. Cheap the second time."""

    @property
    def reference_frames(self) -> Sequence[int]:
        """Frames for which the artist gave a painted or clean-shot picture; trusted above anything the engine finds."""

    def reference(
        self, frame: int, crop: Window | None = None, scale: float = 1.0, colour: Colour | None = None
    ) -> Array:
        """float32 [h, w, 3]: the artist's picture of this frame without the object."""


@dataclasses.dataclass(frozen=True)
class Fill:
    """What an engine made of one frame, on its crop."""

    frame: int
    crop: Window
    """Where it lies on the canvas. It must hold all of `shot.change(frame) > 0`."""
    rgb: Array
    """float32 [h, w, 3] in the engine's `needs.colour`; of the crop's size, or smaller at the same aspect."""
    coverage: Array
    """float32 [h, w] in [0, 1], the size of `rgb`: share recovered from real pixels of other frames or a reference."""
    confidence: Array
    """float32 [h, w] in [0, 1], the size of `rgb`: how far the engine trusts the pixel, whatever its origin."""
    grainless: Array | None = None
    """float32 [h, w] in [0, 1]: share of the plate's grain that the pixel lacks (0 = a plate pixel moved here with its
    own grain, 1 = averaged or invented). The pipeline adds that much grain, matched to the plate. None adds none."""


@dataclasses.dataclass(frozen=True)
class Behind:
    """What lies behind everything that moves, on one crop of one frame. All float32, of one height and width."""

    rgb: Array
    """[h, w, 3], scene-linear."""
    coverage: Array
    """[h, w], 1 where two views agree on what is there (one, where the camera rests), 0 where nothing is known."""
    scatter: Array
    """[h, w], light by which the views differ from `rgb`, their median deviation in green."""
    clear: Array
    """[h, w], 1 where every view that voted had its object elsewhere; 0 where `rgb` may hold the object's shadow."""
    at_rest: bool
    """Whether the camera rests, so that plate and `rgb` lie pixel on pixel and any deviation is one of light."""


class Engine(Protocol):
    """One way to fill a hole. Built by `load`, used for one or more shots in a row, in one process."""

    name: ClassVar[str]
    needs: ClassVar[Needs]

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        """Yield one Fill for every frame of `shot.wanted` whose `hole` is not None, in ascending order.

        Blocks for as long as it takes; calls `report.progress` at least once a second where it can, which raises
        JobCancelledError once cancelled. The same shot and seed give the same bits on the same machine.
        Raises EngineError, and RequestErrors for shots it can't do.
        """

    def background(self, shot: Shot, frame: int, crop: Window, scale: float, report: Report) -> Behind | None:
        """What lies behind everything that moves, on `crop` made smaller by `scale` as `Shot.plate` does.

        It is recovered from other frames inside and outside the hole alike, so that `effects` can compare the plate
        against it and find shadows and reflections. None where the engine recovers none.
        """


@dataclasses.dataclass(frozen=True)
class Availability:
    """Whether an engine can run here, and the reason in words an artist can act on."""

    ok: bool
    reason: str


BUILT_IN = {
    "propagate": "void_server.engine.propagate:Propagate",
    "void": "void_server.engine.void:VoidEngine",
}
ENTRY_POINTS = "void_server.engines"


def names() -> list[str]:
    """Every engine that can be named: built in first, then those that other packages register."""
    found = [e.name for e in importlib.metadata.entry_points().select(group=ENTRY_POINTS)]
    return [*BUILT_IN, *sorted(set(found) - set(BUILT_IN))]


def find(name: str) -> Any:
    """The class of an engine by its name, imported now. Raises SettingsError for an unknown one."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise EngineError(
                f"Engine '{name}' can't be loaded: {error}.", "Install its extra: pip install 'void-server[void]'."
            ) from error
    for entry in importlib.metadata.entry_points().select(group=ENTRY_POINTS):
        if entry.name == name:
            return entry.load()
    raise SettingsError(f"There is no engine '{name}'.", f"Use auto or one of: {', '.join(names())}.")


def available(name: str, device: str | None) -> Availability:
    """Whether `name` can run on `device` here: asks the class's own `available(device)`, if it has one."""
    try:
        cls = find(name)
    except EngineError as error:
        return Availability(False, error.message)
    ask = getattr(cls, "available", None)
    answer = ask(device) if ask else Availability(True, "needs nothing but this machine")
    assert isinstance(answer, Availability)
    return answer


def choose(name: str, device: str | None) -> tuple[str, str]:
    """Turn `auto` into an engine: (name, why). `void` where its weights and a GPU are present, else `propagate`."""
    if name != "auto":
        return name, "asked for by name"
    answer = available("void", device)
    if answer.ok:
        return "void", answer.reason
    return "propagate", f"void can't run here: {answer.reason}"


def load(name: str, device: str | None) -> Engine:
    """An engine by name, ready to fill shots. Raises SettingsError or EngineError.

    Each engine is kept from shot to shot, so that a daemon, or a batch in one process, loads weights once. One that is
    asked for on another device takes the place of the one before.
    """
    cls = find(name)
    kept = _kept.get(name)
    if kept is not None and kept[0] == device and type(kept[1]) is cls:
        return kept[1]
    _kept.pop(name, None)
    engine: Engine = cls(device)
    _kept[name] = (device, engine)
    return engine


_kept: dict[str, tuple[str | None, Engine]] = {}
