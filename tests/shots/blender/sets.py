"""Places where shots happen: a street, a yard, a room; and what a staged shot is.

What comes in: a description. What goes out: objects and light in the open Blender scene. The thing that will be removed
is not here.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence

import bpy
from mathutils import Matrix

from tests.shots.blender import materials, pieces


@dataclasses.dataclass
class Staged:
    """A scene that is ready to be rendered.

    removed: hidden, light and all, in the second and third rendering. bystanders: whoever stays and moves or is near.
    with_it, without_it: places of falling bodies, by name, frame by frame; the same bodies in both.
    shape(frame, with_it): what has to be changed before a frame is rendered.
    optics: what the photography differs in from its defaults.
    changes: whether anything moves differently without the removed.
    """

    removed: Sequence[bpy.types.Object]
    bystanders: Sequence[bpy.types.Object] = ()
    with_it: Mapping[str, Sequence[Matrix]] = dataclasses.field(default_factory=dict)
    without_it: Mapping[str, Sequence[Matrix]] = dataclasses.field(default_factory=dict)
    shape: Callable[[int, bool], None] | None = None
    optics: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def changes(self) -> bool:
        return bool(self.without_it) or self.shape is not None


def surface(rng: random.Random, *words: str, size: float = 1.0) -> bpy.types.Material:
    return materials.textured(rng.choice(words), rng.randrange(1 << 30), size=size)


def street(rng: random.Random, floor: str, *, far: float | None = None, elevation=None, azimuth=None, soft=None,
           energy: float = 6.5, overcast: bool = False) -> bpy.types.Object:  # fmt: skip
    """Ground, a wall, what stands along it, sun and sky. Returns the ground."""
    below = pieces.ground(surface(rng, floor))
    y = far if far is not None else rng.uniform(4.5, 6.5)
    pieces.wall(surface(rng, "bricks", "plaster", "bricks"), y, rng.uniform(5, 8))
    plinth = pieces.box("plinth", (50, 0.12, 0.45), surface(rng, "concrete"), 0.02)
    plinth.location = (0, y - 0.06, 0.22)
    along(rng, y)
    if overcast:
        pieces.sky(1.5, (0.75, 0.82, 0.95), (0.95, 0.97, 1.0))
    else:
        pieces.sky(0.7)
        high = elevation if elevation is not None else rng.uniform(28, 52)
        way = azimuth if azimuth is not None else rng.choice((rng.uniform(195, 250), rng.uniform(290, 345)))
        pieces.sun(rng, energy, high, way, soft if soft is not None else rng.uniform(0.6, 4))
    return below


def along(rng: random.Random, y: float) -> None:
    """Doors, boxes, stones and weeds along a wall."""
    for k in range(3):
        x = -7 + 6 * k + rng.uniform(-1, 1)
        frame = pieces.box(f"door{k}", (1.1, 0.1, 2.2), surface(rng, "planks", "paint"), 0.02)
        frame.location = (x, y - 0.03, 1.1)
        lintel = pieces.box(f"lintel{k}", (1.4, 0.16, 0.18), surface(rng, "concrete"), 0.02)
        lintel.location = (x, y - 0.05, 2.3)
    for k in range(rng.randint(6, 9)):
        x, size = rng.uniform(-7, 7), rng.uniform(0.25, 0.6)
        if rng.random() < 0.5:
            thing = pieces.box(f"case{k}", (size * 1.3, size, size), surface(rng, "card", "planks", "paint"))
            thing.location = (x, y - rng.uniform(0.5, 1.1), size / 2)
            thing.rotation_euler[2] = rng.uniform(-0.4, 0.4)
        elif rng.random() < 0.4:
            thing = pieces.barrel(f"drum{k}", surface(rng, "paint"))
            thing.location = (x, y - rng.uniform(0.5, 0.9), 0.45)
        else:
            thing = pieces.rock(rng, size * 0.5, surface(rng, "concrete"))
            thing.location = (x, y - rng.uniform(0.4, 1.4), size * 0.2)
    leaf = surface(rng, "leaf")
    pieces.tufts(rng, 120, lambda r: (r.uniform(-9, 9), y - 0.1 - abs(r.gauss(0, 0.25))), leaf)


def room(rng: random.Random, floor: str, *, watts: float = 260, dim: float = 0.12) -> bpy.types.Object:
    """A floor, two walls, a skirting board, a window's light. Returns the floor."""
    below = pieces.ground(surface(rng, floor), 14)
    paint = surface(rng, "plaster", size=1.3)
    pieces.wall(paint, 3.2, 3.4, 12, "wall")
    side = pieces.wall(paint, 0, 3.4, 12, "side")
    side.location, side.rotation_euler = (-4.2, 0, 0), (0, 0, math.pi / 2)
    pieces.wall(paint, -6.2, 3.4, 12, "back")
    skirting = pieces.box("skirting", (12, 0.03, 0.12), materials.plain("board", (0.6, 0.57, 0.5), 0.4), 0.004)
    skirting.location = (0, 3.18, 0.06)
    pieces.sky(dim, (0.8, 0.88, 1.0), (0.9, 0.95, 1.0))
    if watts:
        tilt = math.radians(rng.uniform(52, 64))
        pieces.panel("window", (3.6, -2.4, 3.0), (tilt, 0, math.radians(50)), 1.6, watts)
    for k in range(3):
        shelf = pieces.box(
            f"chest{k}", (rng.uniform(0.5, 0.9), 0.4, rng.uniform(0.4, 0.9)), surface(rng, "planks", "card", "paint")
        )
        shelf.location = (-3 + 2.9 * k + rng.uniform(-0.4, 0.4), 2.85, shelf.dimensions.z / 2 if k else 0.4)
    return below


def thing(rng: random.Random, name: str = "thing") -> bpy.types.Object:
    """Something to remove that stands on the ground by itself; its origin is where it touches."""
    word = rng.choice(("barrel", "cone", "case"))
    if word == "barrel":
        made = pieces.barrel(name, surface(rng, "paint"), rng.uniform(0.8, 1.1), rng.uniform(0.28, 0.36))
        _stand(made, made.dimensions.z / 2 if made.dimensions.z else 0.45)
    elif word == "cone":
        made = pieces.cone(name, surface(rng, "paint"))
        made.scale = (rng.uniform(1.2, 1.7),) * 3
    else:
        size = rng.uniform(0.6, 0.9)
        made = pieces.box(name, (size * 1.2, size, size), surface(rng, "planks", "card", "paint"))
        _stand(made, size / 2)
    return made


def _stand(made: bpy.types.Object, by: float) -> None:
    for vertex in made.data.vertices:
        vertex.co.z += by
