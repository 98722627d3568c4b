"""A removal against the truth, region by region, and what it made worse.

What comes in: a known shot, and the folder with `clean.####.exr` (and `aov.####.exr`, where the tool writes them). What
goes out: one map of figures. It holds a few frames at a time.

object, appearance (what the object did to light) and physics (what would have moved otherwise) are what has to change;
bystanders and `keep` are what mustn't. Of each: PU21-PSNR, PSNR of light (peak 1) and of sRGB codes, SSIM, FLIP, and
`worse`: the share of its pixels that are visibly further from the truth than the untouched plate was. What was found is
held against the effects that are seen; fainter ones count neither way.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server.bench import score, score_region
from void_server.bench.clips.cases import grown
from void_server.bench.engines.propagate import flicker
from void_server.bench.known import perceptual
from void_server.bench.known.known_shots import REGIONS, KnownShot, channel
from void_server.image import exr
from void_server.wire.errors import SettingsError

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

VISIBLE = 8 / 255
"""sRGB code by which a pixel has to be further off than the plate to count as worse."""
FLICKER_WIDTH = 640
"""Flicker is measured on pictures of at most this width, over the whole shot at once."""
SMOOTH_PX = 1.0
"""Grain is taken out so before it is asked whether an effect is seen."""
EDGE_PX = 6
"""What has to be kept begins this far from what has to change: a roto is grown a little before anything is filled."""
PERFECT_DB = 100.0
"""A region without error is given this, so that means of decibels can be taken."""
MEANS = ("pu21", "linear", "display", "ssim", "flip", "worse")


@dataclasses.dataclass
class _Sums:
    """Of one region over all frames."""

    pixels: int = 0
    totals: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(MEANS, 0.0))

    def add(self, maps: dict[str, Array], where: Mask) -> None:
        self.pixels += int(where.sum())
        for name, values in maps.items():
            self.totals[name] += float(values[where].sum(dtype=np.float64))

    def figures(self) -> dict[str, float] | None:
        if self.pixels < score.FEWEST_PIXELS:
            return None
        mean = {name: total / self.pixels for name, total in self.totals.items()}
        return {
            "pu21_psnr": _decibels(mean["pu21"], perceptual.PU21_PEAK),
            "psnr_linear": _decibels(mean["linear"], 1.0),
            "psnr_display": _decibels(mean["display"], 1.0),
            "ssim": round(mean["ssim"], 4),
            "flip": round(mean["flip"], 4),
            "worse": round(mean["worse"], 5),
        }


def _decibels(error: float, peak: float) -> float:
    return round(min(PERFECT_DB, float(10 * np.log10(peak**2 / max(error, 1e-20)))), 2)


def measure(shot: KnownShot, out: Path) -> dict[str, Any]:
    """All figures of one result. Raises SettingsError for a frame that is not there or has another size."""
    sums = {word: _Sums() for word in REGIONS}
    small: dict[str, list[Any]] = {"result": [], "truth": [], "region": []}
    found: list[Mask] = []
    true: list[Mask] = []
    counted: list[Mask] = []
    broken = changed_keep = keep_samples = 0
    declares = all((out / f"aov.{frame:04d}.exr").is_file() for frame in shot.frames)
    for frame in shot.frames:
        plate, truth, result = shot.rgb("plate", frame), shot.rgb("clean", frame), _result(shot, out, frame)
        regions = {word: shot.region(word, frame) for word in REGIONS}
        effect = regions["appearance"] | regions["physics"]
        regions["keep"] &= ~grown(effect | regions["object"], EDGE_PX)
        maps = _maps(plate, truth, result)
        for word in REGIONS:
            sums[word].add(maps, regions[word])
        stored = result.astype(plate.dtype)
        keep = channel(out / f"aov.{frame:04d}.exr", "change") == 0 if declares else regions["keep"]
        broken += score.samples_changed(stored, plate, keep)
        changed_keep += score.samples_changed(stored, plate, regions["keep"])
        keep_samples += 3 * int(regions["keep"].sum())
        for name, picture in (("result", result), ("truth", truth), ("region", effect | regions["object"])):
            small[name].append(_small(picture))
        if declares:
            aov = out / f"aov.{frame:04d}.exr"
            found.append((channel(aov, "affected") > 0.5) | (channel(aov, "physics") > 0.5))
            seen = effect & (difference_seen(plate, truth) > VISIBLE)
            true.append(seen)
            counted.append(~regions["object"] & (seen | ~effect))
    where = np.stack(small["region"]) > 0.5
    return {
        "regions": {word: sums[word].figures() for word in REGIONS},
        "flicker": flicker(np.stack(small["result"]), where),
        "flicker_of_truth": flicker(np.stack(small["truth"]), where),
        "overlap": _overlap(found, true, counted),
        "declares": declares,
        "keep_broken": broken,
        "keep_changed": round(changed_keep / max(keep_samples, 1), 6),
    }


def harm(figures: dict[str, Any], untouched: dict[str, Any], cheap: list[dict[str, Any]]) -> float:
    """Decibels (PU21) by which the worst of the regions that have to change is worse than what costs nothing: effects
    than the untouched plate, the object than the best of the cheap fills. Below 0 nothing is."""
    losses = []
    for word, rivals in (("object", cheap), ("appearance", [untouched]), ("physics", [untouched])):
        mine = figures["regions"][word]
        theirs = [r["regions"][word]["pu21_psnr"] for r in rivals if r["regions"][word]]
        if mine and theirs:
            losses.append(max(theirs) - mine["pu21_psnr"])
    return round(max(losses), 2) if losses else 0.0


def _maps(plate: npt.NDArray[Any], truth: npt.NDArray[Any], result: npt.NDArray[Any]) -> dict[str, Array]:
    codes = {name: perceptual.shown(p) for name, p in (("plate", plate), ("truth", truth), ("result", result))}
    off, was_off = (np.abs(codes[name] - codes["truth"]).max(-1) for name in ("result", "plate"))
    light = np.clip(np.nan_to_num(result.astype(np.float32)), -65504, 65504) - truth.astype(np.float32)
    return {
        "pu21": ((perceptual.pu21(result) - perceptual.pu21(truth)) ** 2).mean(-1),
        "linear": (light**2).mean(-1),
        "display": ((codes["result"] - codes["truth"]) ** 2).mean(-1),
        "ssim": perceptual.ssim(codes["result"], codes["truth"]),
        "flip": perceptual.flip(codes["result"], codes["truth"]),
        "worse": (off > was_off + VISIBLE).astype(np.float32),
    }


def difference_seen(plate: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Array:
    """float32 [H, W]: by how much of sRGB code they differ once grain is smoothed. Both [H, W, 3], scene-linear."""
    difference = perceptual.shown(plate) - perceptual.shown(truth)
    return np.asarray(np.abs(cv2.GaussianBlur(difference, (0, 0), SMOOTH_PX)).max(-1), np.float32)


def _result(shot: KnownShot, out: Path, frame: int) -> npt.NDArray[Any]:
    path = out / f"clean.{frame:04d}.exr"
    if not path.is_file():
        raise SettingsError(
            f"{path.name} was not written.", "A tool writes OUT/clean.####.exr, numbered as the plate is."
        )
    picture = np.asarray(exr.read_rgb(exr.read_plate_header(path)))
    if picture.shape != (shot.height, shot.width, 3):
        raise SettingsError(
            f"{path.name} is {picture.shape[1]}x{picture.shape[0]}; the shot is {shot.width}x{shot.height}.",
            "A result has the plate's size.",
        )
    return picture


def _small(picture: npt.NDArray[Any]) -> Array:
    height, width = picture.shape[:2]
    light = np.nan_to_num(picture.astype(np.float32))
    if width <= FLICKER_WIDTH:
        return light
    size = (FLICKER_WIDTH, max(1, round(height * FLICKER_WIDTH / width)))
    return np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), np.float32)


def _overlap(found: list[Mask], true: list[Mask], counted: list[Mask]) -> dict[str, float | None] | None:
    if not found:
        return None
    both = score_region.overlap(np.stack(found), np.stack(true), np.stack(counted))
    cells = score_region.cell_iou(np.stack(found) & np.stack(counted), np.stack(true))
    return {"iou": both.iou, "precision": both.precision, "recall": both.recall, "cell_iou": cells}
