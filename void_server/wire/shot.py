"""A shot in the words both ends share: which frames, which files, which settings, which part of a picture.

What comes in: plain values from a host, a command line or a message. What goes out: small frozen records that
check themselves. It does not know how a file is read, sent or stored, and never touches the disk.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from void_server.wire.errors import SettingsError

ROLES = ("plate", "matte", "affected", "affected_add", "affected_sub", "keep", "reference")
"""What a file can be for. Only plate and matte are required."""

OPTIONAL_ROLES = ROLES[2:]

CORRECTIONS = ("affected_add", "affected_sub")
"""Mattes that correct the affected region: max(affected, add) * (1 - sub). An artist paints a few frames of them; a
frame that they lack is not corrected."""

MISSING = ("error", "hold", "skip")
"""What to do with a frame that a plate sequence lacks inside the range."""

EFFECTS = ("sure", "bold")
"""Which of the effects that were found are changed: those that are sure, or those that are suspected as well."""

QUALITY = ("draft", "release", "fine")
"""How much time an engine may take for how good a picture: a first look, what it was made for, or the largest picture
that serves the shot and that the machine can hold."""

DELIVER = ("clean", "affected")
"""What a job makes: clean frames, or only the affected matte, to be looked at before an engine's time is spent."""


def flag_of(role: str) -> str:
    """A role as the command line writes it.

    >>> flag_of("affected_add")
    'affected-add'
    """
    return role.replace("_", "-")


def spoken_role(role: str) -> str:
    """A role at the start of a message.

    >>> spoken_role("plate"), spoken_role("affected_add")
    ('Plate', 'Affected-add')
    """
    return flag_of(role).capitalize()


class Window(NamedTuple):
    """A rectangle of pixels, half-open, y down: x0 <= x < x1, y0 <= y < y1.

    Source: EXR's own boxes are inclusive and Nuke's are y up; only `image/exr.py` and the hosts convert.

    >>> Window(0, 0, 4, 3).intersect(Window(2, 1, 9, 9))
    Window(x0=2, y0=1, x1=4, y1=3)
    """

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return max(0, self.x1 - self.x0)

    @property
    def height(self) -> int:
        return max(0, self.y1 - self.y0)

    @property
    def empty(self) -> bool:
        return self.width == 0 or self.height == 0

    def intersect(self, other: Window) -> Window:
        """The part both share; `empty` where they share nothing."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Window(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1)))

    def union(self, other: Window) -> Window:
        """The smallest window that holds both."""
        if self.empty:
            return other
        if other.empty:
            return self
        return Window(min(self.x0, other.x0), min(self.y0, other.y0), max(self.x1, other.x1), max(self.y1, other.y1))

    def grow(self, pixels: int) -> Window:
        return Window(self.x0 - pixels, self.y0 - pixels, self.x1 + pixels, self.y1 + pixels)

    def shift(self, dx: int, dy: int) -> Window:
        return Window(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)

    def contains(self, other: Window) -> bool:
        return self.intersect(other) == other

    def slices(self, origin: Window) -> tuple[slice, slice]:
        """Row and column slices of this window in an array whose corner [0, 0] lies at `origin`'s corner."""
        return (
            slice(self.y0 - origin.y0, self.y1 - origin.y0),
            slice(self.x0 - origin.x0, self.x1 - origin.x0),
        )


@dataclasses.dataclass(frozen=True)
class FrameRange:
    """Absolute frame numbers, both ends included.

    >>> FrameRange.parse("1001-1048")
    FrameRange(first=1001, last=1048)
    >>> len(FrameRange(1001, 1048)), 1048 in FrameRange(1001, 1048), str(FrameRange(-3, -1))
    (48, True, '-3--1')
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise SettingsError(
                f"Frame range {self.first}-{self.last} runs backwards.", "Write the lower frame first, as 1001-1048."
            )

    @classmethod
    def parse(cls, text: str) -> FrameRange:
        """Read `1001-1048` or `1001`. Raises SettingsError for anything else (steps and lists have no context)."""
        match = re.fullmatch(r"\s*(-?\d+)(?:\s*-\s*(-?\d+))?\s*", text)
        if not match:
            raise SettingsError(
                f"'{text}' is not a frame range.", "Give the first and last frame, as 1001-1048; no steps, no lists."
            )
        first = int(match[1])
        return cls(first, first if match[2] is None else int(match[2]))

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last + 1))

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, int) and self.first <= frame <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclasses.dataclass(frozen=True)
class ShotFiles:
    """The files of one shot: for every role, one path per absolute frame number.

    A role that is not given is an empty map. Frames of different roles are matched by number, never by position.
    """

    plate: Mapping[int, Path]
    matte: Mapping[int, Path]
    affected: Mapping[int, Path] = dataclasses.field(default_factory=dict)
    affected_add: Mapping[int, Path] = dataclasses.field(default_factory=dict)
    affected_sub: Mapping[int, Path] = dataclasses.field(default_factory=dict)
    keep: Mapping[int, Path] = dataclasses.field(default_factory=dict)
    reference: Mapping[int, Path] = dataclasses.field(default_factory=dict)

    def of(self, role: str) -> Mapping[int, Path]:
        """The frames of one role, by its name in `ROLES`."""
        if role not in ROLES:
            raise KeyError(role)
        found: Mapping[int, Path] = getattr(self, role)
        return found

    def items(self) -> Iterator[tuple[str, int, Path]]:
        """Every (role, frame, path), roles in the order of `ROLES`, frames ascending."""
        for role in ROLES:
            for frame in sorted(self.of(role)):
                yield role, frame, self.of(role)[frame]


@dataclasses.dataclass(frozen=True)
class ShotSettings:
    """Everything the artist decides about a shot, but for the files and where the result goes."""

    frames: FrameRange | None = None
    """Frames to deliver; None is every frame of the plate."""
    handles: int | None = None
    """Frames read on either side of `frames` for context; None is as many as there are."""
    engine: str = "auto"
    physics_prior: bool = True
    """Find what the object did to the scene when no `affected` is painted; False inpaints the matte alone."""
    effects: str = "sure"
    """Which of what is found is changed; `EFFECTS`. What is left is shown as suspected."""
    quality: str = "release"
    """One of `QUALITY`; an engine that knows one quality only says so and goes on."""
    prompt: str = ""
    """The scene after removal, for engines that read text."""
    colorspace: str | None = None
    """Name of the plate's colour space; None reads the file's own tags."""
    layer: str | None = None
    """EXR layer, view or part that holds the beauty; None finds it."""
    matte_channel: str | None = None
    matte_invert: bool | None = None
    """Whether the matte is black where the object is. None asks where a matte marks nearly everything; False says that
    it means it."""
    matte_floor: float | None = None
    """Up to this value, 0 to 1, a mask is nothing; None finds it from the masks' own noise."""
    device: str | None = None
    seed: int = 0
    missing: str = "error"
    deliver: str = "clean"
    grow_px: float = 3.0
    """How far the matte is grown before anything is replaced, in plate pixels."""
    feather_px: float = 2.0
    """Width of the soft edge, inside the grown matte, in plate pixels."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of one engine, by name; an engine names those it does not know."""

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise SettingsError(f"missing='{self.missing}' is unknown.", f"Use one of: {', '.join(MISSING)}.")
        if self.effects not in EFFECTS:
            raise SettingsError(f"effects='{self.effects}' is unknown.", f"Use one of: {', '.join(EFFECTS)}.")
        if self.quality not in QUALITY:
            raise SettingsError(f"quality='{self.quality}' is unknown.", f"Use one of: {', '.join(QUALITY)}.")
        if self.deliver not in DELIVER:
            raise SettingsError(f"deliver='{self.deliver}' is unknown.", f"Use one of: {', '.join(DELIVER)}.")
        if self.handles is not None and self.handles < 0:
            raise SettingsError(f"handles={self.handles} is negative.", "Give 0 or more frames.")
        for name in ("grow_px", "feather_px"):
            value = getattr(self, name)
            if not 0 <= value <= 1000:
                raise SettingsError(f"{name}={value} is out of range.", "Give 0 to 1000 plate pixels.")
        if self.matte_floor is not None and not 0 <= self.matte_floor < 1:
            raise SettingsError(f"matte_floor={self.matte_floor} is out of range.", "Give a value from 0 to below 1.")
        if not 0 <= self.seed < 2**63:
            raise SettingsError(f"seed={self.seed} is out of range.", "Give a whole number from 0 to 2**63 - 1.")

    def to_wire(self) -> dict[str, Any]:
        """A plain map for a message or a manifest."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["frames"] = str(self.frames) if self.frames else None
        fields["options"] = dict(self.options)
        return fields

    def changed(self) -> list[str]:
        """Names of the settings that are not at their defaults, in order."""
        plain = ShotSettings()
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(plain, f.name)]

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> ShotSettings:
        """Rebuild from `to_wire`'s map; unknown keys are ignored, a wrong type raises SettingsError."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        values = {name: value for name, value in fields.items() if name in known}
        frames = values.get("frames")
        if frames is not None:
            values["frames"] = FrameRange.parse(str(frames))
        kinds: dict[str, tuple[type, ...]] = {
            "handles": (int, type(None)),
            "engine": (str,),
            "physics_prior": (bool,),
            "effects": (str,),
            "quality": (str,),
            "prompt": (str,),
            "colorspace": (str, type(None)),
            "layer": (str, type(None)),
            "matte_channel": (str, type(None)),
            "matte_invert": (bool, type(None)),
            "matte_floor": (int, float, type(None)),
            "device": (str, type(None)),
            "seed": (int,),
            "missing": (str,),
            "deliver": (str,),
            "grow_px": (int, float),
            "feather_px": (int, float),
            "options": (dict,),
        }
        for name, kind in kinds.items():
            value = values.get(name, known[name].default)
            if name in values and (not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind)):
                wanted = " or ".join("nothing" if k is type(None) else k.__name__ for k in kind)
                raise SettingsError(f"Setting {name} is {value!r}.", f"Give {wanted}.")
        return cls(**values)
