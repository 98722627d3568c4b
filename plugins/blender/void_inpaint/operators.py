# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N801 - Blender wants class names of this form
"""What an artist can press. Each operator checks, calls one thing, and says what came of it.

What comes in: the active strip and its settings. What goes out: runs, strips, reports. In a window a run advances on a
timer while editing goes on; from a script the same operator works to the end.
"""

from pathlib import Path
from typing import Any, ClassVar

import bpy

from void_server.wire.errors import VoidError

from . import composite_nodes, local_daemon, preferences, sources, timeline
from .removal import Removal, running
from .results import Record
from .states import State

TICK_S = 0.1


def run_of(strip: Any) -> Removal | None:
    """The run under way for a strip."""
    return running.get(strip.void.run) if strip is not None else None


def starter_of(context: Any) -> Any:
    """What starts the daemon of this machine for a run that finds none; None where that may not be."""
    may = preferences.may_start(context)
    if may is None:
        return None
    program, folder = may
    address = preferences.of(context).server
    return lambda: local_daemon.start(program, address, folder)


def active_source(context: Any) -> Any:
    """The strip that the panel speaks of: the active one, or the one that it was made from."""
    return timeline.source_of(timeline.scene_of(context), timeline.active_strip(context))


class _Running:
    """Advances a run: on a timer after invoke, to the end after execute. Subclasses say which run."""

    _removal: Removal | None = None
    _timer: Any = None

    def begin(self, context: Any) -> Removal:
        raise NotImplementedError

    def execute(self, context: Any) -> set[str]:
        try:
            self._removal = self.begin(context)
        except (VoidError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self._removal.finish()
        return self._say()

    def invoke(self, context: Any, _event: Any) -> set[str]:
        try:
            self._removal = self.begin(context)
        except (VoidError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self._timer = context.window_manager.event_timer_add(TICK_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        more = self._removal.advance()
        redraw(context)
        if more:
            return {"PASS_THROUGH"}
        self._stop_timer(context)
        return self._say()

    def cancel(self, context: Any) -> None:
        """Blender ends the operator itself: it quits, or opens another file. The daemon works on."""
        if self._removal is not None:
            self._removal.leave()
        self._stop_timer(context)

    def _stop_timer(self, context: Any) -> None:
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None

    def _say(self) -> set[str]:
        removal = self._removal
        if removal.warnings:  # in one report: Blender shows the last one only
            self.report({"WARNING"}, " ".join(dict.fromkeys(removal.warnings)))
        if removal.state is State.READY:
            made = "Clean frames are in" if removal.record.deliver == "clean" else "What it did to the scene is in"
            self.report({"INFO"}, f"{made} {removal.record.folder}")
            return {"FINISHED"}
        if removal.state is State.CANCELLED:
            self.report({"INFO"}, "Cancelled")
        elif removal.state is State.DETACHED:
            self.report({"WARNING"}, f"{removal.error} The job is kept: press Reattach.")
        else:
            self.report({"ERROR"}, removal.error)
        return {"CANCELLED"}


class _OnStrip:
    @classmethod
    def poll(cls, context: Any) -> bool:
        strip = active_source(context)
        if strip is None or strip.type not in timeline.KINDS:
            cls.poll_message_set("Select an image, movie or scene strip in the Video Sequencer")
            return False
        if run_of(strip) is not None:
            cls.poll_message_set("A run is under way for this strip; wait, or cancel it")
            return False
        return True


class _NewRun(_Running, _OnStrip):
    deliver = "clean"

    def begin(self, context: Any) -> Removal:
        scene = timeline.scene_of(context)
        strip = timeline.source_of(scene, scene.sequence_editor.active_strip)
        plan = sources.plan(scene, strip, self.deliver)
        server, keys = preferences.server(context)
        root = preferences.output_root(context)
        return Removal.begin(plan, root, server, keys, self.deliver, starter_of(context))


class VOID_INPAINT_OT_remove(_NewRun, bpy.types.Operator):
    bl_idname = "void_inpaint.remove"
    bl_label = "Remove Object"
    bl_description = "Remove what the matte covers, and what it did to the scene, and lay the clean frames above"
    bl_options: ClassVar = {"REGISTER", "UNDO"}


class VOID_INPAINT_OT_preview(_NewRun, bpy.types.Operator):
    bl_idname = "void_inpaint.preview"
    bl_label = "Preview Affected"
    bl_description = "Show what the object did to the scene, as a strip to look at, before time is spent on removing it"
    bl_options: ClassVar = {"REGISTER", "UNDO"}
    deliver = "affected"


class VOID_INPAINT_OT_reattach(_Running, _OnStrip, bpy.types.Operator):
    bl_idname = "void_inpaint.reattach"
    bl_label = "Reattach"
    bl_description = "Take up the job that was left behind when Blender or the daemon went away"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    def begin(self, context: Any) -> Removal:
        strip = active_source(context)
        record = Record.load(Path(strip.void.attempt or strip.void.folder)) if _tried(strip) else None
        if record is None or not record.left_behind:
            raise VoidError(f"No job of '{strip.name}' was left behind.", "Press Remove Object.")
        return Removal.take_up(record, starter_of(context))


class VOID_INPAINT_OT_cancel(bpy.types.Operator):
    bl_idname = "void_inpaint.cancel"
    bl_label = "Cancel"
    bl_description = "Stop the run of the active strip, at the daemon too"

    @classmethod
    def poll(cls, context: Any) -> bool:
        return run_of(active_source(context)) is not None

    def execute(self, context: Any) -> set[str]:
        run_of(active_source(context)).cancel()
        return {"FINISHED"}


class VOID_INPAINT_OT_show(bpy.types.Operator):
    bl_idname = "void_inpaint.show"
    bl_label = "Show Version"
    bl_description = "Put the original or one version of the clean strip on view"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    version: bpy.props.IntProperty(name="Version", min=0, description="Number of the version; 0 is the original")

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(_results(context))

    def execute(self, context: Any) -> set[str]:
        timeline.show_result(timeline.scene_of(context), active_source(context).void.mark, self.version)
        return {"FINISHED"}


class VOID_INPAINT_OT_toggle(bpy.types.Operator):
    bl_idname = "void_inpaint.toggle"
    bl_label = "Before/After"
    bl_description = "Switch between the original and its newest clean strip"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(_results(context))

    def execute(self, context: Any) -> set[str]:
        scene, mark = timeline.scene_of(context), active_source(context).void.mark
        newest = timeline.results_of(scene, mark)[0].void.version
        timeline.show_result(scene, mark, 0 if timeline.shown_result(scene, mark) else newest)
        return {"FINISHED"}


class VOID_INPAINT_OT_open_folder(bpy.types.Operator):
    bl_idname = "void_inpaint.open_folder"
    bl_label = "Open Folder"
    bl_description = "Open the folder with the newest clean frames and their contact sheet"

    @classmethod
    def poll(cls, context: Any) -> bool:
        strip = timeline.active_strip(context)
        return strip is not None and bool(strip.void.folder)

    def execute(self, context: Any) -> set[str]:
        bpy.ops.wm.path_open(filepath=timeline.active_strip(context).void.folder)
        return {"FINISHED"}


class VOID_INPAINT_OT_add_nodes(bpy.types.Operator):
    bl_idname = "void_inpaint.add_nodes"
    bl_label = "Add Compositor Nodes"
    bl_description = "Add a node group that lays the clean frames over the plate by the change alpha"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(active_source(context) and active_source(context).void.folder)

    def execute(self, context: Any) -> set[str]:
        strip = active_source(context)
        record = Record.load(Path(strip.void.folder))
        if record is None or record.state != "done" or record.deliver != "clean":
            self.report({"ERROR"}, f"'{strip.name}' has no clean frames yet. Press Remove Object first.")
            return {"CANCELLED"}
        composite_nodes.add(timeline.scene_of(context), record)
        return {"FINISHED"}


def redraw(context: Any) -> None:
    """Draw the panels again, in every window, and nothing else: a picture drawn anew may cost seconds."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("SEQUENCE_EDITOR", "PROPERTIES"):
                for region in area.regions:
                    if region.type == ("UI" if area.type == "SEQUENCE_EDITOR" else "WINDOW"):
                        region.tag_redraw()


def _results(context: Any) -> list[Any]:
    source = active_source(context)
    return timeline.results_of(timeline.scene_of(context), source.void.mark) if source is not None else []


def _tried(strip: Any) -> bool:
    return bool(strip.void.attempt or strip.void.folder)


CLASSES = (
    VOID_INPAINT_OT_remove,
    VOID_INPAINT_OT_preview,
    VOID_INPAINT_OT_reattach,
    VOID_INPAINT_OT_cancel,
    VOID_INPAINT_OT_show,
    VOID_INPAINT_OT_toggle,
    VOID_INPAINT_OT_open_folder,
    VOID_INPAINT_OT_add_nodes,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
