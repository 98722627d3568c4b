# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the daemon is and where results go: the same for every file of this user.

What comes in: the preferences of this add-on. What goes out: an address that may be used, a folder that can be, the
program that may be started.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, StringProperty

from void_server.farm.client import is_farm, parse
from void_server.wire.errors import RefusedError, SettingsError
from void_server.wire.identity import check_address, is_loopback
from void_server.wire.messages import DEFAULT_ADDRESS

from . import local_daemon

INSTALL = "pip install ."
"""What brings the daemon onto a machine, outside Blender, in a clone of the project."""

findings: list[dict[str, Any]] = []
"""What `void-server doctor` found, once it was asked."""


class Preferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    server: StringProperty(
        name="Daemon",
        default=DEFAULT_ADDRESS,
        description="Address of void-server serve; or deadline10, or deadline10:pool=gpu;chunk=24, for the farm",
    )
    keys: StringProperty(
        name="Keys",
        subtype="DIR_PATH",
        description="This machine's keys; for a daemon elsewhere only",
    )
    output: StringProperty(
        name="Results",
        default="//void",
        subtype="DIR_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
        description="Where frames go; // is beside the blend file",
    )
    program: StringProperty(
        name="Program",
        subtype="FILE_PATH",
        description="The program void-server on this machine; leave empty to look for it on the PATH",
    )
    start_daemon: BoolProperty(
        name="Start When Needed",
        default=True,
        description="Start the daemon on this machine when Remove Object is pressed and nobody answers",
    )

    def draw(self, _context: Any) -> None:
        layout = self.layout
        layout.use_property_split = True
        for name in ("server", "keys", "output"):
            layout.prop(self, name)
        layout.operator("void_inpaint.ping", icon="URL")
        if not is_farm(self.server) and is_loopback(self.server):
            self._draw_local(layout)

    def _draw_local(self, layout: Any) -> None:
        layout.separator()
        header, body = layout.panel("void_inpaint_daemon")
        header.label(text="Daemon on This Machine")
        if body is None:
            return
        body.prop(self, "program", placeholder=local_daemon.find_program() or "not found")
        program, made = local_daemon.find_program(self.program), local_daemon.started(own_folder())
        if made is None and not program:
            column = body.column(align=True)
            column.label(text="void-server is not installed here, or lies elsewhere: point at it above.", icon="INFO")
            column.label(text=f"To install it, in a terminal:  {INSTALL}")
            column.operator("void_inpaint.copy_install", icon="COPYDOWN")
            return
        body.prop(self, "start_daemon")
        row = body.row(align=True)
        if made is None:
            row.operator("void_inpaint.start_daemon", icon="PLAY")
        else:
            row.operator("void_inpaint.stop_daemon", icon="SNAP_FACE")
        row.operator("void_inpaint.open_log", icon="TEXT")
        row.operator("void_inpaint.doctor", icon="CHECKMARK")
        said = body.column(align=True)
        if made is not None:
            since = time.strftime("%H:%M", time.localtime(made.since))
            said.label(text=f"Runs since {since} at {made.address}", icon="CHECKMARK")
        for line in local_daemon.log_tail(own_folder()):
            said.label(text=line[:120])
        _draw_findings(body)


def _draw_findings(layout: Any) -> None:
    """What the doctor found: first what keeps shots from being done, then what is merely absent, then what is well."""
    if not findings:
        return
    column = layout.column(align=True)
    for finding in sorted(findings, key=lambda f: (bool(f.get("ok")), not f.get("required"))):
        ok, required = bool(finding.get("ok")), bool(finding.get("required"))
        icon = "CHECKMARK" if ok else ("ERROR" if required else "REMOVE")
        column.label(text=f"{finding.get('what')}: {finding.get('detail')}"[:140], icon=icon)
        if not ok and finding.get("hint"):
            column.label(text=str(finding["hint"])[:140], icon="BLANK1")


def of(context: Any) -> Preferences:
    return context.preferences.addons[__package__].preferences


def own_folder() -> Path:
    """A folder of this add-on's own, for the daemon's log."""
    return Path(bpy.utils.extension_path_user(__package__, create=True))


def server(context: Any) -> tuple[str, str]:
    """Address and keys folder. Raises SettingsError, or RefusedError where Blender is told to stay offline."""
    asked = of(context)
    if is_farm(asked.server):
        # Deadline's own client speaks to the farm; Blender itself stays off the network.
        parse(asked.server)
        return asked.server, ""
    check_address(asked.server)
    if not is_loopback(asked.server) and not bpy.app.online_access:
        raise RefusedError(
            f"Blender may not go online, and the daemon {asked.server} is not on this machine.",
            "Allow it in Preferences, System, Network.",
        )
    return asked.server, bpy.path.abspath(asked.keys) if asked.keys else ""


def may_start(context: Any) -> tuple[str, Path] | None:
    """Program and folder with which a run may start the daemon that it lacks; None where it may not."""
    asked = of(context)
    if not asked.start_daemon or is_farm(asked.server) or not is_loopback(asked.server):
        return None
    program = local_daemon.find_program(asked.program)
    return (program, own_folder()) if program else None


def program(context: Any) -> str:
    """The program void-server. Raises SettingsError where it is not found."""
    found = local_daemon.find_program(of(context).program)
    if not found:
        raise SettingsError(
            f"The program {of(context).program or local_daemon.PROGRAM} was not found.",
            "Install void-server on this machine, outside Blender, or point at it in the add-on's preferences.",
        )
    return found


def output_root(context: Any) -> Path:
    """Folder for all results: beside the blend file, and in the home folder while that was never saved."""
    asked = of(context).output or "//void"
    if asked.startswith("//") and not bpy.data.filepath:
        return Path.home() / asked[2:]
    return Path(bpy.path.abspath(asked))


def register() -> None:
    bpy.utils.register_class(Preferences)


def unregister() -> None:
    bpy.utils.unregister_class(Preferences)
    findings.clear()
