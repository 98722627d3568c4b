"""What the artist reads: the panel in every state, and refusals that name the remedy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import bpy
from desk import addon


class Layout:
    """Stands in for Blender's UILayout and refuses what that would refuse: unknown properties, operators and icons."""

    ICONS: ClassVar = {i.identifier for i in bpy.types.UILayout.bl_rna.functions["prop"].parameters["icon"].enum_items}

    def __init__(self, drawn=None):
        self.drawn = [] if drawn is None else drawn
        self.heights = []

    def label(self, text="", icon="NONE", translate=True):
        assert icon in self.ICONS, icon
        self.drawn.append(text)

    def prop(self, data, name, text=None, icon="NONE", expand=False, toggle=-1, slider=False, placeholder=""):
        assert name in data.bl_rna.properties, name
        assert data.bl_rna.properties[name].description, f"{name} has no tooltip"
        assert icon in self.ICONS, icon
        self.drawn.append(name)

    def prop_search(self, data, name, where, collection, text=None, icon="NONE"):
        assert name in data.bl_rna.properties and collection in where.bl_rna.properties, (name, collection)
        assert icon in self.ICONS, icon
        self.drawn.append(name)

    def operator(self, name, text=None, icon="NONE", depress=False, translate=True):
        category, _, verb = name.partition(".")
        rna = getattr(getattr(bpy.ops, category), verb).get_rna_type()
        assert rna.description, f"{name} has no tooltip"
        assert icon in self.ICONS, icon
        self.drawn.append(f"{name}*" if depress else name)
        if text:
            self.drawn.append(text)
        return SimpleNamespace()

    def popover(self, panel, text="", icon="NONE"):
        assert hasattr(bpy.types, panel) and icon in self.ICONS
        self.drawn.append(panel)

    def progress(self, factor, text):
        assert "progress" in bpy.types.UILayout.bl_rna.functions and 0 <= factor <= 1
        self.drawn.append(text)

    def separator(self):
        pass

    def row(self, align=False):
        return Layout(self.drawn)

    def column(self, align=False):
        return Layout(self.drawn)

    def panel(self, name):
        return Layout(self.drawn), Layout(self.drawn)


def _panel():
    """Everything that the panel and its parts would draw now."""
    layout = Layout()
    for cls in addon("panel").SIDEBAR:
        if cls.poll(bpy.context):
            cls.draw(SimpleNamespace(layout=layout), bpy.context)
    return layout.drawn


def claim_the_panel_shows_what_can_be_done_in_every_state(desk):
    daemon = desk.gated()
    assert "void_inpaint.open_shot" in _panel() and "void_inpaint.remove" not in _panel()
    strip = desk.image_strip()
    assert {"mask", "void_inpaint.remove", "void_inpaint.preview", "Choose a mask, or draw one"} <= set(_panel())
    strip.void.matte_source = "STRIP"
    assert "matte_strip" in _panel() and "mask" not in _panel()
    strip.void.matte_source = "MASK"
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    assert "Ready" in _panel()
    pressed = desk.press().to("RUNNING")
    assert "void_inpaint.cancel" in _panel() and "void_inpaint.remove" not in _panel()
    addon("removal").leave_all()
    assert {"A job was left behind", "void_inpaint.reattach"} <= set(_panel())
    daemon.open_gate()
    assert bpy.ops.void_inpaint.reattach() == {"FINISHED"}
    assert {"v001 is ready", "Clean v001", "void_inpaint.show*", "Propagate"} <= set(_panel())
    assert [text for text in _panel() if text.endswith("real")]
    whole = _panel()
    desk.scene.sequence_editor.active_strip = desk.strips["plate clean v001"]
    assert _panel() == whole, "the panel of a result is that of its source"
    assert pressed.removal.state.name == "DETACHED"
    for cls in addon("panel").CLASSES:
        assert cls.poll(bpy.context) if hasattr(cls, "poll") else True
        cls.draw(SimpleNamespace(layout=Layout()), bpy.context)


def claim_every_stage_of_a_job_is_told_in_an_editors_words(desk):
    from void_server.wire.report import SHARES

    assert set(SHARES) - set(addon("states").STAGES) == {"shots"}, "only a batch on the farm tells of shots"
    desk.gated()
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    desk.press().to("RUNNING")
    drawn = _panel()  # the gate's stage is one that nobody here has a word for
    assert "Working" in drawn and "gate" not in drawn, drawn
    assert "You can keep working in the meantime" in drawn, "while the time left can't be told"


def claim_the_preferences_show_the_daemon_of_this_machine(desk):
    preferences = addon("preferences")
    drawn = []
    preferences.Preferences.draw(_Asked(preferences.of(bpy.context), drawn), bpy.context)
    assert {"server", "keys", "output", "void_inpaint.ping", "program"} <= set(drawn)


class _Asked:
    """The preferences with a layout of ours."""

    def __init__(self, asked, drawn):
        self._asked, self.layout = asked, Layout(drawn)

    def __getattr__(self, name):
        found = getattr(type(self._asked), name, None)
        return found.__get__(self) if callable(found) else getattr(self._asked, name)

    @property
    def bl_rna(self):
        return self._asked.bl_rna


def claim_no_word_of_the_command_line_reaches_the_panel(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    desk.remove()
    said = addon("results").Record.load(Path(strip.void.folder)).warnings
    assert said == tuple(dict.fromkeys(said)) and any("invented" in line for line in said), said
    for text in (*said, *_panel()):
        assert "--" not in text and "`" not in text and "AOV" not in text and ".part" not in text, text


def claim_effects_are_sure_unless_the_artist_is_bold_and_say_what_that_means(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    assert strip.void.effects == "sure" and "effects" in _panel()
    choice = type(strip.void).bl_rna.properties["effects"]
    assert all(len(item.description) > 40 for item in choice.enum_items) and choice.description
    told = {}
    for effects in ("sure", "bold"):
        strip.void.effects, strip.void.quality = effects, "release" if effects == "sure" else "draft"
        desk.remove()
        manifest = addon("words").read_manifest(Path(strip.void.folder))
        told[effects] = manifest["settings"]["effects"], manifest["settings"]["quality"]
    assert told == {"sure": ("sure", "release"), "bold": ("bold", "draft")}, "as the daemon was asked"
    strip.void.physics_prior = True
    assert bpy.ops.void_inpaint.preview() == {"FINISHED"}
    assert "Blue and orange go with it" in _panel()
    strip.void.effects = "sure"
    assert "Blue goes with it; orange only with Bold" in _panel()


def claim_a_failed_try_hides_no_good_result(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    desk.remove()
    good = strip.void.folder
    strip.void.mask = desk.box_mask(200, 100, 210, 110, name="nowhere")
    assert "The matte is empty on every frame" in desk.refused()
    assert strip.void.folder == good and Path(strip.void.attempt).name == "v002"
    drawn = _panel()
    assert {"Clean v001", "void_inpaint.show*", "VOID_INPAINT_PT_news"} <= set(drawn)
    assert any("The matte is empty on every frame" in text for text in drawn)
    assert bpy.ops.void_inpaint.add_nodes() == {"FINISHED"}
    scene = desk.scene
    tree = scene.compositing_node_group if hasattr(scene, "compositing_node_group") else scene.node_tree
    assert next(n for n in tree.nodes if n.bl_idname == "CompositorNodeGroup").label == "plate v001"


def claim_the_results_folder_may_be_beside_the_blend_file(desk):
    """Without the option Blender draws `//void` in red, as a path that it can't resolve."""
    output = addon("preferences").Preferences.bl_rna.properties["output"]
    assert output.is_path_supports_blend_relative


def claim_every_translation_is_of_a_text_that_is_there(desk):
    folder = Path(addon().__file__).parent
    code = "".join(p.read_text(encoding="utf-8") for p in folder.glob("*.py") if p.name != "translation.py")
    for language, texts in addon("translation").CATALOGUE.items():
        for (_, english), said in texts.items():
            assert said and (f'"{english}"' in code or f"{english}" in code), (language, english)
            assert english.count("{}") == said.count("{}"), english


def claim_a_failure_stays_readable_in_the_panel(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(200, 100, 210, 110)
    said = desk.refused()
    assert "The matte is empty on every frame" in said
    assert any("The matte is empty on every frame" in text for text in _panel())
    layout = Layout()
    addon("panel").VOID_INPAINT_PT_news.draw(SimpleNamespace(layout=layout), bpy.context)
    assert "The matte is empty on every frame" in " ".join(layout.drawn)


def claim_everything_that_is_wrong_is_said_at_once(desk):
    files = [desk.folder / f"gone.{i}.exr" for i in range(3)]
    strip = desk.image_strip(files=files)
    strip.void.affected_strip = "nobody"
    said = desk.refused()
    for words in ("No mask is chosen", "There is no strip 'nobody'", "3 files of the plate are not there"):
        assert words in said, said
    assert not strip.void.folder, "nothing was begun"


def claim_results_of_a_file_never_saved_go_home_and_the_panel_says_so(desk):
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    desk.scene.sequence_editor_create()
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = desk.scene
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    assert "File not saved: results go to the home folder" in _panel()
    assert addon("preferences").output_root(bpy.context) == Path.home() / "void"
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


def claim_test_connection_names_the_engines_that_can_run_and_no_other(desk):
    assert bpy.ops.void_inpaint.ping() == {"FINISHED"}
    work = addon("work")
    young = SimpleNamespace(server_version="1.0", engines=(), devices=("cpu",))
    assert "still loading its engines" in work.hello_line(young)
    desk.image_strip().void.mask = desk.box_mask(34, 20, 62, 40)
    desk.remove()  # then the worker is up
    assert work.ask_hello(desk.daemon.address, "").endswith("answers; it can run propagate on cpu")


def claim_a_preview_speaks_of_effects_and_each_warning_comes_once(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    strip.void.physics_prior = True
    look = desk.press("preview").to_end()
    assert look.reports[-1][1].startswith("What it did to the scene is in"), look.reports
    clean = desk.press().to_end()
    assert clean.reports[-1][1].startswith("Clean frames are in"), clean.reports
    for pressed in (look, clean):
        warnings = pressed.removal.record.warnings
        assert len(warnings) == len(set(warnings)) and not any(".part" in text for text in warnings), warnings


def claim_without_a_strip_nothing_can_be_pressed(desk):
    operators = addon("operators")
    for name in ("remove", "preview", "reattach", "cancel", "show", "toggle", "open_folder", "add_nodes"):
        assert not getattr(operators, f"VOID_INPAINT_OT_{name}").poll(bpy.context), name
    assert not addon("shot_operators").VOID_INPAINT_OT_draw_mask.poll(bpy.context)


def claim_the_doctests_hold(desk):
    import doctest

    for name in ("states", "words", "exr_file"):
        assert doctest.testmod(addon(name)).failed == 0 and doctest.testmod(addon(name)).attempted
