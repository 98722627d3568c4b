"""One zip, no pip: Blender's own installer unpacked the add-on and its wheels."""

from __future__ import annotations

import sys
from pathlib import Path

import bpy
from desk import GIVEN, addon


def claim_the_wheels_come_from_the_zip(desk):
    import msgpack
    import zmq

    import void_server

    resources = Path(GIVEN["resources"])
    for module in (zmq, msgpack, void_server):
        assert resources in Path(module.__file__).parents, module.__file__
    assert addon().__name__ == "bl_ext.user_default.void_inpaint"
    assert "numpy" in sys.modules and "OpenEXR" not in Path(zmq.__file__).parent.name


def claim_the_add_on_goes_and_comes_without_a_trace(desk):
    name = addon().__name__
    handlers = len(bpy.app.handlers.load_pre)
    assert bpy.ops.preferences.addon_disable(module=name) == {"FINISHED"}
    assert not hasattr(bpy.types.Strip, "void")
    assert not hasattr(bpy.types, "VOID_INPAINT_OT_remove")
    assert len(bpy.app.handlers.load_pre) == handlers - 1
    assert bpy.ops.preferences.addon_enable(module=name) == {"FINISHED"}
    assert hasattr(bpy.types.Strip, "void")
