"""Find the files of a sequence on disk, by absolute frame number.

What comes in: a pattern as artists write it (`plate.####.exr`, `plate.%04d.exr`, `plate.$F4.exr`, a folder, or one
frame of the sequence). What goes out: one path per frame number, or an error that says what is there instead. It does
not open files: what is inside them is `image/exr.py`'s business.

Facts about fileseq 3.4 that shape this file, measured: padding is not enforced unless asked (`%04d` matches
`plate.1.exr`); with its default style `####` means 16 digits, with `PAD_STYLE_HASH1` it means 4, as in Nuke; the path
of one frame finds the whole sequence around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import fileseq

from void_server.wire.errors import SequenceError
from void_server.wire.shot import spoken_role

MAX_FRAMES = 100_000
"""More than an hour at 24 frames a second is a wrong pattern, not a shot."""


@dataclasses.dataclass(frozen=True)
class Sequence:
    """The files of one role: a path per absolute frame number, and what was odd about them."""

    pattern: str
    files: dict[int, Path]
    strays: tuple[str, ...] = ()
    """Files of the same name whose padding or extension differs from the pattern's; the caller reports them."""
    unnumbered: bool = False
    """The pattern named one file without a frame number."""


def find(pattern: str | Path, role: str) -> Sequence:
    """The files that `pattern` names, ascending by frame. `role` is for messages: "plate", "matte", ...

    Raises SequenceError where nothing matches, a folder holds several sequences, or numbers are ambiguous.
    """
    text = str(pattern)
    path = Path(text)
    if path.is_dir():
        return _in_folder(path, role)
    if not path.parent.is_dir():
        raise SequenceError(
            f"{spoken_role(role)} folder {path.parent} does not exist.", "Check the path; nothing was done."
        )
    try:
        named = fileseq.FileSequence(text, pad_style=fileseq.PAD_STYLE_HASH1)
    except fileseq.FileSeqException as error:
        raise _nothing_found(path, role) from error
    if named.frameSet() is None and not named.padding():
        if not path.is_file():
            raise _nothing_found(path, role)
        return Sequence(text, {1: path}, unnumbered=True)
    found = _collected(text, named, role)
    if not found.files:
        raise _nothing_found(path, role)
    return found


def missing(files: Iterable[int], wanted: Iterable[int]) -> list[int]:
    """Frames of `wanted` that `files` lacks, ascending."""
    have = set(files)
    return sorted(frame for frame in set(wanted) if frame not in have)


def spoken(frames: Iterable[int]) -> str:
    """Frame numbers as an artist writes them.

    >>> spoken([1003, 1007, 1008, 1009])
    '1003, 1007-1009'
    """
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _in_folder(folder: Path, role: str) -> Sequence:
    """The one EXR sequence of a folder. Raises SequenceError for none or several."""
    found = [s for s in _all_in(folder) if s.extension().lower() == ".exr"]
    if not found:
        raise SequenceError(
            f"{spoken_role(role)} folder {folder} holds no EXR files.", "Name a folder or pattern of EXR frames."
        )
    if len({(s.basename(), s.extension().lower()) for s in found}) > 1:
        names = ", ".join(sorted(f"{s.basename()}{'#' * s.zfill()}{s.extension()}" for s in found)[:5])
        raise SequenceError(
            f"{spoken_role(role)} folder {folder} holds {len(found)} sequences: {names}.", "Name one of them."
        )
    most = max(found, key=len)
    if most.frameSet() is None:
        return Sequence(str(folder), {1: Path(most[0])}, unnumbered=True)
    return _collected(str(folder), most, role)


def _collected(pattern: str, named: fileseq.FileSequence, role: str) -> Sequence:
    """Every file on disk of that name, sorted into those that fit the pattern's padding and extension, and strays.

    fileseq's own search by pattern goes through a shell-like match, to which brackets in a name are not plain letters;
    so it lists the folder, and the comparison is made here.
    """
    files: dict[int, Path] = {}
    strays: list[str] = []
    alike = (named.basename(), named.extension().lower())
    for other in _all_in(Path(named.dirname() or ".")):
        frames = other.frameSet()
        if (other.basename(), other.extension().lower()) != alike or frames is None:
            continue
        if len(other) > MAX_FRAMES:
            message = f"{spoken_role(role)} {pattern} has {len(other)} frames, more than {MAX_FRAMES}."
            raise SequenceError(message, "Name a narrower pattern.")
        for frame, text in zip(frames, other):
            path = Path(text)
            if not isinstance(frame, int):
                message = f"{spoken_role(role)} {pattern} has sub-frame {frame}."
                raise SequenceError(message, "Only whole frame numbers are read.")
            # As in printf and Nuke, a minus sign counts as one of the digits.
            if path.name == f"{named.basename()}{frame:0{named.zfill()}d}{named.extension()}":
                files[frame] = path
            else:
                strays.append(path.name)
    return Sequence(pattern, dict(sorted(files.items())), strays=tuple(sorted(strays)))


def _all_in(folder: Path) -> list[fileseq.FileSequence]:
    found: list[fileseq.FileSequence] = fileseq.findSequencesOnDisk(
        str(folder), pad_style=fileseq.PAD_STYLE_HASH1, strictPadding=True
    )
    return found


def _nothing_found(path: Path, role: str) -> SequenceError:
    """Say what the folder holds instead, so that a typing slip is seen at once."""
    near = [f"{s.basename()}{'#' * max(1, s.zfill())}{s.extension()}" for s in _all_in(path.parent) if s.frameSet()]
    hint = f"The folder holds: {', '.join(sorted(near)[:4])}." if near else "The folder holds no numbered files."
    return SequenceError(f"No {role} frames match {path}.", hint)
