# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels through Blender: a strip or a mask alone, rendered to float EXR, and the patch that a result is shown as.

What comes in: strips, masks, EXR files. What goes out: EXR files on disk, as the sequencer itself would show them: no
view transform, no dither, no transform of the strip. It decides nothing about frames, and knows neither daemon nor job.

Measured on Blender 4.5.15, 5.0.1, 5.1.2 and 5.2.3, each held by a test:
- A scene of our own in the working space with use_float gives mattes exactly; Blender's defaults decode them as sRGB.
- Before 5.2 Blender leaves the last pixel of a mask strip uninitialised; its neighbour is the nearest truth.
- `render(scene=...)` renders the frame of the *context's* scene; only an override renders the one that was set.
- A copied scene keeps its animation, which would undo what is neutralised here, so that is cleared.
- A float image reads verbatim only if its colour space is Non-Color.
- A picture of an EXR file with alpha alone has noise for colours; its alpha is right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import exr_file, timeline
from .exr_file import Box

STAGE = ".void stage"
"""Prefix of scenes of our own; they never outlive a run."""
NEUTRAL = {"blend_type": "REPLACE", "blend_alpha": 1.0, "color_multiply": 1.0, "color_saturation": 1.0, "mute": False}


class Stage:
    """A scene that shows one picture and nothing else, made when first needed and again when an undo took it away.

    forgetful: made again for each frame. What Blender 5.x shows of a retimed strip depends on the frames that it showed
    before (see `timeline.shows_neighbours`).
    """

    def __init__(self, name: str, build: Callable[[], Any], forgetful: bool = False) -> None:
        self._name = f"{STAGE} {name}"
        self._build = build
        self._forgetful = forgetful

    def render(self, frame: int, path: Path) -> None:
        """Write the picture at a timeline frame as half-float EXR with alpha. Raises RuntimeError if Blender can't."""
        if self._forgetful:
            self.close()
        scene = bpy.data.scenes.get(self._name)
        if scene is None:
            scene = self._build()
            scene.name = self._name
        scene.frame_current = frame
        if scene.frame_current != frame:
            raise RuntimeError(f"Blender does not go to frame {frame}")
        scene.render.filepath = str(path)
        with bpy.context.temp_override(scene=scene):
            bpy.ops.render.render(write_still=True)
        if not path.is_file():
            raise RuntimeError(f"Blender wrote no picture for frame {frame}")

    def close(self) -> None:
        scene = bpy.data.scenes.get(self._name)
        if scene is not None:
            bpy.data.scenes.remove(scene)


def strip_stage(
    name: str, scene: str, run: str, strip: str, *, as_matte: bool, raw_alpha: bool, forgetful: bool = False
) -> Stage:
    """A strip alone, at its own size, untransformed, unfiltered.

    as_matte: the file's numbers as they are, not decoded from sRGB. raw_alpha: colour not multiplied by alpha.
    forgetful: see `Stage`.
    """

    def build() -> Any:
        owner, source = timeline.find(scene, run, strip)
        if source is None:
            raise RuntimeError(f"strip '{strip}' is gone")
        width, height = size_of(source)
        copy = owner.copy()
        copy.animation_data_clear()
        own = timeline.strips_of(copy)
        for other in list(own):
            if other.name != source.name and other.name in own:  # an effect goes with its input
                own.remove(other)
        _neutralise(own[source.name], as_matte, raw_alpha)
        return _for_rendering(copy, width, height)

    return Stage(name, build, forgetful)


def mask_stage(name: str, mask: str, width: int, height: int, first: int, end: int) -> Stage:
    """A mask data-block over a picture of that size, animated as on the timeline."""

    def build() -> Any:
        source = bpy.data.masks.get(mask)
        if source is None:
            raise RuntimeError(f"mask '{mask}' is gone")
        scene = bpy.data.scenes.new(STAGE)
        # A mask strip shows the mask's own first frame first. A copy that starts with the shot keeps timeline time.
        copy = source.copy()
        copy.frame_start, copy.frame_end = first, end
        strips = scene.sequence_editor_create().strips
        strip = strips.new_mask("mask", copy, channel=1, frame_start=first)
        strip.use_float = True
        strip.blend_type = "REPLACE"
        copy.use_fake_user = False
        return _for_rendering(scene, width, height)

    return MaskStage(name, build)


class MaskStage(Stage):
    """A stage whose mask is a copy of the artist's, gone with it."""

    def close(self) -> None:
        scene = bpy.data.scenes.get(self._name)
        copies = []
        for strip in [s for s in timeline.strips_of(scene) if s.type == "MASK"]:
            copies.append(strip.mask)
            # With its scene, 4.5 miscounts the mask's users and prints an error; 5.2 prints it either way (measured).
            timeline.strips_of(scene).remove(strip)
        super().close()
        for copy in copies:
            if copy is not None:
                bpy.data.masks.remove(copy)


def close_all() -> None:
    """Remove every stage, those of an earlier crash included."""
    for scene in [s for s in bpy.data.scenes if s.name.startswith(STAGE)]:
        MaskStage(scene.name[len(STAGE) + 1 :], lambda: None).close()


def size_of(strip: Any) -> tuple[int, int]:
    """Width and height of a strip's own picture; (0, 0) where Blender does not know."""
    if strip.type == "SCENE":
        if strip.scene is None:
            return 0, 0
        render = strip.scene.render
        share = render.resolution_percentage / 100
        return int(render.resolution_x * share), int(render.resolution_y * share)
    # Elements after the first carry uninitialised sizes where a script appended them.
    element = strip.elements[0] if strip.elements else None
    return (element.orig_width, element.orig_height) if element else (0, 0)


def _neutralise(strip: Any, as_matte: bool, raw_alpha: bool) -> None:
    for name, value in NEUTRAL.items():
        setattr(strip, name, value)
    strip.use_flip_x = strip.use_flip_y = False
    transform = strip.transform
    transform.scale_x = transform.scale_y = 1
    transform.offset_x = transform.offset_y = transform.rotation = 0
    transform.origin = (0.5, 0.5)
    transform.filter = "NEAREST"
    for side in ("min_x", "max_x", "min_y", "max_y"):
        setattr(strip.crop, side, 0)
    for modifier in list(strip.modifiers):
        strip.modifiers.remove(modifier)
    if hasattr(strip, "use_proxy"):
        strip.use_proxy = False
    if as_matte and hasattr(strip, "colorspace_settings"):
        strip.colorspace_settings.name = "Non-Color"
    if raw_alpha and hasattr(strip, "alpha_mode"):
        strip.alpha_mode = "PREMUL"


def _for_rendering(scene: Any, width: int, height: int) -> Any:
    render, image = scene.render, scene.render.image_settings
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1
    render.use_sequencer, render.use_compositing = True, False
    render.use_border = render.use_stamp = render.use_multiview = False
    render.use_file_extension = False
    render.use_overwrite, render.use_placeholder = True, False
    render.dither_intensity = 0
    scene.sequencer_colorspace_settings.name = timeline.working_space()
    if "media_type" in image.bl_rna.properties:  # 5.x asks for this first
        image.media_type = "IMAGE"
    image.file_format, image.color_mode = "OPEN_EXR", "RGBA"
    image.color_depth, image.exr_codec = "16", "ZIP"
    image.color_management = "FOLLOW_SCENE"
    return scene


def finish_matte(
    path: Path,
    *,
    out: Path | None = None,
    invert: bool = False,
    channel: int = 0,
    last_pixel: bool = False,
    plate: Path | None = None,
    own: Path | None = None,
) -> None:
    """Make a picture the matte that it is meant to be: one channel, 1 = remove, on the plate's windows.

    out: where it goes; without it, in place. channel: 0 for red, 3 for alpha. last_pixel: take the last pixel, at the
    top right, from its left neighbour. plate: the EXR that the matte lies over. own: the EXR file that the picture was.
    Blender shows an EXR's data window and ignores its display window (measured, 4.5.15 and 5.2.3); so a picture of an
    EXR file lies in that file's own data window, and any other in the plate's data or display window, whichever is as
    large. Raises RuntimeError where it is neither.
    """
    with _loaded(path) as pixels:
        value = pixels[::-1, :, channel].copy()
    if last_pixel and value.shape[1] > 1:
        value[0, -1] = value[0, -2]
    box = display = None
    if own is not None:
        box, display = exr_file.windows(own)
        value, box = _laid(value, box, display)
    if plate is not None:
        data, display = exr_file.windows(plate)
        fits = (b for b in (data, display) if exr_file.size(b) == (value.shape[1], value.shape[0]))
        box = box or next(fits, None)
        if box is None:
            is_, wanted = (f"{w}x{h}" for w, h in ((value.shape[1], value.shape[0]), exr_file.size(display)))
            raise RuntimeError(f"The matte over {plate.name} is {is_} and not {wanted}. Use EXR mattes, as a strip.")
        if invert:  # outside of its own window a matte removes nothing, and what is inverted everything
            value, box = _laid(value, box, _around(data, display))
    exr_file.write(out or path, {"A": 1 - value if invert else value}, box, display)


def place_plate(path: Path, own: Path) -> None:
    """Give a rendered picture of an EXR file, in place, the windows of that file, which Blender drops."""
    data, display = exr_file.windows(own)
    if data == display:
        return
    with _loaded(path) as pixels:
        light = pixels[::-1].copy()
    exr_file.write(path, {name: light[..., i] for i, name in enumerate("RGBA")}, data, display)


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _laid(value: np.ndarray, box: Box, over: Box) -> tuple[np.ndarray, Box]:
    """[H, W] of `box` on a canvas of zeros that covers `over` too, and the canvas's box."""
    whole = _around(box, over)
    if whole == box:
        return value, box
    width, height = exr_file.size(whole)
    canvas = np.zeros((height, width), np.float32)
    x, y = box[0] - whole[0], box[1] - whole[1]
    canvas[y : y + value.shape[0], x : x + value.shape[1]] = value
    return canvas, whole


def write_patch(clean: Path, plate: Path, out: Path) -> bool:
    """What changed, and nothing else: clean light with alpha 1 where it differs from the plate by a bit, else nothing.

    Laid over the plate this gives the clean frame to the bit, and moves with no rounding of anything around it.
    Returns whether the plate was see-through where it changed, which no patch can say. Raises RuntimeError for files
    that Blender can't read as one picture.
    """
    with _loaded(clean) as new, _loaded(plate) as old:
        if new.shape != old.shape:
            raise RuntimeError(f"{clean.name} and {plate.name} differ in size")
        hole = (new[..., :3].view(np.uint32) != old[..., :3].view(np.uint32)).any(-1)
        patch = np.where(hole[..., None], new, np.float32(0))[::-1]
    see_through = bool((patch[..., 3][hole[::-1]] < 1).any())
    patch[..., 3] = hole[::-1]
    exr_file.write(out, {name: patch[..., i] for i, name in enumerate("RGBA")})
    return see_through


@contextlib.contextmanager
def _loaded(path: Path) -> Iterator[np.ndarray]:
    """float32 [H, W, 4] as stored, rows bottom-up. Raises RuntimeError where there are no such pixels."""
    image = bpy.data.images.load(str(path), check_existing=False)
    try:
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "CHANNEL_PACKED"
        width, height = image.size
        if not width or not height or image.channels != 4 or len(image.pixels) != width * height * 4:
            raise RuntimeError(f"{path.name} holds no single picture that Blender can read")
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
        yield pixels.reshape(height, width, 4)
    finally:
        bpy.data.images.remove(image)
