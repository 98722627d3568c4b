"""A short HDR shot made from nothing, of which the clean plate is known.

What comes in: a folder. What goes out, in it: plate, matte and true clean plate as half-float EXR sequences. A ball
rolls over a polished floor in front of a wall with lamps, under a drifting camera, with a soft shadow, a reflection in
the floor, grain, highlights above 8, overscan and timecode. It knows nothing of engines and gives them no hint: shadow
and reflection are in no matte.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import OpenEXR

Array = npt.NDArray[np.float32]

FIRST, COUNT = 1001, 24
WIDTH, HEIGHT = 640, 360
OVERSCAN_X, OVERSCAN_Y = 16, 8
HORIZON = 190.0
"""Row of the line between wall and floor, in the world's own pixels, at the first frame."""
BALL_RADIUS = 40.0
GRAIN_SIGMA = 0.012
REFLECTIVITY = 0.3


@dataclasses.dataclass(frozen=True)
class DemoShot:
    """Where the demo's sequences lie, and the regions in which to score it, bool [T, H, W] on the data window."""

    plate: str
    matte: str
    truth: str
    object: npt.NDArray[np.bool_]
    effect: npt.NDArray[np.bool_]


def write(folder: Path, seed: int = 7) -> DemoShot:
    """Write the shot's three sequences under `folder`. Takes about two seconds; the same seed gives the same bits."""
    rng = np.random.default_rng(seed)
    world = _world(rng)
    for name in ("plate", "matte", "truth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    objects, effects = [], []
    for index in range(COUNT):
        frame = FIRST + index
        camera = _camera(index)
        clean = _seen(world, camera)
        ball, alpha, shadow, mirrored, mirror_alpha = _ball(camera, index)
        lit = clean * (1 - 0.72 * shadow[..., None])
        lit += (mirrored - lit) * (REFLECTIVITY * mirror_alpha)[..., None]
        plate = lit * (1 - alpha[..., None]) + ball * alpha[..., None]
        noise = rng.standard_normal(clean.shape).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), 0.6) * 2.1
        _write_rgb(folder / f"plate/plate.{frame}.exr", _grained(plate, noise), index)
        _write_rgb(folder / f"truth/truth.{frame}.exr", _grained(clean, noise), index)
        _write_matte(folder / f"matte/matte.{frame}.exr", alpha)
        objects.append(alpha > 0.1)
        effects.append(((shadow > 0.1) | (mirror_alpha > 0.1)) & (alpha <= 0.1))
    return DemoShot(
        str(folder / "plate/plate.####.exr"),
        str(folder / "matte/matte.####.exr"),
        str(folder / "truth/truth.####.exr"),
        np.stack(objects),
        np.stack(effects),
    )


def write_probe(path: Path) -> None:
    """One small EXR in the demo's form, to see that files can be written and read here."""
    _write_rgb(path, np.full((HEIGHT + 2 * OVERSCAN_Y, WIDTH + 2 * OVERSCAN_X, 3), 0.18, np.float32), 0)


def _world(rng: np.random.Generator) -> Array:
    """Wall and floor in light, float32 [H, W, 3], a good deal larger than the frame."""
    height, width = HEIGHT + 160, WIDTH + 240
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wall = np.array([0.34, 0.30, 0.26], np.float32) * (0.9 + 0.3 * _clouds(rng, height, width, 5))[..., None]
    bricks = (np.abs((y / 26) % 1 - 0.5) > 0.46) | (np.abs((x / 58 + (y // 26) * 0.5) % 1 - 0.5) > 0.48)
    wall = np.where(bricks[..., None], wall * 0.6, wall)
    depth = np.maximum(y - HORIZON - 60, 1) / 120
    boards = np.abs((x - width / 2) / (70 + 110 * depth) % 1 - 0.5) > 0.485
    floor = np.array([0.20, 0.14, 0.09], np.float32) * (1.0 + 0.45 * _clouds(rng, height, width, 6))[..., None]
    floor = np.where(boards[..., None], floor * 0.55, floor) * (0.8 + 0.3 * np.minimum(depth, 1.5))[..., None]
    light = np.where((y < HORIZON + 60)[..., None], wall, floor).astype(np.float32)
    for lamp_x, lamp_y, power in ((150, 110, 9.0), (420, 90, 14.0), (640, 120, 22.0), (800, 100, 8.5)):
        glow = np.exp(-((x - lamp_x) ** 2 + (y - lamp_y) ** 2) / (2 * 7.0**2))
        halo = 1 / (1 + ((x - lamp_x) ** 2 + (y - lamp_y) ** 2) / 45.0**2) ** 2
        light += (power * glow + 0.45 * halo)[..., None] * np.array([1.0, 0.86, 0.66], np.float32)
    return light


def _clouds(rng: np.random.Generator, height: int, width: int, octaves: int) -> Array:
    """Band-limited noise in about [-1, 1], float32 [H, W]."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = (max(2, height >> (octaves - octave)), max(2, width >> (octaves - octave)))
        coarse = rng.standard_normal(cells).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 0.55**octave * 0.7
    return np.asarray(np.tanh(total), np.float32)


def _camera(index: int) -> npt.NDArray[np.float64]:
    """Matrix [3, 3] from a pixel of the data window to the world: a hand-held drift with a little roll and zoom."""
    t = index / (COUNT - 1)
    angle = np.deg2rad(0.5 * np.sin(2.1 * t * np.pi))
    zoom = 1 - 0.035 * t
    c, s = np.cos(angle) * zoom, np.sin(angle) * zoom
    centre_x, centre_y = 400 + 46 * t + 2.0 * np.sin(9 * t), 245 + 9 * np.sin(2.6 * t) + 1.3 * np.sin(13 * t)
    half_x, half_y = WIDTH / 2 + OVERSCAN_X, HEIGHT / 2 + OVERSCAN_Y
    return np.array(
        [[c, -s, centre_x - c * half_x + s * half_y], [s, c, centre_y - s * half_x - c * half_y], [0, 0, 1]]
    )


def _seen(picture: Array, camera: npt.NDArray[np.float64]) -> Array:
    size = (WIDTH + 2 * OVERSCAN_X, HEIGHT + 2 * OVERSCAN_Y)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    seen = cv2.warpPerspective(picture, camera, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.maximum(seen, 0), np.float32)


def _ball(camera: npt.NDArray[np.float64], index: int) -> tuple[Array, Array, Array, Array, Array]:
    """Ball light and alpha, shadow strength, mirrored ball light and alpha, as this frame's camera sees them."""
    height, width = HEIGHT + 160, WIDTH + 240
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    t = index / (COUNT - 1)
    centre_x, centre_y = 190 + 430 * t, HORIZON + 95.0
    foot = centre_y + BALL_RADIUS
    ball, alpha = _shaded(x - centre_x, y - centre_y, 7.5 * t)
    mirrored, mirror_alpha = _shaded(x - centre_x, -(y - (2 * foot - centre_y)), 7.5 * t)
    fade = np.clip(1.25 - (y - foot) / (1.7 * BALL_RADIUS), 0, 1) * (y > foot - 4)
    shadow = np.exp(-((((x - centre_x - 34) / 62) ** 2 + ((y - foot - 3) / 15) ** 2) ** 1.4))
    shadow = cv2.GaussianBlur(shadow.astype(np.float32), (0, 0), 3)
    mirror_alpha = cv2.GaussianBlur((mirror_alpha * fade).astype(np.float32), (0, 0), 1.6)
    flat = [_seen(p, camera) for p in (alpha, shadow, mirror_alpha)]
    return (
        _seen(ball, camera),
        np.clip(flat[0], 0, 1),
        np.clip(flat[1], 0, 1),
        _seen(mirrored, camera),
        np.clip(flat[2], 0, 1),
    )


def _shaded(dx: Array, dy: Array, turn: float) -> tuple[Array, Array]:
    """A lit, striped ball centred where dx = dy = 0: light [H, W, 3] and anti-aliased alpha [H, W]."""
    r = np.sqrt(dx**2 + dy**2)
    alpha = np.clip(BALL_RADIUS + 0.5 - r, 0, 1).astype(np.float32)
    nx, ny = dx / BALL_RADIUS, dy / BALL_RADIUS
    nz = np.sqrt(np.maximum(1 - nx**2 - ny**2, 0))
    lit = np.maximum(-0.45 * nx - 0.6 * ny + 0.66 * nz, 0) + 0.12
    stripe = np.sin(6 * np.arctan2(ny * np.cos(turn) + nx * np.sin(turn), nz + 0.2)) > 0.3
    colour = np.where(
        stripe[..., None], np.array([0.75, 0.12, 0.06], np.float32), np.array([0.55, 0.5, 0.42], np.float32)
    )
    glint = 9.0 * np.clip(-0.5 * nx - 0.62 * ny + 0.6 * nz, 0, 1) ** 60
    return (colour * lit[..., None] + glint[..., None]).astype(np.float32), alpha


def _grained(light: Array, noise: Array) -> Array:
    """Grain whose variance grows with light, as a sensor's does."""
    return np.asarray(light + noise * GRAIN_SIGMA * np.sqrt(0.05 + np.maximum(light, 0)), np.float32)


def _write_rgb(path: Path, light: Array, index: int) -> None:
    half = np.clip(light, -65504, 65504).astype(np.float16)
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "displayWindow": (np.array([0, 0], np.int32), np.array([WIDTH - 1, HEIGHT - 1], np.int32)),
        "dataWindow": (
            np.array([-OVERSCAN_X, -OVERSCAN_Y], np.int32),
            np.array([WIDTH + OVERSCAN_X - 1, HEIGHT + OVERSCAN_Y - 1], np.int32),
        ),
        "timeCode": OpenEXR.TimeCode(1, 0, 0, index, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        "comments": "VOID for compositors: demo shot",
    }
    channels = {name: np.ascontiguousarray(half[..., i]) for i, name in enumerate("RGB")}
    OpenEXR.File(header, channels).write(str(path))


def _write_matte(path: Path, alpha: Array) -> None:
    """The roto as a compositor would hand it over: alpha alone, on a window just around the ball."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1], columns[0], columns[-1]
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "displayWindow": (np.array([0, 0], np.int32), np.array([WIDTH - 1, HEIGHT - 1], np.int32)),
        "dataWindow": (
            np.array([x0 - OVERSCAN_X, y0 - OVERSCAN_Y], np.int32),
            np.array([x1 - OVERSCAN_X, y1 - OVERSCAN_Y], np.int32),
        ),
    }
    half = np.ascontiguousarray(alpha[y0 : y1 + 1, x0 : x1 + 1].astype(np.float16))
    OpenEXR.File(header, {"A": half}).write(str(path))
