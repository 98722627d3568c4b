# SPDX-License-Identifier: GPL-3.0-or-later

"""What an artist decides about a strip, and what the add-on remembers on it. Saved, undone and copied with the strip.

What comes in: nothing. What goes out: `Strip.void`. It does nothing.
"""

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

HIDDEN = {"HIDDEN"}


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
    mask: PointerProperty(name="Mask", type=bpy.types.Mask, description="Mask in the picture's own space")
    matte_strip: StringProperty(name="Matte Strip", description="Strip with the matte, frame by frame beside this")
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
        name="Find What It Did", default=True, description="Remove its shadow, reflection and other effects too"
    )
    affected_strip: StringProperty(
        name="Affected", description="Strip that is white where the object affected the scene; replaces finding it"
    )
    keep_strip: StringProperty(name="Keep", description="Strip that is white on what passes in front of the object")
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
    grow_px: FloatProperty(
        name="Grow",
        default=3,
        min=0,
        max=1000,
        subtype="PIXEL",
        description="How far around the matte may change",
    )
    feather_px: FloatProperty(
        name="Feather", default=2, min=0, max=1000, subtype="PIXEL", description="Width of the soft edge inside it"
    )
    seed: IntProperty(name="Seed", default=0, min=0, description="Another number, another invention")
    output: EnumProperty(
        name="Output",
        description="What the new strip holds",
        items=[
            ("AUTO", "Automatic", "Full where the strip's own EXR files were sent, Patch where it had to be rendered"),
            ("PATCH", "Patch", "Only what changed, transparent elsewhere; the strip below stays as it is"),
            ("FULL", "Full", "Whole clean frames; the original is muted"),
        ],
    )
    mark: StringProperty(options=HIDDEN)
    run: StringProperty(options=HIDDEN)
    folder: StringProperty(options=HIDDEN, subtype="DIR_PATH")
    source: StringProperty(options=HIDDEN)
    version: IntProperty(options=HIDDEN)
    shows: StringProperty(options=HIDDEN)


def register() -> None:
    bpy.utils.register_class(StripSettings)
    bpy.types.Strip.void = PointerProperty(type=StripSettings)


def unregister() -> None:
    del bpy.types.Strip.void
    bpy.utils.unregister_class(StripSettings)
