# SPDX-License-Identifier: GPL-3.0-or-later
"""VOID Inpaint for Blender's Video Sequencer: remove an object, and what it did to the scene, from a strip.

What comes in: Blender. What goes out: operators `void_inpaint.*`, a panel, `Strip.void`, preferences. This file only
registers them, and lets go of every run when Blender quits, saves or opens a file.

Follow one press: `operators` asks `sources` for a plan, `removal` carries it out: `pictures` renders what has no files,
`work` speaks to the daemon in a thread, `result_strip` lays the result. `timeline` knows Blender's versions.
"""

from __future__ import annotations

import atexit
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import (
    daemon_operators,
    operators,
    overlay,
    panel,
    pictures,
    preferences,
    properties,
    shot_operators,
    translation,
)
from .removal import leave_all, running, stop_threads

MODULES = (translation, properties, preferences, operators, shot_operators, daemon_operators, panel, overlay)


@persistent
def _leave(*_: Any) -> None:
    leave_all()


@persistent
def _quit(*_: Any) -> None:
    stop_threads()


@persistent
def _before_save(*_: Any) -> None:
    for removal in list(running.values()):
        removal.drop_stages()


@persistent
def _swept(*_: Any) -> None:
    """Opening a file or undoing may bring back a scene of ours; a run that needs one makes it again."""
    pictures.close_all()


HANDLERS = {
    "load_pre": _leave,
    "save_pre": _before_save,
    "load_post": _swept,
    "undo_post": _swept,
    "redo_post": _swept,
    "exit_pre": _quit,
}
"""`exit_pre` is 5.x's own; on 4.5 `atexit` does it."""


def register() -> None:
    for module in MODULES:
        module.register()
    for name, handler in HANDLERS.items():
        if hasattr(bpy.app.handlers, name):
            getattr(bpy.app.handlers, name).append(handler)
    atexit.register(stop_threads)


def unregister() -> None:
    leave_all()
    atexit.unregister(stop_threads)
    for name, handler in HANDLERS.items():
        handlers = getattr(bpy.app.handlers, name, [])
        if handler in handlers:
            handlers.remove(handler)
    for module in reversed(MODULES):
        module.unregister()
