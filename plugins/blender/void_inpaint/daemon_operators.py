# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N801 - Blender wants class names of this form
"""What an artist can press about the daemon, all of it in the add-on's preferences.

What comes in: the preferences. What goes out: a daemon that runs or not, its log, what the doctor finds, reports.
"""

from __future__ import annotations

from typing import Any

import bpy

from void_server.wire.errors import VoidError

from . import local_daemon, preferences, work

TICK_S = 0.25


class VOID_INPAINT_OT_ping(bpy.types.Operator):
    bl_idname = "void_inpaint.ping"
    bl_label = "Test Connection"
    bl_description = "Ask the daemon who it is and which engines it can run"

    def execute(self, context: Any) -> set[str]:
        try:
            self.report({"INFO"}, work.ask_hello(*preferences.server(context)))
        except VoidError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class VOID_INPAINT_OT_start_daemon(bpy.types.Operator):
    bl_idname = "void_inpaint.start_daemon"
    bl_label = "Start Daemon"
    bl_description = "Start void-server serve on this machine; it goes on when Blender quits, and so do its jobs"

    def execute(self, context: Any) -> set[str]:
        try:
            address, _ = preferences.server(context)
            made = local_daemon.start(preferences.program(context), address, preferences.own_folder())
        except VoidError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Started {made.program}; its log is below")
        return {"FINISHED"}


class VOID_INPAINT_OT_stop_daemon(bpy.types.Operator):
    bl_idname = "void_inpaint.stop_daemon"
    bl_label = "Stop Daemon"
    bl_description = "Stop the daemon that was started here; its jobs are kept and go on at the next start"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        return local_daemon.started(preferences.own_folder()) is not None

    def execute(self, _context: Any) -> set[str]:
        stopped = local_daemon.stop(preferences.own_folder())
        self.report({"INFO"}, "Stopped" if stopped else "No daemon that was started here runs")
        return {"FINISHED"}


class VOID_INPAINT_OT_open_log(bpy.types.Operator):
    bl_idname = "void_inpaint.open_log"
    bl_label = "Open Log"
    bl_description = "Open everything that the daemon on this machine has said"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        return (preferences.own_folder() / local_daemon.LOG).is_file()

    def execute(self, _context: Any) -> set[str]:
        bpy.ops.wm.path_open(filepath=str(preferences.own_folder() / local_daemon.LOG))
        return {"FINISHED"}


class VOID_INPAINT_OT_copy_install(bpy.types.Operator):
    bl_idname = "void_inpaint.copy_install"
    bl_label = "Copy Command"
    bl_description = "Copy the command that installs void-server, for a terminal; nothing is installed into Blender"

    def execute(self, context: Any) -> set[str]:
        context.window_manager.clipboard = preferences.INSTALL
        self.report({"INFO"}, f"Copied: {preferences.INSTALL}")
        return {"FINISHED"}


class VOID_INPAINT_OT_doctor(bpy.types.Operator):
    bl_idname = "void_inpaint.doctor"
    bl_label = "Check This Machine"
    bl_description = "Ask void-server doctor what this machine can do, and what it lacks"

    _doctor: local_daemon.Doctor | None = None
    _timer: Any = None

    def invoke(self, context: Any, _event: Any) -> set[str]:
        if self._begin(context):
            return {"CANCELLED"}
        self._timer = context.window_manager.event_timer_add(TICK_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        if self._begin(context):
            return {"CANCELLED"}
        while True:
            done = self._look()
            if done:
                return done

    def modal(self, context: Any, event: Any) -> set[str]:
        done = self._look() if event.type == "TIMER" else None
        if not done:
            return {"PASS_THROUGH"}
        self.cancel(context)
        for window in context.window_manager.windows:
            for area in window.screen.areas:
                if area.type == "PREFERENCES":
                    area.tag_redraw()
        return done

    def cancel(self, context: Any) -> None:
        if self._doctor is not None:
            self._doctor.stop()
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None

    def _begin(self, context: Any) -> bool:
        """Start looking; whether that failed."""
        try:
            self._doctor = local_daemon.Doctor(preferences.program(context))
        except (VoidError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return True
        return False

    def _look(self) -> set[str] | None:
        assert self._doctor is not None
        try:
            found = self._doctor.findings()
        except VoidError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if found is None:
            return None
        preferences.findings[:] = found
        lacking = [f["what"] for f in found if not f["ok"] and f["required"]]
        self.report(
            {"WARNING"} if lacking else {"INFO"}, f"Lacking: {', '.join(lacking)}" if lacking else "All is well"
        )
        return {"FINISHED"}


CLASSES = (
    VOID_INPAINT_OT_ping,
    VOID_INPAINT_OT_start_daemon,
    VOID_INPAINT_OT_stop_daemon,
    VOID_INPAINT_OT_open_log,
    VOID_INPAINT_OT_copy_install,
    VOID_INPAINT_OT_doctor,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
