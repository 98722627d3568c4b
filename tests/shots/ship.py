"""Make a rendered shot small enough for the wheel: `python -m tests.shots.ship SHOT FOLDER --frames 12`.

What comes in: a folder that `make` wrote. What goes out: its first frames in FOLDER/NAME, plate and clean plate
compressed as DWAB. That changes light a little, in blocks: what has to be kept is what has the same bits in both
afterwards. The layers stay behind; nothing that scores reads them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import OpenEXR

LEVEL = 90.0
"""Of DWA; OpenEXR's own is 45, and grain is most of what it stores."""


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m tests.shots.ship", description="Make a shot small.")
    words.add_argument("shot", type=Path)
    words.add_argument("out", type=Path)
    words.add_argument("--frames", type=int, default=12)
    words.add_argument("--level", type=float, default=LEVEL)
    given = words.parse_args()
    ship(given.shot, given.out, given.frames, given.level)


def ship(shot: Path, out: Path, frames: int, level: float) -> Path:
    """Returns the folder that was written."""
    about = json.loads((shot / "shot.json").read_text(encoding="utf-8"))
    folder = out / about["name"]
    shutil.rmtree(folder, ignore_errors=True)
    for role in ("plate", "clean", "matte", "regions"):
        (folder / role).mkdir(parents=True)
    for frame in range(about["first"], about["first"] + frames):
        light = {}
        for role in ("plate", "clean"):
            path = folder / role / f"{role}.{frame:04d}.exr"
            _write(path, _read(shot / role / path.name), OpenEXR.DWAB_COMPRESSION, level)
            light[role] = _read(path)
        same = [light["plate"][c].view(np.uint16) == light["clean"][c].view(np.uint16) for c in "RGB"]
        regions = _read(shot / "regions" / f"regions.{frame:04d}.exr")
        regions["keep"] = np.logical_and.reduce(same).astype(np.float16)
        _write(folder / "regions" / f"regions.{frame:04d}.exr", regions, OpenEXR.ZIP_COMPRESSION)
        matte = f"matte.{frame:04d}.exr"
        _write(folder / "matte" / matte, _read(shot / "matte" / matte), OpenEXR.ZIP_COMPRESSION)
    told = ("name", "why", "description", "first", "size", "blender", "photography")
    facts = {key: about[key] for key in told if key in about}
    facts |= {"frames": frames, "codec": f"DWAB {level:g}"}
    (folder / "shot.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return folder


def _read(path: Path) -> dict[str, np.ndarray]:
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {name: np.array(channel.pixels) for name, channel in file.channels().items()}


def _write(path: Path, channels: dict[str, np.ndarray], compression, level: float = LEVEL) -> None:
    header = {"compression": compression, "type": OpenEXR.scanlineimage, "dwaCompressionLevel": level}
    OpenEXR.File(header, channels).write(str(path))


if __name__ == "__main__":
    main()
