"""Finds what belongs to this plugin: the gizmos, and `void_server.wire`, which it makes importable inside Nuke.

What comes in: nothing. What goes out: one more folder on Python's path, at its end, so that whatever the studio already
provides wins. It imports nothing of it and opens no socket.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path

PLUGIN = Path(__file__).absolute().parent.parent
"""The folder of init.py. Never resolved: a mapped drive would become a network name."""


def gizmo(name: str) -> Path:
    """The file of a gizmo: installed beside the plugin, or in a checkout."""
    installed = PLUGIN / "gizmos" / f"{name}.gizmo"
    return installed if installed.is_file() else PLUGIN.parent.parent / "gizmos" / f"{name}.gizmo"


def prepare(plugin: Path = PLUGIN) -> None:
    """Add the folders that lack on Python's path: wheels for this Python, and, in a checkout, the package itself."""
    wheels = plugin / "python" / f"{'.'.join(map(str, sys.version_info[:2]))}-{system()}"
    for package, folder in (
        ("void_server", plugin / "python" / "wire"),
        ("void_server", plugin.parent.parent),
        ("zmq", wheels),
        ("msgpack", wheels),
    ):
        there = (folder / package).is_dir() and folder.as_posix() not in sys.path
        if there and importlib.util.find_spec(package) is None:
            sys.path.append(folder.as_posix())


def system() -> str:
    """This machine, as `void-server install` names its folders: linux-x64, windows-x64, macos-arm64, macos-x64."""
    machine = platform.machine().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine, machine)
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux") + f"-{machine}"
