"""What a shot's masks hold: a look at a few frames of every role, and one mask as its file has it.

What comes in: a checked shot. What goes out: the value up to which each role's masks are nothing, what was looked at,
single masks. It judges nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from void_server.image import exr, fit, mask_look, matte
from void_server.image.frames import sequence
from void_server.image.mask_look import Look
from void_server.image.matte import AFFECTED_FLOOR, MATTE_FLOOR
from void_server.parallel import in_order
from void_server.process import threads
from void_server.shot.check import CheckedShot
from void_server.wire.errors import about
from void_server.wire.shot import CORRECTIONS, Window

Array = npt.NDArray[np.float32]

LOOKED_AT = 12
"""Frames of a role that are looked at, spread over the shot."""
MANY_SPECKS = 30
"""On one frame: more than any roto has, unless it is one of rain."""
BELIEVED = ("matte", "keep")
"""Roles whose faintest values count: what is affected is a soft estimate, of which the faint part changes nothing."""
PAINTED = ("matte", "affected", "keep", *CORRECTIONS)


@dataclasses.dataclass(frozen=True)
class RoleLook:
    """One role over the shot."""

    role: str
    looks: Mapping[int, Look]
    floor: float
    """Up to this value a mask's pixels are taken for 0."""
    header: exr.ImageHeader
    highest: float
    """The highest value in the files, before it was held to 1."""

    @property
    def typical(self) -> float:
        """Share of the frame marked, over the frames that mark anything."""
        marked = [share for share in self.shares.values() if share > 0]
        return float(np.median(marked)) if marked else 0.0

    @property
    def strewn(self) -> Look | None:
        """The look at a frame that is strewn with specks, where most frames are."""
        worst = max(self.looks.values(), key=lambda one: one.specks)
        specks = float(np.median([one.specks for one in self.looks.values()]))
        return worst if specks > MANY_SPECKS and worst.speck_top > self.floor else None

    @property
    def shares(self) -> dict[int, float]:
        """Share of each frame looked at on which the mask does something."""
        return {frame: look.share(max(self.floor, counts_from(self.role))) for frame, look in self.looks.items()}


@functools.lru_cache(maxsize=2)
def look(checked: CheckedShot) -> tuple[RoleLook, ...]:
    """Look at every role that has files, on LOOKED_AT frames each. Raises MatteError for damaged pixels."""
    return tuple(found for role in PAINTED if (found := _look_at_role(checked, role)) is not None)


def floor(checked: CheckedShot, role: str) -> float:
    """The value up to which a role's masks are nothing."""
    return next((found.floor for found in look(checked) if found.role == role), MATTE_FLOOR)


def _look_at_role(checked: CheckedShot, role: str) -> RoleLook | None:
    headers = checked.mattes[role]
    if not headers:
        return None
    frames = sequence.evenly(sorted(headers), LOOKED_AT)
    seen = in_order(lambda frame: mask_look.look_at(_on_format(checked, role, frame)), frames, threads())
    looks = dict(zip(frames, seen))
    floor = max(checked.settings.matte_floor or 0.0, MATTE_FLOOR)
    if checked.settings.matte_floor is None and role in BELIEVED:
        floor = mask_look.floor_of(list(looks.values()))
    frame = max(looks, key=lambda frame: looks[frame].highest)
    with about(frame=frame):
        raw = exr.read_matte(headers[frame])
    highest = float(np.nanmax(raw)) if np.isfinite(raw).any() else 0.0
    return RoleLook(role, looks, floor, headers[min(headers)], highest)


def counts_from(role: str) -> float:
    """The value from which on a role's mask does something: a keep holds back by half, a soft estimate by a tenth."""
    return MATTE_FLOOR if role == "matte" else 0.5 if role == "keep" else AFFECTED_FLOOR


def read(checked: CheckedShot, role: str, frame: int) -> Array:
    """One mask as its file holds it, turned round where asked: float32 [h, w] in [0, 1] on the file's data window."""
    with about(frame=frame):
        pixels = matte.clean_up(exr.read_matte(checked.mattes[role][frame]))
    return 1 - pixels if role == "matte" and checked.settings.matte_invert else pixels


def format_of(checked: CheckedShot, frame: int) -> Window:
    """The part of the canvas that a viewer shows; overscan may be left out of a mask without anybody noticing."""
    shown = checked.plates[frame].display_window.intersect(checked.canvas)
    return shown if 4 * shown.width * shown.height >= checked.canvas.width * checked.canvas.height else checked.canvas


def _on_format(checked: CheckedShot, role: str, frame: int) -> Array:
    own = checked.mattes[role][frame].data_window
    shown = fit.place(read(checked, role, frame), own, format_of(checked, frame))
    return np.asarray(shown, np.float32)
