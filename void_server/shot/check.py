"""Read every header of a shot before any work starts, and say everything that is wrong with it in one message.

What comes in: the files of a shot by role and frame, and its settings. What goes out: a `CheckedShot` that the rest can
trust: frames matched by number, one canvas, one colour space; or one error that lists every problem. It decodes no
pixels and writes nothing.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from void_server.image import colour_space, exr
from void_server.image.frames import sequence
from void_server.image.frames.sequence import format_frames
from void_server.shot.agreement import mattes_meet_plates, one_channel, one_space, same_over_the_shot
from void_server.shot.outsized import check_canvas, without_outsized
from void_server.shot.problems import LISTED, Problems
from void_server.wire.errors import (
    MatteError,
    PlateError,
    RequestError,
    SequenceError,
    SettingsError,
    about,
)
from void_server.wire.report import ShotWarning
from void_server.wire.shot import CORRECTIONS, FrameRange, ShotFiles, ShotSettings, Window, flag_of, spoken_role

SMALLEST_PX = 12
"""OpenCV's optical flow takes no picture smaller than this on both sides."""


@dataclasses.dataclass(frozen=True, eq=False)
class CheckedShot:
    """A shot whose headers have all been read and agree. Two are equal only if they are the same."""

    files: ShotFiles
    settings: ShotSettings
    frames: tuple[int, ...]
    """Every frame that will be read, handles included, ascending."""
    wanted: tuple[int, ...]
    """Frames to deliver, ascending."""
    plates: Mapping[int, exr.ImageHeader]
    mattes: Mapping[str, Mapping[int, exr.ImageHeader]]
    """Headers by role (all but plate and reference), then frame; a frame without an entry has an empty matte."""
    references: Mapping[int, exr.ImageHeader]
    canvas: Window
    """The area all plates cover together, in EXR pixel coordinates."""
    space: colour_space.PlateSpace
    warnings: tuple[ShotWarning, ...]
    """(code, message) pairs that belong into the manifest."""


def find_files(
    plate: str,
    matte: str,
    affected: str | None = None,
    keep: str | None = None,
    reference: str | None = None,
    *,
    affected_add: str | None = None,
    affected_sub: str | None = None,
) -> ShotFiles:
    """Turn the patterns an artist types into files by frame. Raises SequenceError listing every pattern that fails."""
    problems = Problems()
    patterns = {
        "plate": plate,
        "matte": matte,
        "affected": affected,
        "affected_add": affected_add,
        "affected_sub": affected_sub,
        "keep": keep,
        "reference": reference,
    }
    found: dict[str, dict[int, Path]] = {}
    for role, pattern in patterns.items():
        if pattern is None:
            continue
        try:
            seq = sequence.find(pattern, role)
        except SequenceError as error:
            problems.add(_with_commands(error, role, patterns))
            continue
        if seq.strays:
            names = ", ".join(seq.strays[:4]) + (" ..." if len(seq.strays) > 4 else "")
            problems.add(
                SequenceError(
                    f"{spoken_role(role)} {pattern} is padded or spelled unevenly: {names}.",
                    "Rename these frames, or move them out of the folder.",
                )
            )
        if seq.unnumbered and role in ("reference", *CORRECTIONS):
            problems.add(
                SequenceError(
                    f"{spoken_role(role)} {pattern} has no frame number.",
                    "Name it after its frame, as painted.1012.exr.",
                )
            )
        found[role] = seq.files
    problems.raise_if_any()
    return ShotFiles(**found)


def _with_commands(error: SequenceError, role: str, patterns: Mapping[str, str | None]) -> SequenceError:
    """The same error; for a folder of several sequences, with a command ready for each of them."""
    folder = Path(str(patterns[role]))
    several = sequence.in_folder(folder) if folder.is_dir() else []
    if len(several) < 2:
        return error
    lines = []
    for pattern in several[:LISTED]:
        given = {**patterns, role: pattern}
        flags = [f"--{flag_of(r)} {shlex.quote(p)}" for r, p in given.items() if p is not None and r != "plate"]
        lines.append(f"  void-server run {shlex.quote(str(given['plate']))} {' '.join(flags)} --out OUT")
    return SequenceError(error.message, "Name one of them:\n" + "\n".join(lines))


def check_shot(files: ShotFiles, settings: ShotSettings) -> CheckedShot:
    """Read all headers and match frames by number. Raises one RequestError that lists every problem."""
    problems = Problems()
    warnings: list[ShotWarning] = []
    if not files.plate:
        raise SequenceError("The plate has no frames.", "Name a sequence of EXR files.")
    wanted, frames = _frames(files, settings, problems, warnings)
    held = {role: _matched(role, files.of(role), frames, settings, problems, warnings) for role in _MATCHED}
    held |= {role: _painted_frames(role, files, frames, problems, warnings) for role in CORRECTIONS}
    if files.affected_sub and not (files.affected or files.affected_add or settings.physics_prior):
        warnings.append(
            ShotWarning(
                "nothing-to-correct",
                "--affected-sub has nothing to take away from: no affected is painted or looked for.",
            )
        )
    plates = _headers(held["plate"], "plate", settings, problems)
    mattes = {role: _headers(held[role], role, settings, problems) for role in _MATTES}
    inside = {f: p for f, p in files.reference.items() if f in set(frames)}
    if len(inside) < len(files.reference):
        outside = format_frames(set(files.reference) - set(inside))
        warnings.append(
            ShotWarning("reference-outside", f"Reference frames {outside} lie outside the shot and are not used.")
        )
    references = _headers(inside, "reference", settings, problems)
    every = plates
    plates = without_outsized("plate", every, every, problems)
    mattes = {role: without_outsized(role, headers, every, problems) for role, headers in mattes.items()}
    references = without_outsized("reference", references, every, problems)
    same_over_the_shot(plates, problems)
    for role, headers in mattes.items():
        one_channel(role, headers, problems)
    space = one_space(plates, references, settings, problems)
    problems.raise_if_any()
    assert space is not None

    canvas = Window(0, 0, 0, 0)
    for header in plates.values():
        canvas = canvas.union(header.data_window)
    if max(canvas.width, canvas.height) < SMALLEST_PX:
        message = f"The plate is {canvas.width}x{canvas.height} pixels; nothing can be followed in so small a picture."
        problems.add(PlateError(message, f"Give a plate of at least {SMALLEST_PX} pixels on one side."))
    check_canvas(canvas, plates, problems)
    mattes_meet_plates(mattes["matte"], plates, problems, warnings)
    problems.raise_if_any()

    first = plates[frames[0]]
    if space.warning:
        warnings.append(ShotWarning("colour-assumed", space.warning))
    if first.lossy:
        warnings.append(
            ShotWarning(
                "lossy-plate", f"The plate is {first.compression}, which is lossy; clean frames are written as ZIP."
            )
        )
    for header in (first, *(m[min(m)] for m in mattes.values() if m)):
        warnings += [ShotWarning("header", f"{header.path.name}: {note}") for note in header.notes]
    return CheckedShot(
        files, settings, frames, wanted, plates, mattes, references, canvas, space, tuple(dict.fromkeys(warnings))
    )


_MATCHED = ("plate", "matte", "affected", "keep")
_MATTES = ("matte", "affected", "keep", *CORRECTIONS)


def _frames(
    files: ShotFiles, settings: ShotSettings, problems: Problems, warnings: list[ShotWarning]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(frames to deliver, frames to read), with gaps in the plate dealt with as `--missing` says."""
    have = files.plate
    whole = FrameRange(min(have), max(have))
    asked = settings.frames or whole
    if asked.first < whole.first or asked.last > whole.last:
        problems.add(
            SequenceError(
                f"Frames {asked} reach outside the plate, which has {whole}.", "Ask for frames that the plate has."
            )
        )
        asked = FrameRange(max(asked.first, whole.first), max(asked.first, whole.first, min(asked.last, whole.last)))
    handles = len(whole) if settings.handles is None else settings.handles
    context = [f for f in range(asked.first - handles, asked.last + handles + 1) if f in whole]
    gone = sequence.missing(have, asked)
    if gone and settings.missing == "error":
        problems.add(
            SequenceError(
                f"Plate frames {format_frames(gone)} are missing.",
                "Render them, narrow --frames, or choose --missing hold or skip.",
            )
        )
    elif gone:
        what = "repeat the frame before" if settings.missing == "hold" else "are not delivered"
        warnings.append(ShotWarning("missing-frames", f"Plate frames {format_frames(gone)} are missing and {what}."))
    present = [f for f in context if f in have]
    wanted = tuple(asked) if settings.missing == "hold" else tuple(f for f in asked if f in have)
    return wanted, tuple(sorted({*present, *wanted}))


def _matched(
    role: str,
    files: Mapping[int, Path],
    frames: Iterable[int],
    settings: ShotSettings,
    problems: Problems,
    warnings: list[ShotWarning],
) -> dict[int, Path]:
    """One role's files for the frames of the shot, by number; gaps as `--missing` says."""
    if not files and role != "matte":
        return {}
    frames = list(frames)
    found = {frame: files[frame] for frame in frames if frame in files}
    gone = [frame for frame in frames if frame not in files]
    whose = spoken_role(role)
    if role == "plate" or not gone:
        return {**found, **{frame: _before(files, frame) for frame in gone}}
    if settings.missing == "hold" and files:
        message = f"{whose} frames {format_frames(gone)} are missing and repeat the frame before."
        warnings.append(ShotWarning(f"{flag_of(role)}-held", message))
        return {**found, **{frame: _before(files, frame) for frame in gone}}
    if found and settings.missing == "skip":
        warnings.append(ShotWarning(f"{role}-missing", f"{whose} frames {format_frames(gone)} count as empty."))
        return found
    problems.add(_not_matching(whose, files, frames, gone))
    return found


def _not_matching(whose: str, files: Mapping[int, Path], frames: list[int], gone: list[int]) -> MatteError:
    """Why a role's files are not those of the plate's frames. Repeating a single matte is never the advice: it would
    lay one frame's roto over a whole shot in which the object moves."""
    if len(files) == 1:
        ((frame, path),) = files.items()
        what = f"{whose} frames {format_frames(gone)} are missing."
        if len(gone) == len(frames):
            have = format_frames(frames)
            what = f"{whose} is one picture, {path.name}, read as frame {frame}; the plate has {have}."
        return MatteError(what, f"There is only {path.name}: give a whole sequence, as matte.####.exr.")
    if len(gone) == len(frames):
        there = format_frames(files) if files else "no frames"
        return MatteError(
            f"{whose} has {there}; the plate has {format_frames(frames)}.",
            "Frames are matched by number: renumber one of them.",
        )
    return MatteError(
        f"{whose} frames {format_frames(gone)} are missing.",
        "Render them (black where nothing is marked), or choose --missing hold or skip.",
    )


def _painted_frames(
    role: str, files: ShotFiles, frames: Iterable[int], problems: Problems, warnings: list[ShotWarning]
) -> dict[int, Path]:
    """A correction's files for the frames of the shot; what it lacks is not corrected, whatever `--missing` says.

    A plate frame that repeats another one is corrected as that one is: it shows the same picture.
    """
    painted = files.of(role)
    outside = [frame for frame in painted if frame not in files.plate]
    if painted and len(outside) == len(painted):
        problems.add(
            MatteError(
                f"{spoken_role(role)} has {format_frames(painted)}; the plate has {format_frames(files.plate)}.",
                "Frames are matched by number: renumber one of them.",
            )
        )
    elif outside:
        message = f"{spoken_role(role)} frames {format_frames(outside)} lie outside the plate and are not used."
        warnings.append(ShotWarning(f"{flag_of(role)}-outside", message))
    shown = {frame: frame if frame in files.plate else _nearest(files.plate, frame) for frame in frames}
    return {frame: painted[source] for frame, source in shown.items() if source in painted}


def _before(files: Mapping[int, Path], frame: int) -> Path:
    return files[_nearest(files, frame)]


def _nearest(files: Mapping[int, Path], frame: int) -> int:
    """The nearest frame that has a file, at or before `frame`, else the first one after it."""
    earlier = [f for f in files if f <= frame]
    return max(earlier) if earlier else min(files)


def _headers(
    files: Mapping[int, Path], role: str, settings: ShotSettings, problems: Problems
) -> dict[int, exr.ImageHeader]:
    headers: dict[int, exr.ImageHeader] = {}
    alike: dict[tuple[str, str], list[tuple[int, RequestError]]] = {}
    for frame, path in sorted(files.items()):
        try:
            with about(frame=frame):
                if role == "plate":
                    headers[frame] = exr.read_plate_header(path, settings.layer)
                elif role == "reference":
                    headers[frame] = exr.read_plate_header(path)
                else:
                    headers[frame] = exr.read_matte_header(path, settings.matte_channel)
        except RequestError as error:
            alike.setdefault((error.message.replace(str(path), ""), error.hint), []).append((frame, error))
    for found in alike.values():
        _, first = found[0]
        if len(found) > 1:
            # What is wrong with every frame is said once.
            frames = format_frames(frame for frame, _ in found)
            first = type(first)(f"{first.message[:-1]}; so it is on frames {frames}.", first.hint, frame=first.frame)
        problems.add(first)
    return headers


WRITTEN = ("clean", "aov")
"""Names of the frames that a removal writes."""


def check_output(out: Path, files: ShotFiles, written: Iterable[str] = WRITTEN) -> None:
    """Refuse an output folder in which a written frame would land on an input. Raises SettingsError."""
    inputs = {path.resolve() for _, _, path in files.items()}
    for frame in files.plate:
        for name in written:
            target = (out / f"{name}.{frame:04d}.exr").resolve()
            if target in inputs:
                raise SettingsError(
                    f"{target.name} in {out} is one of the inputs.", "Choose another --out folder.", frame=frame
                )
