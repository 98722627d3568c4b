"""The settings VOID takes besides those of every shot, read and checked once.

What comes in: the map that a host, a command line or a message carried. What goes out: a frozen record, or a
SettingsError that names the setting. It knows neither torch nor frames.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from void_server.wire.errors import SettingsError

MEMORY = ("auto", "full", "model_offload", "float8", "sequential")
PRESETS = ("fixed", "released")
PRECISIONS = ("bf16", "fp8")


@dataclasses.dataclass(frozen=True)
class VoidOptions:
    weights: Path | None = None
    """Folder of weights; None is VOID_WEIGHTS or the user's cache."""
    preset: str = "fixed"
    refine: bool = False
    """Run pass 2 on warped noise after pass 1: steadier surfaces, about three times the time."""
    memory: str = "auto"
    precision: str = "bf16"
    """What the transformer multiplies in: "fp8" is faster and smaller, and less exact."""
    quality: str = "release"
    """The shot's own setting. "draft": fewer steps, and blocks skipped in steps that change little. "fine": a larger
    picture, where the plate shows more and the card has room."""
    compile: bool = True
    """Compile the transformer's blocks for this card, once; preset=released never does."""
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str = ""
    size: tuple[int, int] | None = None
    """(height, width) the model runs at; None fits the hole."""
    window: int = 85
    """Frames that the model sees together; at least 21, since neighbouring windows share 16."""
    grid: bool = False
    """Blocky affected areas, as VOID's own tools draw them."""
    context: float = 0.3
    follow: bool = True
    """Let the region that the model sees follow a hole that travels, where it is then seen finer; preset=released never
    does."""

    @classmethod
    def parse(cls, given: Mapping[str, Any], quality: str = "release") -> VoidOptions:
        """quality: of the shot; `draft` among the settings is its older spelling. Raises SettingsError for a name VOID
        does not know, for a value it can't take, and for two that contradict each other."""
        known = {field.name for field in dataclasses.fields(cls)} - {"quality"} | {"draft"}
        strange = sorted(set(given) - known)
        if strange:
            raise SettingsError(f"VOID has no setting '{strange[0]}'.", f"It knows: {', '.join(sorted(known))}.")
        values: dict[str, Any] = {
            name: _READERS[name](name, value) for name, value in given.items() if value is not None
        }
        if values.pop("draft", False):
            if quality == "fine":
                raise SettingsError("draft and --quality fine contradict each other.", "Give one of them.")
            quality = "draft"
        options = cls(**values, quality=quality)
        if options.preset == "released" and (options.quality != "release" or options.precision != "bf16"):
            raise SettingsError(
                "preset=released is the release's own numbers; --quality draft or fine and precision=fp8 change them.",
                "Use preset=fixed, the default, with these.",
            )
        return options

    @property
    def draft(self) -> bool:
        return self.quality == "draft"


def _path(name: str, value: Any) -> Path:
    return Path(_text(name, value))


def _text(name: str, value: Any) -> str:
    if isinstance(value, (str, Path)):
        return str(value)
    raise _wrong(name, value, "text")


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("1", "true", "yes", "on"):
        return True
    if str(value).lower() in ("0", "false", "no", "off", ""):
        return False
    raise _wrong(name, value, "yes or no")


def _number(name: str, value: Any, least: float, most: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not least <= number <= most:
        raise _wrong(name, value, f"a number from {least:g} to {most:g}")
    return number


def _whole(name: str, value: Any, least: int, most: int) -> int:
    number = _number(name, value, least, most)
    if number != int(number):
        raise _wrong(name, value, "a whole number")
    return int(number)


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value in choices:
        return str(value)
    raise _wrong(name, value, f"one of: {', '.join(choices)}")


def _size(name: str, value: Any) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", str(value))
    if not match or any(int(side) % 16 or not 16 <= int(side) <= 4096 for side in match.groups()):
        raise _wrong(name, value, "HEIGHTxWIDTH in multiples of 16, as 384x672")
    return int(match[1]), int(match[2])


def _wrong(name: str, value: Any, wanted: str) -> SettingsError:
    return SettingsError(f"Setting {name} is {value!r}.", f"Give {wanted}.")


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "weights": _path,
    "preset": lambda name, value: _one_of(name, value, PRESETS),
    "refine": _flag,
    "memory": lambda name, value: _one_of(name, value, MEMORY),
    "precision": lambda name, value: _one_of(name, value, PRECISIONS),
    "draft": _flag,
    "compile": _flag,
    "steps": lambda name, value: _whole(name, value, 1, 1000),
    "guidance": lambda name, value: _number(name, value, 1, 30),
    "negative_prompt": _text,
    "size": _size,
    "window": lambda name, value: _whole(name, value, 21, 1000),
    "grid": _flag,
    "follow": _flag,
    "context": lambda name, value: _number(name, value, 0.25, 4),
}
