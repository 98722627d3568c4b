# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon says about a result, in the words of the panel.

What comes in: the manifest of a result, messages of the daemon, which speak of the command line's flags. What goes out:
lines for an editor, each once. It knows neither Blender nor the wire.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PLACES = {
    "reference": "a painted still under Reference",
    "affected": "Affected",
    "affected-add": "Affected",
    "affected-sub": "Affected",
    "keep": "Keep",
    "colorspace": "the strip's Color Space",
    "matte-channel": "Channel",
    "layer": "another file",
    "engine": "Engine",
    "missing": "another range",
    "frames": "the strip's handles",
    "grow": "Grow",
    "grow-px": "Grow",
    "feather-px": "Feather",
    "prompt": "Prompt",
    "seed": "Seed",
    "effects": "Effects",
    "quality": "Quality",
    "matte-invert": "Invert",
}
"""Where the panel has what a flag of the command line sets."""
FLAG = re.compile(r"(?:a painted )?--([a-z][a-z-]*)")
SENTENCE = re.compile(r"(?<=[.?!]) (?=[A-Z`(-])")

DOUBTFUL = re.compile(r"Much of the fill is doubtful on frames (.+): .* most on (-?\d+),")
INVENTED = re.compile(r"(\d+)% of what was filled .* most on (-?\d+) \((\d+)%\)")


def of_manifest(manifest: dict[str, Any]) -> list[str]:
    """The warnings of a result, each once."""
    said = manifest.get("warnings") or []
    lines = (spoken(str(w.get("code", "")), str(w.get("message", ""))) for w in said if isinstance(w, dict))
    return list(dict.fromkeys(line for line in lines if line))


def spoken(code: str, message: str) -> str:
    """One warning; "" for one that says nothing to an editor.

    >>> spoken("invented", "65% of what was filled was never visible in any frame and is invented: frames 1-7, most on "
    ...     "5 (74%). See `coverage` in the AOVs; a painted --reference frame, or engine void, can do better.")
    '65% was never visible and is invented, most on frame 5 (74%). A painted still under Reference can do better.'
    >>> spoken("doubtful", "Much of the fill is doubtful on frames 10-17: what other frames show does not agree, or "
    ...     "was never seen; most on 12, between x 31 and 65, y 19 and 40. See `confidence` in the AOVs.")[:61]
    'The fill is doubtful on frames 10-17, most on 12: other frame'
    >>> spoken("header", "1f09.part: matte taken from A"), spoken("header", "plate.1001.exr: beauty is layer 'rgb'")
    ('', "beauty is layer 'rgb'")
    """
    if code == "invented" and (found := INVENTED.search(message)):
        return (
            f"{found[1]}% was never visible and is invented, most on frame {found[2]} ({found[3]}%). "
            "A painted still under Reference can do better."
        )
    if code == "doubtful" and (found := DOUBTFUL.search(message)):
        return (
            f"The fill is doubtful on frames {found[1]}, most on {found[2]}: other frames disagree, or never show the "
            "place. A painted still under Reference can do better."
        )
    if code == "colour-assumed":
        return "The strip does not say its color space; Linear Rec.709 is assumed."
    if code == "header":
        # The daemon names the file as it stores it, which is nobody's name for it.
        note = message.partition(": ")[2] or message
        return "" if note.startswith("matte taken from") else in_the_panel(note)
    return in_the_panel(message)


def in_the_panel(message: str) -> str:
    """A message with the panel's own names in place of flags; a sentence about a flag that the panel has not is left
    out, unless there is no other.

    >>> in_the_panel("The matte is empty. Give --matte-channel, or see `coverage`.")
    'The matte is empty. Give Channel, or see coverage.'
    >>> in_the_panel("The matte is solid. Give a matte. If it is meant, give --no-matte-invert.")
    'The matte is solid. Give a matte.'
    >>> in_the_panel("More may be its doing (`suspected` in the AOVs). --effects bold changes it.")
    'More may be its doing. Bold changes it.'
    """
    told = SENTENCE.split(message)
    kept = [line for line in told if set(FLAG.findall(line)) <= set(PLACES)] or told
    named = " ".join(kept).replace("--effects bold", "Bold")
    named = FLAG.sub(lambda m: PLACES.get(m[1], m[1]), named)
    return re.sub(r" \(`\w+` in the AOVs\)|, `?\w+`? in the AOVs|See `?\w+`? in the AOVs[;.]? ?", "", named).replace(
        "`", ""
    )


def engine_of(manifest: dict[str, Any]) -> str:
    """The engine that made a result, as the panel names it.

    >>> engine_of({"engine": {"name": "propagate"}}), engine_of({})
    ('Propagate', '')
    """
    engine = manifest.get("engine")
    name = str(engine.get("name", "")) if isinstance(engine, dict) else ""
    return {"void": "VOID"}.get(name, name.capitalize())


def coverage_of(manifest: dict[str, Any]) -> float | None:
    """The share of the hole that real pixels of other frames filled; None where nothing is said."""
    coverage = manifest.get("coverage")
    return float(coverage) if isinstance(coverage, (int, float)) else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a result; empty where there is none that can be read."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
