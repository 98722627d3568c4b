"""Measure the main path on clips whose answer is known, and print one table.

What comes in: a folder of test clips, names of cases. What goes out: rows of figures and the table as text. Every case
runs through `pipeline.make_clean_plate` on EXR files; this module only makes the files and compares.

Cases
    highway:FIRST:COUNT                       camera at rest, real cars; truth is the long masked median `clean.png`
    paste:CLIP:OBJECT:COUNT[:SCALE,X,Y,VX]    moving camera, a cut-out and a soft shadow laid over it; truth is the clip
    own:CLIP:COUNT                            the clip's own object; no truth, so coverage, flicker and speed alone
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import OpenEXR

from void_server import pipeline
from void_server.commands import score
from void_server.engine.propagate.camera import follow
from void_server.engine.propagate.light import Light
from void_server.engine.propagate.survey import Survey, luminance
from void_server.engine.propagate.voting import masked_median
from void_server.image import exr
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FIRST = 1001
CASES = (
    "paste:car-roundabout:goat:36",
    "paste:soapbox:cows:36",
    "paste:car-shadow:camel:36",
    "paste:camel:goat:36",
    "paste:cows:goat:36",
    "highway:770:60",
    "highway:600:60",
    "highway:500:60",
    "own:cows:36",
    "own:camel:36",
)
DEFAULT_PASTE = (0.45, 40.0, 230.0, 5.0)
SHADE = np.array([1.0, 1.1, 1.25], np.float32)
RING_PX = 16


@dataclasses.dataclass
class Case:
    """plate, truth: float32 [T, H, W, 3], scene-linear; matte, effect, valid: bool [T, H, W]."""

    plate: Array
    matte: Mask
    effect: Mask
    valid: Mask
    truth: Array | None


def run(what: str, data: Path | None, cases: Sequence[str] | None, report: Report) -> tuple[dict[str, Any], str]:
    """What `void-server bench` prints: (fields for --json, text). Raises SettingsError for a missing folder or case."""
    if what == "wire":
        from void_server.daemon.bench import measure_wire

        with tempfile.TemporaryDirectory(prefix="void-bench-") as folder:
            figures = measure_wire(Path(folder))
        return figures, "\n".join(f"{name:32s} {value}" for name, value in figures.items())
    if data is None or not data.is_dir():
        raise SettingsError("The folder of test clips is not there.", "Give it with --data DIR.")
    rows = [measure(data, case, report) for case in (cases or CASES)]
    return {"rows": rows}, table(rows)


def measure(data: Path, name: str, report: Report) -> dict[str, Any]:
    """Run one case and its baselines; one row."""
    case = load(data, name)
    with tempfile.TemporaryDirectory(prefix="void-bench-") as folder:
        files = _write(case, Path(folder))
        started = time.perf_counter()
        out = Path(folder) / "out"
        manifest = pipeline.make_clean_plate(files, ShotSettings(engine="propagate"), out, report)
        seconds = (time.perf_counter() - started) / len(case.plate)
        clean = np.stack([_read(out / f"clean.{FIRST + i:04d}.exr") for i in range(len(case.plate))])
    region = case.matte | case.effect
    row: dict[str, Any] = {
        "case": name,
        "flicker": flicker(clean, region),
        "coverage": round(_coverage(manifest["frames"]), 3),
        "seconds_per_frame": round(seconds, 3),
    }
    if case.truth is not None:
        row["flicker_of_truth"] = flicker(case.truth, region)
        results = {"result": clean, **baselines(case.plate, case.matte)}
        row["psnr"] = {
            key: {
                "object": score.psnr(image, case.truth, case.matte & case.valid),
                "effect": score.psnr(image, case.truth, case.effect & case.valid),
                "object+effect": score.psnr(image, case.truth, region & case.valid),
            }
            for key, image in results.items()
        }
    return row


def _coverage(frames: Mapping[str, Mapping[str, Any]]) -> float:
    """Share of all changed pixels of the shot that were recovered from real ones."""
    changed = [(f["changed"], f["coverage"]) for f in frames.values() if f["coverage"] is not None]
    return float(sum(a * c for a, c in changed) / max(1e-9, sum(a for a, _ in changed)))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text: dB on object / effect / both for the result and the three baselines beside it."""
    beside = " ".join(f"{name:>13s}" for name in ("telea", "median", "noop"))
    lines = [f"{'case':32s} {'result dB':>20s} {beside} {'flicker (truth)':>15s} {'cover':>6s} s/frame"]
    for row in rows:
        shown = ["-", "-", "-", "-"]
        if "psnr" in row:
            result = row["psnr"]["result"]
            shown = [" / ".join(_db(result[k]) for k in ("object", "effect", "object+effect"))]
            shown += [
                " / ".join(_db(row["psnr"][b][k]) for k in ("object", "effect")) for b in ("telea", "median", "noop")
            ]
        restless = f"{row['flicker']:.2f} ({row.get('flicker_of_truth', float('nan')):.2f})".replace("nan", "-")
        lines.append(
            f"{row['case']:32s} {shown[0]:>20s} {shown[1]:>13s} {shown[2]:>13s} {shown[3]:>13s} "
            f"{restless:>15s} {row['coverage']:6.2f} {row['seconds_per_frame']:7.2f}"
        )
    return "\n".join(lines)


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def load(data: Path, name: str) -> Case:
    """Build a case from the clips in `data`. Raises SettingsError for one that can't be."""
    kind, *rest = name.split(":")
    try:
        if kind == "highway":
            return _highway(data / "highway", int(rest[0]), int(rest[1]))
        if kind == "paste":
            place = tuple(float(v) for v in rest[3].split(",")) if len(rest) > 3 else DEFAULT_PASTE
            return _paste(data / "davis", rest[0], rest[1], int(rest[2]), place)
        if kind == "own":
            light, shape = _davis(data / "davis" / rest[0], int(rest[1]))
            none = np.zeros_like(shape)
            return Case(light, shape, none, ~none, None)
    except (IndexError, ValueError, OSError) as error:
        raise SettingsError(
            f"Case '{name}' can't be built from {data}: {error}.", "See --help for the forms."
        ) from error
    raise SettingsError(f"Case '{name}' is of no known kind.", "Use highway:, paste: or own:.")


def _picture(path: Path, grey: bool = False) -> npt.NDArray[np.uint8]:
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    if found is None:
        raise OSError(f"{path} can't be read")
    return np.asarray(found, np.uint8)


def _light(path: Path) -> Array:
    code = _picture(path)[..., ::-1].astype(np.float32) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _shown(light: Array) -> Array:
    """sRGB encoding (IEC 61966-2-1), clipped to [0, 1]: the clips were photographed for display."""
    x = np.clip(np.nan_to_num(light), 0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def _grown(mask: Mask, pixels: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def _highway(root: Path, first: int, count: int) -> Case:
    labels = [_picture(root / f"groundtruth/gt{i:06d}.png", grey=True) for i in range(first, first + count)]
    plate = np.stack([_light(root / f"input/in{i:06d}.jpg") for i in range(first, first + count)])
    matte = np.stack([_grown((label == 255) | (label == 170), 1) for label in labels])
    effect = np.stack([label == 50 for label in labels]) & ~matte
    inside = _picture(root / "ROI.bmp", grey=True) > 0
    valid = np.stack([label != 85 for label in labels]) & inside
    return Case(plate, matte, effect, valid, np.broadcast_to(_light(root / "clean.png"), plate.shape))


def _davis(folder: Path, count: int) -> tuple[Array, Mask]:
    names = sorted(folder.glob("*.jpg"))[:count]
    if not names:
        raise OSError(f"{folder} holds no frames")
    shape = np.stack([_picture(n.with_suffix(".png"), grey=True) > 127 for n in names])
    return np.stack([_light(n) for n in names]), shape


def _paste(root: Path, clip: str, cutout: str, count: int, place: tuple[float, ...]) -> Case:
    truth, own = _davis(root / clip, count)
    source, shape = _davis(root / cutout, count)
    scale, x, y, speed = place
    size = (truth.shape[2], truth.shape[1])
    plate, matte, effect = [], [], []
    for t in range(min(len(truth), len(source))):
        move = np.array([[scale, 0, x + t * speed], [0, scale, y]], np.float32)
        alpha = cv2.GaussianBlur(cv2.warpAffine(shape[t].astype(np.float32), move, size), (0, 0), 0.8)
        rows = np.nonzero(alpha > 0.5)[0]
        shade = np.zeros_like(alpha)
        if len(rows):
            foot = float(rows.max())
            # The object's own outline, squashed and sheared about its feet, is its shadow.
            fall = np.array([[1, -0.9, 0.9 * foot], [0, -0.35, 1.35 * foot]], np.float32)
            shade = cv2.GaussianBlur(cv2.warpAffine(alpha, fall, size), (0, 0), 3)
        shaded = truth[t] * (1 - shade[..., None] * (1 - 0.3 * SHADE))
        plate.append(shaded * (1 - alpha[..., None]) + cv2.warpAffine(source[t], move, size) * alpha[..., None])
        matte.append(alpha > 0.1)
        effect.append((shade > 0.1) & (alpha <= 0.1))
    n = len(plate)
    valid = np.stack([~_grown(o, 6) for o in own[:n]])
    return Case(np.stack(plate).astype(np.float32), np.stack(matte), np.stack(effect), valid, truth[:n])


def _write(case: Case, folder: Path) -> ShotFiles:
    roles: dict[str, dict[int, Path]] = {"plate": {}, "matte": {}, "affected": {}}
    for role in roles:
        (folder / role).mkdir()
    for i in range(len(case.plate)):
        light = case.plate[i].astype(np.float16)
        pictures = {
            "plate": {k: light[..., c] for c, k in enumerate("RGB")},
            "matte": {"A": case.matte[i].astype(np.float16)},
            "affected": {"A": _grown(case.effect[i], 3).astype(np.float16)},
        }
        for role, channels in pictures.items():
            path = folder / role / f"{role}.{FIRST + i:04d}.exr"
            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            OpenEXR.File(header, {k: np.ascontiguousarray(v) for k, v in channels.items()}).write(str(path))
            roles[role][FIRST + i] = path
    return ShotFiles(**roles)


def _read(path: Path) -> Array:
    return exr.read_rgb(exr.read_plate_header(path)).astype(np.float32)


def baselines(plate: Array, matte: Mask) -> dict[str, Array]:
    """Telea's fill frame by frame, the median over time where no matte lies, and the plate itself."""
    holes = np.stack([_grown(m, 3) for m in matte])
    filled = np.stack(
        [
            cv2.inpaint((_shown(p) * 255).astype(np.uint8), h.astype(np.uint8) * 255, 4, cv2.INPAINT_TELEA)
            for p, h in zip(plate, holes)
        ]
    ).astype(np.float32) / np.float32(255)
    telea = np.where(filled <= 0.04045, filled / 12.92, ((filled + 0.055) / 1.055) ** 2.4).astype(np.float32)
    values, seen = masked_median(list(plate), list(~holes))
    middle = np.where(seen[..., None] > 0, values, np.median(plate, axis=0))
    return {
        "telea": telea,
        "median": np.where(matte[..., None], middle[None], plate).astype(np.float32),
        "noop": plate,
    }


def flicker(clean: Array, region: Mask) -> float:
    """Energy of the second difference in time, after the camera is taken out, in the region over a ring around it.

    1 is a fill as restless as the plate beside it. Parallax and the clip's own movers are restless in the truth as
    well: the table gives its figure beside the result's.
    """
    light = Light.measured(luminance(clean[:: max(1, len(clean) // 4), ::4, ::4]))
    grey = [np.clip(light.code(luminance(c)) * 220, 0, 255).astype(np.uint8) for c in clean]
    blocked = [np.zeros(g.shape, np.uint8) for g in grey]
    camera = follow(Survey(list(range(len(grey))), 1.0, light, grey, blocked, {}), Report())
    size = (clean.shape[2], clean.shape[1])
    inside, outside = [], []
    for t in range(1, len(clean) - 1):
        sides = [
            cv2.warpPerspective(
                _shown(clean[other]),
                camera.between(t, other),
                size,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for other in (t - 1, t + 1)
        ]
        second = ((_shown(clean[t]) - (sides[0] + sides[1]) / 2) ** 2).mean(2)
        inside.append(second[region[t]])
        outside.append(second[_grown(region[t], RING_PX) & ~_grown(region[t], 3)])
    energy = [float(np.concatenate(e).mean()) if sum(map(len, e)) else 0.0 for e in (inside, outside)]
    return round(energy[0] / max(energy[1], 1e-12), 3)
