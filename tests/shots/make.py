"""Make shots with known answers: `python -m tests.shots.make --out FOLDER`.

What comes in: kinds, seeds, a size. What goes out: a folder a shot, as `void-server bench removal --shots` reads it:

    plate/plate.1001.exr ...       half float RGB, scene-linear
    matte/matte.1001.exr ...       A: coverage of what is to be removed
    clean/clean.1001.exr ...       half float RGB: the plate as it would have been without
    layers/layers.1001.exr ...     object, appearance, physics: signed light that the plate has on top of the clean one
    regions/regions.1001.exr ...   object, appearance, physics, bystander, keep: 1 or 0
    shot.json                      the description, its reason, versions, seconds; written last

Needs Blender's Python: VOID_BLENDER45_PYTHON names one, else the cache of the tests is looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import OpenEXR

from tests.shots import layers, photography
from tests.shots.description import FIRST, PUBLISHED, WHY, Description, describe

ROOT = Path(__file__).resolve().parents[2]
SEAM = 0.04
"""Of the picture's width: how softly what was rendered around an object goes over into the rest."""
ROLES = ("plate", "matte", "clean", "layers", "regions")


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m tests.shots.make", description="Render shots with known answers.")
    words.add_argument("--out", type=Path, required=True, help="folder; a shot that is there already is left alone")
    words.add_argument("--kind", action="append", choices=tuple(WHY), help="may be repeated; default: every kind")
    words.add_argument("--seed", type=int, action="append", help=f"may be repeated; default: {PUBLISHED[0]}")
    words.add_argument("--scale", type=float, default=1.0, help="of the size; default: 1 (640x360)")
    words.add_argument("--frames", type=int, default=None, help="default: the kind's own (24; hd 12, four_k 6)")
    words.add_argument("--samples", type=int, default=None, help="paths a pixel; default: the kind's own")
    words.add_argument("--blender", default=None, help="a Python that has bpy 4.5")
    given = words.parse_args()
    blender = given.blender or blender_python()
    if shutil.which(blender) is None:
        words.error(
            f"{blender} is not there: pip install bpy==4.5.15 on Python 3.11, and name that Python with --blender"
        )
    for kind in given.kind or WHY:
        for seed in given.seed or [PUBLISHED[0]]:
            d = describe(kind, seed, given.scale, given.frames, given.samples)
            started = time.perf_counter()
            done = make(d, given.out, blender)
            took = time.perf_counter() - started
            sys.stdout.write(f"{d.name:24s} {d.width}x{d.height} {d.frames} frames  {took:6.1f} s  {done}\n")
            sys.stdout.flush()


def blender_python() -> str:
    named = os.environ.get("VOID_BLENDER45_PYTHON")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "void-tests/bpy-4.5.15/bin/python"
    return named or str(cache)


def make(d: Description, out: Path, blender: str) -> Path:
    """Render and write one shot; returns its folder."""
    folder = out / d.name
    if (folder / "shot.json").is_file() and _described(folder) == dataclasses.asdict(d):
        return folder
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="void-shot-") as passing:
        raw = Path(passing)
        render(d, raw, blender)
        facts = json.loads((raw / "staged.json").read_text(encoding="utf-8"))
        shutil.rmtree(folder, ignore_errors=True)
        for role in ROLES:
            (folder / role).mkdir(parents=True)
        how = photography.of(d, facts["optics"])
        for index in range(d.frames):
            write(develop(raw, index, d, facts, how), folder, index)
    about = {
        "name": d.name, "why": WHY[d.kind], "description": dataclasses.asdict(d), "first": FIRST, "frames": d.frames,
        "size": [d.width, d.height], "physics": facts["changes"], "published": d.seed in PUBLISHED,
        "photography": dataclasses.asdict(how), "removed": facts["removed"], "bystanders": facts["bystanders"],
        "blender": facts["blender"], "cpu_seconds": facts["cpu_seconds"],
        "seconds": {**facts["seconds"], "all": time.perf_counter() - started},
    }  # fmt: skip
    (folder / "shot.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    return folder


def _described(folder: Path) -> dict:
    return json.loads((folder / "shot.json").read_text(encoding="utf-8"))["description"]


def render(d: Description, raw: Path, blender: str) -> None:
    """The three states as Blender renders them. Raises RuntimeError with Blender's last words."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BLENDER", "VIRTUAL_ENV"))}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BLENDER_USER_RESOURCES": str(raw / "user"),
    }
    script = Path(__file__).with_name("blender") / "render.py"
    done = subprocess.run(
        [blender, str(script), d.to_json(), str(raw)],
        env=environment,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if not (raw / "staged.json").is_file():
        raise RuntimeError(f"{d.name} could not be rendered: {(done.stderr or done.stdout)[-2000:]}")


def develop(raw: Path, index: int, d: Description, facts: dict, how: photography.Photography) -> layers.Frame:
    """One frame of the shot out of its renderings."""
    names = ("full", "unseen", "removed") if facts["changes"] else ("full", "unseen")
    lights = {name: state(raw, name, index, d, facts, how) for name in names}
    file = _read(raw / f"full.{index + 1:04d}.exr")
    matte, others = (photography.through_lens(_coverage(*file, set(facts[k])), how) for k in ("removed", "bystanders"))
    unit = photography.grain(matte.shape, index, how)
    gone = lights.get("removed", lights["unseen"])
    return layers.take_apart(lights["full"], lights["unseen"], gone, matte, others, unit, how)


def state(raw: Path, name: str, index: int, d: Description, facts: dict, how: photography.Photography) -> np.ndarray:
    """Light of one rendering behind lens and exposure, without grain: float32 [H, W, 3], scene-linear."""
    path = raw / f"{name}.{index + 1:04d}.exr"
    channels, _ = _read(path if path.is_file() else raw / f"{name}.0001.exr")
    drawn = (channels["shot.Combined.A"] > 0).astype(np.uint8)
    if not drawn.all():
        # Rendered only around the object: beside it is what a rendering without it shows, and the seam is soft.
        behind, _ = _read(raw / "unseen.0001.exr")
        share = np.minimum(cv2.distanceTransform(drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / (SEAM * d.width), 1)
        channels = {
            key: values * share + behind[key] * (1 - share) for key, values in channels.items() if key in behind
        }
    light = np.stack([channels[f"shot.Combined.{c}"] for c in "RGB"], -1)
    light = photography.through_haze(light, channels["shot.Mist.Z"], facts["haze_depth_m"], how)
    return photography.exposed(photography.through_lens(light, how), index, d.frames, how)


def _read(path: Path) -> tuple[dict, dict]:
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {name: np.array(channel.pixels) for name, channel in file.channels().items()}, dict(file.header())


def _coverage(channels: dict, header: dict, names: set[str]) -> np.ndarray:
    """How much of each pixel is covered by objects of these names, out of Cryptomatte's ranks (Friedman 2015)."""
    manifest = json.loads(next(value for key, value in header.items() if re.fullmatch(r"cryptomatte/.*/manifest", key)))
    ids = np.array([int(manifest[name], 16) for name in names if name in manifest], np.uint32)
    total = np.zeros_like(channels["shot.CryptoObject00.r"])
    for rank in range(3):
        for identity, share in ("rg", "ba"):
            coded = np.ascontiguousarray(channels[f"shot.CryptoObject{rank:02d}.{identity}"]).view(np.uint32)
            total += np.where(np.isin(coded, ids), channels[f"shot.CryptoObject{rank:02d}.{share}"], 0)
    return total


def write(frame: layers.Frame, folder: Path, index: int) -> None:
    """One frame of every role, each as its own file."""

    def rgb(prefix: str, light: np.ndarray) -> dict:
        return {f"{prefix}{c}": np.ascontiguousarray(light[..., i].astype(np.float16)) for i, c in enumerate("RGB")}

    pictures = {
        "plate": rgb("", frame.plate), "clean": rgb("", frame.clean), "matte": {"A": frame.matte.astype(np.float16)},
        "layers": {k: v for name, light in frame.layers.items() for k, v in rgb(f"{name}.", light).items()},
        "regions": {name: where.astype(np.float16) for name, where in frame.regions.items()},
    }  # fmt: skip
    for role, channels in pictures.items():
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, channels).write(str(folder / role / f"{role}.{FIRST + index:04d}.exr"))


if __name__ == "__main__":
    main()
