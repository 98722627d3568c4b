# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the daemon is and where results go: the same for every file of this user.

What comes in: the preferences of this add-on. What goes out: an address that may be used, a folder that can be.
"""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty

from void_server.farm.client import is_farm, parse
from void_server.wire.client import DEFAULT_ADDRESS
from void_server.wire.errors import OutputError, RefusedError
from void_server.wire.identity import check_address, is_loopback


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
        description="Where frames go; // is beside the blend file",
    )

    def draw(self, _context: Any) -> None:
        for name in ("server", "keys", "output"):
            self.layout.prop(self, name)
        self.layout.operator("void_inpaint.ping", icon="URL")


def of(context: Any) -> Preferences:
    return context.preferences.addons[__package__].preferences


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


def output_root(context: Any) -> Path:
    """Folder for all results. Raises OutputError for one beside a file that was never saved."""
    asked = of(context).output or "//void"
    if asked.startswith("//") and not bpy.data.filepath:
        raise OutputError(
            "The blend file was never saved, so there is no folder beside it.",
            "Save it, or name an absolute folder in the add-on's preferences.",
        )
    return Path(bpy.path.abspath(asked))


def register() -> None:
    bpy.utils.register_class(Preferences)


def unregister() -> None:
    bpy.utils.unregister_class(Preferences)
