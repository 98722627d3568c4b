"""`void-server convert`: a movie, or pictures that are not EXR, as scene-linear EXR frames; and EXR frames as a movie.

What comes in: a movie or a sequence. What goes out: `NAME.####.exr` with its colour space in the header, or a movie to
look at. It removes nothing and knows no shot.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server.image import codes, colour, colour_space, exr, fit
from void_server.image.frames import footage, sequence
from void_server.image.frames.sequence import EXR_ENDINGS, PICTURE_ENDINGS
from void_server.image.review import movie
from void_server.result.folder import make_folder
from void_server.wire.errors import ColourError, OutputError, PlateError, SettingsError
from void_server.wire.report import Report

Array = npt.NDArray[np.float32]

FIRST = 1001
"""The number of a movie's first frame, as film and television count."""
LOGARITHMIC = (".dpx", ".cin")
"""Film scans: which curve they hold, their files rarely say and often say wrongly."""
HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
PRIMARIES = {"bt2020": ("lin_rec2020", colour.REC2020), "smpte432": ("lin_p3d65", colour.P3D65)}
PREVIEW_WIDTH = 1920


def to_exr(source: str, out: Path, input_space: str | None, first: int, report: Report) -> tuple[dict[str, Any], str]:
    """Write a movie or a sequence of pictures as EXR. Returns (fields, text) for the console.

    input_space: a name for `codes.to_light`; None takes sRGB where that is what nearly all such files are. Raises
    SettingsError where the space must be named, PlateError for what can't be read, OutputError for what would be
    overwritten.
    """
    path = Path(source)
    if input_space is not None:
        codes.knows(input_space)
    primaries, rate, told = ("lin_rec709", colour.REC709), None, ""
    frames: Iterator[tuple[int, Array]]
    if path.suffix.lower() in EXR_ENDINGS:
        raise SettingsError(f"{source} is EXR already.", "Give it to run as it is, or make a movie of it: --preview.")
    if path.is_file() and path.suffix.lower() not in PICTURE_ENDINGS + EXR_ENDINGS:
        about = footage.about(path)
        space = input_space or _space_of_movie(path, about)
        primaries, rate = PRIMARIES.get(about.primaries or about.matrix[:6], primaries), about.frames_per_second
        if about.interlaced:
            told = "The movie is interlaced; its fields are kept together. Deinterlace it first for clean motion."
        frames, stem, count = enumerate(footage.movie_frames(path, about), first), path.stem, about.frames
    else:
        found = sequence.find(source, "footage", PICTURE_ENDINGS)
        if found.strays:
            message = f"{source} is padded or spelled unevenly: {', '.join(found.strays[:4])}."
            raise SettingsError(message, "Rename these frames, or move them out of the folder.")
        one = next(iter(found.files.values()))
        space = input_space or _space_of_pictures(one)
        frames, count = ((frame, footage.picture(file)) for frame, file in found.files.items()), len(found.files)
        stem = one.stem.rstrip("0123456789").rstrip("._- ") or one.parent.name or "frame"
    if told:
        report.warn("interlaced", told)
    if input_space is None:
        report.note(f"The numbers are taken for {space}; --input-space says otherwise.")
    if space.lower() not in codes.DISPLAY:
        primaries = ("lin_rec709", colour.REC709)
    made = _write(frames, out, stem, space, primaries, rate, count, report)
    light = "numbers as they were" if space.lower() == "raw" else f"{primaries[0]}, from {space}"
    pattern = out / f"{stem}.####.exr"
    fields = {"out": str(out), "frames": sequence.format_frames(made), "from": space, "space": primaries[0]}
    text = f"{len(made)} frames {pattern} ({sequence.format_frames(made)}; {light})"
    if space.lower() != "raw":
        text += f"\nremove something: void-server run {shlex.quote(str(pattern))} --matte MATTE --out OUT --preview"
    return {**fields, "pattern": str(pattern)}, text


def _space_of_movie(path: Path, about: footage.About) -> str:
    if about.transfer in HDR_TRANSFERS:
        raise SettingsError(
            f"{path} is HDR video ({about.transfer}): how its light is meant has to be said.",
            "Name it: --input-space 'Rec.2100-PQ - Display', or make an SDR movie of it.",
        )
    return "linear" if about.transfer == "linear" else "srgb"


def _space_of_pictures(path: Path) -> str:
    if path.suffix.lower() in LOGARITHMIC:
        raise SettingsError(
            f"{path} is a film scan or a log picture: which curve it holds has to be said.",
            "Name it: --input-space ADX10, 'ARRI LogC3 (EI800)', srgb, linear, ...",
        )
    return "linear" if path.suffix.lower() == ".hdr" else "srgb"


def _write(
    frames: Iterator[tuple[int, Array]],
    out: Path,
    stem: str,
    space: str,
    primaries: tuple[str, tuple[float, ...]],
    rate: Fraction | None,
    count: int,
    report: Report,
) -> list[int]:
    make_folder(out)
    if any(out.glob(f"{_plain_glob(stem)}.*.exr")):
        raise OutputError(f"{out} holds frames {stem}.####.exr already.", "Choose another --out, or delete them.")
    made: list[int] = []
    size: tuple[int, ...] = ()
    for frame, picture in frames:
        report.check_cancelled()
        size = size or picture.shape
        if picture.shape != size:
            message = f"Frame {frame} is {_spoken_size(picture.shape)}; the frames before are {_spoken_size(size)}."
            raise PlateError(message, "Convert sequences of one size.", frame=frame)
        raw = space.lower() == "raw"
        exr.write_picture(
            out / f"{stem}.{frame:04d}.exr",
            _channels(picture, space),
            chromaticities=None if raw else primaries[1],
            interop_id=None if raw else f"{primaries[0]}_scene",
            frames_per_second=rate,
        )
        made.append(frame)
        report.frame_done(frame)
        report.progress("convert", len(made), max(count, len(made)), frame)
    return made


def _channels(picture: Array, space: str) -> dict[str, Array]:
    """The channels of one frame. Alpha stays as it is; light is multiplied by it, as EXR asks."""
    if space.lower() == "raw" and picture.shape[2] == 1:
        return {"Y": picture[..., 0]}
    rgb = picture[..., :3] if picture.shape[2] >= 3 else np.repeat(picture[..., :1], 3, axis=2)
    light = codes.to_light(rgb, space)
    channels: dict[str, Array] = {}
    if picture.shape[2] == 4:
        channels["A"] = picture[..., 3]
        light = light * channels["A"][..., None] if space.lower() != "raw" else light
    return channels | {name: light[..., index] for index, name in enumerate("RGB")}


def _spoken_size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} with {shape[2]} channels"


def _plain_glob(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "[]*?" else letter for letter in text)


def to_movie(source: str, path: Path, report: Report) -> tuple[dict[str, Any], str]:
    """Write EXR frames as a movie to look at. Returns (fields, text). Raises OutputError where none could be made."""
    found = sequence.find(source, "footage")
    if trouble := write_movie(list(found.files.values()), path, report):
        raise OutputError(trouble, movie.REMEDY)
    return {"movie": str(path), "frames": sequence.format_frames(found.files)}, f"{len(found.files)} frames in {path}"


def write_movie(files: list[Path], path: Path, report: Report) -> str:
    """The same, for files. Returns what was in the way, "" where nothing was.

    Light that never exceeds 1 is shown by sRGB's own curve, so that what came from a movie looks as it did; brighter
    light rolls off, as on contact sheets.
    """
    headers = [exr.read_plate_header(file) for file in files]
    first = headers[0]
    spaces = [_primaries(header) for header in headers[:1]]
    sampled = [exr.read_rgb(headers[index]) for index in np.linspace(0, len(headers) - 1, 5).astype(int)]
    peak = 1.0 if max(float(np.nanmax(light, initial=0)) for light in sampled) <= 1.01 else 16.0
    shown = colour.EngineSpace(peak=peak, chromaticities=spaces[0])
    with movie.writing(path, first.frames_per_second or movie.FRAMES_PER_SECOND) as film:
        for done, header in enumerate(headers):
            report.progress("movie", done, len(headers))
            light = fit.place(exr.read_rgb(header), header.data_window, first.display_window).astype(np.float32)
            scale = min(1.0, PREVIEW_WIDTH / light.shape[1])
            light = fit.resize(light, *fit.scaled_size(light.shape[0], light.shape[1], scale)) if scale < 1 else light
            film.add(np.asarray(np.round(shown.encode(np.nan_to_num(light)) * 255), np.uint8))
    return film.trouble


def _primaries(header: exr.ImageHeader) -> tuple[float, ...]:
    try:
        tags = header.chromaticities, header.aces_container, header.color_interop_id
        return colour_space.plate_space(None, *tags).chromaticities
    except ColourError:
        return colour.REC709
