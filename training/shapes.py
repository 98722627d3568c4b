"""Things made of a few solid parts: cars, people, animals, ducks, tables, cushions, lumps.

What comes in: a random generator, a kind, a size in metres. What goes out: parts, and how far below the thing's
origin it stands on the ground. It knows neither motion nor light.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Random = np.random.Generator

TYPES = ("sphere", "box", "capsule", "cylinder", "ellipsoid")
"""In the order of raycaster.cu's enum; MuJoCo uses the same names, half sizes and axes."""
KINDS = ("solid", "lump", "car", "person", "animal", "duck", "table", "pad")
MOVERS = ("car", "person", "animal", "lump", "duck")
THINGS = ("solid", "solid", "lump", "pad", "duck")
UPRIGHT: Vector = np.array([1.0, 0, 0, 0])


def turn(axis: Any, angle: float) -> Vector:
    """Quaternion (w, x, y, z) of a rotation by `angle` radians about `axis`."""
    way = np.asarray(axis, float)
    way = way / (np.linalg.norm(way) + 1e-9)
    return np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * way])


def after(a: Vector, b: Vector) -> Vector:
    """The rotation `b` first, then `a`."""
    w, v, x, u = a[0], a[1:], b[0], b[1:]
    return np.concatenate([[w * x - v @ u], w * u + x * v + np.cross(v, u)])


def turned(q: Vector, v: Vector) -> Vector:
    return np.asarray(v + 2 * np.cross(q[1:], np.cross(q[1:], v) + q[0] * v))


@dataclasses.dataclass
class Part:
    """One solid. half: as MuJoCo's `size`; swing: (radians, hertz, phase, height of the hinge above the centre)."""

    kind: str
    half: Vector
    centre: Vector
    rotation: Vector
    swing: tuple[float, float, float, float] = (0, 0, 0, 0)

    @property
    def height(self) -> float:
        """From the centre up, while upright."""
        return float(
            {"sphere": self.half[0], "capsule": self.half[0] + self.half[1], "cylinder": self.half[1]}.get(
                self.kind, self.half[2]
            )
        )


def part(kind: str, half: Any, centre: Any = (0, 0, 0), rotation: Vector = UPRIGHT, swing: Any = (0, 0, 0, 0)) -> Part:
    sizes = np.zeros(3)
    sizes[: len(half)] = half
    return Part(kind, sizes, np.asarray(centre, float), rotation, swing)


def make(rng: Random, kind: str, size: float) -> tuple[list[Part], float]:
    """(parts, height of the origin above the ground it stands on)."""
    return _MAKERS[kind](rng, size)


def _solid(rng: Random, size: float) -> tuple[list[Part], float]:
    a = size * rng.uniform(0.6, 1.4, 3)
    kind = str(rng.choice(TYPES))
    one = part(kind, {"sphere": a[:1], "capsule": a[:2] * (0.6, 1), "cylinder": a[:2]}.get(kind, a))
    return [one], one.height


def _lump(rng: Random, size: float) -> tuple[list[Part], float]:
    parts = [part("ellipsoid", size * rng.uniform(0.5, 1.2, 3))]
    for _ in range(int(rng.integers(1, 4))):
        kind = str(rng.choice(["sphere", "box", "capsule", "ellipsoid"]))
        parts.append(part(kind, size * rng.uniform(0.25, 0.7, 3), size * rng.uniform(-0.9, 0.9, 3), spun(rng)))
    return parts, size * 1.2


def spun(rng: Random, most: float = 3.0) -> Vector:
    return turn(rng.normal(size=3), rng.uniform(0, most))


def _car(rng: Random, size: float) -> tuple[list[Part], float]:
    length, width, height = size * rng.uniform((1.6, 0.7, 0.35), (2.4, 0.95, 0.5))
    wheel = height * 0.75
    cabin = [-length * rng.uniform(0, 0.25), 0, height * 1.7]
    parts = [
        part("box", [length, width, height]),
        part("box", [length * rng.uniform(0.45, 0.6), width * 0.9, height * 0.8], cabin),
    ]
    lying = turn([1, 0, 0], np.pi / 2)
    parts += [
        part("cylinder", [wheel, width * 0.12], [x * length, y * width * 0.92, -height], lying)
        for x in (-0.6, 0.6)
        for y in (-1, 1)
    ]
    return parts, height + wheel


def _person(rng: Random, size: float) -> tuple[list[Part], float]:
    tall = size * 2.6
    limb, leg = tall * 0.045, tall * 0.24
    pace, stride = rng.uniform(0.8, 2), rng.uniform(0.1, 0.7)
    parts = [
        part("ellipsoid", np.array([0.08, 0.12, 0.19]) * tall, [0, 0, tall * 0.12]),
        part("sphere", [tall * 0.07], [0, 0, tall * 0.38]),
    ]
    for beat, side in ((0, -1), (1, 1)):
        away = turn([1, 0, 0], -side * rng.uniform(0.05, 0.5))
        parts.append(
            part(
                "capsule",
                [limb, leg * 0.9],
                [0, side * tall * 0.06, -tall * 0.26],
                UPRIGHT,
                (stride, pace, np.pi * beat, leg),
            )
        )
        parts.append(
            part(
                "capsule",
                [limb * 0.75, leg * 0.6],
                [0, side * tall * 0.15, tall * 0.1],
                away,
                (stride, pace, np.pi * (beat + 1), leg * 0.7),
            )
        )
    return parts, tall * 0.26 + leg * 0.9 + limb


def _animal(rng: Random, size: float) -> tuple[list[Part], float]:
    length, girth, leg = size * rng.uniform((1, 0.4, 0.4), (1.5, 0.6, 0.7))
    pace, stride = rng.uniform(1, 3), rng.uniform(0.1, 0.6)
    parts = [
        part("ellipsoid", [length, girth, girth]),
        part("ellipsoid", [girth * 0.9, girth * 0.6, girth * 0.6], [length * 1.1, 0, girth * 0.7]),
    ]
    for beat, (x, y) in enumerate(((-0.65, -1), (-0.65, 1), (0.65, -1), (0.65, 1))):
        at = [x * length, y * girth * 0.55, -girth * 0.5 - leg * 0.5]
        parts.append(
            part("capsule", [girth * 0.22, leg * 0.6], at, UPRIGHT, (stride, pace, np.pi * (beat % 2) + x, leg * 0.5))
        )
    return parts, girth * 0.72 + leg * 1.1


def _duck(rng: Random, size: float) -> tuple[list[Part], float]:
    del rng
    return [
        part("ellipsoid", np.array([1.1, 0.8, 0.65]) * size),
        part("sphere", [size * 0.5], [size * 0.7, 0, size * 0.8]),
        part("ellipsoid", np.array([0.25, 0.2, 0.1]) * size, [size * 1.25, 0, size * 0.8]),
    ], size * 0.65


def _table(rng: Random, size: float) -> tuple[list[Part], float]:
    width, height = size * rng.uniform((1, 0.6), (1.6, 1.2))
    legs = [
        part("box", [size * 0.07, size * 0.07, height], [x * width * 0.9, y * width * 0.7, 0])
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return [part("box", [width, width * 0.8, size * 0.08], [0, 0, height]), *legs], height


def _pad(rng: Random, size: float) -> tuple[list[Part], float]:
    width, depth = size * rng.uniform(0.8, 2, 2)
    height = size * rng.uniform(0.15, 0.5)
    return [part("ellipsoid" if rng.random() < 0.4 else "box", [width, depth, height])], height


_MAKERS = {
    "solid": _solid,
    "lump": _lump,
    "car": _car,
    "person": _person,
    "animal": _animal,
    "duck": _duck,
    "table": _table,
    "pad": _pad,
}
