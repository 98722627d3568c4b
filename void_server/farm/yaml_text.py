"""Plain values as YAML that people can read and edit; job bundles are reviewed before they are trusted.

What comes in: maps, lists, text, numbers. What goes out: YAML text. Written here because the wheel carries no YAML
library, and JSON, though it is YAML too, reads badly at a hundred lines. Text is always quoted, as JSON quotes it: YAML
takes JSON's escapes (YAML 1.2, 7.3.1), and no word turns into a number, a date or a truth value by accident.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def dump(value: Mapping[str, Any]) -> str:
    """YAML of a map.

    >>> print(dump({"name": "no", "steps": [{"n": 1, "args": ["a: b"]}], "none": []}), end="")
    name: "no"
    steps:
      - n: 1
        args:
          - "a: b"
    none: []
    """
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [line for key, held in value.items() for line in _entry(f"{key}:", held)]
    if isinstance(value, list) and value:
        lines = []
        for item in value:
            inner = _lines(item)
            lines += [f"- {inner[0]}", *(f"  {line}" for line in inner[1:])]
        return lines
    return [json.dumps(value, ensure_ascii=False)]


def _entry(key: str, value: Any) -> list[str]:
    inner = _lines(value)
    if isinstance(value, (Mapping, list)) and value:
        return [key, *(f"  {line}" for line in inner)]
    return [f"{key} {inner[0]}"]
