"""Find what an object did to the scene: measure, believe, decide, frame after frame.

What comes in: plates, mattes and backgrounds of a shot by frame, at one reduced size, and a predictor. What goes out:
three soft mattes a frame, frame after frame. It knows no engine and no file, and holds every frame's look, small: some
.7 MB each.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from void_server.background import BackgroundEstimate
from void_server.effects import bystanders, cues, decide, evidence
from void_server.effects.evidence import Evidence
from void_server.effects.predictor import FRAMES, Belief, Predictor
from void_server.image.colour import REC709_LUMINANCE
from void_server.image.frames import sequence
from void_server.parallel import in_order
from void_server.process import threads
from void_server.wire.report import Report

Array = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]

SIDE = 256
"""Short side at which effects are found, in pixels: a shadow's edge lands within two pixels of a 480-row plate's."""
STAYS = 0.5
"""Share of all that its matte ever covers which an object must cover always, to count as staying where it is."""
LOOKED_AT = 8
"""Frames spread over the shot that its exposure is measured on."""


@dataclasses.dataclass(frozen=True)
class Affected:
    """float16 [h, w] in [0, 1], 0 under the matte."""

    appearance: Half
    """Shadow, reflection, ripple, splash, light: what would look different, at the same motion."""
    physics: Half
    """What would move differently: the thing that was held, hit or pressed on."""
    suspected: Half
    """Appearance that may be the object's doing and may not: shown, and changed only where the artist says so."""


@dataclasses.dataclass
class _Seen:
    look: cues.Look
    known: npt.NDArray[np.bool_]
    """Where there is a background, and before a camera at rest one that shows no effect of the object."""
    others: npt.NDArray[np.bool_]
    """Where something else moves, by its motion on this frame."""
    at_rest: bool
    grey: npt.NDArray[np.uint8]
    """The picture as it is followed from frame to frame."""
    belief: Belief | None = None
    somebody: npt.NDArray[np.bool_] | None = None
    """Where somebody stands who was followed from where he stood apart; None before anybody was."""


def find_affected(
    frames: Sequence[int],
    plate: Callable[[int], Array],
    matte: Callable[[int], Array],
    background: Callable[[int], BackgroundEstimate | None],
    predictor: Predictor,
    report: Report,
    *,
    first_look: bool = False,
) -> Iterator[tuple[int, Affected]]:
    """(frame, its affected mattes) for all `frames`, in order, once all have been seen: whoever crosses is known from
    the frames on which he stands apart.

    plate: float32 [h, w, 3], scene-linear; matte: float32 [h, w] in [0, 1]; background: the same size, or None. All
    three are asked by several processes. first_look: what is found is only to be left out of the background of another
    look, so physics is believed sooner. Frames without matte or background give zeros. Raises JobCancelledError.
    """
    picks = sequence.evenly(frames, LOOKED_AT)
    some = [plate(frame) for frame in picks]
    gain, low, resting = evidence.exposure(some), cues.toe(some), stays([matte(frame) > 0.5 for frame in picks])
    physics_from = decide.PHYSICS_SUSPECT if first_look else decide.PHYSICS_SURE
    held: dict[int, _Seen] = {}

    def see(frame: int) -> tuple[_Seen, Evidence] | None:
        mask = matte(frame)
        behind = background(frame) if (mask > 0).any() else None
        return _see(plate(frame), mask, behind, gain, low, resting) if behind is not None else None

    with contextlib.closing(in_order(see, frames, threads(), report.check_cancelled, heavy=True)) as seen:
        for done, run in enumerate(_in_rows(frames)):
            new = {frame: one for frame, one in zip(run, seen) if one is not None}
            report.progress("effects", done * FRAMES, len(frames), run[0])
            if new:
                for (one, _), belief in zip(new.values(), predictor.look([e for _, e in new.values()])):
                    one.belief = belief
            held |= {frame: one for frame, (one, _) in new.items()}
    looks = {frame: one.look for frame, one in held.items()}
    if not first_look:
        greys = {frame: one.grey for frame, one in held.items()}
        for frame, somebody in bystanders.followed(frames, looks, greys, report.check_cancelled).items():
            held[frame].somebody = somebody

    def decided(frame: int) -> Affected:
        return _decided(frame, held, looks, physics_from) if frame in held else _nothing(matte(frame))

    with contextlib.closing(in_order(decided, frames, threads(), report.check_cancelled)) as every:
        yield from zip(frames, every)


def _in_rows(frames: Sequence[int]) -> Iterator[list[int]]:
    """Runs of FRAMES frames; the last may be shorter."""
    for first in range(0, len(frames), FRAMES):
        yield list(frames[first : first + FRAMES])


def stays(mattes: Sequence[npt.NDArray[np.bool_]]) -> bool:
    """Whether the object hardly moves in the picture: to a camera at rest, its effect is then background too."""
    marked = [m for m in mattes if m.any()]
    if not marked:
        return False
    return bool(np.logical_and.reduce(marked).sum() > STAYS * np.logical_or.reduce(marked).sum())


def _see(
    plate: Array, mask: Array, behind: BackgroundEstimate, gain: float, low: float, stays: bool
) -> tuple[_Seen, Evidence]:
    seen = _Seen(
        cues.look(plate, mask, behind.rgb, behind.coverage, low, at_rest=behind.at_rest),
        (behind.coverage > 0.5) & ((behind.clear > 0.5) | (not (stays and behind.at_rest))),
        behind.others > 0.5,
        behind.at_rest,
        np.asarray(255 * evidence.code(plate @ REC709_LUMINANCE, gain), np.uint8),
    )
    return seen, evidence.gather(plate, mask, behind.rgb, behind.coverage, behind.scatter, gain)


def _decided(frame: int, held: Mapping[int, _Seen], looks: Mapping[int, cues.Look], physics_from: float) -> Affected:
    own = held[frame]
    assert own.belief is not None
    attached = cues.attached(frame, looks)
    near = [held[f].belief for f in (frame - 1, frame + 1) if f in held]
    beliefs = [b for b in near if b is not None]
    somebody = np.zeros_like(own.others) if own.somebody is None else own.somebody
    decided = decide.decide(
        own.look, attached, own.known, own.others, somebody, own.at_rest, own.belief, beliefs, physics_from
    )
    return Affected(*(m.astype(np.float16) for m in (decided.sure, decided.physics, decided.suspected)))


def _nothing(mask: Array) -> Affected:
    return Affected(*(np.zeros(mask.shape, np.float16) for _ in range(3)))
