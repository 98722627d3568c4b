"""Dress a scene: materials, lights, camera move, splashes, and which bodies are the object.

What comes in: one scene's poses and a random generator. What goes out: records for the ray caster for every picture
of a clip, and the homographies between them. It draws nothing.

A clip is 8 frames in a row and 8 donor frames of the same shot. They are drawn three times over: as photographed
(A, all 16), with the object invisible (C, the 8) and with the object never there (B, the 8). A against C is what the
object did to the light, C against B is what it did to other things.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from training.raycaster import POSE, PRIMITIVE, VIEW, WORLD
from training.scenes import BODIES, FRAMES, KINDS, PARTS, RATE
from training.scenes import WORLD as WALLS
from training.shapes import Random

Matrix = npt.NDArray[np.float64]
Records = np.ndarray[Any, Any]

WINDOW, DONORS = 8, 8
TAKES = WINDOW + DONORS
PICTURES = TAKES + 2 * WINDOW
LAYERS = 3
HEIGHT, WIDTH = 192, 336
CAMERAS = {"static": 0.42, "pan": 0.15, "hand": 0.2, "track": 0.12, "dolly": 0.11}


@dataclasses.dataclass(frozen=True)
class Textures:
    """How many tiles the atlas holds: photographs come first, `all` counts the made ones as well."""

    photographs: int
    all: int


@dataclasses.dataclass
class Clip:
    """Records of one clip. Pictures are in the order A window, A donors, C, B."""

    primitives: Records
    poses: Records
    world: Records
    views: Records
    to_view: Matrix
    """[TAKES, 3, 3], from pixels of the middle frame of the window to those of each frame, as a tracker would find."""
    object: npt.NDArray[np.bool_]
    """[PARTS + 1] by first hit: which parts are to be removed."""
    takes: npt.NDArray[np.int64]
    """[TAKES] frames of the scene that the A pictures show."""
    body: npt.NDArray[np.int64]
    """[PARTS + 1] body of each part by first hit, -1 for none."""
    movers: npt.NDArray[np.int64]
    """[LAYERS] bodies that move by hand, the object first; -1 for none."""
    mover_is_object: npt.NDArray[np.bool_]
    physics_known: bool
    """Whether B was simulated without all of the object."""
    kind: int
    moving: bool
    no_effect: bool


def dress(scenes: Mapping[str, Any], index: int, rng: Random, textures: Textures, held_out: bool = False) -> Clip:
    """One clip of scene `index`. held_out: light rigs that training never sees."""
    step = int(rng.choice([1, 1, 1, 2]))
    start = int(rng.integers(0, FRAMES - WINDOW * step + step))
    window = start + step * np.arange(WINDOW)
    rest = np.setdiff1d(np.arange(FRAMES), window)
    donors = (
        np.sort(rng.choice(rest, DONORS, replace=False))
        if rng.random() < 0.75
        else np.clip(start + rng.integers(-10, WINDOW * step + 10, DONORS), 0, FRAMES - 1)
    )
    takes = np.concatenate([window, donors])
    pick = {key: value[index] for key, value in scenes.items()}
    kind = list(KINDS)[int(pick["kind"])]
    targets = {0}
    if rng.random() < 0.3:
        others = [b for b in range(1, BODIES - 1) if pick["by_hand"][b]]
        targets |= set(rng.permutation(others)[: int(rng.integers(1, 3))].tolist()) if others else set()
    is_object = np.isin(pick["body"], list(targets)) & (pick["type"] >= 0)
    water = rng.random() < {"float": 0.85, "sit": 0, "static": 0.35}.get(kind, 0.06)
    no_effect = bool(rng.random() < 0.08)
    primitives = _materials(pick, rng, textures)
    primitives["ghost"][is_object] = no_effect
    world = _world(rng, textures, water, held_out)
    size = float(np.abs(pick["half"][is_object]).max()) if is_object.any() else 0.4
    camera = _camera(pick, rng, window, size)
    _clear_the_view(pick, primitives, camera, window)
    views = np.zeros(PICTURES, VIEW)
    frames = np.concatenate([takes, window, window])
    for name in ("eye", "right", "up", "forward"):
        views[name] = camera[name][frames]
    views["tan_x"], views["tan_y"] = camera["tan"]
    views["time"], views["seed"] = frames / RATE, rng.integers(4096) + frames
    poses = np.zeros((PICTURES, PARTS), POSE)
    _place(poses[:TAKES], pick, pick["with_object"], takes)
    _place(poses[TAKES : TAKES + WINDOW], pick, pick["with_object"], window)
    _place(poses[TAKES + WINDOW :], pick, pick["without"], window)
    poses["present"] = (primitives["type"] >= 0)[None]
    poses["present"][TAKES:, is_object] = 0
    if water:
        _ripples(pick, rng, views, takes, size)
    if (water and rng.random() < 0.35) or (kind in ("roll", "drop", "mover") and rng.random() < 0.06):
        _throw(pick, rng, primitives, poses, takes, size, water)
    to_view = _between(camera, takes, rng)
    movers = [0, *sorted(targets - {0}), *(b for b in range(1, BODIES - 1) if pick["by_hand"][b] and b not in targets)]
    layers = np.array([*movers, *[-1] * LAYERS][:LAYERS])
    body = np.where(primitives["type"] >= 0, pick["body"], -1)
    return Clip(
        primitives,
        poses,
        world,
        views,
        to_view,
        np.concatenate([[False], is_object]),
        takes,
        np.concatenate([[-1], body]).astype(np.int64),
        layers,
        np.isin(layers, list(targets)),
        len(targets) == 1,
        int(pick["kind"]),
        camera["mode"] != "static",
        no_effect,
    )


def colour(rng: Random, low: float = 0.03, high: float = 0.9) -> Matrix:
    """Anything from grey to vivid."""
    c = rng.uniform(low, high, 3)
    grey = rng.uniform()
    return np.asarray(c * (1 - grey) + grey * c.mean())


def _materials(pick: Mapping[str, Any], rng: Random, textures: Textures) -> Records:
    out = np.zeros(PARTS, PRIMITIVE)
    out["type"], out["half"] = pick["type"], np.maximum(pick["half"], 0.01)
    bodies = [_material(rng, textures) for _ in range(BODIES)]
    for i, body in enumerate(pick["body"]):
        for name, value in bodies[body].items():
            out[name][i] = value
        if body == WALLS or rng.random() < 0.25:
            out["colour"][i] = colour(rng)
            out["tile"][i] = rng.integers(textures.all if rng.random() < 0.5 else textures.photographs)
            out["tile_mix"][i], out["tile_scale"][i] = rng.choice([0, 0.5, 1]), rng.uniform(0.15, 1)
    return out


def _material(rng: Random, textures: Textures) -> dict[str, Any]:
    return {
        "colour": colour(rng),
        "tile": rng.integers(textures.all),
        "tile_scale": rng.uniform(0.2, 3),
        "tile_mix": rng.choice([0, 0.2, 0.6, 1]),
        "mirror": rng.choice([0, 0.04, 0.2, 0.5], p=[0.6, 0.2, 0.1, 0.1]),
        "rough": rng.choice([0, 0.05, 0.15]),
        "pattern": rng.choice([0, 0, 0, 0, 1, 2, 3]),
        "pattern_scale": rng.uniform(1, 8),
        "colour2": colour(rng),
        "shift": rng.uniform(0, 5, 2),
    }


def _world(rng: Random, textures: Textures, water: bool, held_out: bool) -> Records:
    w = np.zeros((), WORLD)
    w["tile"] = rng.integers(textures.photographs if rng.random() < 0.5 else textures.all)
    w["tile_scale"], w["tile_mix"] = np.exp(rng.uniform(np.log(0.08), np.log(1.2))), rng.uniform(0.2, 1)
    w["colour"] = colour(rng, 0.15, 0.9)
    w["mirror"], w["rough"] = (
        rng.choice([0, 0.03, rng.uniform(0.05, 0.5)], p=[0.55, 0.2, 0.25]),
        rng.choice([0, 0.03, 0.1]),
    )
    w["fresnel_gain"] = rng.uniform(0.5, 1)
    if rng.random() < 0.25:
        w["pattern"], w["pattern_scale"], w["colour2"] = rng.integers(1, 4), rng.uniform(0.4, 3), colour(rng)
    w["stain"], w["stain_scale"] = rng.integers(textures.all), rng.uniform(0.02, 0.15)
    w["stain_mix"], w["fog"], w["angle"] = rng.choice([0, 0.4, 0.8]), rng.choice([0, 0.004, 0.02]), rng.uniform(0, 6.28)
    if water:
        w["water"], w["wave_height"] = 1, rng.choice([0.01, 0.04, 0.1]) * rng.uniform(0.5, 1.5)
        w["wave_frequency"], w["wave_speed"] = rng.uniform(2, 8), rng.uniform(1, 4)
        w["mirror"], w["rough"], w["fresnel_gain"], w["colour"] = rng.uniform(0.02, 0.15), 0, 1, w["colour"] * 0.6
    count = int(rng.choice([0, 1, 2, 3], p=[0, 0.2, 0.5, 0.3] if held_out else [0.12, 0.62, 0.2, 0.06]))
    for k in range(count):
        high, round_ = np.radians(rng.uniform(14, 80)), rng.uniform(0, 2 * np.pi)
        light = w["lights"][k]
        light["direction"] = np.cos(high) * np.cos(round_), np.cos(high) * np.sin(round_), np.sin(high)
        light["radius"] = np.exp(rng.uniform(np.log(0.004), np.log(0.35)))
        tint = 0.35 if held_out else 0.15
        strength = np.exp(rng.uniform(np.log(0.4), np.log(3.5))) * (1 if k == 0 else 0.5)
        light["colour"] = strength * (1 + rng.uniform(-tint, tint, 3))
    w["zenith"] = (
        np.array([0.7, 0.85, 1]) * (1 - rng.uniform() * np.array([0.4, 0.3, 0]))
        if rng.random() < 0.7
        else colour(rng, 0.3, 1)
    )
    w["horizon"] = colour(rng, 0.4, 1) if rng.random() < 0.4 else (0.85, 0.88, 0.9)
    w["sky_tile"] = rng.integers(textures.photographs if rng.random() < 0.8 else textures.all)
    w["sky_mix"], w["sky_scale"], w["sky_fade"] = rng.choice([0, 0.6, 1]), rng.uniform(0.2, 0.7), rng.uniform(0, 2)
    w["ambient"], w["occluded"] = np.exp(rng.uniform(np.log(0.12), np.log(0.9))), rng.uniform(0.1, 0.5)
    return w


def _smooth(rng: Random, amount: float) -> Matrix:
    """A hand's unsteadiness: a slow walk and a shake on top. [FRAMES, 3]."""
    shake = np.convolve(rng.normal(size=FRAMES), np.ones(3) / 3, "same")[:, None] * rng.normal(size=3)
    return np.asarray(np.cumsum(rng.normal(size=(FRAMES, 3)) * amount * 0.35, 0) + shake * amount)


def _camera(pick: Mapping[str, Any], rng: Random, window: npt.NDArray[np.int64], size: float) -> dict[str, Any]:
    """A camera that sees the object, and how it moves. Vectors by frame [FRAMES, 3]."""
    path = pick["with_object"][:, 0, :3].astype(float)
    middle, since = path[window[WINDOW // 2]], (np.arange(FRAMES) - window[0])[:, None]
    mode = str(rng.choice(list(CAMERAS), p=list(CAMERAS.values())))
    far = size * np.exp(rng.uniform(np.log(3.5), np.log(18))) + 0.6
    high = np.radians(rng.choice([rng.uniform(4, 20), rng.uniform(12, 45), rng.uniform(40, 80)], p=[0.35, 0.5, 0.15]))
    round_, field = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(24, 58))
    look = middle + rng.normal(size=3) * far * (0.15, 0.15, 0.05)
    look[2] = max(look[2], -0.1)
    eye = look + far * np.array([np.cos(high) * np.cos(round_), np.cos(high) * np.sin(round_), np.sin(high)])
    eyes, looks = np.tile(eye, (FRAMES, 1)), np.tile(look, (FRAMES, 1))
    if mode == "pan":
        looks = looks + _smooth(rng, 0.004 * far) + since * rng.normal(size=3) * 0.012 * far * (1, 1, 0.4)
    elif mode == "hand":
        eyes, looks = eyes + _smooth(rng, 0.006 * far), looks + _smooth(rng, 0.006 * far)
    elif mode == "track":
        looks = looks + (path - middle) * rng.uniform(0.5, 1.1)
        eyes = eyes + (path - middle) * rng.choice([0, 0, 0.7, 1]) + _smooth(rng, 0.003 * far)
    elif mode == "dolly":
        eyes = eyes + since * rng.normal(size=3) * 0.012 * far * (1, 1, 0.3) + _smooth(rng, 0.002 * far)
    eyes[:, 2] = np.maximum(eyes[:, 2], 0.15)
    forward = looks - eyes
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True) + 1e-9
    up = np.cross(right, forward)
    roll = np.radians(rng.normal() * 2)
    right, up = right * np.cos(roll) + up * np.sin(roll), up * np.cos(roll) - right * np.sin(roll)
    tan_y = np.tan(field / 2)
    return {
        "mode": mode,
        "eye": eyes,
        "right": right,
        "up": up,
        "forward": forward,
        "tan": (tan_y * WIDTH / HEIGHT, tan_y),
        "middle": middle,
    }


def _clear_the_view(pick: Mapping[str, Any], primitives: Records, camera: Mapping[str, Any], window: Any) -> None:
    """Take away walls that stand between camera and object."""
    eye = camera["eye"][window[WINDOW // 2]]
    for i in np.flatnonzero((pick["body"] == WALLS) & (pick["type"] >= 0)):
        turn_back = rotation_matrix(pick["rotation"][i]).T
        for share in np.linspace(0, 0.97, 24):
            local = turn_back @ (eye + (camera["middle"] - eye) * share - pick["centre"][i])
            if np.all(np.abs(local) < primitives["half"][i] + 0.15):
                primitives["type"][i] = -1
                break


def rotation_matrix(q: Any) -> Matrix:
    """[..., 3, 3] of quaternions (w, x, y, z) [..., 4]."""
    w, x, y, z = np.moveaxis(np.asarray(q, float), -1, 0)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return np.stack(rows, -1).reshape(*np.shape(w), 3, 3)


def _place(poses: Records, pick: Mapping[str, Any], bodies: Any, frames: Any) -> None:
    """Parts in the world: each swings about its hinge, and goes where its body goes."""
    body = bodies[frames][:, pick["body"]]
    turned, swing = rotation_matrix(body[..., 3:]), pick["swing"]
    angle = swing[:, 0] * np.sin(2 * np.pi * swing[:, 1] * np.asarray(frames)[:, None] / RATE + swing[:, 2])
    c, s, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    swung = np.stack([c, zero, s, zero, zero + 1, zero, -s, zero, c], -1).reshape(*angle.shape, 3, 3)
    hinge = np.zeros((len(frames), PARTS, 3))
    hinge[..., 2] = swing[:, 3]
    centre = pick["centre"][None] + hinge - np.einsum("tpij,tpj->tpi", swung, hinge)
    local = swung @ rotation_matrix(pick["rotation"])[None]
    poses["rotation"] = (turned @ local).reshape(len(frames), PARTS, 9)
    poses["centre"] = body[..., :3] + np.einsum("tpij,tpj->tpi", turned, centre)


def _ripples(pick: Mapping[str, Any], rng: Random, views: Records, takes: Any, size: float) -> None:
    """Rings around the object while it touches the water (not in C and B), and around a neighbour (in all)."""
    frequency, height = rng.uniform(5, 18) / max(size, 0.2) * 0.4, rng.uniform(0.05, 0.3)
    decay, speed = rng.uniform(0.3, 1.6), rng.uniform(4, 14)
    at = pick["with_object"][takes, 0]
    first = views["ripples"][:TAKES, 0]
    first["x"], first["y"] = at[:, 0], at[:, 1]
    first["height"] = np.where(at[:, 2] < size * 1.3, height, 0)
    first["frequency"], first["phase"], first["decay"] = frequency * 2, speed * takes / RATE + 7, decay
    views["ripples"][:TAKES, 0] = first
    if rng.random() < 0.4 and pick["bodies"] > 1:
        other = int(rng.integers(1, min(int(pick["bodies"]), BODIES - 1)))
        frames = np.round(views["time"] * RATE).astype(int)
        place = pick["with_object"][frames, other]
        second = views["ripples"][:, 1]
        second["x"], second["y"], second["height"] = place[:, 0], place[:, 1], height * 0.8
        second["frequency"], second["phase"], second["decay"] = frequency * 2.3, speed * 1.1 * frames / RATE, decay
        views["ripples"][:, 1] = second


def _throw(
    pick: Mapping[str, Any], rng: Random, primitives: Records, poses: Records, takes: Any, size: float, water: bool
) -> None:
    """Drops or dust thrown up by the object: small balls in the A pictures alone."""
    spare = np.flatnonzero(primitives["type"] < 0)[:4]
    spread, up = rng.normal(size=(4, 2)) * size * 1.5, rng.uniform(0.8, 3, 4) * np.sqrt(size * 3)
    period = rng.uniform(0.4, 1)
    for n, i in enumerate(spare):
        primitives["type"][i], primitives["half"][i] = 0, rng.uniform(0.03, 0.13) * size
        primitives["colour"][i] = rng.uniform(0.7, 1, 3) if water else colour(rng)
        primitives["tile_mix"][i], primitives["mirror"][i], primitives["ghost"][i] = 0, 0.04, 0
        since = (takes / RATE + n * 0.13) % period
        at = pick["with_object"][takes, 0, :2] + spread[n] * (since + 0.15)[:, None]
        height = np.maximum(0.01, up[n] * since - 4.9 * since**2)
        poses["rotation"][:, i] = np.eye(3).ravel()
        poses["centre"][:TAKES, i] = np.concatenate([at, height[:, None]], 1)
        poses["present"][:, i] = 0
        poses["present"][:TAKES, i] = 1


def _between(camera: Mapping[str, Any], takes: Any, rng: Random) -> Matrix:
    """Homographies of the ground (of infinity where the camera only turns), each off by as much as a tracker is."""
    tan_x, tan_y = camera["tan"]
    lens = np.array([[WIDTH / 2 / tan_x, 0, (WIDTH - 1) / 2], [0, HEIGHT / 2 / tan_y, (HEIGHT - 1) / 2], [0, 0, 1]])

    def plane(frame: int) -> Matrix:
        r = np.stack([camera["right"][frame], -camera["up"][frame], camera["forward"][frame]])
        if camera["mode"] == "pan":
            return np.asarray(lens @ r)
        return np.asarray(lens @ np.column_stack([r[:, 0], r[:, 1], -r @ camera["eye"][frame]]))

    middle = takes[WINDOW // 2]
    off = rng.choice([0.05, 0.2, 0.5, 1.2])
    out = np.tile(np.eye(3), (TAKES, 1, 1))
    for i, frame in enumerate(takes):
        if camera["mode"] != "static":
            h = plane(frame) @ np.linalg.inv(plane(middle))
            out[i] = h / h[2, 2]
        if frame != middle and (camera["mode"] != "static" or rng.random() < 0.1):
            error = rng.normal(size=(2, 3)) * np.array([0.0008, 0.0008, 0.6]) * off
            out[i] = np.vstack([np.eye(3)[:2] + error, [0, 0, 1]]) @ out[i]
    return out
