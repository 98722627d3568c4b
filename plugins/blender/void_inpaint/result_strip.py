# SPDX-License-Identifier: GPL-3.0-or-later
"""The strip that shows a result: on a free channel above its source, looking the same, following it.

What comes in: the record of a run, and which of its files to show. What goes out: a strip. It reads no pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import bpy

from void_server.wire.errors import OutputError

from . import timeline
from .results import Record

LOOK = (
    "use_flip_x",
    "use_flip_y",
    "blend_alpha",
    "color_multiply",
    "color_saturation",
    "multiply_alpha",
    "use_linear_modifiers",
)
TRANSFORM = ("scale_x", "scale_y", "offset_x", "offset_y", "rotation", "origin", "filter")
CROP = ("min_x", "max_x", "min_y", "max_y")
FOLLOWED = ("transform.", "crop.", "blend_alpha", "color_multiply", "color_saturation", "multiply_alpha")
"""Animated properties of the source that the result takes over."""
RESULT_TAG, PREVIEW_TAG = "COLOR_04", "COLOR_05"


def insert(record: Record, part: str) -> Any:
    """Show files `part` of a run above its source. Raises OutputError where the source or a free channel lacks."""
    scene, source = timeline.find(record.scene, record.run, record.strip)
    if source is None:
        raise OutputError(
            f"Strip '{record.strip}' is no longer there; the frames are in {record.folder}.",
            "Undo until it is back and press Remove again, or add the frames as an image strip.",
        )
    shift = round(timeline.content_start(source) - record.anchor)
    first, end = record.first + shift, record.end + shift
    shown = max(first, timeline.left(source)), min(end, timeline.right(source))
    if shown[0] >= shown[1]:
        shown = first, end
    above = max([source.channel, *(s.channel for s in timeline.results_of(scene, source.void.mark) if record.partial)])
    channel = timeline.free_channel(scene, first, end, above)
    if channel is None:
        raise OutputError(
            f"No channel above '{source.name}' is free; the frames are in {record.folder}.",
            "Delete or move a strip, then add the frames as an image strip.",
        )
    frames = range(record.first, record.end)
    name = f"{record.strip} {'clean' if part != 'affected' else 'affected'} v{record.version:03d}"
    strip = timeline.strips_of(scene).new_image(
        name, str(record.frame(part, record.first)), channel=channel, frame_start=first, fit_method="ORIGINAL"
    )
    for frame in frames[1:]:
        strip.elements.append(record.frame(part, frame).name)
    if bpy.data.filepath and not scene.library:
        with contextlib.suppress(ValueError):  # another drive has no relative path
            strip.directory = bpy.path.relpath(str(record.folder)) + "/"
    timeline.set_handles(strip, *shown)
    _look_alike(strip, source)
    source.void.mark = source.void.mark or record.run
    if part == "affected":
        # Muted, so that it is in no render: it is there to be painted on, and the overlay shows it.
        strip.mute, strip.color_tag = True, PREVIEW_TAG
        strip.colorspace_settings.name = "Non-Color"
        source.void.looked, source.void.show_effects = str(record.folder), True
    else:
        strip.color_tag = RESULT_TAG
        strip.colorspace_settings.name = record.space
        strip.blend_type = "ALPHA_OVER" if part == "patch" else source.blend_type
        strip.alpha_mode = "PREMUL" if part == "patch" else getattr(source, "alpha_mode", "PREMUL")
        _copy_modifiers(strip, source)
        _copy_animation(scene, strip, source)
        source.void.folder, source.void.show_effects = str(record.folder), False
    strip.void.source, strip.void.version, strip.void.folder = source.void.mark, record.version, str(record.folder)
    strip.void.shows, strip.void.partial = part, record.partial
    if part != "affected":
        if record.partial:
            strip.mute = False  # it lies over what is there
        else:
            # A whole clean frame replaces its source, opacity and blending included; a patch lies over it.
            muted = source.mute
            timeline.show_result(scene, source.void.mark, record.version)
            source.mute = source.mute or muted
    return strip


def _look_alike(strip: Any, source: Any) -> None:
    for name in (*LOOK, "use_linear_modifiers"):  # the last is 4.5's only
        if hasattr(source, name) and hasattr(strip, name):
            setattr(strip, name, getattr(source, name))
    for name in TRANSFORM:
        setattr(strip.transform, name, getattr(source.transform, name))
    for name in CROP:
        setattr(strip.crop, name, getattr(source.crop, name))


def _copy_modifiers(strip: Any, source: Any) -> None:
    for modifier in source.modifiers:
        _copy_values(strip.modifiers.new(modifier.name, modifier.type), modifier)


def _copy_values(target: Any, source: Any, depth: int = 0) -> None:
    """Copy what can be set, and what lies inside what can't: colour balances, curves and their points."""
    if depth > 4:
        return
    for prop in source.bl_rna.properties:
        name = prop.identifier
        if name in ("rna_type", "name", "type"):
            continue
        if prop.type == "COLLECTION":
            _copy_items(getattr(target, name), getattr(source, name), depth)
        elif not prop.is_readonly:
            with contextlib.suppress(AttributeError, TypeError):
                setattr(target, name, getattr(source, name))
        elif prop.type == "POINTER" and getattr(source, name) is not None:
            _copy_values(getattr(target, name), getattr(source, name), depth + 1)


def _copy_items(target: Any, source: Iterable[Any], depth: int) -> None:
    items = list(source)
    while hasattr(target, "new") and len(target) < len(items):
        target.new(0.5, 0.5)  # a point of a curve; its place is copied next
    for index, item in enumerate(items):
        _copy_values(target[index], item, depth + 1)


def _copy_animation(scene: Any, strip: Any, source: Any) -> None:
    before, after = source.path_from_id() + ".", strip.path_from_id() + "."
    for bag, curve in list(timeline.animated(scene, source)):
        rest = curve.data_path[len(before) :]
        if not rest.startswith(FOLLOWED):
            continue
        copy = bag.fcurves.new(after + rest, index=curve.array_index)
        copy.extrapolation = curve.extrapolation
        copy.keyframe_points.add(len(curve.keyframe_points))
        for new, old in zip(copy.keyframe_points, curve.keyframe_points):
            new.co, new.interpolation, new.easing = old.co, old.interpolation, old.easing
            new.handle_left_type, new.handle_right_type = old.handle_left_type, old.handle_right_type
            new.handle_left, new.handle_right = old.handle_left, old.handle_right
        copy.update()
