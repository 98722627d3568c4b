"""Paths of the machine that submitted, as the machine that works sees them.

What comes in: the rules file that an Open Job Description session gives its tasks (schema `pathmapping-1.0`), and a
path or pattern. What goes out: the path here. It does not look whether anything lies there.

Our paths travel as text parameters, since patterns (`plate.####.exr`) are no files, and since Open Job Description lets
no path parameter have an absolute default. So the worker's end maps them itself, with the same rules.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

from void_server.wire.errors import SettingsError

VERSION = "pathmapping-1.0"
"""Open Job Description, "How Jobs Are Run": the one schema there is."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Whatever lies under `source` on the submitting machine lies under `destination` here."""

    source: str
    destination: str
    windows: bool = False
    """The source is spelled as Windows does: either slash, and case does not count."""

    def apply(self, path: str) -> str | None:
        """The path here, or None where this rule says nothing about it. Whole folder names match, never parts.

        >>> Rule("Z:\\\\show", "/mnt/show", windows=True).apply("z:/Show/sh010/plate.####.exr")
        '/mnt/show/sh010/plate.####.exr'
        >>> Rule("/mnt/a", "/b").apply("/mnt/abc") is None
        True
        """
        parts, source = self._parts(path), self._parts(self.source)
        if [self._folded(p) for p in parts[: len(source)]] != [self._folded(p) for p in source]:
            return None
        separator = "\\" if re.match(r"[A-Za-z]:|\\\\", self.destination) else "/"
        return separator.join([self.destination.rstrip("\\/") or separator, *parts[len(source) :]])

    def _parts(self, path: str) -> list[str]:
        text = path.replace("\\", "/") if self.windows else path
        return text.rstrip("/").split("/")

    def _folded(self, part: str) -> str:
        return part.lower() if self.windows else part


def read(path: Path) -> list[Rule]:
    """The rules in a session's file, longest source first. An empty map is no rules. Raises SettingsError."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8") or "{}")
        if not fields:
            return []
        if fields.get("version") != VERSION:
            raise ValueError(f"its version is {fields.get('version')!r}")
        rules = [
            Rule(rule["source_path"], rule["destination_path"], rule["source_path_format"] == "WINDOWS")
            for rule in fields["path_mapping_rules"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"Path mapping rules {path} can't be read: {error}.", f"Give a file in the schema {VERSION}."
        ) from error
    return sorted(rules, key=lambda rule: -len(rule.source))


def mapped(path: str, rules: Sequence[Rule]) -> str:
    """The path here: by the first rule that speaks of it, else as it is."""
    for rule in rules:
        found = rule.apply(path)
        if found is not None:
            return found
    return path
