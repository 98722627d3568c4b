"""What stands in the shots: turned shapes, boxes, figures, tufts, walls and light.

What comes in: sizes, materials, a seeded `random.Random`. What goes out: objects in the open Blender scene, in metres,
z up. It knows no kinds of shots and renders nothing.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import bpy
import numpy as np

from tests.shots.blender import materials

Vector = Sequence[float]


def mesh(name: str, points, faces, material=None, *, smooth: bool = False) -> bpy.types.Object:
    data = bpy.data.meshes.new(name)
    data.from_pydata([tuple(map(float, p)) for p in points], [], faces)
    if smooth:
        data.polygons.foreach_set("use_smooth", [True] * len(data.polygons))
    data.update()
    thing = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(thing)
    if material:
        data.materials.append(material)
    return thing


def turned(name: str, profile: Sequence[tuple[float, float]], material, segments: int = 28) -> bpy.types.Object:
    """A shape turned about z from (radius, height) points, bottom to top."""
    angles = [2 * math.pi * k / segments for k in range(segments)]
    points = [(r * math.cos(a), r * math.sin(a), z) for r, z in profile for a in angles]
    faces = [
        tuple((j + up) * segments + (k + on) % segments for up, on in ((0, 0), (0, 1), (1, 1), (1, 0)))
        for j in range(len(profile) - 1)
        for k in range(segments)
    ]
    faces += [tuple(reversed(range(segments))), tuple(range((len(profile) - 1) * segments, len(profile) * segments))]
    return mesh(name, points, faces, material, smooth=True)


def rounded(radius: float, bottom: float, top: float, steps: int = 7, thin: float = 1.0) -> list[tuple[float, float]]:
    """The profile of a capsule between two heights; at the top its radius is `thin` of that at the bottom."""
    low = [(radius * math.sin(a), bottom + radius - radius * math.cos(a)) for a in _quarter(steps)]
    tip = radius * thin
    high = [(tip * math.cos(a), top - tip + tip * math.sin(a)) for a in _quarter(steps)]
    return [(max(r, 1e-4), z) for r, z in (*low, *high)]


def _quarter(steps: int) -> list[float]:
    return [math.pi / 2 * k / (steps - 1) for k in range(steps)]


def ball(name: str, radius: float, material) -> bpy.types.Object:
    """Centred on its origin."""
    return turned(name, rounded(radius, -radius, radius, 14), material, 40)


def box(name: str, size: Vector, material, bevel: float = 0.012) -> bpy.types.Object:
    """Centred on its origin, with worn edges."""
    x, y, z = (side / 2 for side in size)
    points = [(a * x, b * y, c * z) for c in (-1, 1) for b in (-1, 1) for a in (-1, 1)]
    faces = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    thing = mesh(name, points, faces, material)
    worn = thing.modifiers.new("worn", "BEVEL")
    worn.width, worn.segments = bevel, 2
    return thing


def barrel(name: str, material, height: float = 0.9, radius: float = 0.3) -> bpy.types.Object:
    """Its origin is its middle."""
    h, r = height / 2, radius
    ribs = [(r * 0.96, -h), (r, -h + 0.02)]
    for z in (-0.33, 0.33):
        ribs += [(r, z * h - 0.03), (r * 1.05, z * h), (r, z * h + 0.03)]
    return turned(name, [*ribs, (r, h - 0.02), (r * 0.96, h)], material, 36)


def cone(name: str, material) -> bpy.types.Object:
    """A traffic cone; its origin is on the ground."""
    profile = [(0.26, 0), (0.26, 0.04), (0.19, 0.05), (0.05, 0.7), (0.03, 0.72)]
    return turned(name, profile, material, 32)


def ground(material, side: float = 60, name: str = "ground") -> bpy.types.Object:
    h = side / 2
    return mesh(name, [(-h, -h, 0), (h, -h, 0), (h, h, 0), (-h, h, 0)], [(0, 1, 2, 3)], material)


def wall(material, y: float, height: float, width: float = 50, name: str = "wall") -> bpy.types.Object:
    h = width / 2
    return mesh(name, [(-h, y, 0), (h, y, 0), (h, y, height), (-h, y, height)], [(0, 1, 2, 3)], material)


def tufts(rng: random.Random, count: int, where, material, height: float = 0.22) -> None:
    """Grass in tufts; `where(rng)` gives the place (x, y) of each."""
    kinds = []
    for kind in range(4):
        points, faces = [], []
        for _ in range(26):
            a, lean, h = rng.uniform(0, 6.28), rng.uniform(0.05, 0.5), height * rng.uniform(0.5, 1.2)
            x, y, w = rng.gauss(0, 0.05), rng.gauss(0, 0.05), rng.uniform(0.004, 0.008)
            c, s, start = math.cos(a), math.sin(a), len(points)
            for z, b, width in ((0, 0, w), (0.6, 0.35, w * 0.8), (1, 1, 0.001)):
                px, py = x + c * lean * h * b, y + s * lean * h * b
                points += [(px - s * width, py + c * width, z * h), (px + s * width, py - c * width, z * h)]
            faces += [(start, start + 1, start + 3, start + 2), (start + 2, start + 3, start + 5, start + 4)]
        kinds.append(mesh(f"tuft{kind}", points, faces, material).data)
        bpy.context.scene.collection.objects.unlink(bpy.data.objects[f"tuft{kind}"])
    for _ in range(count):
        tuft = bpy.data.objects.new("grass", rng.choice(kinds))
        tuft.location = (*where(rng), 0)
        tuft.rotation_euler[2], tuft.scale = rng.uniform(0, 6.28), (rng.uniform(0.6, 1.4),) * 3
        bpy.context.scene.collection.objects.link(tuft)


def rock(rng: random.Random, size: float, material) -> bpy.types.Object:
    """Its origin is its middle."""
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=4, radius=size)
    thing = bpy.context.object
    points = np.empty(len(thing.data.vertices) * 3, np.float32)
    thing.data.vertices.foreach_get("co", points)
    points = points.reshape(-1, 3)
    for octave in range(4):
        for _ in range(3):
            way = np.array([rng.gauss(0, 1) for _ in range(3)])
            wave = np.sin(points @ way * 2**octave / size * 1.3 + rng.uniform(0, 6.28))
            points = points * (1 + 0.10 / 1.7**octave * wave)[:, None]
    points *= [rng.uniform(0.8, 1.3), rng.uniform(0.8, 1.3), rng.uniform(0.5, 0.8)]
    thing.data.vertices.foreach_set("co", points.astype(np.float32).ravel())
    thing.data.polygons.foreach_set("use_smooth", [True] * len(thing.data.polygons))
    thing.data.materials.append(material)
    return thing


@dataclasses.dataclass(frozen=True)
class Figure:
    """A walker about 1.75 m tall whose root stands on the ground and faces +x; `limbs` swing about y."""

    root: bpy.types.Object
    limbs: dict[str, bpy.types.Object]
    parts: list[bpy.types.Object]


def figure(rng: random.Random, name: str) -> Figure:
    def cloth() -> bpy.types.Material:
        return materials.textured("cloth", rng.randrange(1 << 30))

    shirt, trousers, shoe = cloth(), cloth(), materials.plain(f"{name}.shoe", (0.05, 0.04, 0.035), 0.5)
    bare, hair = (
        materials.textured("skin", rng.randrange(1 << 30)),
        materials.plain(f"{name}.hair", (0.04, 0.03, 0.02), 0.6),
    )
    parts: list[bpy.types.Object] = []
    root = _joint(f"{name}.root", None, (0, 0, 0))

    def part(word, profile, material, parent, place=(0, 0, 0), flat=1.0, turn=(0, 0, 0)):
        made = turned(f"{name}.{word}", profile, material, 24)
        made.parent, made.location, made.scale, made.rotation_euler = parent, place, (flat, 1, 1), turn
        parts.append(made)
        return made

    body = _joint(f"{name}.body", root, (0, 0, 0.88))
    torso = [
        (0.09, -0.06),
        (0.155, 0.0),
        (0.15, 0.12),
        (0.165, 0.3),
        (0.185, 0.42),
        (0.17, 0.5),
        (0.09, 0.56),
        (0.05, 0.58),
    ]
    part("torso", torso, shirt, body, flat=0.66)
    part("hips", rounded(0.16, -0.16, 0.1, thin=0.95), trousers, body, flat=0.72)
    part("neck", rounded(0.055, 0.52, 0.68), bare, body, (0.01, 0, 0))
    head = [(0.02, 0.60), (0.06, 0.61), (0.085, 0.66), (0.095, 0.73), (0.09, 0.80), (0.06, 0.85), (0.01, 0.87)]
    part("head", head, bare, body, (0.02, 0, 0), 1.12)
    part(
        "hair", [(0.098, 0.73), (0.102, 0.78), (0.092, 0.83), (0.06, 0.87), (0.01, 0.885)], hair, body, (0.0, 0, 0), 1.1
    )
    limbs = {"body": body}
    for side, y in (("left", 0.1), ("right", -0.1)):
        hip = limbs[f"{side}.hip"] = _joint(f"{name}.{side}.hip", root, (0, y, 0.9))
        part(f"{side}.thigh", rounded(0.066, -0.48, 0.06, thin=1.3), trousers, hip)
        knee = limbs[f"{side}.knee"] = _joint(f"{name}.{side}.knee", hip, (0, 0, -0.43))
        part(f"{side}.shin", rounded(0.048, -0.44, 0.05, thin=1.25), trousers, knee)
        part(f"{side}.shoe", rounded(0.047, -0.1, 0.17), shoe, knee, (0.0, 0, -0.425), turn=(0, math.pi / 2, 0))
        shoulder = limbs[f"{side}.shoulder"] = _joint(f"{name}.{side}.shoulder", body, (0, y * 2.05, 0.47))
        part(f"{side}.arm", rounded(0.046, -0.32, 0.06, thin=1.15), shirt, shoulder)
        elbow = limbs[f"{side}.elbow"] = _joint(f"{name}.{side}.elbow", shoulder, (0, 0, -0.29))
        part(f"{side}.forearm", rounded(0.037, -0.27, 0.04, thin=1.15), shirt, elbow)
        part(f"{side}.hand", rounded(0.04, -0.36, -0.24), bare, elbow, flat=0.7)
    return Figure(root, limbs, parts)


def _joint(name: str, parent, place) -> bpy.types.Object:
    joint = bpy.data.objects.new(name, None)
    joint.parent, joint.location = parent, place
    bpy.context.scene.collection.objects.link(joint)
    return joint


def sun(rng: random.Random, energy: float, elevation: float, azimuth: float, degrees: float) -> bpy.types.Object:
    """Light from `azimuth` (0 is +x, counter-clockwise) at `elevation`, both in degrees, `degrees` wide."""
    data = bpy.data.lights.new("sun", "SUN")
    data.energy, data.angle = energy, math.radians(degrees)
    data.color = (1.0, rng.uniform(0.88, 0.97), rng.uniform(0.72, 0.9))
    lamp = bpy.data.objects.new("sun", data)
    lamp.rotation_euler = (0, math.radians(90 - elevation), math.radians(azimuth))
    bpy.context.scene.collection.objects.link(lamp)
    return lamp


def panel(
    name: str, place: Vector, turn: Vector, size: float, watts: float, colour=(1.0, 0.93, 0.85)
) -> bpy.types.Object:
    data = bpy.data.lights.new(name, "AREA")
    data.energy, data.size, data.color = watts, size, colour
    lamp = bpy.data.objects.new(name, data)
    lamp.location, lamp.rotation_euler = place, turn
    bpy.context.scene.collection.objects.link(lamp)
    return lamp


def sky(strength: float, top=(0.35, 0.55, 1.0), rim=(0.85, 0.92, 1.0)) -> None:
    """A sky that is brightest at the horizon."""
    world = bpy.data.worlds.new("sky")
    bpy.context.scene.world = world
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    place, split = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeSeparateXYZ")
    ramp, background = nodes.new("ShaderNodeValToRGB"), nodes["Background"]
    links.new(place.outputs["Generated"], split.inputs[0])
    links.new(split.outputs["Z"], ramp.inputs[0])
    ramp.color_ramp.elements[0].color, ramp.color_ramp.elements[1].color = (*rim, 1), (*top, 1)
    ramp.color_ramp.elements[1].position = 0.6
    links.new(ramp.outputs[0], background.inputs["Color"])
    background.inputs["Strength"].default_value = strength
