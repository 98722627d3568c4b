"""Finds what belongs to this plugin: the gizmos, and `void_server.wire`, which it makes importable inside Nuke.

What comes in: nothing. What goes out: one more folder on Python's path, at its end, so that whatever the studio already
provides wins. It imports nothing of it and opens no socket.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent.parent
"""The folder of init.py."""


def gizmo(name: str) -> Path:
    """The file of a gizmo: installed beside the plugin, or in a checkout."""
    installed = PLUGIN / "gizmos" / f"{name}.gizmo"
    return installed if installed.is_file() else PLUGIN.parent.parent / "gizmos" / f"{name}.gizmo"


def prepare(plugin: Path = PLUGIN) -> None:
    """Add the folders that lack on Python's path: wheels for this Python, and, in a checkout, the package itself."""
    version = ".".join(map(str, sys.version_info[:2]))
    wheels = plugin / "python" / version
    for package, folder in (
        ("void_server", plugin / "python" / "wire"),
        ("void_server", plugin.parent.parent),
        ("zmq", wheels),
        ("msgpack", wheels),
    ):
        there = (folder / package).is_dir() and str(folder) not in sys.path
        if there and importlib.util.find_spec(package) is None:
            sys.path.append(str(folder))
