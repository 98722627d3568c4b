"""Photographs and made-up patterns that training pictures are covered with.

What comes in: photographs that came with installed packages, or lie in a folder. What goes out: an atlas of tiles for
the ray caster, and whole plates to paste cut-outs on. Only photographs in the public domain or under CC0 or CC BY are
named here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from training.looks import colour
from training.pictures import PLATE, TILE, Pictures
from void_server.wire.errors import SettingsError

Bytes = npt.NDArray[np.uint8]

PACKAGED = {
    # scikit-image's data/README and docstrings give public domain or CC0 for each of these.
    "skimage/data": (
        "astronaut.png",
        "brick.png",
        "chelsea.png",
        "coffee.png",
        "grass.png",
        "gravel.png",
        "rocket.jpg",
        "hubble_deep_field.jpg",
        "coins.png",
    ),
    # scikit-learn's datasets/images/README: CC BY.
    "sklearn/datasets": ("images/china.jpg", "images/flower.jpg"),
}
LOMIRI = (
    "Picture_0B_by_freespace.jpg",
    "Picture_1A_by_freespace.jpg",
    "Wine_by_Jakkub_Mede.jpg",
    "aitzgorri_by_Aitzol_Berasategi.jpg",
    "friends_by_Aitzol_Berasategi.jpg",
    "life_by_Aitzol_Berasategi.jpg",
    "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    "seeding_by_Clements_Engelhardt.jpg",
    "sunset_by_Aitzol_Berasategi.jpg",
)
"""CC BY 4.0 and CC0 photographs of Debian's lomiri-wallpapers-16.04, by its copyright file; the others there are CC
BY-SA."""

CROPS, MADE = 4, 112


def collect(folder: Path | None, seed: int = 0) -> Pictures:
    """Read all photographs, cut and sort them. Raises SettingsError where a package's or the folder's are missing."""
    rng = np.random.default_rng(seed)
    found = [*_packaged(), *_in_folder(folder)]
    crops = [_crop(rng, p) for p in found for _ in range(CROPS)]
    made = [_made(rng) for _ in range(MADE)]
    plates = [_plate(rng, p) for p in found if min(p.shape[:2]) >= 300]
    return Pictures(
        np.stack([_mipmaps(t) for t in [*crops, *made]]), len(crops), np.stack(plates).transpose(0, 3, 1, 2)
    )


def _packaged() -> list[Bytes]:
    found = []
    for place, names in PACKAGED.items():
        package, _, below = place.partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SettingsError(f"Package {package} is not installed.", "pip install 'void-server[training]'")
        found += [_read(Path(spec.submodule_search_locations[0]) / below / name) for name in names]
    return found


def _in_folder(folder: Path | None) -> list[Bytes]:
    return [_read(folder / name) for name in LOMIRI] if folder else []


def _read(path: Path) -> Bytes:
    picture = cv2.imread(str(path))
    if picture is None:
        raise SettingsError(f"Photograph {path} can't be read.", "See photographs.py for where each comes from.")
    return np.asarray(picture[..., ::-1], np.uint8)


def _crop(rng: np.random.Generator, picture: Bytes) -> Bytes:
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(0.3, 1))
    y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    tile = cv2.resize(picture[y : y + side, x : x + side], (TILE, TILE), interpolation=cv2.INTER_AREA)
    return np.asarray(tile[:, ::-1] if rng.random() < 0.5 else tile, np.uint8)


def _plate(rng: np.random.Generator, picture: Bytes) -> Bytes:
    """The widest part of a photograph that has a plate's shape."""
    height, width = picture.shape[:2]
    scale = min(width / PLATE[1], height / PLATE[0])
    w, h = int(PLATE[1] * scale), int(PLATE[0] * scale)
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    area = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture[y : y + h, x : x + w], PLATE[::-1], interpolation=area), np.uint8)


def _made(rng: np.random.Generator) -> Bytes:
    """Coloured noise with a random slope of its spectrum, sometimes stretched, banded or creased: soil, wood, cloth."""
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.fftfreq(TILE)[None]
    angle, stretch = rng.uniform(0, np.pi), rng.choice([1, 1, 2, 6])
    along, across = (fx * np.cos(angle) + fy * np.sin(angle)) * stretch, -fx * np.sin(angle) + fy * np.cos(angle)
    distance = np.hypot(along, across) + 1 / TILE

    def noise(slope: float) -> Any:
        made = np.fft.ifft2(np.fft.fft2(rng.normal(size=(TILE, TILE))) * distance**-slope).real
        return (made - made.mean()) / (made.std() + 1e-6)

    x = noise(rng.uniform(0.4, 2.2))
    if rng.random() < 0.3:
        x = np.abs(x) - 0.7
    if rng.random() < 0.25:
        x = np.sin(x * rng.uniform(2, 6))
    if rng.random() < 0.3:
        x = x + noise(0.2) * rng.uniform(0.2, 1)
    low, high = (colour(rng, 0.05, 0.95) for _ in range(2))
    high = low + (high - low) * rng.uniform(0.1, 1)
    share = np.clip(0.5 + 0.25 * x, 0, 1)[..., None]
    return np.asarray((low * (1 - share) + high * share) * 255, np.uint8)


def _mipmaps(tile: Bytes) -> Bytes:
    """256, 64, 16 and 4 pixels wide, averaged as light. The ray caster squares code to light, so here too."""
    light = (tile.astype(np.float32) / 255) ** 2
    sizes = [cv2.resize(light, (n, n), interpolation=cv2.INTER_AREA) for n in (256, 64, 16, 4)]
    return np.concatenate([np.round(np.sqrt(s) * 255).astype(np.uint8).ravel() for s in sizes])
