"""Small accidents with and without the object that is to be removed: poses of everything in both worlds.

What comes in: a seed. What goes out: the parts, and where every body is on each of 40 frames, once with the object
(body 0) and once simulated again without it. Poses alone: MuJoCo draws nothing here.

The kinds are those in which an object does something to others: it hits, carries, holds up, presses on, floats
beside, or
merely passes. Source of the idea, full scene against re-simulated scene: VOID's training pairs (arXiv 2604.02296).
"""

from __future__ import annotations

import contextlib
import dataclasses
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from training import shapes
from training.shapes import Part, Random, Vector, turn

Array = npt.NDArray[np.float32]

mujoco.set_mju_user_warning(lambda _: None)
"""A stack that explodes is a scene like another; by default MuJoCo writes a log file into the working directory."""

FRAMES, RATE, PARTS, BODIES = 40, 24, 24, 10
STEP_S, STEPS = 0.005, 8
"""Eight steps of 5 ms are one frame at 25 a second, near enough to RATE for pictures."""
SPARE_PARTS = 4
"""Left free for what `looks` throws in: splashes, dust."""
WORLD = BODIES - 1
"""The body of walls and whatever else never moves."""
KINDS = {
    "roll": 0.12,
    "drop": 0.08,
    "support": 0.18,
    "static": 0.10,
    "mover": 0.20,
    "fly": 0.05,
    "float": 0.10,
    "carry": 0.10,
    "sit": 0.07,
}
"""Shares of the scenes. Half of them are of kinds in which the object moves others: its effect on light is learnt from
every kind, and from the cut-outs on photographs as well."""


@dataclasses.dataclass
class Body:
    """One thing. `path` [FRAMES, 7] (position, quaternion) moves it by hand; None leaves it to physics."""

    parts: list[Part]
    at: Vector
    rotation: Vector = dataclasses.field(default_factory=lambda: shapes.UPRIGHT)
    path: Vector | None = None
    speed: Vector = dataclasses.field(default_factory=lambda: np.zeros(3))
    spin: Vector = dataclasses.field(default_factory=lambda: np.zeros(3))
    density: float = 400.0
    held_at: Vector | None = None
    """Carried by body 0 at this offset while there is a body 0."""


@dataclasses.dataclass
class Scene:
    kind: str
    bodies: list[Body]
    walls: list[Part]


def make(seed: int, held_out: bool = False) -> dict[str, Any]:
    """One scene as arrays. held_out: kinds of shape that training never sees play the object."""
    rng = np.random.default_rng(seed)
    scene = _invent(rng, held_out)
    parts = [(p, b) for b, body in enumerate(scene.bodies[:WORLD]) for p in body.parts][: PARTS - SPARE_PARTS]
    parts += [(p, WORLD) for p in scene.walls]
    out: dict[str, Any] = {
        "kind": list(KINDS).index(scene.kind),
        "type": np.full(PARTS, -1, np.int8),
        "half": np.zeros((PARTS, 3), np.float32),
        "centre": np.zeros((PARTS, 3), np.float32),
        "rotation": np.tile(np.array([1, 0, 0, 0], np.float32), (PARTS, 1)),
        "swing": np.zeros((PARTS, 4), np.float32),
        "body": np.full(PARTS, WORLD, np.int8),
        "by_hand": np.array([b < len(scene.bodies) and scene.bodies[b].path is not None for b in range(BODIES)]),
        "bodies": len(scene.bodies),
    }
    for i, (p, body) in enumerate(parts[:PARTS]):
        out["type"][i], out["half"][i], out["centre"][i] = shapes.TYPES.index(p.kind), p.half, p.centre
        out["rotation"][i], out["swing"][i], out["body"][i] = p.rotation, p.swing, body
    out["with_object"] = _poses(scene, with_object=True)
    out["without"] = _poses(scene, with_object=False)
    return out


def many(first_seed: int, count: int, processes: int, held_out: bool = False) -> dict[str, Any]:
    """`count` scenes as arrays stacked over scenes. Seeds on which physics blew up are passed over."""
    share = 100
    jobs = [(first_seed + 10 * i, min(share, count - i), held_out) for i in range(0, count, share)]
    with ProcessPoolExecutor(processes) as pool:
        made = list(pool.map(_some, jobs))
    return {key: np.concatenate([m[key] for m in made]) for key in made[0]}


def _some(job: tuple[int, int, bool]) -> dict[str, Any]:
    seed, count, held_out = job
    found: list[dict[str, Any]] = []
    while len(found) < count:
        with contextlib.suppress(ValueError):  # what MuJoCo raises for a scene it can't build
            found.append(make(seed, held_out))
        seed += 1
    return {key: np.stack([f[key] for f in found]) for key in found[0]}


def _invent(rng: Random, held_out: bool) -> Scene:
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    movers = ("animal", "duck") if held_out else shapes.MOVERS
    things = ("duck", "lump") if held_out else shapes.THINGS
    bodies = {
        "roll": _roll,
        "drop": _drop,
        "support": _support,
        "static": _static,
        "sit": _sit,
        "mover": _mover,
        "carry": _carry,
        "fly": _fly,
        "float": _float,
    }[kind](rng, movers, things)
    _add_others(rng, bodies, floating=kind == "float")
    return Scene(kind, bodies, _walls(rng))


def _flat(rng: Random, reach: float) -> Vector:
    return np.asarray(rng.uniform(-reach, reach, 2))


def _on(point: Vector, height: float) -> Vector:
    return np.array([point[0], point[1], height])


def _heading(rng: Random) -> Vector:
    return turn([0, 0, 1], rng.uniform(0, 2 * np.pi))


def _thing(rng: Random, kinds: Any, low: float, high: float) -> tuple[list[Part], float, float]:
    size = rng.uniform(low, high)
    return (*shapes.make(rng, str(rng.choice(kinds)), size), size)


def _walked(rng: Random, start: Vector, speed: float, heading: float, height: float, bob: float = 0.0) -> Vector:
    """A path on the ground that bends slowly. [FRAMES, 7]."""
    path, bend, beat = np.zeros((FRAMES, 7)), rng.uniform(-0.7, 0.7), rng.uniform(1, 3)
    at = np.array(start, float)
    for t in range(FRAMES):
        path[t, :2], path[t, 2] = at, height + bob * np.sin(2 * np.pi * beat * t / RATE)
        path[t, 3:] = turn([0, 0, 1], heading)
        at = at + speed / RATE * np.array([np.cos(heading), np.sin(heading)])
        heading += bend / RATE
    return path


def _stands(at: Vector, rotation: Vector) -> Vector:
    return np.tile(np.concatenate([at, rotation]), (FRAMES, 1))


def _roll(rng: Random, movers: Any, things: Any) -> list[Body]:
    del movers
    parts, height, size = _thing(rng, things, 0.15, 0.55)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 6)
    way = np.array([np.cos(angle), np.sin(angle)])
    at = -way * rng.uniform(0.6, 2.2) + _flat(rng, 0.3)
    return [
        Body(
            parts,
            _on(at, height + 0.02),
            _heading(rng),
            speed=_on(way * speed, 0),
            spin=np.array([-way[1], way[0], 0]) * speed / size,
            density=rng.uniform(400, 1500),
        )
    ]


def _drop(rng: Random, movers: Any, things: Any) -> list[Body]:
    del movers
    parts, height, _ = _thing(rng, things, 0.15, 0.55)
    at = _on(_flat(rng, 0.4), height + rng.uniform(0.3, 2.2))
    return [
        Body(
            parts,
            at,
            shapes.after(_heading(rng), shapes.spun(rng, 1.5)),
            speed=_on(_flat(rng, 1), -rng.uniform(0, 2)),
            spin=rng.normal(size=3) * 2,
            density=rng.uniform(400, 1500),
        )
    ]


def _static(rng: Random, movers: Any, things: Any) -> list[Body]:
    kinds = [*things, *movers] if "duck" in things[:1] else list(shapes.KINDS)
    parts, height, _ = _thing(rng, kinds, 0.2, 0.55)
    at, rotation = _on(_flat(rng, 0.3), height), _heading(rng)
    return [Body(parts, at, rotation, _stands(at, rotation))]


def _support(rng: Random, movers: Any, things: Any) -> list[Body]:
    del movers
    parts, height, size = _thing(rng, [*things, "table"], 0.2, 0.55)
    at, rotation = _on(_flat(rng, 0.3), height), _heading(rng)
    fixed = rng.random() < 0.5
    bodies = [Body(parts, at, rotation, _stands(at, rotation) if fixed else None, density=rng.uniform(300, 900))]
    top = at[2] + max(p.centre[2] + p.height for p in parts)
    for _ in range(int(rng.integers(1, 4))):
        held, below, _ = _thing(rng, ["solid", "duck", "pad"], size * 0.3, size * 0.8)
        bodies.append(Body(held, _on(at[:2] + _flat(rng, 0.2 * size), top + below + 0.005), _heading(rng)))
        top += 2 * below + 0.005
    return bodies


def _sit(rng: Random, movers: Any, things: Any) -> list[Body]:
    """Something heavy comes down on a cushion, which tilts and shifts: soft bodies are not simulated."""
    bodies = _static(rng, movers, things)
    path, high = bodies[0].path, rng.uniform(0.1, 0.4)
    assert path is not None
    since = np.maximum(0, np.arange(FRAMES) / RATE - rng.uniform(-0.3, 0.6))
    path[:, 2] += 2 * high + np.maximum(0, rng.uniform(0, 1) - 4.9 * since**2)
    bodies[0].at = path[0, :3].copy()
    cushion, _ = shapes.make(rng, "pad", rng.uniform(0.3, 0.7))
    cushion[0].half[2] = high
    return [*bodies, Body(cushion, _on(bodies[0].at[:2], high), _heading(rng), density=60)]


def _mover(rng: Random, movers: Any, things: Any) -> list[Body]:
    del things
    kind = str(rng.choice(movers))
    size = rng.uniform(0.25, 0.6)
    parts, height = shapes.make(rng, kind, size)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(1, 7) if kind == "car" else rng.uniform(0.2, 4)
    start = -np.array([np.cos(angle), np.sin(angle)]) * speed * rng.uniform(0.2, 1.2) + _flat(rng, 0.6)
    path = _walked(rng, start, speed, angle, height, float(rng.choice([0, 0.03, 0.06])) * size * 2)
    return [Body(parts, path[0, :3], path[0, 3:], path)]


def _carry(rng: Random, movers: Any, things: Any) -> list[Body]:
    bodies = _mover(rng, movers, things)
    size = float(max(p.half.max() for p in bodies[0].parts))
    held, _ = shapes.make(rng, "solid", size * rng.uniform(0.3, 0.6))
    offset = size * rng.uniform((0.4, -0.3, -0.2), (0.9, 0.3, 0.8))
    at = bodies[0].at + shapes.turned(bodies[0].rotation, offset)
    return [*bodies, Body(held, at, bodies[0].rotation, held_at=offset)]


def _fly(rng: Random, movers: Any, things: Any) -> list[Body]:
    parts, _, _ = _thing(rng, [*things, movers[-1]], 0.15, 0.55)
    path = _walked(
        rng, _flat(rng, 1), rng.uniform(0, 3), rng.uniform(0, 6.28), rng.uniform(0.6, 2.5), rng.uniform(0, 0.2)
    )
    return [Body(parts, path[0, :3], path[0, 3:], path)]


def _float(rng: Random, movers: Any, things: Any) -> list[Body]:
    parts, height, _ = _thing(rng, [*things, movers[-1]], 0.15, 0.55)
    speed, angle = float(rng.choice([0, rng.uniform(0, 2.5)])), rng.uniform(0, 6.28)
    start = _flat(rng, 0.5) - 0.5 * speed * np.array([np.cos(angle), np.sin(angle)])
    path = _walked(rng, start, speed, angle, height * rng.uniform(0.2, 0.75), rng.uniform(0, 0.06))
    return [Body(parts, path[0, :3], path[0, 3:], path)]


def _add_others(rng: Random, bodies: list[Body], floating: bool) -> None:
    """Neighbours that may be hit, and passers-by with shadows of their own,
    which have nothing to do with the object."""
    origin = bodies[0].at
    if rng.random() < 0.75 and not floating:
        for _ in range(int(rng.integers(1, 3))):
            size = rng.uniform(0.25, 0.6)
            parts, height = shapes.make(rng, str(rng.choice(shapes.MOVERS)), size)
            path = _walked(rng, _flat(rng, 2.6), rng.uniform(0.2, 4), rng.uniform(0, 6.28), height)
            own = bodies[0].path if bodies[0].path is not None else _stands(origin, shapes.UPRIGHT)
            if np.linalg.norm(path[:, :2] - own[:, :2], axis=1).min() > 0.9:
                bodies.append(Body(parts, path[0, :3], path[0, 3:], path))
    for _ in range(int(rng.integers(0, 5))):
        if len(bodies) >= WORLD - 1 or sum(len(b.parts) for b in bodies) > 14:
            return
        parts, height, size = _thing(rng, shapes.THINGS, 0.12, 0.4)
        at = _flat(rng, 0.8 if rng.random() < 0.6 else 2.2)
        if np.linalg.norm(at - origin[:2]) < size + 0.35:
            at = at + np.sign(at - origin[:2] + 1e-3) * 0.6
        if floating:
            path = _walked(rng, at, 0, 0, height * rng.uniform(0.3, 0.8), 0.03)
            bodies.append(Body(parts, path[0, :3], path[0, 3:], path))
            continue
        bodies.append(Body(parts, _on(at, height + 0.01), _heading(rng), density=rng.uniform(50, 500)))
        if rng.random() < 0.3:
            upper, lower = shapes.make(rng, "solid", size * 0.7)
            bodies.append(Body(upper, _on(at, 2 * height + lower + 0.03), _heading(rng), density=100))


def _walls(rng: Random) -> list[Part]:
    if rng.random() > 0.5:
        return []
    angle, walls = rng.uniform(0, 2 * np.pi), []
    for _ in range(int(rng.integers(1, 4))):
        far = rng.uniform(2.5, 6)
        at = [far * np.cos(angle), far * np.sin(angle), rng.uniform(0.2, 1.5)]
        half = rng.uniform((1, 0.05, 0.3), (8, 0.6, 3))
        walls.append(shapes.part("box", half, at, turn([0, 0, 1], angle + np.pi / 2)))
        angle += rng.uniform(1, 2.2)
    return walls


def _poses(scene: Scene, with_object: bool) -> Array:
    """float32 [FRAMES, BODIES, 7]: position and quaternion of every body on every frame."""
    bodies = scene.bodies[:WORLD]
    there = [i for i, b in enumerate(bodies) if (i > 0 or with_object) and not (with_object and b.held_at is not None)]
    model = mujoco.MjModel.from_xml_string(_xml(bodies, there, scene.walls))
    data = mujoco.MjData(model)
    ids = {i: model.body(f"b{i}").id for i in there}
    for i in there:
        if bodies[i].path is None:
            at = model.body_dofadr[ids[i]]
            data.qvel[at : at + 6] = np.concatenate([bodies[i].speed, bodies[i].spin])
    out = np.zeros((FRAMES, BODIES, 7))
    out[..., 3] = 1
    for t in range(FRAMES):
        for i in there:
            path = bodies[i].path
            if path is not None:
                by_hand = model.body_mocapid[ids[i]]
                data.mocap_pos[by_hand], data.mocap_quat[by_hand] = path[t, :3], path[t, 3:]
        if t == 0:
            mujoco.mj_forward(model, data)
        else:
            mujoco.mj_step(model, data, nstep=STEPS)
        for i in there:
            path = bodies[i].path
            out[t, i] = path[t] if path is not None else np.concatenate([data.xpos[ids[i]], data.xquat[ids[i]]])
    for i, body in enumerate(bodies):
        if with_object and body.held_at is not None:
            out[:, i] = out[:, 0]
            out[:, i, :3] += np.stack([shapes.turned(q, body.held_at) for q in out[:, 0, 3:]])
    return np.nan_to_num(np.clip(out, -50, 50)).astype(np.float32)


def _xml(bodies: list[Body], there: list[int], walls: list[Part]) -> str:
    def numbers(values: Any) -> str:
        return " ".join(f"{v:.5f}" for v in values)

    def solids(parts: list[Part], density: float) -> str:
        used = {"sphere": 1, "capsule": 2, "cylinder": 2}
        return "".join(
            f'<geom type="{p.kind}" size="{numbers(p.half[: used.get(p.kind, 3)])}" pos="{numbers(p.centre)}"'
            f' quat="{numbers(p.rotation)}" density="{density:.0f}"/>'
            for p in parts
        )

    placed = ""
    for i in there:
        body = bodies[i]
        moves = "<freejoint/>" if body.path is None else ""
        mocap = ' mocap="true"' if body.path is not None else ""
        placed += f'<body name="b{i}" pos="{numbers(body.at)}" quat="{numbers(body.rotation)}"{mocap}>{moves}'
        placed += solids(body.parts, body.density) + "</body>"
    return (
        f'<mujoco><option timestep="{STEP_S}"/><default><geom friction="0.7 .01 .002" solref="0.01 1"/></default>'
        f'<worldbody><geom type="plane" size="50 50 1"/>{solids(walls, 100)}{placed}</worldbody></mujoco>'
    )
