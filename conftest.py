"""What pytest needs to know of this repository: rooms that need torch are read only where it is installed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

OPTIONAL = ("torch", "triton", "mujoco", "efficientnet_lite_pytorch")
"""Top-level packages of the extras [void] and [training] that modules import when they are imported. Triton comes with
torch for CUDA, not with torch for the CPU."""

missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
collect_ignore: list[str] = []
if missing:
    wanting = re.compile(rf"^(import|from) ({'|'.join(missing)})\b", re.M)
    package = Path(__file__).parent / "void_server"
    modules = package.rglob("*.py")
    collect_ignore += [str(p) for p in modules if wanting.search(p.read_text(encoding="utf-8"))]
    # Its modules import one another.
    if missing != ["triton"]:
        collect_ignore += [str(p) for p in (package.parent / "training").glob("[a-z]*.py")]

# What Blender's own Python runs.
if importlib.util.find_spec("bpy") is None:
    collect_ignore.append(str(Path(__file__).parent / "tests/shots/blender"))
