"""Surfaces as pictures: colour, height and roughness, made from noise with the spectrum of photographs.

What comes in: a seeded generator and a word. What goes out: arrays that repeat without a seam. It knows no Blender.

Photographs of natural surfaces have amplitudes that fall with frequency to about the power 1 (Field 1987).
"""

from __future__ import annotations

import dataclasses

import numpy as np

SIDE, SMALL = 1024, 512
"""Pixels across surfaces of grounds and walls, and of things."""


@dataclasses.dataclass(frozen=True)
class Surface:
    """colour: float32 [S, S, 3], sRGB codes; height, roughness: float32 [S, S] in [0, 1]; metres: width of it."""

    colour: np.ndarray
    height: np.ndarray
    roughness: np.ndarray
    metres: float
    bump: float


def noise(rng: np.random.Generator, fall: float = 1.0, stretch: float = 1.0, lowest: float = 1.0,
          side: int = SIDE) -> np.ndarray:  # fmt: skip
    """Seamless noise whose amplitude falls with frequency to the power `fall`; mean 0, deviation 1. float32 [S, S].
    stretch: how much longer its grain is across than down; lowest: no waves longer than 1/lowest of the picture."""
    y = np.fft.fftfreq(side)[:, None] * side
    x = np.fft.rfftfreq(side)[None] * side * stretch
    distance = np.hypot(x, y)
    amplitude = np.where(distance < lowest, 0, 1 / np.maximum(distance, 1) ** fall)
    phase = rng.random(amplitude.shape) * 2 * np.pi
    waves = amplitude * np.exp(1j * phase) * rng.rayleigh(1, amplitude.shape)
    made = np.fft.irfft2(waves, (side, side))
    return ((made - made.mean()) / made.std()).astype(np.float32)


def grid(columns: int, rows: int, bond: float, line: float) -> tuple[np.ndarray, np.ndarray]:
    """(number of the stone [S, S], 1 on joints [S, S]); every second row is set off by `bond` of a stone."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    row = np.floor(y * rows)
    across = x * columns + bond * (row % 2)
    number = (row * columns + np.floor(across) % columns).astype(int)
    near = np.minimum(
        np.minimum(across % 1, 1 - across % 1) / columns, np.minimum(y * rows % 1, 1 - y * rows % 1) / rows
    )
    return number, np.clip(1.5 - near / line, 0, 1).astype(np.float32)


def make(word: str, rng: np.random.Generator) -> Surface:
    """Raises KeyError for a surface that isn't there."""
    return SURFACES[word](rng)


def _mixed(shade: np.ndarray, dark: tuple, light: tuple) -> np.ndarray:
    share = np.clip(shade, 0, 1)[..., None]
    return (np.asarray(dark) * (1 - share) + np.asarray(light) * share).astype(np.float32)


def _tinted(rng: np.random.Generator, colour: np.ndarray, by: float) -> np.ndarray:
    return np.clip(colour * (1 + by * (rng.random(3) - 0.5)), 0.02, 0.98).astype(np.float32)


def _muted(rng: np.random.Generator) -> np.ndarray:
    """A colour as paint comes: seldom pure."""
    grey = rng.uniform(0.25, 0.8)
    return np.clip(grey + rng.uniform(0.05, 0.26) * (rng.random(3) - 0.5) * 2, 0.06, 0.9)


def concrete(rng: np.random.Generator) -> Surface:
    coarse, fine, stain = noise(rng, 1.1), noise(rng, 0.6, lowest=40), noise(rng, 1.6)
    cracks = np.exp(-((noise(rng, 1.7) * 16) ** 2))
    shade = 0.5 + 0.16 * coarse + 0.10 * fine - 0.18 * np.maximum(stain - 0.4, 0) - 0.45 * cracks
    colour = _tinted(rng, _mixed(shade, (0.27, 0.25, 0.22), (0.72, 0.69, 0.63)), 0.12)
    height = np.clip(0.5 + 0.1 * coarse + 0.08 * fine - 0.3 * cracks, 0, 1)
    return Surface(colour, height, np.clip(0.75 + 0.1 * coarse, 0.4, 1), 3.2, 0.02)


def asphalt(rng: np.random.Generator) -> Surface:
    speckle, coarse = noise(rng, 0.15, lowest=60), noise(rng, 1.2)
    stones = np.maximum(speckle - 0.7, 0)
    shade = 0.3 + 0.09 * speckle + 0.10 * coarse + 0.25 * stones
    colour = _tinted(rng, _mixed(shade, (0.13, 0.13, 0.14), (0.68, 0.66, 0.63)), 0.08)
    return Surface(colour, np.clip(0.5 + 0.14 * speckle, 0, 1), np.clip(0.7 + 0.1 * coarse, 0.3, 1), 2.4, 0.012)


def puddles(rng: np.random.Generator) -> Surface:
    """Asphalt after rain: smooth and dark where water stands, damp elsewhere."""
    dry = asphalt(rng)
    water = 1 / (1 + np.exp(-7 * (noise(rng, 1.7) - 0.15)))
    colour = dry.colour * (0.78 - 0.28 * water)[..., None]
    rough = 0.34 * (1 - water) + 0.02 + 0.06 * np.abs(noise(rng, 0.8)) * (1 - water)
    return Surface(colour, 0.5 + (dry.height - 0.5) * (1 - water), np.clip(rough, 0.02, 1), 5.5, 0.012)


def sand(rng: np.random.Generator) -> Surface:
    fine, wave, coarse = noise(rng, 0.3, lowest=60), noise(rng, 1.1, lowest=8), noise(rng, 1.5)
    shade = 0.5 + 0.13 * fine + 0.10 * wave + 0.09 * coarse
    colour = _tinted(rng, _mixed(shade, (0.44, 0.36, 0.26), (0.84, 0.75, 0.60)), 0.1)
    return Surface(colour, np.clip(0.5 + 0.12 * fine + 0.1 * wave, 0, 1), np.full_like(fine, 0.95), 2.0, 0.012)


def planks(rng: np.random.Generator) -> Surface:
    number, joint = grid(2, 9, 0.43, 0.0018)
    grain, rings = noise(rng, 0.9, stretch=0.06, lowest=0.5), noise(rng, 1.4, stretch=0.1)
    each = rng.normal(0, 0.14, number.max() + 1)[number].astype(np.float32)
    shift = rng.integers(0, SIDE, number.max() + 1)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    grain = grain[(rows + shift[number]) % SIDE, columns]
    shade = 0.5 + 0.17 * grain + 0.11 * np.sin(rings * 4) + each - 0.5 * joint
    colour = _tinted(rng, _mixed(shade, (0.20, 0.12, 0.07), (0.69, 0.51, 0.34)), 0.14)
    rough = np.clip(0.42 + 0.09 * grain + 0.3 * joint, 0.12, 1)
    return Surface(colour, np.clip(0.6 + 0.05 * grain - 0.5 * joint, 0, 1), rough, 2.4, 0.01)


def tiles(rng: np.random.Generator) -> Surface:
    number, joint = grid(6, 6, 0.0, 0.004)
    each = rng.normal(0, 0.1, number.max() + 1)[number].astype(np.float32)
    cloud, fine = noise(rng, 1.2, lowest=3), noise(rng, 0.5, lowest=50)
    shade = 0.62 + each + 0.11 * cloud + 0.04 * fine - 0.5 * joint
    colour = _tinted(rng, _mixed(shade, (0.22, 0.21, 0.20), (0.80, 0.76, 0.70)), 0.16)
    rough = np.clip(0.2 + 0.05 * cloud + 0.6 * joint, 0.06, 1)
    return Surface(colour, np.clip(0.7 + 0.02 * cloud - 0.5 * joint, 0, 1), rough, 3.0, 0.01)


def bricks(rng: np.random.Generator) -> Surface:
    number, joint = grid(8, 24, 0.5, 0.0045)
    each = rng.normal(0, 0.15, number.max() + 1)[number].astype(np.float32)
    coarse, fine = noise(rng, 1.3), noise(rng, 0.5, lowest=40)
    shade = 0.5 + each + 0.12 * coarse + 0.1 * fine
    stone = _tinted(rng, _mixed(shade, (0.30, 0.15, 0.11), (0.70, 0.42, 0.32)), 0.2)
    mortar = _mixed(0.5 + 0.12 * fine + 0.1 * coarse, (0.38, 0.36, 0.33), (0.68, 0.65, 0.60))
    colour = stone * (1 - joint[..., None]) + mortar * joint[..., None]
    height = np.clip(0.7 + 0.06 * fine + 0.4 * each * (1 - joint) - 0.5 * joint, 0, 1)
    return Surface(colour, height, np.full_like(fine, 0.88), 2.0, 0.02)


def plaster(rng: np.random.Generator) -> Surface:
    coarse, fine, stain = noise(rng, 1.3), noise(rng, 0.7, lowest=30), noise(rng, 1.7, stretch=3)
    shade = 0.6 + 0.09 * coarse + 0.05 * fine - 0.16 * np.maximum(stain - 0.3, 0)
    colour = _tinted(rng, _mixed(shade, (0.40, 0.37, 0.32), (0.82, 0.78, 0.70)), 0.2)
    return Surface(colour, np.clip(0.5 + 0.1 * coarse + 0.06 * fine, 0, 1), np.full_like(fine, 0.9), 4.0, 0.015)


def cloth(rng: np.random.Generator) -> Surface:
    y, x = np.mgrid[0:SMALL, 0:SMALL] / SMALL
    weave = np.sin(x * 2 * np.pi * 128) * np.sin(y * 2 * np.pi * 128)
    crease, fine = noise(rng, 1.5, side=SMALL), noise(rng, 0.6, lowest=20, side=SMALL)
    dark = np.array([rng.uniform(0.06, 0.45) for _ in range(3)])
    shade = 0.35 + 0.05 * weave + 0.15 * crease + 0.08 * fine
    if rng.random() < 0.5:
        shade = shade + 0.4 * (np.sin(y * 2 * np.pi * rng.integers(6, 14)) > 0.3)
    colour = _mixed(shade, tuple(dark * 0.6), tuple(np.clip(dark * 1.7, 0, 0.85)))
    return Surface(colour, np.clip(0.5 + 0.15 * crease + 0.1 * weave, 0, 1), np.full_like(fine, 0.92), 0.6, 0.01)


def paint(rng: np.random.Generator) -> Surface:
    """Painted metal or plastic, scratched and dirty, with one band."""
    coarse, fine = noise(rng, 1.4, side=SMALL), noise(rng, 0.6, stretch=0.2, lowest=20, side=SMALL)
    base, band = (_muted(rng) for _ in range(2))
    y = np.mgrid[0:SMALL, 0:SMALL][0] / SMALL
    on = ((y * 2 + rng.random()) % 1 < 0.28)[..., None]
    worn = np.clip(np.maximum(coarse - 1.0, 0) * 0.9 + np.maximum(fine - 1.9, 0) * 0.5, 0, 1)[..., None]
    colour = np.where(on, band, base) * (1 + 0.05 * coarse)[..., None]
    colour = colour * (1 - worn) + np.array([0.28, 0.22, 0.18]) * worn
    rough = np.clip(0.3 + 0.06 * coarse + 0.5 * worn[..., 0], 0.08, 1)
    return Surface(np.clip(colour, 0.02, 0.97).astype(np.float32), 0.5 + 0.02 * fine, rough, 1.0, 0.004)


def card(rng: np.random.Generator) -> Surface:
    """Packing board with a taped seam and a printed mark."""
    fibre, coarse = noise(rng, 0.7, stretch=0.3, lowest=10, side=SMALL), noise(rng, 1.4, side=SMALL)
    shade = 0.5 + 0.1 * fibre + 0.09 * coarse
    colour = _tinted(rng, _mixed(shade, (0.44, 0.31, 0.20), (0.74, 0.58, 0.41)), 0.1)
    y, x = np.mgrid[0:SMALL, 0:SMALL] / SMALL
    tape = (np.abs(y - 0.5) < 0.05)[..., None]
    colour = np.where(tape, colour * 0.55 + 0.36, colour)
    mark = ((np.abs(x - 0.25) < 0.09) & (np.abs(y - 0.25) < 0.06))[..., None]
    return Surface(np.where(mark, colour * 0.35, colour), 0.5 + 0.05 * fibre, np.full_like(fibre, 0.8), 0.7, 0.004)


def skin(rng: np.random.Generator) -> Surface:
    fine, coarse = noise(rng, 0.8, lowest=10, side=SMALL), noise(rng, 1.5, side=SMALL)
    tone = rng.uniform(0.35, 0.8)
    colour = np.array([1.0, 0.78, 0.66]) * tone * (1 + 0.03 * fine + 0.05 * coarse)[..., None]
    return Surface(
        np.clip(colour, 0.02, 0.95).astype(np.float32), 0.5 + 0.05 * fine, np.full_like(fine, 0.5), 0.5, 0.003
    )


def leaf(rng: np.random.Generator) -> Surface:
    fine, coarse = noise(rng, 0.8, stretch=0.2, side=SMALL), noise(rng, 1.4, side=SMALL)
    shade = 0.45 + 0.16 * fine + 0.18 * coarse
    colour = _tinted(rng, _mixed(shade, (0.12, 0.20, 0.06), (0.48, 0.58, 0.24)), 0.25)
    return Surface(colour, 0.5 + 0.1 * fine, np.full_like(fine, 0.6), 0.8, 0.004)


SURFACES = {
    each.__name__: each
    for each in (concrete, asphalt, puddles, sand, planks, tiles, bricks, plaster, cloth, paint, card, skin, leaf)
}
