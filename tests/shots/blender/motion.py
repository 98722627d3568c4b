"""How things move: walks, flights, handheld cameras, and bodies that fall as Blender's solver has them fall.

What comes in: objects, and functions of time. What goes out: key frames, or the places of bodies frame by frame. Frame
1 of Blender is the first of the shot; a few more are keyed around it, for motion blur.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import bpy
from mathutils import Matrix, Vector

from tests.shots.blender.pieces import Figure

AROUND = 2
STRIDE = 1.45
"""Metres a walker goes in two steps."""
SUBSTEPS, ITERATIONS = 24, 30


def span(frames: int) -> range:
    return range(1 - AROUND, frames + AROUND + 1)


def keyed(thing: bpy.types.Object, frames: int, at: Callable[[float], tuple[Sequence[float], Sequence[float]]]) -> None:
    """at(seconds of 24 frames since the first) -> (location, rotation)."""
    for frame in span(frames):
        place, turn = at((frame - 1) / 24)
        thing.location, thing.rotation_euler = place, turn
        thing.keyframe_insert("location", frame=frame)
        thing.keyframe_insert("rotation_euler", frame=frame)
    _straight(thing)


def walk(
    who: Figure, frames: int, start: Sequence[float], heading: float, speed: float, phase: float = 0.0
) -> Callable[[float], float]:
    """Walk from `start` towards `heading` (degrees) at `speed` (m/s). Returns the gait's angle at a second."""

    def gait(t: float) -> float:
        return phase + 2 * math.pi * t * max(abs(speed), 0.02) / STRIDE

    way = math.radians(heading)
    swing = min(1.0, abs(speed) / 0.9)

    def root(t: float):
        s, bob = speed * t, 0.025 * swing * abs(math.sin(gait(t))) - 0.03 * swing
        return (start[0] + s * math.cos(way), start[1] + s * math.sin(way), bob), (0, 0, way)

    keyed(who.root, frames, root)
    for frame in span(frames):
        angle = gait((frame - 1) / 24)
        for side, sign in (("left", 1), ("right", -1)):
            a = math.sin(angle) * sign
            lifted = max(0.0, math.cos(angle) * sign)
            turns = {
                "hip": -0.5 * a * swing, "knee": (0.12 + 0.85 * lifted) * swing,
                "shoulder": 0.45 * a * swing, "elbow": -0.25 - 0.25 * max(0.0, -a) * swing,
            }  # fmt: skip
            for joint, turn in turns.items():
                limb = who.limbs[f"{side}.{joint}"]
                limb.rotation_euler[1] = turn
                limb.keyframe_insert("rotation_euler", frame=frame)
    for limb in who.limbs.values():
        _straight(limb)
    return gait


def camera(
    rng: random.Random,
    frames: int,
    place: Sequence[float],
    aim: Sequence[float],
    *,
    focal: float = 35,
    fstop: float | None = 2.8,
    shake: float = 1.0,
    drift: Sequence[float] = (0, 0, 0),
    pan: float = 0.0,
) -> bpy.types.Object:
    """shake: of a held camera, 1 as in a hand; drift: metres a second; pan: degrees a second, past `aim` half-way."""
    data = bpy.data.cameras.new("camera")
    data.lens, data.clip_end = focal, 400
    if fstop:
        data.dof.use_dof, data.dof.aperture_fstop = True, fstop
        data.dof.focus_distance = (Vector(aim) - Vector(place)).length
    eye = bpy.data.objects.new("camera", data)
    bpy.context.scene.collection.objects.link(eye)
    bpy.context.scene.camera = eye
    tremble = [
        [(rng.uniform(0.3, 4.5), rng.uniform(0, 6.28), rng.gauss(0, 1)) for _ in range(7)] for _ in range(6)
    ]  # fmt: skip
    facing = (Vector(aim) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
    middle = frames / 48

    def at(t: float):
        held = [shake * sum(g / (1 + f) * math.sin(2 * math.pi * f * t + p) for f, p, g in axis) for axis in tremble]
        where = [place[i] + drift[i] * t + 0.012 * held[i] for i in range(3)]
        turn = [facing[i] + 0.0035 * held[3 + i] for i in range(3)]
        turn[2] -= math.radians(pan) * (t - middle)
        return where, turn

    keyed(eye, frames, at)
    return eye


def simulate(
    frames: int, bodies: Sequence[bpy.types.Object], fixed: Sequence[bpy.types.Object],
    carried: Sequence[bpy.types.Object] = (), *, before: int = 0, speeds: Mapping[str, tuple] | None = None,
    mass: Mapping[str, float] | None = None,
) -> dict[str, list[Matrix]]:  # fmt: skip
    """Where `bodies` are in every frame of `span`: they fall onto `fixed`, and `carried`, which follow keys, push them.

    before: frames that pass first, in which nothing that is keyed moves. speeds: (m/s) by name, given to bodies as a
    thrown one has them at the first frame.
    """
    scene = bpy.context.scene
    started = {body.name: body.matrix_world.copy() for body in bodies}
    bpy.ops.rigidbody.world_add()
    world = scene.rigidbody_world
    first = 1 - AROUND - before
    world.substeps_per_frame, world.solver_iterations = SUBSTEPS, ITERATIONS
    world.point_cache.frame_start, world.point_cache.frame_end = first, frames + AROUND + 1
    for thing, kind in [(b, "ACTIVE") for b in bodies] + [(f, "PASSIVE") for f in (*fixed, *carried)]:
        bpy.context.view_layer.objects.active = thing
        bpy.ops.rigidbody.object_add(type=kind)
        body = thing.rigid_body
        round_one = thing.name.startswith("ball")
        flat = thing.name.startswith("ground")
        body.collision_shape = "SPHERE" if round_one else "BOX" if not flat else "MESH"
        body.friction, body.restitution, body.use_margin, body.collision_margin = 0.7, 0.25, True, 0.002
        body.linear_damping, body.angular_damping = 0.02, 0.05
        body.mass = (mass or {}).get(thing.name, 1.0)
        body.kinematic = thing in carried
    for body in bodies:
        speed = (speeds or {}).get(body.name)
        if speed:
            # A body that follows its keys until it is let go keeps their speed.
            loose = 1 - AROUND
            home = Vector(body.location)
            for frame in (first - 2, loose):
                body.location = home + Vector(speed) * ((frame - loose) / 24)
                body.keyframe_insert("location", frame=frame)
            _straight(body)
            body.rigid_body.kinematic = True
            body.rigid_body.keyframe_insert("kinematic", frame=loose - 1)
            body.rigid_body.kinematic = False
            body.rigid_body.keyframe_insert("kinematic", frame=loose)
    places: dict[str, list[Matrix]] = {body.name: [] for body in bodies}
    for frame in range(first, frames + AROUND + 1):
        scene.frame_set(frame)
        if frame >= 1 - AROUND:
            graph = bpy.context.evaluated_depsgraph_get()
            for body in bodies:
                places[body.name].append(body.evaluated_get(graph).matrix_world.copy())
    bpy.ops.rigidbody.world_remove()
    for body in bodies:
        body.animation_data_clear()
        body.matrix_world = started[body.name]
    return places


def follow(thing: bpy.types.Object, places: Sequence[Matrix], frames: int) -> None:
    """Key the places that `simulate` found; older keys go."""
    thing.animation_data_clear()
    thing.rotation_mode = "QUATERNION"
    last = None
    for frame, place in zip(span(frames), places):
        where, turn, _ = place.decompose()
        if last is not None and last.dot(turn) < 0:
            turn.negate()
        last = turn
        thing.location, thing.rotation_quaternion = where, turn
        thing.keyframe_insert("location", frame=frame)
        thing.keyframe_insert("rotation_quaternion", frame=frame)
    _straight(thing)


def _straight(thing: bpy.types.Object) -> None:
    for curve in thing.animation_data.action.fcurves if thing.animation_data else ():
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
