# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N801 - Blender wants class names of this form
"""The panel: in the sequencer's sidebar, and on 5.x in the strip's properties too. It draws, and does nothing else.

What comes in: the active strip. What goes out: widgets.
"""

from pathlib import Path
from typing import Any, ClassVar

import bpy

from . import timeline
from .operators import run_of
from .results import Record

_records: dict[str, tuple[int, Record | None]] = {}
"""Records by folder with the time of their file, so that drawing reads a file only when it changed."""


def draw(layout: Any, context: Any) -> None:
    """The whole panel, for either place."""
    strip = timeline.active_strip(context)
    layout.use_property_split, layout.use_property_decorate = True, False
    if strip is None or strip.type not in timeline.KINDS:
        layout.label(text="Select an image, movie or scene strip", icon="INFO")
        return
    _draw_status(layout, strip)
    if strip.void.source:
        layout.operator("void_inpaint.toggle", icon="HIDE_OFF")
        layout.operator("void_inpaint.open_folder", icon="FILE_FOLDER")
        return
    settings, scene = strip.void, timeline.scene_of(context)
    column = layout.column()
    column.enabled = run_of(strip) is None
    column.prop(settings, "matte_source")
    if settings.matte_source == "MASK":
        column.prop(settings, "mask")
    elif settings.matte_source == "STRIP":
        column.prop_search(settings, "matte_strip", scene.sequence_editor, "strips", icon="SEQUENCE")
        column.prop(settings, "matte_channel")
    column.prop(settings, "invert")
    row = column.row()
    row.active = not settings.affected_strip
    row.prop(settings, "physics_prior")
    column.prop_search(settings, "affected_strip", scene.sequence_editor, "strips", icon="SEQUENCE")
    column.prop_search(settings, "keep_strip", scene.sequence_editor, "strips", icon="SEQUENCE")
    column.separator()
    column.prop(settings, "engine")
    column.prop(settings, "prompt")
    for name in ("grow_px", "feather_px", "seed", "output"):
        column.prop(settings, name)
    column.separator()
    column.operator("void_inpaint.preview", icon="OVERLAY")
    big = column.row()
    big.scale_y = 1.4
    big.operator("void_inpaint.remove", icon="TRASH")
    column.separator()
    column.operator("void_inpaint.toggle", icon="HIDE_OFF")
    column.operator("void_inpaint.open_folder", icon="FILE_FOLDER")
    column.operator("void_inpaint.add_nodes", icon="NODE_COMPOSITING")


def _draw_status(layout: Any, strip: Any) -> None:
    removal = run_of(strip)
    if removal is not None:
        layout.progress(factor=removal.progress.share, text=removal.progress.line)
        layout.operator("void_inpaint.cancel", icon="CANCEL")
        return
    record = _record(strip.void.folder)
    if record is None:
        return
    if record.left_behind:
        layout.label(text="A job was left behind", icon="ERROR")
        layout.operator("void_inpaint.reattach", icon="FILE_REFRESH")
    elif record.state == "failed":
        column = layout.column(align=True)
        column.alert = True
        for line in _wrapped(f"FAILED: {record.error}"):
            column.label(text=line)
    elif record.state == "done":
        layout.label(text=f"READY: v{record.version:03d}", icon="CHECKMARK")
        for line in (line for warning in record.warnings for line in _wrapped(warning)):
            layout.label(text=line)
    else:
        layout.label(text=record.state.upper())


def _record(folder: str) -> Record | None:
    if not folder:
        return None
    try:
        changed = (Path(folder) / "run.json").stat().st_mtime_ns
    except OSError:
        return None
    if _records.get(folder, (0, None))[0] != changed:
        _records[folder] = changed, Record.load(Path(folder))
    return _records[folder][1]


def _wrapped(text: str, width: int = 48) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)


class VOID_INPAINT_PT_sidebar(bpy.types.Panel):
    bl_label = "Remove Object"
    bl_category = "VOID"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"

    @classmethod
    def poll(cls, context: Any) -> bool:
        return timeline.scene_of(context) is not None

    def draw(self, context: Any) -> None:
        draw(self.layout, context)


class VOID_INPAINT_PT_properties(bpy.types.Panel):
    bl_label = "Remove Object"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "strip"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return timeline.active_strip(context) is not None

    def draw(self, context: Any) -> None:
        draw(self.layout, context)


def _in_menu(self: Any, _context: Any) -> None:
    self.layout.separator()
    self.layout.operator("void_inpaint.remove", icon="TRASH")


MENUS = ("SEQUENCER_MT_strip", "SEQUENCER_MT_context_menu")
CLASSES = (VOID_INPAINT_PT_sidebar, *((VOID_INPAINT_PT_properties,) if bpy.app.version >= (5, 0, 0) else ()))


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    for name in MENUS:
        getattr(bpy.types, name).append(_in_menu)


def unregister() -> None:
    for name in MENUS:
        getattr(bpy.types, name).remove(_in_menu)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    _records.clear()
