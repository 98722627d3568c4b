"""Does every mask of a shot mark what a mask should?

What comes in: a checked shot, and what a look at its masks found. What goes out: what to tell the artist, and an error
where the result would surely be garbage. A question is asked once and has an answer:
--matte-invert, --no-matte-invert, --matte-channel, --matte-floor. It changes nothing.

What is garbage depends on the role. A matte of more than MOST of nearly every frame is one that was inverted, or the
alpha of a picture; an affected region or a keep of everything leaves nothing to recover, or nothing to change.
Corrections are painted on single frames and may mean it; so may a matte on a few frames. Those are only told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from void_server.image import exr, mask_look, matte
from void_server.image.frames import sequence
from void_server.image.mask_look import Look
from void_server.image.matte import MATTE_FLOOR
from void_server.shot.check import CheckedShot
from void_server.shot.marked import MarkedShot
from void_server.shot.marks import Marks
from void_server.shot.mask_reading import BELIEVED, RoleLook
from void_server.shot.problems import Problems
from void_server.wire.errors import MatteError, about
from void_server.wire.report import ShotWarning
from void_server.wire.shot import CORRECTIONS, flag_of, spoken_role

MOST = 0.8
"""Share of a frame from which on its replacement is never silent."""
ALL = 0.995
COLOURED, COLOURED_SHARE = 0.02, 0.001
"""A mask's R, G and B are one grey picture where fewer pixels than this share differ by more than this."""
WRONG_SCALE = 2.0
"""Filters overshoot 1 by a tenth or so; a mask beyond this was written in other units, as 0 to 255."""


def judge(checked: CheckedShot, looks: Sequence[RoleLook], *, part_of_shot: bool = False) -> list[ShotWarning]:
    """Warnings about the masks. Raises MatteError where the result would surely be garbage.

    part_of_shot: where not all frames of the plate are read, the others may tell another story, so what covers too much
    is told and not refused.
    """
    part_of_shot = part_of_shot and not checked.files.plate.keys() <= set(checked.frames)
    told: list[ShotWarning] = []
    problems = Problems()
    for found in looks:
        whose = subject(found.role)
        if colours := _colours(checked, found):
            message = f"{whose} is a colour picture, or several mattes in one: its {', '.join(colours)} differ."
            hint = f"Name the one that is meant with --matte-channel: {', '.join(colours)}."
            problems.add(MatteError(message, hint))
            continue
        top = max(one.highest for one in found.looks.values())
        if found.role == "matte" and checked.settings.matte_floor is None and 0 < top <= mask_look.FAINT:
            hint = f"Scale it to 0 to 1, or take it as it is with --matte-floor 0.{_channels(found)}"
            problems.add(MatteError(f"{whose} never rises above {top:.2g}: that counts as noise.", hint))
            continue
        if found.floor > MATTE_FLOOR and checked.settings.matte_floor is None:
            message = (
                f"{whose} has a haze of values up to {found.floor:.2g} all over the frame; they count as 0. "
                "To take them, give --matte-floor 0."
            )
            told.append(ShotWarning(f"{flag_of(found.role)}-haze", message))
        if found.role in BELIEVED and (worst := found.strewn) is not None:
            told.append(ShotWarning(f"{flag_of(found.role)}-specks", f"{_strewn(found, worst)} {_without(worst)}"))
        if found.highest > WRONG_SCALE:
            message = f"{whose} goes up to {found.highest:.5g}, where 1 is expected; what is above 1 counts as 1."
            told.append(ShotWarning(f"{flag_of(found.role)}-scale", message))
        if error := _too_much(checked, found):
            if part_of_shot:
                told.append(ShotWarning(f"{flag_of(found.role)}-everything", f"{error.message} {error.hint}"))
            else:
                problems.add(error)
    problems.raise_if_any()
    return told


def subject(role: str) -> str:
    return "The matte" if role == "matte" else spoken_role(role)


def _too_much(checked: CheckedShot, found: RoleLook) -> MatteError | None:
    share, whose = found.typical, subject(found.role)
    frames = sequence.format_frames(
        frame for frame, covered in found.shares.items() if covered > min(share, ALL) - 0.05
    )
    if found.role in ("affected", "keep") and share >= ALL:
        left = "so nothing is left to recover it from" if found.role == "affected" else "so nothing may change"
        return MatteError(
            f"--{found.role} covers all of frames {frames}, {left}.",
            f"Is it in another channel, or inverted? Paint only what is meant.{_channels(found)}",
        )
    worst = found.strewn
    if found.role == "matte" and worst is not None and worst.reach > MOST and checked.settings.matte_floor is None:
        return MatteError(f"{_strewn(found, worst)} Grown, they cover {worst.reach:.0%} of the frame.", _without(worst))
    # Whoever says which way round the matte is, has been asked.
    if found.role != "matte" or share <= MOST or checked.settings.matte_invert is not None:
        return None
    message = f"{whose} covers {share:.0%} of the frame on frames {frames}"
    meant = "If it is meant, give --no-matte-invert."
    if all(one.solid for one in found.looks.values() if one.highest > 0):
        channel = found.header.matte_channel
        what = f"Give a matte in which only the object is white.{_channels(found)}"
        return MatteError(f"{message}: its channel {channel} is solid, without any shape.", f"{what} {meant}")
    lowest = max(one.lowest for one in found.looks.values())
    raised = f" Or is its white {found.highest:.5g} and not 1?" if found.highest > WRONG_SCALE else ""
    if MATTE_FLOOR < lowest < 0.9:
        raised = f" Or is its black not 0? --matte-floor {lowest + 0.05:.2g} takes it off."
    return MatteError(
        f"{message}: is it inverted?", f"--matte-invert turns it round.{raised}{_channels(found)} {meant}"
    )


def _strewn(found: RoleLook, worst: Look) -> str:
    whose = subject(found.role)
    return f"{whose} is strewn with specks, {worst.specks} on one frame, of values up to {worst.speck_top:.2g}."


def _without(worst: Look) -> str:
    if worst.speck_top > 0.9:
        return "Clean it up: they are as white as what is meant."
    return f"If they are noise, --matte-floor {worst.speck_top + 0.01:.2g} takes them off."


def _channels(found: RoleLook) -> str:
    """The other channels of a mask's file that could be meant."""
    own = found.header.matte_channel
    last = {"R": 1, "G": 9, "B": 9, "Z": 9}
    names = [info.name for info in found.header.channels if info.name != own and info.dtype != "uint"]
    names = [name for name in names if last.get(name, 0) < 9]
    if not names:
        return ""
    listed = ", ".join(sorted(names, key=lambda name: (last.get(name, 0), name))[:6])
    could = "channels {} could be meant" if len(names) > 1 else "channel {} could be meant"
    return f" Its {could.format(listed)} (--matte-channel)."


def _colours(checked: CheckedShot, found: RoleLook) -> tuple[str, ...]:
    """R, G and B where a mask's red was taken for want of anything better, and the three are not one grey picture."""
    header = found.header
    own = header.matte_channel or ""
    names = {info.name.lower(): info.name for info in header.channels}
    layer, red = own.rpartition(".")[0], own.rpartition(".")[2].lower()
    trio = [
        names.get(f"{layer}.{c}".lstrip(".").lower())
        for c in (("r", "g", "b") if red == "r" else ("red", "green", "blue"))
    ]
    if checked.settings.matte_channel or red not in ("r", "red") or None in trio:
        return ()
    marked = [frame for frame, one in found.looks.items() if one.highest > MATTE_FLOOR] or list(found.looks)
    paths = checked.mattes[found.role]
    for frame in marked[:3]:
        with about(frame=frame):
            planes = [exr.read_matte(exr.read_matte_header(paths[frame].path, name)) for name in trio]
        spread = np.ptp(np.stack([matte.clean_up(plane) for plane in planes]), axis=0)
        if (spread > COLOURED).mean() > COLOURED_SHARE:
            return tuple(name for name in trio if name)
    return ()


def whole_frames(shot: MarkedShot) -> list[ShotWarning]:
    """A warning for each role that marks nearly everything on some frame to deliver, or for what that adds up to."""
    told: list[ShotWarning] = []
    for role in ("matte", *CORRECTIONS, "change"):
        if role == "change" and told:
            break
        shares = {frame: shot.share(role, frame) for frame in shot.wanted}
        for least, spoken in ((ALL, "all"), (MOST, f"over {MOST:.0%}")):
            frames = [frame for frame, share in shares.items() if share >= least]
            if frames:
                whose = "What is marked, once grown," if role == "change" else subject(role)
                message = (
                    f"{whose} covers {spoken} of frames {sequence.format_frames(frames)}; is it in another channel?"
                )
                told.append(
                    ShotWarning(f"{flag_of(role)}-everything", f"{message} See --matte-channel and --matte-invert.")
                )
                break
    return told


def nothing_left(painted: Marks, frames: Iterable[int]) -> MatteError:
    """Why no frame has anything to remove."""
    if any(painted.share("matte", frame) for frame in frames):
        return MatteError(
            "--keep covers everything that the matte marks, so nothing may change.",
            "Check the channel of --keep, or whether it is inverted.",
        )
    return MatteError(
        "The matte is empty on every frame.", "Check the matte's channel (--matte-channel) and its frames."
    )
