"""Kinds of shots in which the object changes nothing but light: shadows, reflections, glow, and hard photography.

What comes in: a description. What goes out: a staged scene. `KINDS` names them all.
"""

from __future__ import annotations

import math

import bpy

from tests.shots.blender import materials, motion, pieces
from tests.shots.blender.sets import Staged, room, street, surface, thing
from tests.shots.description import Description


def _sides(rng, reach: float = 2.2) -> tuple[float, float]:
    """Where a walk starts, and which way it goes."""
    return (-reach, 0.0) if rng.random() < 0.5 else (reach, 180.0)


def soft_shadow(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, rng.choice(("concrete", "sand", "asphalt")), soft=rng.uniform(3, 7))
    who = pieces.figure(rng, "walker")
    x, heading = _sides(rng, 1.5)
    motion.walk(who, d.frames, (x, rng.uniform(0, 0.6)), heading, 1.7 * 24 / d.frames, rng.uniform(0, 6))
    motion.camera(rng, d.frames, (rng.uniform(-1, 1), -6.0, 1.75), (0, 0.5, 0.8), focal=rng.uniform(38, 44))
    return Staged(who.parts)


def hd(d: Description) -> Staged:
    return soft_shadow(d)


def shaded_actor(d: Description) -> Staged:
    rng = d.random("scene")
    left = rng.random() < 0.5
    sign = 1 if left else -1
    street(rng, rng.choice(("concrete", "asphalt", "planks")), elevation=rng.uniform(27, 33),
           azimuth=196 if left else 344, soft=rng.uniform(0.6, 1.6))  # fmt: skip
    actor = pieces.figure(rng, "actor")
    motion.walk(actor, d.frames, (sign * 1.0, 0.55), 270 - sign * 30, 0.05)
    load = pieces.box("load", (0.8, 0.7, rng.uniform(1.3, 1.5)), surface(rng, "planks", "card", "paint"), 0.02)
    base = load.dimensions.z / 2 or 0.7
    speed = 1.6 * 24 / d.frames
    motion.keyed(
        load, d.frames, lambda t: ((sign * (-2.3 + speed * t), -0.1, base + 0.02), (0, 0, 0.06 * math.sin(3 * t)))
    )
    motion.camera(rng, d.frames, (0, -6.4, 1.7), (0, 0.5, 0.85), focal=41, shake=0.7)
    return Staged([load], actor.parts)


def crossing(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, rng.choice(("concrete", "asphalt", "tiles")), soft=rng.uniform(0.5, 2))
    pace = 24 / d.frames
    who, behind, front = (pieces.figure(rng, name) for name in ("walker", "behind", "front"))
    x, heading = _sides(rng, 0.7)
    motion.walk(who, d.frames, (x, 0.2), heading, 1.3 * pace, rng.uniform(0, 6))
    motion.walk(behind, d.frames, (-x * 2.2, 1.6), heading + 180, 2.3 * pace, rng.uniform(0, 6))
    motion.walk(front, d.frames, (-x * 3.0, -1.3), heading + 180, 3.2 * pace, rng.uniform(0, 6))
    motion.camera(rng, d.frames, (0.4, -6.6, 1.8), (0, 0.5, 0.8), focal=38)
    return Staged(who.parts, [*behind.parts, *front.parts])


def wet(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, "puddles", overcast=True, far=rng.uniform(5, 6.5))
    pieces.panel("shop", (rng.uniform(-2, 2), 4.2, 3.3), (math.radians(60), 0, math.pi), 0.22, 70, (1, 0.75, 0.45))
    who = pieces.figure(rng, "walker")
    x, heading = _sides(rng, 1.4)
    motion.walk(who, d.frames, (x, 0.6), heading, 1.9 * 24 / d.frames, rng.uniform(0, 6))
    motion.camera(rng, d.frames, (0, -5.6, 0.85), (0, 0.6, 0.62), focal=30, shake=0.6)
    return Staged(who.parts)


def mirror(d: Description) -> Staged:
    rng = d.random("scene")
    room(rng, rng.choice(("planks", "tiles")), watts=300, dim=0.25)
    side = rng.choice((-1, 1))
    glass = pieces.box("mirror", (1.7, 0.03, 2.0), materials.mirror(), 0.003)
    glass.location, glass.rotation_euler = (side * 0.9, 2.75, 1.15), (0, 0, -side * 0.25)
    frame = pieces.box("frame", (1.84, 0.03, 2.14), surface(rng, "planks"), 0.01)
    frame.location, frame.rotation_euler = (side * 0.9 + side * 0.004, 2.775, 1.15), (0, 0, -side * 0.25)
    who = pieces.figure(rng, "walker")
    motion.walk(who, d.frames, (-side * 1.1, 0.5), 0 if side > 0 else 180, 1.0 * 24 / d.frames, rng.uniform(0, 6))
    motion.camera(rng, d.frames, (-side * 0.5, -4.6, 1.6), (side * 0.1, 1.2, 0.95), focal=28, shake=0.6)
    return Staged(who.parts)


def lamp(d: Description) -> Staged:
    rng = d.random("scene")
    room(rng, rng.choice(("planks", "tiles")), watts=60, dim=0.05)
    stand = pieces.turned(
        "stand",
        [(0.13, 0), (0.13, 0.02), (0.015, 0.03), (0.015, 1.0)],
        materials.plain("brass", (0.5, 0.36, 0.15), 0.3, 1),
    )
    bulb = pieces.ball("bulb", 0.09, materials.glowing((1, 0.72, 0.42), 24))
    shade = pieces.turned("shade", [(0.22, 0.98), (0.13, 1.25)], materials.plain("shade", (0.7, 0.6, 0.45), 0.9))
    shade.data.polygons[-1].use_smooth = shade.data.polygons[-2].use_smooth = False
    light = bpy.data.lights.new("light", "POINT")
    light.energy, light.color, light.shadow_soft_size = 55, (1, 0.72, 0.42), 0.09
    glow = bpy.data.objects.new("light", light)
    bpy.context.scene.collection.objects.link(glow)
    x = rng.choice((-1, 1)) * rng.uniform(0.5, 1.0)
    for part, z in ((stand, 0), (bulb, 0.93), (shade, 0), (glow, 0.80)):
        motion.keyed(part, d.frames, lambda t, z=z: ((x - math.copysign(0.35, x) * t, 1.2, z), (0, 0, 0)))
    for k in range(3):
        near = pieces.box(f"parcel{k}", (0.4, 0.3, 0.3), surface(rng, "card", "paint"))
        near.location, near.rotation_euler[2] = (-1.3 + 1.2 * k, rng.uniform(0.4, 1.9), 0.15), rng.uniform(-0.6, 0.6)
    motion.camera(rng, d.frames, (0, -4.2, 1.5), (0, 1.2, 0.7), focal=30, fstop=2, shake=0.7)
    return Staged([stand, bulb, shade, glow], optics={"grain": 0.016})


def glass(d: Description) -> Staged:
    rng = d.random("scene")
    room(rng, rng.choice(("planks", "tiles")), watts=340, dim=0.3)
    vase = pieces.turned("vase", [(0.16, 0), (0.22, 0.08), (0.26, 0.25), (0.2, 0.5), (0.12, 0.62), (0.16, 0.72)],
                         materials.glass((rng.uniform(0.6, 0.95), 0.9, rng.uniform(0.7, 0.95))), 48)  # fmt: skip
    x = rng.choice((-1, 1))
    motion.keyed(vase, d.frames, lambda t: ((x * (0.7 - 1.2 * t * 24 / d.frames), 0.3, 0.002), (0, 0, t)))
    for k in range(4):
        near = pieces.box(f"parcel{k}", (0.4, 0.3, 0.3), surface(rng, "card", "paint", "planks"))
        near.location, near.rotation_euler[2] = (-1.5 + k, rng.uniform(1.2, 2.0), 0.15), rng.uniform(-0.6, 0.6)
    motion.camera(rng, d.frames, (0, -2.9, 0.95), (0, 0.5, 0.35), focal=32, shake=0.5)
    return Staged([vase])


def thin(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, rng.choice(("concrete", "asphalt", "sand")), soft=0.8)
    rod = pieces.turned("rod", [(0.012, -1.3), (0.012, 0)], materials.plain("steel", (0.55, 0.55, 0.58), 0.3, 1), 12)
    bob = pieces.ball("ball.bob", 0.05, surface(rng, "paint"))
    rate, phase = rng.uniform(1.3, 1.7), rng.uniform(0, 6.28)

    def angle(t: float) -> float:
        return 0.95 * math.sin(2 * math.pi * rate * t + phase)

    motion.keyed(rod, d.frames, lambda t: ((0, 0.1, 1.75), (0, angle(t), 0)))
    motion.keyed(
        bob, d.frames, lambda t: ((-1.3 * math.sin(angle(t)), 0.1, 1.75 - 1.3 * math.cos(angle(t))), (0, 0, 0))
    )
    motion.camera(rng, d.frames, (0.2, -4.8, 1.4), (0, 0.3, 0.85), focal=32)
    return Staged([rod, bob])


def far_shadow(d: Description) -> Staged:
    rng = d.random("scene")
    street(
        rng, rng.choice(("concrete", "sand", "tiles")), elevation=48, azimuth=rng.choice((210, 330)), soft=1.2, far=9
    )
    outline = [(0.02, -0.42), (0.06, -0.36), (0.2, -0.2), (0.3, 0.02), (0.3, 0.18), (0.2, 0.34), (0.02, 0.4)]
    balloon = pieces.turned("balloon", outline, surface(rng, "paint"), 40)
    x, way = (-1.6, 1) if rng.random() < 0.5 else (1.6, -1)
    speed = way * 2.6 * 24 / d.frames
    motion.keyed(
        balloon, d.frames, lambda t: ((x + speed * t, 0, 2.3 + 0.1 * math.sin(2 * t)), (0.1 * math.sin(3 * t), 0.1, t))
    )
    motion.camera(rng, d.frames, (0, -7.6, 2.1), (0, 1.2, 1.15), focal=30, shake=0.9)
    return Staged([balloon])


def highlight(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, rng.choice(("asphalt", "concrete")), energy=2.2, elevation=22)
    post = pieces.figure(rng, "walker")
    motion.walk(post, d.frames, (0.3, 0.0), 180, 0.5 * 24 / d.frames, rng.uniform(0, 6))
    for k, gap in enumerate((-0.32, 0.32)):
        head = pieces.ball(f"ball.head{k}", 0.075, materials.glowing((1, 0.93, 0.8), 100))
        motion.keyed(head, d.frames, lambda t, gap=gap: ((-1.7 + 3.2 * t * 24 / d.frames + gap, 2.4, 0.85), (0, 0, 0)))
    cart = pieces.box("cart", (1.2, 0.5, 0.5), surface(rng, "paint"), 0.05)
    motion.keyed(cart, d.frames, lambda t: ((-1.7 + 3.2 * t * 24 / d.frames, 2.75, 0.72), (0, 0, 0)))
    motion.camera(rng, d.frames, (0, -5.8, 1.55), (0, 0.6, 0.85), focal=34, shake=0.7)
    heads = [bpy.data.objects[f"ball.head{k}"] for k in range(2)]
    return Staged(post.parts, [*heads, cart])


def haze_pan(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, rng.choice(("sand", "concrete")), far=16, elevation=25)
    for k in range(16):
        tall = rng.uniform(0.8, 3.0)
        pillar = pieces.box(f"pillar{k}", (0.4, 0.4, tall), surface(rng, "concrete", "bricks", "planks"), 0.02)
        pillar.location = (rng.uniform(-9, 9), rng.uniform(3, 13), tall / 2)
    who = pieces.figure(rng, "walker")
    x, heading = _sides(rng, 1.0)
    motion.walk(who, d.frames, (x, 0.5), heading, 1.6 * 24 / d.frames, rng.uniform(0, 6))
    motion.camera(rng, d.frames, (0, -7.5, 1.6), (0, 1.5, 1.0), focal=38, pan=rng.choice((-1, 1)) * 16 * 24 / d.frames)
    return Staged(who.parts, optics={"haze": 0.026, "distortion": -0.03})


def slow(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, rng.choice(("tiles", "planks", "concrete")), soft=1.5)
    made = thing(rng)
    made.scale = tuple(1.3 * s for s in made.scale)
    turn = rng.uniform(-0.6, 0.6)
    motion.keyed(made, d.frames, lambda t: ((-0.1 + 0.12 * t, 0.3, 0), (0, 0, turn + 0.05 * t)))
    motion.camera(rng, d.frames, (rng.uniform(-0.6, 0.6), -4.8, 1.5), (0, 0.4, 0.55), focal=34, shake=0.5)
    return Staged([made])


def flash(d: Description) -> Staged:
    rng = d.random("scene")
    room(rng, rng.choice(("planks", "tiles")), watts=200, dim=0.15)
    window = bpy.data.lights["window"]
    bang = pieces.panel(
        "flashgun", (-2.2, -3.0, 1.9), (math.radians(70), 0, math.radians(-35)), 0.4, 0.0, (0.95, 0.97, 1)
    )
    lit = {d.frames // 3, (2 * d.frames) // 3}
    for frame in motion.span(d.frames):
        window.energy = 200 * (1 + 0.28 * math.sin(frame * 2.1) + rng.uniform(-0.08, 0.08))
        window.keyframe_insert("energy", frame=frame)
        bang.data.energy = 900 if frame in lit else 0
        bang.data.keyframe_insert("energy", frame=frame)
    for data in (window, bang.data):
        for curve in data.animation_data.action.fcurves:
            for point in curve.keyframe_points:
                point.interpolation = "CONSTANT"
    who = pieces.figure(rng, "walker")
    x, heading = _sides(rng, 1.1)
    motion.walk(who, d.frames, (x, 0.7), heading, 1.4 * 24 / d.frames, rng.uniform(0, 6))
    motion.camera(rng, d.frames, (0, -4.8, 1.5), (0, 0.8, 0.8), focal=28, shake=0.7)
    return Staged(who.parts)


def four_k(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, rng.choice(("concrete", "asphalt")), soft=2)
    made = pieces.ball("ball", 0.32, surface(rng, "paint"))
    speed = 1.6 * 24 / d.frames
    motion.keyed(made, d.frames, lambda t: ((-0.8 + speed * t, 0, 0.32), (0, speed * t / 0.32, 0)))
    motion.camera(rng, d.frames, (0.3, -6.0, 1.6), (0, 0.4, 0.7), focal=32, shake=0)
    return Staged([made], optics={"still": 1})


KINDS = {
    each.__name__: each
    for each in (
        soft_shadow, shaded_actor, crossing, wet, mirror, lamp, glass, thin, far_shadow, highlight, haze_pan, slow,
        flash, hd, four_k,
    )
}  # fmt: skip
