"""Kinds of shots in which things move otherwise without the object: held up, hit, splashed, trodden on.

What comes in: a description. What goes out: a staged scene, simulated with the object and again without it. `KINDS`
names them all.
"""

from __future__ import annotations

import math

import bpy
import numpy as np

from tests.shots.blender import materials, motion, pieces
from tests.shots.blender.sets import Staged, street, surface
from tests.shots.description import Description

GRAVITY = 9.81


def stack(d: Description) -> Staged:
    rng = d.random("scene")
    floor = street(rng, rng.choice(("concrete", "planks", "tiles")), soft=2)
    drum = pieces.barrel("drum", surface(rng, "paint"), 0.8, 0.3)
    drum.location = (rng.uniform(-0.2, 0.2), 0.4, 0.4)
    bodies = []
    top = 0.8
    for k in range(rng.randint(3, 4)):
        size = rng.uniform(0.28, 0.42)
        case = pieces.box(f"case.{k}", (size * 1.4, size, size), surface(rng, "card", "planks", "paint"))
        case.location = (drum.location.x + rng.uniform(-0.04, 0.04), 0.4, top + size / 2 + 0.003)
        case.rotation_euler[2] = rng.uniform(-0.3, 0.3)
        top += size + 0.004
        bodies.append(case)
    bpy.context.view_layer.update()
    with_it = motion.simulate(d.frames, bodies, [floor, drum])
    without_it = motion.simulate(d.frames, bodies, [floor])
    motion.camera(rng, d.frames, (0.4, -5.2, 1.5), (0, 0.4, 0.9), focal=33, shake=0.7)
    return Staged([drum], bodies, with_it, without_it)


def hits(d: Description) -> Staged:
    rng = d.random("scene")
    floor = street(rng, rng.choice(("concrete", "planks", "asphalt")), soft=1.5)
    side = rng.choice((-1, 1))
    bodies = []
    for row in range(3):
        for k in range(3 - row):
            size = 0.34
            case = pieces.box(f"case.{row}.{k}", (size, size * 1.05, size), surface(rng, "card", "planks", "paint"))
            case.location = (
                side * 0.45 + (k - (2 - row) / 2) * (size + 0.01),
                0.4,
                size / 2 + row * (size + 0.002) + 0.002,
            )
            bodies.append(case)
    thrown = pieces.ball("ball", 0.27, surface(rng, "paint"))
    thrown.location = (-side * 1.5, 0.4, 0.275)
    bpy.context.view_layer.update()
    speed = (side * 4.6 * 24 / d.frames, 0, 0)
    both = motion.simulate(d.frames, [*bodies, thrown], [floor], before=6, speeds={"ball": speed}, mass={"ball": 8})
    motion.follow(thrown, both.pop("ball"), d.frames)
    thrown.hide_viewport = False
    rest = motion.simulate(d.frames, bodies, [floor], before=6)
    motion.camera(rng, d.frames, (0.2, -5.0, 1.4), (0, 0.4, 0.6), focal=33, shake=0.7)
    return Staged([thrown], bodies, both, rest)


def is_hit(d: Description) -> Staged:
    rng = d.random("scene")
    floor = street(rng, rng.choice(("concrete", "tiles", "asphalt")), soft=1.5)
    side = rng.choice((-1, 1))
    heavy = pieces.box("block", (0.6, 0.9, 0.7), surface(rng, "planks", "concrete"), 0.02)
    heavy.location, heavy.rotation_euler[2] = (side * 0.35, 0.4, 0.355), rng.uniform(-0.3, 0.3)
    rolling = pieces.ball("ball", 0.24, surface(rng, "paint"))
    rolling.location = (-side * 1.4, 0.4, 0.245)
    bpy.context.view_layer.update()
    speed = {"ball": (side * 3.6 * 24 / d.frames, 0, 0)}
    both = motion.simulate(d.frames, [rolling, heavy], [floor], before=6, speeds=speed, mass={"block": 4})
    motion.follow(heavy, both.pop("block"), d.frames)
    alone = motion.simulate(d.frames, [rolling], [floor], before=6, speeds=speed)
    motion.camera(rng, d.frames, (-0.2, -4.8, 1.4), (0, 0.4, 0.5), focal=33, shake=0.7)
    return Staged([heavy], [rolling], both, alone)


def ripples(d: Description) -> Staged:
    rng = d.random("scene")
    street(rng, "concrete", far=7.5, soft=1.5)
    cells, side = 220, 9.0
    axis = np.linspace(-side / 2, side / 2, cells)
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32)
    faces = [
        (j * cells + i, j * cells + i + 1, (j + 1) * cells + i + 1, (j + 1) * cells + i)
        for j in range(cells - 1)
        for i in range(cells - 1)
    ]
    pool = pieces.mesh("pool", points, faces, materials.water(), smooth=True)
    pool.location = (0, 0.6, 0.12)
    for k, (w, h, px, py) in enumerate(
        ((9.6, 0.3, 0, 5.2), (9.6, 0.3, 0, -4.0), (0.3, 9.2, -4.7, 0.6), (0.3, 9.2, 4.7, 0.6))
    ):
        kerb = pieces.box(f"kerb{k}", (w, h, 0.3), surface(rng, "concrete"), 0.03)
        kerb.location = (px, py, 0.15)
    buoy = pieces.ball("buoy", 0.24, surface(rng, "paint"))
    rate, start = rng.uniform(1.3, 1.7), rng.uniform(0, 6)
    push = 0.8 * rng.choice((-1, 1))
    where = lambda t: (-push * 0.5 + push * t * 24 / d.frames, 0.5)  # noqa: E731
    motion.keyed(
        buoy, d.frames, lambda t: ((*where(t), 0.17 + 0.06 * math.sin(2 * math.pi * rate * t + start)), (0, t, 0.3 * t))
    )
    breeze = [(rng.uniform(1.5, 6), rng.uniform(0, 6.28), rng.uniform(0, 6.28)) for _ in range(14)]
    drops = []
    for k in range(26):
        drop = pieces.ball(f"drop{k}", rng.uniform(0.008, 0.022), materials.glass((0.95, 0.98, 1)))
        a, out, up, born = rng.uniform(0, 6.28), rng.uniform(0.4, 1.1), rng.uniform(1.4, 2.6), rng.uniform(-0.2, 0.7)

        def flight(t, a=a, out=out, up=up, born=born):
            s = max(t - born, 0)
            cx, cy = where(born)
            z = 0.12 + up * s - GRAVITY / 2 * s * s if s > 0 else -1
            return (cx + math.cos(a) * (0.2 + out * s), cy + math.sin(a) * (0.2 + out * s), max(z, -1)), (0, 0, 0)

        motion.keyed(drop, d.frames, flight)
        drops.append(drop)

    def shape(frame: int, with_it: bool) -> None:
        t = (frame - 1) / 24
        height = np.zeros(len(points), np.float32)
        for k, (wave, way, phase) in enumerate(breeze):
            run = points[:, 0] * math.cos(way) + points[:, 1] * math.sin(way)
            height += 0.0022 / (1 + 0.1 * k) * np.sin(run * wave * 2 + t * math.sqrt(GRAVITY * wave * 2) + phase)
        if with_it:
            # Rings from where it was in the last second and a half; each runs at .9 m/s.
            for back in np.arange(0, 1.5, 1 / 12):
                cx, cy = where(t - back)
                r = np.hypot(points[:, 0] - cx, points[:, 1] - cy + 0.6)
                ring = np.exp(-(((r - 0.2 - 0.9 * back) / 0.1) ** 2)) * math.exp(-1.1 * back)
                height += (0.011 * math.cos(2 * math.pi * rate * (t - back) + start) * ring).astype(np.float32)
        moved = points.copy()
        moved[:, 2] = height
        pool.data.vertices.foreach_set("co", moved.ravel())
        pool.data.update()
        for drop in drops:
            drop.hide_render = not with_it

    motion.camera(rng, d.frames, (0.2, -5.2, 1.7), (0, 0.9, 0.3), focal=31, shake=0.6)
    return Staged([buoy], [], shape=shape)


def footprints(d: Description) -> Staged:
    rng = d.random("scene")
    far = street(rng, "sand", elevation=24, azimuth=rng.choice((205, 335)), soft=0.8)
    far.location.z = -0.06
    cells_x, cells_y, wide, deep = 420, 210, 6.4, 3.2
    x, y = np.meshgrid(np.linspace(-wide / 2, wide / 2, cells_x), np.linspace(-deep / 2, deep / 2, cells_y))
    bumps = np.random.default_rng(rng.randrange(1 << 30))
    rough = np.zeros_like(x)
    for _ in range(60):
        wave, way, phase = bumps.uniform(0.6, 9), bumps.uniform(0, 6.28), bumps.uniform(0, 6.28)
        rough += 0.009 / wave * np.sin(2 * wave * (x * math.cos(way) + y * math.sin(way)) + phase)
    edge = np.clip(np.minimum(wide / 2 - np.abs(x), deep / 2 - np.abs(y)) / 0.4, 0, 1)
    rough = rough * edge - 0.058 * (1 - edge)
    points = np.stack([x, y, rough], -1).reshape(-1, 3).astype(np.float32)
    faces = [
        (j * cells_x + i, j * cells_x + i + 1, (j + 1) * cells_x + i + 1, (j + 1) * cells_x + i)
        for j in range(cells_y - 1)
        for i in range(cells_x - 1)
    ]
    bed = pieces.mesh("bed", points, faces, far.data.materials[0], smooth=True)
    who = pieces.figure(rng, "walker")
    speed = 1.7 * 24 / d.frames
    gait = motion.walk(who, d.frames, (-1.3, 0.1), 0, speed, math.pi / 2)
    steps = []
    for k in range(-3, 12):
        t = (k * math.pi - gait(0)) / (gait(1) - gait(0))
        ahead = -1.3 + speed * t + motion.STRIDE / 4
        if ahead < 2.2:
            steps.append((t, ahead, 0.1 + (0.1 if k % 2 == 0 else -0.1)))
    grains = []
    pebble = surface(rng, "sand")
    for t, ahead, side in steps:
        for _ in range(9):
            grain = pieces.ball("grain", rng.uniform(0.008, 0.022), pebble)
            a, out = rng.uniform(0, 6.28), rng.uniform(0.12, 0.34)
            motion.keyed(grain, d.frames, _kicked(t, (ahead, side), a, out))
            grains.append(grain)

    def shape(frame: int, with_it: bool) -> None:
        now = (frame - 1) / 24
        height = points[:, 2].copy()
        for t, ahead, side in steps if with_it else ():
            if t > now:
                continue
            across, along = (points[:, 1] - side) / 0.055, (points[:, 0] - ahead) / 0.15
            far_off = np.sqrt(across**2 + along**2)
            height += -0.034 * np.exp(-(far_off**4)) + 0.012 * np.exp(-(((far_off - 1.35) / 0.22) ** 2))
        moved = points.copy()
        moved[:, 2] = height
        bed.data.vertices.foreach_set("co", moved.ravel())
        bed.data.update()
        for grain in grains:
            grain.hide_render = not with_it

    motion.camera(rng, d.frames, (0.1, -4.6, 1.7), (0, 0.2, 0.6), focal=30, shake=0.6)
    return Staged(who.parts, [], shape=shape)


def _kicked(start: float, place, angle: float, out: float):
    def at(t: float):
        share = min(max((t - start) / 0.2, 0), 1)
        z = -0.5 if t < start else 0.01 + 0.12 * 4 * share * (1 - share) * 0.5
        return (place[0] + math.cos(angle) * out * share, place[1] + math.sin(angle) * out * share, z), (0, 0, angle)

    return at


KINDS = {each.__name__: each for each in (stack, hits, is_hit, ripples, footprints)}
