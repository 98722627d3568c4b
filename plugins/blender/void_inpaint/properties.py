# SPDX-License-Identifier: GPL-3.0-or-later

"""What an artist decides about a strip, and what the add-on remembers on it. Saved, undone and copied with the strip.

What comes in: nothing. What goes out: `Strip.void`. It does nothing.
"""

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

HIDDEN = {"HIDDEN"}


def _mute_matte(settings: bpy.types.PropertyGroup, _context: bpy.types.Context) -> None:
    """A strip that is chosen as a matte is no picture any more; one with alpha alone would show as noise."""
    matte = settings.id_data.sequence_editor.strips.get(settings.matte_strip)
    if matte is not None:
        matte.mute = True


class StripSettings(bpy.types.PropertyGroup):
    matte_source: EnumProperty(
        name="Matte",
        description="What says which pixels to remove",
        items=[
            ("MASK", "Mask", "A mask drawn over the strip's own picture in the Image or Clip editor"),
            ("STRIP", "Strip", "Another strip, white where to remove; it may be muted"),
            ("ALPHA", "Own Alpha", "The alpha of the strip itself, opaque where to remove"),
        ],
    )
    mask: PointerProperty(
        name="Mask", type=bpy.types.Mask, description="Mask over the strip's own picture, covering what to remove"
    )
    matte_strip: StringProperty(
        name="Matte Strip",
        description="Strip that is white where to remove, frame by frame beside this one; it is muted",
        update=_mute_matte,
    )
    matte_channel: EnumProperty(
        name="Channel",
        description="Which channel of the matte strip to take",
        items=[
            ("AUTO", "Automatic", "The channel that holds a matte; red of pictures that are rendered"),
            ("R", "Red", "White where to remove"),
            ("A", "Alpha", "Opaque where to remove"),
        ],
    )
    invert: BoolProperty(name="Invert", description="Remove what the matte does not cover")
    physics_prior: BoolProperty(
        name="Shadows and Reflections",
        default=True,
        description="Remove what the object did to the scene too: its shadow, its reflection",
    )
    effects: EnumProperty(
        name="Effects",
        default="sure",
        description="How much of what may be the object's doing is removed with it",
        items=[
            ("sure", "Sure", "Only what is surely the object's doing, blue in the preview. Nothing else is touched"),
            (
                "bold",
                "Bold",
                "Also what is only suspected, orange in the preview. Look at the result: a shadow of something else "
                "may be gone with it",
            ),
        ],
    )
    affected_strip: StringProperty(
        name="Affected", description="Strip that is white where the object affected the scene; replaces finding it"
    )
    keep_strip: StringProperty(
        name="Keep", description="Strip that is white on what passes in front of the object and must stay"
    )
    reference_strip: StringProperty(
        name="Reference",
        description="Strip with one or more painted stills of the clean scene, each at its own frame; they are trusted "
        "above anything found, and carried through the shot",
    )
    prompt: StringProperty(name="Prompt", description="The scene after removal, for engines that read text")
    engine: EnumProperty(
        name="Engine",
        description="What fills the hole",
        items=[
            ("auto", "Automatic", "VOID where it can run, else Propagate"),
            ("propagate", "Propagate", "Real background from other frames; any CPU"),
            ("void", "VOID", "Netflix VOID; needs a GPU and its weights at the daemon"),
        ],
    )
    quality: EnumProperty(
        name="Quality",
        default="release",
        description="How much time VOID may take; Propagate knows one quality",
        items=[
            ("draft", "Draft", "A first look, to judge matte and timing"),
            ("release", "Release", "What VOID was made for"),
            (
                "fine",
                "Fine",
                "A larger picture, as near the strip's own size as the card has room for. Several times slower",
            ),
        ],
    )
    grow_px: FloatProperty(
        name="Grow",
        default=3,
        min=0,
        max=1000,
        soft_max=50,
        subtype="PIXEL",
        description="How far around the matte may change",
    )
    feather_px: FloatProperty(
        name="Feather",
        default=2,
        min=0,
        max=1000,
        soft_max=50,
        subtype="PIXEL",
        description="Width of the soft edge inside it",
    )
    seed: IntProperty(name="Seed", default=0, min=0, description="Another number, another invention")
    context: IntProperty(
        name="Context",
        default=24,
        min=0,
        max=500,
        subtype="TIME",
        description="Frames hidden before and after the strip's handles that may be looked at for background",
    )
    only_preview_range: BoolProperty(
        name="Preview Range Only",
        description="Work on the timeline's preview range only, and lay the result over what is there",
    )
    output: EnumProperty(
        name="Output",
        description="What the new strip holds",
        items=[
            ("AUTO", "Automatic", "Full where the strip's own EXR files were sent, Patch where it had to be rendered"),
            ("PATCH", "Patch", "Only what changed, transparent elsewhere; the strip below stays as it is"),
            ("FULL", "Full", "Whole clean frames; the original is muted"),
        ],
    )
    show_effects: BoolProperty(
        name="Show Effects",
        description="Lay what the object did to the scene over the preview: blue where it is sure and removed, orange "
        "where it is only suspected and stays, unless Bold is chosen. Never in a render",
    )
    effects_opacity: FloatProperty(
        name="Opacity",
        default=0.6,
        min=0,
        max=1,
        subtype="FACTOR",
        description="How strongly the effects are shown over the preview",
    )
    mark: StringProperty(options=HIDDEN)
    run: StringProperty(options=HIDDEN)
    attempt: StringProperty(options=HIDDEN, subtype="DIR_PATH")
    folder: StringProperty(options=HIDDEN, subtype="DIR_PATH")
    looked: StringProperty(options=HIDDEN, subtype="DIR_PATH")
    source: StringProperty(options=HIDDEN)
    version: IntProperty(options=HIDDEN)
    shows: StringProperty(options=HIDDEN)
    partial: BoolProperty(options=HIDDEN)


def register() -> None:
    bpy.utils.register_class(StripSettings)
    bpy.types.Strip.void = PointerProperty(type=StripSettings)


def unregister() -> None:
    del bpy.types.Strip.void
    bpy.utils.unregister_class(StripSettings)
