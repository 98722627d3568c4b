"""What pytest needs to know of this repository: rooms that need torch are read only where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

collect_ignore: list[str] = []
if importlib.util.find_spec("torch") is None:
    modules = Path(__file__).parent.glob("void_server/engine/void/*.py")
    collect_ignore += [str(path) for path in modules if "\nimport torch" in path.read_text(encoding="utf-8")]
