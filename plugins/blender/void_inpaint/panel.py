# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N801 - Blender wants class names of this form
"""The panel: in the sequencer's sidebar, and on 5.x in the strip's properties too. It draws, and does nothing else.

What comes in: the active strip. What goes out: widgets. The head has the same rows in every state, so that nothing
moves under the mouse: the button or its progress, one line of news, original and clean.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, ClassVar

import bpy
from bpy.app.translations import pgettext_iface as iface

from . import overlay, preferences, timeline, words
from .operators import active_source, run_of
from .results import Record
from .states import STAGES, State

_files: dict[Path, tuple[int, Any]] = {}
"""What was read from a file with the file's time, so that drawing reads it only when it changed."""

SHOWN_RESULTS = 5
LINE = 46
"""Letters of a line in a sidebar of Blender's own width."""


def draw_head(layout: Any, context: Any) -> Any:
    """The rows that are always there; returns the strip that they speak of, None where nothing can be removed."""
    strip = active_source(context)
    if strip is None or strip.type not in timeline.KINDS:
        column = layout.column()
        big = column.row()
        big.scale_y = 1.5
        big.operator("void_inpaint.open_shot", icon="FILE_FOLDER")
        column.label(text="Or select an image, movie or scene strip", icon="INFO")
        return None
    head = layout.column()
    removal = run_of(strip)
    big = head.row(align=True)
    big.scale_y = 1.5
    if removal is None:
        big.operator("void_inpaint.remove", icon="SHADERFX")
    else:
        big.progress(factor=removal.progress.share, text=_line_of(removal.progress))
        big.operator("void_inpaint.cancel", text="", icon="X")
    _draw_news(head.row(align=True), strip, removal)
    _draw_before_after(head.row(align=True), context, strip)
    return strip


def draw_inputs(layout: Any, context: Any, strip: Any) -> None:
    """What is removed, and what of its effects."""
    settings = strip.void
    layout.use_property_split, layout.use_property_decorate = False, False
    column = layout.column()
    column.enabled = run_of(strip) is None
    column.row(align=True).prop(settings, "matte_source", expand=True)
    row = column.row(align=True)
    if settings.matte_source == "MASK":
        row.prop(settings, "mask", text="")
        row.operator("void_inpaint.draw_mask", text="", icon="GREASEPENCIL")
    elif settings.matte_source == "STRIP":
        row.prop_search(settings, "matte_strip", timeline.scene_of(context).sequence_editor, "strips", text="")
    else:
        row.label(text="Opaque where to remove", icon="IMAGE_ALPHA")
    row = column.row(align=True)
    found = row.row(align=True)
    found.active = not settings.affected_strip
    found.prop(settings, "physics_prior")
    row.operator("void_inpaint.preview", text="Preview")
    row = column.row(align=True)
    row.active = settings.physics_prior and not settings.affected_strip
    row.prop(settings, "effects", expand=True)
    row = layout.row(align=True)
    row.active = overlay.folder_of(strip) is not None
    row.prop(settings, "show_effects", text="", icon="OVERLAY", toggle=True)
    row.prop(settings, "effects_opacity", text="Effects", slider=True)


def draw_results(layout: Any, context: Any, strip: Any) -> None:
    """Versions, newest first: which is on view, what made it, how much of it is real."""
    scene = timeline.scene_of(context)
    results = timeline.results_of(scene, strip.void.mark)
    if not results:
        layout.label(text="Nothing is removed yet", icon="INFO")
    table = layout.column(align=True)
    for result in results[:SHOWN_RESULTS]:
        row = table.row()
        manifest = _manifest(result.void.folder)
        coverage = words.coverage_of(manifest)
        told = row.operator(
            "void_inpaint.show",
            text=f"v{result.void.version:03d}",
            icon="HIDE_ON" if result.mute else "HIDE_OFF",
            depress=not result.mute,
        )
        told.version = result.void.version
        row.label(text=words.engine_of(manifest))
        row.label(text="" if coverage is None else f"{coverage:.0%} {iface('real')}")
    if len(results) > SHOWN_RESULTS:
        layout.label(text=f"{len(results) - SHOWN_RESULTS} {iface('older ones on the timeline')}")
    row = layout.row(align=True)
    row.operator("void_inpaint.open_folder", icon="FILE_FOLDER")
    row.operator("void_inpaint.add_nodes", text="Add Nodes", icon="NODE_COMPOSITING")
    for line in _warnings(strip):
        _draw_text(layout, line)


def draw_advanced(layout: Any, context: Any, strip: Any) -> None:
    settings, editor = strip.void, timeline.scene_of(context).sequence_editor
    layout.use_property_split, layout.use_property_decorate = True, False
    layout.enabled = run_of(strip) is None
    layout.prop(settings, "invert")
    if settings.matte_source == "STRIP":
        layout.prop(settings, "matte_channel")
    for name in ("affected_strip", "keep_strip", "reference_strip"):
        layout.prop_search(settings, name, editor, "strips", icon="SEQUENCE")
    layout.separator()
    for name in (
        "engine",
        "quality",
        "prompt",
        "grow_px",
        "feather_px",
        "seed",
        "context",
        "output",
        "only_preview_range",
    ):
        layout.prop(settings, name)


def _draw_news(row: Any, strip: Any, removal: Any) -> None:
    """One line: time left, what failed, what is ready, what is still to be chosen."""
    if removal is not None:
        left = removal.progress.left(iface) or iface("You can keep working in the meantime")
        row.label(text=left, icon="SORTTIME", translate=False)
        return
    record = _record(strip.void.attempt or strip.void.folder)
    if record is not None and record.left_behind:
        row.label(text="A job was left behind", icon="ERROR")
        row.operator("void_inpaint.reattach", icon="FILE_REFRESH")
    elif record is not None and record.state == "failed":
        row.alert = True
        row.label(text=record.error, icon="ERROR")
        row.popover("VOID_INPAINT_PT_news", text="", icon="DOWNARROW_HLT")
    elif record is not None and record.state == "cancelled":
        row.label(text="Cancelled", icon="CANCEL")
    elif record is not None and record.state == "done" and record.deliver == "clean":
        row.label(text=f"v{record.version:03d} {iface('is ready')}", icon="CHECKMARK")
        if record.warnings:
            row.popover("VOID_INPAINT_PT_news", text=iface("Notes"), icon="INFO")
    elif record is not None and record.state == "done":
        bold = strip.void.effects == "bold"
        told = "Blue and orange go with it" if bold else "Blue goes with it; orange only with Bold"
        row.label(text=told, icon="OVERLAY")
    else:
        row.label(text=_lacking(strip) or "Ready", icon="INFO")


def _lacking(strip: Any) -> str:
    """What must be chosen before the button can do anything; "" where it can."""
    if strip.void.matte_source == "MASK" and strip.void.mask is None:
        return "Choose a mask, or draw one"
    if strip.void.matte_source == "STRIP" and not strip.void.matte_strip:
        return "Choose the strip with the matte"
    if not bpy.data.filepath and (preferences.of(bpy.context).output or "//").startswith("//"):
        return "File not saved: results go to the home folder"
    return ""


def _draw_before_after(row: Any, context: Any, strip: Any) -> None:
    scene = timeline.scene_of(context)
    results = timeline.results_of(scene, strip.void.mark)
    shown = timeline.shown_result(scene, strip.void.mark)
    row.enabled = bool(results)
    row.operator("void_inpaint.show", text="Original", depress=bool(results) and not shown).version = 0
    version = shown or (results[0].void.version if results else 0)
    clean = f"{iface('Clean')} v{version:03d}" if version else iface("Clean")
    row.operator("void_inpaint.show", text=clean, depress=bool(shown), translate=False).version = version


def _draw_text(layout: Any, text: str) -> None:
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in textwrap.wrap(text, LINE):
        column.label(text=line, translate=False)


def _warnings(strip: Any) -> tuple[str, ...]:
    record = _record(strip.void.folder)
    return record.warnings if record is not None else ()


def _line_of(progress: Any) -> str:
    """What is being done, in the user's language; the numbers stay."""
    for english in (*STAGES.values(), *(state.value for state in State)):
        if progress.line.startswith(english):
            return iface(english) + progress.line[len(english) :].replace(" of ", f" {iface('of')} ")
    return iface(progress.line)


def _record(folder: str) -> Record | None:
    return _read(Path(folder) / "run.json", Record.load) if folder else None


def _manifest(folder: str) -> dict[str, Any]:
    return (_read(Path(folder) / "manifest.json", words.read_manifest) if folder else None) or {}


def _read(path: Path, load: Any) -> Any:
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return None
    if _files.get(path, (0, None))[0] != changed:
        _files[path] = changed, load(path.parent)
    return _files[path][1]


class _Sidebar:
    bl_category = "VOID"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"

    @classmethod
    def poll(cls, context: Any) -> bool:
        return timeline.scene_of(context) is not None


class _Properties:
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "strip"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return timeline.active_strip(context) is not None


class _Main:
    bl_label = "Remove Object"

    def draw(self, context: Any) -> None:
        strip = draw_head(self.layout, context)
        if strip is not None:
            draw_inputs(self.layout, context, strip)


class _Results:
    bl_label = "Results"

    def draw(self, context: Any) -> None:
        draw_results(self.layout, context, active_source(context))


class _Advanced:
    bl_label = "Advanced"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        draw_advanced(self.layout, context, active_source(context))


class _OfStrip:
    """A part of the panel that has something to show only where something can be removed."""

    @classmethod
    def poll(cls, context: Any) -> bool:
        strip = active_source(context)
        return strip is not None and strip.type in timeline.KINDS


class VOID_INPAINT_PT_sidebar(_Main, _Sidebar, bpy.types.Panel):
    pass


class VOID_INPAINT_PT_sidebar_results(_Results, _OfStrip, _Sidebar, bpy.types.Panel):
    bl_parent_id = "VOID_INPAINT_PT_sidebar"


class VOID_INPAINT_PT_sidebar_advanced(_Advanced, _OfStrip, _Sidebar, bpy.types.Panel):
    bl_parent_id = "VOID_INPAINT_PT_sidebar"


class VOID_INPAINT_PT_properties(_Main, _Properties, bpy.types.Panel):
    pass


class VOID_INPAINT_PT_properties_results(_Results, _OfStrip, _Properties, bpy.types.Panel):
    bl_parent_id = "VOID_INPAINT_PT_properties"


class VOID_INPAINT_PT_properties_advanced(_Advanced, _OfStrip, _Properties, bpy.types.Panel):
    bl_parent_id = "VOID_INPAINT_PT_properties"


class VOID_INPAINT_PT_news(bpy.types.Panel):
    """The whole of what the panel's one line has no room for."""

    bl_label = "Notes"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "HEADER"
    bl_ui_units_x = 16

    def draw(self, context: Any) -> None:
        strip = active_source(context)
        record = _record(strip.void.attempt or strip.void.folder) if strip is not None else None
        if record is None:
            return
        for text in (record.error, *record.warnings):
            if text:
                _draw_text(self.layout, text)


def _in_menu(self: Any, _context: Any) -> None:
    self.layout.separator()
    self.layout.operator("void_inpaint.remove", icon="SHADERFX")
    self.layout.operator("void_inpaint.toggle")


def _in_add_menu(self: Any, _context: Any) -> None:
    self.layout.separator()
    self.layout.operator("void_inpaint.open_shot", icon="FILE_FOLDER")


MENUS = {
    "SEQUENCER_MT_strip": _in_menu,
    "SEQUENCER_MT_context_menu": _in_menu,
    "SEQUENCER_MT_add": _in_add_menu,
}
SIDEBAR = (VOID_INPAINT_PT_sidebar, VOID_INPAINT_PT_sidebar_results, VOID_INPAINT_PT_sidebar_advanced)
PROPERTIES = (VOID_INPAINT_PT_properties, VOID_INPAINT_PT_properties_results, VOID_INPAINT_PT_properties_advanced)
CLASSES = (VOID_INPAINT_PT_news, *SIDEBAR, *(PROPERTIES if bpy.app.version >= (5, 0, 0) else ()))


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    for name, draw in MENUS.items():
        getattr(bpy.types, name).append(draw)


def unregister() -> None:
    for name, draw in MENUS.items():
        getattr(bpy.types, name).remove(draw)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    _files.clear()
