"""Runs in Blender's Python: stages one description and renders it three times.

What comes in: a description as JSON, a folder. What goes out, in it: `full`, `unseen` and `removed`, one 32-bit EXR a
frame, all passes in it, and `staged.json` with the names of what is removed and of who stays. Pictures are taken out of
the camera untouched: grain, lens and haze are laid on by `photography`.

    full      everything
    unseen    the object invisible to camera and light; everything else moves as before
    removed   the object gone, and whatever falls simulated again. Only where that changes anything
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import bpy
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from tests.shots.blender import light_scenes, motion, physics_scenes
from tests.shots.blender.sets import Staged
from tests.shots.description import Description

KINDS = {**light_scenes.KINDS, **physics_scenes.KINDS}
HAZE_DEPTH_M = 60.0
"""The mist pass runs from 0 at the camera to 1 here, straight."""
REACH = 1.6
"""How far around a thing, in its own sizes, a locked camera is rendered again: its shadow is there."""


def main(given: str, folder: Path) -> None:
    d = Description(**json.loads(given))
    started = time.perf_counter()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    _settings(scene, d)
    staged = KINDS[d.kind](d)
    folder.mkdir(parents=True, exist_ok=True)
    removed, others = [thing.name for thing in staged.removed], [thing.name for thing in staged.bystanders]
    facts = {"removed": removed, "bystanders": others, "optics": dict(staged.optics), "changes": staged.changes}
    facts |= {"blender": bpy.app.version_string, "haze_depth_m": HAZE_DEPTH_M}
    facts["seconds"] = {"staging": time.perf_counter() - started}
    facts["cpu_seconds"] = {"staging": time.process_time()}
    for state in ("full", "unseen", "removed") if staged.changes else ("full", "unseen"):
        began, worked = time.perf_counter(), time.process_time()
        _state(staged, state, d)
        # A locked camera on things that rest sees one picture; with the object, another only around it.
        still = bool(staged.optics.get("still"))
        once = still and state != "full"
        for frame in range(1, 2 if once else d.frames + 1):
            scene.frame_set(frame)
            if staged.shape:
                staged.shape(frame, state != "removed")
            # The same paths in every state, so that what doesn't differ comes out the same; fresh ones each frame.
            scene.cycles.seed = d.seed * 1000 + (0 if still else frame)
            _border(scene, staged.removed if still and not once else ())
            scene.render.filepath = str(folder / f"{state}.{frame:04d}.exr")
            bpy.ops.render.render(write_still=True)
        facts["seconds"][state] = time.perf_counter() - began
        facts["cpu_seconds"][state] = time.process_time() - worked
    (folder / "staged.json").write_text(json.dumps(facts), encoding="utf-8")


def _settings(scene, d: Description) -> None:
    render, cycles = scene.render, scene.cycles
    render.engine, cycles.device = "CYCLES", "CPU"
    render.resolution_x, render.resolution_y, render.resolution_percentage = d.width, d.height, 100
    render.fps, scene.frame_start, scene.frame_end = 24, 1, d.frames
    cycles.samples, cycles.use_adaptive_sampling = d.samples, False
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_prefilter, cycles.denoising_quality = "FAST", "BALANCED"
    deep = d.kind in ("glass", "ripples")
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = (8 if deep else 4), 2, 3
    cycles.transmission_bounces = 6 if deep else 2
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 6
    render.use_motion_blur, render.motion_blur_shutter = True, 0.5
    render.use_persistent_data = True
    render.image_settings.file_format, render.image_settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
    layer = scene.view_layers[0]
    layer.name = "shot"
    layer.use_pass_cryptomatte_object = layer.use_pass_mist = True


def _border(scene, things) -> None:
    """Render only where `things` are seen, and REACH of their size around them; everything without any."""
    scene.render.use_border = bool(things)
    if not things:
        return
    graph = bpy.context.evaluated_depsgraph_get()
    seen = [
        world_to_camera_view(scene, scene.camera, thing.evaluated_get(graph).matrix_world @ Vector(corner))
        for thing in things
        for corner in thing.bound_box
    ]
    for low, high, axis in (("border_min_x", "border_max_x", 0), ("border_min_y", "border_max_y", 1)):
        from_, to = min(p[axis] for p in seen), max(p[axis] for p in seen)
        setattr(scene.render, low, max(0.0, from_ - REACH * (to - from_)))
        setattr(scene.render, high, min(1.0, to + REACH * (to - from_)))


def _state(staged: Staged, state: str, d: Description) -> None:
    world = bpy.context.scene.world
    world.mist_settings.start, world.mist_settings.depth, world.mist_settings.falloff = 0, HAZE_DEPTH_M, "LINEAR"
    for thing in staged.removed:
        thing.hide_render = state != "full"
    for name, places in (staged.without_it if state == "removed" else staged.with_it).items():
        motion.follow(bpy.data.objects[name], places, d.frames)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.flush()
