"""A strip for a page, plate | mark | clean: `python -m tests.shots.strip SHOT RESULT PICTURE.jpg`.

What comes in: a shot's folder, a folder of `clean.####.exr`. What goes out: one JPEG, 1280 wide, display-encoded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from void_server.bench.known import known_shots, perceptual
from void_server.image import exr, fit
from void_server.image.review import sheet

WIDTH, GAP = 1280, 5


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m tests.shots.strip", description="A strip of before and after.")
    words.add_argument("shot", type=Path)
    words.add_argument("result", type=Path)
    words.add_argument("picture", type=Path)
    words.add_argument("--frames", default="", help="such as 1004,1012; default: the middle one")
    words.add_argument("--quality", type=int, default=90)
    given = words.parse_args()
    shot = known_shots.find(given.shot.parent, [given.shot.name])[0]
    numbers = [int(n) for n in given.frames.split(",") if n] or [shot.frames[len(shot.frames) // 2]]
    rows = [_row(shot, given.result, frame) for frame in numbers]
    gap = np.full((GAP, WIDTH, 3), 24, np.uint8)
    page = np.vstack([part for row in rows for part in (row, gap)][:-1])
    done, jpeg = cv2.imencode(".jpg", page[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, given.quality])
    assert done
    given.picture.write_bytes(jpeg.tobytes())


def _row(shot: known_shots.KnownShot, result: Path, frame: int) -> np.ndarray:
    width = (WIDTH - 2 * GAP) // 3
    size = (round(shot.height * width / shot.width), width)
    clean = exr.read_rgb(exr.read_plate_header(result / f"clean.{frame:04d}.exr"))
    plate = _shown(shot.rgb("plate", frame), size)
    marked = plate.copy()
    inside = fit.resize_soft(shot.matte(frame), *size)
    marked[sheet.around(inside > 0.5)] = sheet.OBJECT_TINT.astype(np.uint8)
    gap = np.full((size[0], GAP, 3), 24, np.uint8)
    row = np.hstack([plate, gap, marked, gap, _shown(clean, size)])
    return np.pad(row, ((0, 0), (0, WIDTH - row.shape[1]), (0, 0)), constant_values=24)


def _shown(light: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    reduced = fit.resize(np.nan_to_num(light.astype(np.float32)), *size)
    return (perceptual.shown(reduced) * 255).round().astype(np.uint8)


if __name__ == "__main__":
    main()
