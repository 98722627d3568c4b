"""What the artist reads: the panel in every state, and refusals that name the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import bpy
from desk import Daemon, addon


class Layout:
    """Stands in for Blender's UILayout and refuses what that would refuse: unknown properties, operators and icons."""

    ICONS: ClassVar = {i.identifier for i in bpy.types.UILayout.bl_rna.functions["prop"].parameters["icon"].enum_items}

    def __init__(self, drawn=None):
        self.drawn = [] if drawn is None else drawn

    def label(self, text="", icon="NONE"):
        assert icon in self.ICONS, icon
        self.drawn.append(text)

    def prop(self, data, name):
        assert name in data.bl_rna.properties, name
        self.drawn.append(name)

    def prop_search(self, data, name, where, collection, icon="NONE"):
        assert name in data.bl_rna.properties and collection in where.bl_rna.properties, (name, collection)
        assert icon in self.ICONS, icon
        self.drawn.append(name)

    def operator(self, name, icon="NONE"):
        category, _, verb = name.partition(".")
        getattr(getattr(bpy.ops, category), verb).get_rna_type()
        assert icon in self.ICONS, icon
        self.drawn.append(name)

    def progress(self, factor, text):
        assert "progress" in bpy.types.UILayout.bl_rna.functions and 0 <= factor <= 1
        self.drawn.append(text)

    def separator(self):
        pass

    def row(self):
        return Layout(self.drawn)

    def column(self, align=False):
        return Layout(self.drawn)


def _panel():
    layout = Layout()
    addon("panel").draw(layout, bpy.context)
    return layout.drawn


def claim_the_panel_shows_what_can_be_done_in_every_state(desk):
    daemon = desk.gated()
    assert _panel() == ["Select an image, movie or scene strip"]
    strip = desk.image_strip()
    assert {"mask", "void_inpaint.remove", "void_inpaint.preview"} <= set(_panel())
    strip.void.matte_source = "STRIP"
    assert "matte_strip" in _panel() and "mask" not in _panel()
    strip.void.matte_source = "MASK"
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    pressed = desk.press().to("RUNNING")
    assert "void_inpaint.cancel" in _panel()
    addon("removal").leave_all()
    assert {"A job was left behind", "void_inpaint.reattach"} <= set(_panel())
    daemon.open_gate()
    assert bpy.ops.void_inpaint.reattach() == {"FINISHED"}
    assert "READY: v001" in _panel()
    desk.scene.sequence_editor.active_strip = desk.strips["plate clean v001"]
    assert "void_inpaint.toggle" in _panel() and "void_inpaint.remove" not in _panel()
    assert pressed.removal.state.name == "DETACHED"
    for cls in addon("panel").CLASSES:
        assert cls.poll(bpy.context)
        cls.draw(type("Drawn", (), {"layout": Layout()})(), bpy.context)


def claim_a_failure_stays_readable_in_the_panel(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(200, 100, 210, 110)
    said = desk.refused()
    assert "The matte is empty on every frame" in said
    text = " ".join(_panel())
    assert "FAILED: The matte is empty on every frame" in text


def claim_everything_that_is_wrong_is_said_at_once(desk):
    files = [desk.folder / f"gone.{i}.exr" for i in range(3)]
    strip = desk.image_strip(files=files)
    strip.void.affected_strip = "nobody"
    said = desk.refused()
    for words in ("No mask is chosen", "There is no strip 'nobody'", "3 files of the plate are not there"):
        assert words in said, said
    assert not strip.void.folder, "nothing was begun"


def claim_a_file_never_saved_is_refused_unless_an_absolute_folder_is_named(desk):
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    desk.scene.sequence_editor_create()
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = desk.scene
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    assert "The blend file was never saved" in desk.refused()
    asked = bpy.context.preferences.addons[addon().__name__].preferences
    asked.output = str(desk.folder / "elsewhere")
    try:
        assert desk.remove()
    finally:
        asked.output = "//void"
    assert Path(strip.void.folder) == desk.folder / "elsewhere/plate/v001"


def claim_another_machine_is_asked_only_when_blender_may_go_online(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    asked = bpy.context.preferences.addons[addon().__name__].preferences
    assert not bpy.app.online_access
    asked.server = "tcp://192.0.2.1:5790"
    assert "Blender may not go online" in desk.refused()
    asked.server = "nonsense"
    assert "is not the address of a daemon" in desk.refused()


def claim_test_connection_answers(desk):
    assert bpy.ops.void_inpaint.ping() == {"FINISHED"}
    assert isinstance(desk.daemon, Daemon)


def claim_without_a_strip_nothing_can_be_pressed(desk):
    operators = addon("operators")
    for name in ("remove", "preview", "reattach", "cancel", "toggle", "open_folder", "add_nodes"):
        assert not getattr(operators, f"VOID_INPAINT_OT_{name}").poll(bpy.context), name


def claim_the_doctests_hold(desk):
    import doctest

    for name in ("states",):
        assert doctest.testmod(addon(name)).failed == 0 and doctest.testmod(addon(name)).attempted
