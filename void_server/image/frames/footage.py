"""Read movies and pictures that are not EXR, one frame at a time, where this machine has something that reads them.

What comes in: a movie, or the files of a sequence. What goes out: codes in [0, 1], float32 [H, W, C], frame by frame,
and what the file says of itself. Movies and film scans go through the `ffmpeg` command, pictures through OpenCV, or
OpenImageIO where that is installed. It knows no colour and writes nothing.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt

from void_server.wire.errors import PlateError, SettingsError

Array = npt.NDArray[np.float32]

BY_OPENCV = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".hdr")
REMEDY = "Install it: apt install ffmpeg, dnf install ffmpeg, brew install ffmpeg."
HD_LINES = 720
"""From this height on, untagged video is BT.709 and not BT.601, as players take it."""


@dataclasses.dataclass(frozen=True)
class About:
    """What a movie says of itself; "" where it says nothing."""

    frames_per_second: Fraction | None
    matrix: str
    primaries: str
    transfer: str
    height: int
    interlaced: bool
    frames: int = 0
    """About how many, by what the file says of its length; 0 where it says nothing."""


def ffmpeg() -> str:
    """The command, from the PATH or from the package imageio-ffmpeg. Raises SettingsError where there is none."""
    command = shutil.which("ffmpeg")
    if command is None:
        try:
            import imageio_ffmpeg

            command = str(imageio_ffmpeg.get_ffmpeg_exe())
        except (ImportError, RuntimeError):
            raise SettingsError("There is no ffmpeg on the PATH, which reads movies.", REMEDY) from None
    return command


def about(path: Path) -> About:
    """Ask ffmpeg what a movie is. Raises PlateError for a file it can't read or that holds no picture."""
    words = [ffmpeg(), "-hide_banner", "-nostdin", "-i", str(path.absolute())]
    said = subprocess.run(words, capture_output=True, check=False).stderr.decode("utf-8", "replace")
    lines = [line.strip() for line in said.splitlines() if re.search(r"Stream #.*: Video:", line)]
    lines = [line for line in lines if "attached pic" not in line] or lines
    if not lines:
        why = next(
            (line.strip() for line in reversed(said.splitlines()) if str(path.name) in line), "it holds no video"
        )
        raise PlateError(f"{path} can't be read as a movie: {why[:200]}.", "Check that it plays, then convert again.")
    line = lines[0]
    size = re.search(r"\b(\d{1,5})x(\d{1,5})\b", line)
    rate = re.search(r"([\d.]+k?) fps", line) or re.search(r"([\d.]+k?) tbr", line)
    tags = re.search(r"\((?:tv|pc)?,? ?([a-z0-9-]+/[a-z0-9-]+/[a-z0-9-]+|bt\d+\w*|smpte\w+)", line)
    matrix, primaries, transfer = "", "", ""
    if tags:
        named = tags[1].split("/") if "/" in tags[1] else [tags[1]] * 3
        matrix, primaries, transfer = ("" if name == "unknown" else name for name in named)
    per_second = _rate(rate[1]) if rate else None
    length = re.search(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", said)
    seconds = int(length[1]) * 3600 + int(length[2]) * 60 + float(length[3]) if length else 0.0
    return About(
        frames_per_second=per_second,
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        height=int(size[2]) if size else 0,
        interlaced=bool(re.search(r"top first|bottom first|top coded|bottom coded", line)),
        frames=round(seconds * per_second) if per_second else 0,
    )


def _rate(text: str) -> Fraction | None:
    """
    >>> _rate("23.98"), _rate("25"), _rate("29.97")
    (Fraction(24000, 1001), Fraction(25, 1), Fraction(30000, 1001))
    """
    value = float(text.rstrip("k")) * (1000 if text.endswith("k") else 1)
    if value <= 0:
        return None
    drop = Fraction(round(value) * 1000, 1001)
    return (
        drop if abs(value - float(drop)) < 0.01 and value != round(value) else Fraction(value).limit_denominator(1000)
    )


def movie_frames(path: Path, told: About) -> Iterator[Array]:
    """Every frame of a movie in its order, float32 [H, W, 3]. Raises PlateError where it ends in an error."""
    matrix = "auto" if told.matrix else "bt709" if told.height >= HD_LINES else "bt601"
    scaled = f"scale=in_color_matrix={matrix}:out_range=full:flags=accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"
    words = [ffmpeg(), "-nostdin", "-loglevel", "error", "-i", str(path.absolute()), "-map", "0:V:0"]
    words += ["-fps_mode", "passthrough", "-vf", f"{scaled},format=rgb48be", "-f", "image2pipe", "-c:v", "ppm", "-"]
    count = 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, start_new_session=True)
        assert process.stdout is not None
        try:
            while (picture := _ppm(process.stdout)) is not None:
                count += 1
                yield picture
            process.wait()
        finally:
            process.kill()
            process.communicate()
        said.seek(0)
        lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
        why = " ".join(lines[-1].split())[:200] if lines else "it holds no pictures"
    if process.returncode or not count:
        raise PlateError(f"{path} breaks off after {count} frames: {why}.", "Copy it again, or convert it again.")


def _ppm(stream: IO[bytes]) -> Array | None:
    """The next picture of a stream of 16-bit PPM files (Netpbm), or None at its end."""
    words: list[bytes] = []
    while len(words) < 4:
        word = b""
        while (letter := stream.read(1)) and not letter.isspace():
            word += letter
        if not letter and not word:
            return None
        if word:
            words.append(word)
    width, height, top = (int(word) for word in words[1:])
    dtype = np.dtype(">u2" if top > 255 else "u1")
    count = width * height * 3 * dtype.itemsize
    data = stream.read(count)
    if len(data) < count:
        return None
    return np.asarray(np.frombuffer(data, dtype).reshape(height, width, 3) / np.float32(top), np.float32)


def picture(path: Path) -> Array:
    """One picture, float32 [H, W, C] with 1, 3 or 4 channels in the order R, G, B, A. Whole numbers become [0, 1].
    Raises PlateError for what nothing here can read."""
    if path.suffix.lower() in BY_OPENCV:
        found = _by_opencv(path)
        if found is not None:
            return found
    try:
        return _by_openimageio(path)
    except ImportError:
        pass
    try:
        return next(movie_frames(path, about(path)))
    except SettingsError as error:
        hint = f"Install OpenImageIO (pip install openimageio) or ffmpeg. {REMEDY}"
        raise PlateError(f"{path} can't be read with what is installed here.", hint) from error


def _by_opencv(path: Path) -> Array | None:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        return None
    if found is None:
        return None
    found = found[..., None] if found.ndim == 2 else found
    found = found[..., [2, 1, 0, 3][: found.shape[2]]] if found.shape[2] >= 3 else found
    return _normalised(found)


def _by_openimageio(path: Path) -> Array:
    import OpenImageIO

    source = OpenImageIO.ImageInput.open(str(path))
    if source is None:
        raise PlateError(f"{path} can't be read: {OpenImageIO.geterror()}.", "Check that it opens in a viewer.")
    try:
        found = source.read_image(0, 0, 0, -1, OpenImageIO.FLOAT)
    finally:
        source.close()
    if found is None:
        raise PlateError(f"{path} can't be read: its pixels are damaged.", "Copy it again.")
    found = np.asarray(found, np.float32)
    return found[..., :4] if found.shape[2] != 2 else found[..., :1]


def _normalised(found: npt.NDArray[Any]) -> Array:
    if np.issubdtype(found.dtype, np.integer):
        return np.asarray(found / np.float32(np.iinfo(found.dtype).max), np.float32)
    return np.asarray(found, np.float32)
