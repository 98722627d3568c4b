"""The contract every engine meets: public, for those who register engines of their own.

What comes in: a `Shot`, which gives any frame, any crop, any scale, in the colour the engine asks for. What goes out:
one `Fill` per frame. An engine never sees a file, a socket or a job, and knows nothing of EXR.

Two engines shaped this contract. `propagate` streams: it reads crops of donor frames at plate resolution and yields
each frame as it is done. `void` holds the whole shot at its own size: it reads every frame of one region scaled down,
works for minutes, then yields all frames in a row. So a `Fill` may be smaller than its crop (the pipeline makes one
picture of it and of the plate's own pixels), and may be in the engine's display-like colour (the pipeline takes it back
to light).

Public are the names that `void_server.engine` exports; they change only with a note in the CHANGELOG, a version ahead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Protocol

from void_server.shot.contract import Array, Colour, Shot
from void_server.wire.report import Report
from void_server.wire.shot import Window

__all__ = ["Array", "Availability", "Colour", "Engine", "Fill", "Needs", "Shot"]


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
    qualities: tuple[str, ...] = ("release",)
    """Which of `Shot.quality` make a difference to it."""
    physics: bool = False
    """Whether it can make things move as they would without the object. Else they stay as they are."""
    merged: bool = True
    """Whether its fill and the background that other frames show are made into one picture, where the fill is smaller
    than its crop or says that its coverage is below 1. It is then asked to fill more than `change` will lay over the
    plate, on every frame of the shot that has a hole. False for an engine that lays real pixels itself."""


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


class Engine(Protocol):
    """One way to fill a hole. Built by `load`, used for one or more shots in a row, in one process.

    It may have two more methods, without arguments: `prepare()` begins with what takes long, returns at once and is
    called while a shot is still being read; `release()` gives back what is kept from shot to shot.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]

    def fill(self, shot: Shot, report: Report) -> Iterator[Fill]:
        """Yield one Fill for every frame of `shot.wanted` whose `hole` is not None, in ascending order.

        Blocks for as long as it takes; calls `report.progress` at least once a second where it can, which raises
        JobCancelledError once cancelled. The same shot and seed give the same bits on the same machine.
        Raises EngineError, and RequestErrors for shots it can't do.
        """


@dataclasses.dataclass(frozen=True)
class Availability:
    """Whether an engine can run here, and the reason in words an artist can act on."""

    ok: bool
    reason: str
