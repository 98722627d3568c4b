"""Which colour space a script works in, and a Read converts from, in the daemon's names; by way of OCIO where it is on.

What comes in: the texts of Nuke's colour knobs, and where its configuration may lie. What goes out: names, or None
where nothing is sure: a wrong guess would give a plate the wrong primaries. It imports PyOpenColorIO, which Nuke ships,
only when it is asked for a configuration, and knows no node.

Nuke writes a colour space as `ACEScg`, as `default (ACEScg)`, as the role `scene_linear`, or as role and space,
`scene_linear (ACEScg)`; which of them depends on version and preferences.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

NAMES = {
    "acescg": ("acescg", "acesacescg", "linap1", "linap1scene"),
    "aces2065-1": ("aces20651", "acesaces20651", "linap0", "linap0scene"),
    "lin_rec709": (
        "linrec709", "linrec709scene", "linsrgb", "linearrec709srgb", "utilitylinearsrgb", "utilitylinearrec709",
        "srgblinear", "linearsrgb",
    ),
    "lin_rec2020": ("linrec2020", "linrec2020scene", "linearrec2020", "utilitylinearrec2020"),
    "lin_p3d65": ("linp3d65", "linp3d65scene", "linearp3d65", "utilitylinearp3d65"),
}  # fmt: skip
"""The daemon's names, and those of ACES configurations and of the Color Interop Forum, letters and digits only."""

TO_AP0 = {
    "acescg": ((0.6955, 0.0448, -0.0055), (0.1407, 0.8597, 0.0040), (0.1639, 0.0955, 1.0015)),
    "aces2065-1": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "lin_rec709": ((0.4396, 0.0898, 0.0175), (0.3830, 0.8134, 0.1115), (0.1774, 0.0968, 0.8709)),
    "lin_rec2020": ((0.6791, 0.0460, -0.0006), (0.1577, 0.8591, 0.0285), (0.1632, 0.0949, 0.9721)),
    "lin_p3d65": ((0.5189, 0.0739, -0.0003), (0.2863, 0.8198, 0.0438), (0.1948, 0.1063, 0.9565)),
}
"""Red, green and blue of each space in ACES2065-1, adapted to its white. Source: OCIO's built-in configurations."""
NEAR = 2e-3

INTERCHANGE = ("aces_interchange", "ACES2065-1", "ACES - ACES2065-1")
UNTOUCHED = ("raw", "utilityraw", "data")
"""Spaces of a Read that leave a file's values as they are."""


def plain(text: str) -> str:
    """A colour knob's text without the role that Nuke writes in front of a space, and without families.

    >>> plain("default (ACES - ACEScg)"), plain("scene_linear (Linear Rec.709 (sRGB))"), plain("Utility/Raw")
    ('ACES - ACEScg', 'Linear Rec.709 (sRGB)', 'Raw')
    >>> plain("Linear Rec.709 (sRGB)"), plain("scene_linear")
    ('Linear Rec.709 (sRGB)', 'scene_linear')
    """
    text = text.partition("\t")[0].strip()
    role = re.fullmatch(r"[a-z][a-z0-9_]*\s*\((.*)\)", text)
    return (role[1] if role else text).rpartition("/")[2].strip()


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclasses.dataclass(frozen=True)
class Colour:
    """How one script manages colour."""

    managed: bool
    """By OCIO; otherwise by Nuke's own tables, whose `linear` names no primaries."""
    working: str
    """As the script's settings have it."""
    config: Any = None
    """An OCIO configuration, or None where none was found."""

    def space(self, text: str) -> Optional[str]:  # noqa: UP045 - evaluated on Python 3.9 by those who ask for type hints
        """The daemon's name of a colour space, or None where it has none or nothing is sure."""
        name = self._canonical(text)
        by_name = next((ours for ours, theirs in NAMES.items() if _letters(name) in theirs), None)
        return by_name or self._by_matrix(name)

    def keeps(self, text: str) -> bool:
        """Whether a Read in this space hands on the file's values as they are: the script's own space, or none."""
        name = self._canonical(text)
        return _letters(name) in UNTOUCHED or _letters(name) == _letters(self._canonical(self.working))

    def _canonical(self, text: str) -> str:
        """A space's own name, for a role or an alias of it too."""
        name = plain(text)
        found = self.config.getColorSpace(name) if self.config is not None else None
        return str(found.getName()) if found is not None else name

    def _by_matrix(self, name: str) -> Optional[str]:  # noqa: UP045
        """The space of ours whose primaries it has: studios name theirs as they like."""
        if self.config is None:
            return None
        space = self.config.getColorSpace(name)
        if space is None or space.isData():
            return None
        for interchange in INTERCHANGE:
            try:
                cpu = self.config.getProcessor(name, interchange).getDefaultCPUProcessor()
                primaries = [cpu.applyRGB(list(light)) for light in ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))]
                doubled = cpu.applyRGB([2.0, 0, 0])
            except Exception:  # noqa: BLE001 - OCIO raises its own; a configuration without that role or space
                continue
            if any(abs(b - 2 * a) > NEAR for a, b in zip(primaries[0], doubled)):
                return None  # a curve, as of a log space
            return next((ours for ours, matrix in TO_AP0.items() if _near(primaries, matrix)), None)
        return None


def _near(found: Sequence[Sequence[float]], known: Sequence[Sequence[float]]) -> bool:
    return all(abs(a - b) < NEAR for row, other in zip(found, known) for a, b in zip(row, other))


def candidates(name: str, custom: str, folders: Sequence[str]) -> list[str]:
    """Where the configuration of a script may lie, best first.

    name: what the script's settings say, `custom` or the name of one that Nuke ships. folders: Nuke's plug-in folders.
    """
    found = [os.environ["OCIO"]] if os.environ.get("OCIO") else []
    if name == "custom":
        found.append(custom)
    for folder in folders:
        configs = Path(folder) / "OCIOConfigs" / "configs"
        found += [str(configs / name / "config.ocio"), str(configs / f"{name}.ocio")]
    return [path for path in found if path]


def load(paths: Sequence[str], name: str) -> Any:
    """The first configuration that is there, as PyOpenColorIO has it; else OCIO's built-in of that name; else None."""
    try:
        import PyOpenColorIO  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    for path in paths:
        if path.startswith("ocio:") or Path(path).is_file():
            try:
                return PyOpenColorIO.Config.CreateFromFile(path)
            except Exception:  # noqa: BLE001 - a broken or newer configuration: OCIO's own classes of errors
                continue
    try:
        return PyOpenColorIO.Config.CreateFromBuiltinConfig(name.removeprefix("fn-nuke_"))
    except Exception:  # noqa: BLE001 - no such name, or an OCIO before 2.2, which has none
        return None
