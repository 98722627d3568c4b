# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N801 - Blender wants class names of this form
"""What an artist can press to bring in a shot, or to draw over it.

What comes in: a file of a plate, or the active strip. What goes out: strips with their matte beside them, a mask, and a
window to draw and track it in.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, ClassVar

import bpy

from . import exr_file, timeline
from .operators import active_source

KINDS = (".exr", ".png", ".tif", ".tiff", ".jpg", ".jpeg", ".dpx")
MATTES = ("matte", "mattes", "mask", "roto")
"""Names under which a matte lies beside its plate."""


def sequence_of(path: Path) -> list[Path]:
    """The files of a numbered sequence, in order; the file alone where it has no number."""
    found = re.fullmatch(r"(.*?)(\d+)(\.[^.]+)", path.name)
    if not found:
        return [path]
    alike = re.compile(re.escape(found[1]) + r"(\d+)" + re.escape(found[3]))
    numbered = [(int(m[1]), p) for p in path.parent.iterdir() if (m := alike.fullmatch(p.name))]
    return [p for _, p in sorted(numbered)]


def matte_beside(plate: Path, count: int) -> list[Path]:
    """A matte sequence of as many frames: in a folder beside the plate's, or in the same one. Empty where none is."""
    folders = [plate.parent.parent / name for name in MATTES] + [plate.parent]
    for folder in (f for f in folders if f.is_dir()):
        for path in sorted(folder.iterdir()):
            stem = path.name.lower()
            if path.suffix.lower() in KINDS and path != plate and stem.startswith(MATTES):
                files = sequence_of(path)
                return files if len(files) == count else []
    return []


class VOID_INPAINT_OT_open_shot(bpy.types.Operator):
    bl_idname = "void_inpaint.open_shot"
    bl_label = "Open Shot"
    bl_description = "Add an image sequence by any of its files, and the matte that lies beside it"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_image: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: Any) -> bool:
        return timeline.scene_of(context) is not None

    def invoke(self, context: Any, _event: Any) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        picked = Path(self.filepath)
        if not picked.is_file() or picked.suffix.lower() not in KINDS:
            self.report({"ERROR"}, "Pick one file of an image sequence; add movies with Add, Movie")
            return {"CANCELLED"}
        scene = timeline.scene_of(context)
        editor = scene.sequence_editor_create()
        plate = sequence_of(picked)
        matte = matte_beside(picked, len(plate))
        empty = not len(editor.strips)
        if empty:
            self._fit_scene(scene, picked, len(plate))
        first = scene.frame_current
        below = timeline.free_channel(scene, first, first + len(plate), 0)
        if matte and below is not None:
            strip = _add(scene, matte, below, first)
            strip.mute = True
        above = timeline.free_channel(scene, first, first + len(plate), below if matte and below else 0)
        if above is None:
            self.report({"ERROR"}, "No channel is free here. Move the playhead, or delete a strip")
            return {"CANCELLED"}
        source = _add(scene, plate, above, first)
        if matte:
            source.void.matte_source, source.void.matte_strip = "STRIP", strip.name
        for other in editor.strips:
            other.select = other == source
        editor.active_strip = source
        if empty and not bpy.app.background:
            # Once it is drawn: until then the preview has the size of the scene as it was.
            bpy.app.timers.register(_show_all, first_interval=FILL_S)
        return {"FINISHED"}

    def _fit_scene(self, scene: Any, picked: Path, count: int) -> None:
        """A timeline with nothing on it takes the shot's size and length."""
        scene.frame_start, scene.frame_end = scene.frame_current, scene.frame_current + count - 1
        try:
            width, height = exr_file.size(exr_file.windows(picked)[1])
        except (OSError, ValueError):
            image = bpy.data.images.load(str(picked), check_existing=False)
            width, height = image.size
            bpy.data.images.remove(image)
        if width and height:
            scene.render.resolution_x, scene.render.resolution_y = width, height
            scene.render.resolution_percentage = 100


def _add(scene: Any, files: list[Path], channel: int, first: int) -> Any:
    name = re.sub(r"[._-]*\d*$", "", files[0].stem) or files[0].stem
    strip = timeline.strips_of(scene).new_image(
        name, str(files[0]), channel=channel, frame_start=first, fit_method="ORIGINAL"
    )
    for path in files[1:]:
        strip.elements.append(path.name)
    return strip


def _show_all() -> None:
    """Show a shot that is alone on the timeline from end to end, and its picture as large as each preview is."""
    for window in bpy.context.window_manager.windows:
        for area in (a for a in window.screen.areas if a.type == "SEQUENCE_EDITOR"):
            for region in area.regions:
                fit = {"WINDOW": bpy.ops.sequencer.view_all, "PREVIEW": bpy.ops.sequencer.view_all_preview}
                if region.type not in fit or min(region.width, region.height) <= 1:
                    continue
                with (
                    contextlib.suppress(RuntimeError),
                    bpy.context.temp_override(window=window, area=area, region=region),
                ):
                    fit[region.type]()


class VOID_INPAINT_OT_draw_mask(bpy.types.Operator):
    bl_idname = "void_inpaint.draw_mask"
    bl_label = "Draw Mask"
    bl_description = (
        "Open the strip's picture in a window of its own, to draw a mask over it and track it with Blender's tracker"
    )
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        strip = active_source(context)
        if strip is None or strip.type not in ("IMAGE", "MOVIE"):
            cls.poll_message_set("Select an image or movie strip")
            return False
        return True

    def execute(self, context: Any) -> set[str]:
        strip = active_source(context)
        clip = clip_of(strip)
        if clip is None:
            self.report({"ERROR"}, f"The file of '{strip.name}' can't be opened")
            return {"CANCELLED"}
        if strip.void.mask is None:
            strip.void.mask = bpy.data.masks.new(f"{strip.name} mask")
            strip.void.mask.frame_start, strip.void.mask.frame_end = timeline.left(strip), timeline.right(strip) - 1
        strip.void.matte_source = "MASK"
        if not bpy.app.background:
            bpy.ops.wm.window_new()
            area = context.window_manager.windows[-1].screen.areas[0]
            area.type = "CLIP_EDITOR"
            space = area.spaces.active
            space.clip, space.mode, space.mask = clip, "MASK", strip.void.mask
            # Its regions have their sizes only once it is drawn.
            bpy.app.timers.register(lambda: _fill(bpy.context.window_manager.windows[-1]), first_interval=FILL_S)
        return {"FINISHED"}


FILL_S = 0.1


def _fill(window: Any) -> None:
    """Show all of the picture, as large as a window of ours is; where that is gone or another, nothing is done."""
    area = window.screen.areas[0]
    region = next((r for r in area.regions if r.type == "WINDOW"), None)
    if area.type == "CLIP_EDITOR" and region is not None:
        with contextlib.suppress(RuntimeError), bpy.context.temp_override(window=window, area=area, region=region):
            bpy.ops.clip.view_all(fit_view=True)


def clip_of(strip: Any) -> Any:
    """The strip's files as a movie clip that is in time with the timeline; None where Blender can't open them."""
    library = strip.id_data.library
    if strip.type == "MOVIE":
        path = bpy.path.abspath(strip.filepath, library=library)
    else:
        path = str(Path(bpy.path.abspath(strip.directory, library=library)) / strip.elements[0].filename)
    try:
        clip = bpy.data.movieclips.load(path, check_existing=True)
    except RuntimeError:
        return None
    clip.frame_start = round(timeline.content_start(strip))
    if strip.type == "IMAGE":
        clip.colorspace_settings.name = strip.colorspace_settings.name
    return clip


CLASSES = (VOID_INPAINT_OT_open_shot, VOID_INPAINT_OT_draw_mask)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
