# SPDX-License-Identifier: GPL-3.0-or-later
"""The sequencer's timeline in words that Blender 4.5 and 5.x share.

What comes in: scenes and strips. What goes out: handles, channels, strips found again by name or by the mark of a run.
It is the only module that knows which version names what. It renders nothing and reads no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy

LAST_CHANNEL = 128
"""Blender clamps a strip's channel here; DNA_sequence_types.h, MAX_CHANNELS."""

KINDS = ("IMAGE", "MOVIE", "SCENE")
"""Types of strip that hold a picture of their own."""

INPUTS = ("input_1", "input_2")
"""Properties of an effect strip that name what it is made from."""


def scene_of(context: Any) -> Any:
    """The scene that the sequencer shows: 5.x lets a workspace name another than the window's."""
    return getattr(context, "sequencer_scene", None) or context.scene


def strips_of(scene: Any) -> Any:
    """Top-level strips of a scene; an empty tuple where it has no sequencer."""
    return scene.sequence_editor.strips if scene is not None and scene.sequence_editor else ()


def active_strip(context: Any) -> Any:
    scene = scene_of(context)
    return scene.sequence_editor.active_strip if scene is not None and scene.sequence_editor else None


def left(strip: Any) -> int:
    """First timeline frame that shows the strip."""
    return int(strip.left_handle if hasattr(strip, "left_handle") else strip.frame_final_start)


def right(strip: Any) -> int:
    """First timeline frame after the strip."""
    return int(strip.right_handle if hasattr(strip, "right_handle") else strip.frame_final_end)


def set_handles(strip: Any, first: int, end: int) -> None:
    """Trim a strip to first <= frame < end; what it shows at a frame does not move."""
    if hasattr(strip, "left_handle"):
        strip.right_handle, strip.left_handle = end, first
    else:
        strip.frame_final_end, strip.frame_final_start = end, first


def shows_neighbours(scene: Any, strip: Any) -> bool:
    """Whether Blender may show a neighbour of the frame that it should, by what it showed before.

    Blender 5.x remembers pictures of a strip by whole frames, so those of a strip that lies between them, retimed or a
    movie of another frame rate, depend on the order in which they are asked for (measured, 5.2.2 and 5.2.3: a strip at
    70 % rendered forwards, backwards and from an empty memory gives three series). The last is what
    `strip_elem_from_frame` names, and what Blender 4.5 shows.
    """
    if bpy.app.version < (5, 0, 0):
        return False
    rate = scene.render.fps / scene.render.fps_base
    own = strip.elements[0].orig_fps if strip.type == "MOVIE" and strip.elements else 0
    return len(getattr(strip, "retiming_keys", ())) > 0 or (own > 0 and abs(own - rate) > 0.01)


def content_start(strip: Any) -> float:
    """Timeline frame at which the strip's first picture would lie: moves when the strip is moved, not when trimmed."""
    return float(strip.content_start if hasattr(strip, "content_start") else strip.frame_start)


def free_channel(scene: Any, first: int, end: int, above: int) -> int | None:
    """Lowest channel over `above` that is empty from `first` to `end`; None where all are taken."""
    busy = {s.channel for s in strips_of(scene) if left(s) < end and right(s) > first}
    return next((channel for channel in range(above + 1, LAST_CHANNEL + 1) if channel not in busy), None)


def find(scene_name: str, run: str, name: str) -> tuple[Any, Any]:
    """(scene, strip) of a run; (None, None) once they are gone.

    The mark of the run comes first, since names change; a copied strip carries the same mark, so among several the name
    decides. An undo past the start of the run takes the mark away; then the name alone finds it.
    """
    scenes = sorted(bpy.data.scenes, key=lambda s: s.name != scene_name)
    marked = [(s, strip) for s in scenes for strip in strips_of(s) if run and strip.void.run == run]
    for scene, strip in marked:
        if strip.name == name:
            return scene, strip
    if marked:
        return marked[0]
    scene = bpy.data.scenes.get(scene_name)
    strip = strips_of(scene).get(name) if scene is not None and strips_of(scene) else None
    return (scene, strip) if strip is not None else (None, None)


def results_of(scene: Any, mark: str) -> list[Any]:
    """Strips that show clean frames of the strip with this mark, newest first."""
    found = [s for s in strips_of(scene) if mark and s.void.source == mark and s.void.shows != "affected"]
    return sorted(found, key=lambda s: -s.void.version)


def shown_result(scene: Any, mark: str) -> int:
    """Version of the clean strip that is on view; 0 while the original is."""
    return next((s.void.version for s in results_of(scene, mark) if not s.mute), 0)


def show_result(scene: Any, mark: str, version: int) -> None:
    """Put one version on view, and parts made after it no more than before it; 0 shows the original."""
    results = results_of(scene, mark)
    below = next((s.void.version for s in results if s.void.version <= version and not s.void.partial), 0)
    for strip in results:
        own = strip.void.version
        strip.mute = own != below and not (strip.void.partial and below < own <= version)
    whole = next((s for s in results if not s.mute and s.void.shows == "clean" and not s.void.partial), None)
    sources = [s for s in strips_of(scene) if s.void.mark == mark]
    for strip in sources:
        strip.mute = whole is not None
    if len(sources) == 1:  # of a copied strip nobody knows whose effects are meant
        _feed_effects(scene, [*sources, *results], sources[0] if whole is None else whole)


def inputs_of(strip: Any) -> list[Any]:
    """The strips that an effect or a transition is made from; none of any other strip."""
    return [found for name in INPUTS if (found := getattr(strip, name, None)) is not None]


def effects_on(scene: Any, strip: Any) -> list[Any]:
    """Effects and transitions that show a strip, or a result of it, as their input."""
    family = [strip, *results_of(scene, strip.void.mark)]
    return [effect for effect in strips_of(scene) if any(own in family for own in inputs_of(effect))]


def _feed_effects(scene: Any, family: list[Any], shown: Any) -> None:
    """Make effects and transitions over one of a family of strips show the one on view, from above it: a strip over its
    effect would hide it (sequencer/intern/render.cc, must_render_strip)."""
    for effect in list(strips_of(scene)):
        for name in INPUTS:
            if getattr(effect, name, None) in family:
                setattr(effect, name, shown)
    _lift_effects(scene, shown)


def _lift_effects(scene: Any, strip: Any) -> None:
    for effect in [e for e in strips_of(scene) if strip in inputs_of(e)]:
        if effect.channel <= strip.channel:
            channel = free_channel(scene, left(effect), right(effect), strip.channel)
            effect.channel = channel or effect.channel
        _lift_effects(scene, effect)


def covered(scene: Any, source: Any, result: Any) -> list[str]:
    """Names of the strips between a source and its result, or an effect over it, that it now hides: titles, grades."""
    mine = [source, *results_of(scene, source.void.mark)]
    top = result
    while above := [e for e in strips_of(scene) if top in inputs_of(e)]:
        top = max(above, key=lambda e: e.channel)
        mine += above
    between = [s for s in strips_of(scene) if source.channel < s.channel < top.channel and s not in mine]
    beside = [s for s in between if left(s) < right(top) and right(s) > left(top)]
    inputs = [own for effect in strips_of(scene) for own in inputs_of(effect)]
    return [s.name for s in beside if not s.mute and s.type != "SOUND" and not s.void.source and s not in inputs]


def source_of(scene: Any, strip: Any) -> Any:
    """The strip that a result, a preview or an effect was made from; any other strip itself. A transition is made from
    two, and remains itself."""
    while len(inputs := inputs_of(strip)) == 1:
        (strip,) = inputs
    if strip is None or not strip.void.source:
        return strip
    return next((s for s in strips_of(scene) if s.void.mark == strip.void.source), strip)


def mark(scene: Any, strip: Any, fresh: str) -> None:
    """Give a strip a mark of its own; a copied strip carries that of its origin until then."""
    alike = [s for s in strips_of(scene) if s.void.mark == strip.void.mark]
    if not strip.void.mark or len(alike) > 1:
        strip.void.mark = fresh


def animated(scene: Any, strip: Any) -> Iterator[Any]:
    """F-curves that animate a strip."""
    data = scene.animation_data
    if data is None or data.action is None:
        return
    prefix = strip.path_from_id() + "."
    for layer in data.action.layers:
        for part in layer.strips:
            bag = part.channelbag(data.action_slot)
            for curve in list(bag.fcurves) if bag else ():
                if curve.data_path.startswith(prefix):
                    yield bag, curve


def working_space() -> str:
    """Name of the scene-linear space that rendered EXR files are in; 5.x lets a blend file choose."""
    spaces = getattr(bpy.data, "colorspace", None)
    return str(spaces.working_space) if spaces is not None else "Linear Rec.709"
