# SPDX-License-Identifier: GPL-3.0-or-later
"""What the object did to the scene, laid over the sequencer's preview: blue where it is sure, orange where suspected.

What comes in: the active strip, the EXR files of its newest look or result. What goes out: pixels on the screen, never
in a render. It changes nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import exr_file, timeline
from .results import Record

SURE, SUSPECTED = (0.12, 0.45, 1.0), (1.0, 0.55, 0.05)
CHANNELS = ("affected", "suspected")
LARGEST = 960
"""Pixels of the longer side; finer is not seen under a tint, and decoding must keep up with playback."""
KEPT = 64
"""Frames kept as textures."""

_textures: OrderedDict[tuple[str, int], Any] = OrderedDict()
_handles: list[Any] = []


def folder_of(strip: Any) -> Path | None:
    """The newest folder that says what the object did: of a look at it, or of a result."""
    folders = [Path(f) for f in (strip.void.looked, strip.void.folder) if f and Path(f).is_dir()]
    return max(folders, key=lambda f: f.stat().st_mtime_ns, default=None)


def file_at(folder: Path, strip: Any, frame: int) -> Path | None:
    """The file with the effects at a timeline frame; the strip may have been moved since."""
    record = Record.load(folder)
    if record is None:
        return None
    shot_frame = frame - round(timeline.content_start(strip) - record.anchor)
    for part in ("affected", "aov"):
        if record.frame(part, shot_frame).is_file():
            return record.frame(part, shot_frame)
    return None


def tint(path: Path) -> np.ndarray:
    """float32 [H, W, 4], display-encoded, not multiplied by alpha, rows from the bottom, no side over `LARGEST`.

    Files that know nothing of suspected effects show the sure ones. Raises OSError, ValueError.
    """
    found = exr_file.read(path, CHANNELS)
    if "affected" not in found:
        raise ValueError(f"{path} does not say what was affected")
    step = max(1, math.ceil(max(found["affected"].shape) / LARGEST))
    sure = np.clip(found["affected"][::step, ::step], 0, 1)
    suspected = np.clip(found["suspected"][::step, ::step], 0, 1) if "suspected" in found else np.zeros_like(sure)
    alpha = np.maximum(sure, suspected)
    share = np.divide(sure, np.maximum(sure + suspected, 1e-6))[..., None]
    colour = share * np.float32(SURE) + (1 - share) * np.float32(SUSPECTED)
    return np.ascontiguousarray(np.concatenate([colour, alpha[..., None]], -1)[::-1], np.float32)


def corners(strip: Any, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Where the corners of a strip's picture lie in the preview, whose origin is the middle of the frame, in pixels of
    the render: bottom left, bottom right, top right, top left.

    Source: the sequencer's own order, sequencer/intern/render.cc: mirror, then scale and rotate about the origin, then
    move.
    """
    transform = strip.transform
    extent = np.array(size, float)
    box = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * extent
    box *= [-1 if strip.use_flip_x else 1, -1 if strip.use_flip_y else 1]
    pivot = (np.array(transform.origin) - 0.5) * extent
    cosine, sine = math.cos(transform.rotation), math.sin(transform.rotation)
    turned = ((box - pivot) * [transform.scale_x, transform.scale_y]) @ [[cosine, sine], [-sine, cosine]]
    placed = turned + pivot + [transform.offset_x, transform.offset_y]
    return [(float(x), float(y)) for x, y in placed]


def _draw() -> None:
    context = bpy.context
    scene = timeline.scene_of(context)
    strip = timeline.source_of(scene, timeline.active_strip(context)) if scene is not None else None
    if strip is None or not strip.void.show_effects or strip.type not in timeline.KINDS:
        return
    frame = scene.frame_current
    folder = folder_of(strip)
    if folder is None or not timeline.left(strip) <= frame < timeline.right(strip):
        return
    path = file_at(folder, strip, frame)
    texture = _texture(path) if path is not None else None
    if texture is not None:
        _draw_texture(texture, strip, context.region)


def _texture(path: Path) -> Any:
    """The texture of a file, made when first needed; None where the file says nothing."""
    import gpu

    key = str(path), path.stat().st_mtime_ns
    if key not in _textures:
        try:
            pixels = tint(path)
        except (OSError, ValueError):
            return None
        height, width = pixels.shape[:2]
        buffer = gpu.types.Buffer("FLOAT", pixels.size, pixels.ravel())
        _textures[key] = gpu.types.GPUTexture((width, height), format="RGBA16F", data=buffer)
        while len(_textures) > KEPT:
            _textures.popitem(last=False)
    _textures.move_to_end(key)
    return _textures[key]


def _draw_texture(texture: Any, strip: Any, region: Any) -> None:
    import gpu
    from gpu_extras.batch import batch_for_shader

    from .pictures import size_of

    size = size_of(strip)
    if not all(size):
        return
    view = region.view2d
    places = [view.view_to_region(x, y, clip=False) for x, y in corners(strip, size)]
    shader = gpu.shader.from_builtin("IMAGE_COLOR")
    batch = batch_for_shader(
        shader,
        "TRI_FAN",
        {"pos": places, "texCoord": ((0, 0), (1, 0), (1, 1), (0, 1))},
    )
    gpu.state.blend_set("ALPHA")
    shader.bind()
    shader.uniform_sampler("image", texture)
    shader.uniform_float("color", (1.0, 1.0, 1.0, strip.void.effects_opacity))
    batch.draw(shader)
    gpu.state.blend_set("NONE")


def register() -> None:
    if not bpy.app.background:
        _handles.append(bpy.types.SpaceSequenceEditor.draw_handler_add(_draw, (), "PREVIEW", "POST_PIXEL"))


def unregister() -> None:
    while _handles:
        bpy.types.SpaceSequenceEditor.draw_handler_remove(_handles.pop(), "PREVIEW")
    _textures.clear()
