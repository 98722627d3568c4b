"""Draw scenes on whatever device torch has: the bridge to raycaster.cu, and the records both sides share.

What comes in: records as numpy arrays with the dtypes below. What goes out: tensors of linear light, of what each pixel
shows, and masked medians over several views. Compiles the library on first use: nvcc where there is a GPU, else g++.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.scenes import PARTS
from void_server.wire.errors import EngineError

LIGHTS, RIPPLES = 3, 2
SOURCE = Path(__file__).with_name("raycaster.cu")


def _record(*fields: Any) -> np.dtype[Any]:
    return np.dtype(
        [(f, "f4") if isinstance(f, str) else (f[0], *f[1:]) if len(f) > 2 else (f[0], "f4", f[1]) for f in fields]
    )


PRIMITIVE = _record(
    "type",
    ("half", 3),
    "tile",
    "tile_scale",
    "tile_mix",
    ("colour", 3),
    "mirror",
    "rough",
    "ghost",
    "pattern",
    "pattern_scale",
    ("colour2", 3),
    ("shift", 2),
)
POSE = _record(("rotation", 9), ("centre", 3), "present")
LIGHT = _record(("direction", 3), "radius", ("colour", 3))
WORLD = _record(
    "tile",
    "tile_scale",
    "tile_mix",
    ("colour", 3),
    "mirror",
    "rough",
    "pattern",
    "pattern_scale",
    ("colour2", 3),
    "stain",
    "stain_scale",
    "stain_mix",
    "fog",
    "angle",
    "water",
    "wave_height",
    "wave_frequency",
    "wave_speed",
    "fresnel_gain",
    ("lights", LIGHT, LIGHTS),
    ("zenith", 3),
    ("horizon", 3),
    "sky_tile",
    "sky_mix",
    "sky_scale",
    "sky_fade",
    "ambient",
    "occluded",
)
RIPPLE = _record("x", "y", "height", "frequency", "phase", "decay")
VIEW = _record(
    ("eye", 3),
    ("right", 3),
    ("up", 3),
    ("forward", 3),
    "tan_x",
    "tan_y",
    "time",
    "seed",
    "scene",
    ("ripples", RIPPLE, RIPPLES),
)
"""The structs of raycaster.cu, field for field; all floats, so nothing is padded."""


FAST_MATH = ("-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fassociative-math", "-fno-signed-zeros")
"""What -ffast-math allows in the code itself. Not -ffast-math: GCC before 13 links it into a shared library with
start-up code that rounds subnormal numbers to zero for the whole process that loads it."""


@functools.cache
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def _library() -> ctypes.CDLL:
    """Raises EngineError where no compiler is found or it fails."""
    gpu = device().type == "cuda"
    compiler = shutil.which("nvcc" if gpu else "g++")
    if compiler is None:
        raise EngineError(
            f"{'nvcc' if gpu else 'g++'} was not found.", "Install CUDA's compiler, or g++ without a GPU."
        )
    words = (
        ["-O3", "--use_fast_math", "-arch=native", "-Xcompiler", "-fPIC"]
        if gpu
        else ["-O3", *FAST_MATH, "-march=native", "-fopenmp", "-fPIC", "-x", "c++"]
    )
    # Once loaded, the library needs its file no longer.
    with tempfile.TemporaryDirectory(prefix="void-raycaster-") as folder:
        library = str(Path(folder) / "raycaster.so")
        done = subprocess.run(
            [compiler, *words, "-shared", str(SOURCE), "-o", library], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EngineError(
                f"raycaster.cu does not compile: {done.stderr.strip()[:300]}", "See the compiler's message."
            )
        return ctypes.CDLL(library)


def on_device(records: np.ndarray[Any, Any]) -> torch.Tensor:
    """Records as float32 [..., fields], on the device."""
    flat = np.ascontiguousarray(records).view(np.float32).reshape(*records.shape, -1)
    return torch.from_numpy(flat.copy()).to(device())


def _at(tensor: torch.Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous() and tensor.device.type == device().type
    return ctypes.c_void_p(tensor.data_ptr())


def _stream() -> ctypes.c_void_p:
    return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream if device().type == "cuda" else 0)


def _check() -> None:
    code = _library().last_error()
    if code:
        raise EngineError(
            f"The ray caster's launch failed with CUDA error {code}.", "Report this with the card's name."
        )


def render(
    primitives: torch.Tensor,
    poses: torch.Tensor,
    worlds: torch.Tensor,
    views: torch.Tensor,
    atlas: torch.Tensor,
    size: tuple[int, int],
    light_rays: int,
    sky_rays: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(light float32 [P, 3, h, w], first hit int64 [P, h, w]: -1 sky, 0 ground, i + 1 part i) of P pictures.

    primitives [S, PARTS, .], worlds [S, .] by scene; poses [P, PARTS, .], views [P, .] by picture, as `on_device` makes
    them. atlas: uint8 [tiles, bytes], see `photographs.mipmaps`.
    """
    height, width = size
    count = views.shape[0]
    assert poses.shape[:2] == (count, PARTS)
    light = torch.empty(count, height, width, 3, device=device())
    first = torch.empty(count, height, width, dtype=torch.int8, device=device())
    _library().render(
        _at(primitives),
        _at(poses),
        _at(worlds),
        _at(views),
        _at(atlas),
        atlas.shape[1],
        count,
        width,
        height,
        light_rays,
        sky_rays,
        _at(light),
        _at(first),
        _stream(),
    )
    _check()
    return light.permute(0, 3, 1, 2), first.long()


def masked_median(
    pictures: torch.Tensor, taken: torch.Tensor, to_view: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(middle [N, 3, h, w], coverage [N, 1, h, w], scatter [N, 1, h, w]) of D views of each of N clips.

    pictures [N, D, 3, h, w]; taken [N, D, h, w], above .05 where a view shows no background; to_view [N, D, 3, 3] from
    pixels of the wanted picture to those of each view. Scatter: median deviation of the views' green from the median.
    """
    clips, count, _, height, width = pictures.shape
    seen = pictures.permute(0, 1, 3, 4, 2).float().contiguous()
    middle = torch.empty(clips, height, width, 3, device=device())
    coverage = torch.empty(clips, height, width, device=device())
    scatter = torch.empty_like(coverage)
    taken, to_view = taken.float().contiguous(), to_view.float().contiguous()
    _library().masked_median(
        _at(seen),
        _at(taken),
        _at(to_view),
        clips,
        count,
        width,
        height,
        _at(middle),
        _at(coverage),
        _at(scatter),
        _stream(),
    )
    _check()
    return middle.permute(0, 3, 1, 2), coverage[:, None], scatter[:, None]
