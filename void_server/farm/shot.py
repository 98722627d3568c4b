"""A shot as a farm carries it: patterns, frames and settings as plain words, to be read on another machine.

What comes in: what an artist gave to a command, a node or a strip. What goes out: a `FarmShot`, and its words on a
command line. It does not look at the disk: hosts build it on Python 3.9 with nothing installed.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any, Optional

from void_server.wire.errors import SettingsError
from void_server.wire.shot import ROLES, FrameRange, ShotSettings


@dataclasses.dataclass(frozen=True)
class FarmShot:
    """Everything a task needs to know about a shot. Paths are absolute patterns, as this machine sees them."""

    plate: str
    matte: str
    out: str
    frames: FrameRange
    """The frames to deliver, known now: a farm names tasks by them."""
    settings: ShotSettings = dataclasses.field(default_factory=ShotSettings)
    affected: Optional[str] = None  # noqa: UP045 - hosts on Python 3.9 may ask for type hints
    affected_add: Optional[str] = None  # noqa: UP045
    affected_sub: Optional[str] = None  # noqa: UP045
    keep: Optional[str] = None  # noqa: UP045
    reference: Optional[str] = None  # noqa: UP045
    name: str = ""
    """What the shot is called in the farm's monitor; by default, what its output folder is called."""

    def __post_init__(self) -> None:
        for role, text in (*self.paths().items(), ("out", self.out)):
            check_text(role, text)
            object.__setattr__(self, role, os.path.abspath(text))  # noqa: PTH100 - patterns, and other systems' paths
        check_text("prompt", self.settings.prompt)
        object.__setattr__(self, "name", self.name or re.split(r"[\\/]", self.out.rstrip("\\/"))[-1])
        check_text("name", self.name)

    def paths(self) -> dict[str, str]:
        """The patterns that are given, by role."""
        given = {role: getattr(self, role) for role in ROLES}
        return {role: text for role, text in given.items() if text}

    @property
    def clean(self) -> str:
        """Where the clean frames will be, known before the first is made."""
        return f"{self.out}{'' if self.out.endswith(('/', os.sep)) else os.sep}clean.####.exr"


def key_of(role: str) -> str:
    """A role as a farm's own files name it, which take letters and digits only.

    >>> key_of("plate"), key_of("affected_add")
    ('Plate', 'AffectedAdd')
    """
    return "".join(part.capitalize() for part in role.split("_"))


def check_text(name: str, text: str) -> None:
    """Refuse what can't stand in a farm's files or on its command line. Raises SettingsError.

    A line break would be read as another key of a job. Deadline splits a plug-in's arguments at double quotes, with no
    way to write one inside (Windows' rules: a backslash before a quote takes it along).
    """
    if any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise SettingsError(f"{name} {text!r} holds a line break or a control character.", "Take it out.")
    if '"' in text:
        raise SettingsError(f'{name} {text} holds a double quote (").', "Farms can't pass it on; take it out.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SettingsError(f"{name} {text!r} is no text.", "Rename it.") from error


def setting_words(settings: ShotSettings, without: tuple[str, ...] = ()) -> list[str]:
    """The settings that are not the default, as words of the command line: `--name=value`, one word each.

    >>> setting_words(ShotSettings(engine="void", seed=3, physics_prior=False))
    ['--engine=void', '--no-physics-prior', '--seed=3']
    """
    words: list[str] = []
    for field in dataclasses.fields(settings):
        value, flag = getattr(settings, field.name), field.name.replace("_", "-")
        if field.name in (*without, "options", "frames", "deliver") or value == _default(field):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}={value}")
    for name, value in settings.options.items():
        words.append(f"--option={name}={str(value).lower() if isinstance(value, bool) else value}")
    for word in words:
        check_text("setting", word)
    return words


def _default(field: dataclasses.Field[Any]) -> Any:
    return None if field.default is dataclasses.MISSING else field.default
