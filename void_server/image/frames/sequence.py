"""Find the files of a sequence on disk, by absolute frame number.

What comes in: a pattern as artists write it (`plate.####.exr`, `plate.%04d.exr`, `plate.$F4.exr`,
`plate.[1001-1100].exr`, `%V` for a view, a folder, or one frame of the sequence). What goes out: one path per frame
number, or an error that says what is there instead. It does not open files: what is inside them is `image/exr`'s
business; which number of a name is the frame is `image/frames/frame_names.py`'s.

fileseq says how wide a token is and what a range means; its search of a folder is not used, see `frame_names.py`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections import abc
from collections.abc import Iterable, Iterator
from pathlib import Path

import fileseq
import numpy as np

from void_server.image.frames import frame_names
from void_server.image.frames.frame_names import NamedFrames
from void_server.wire.errors import SequenceError
from void_server.wire.shot import flag_of, spoken_role

MAX_FRAMES = 100_000
"""More than an hour at 24 frames a second is a wrong pattern, not a shot."""
LISTED = 8
"""Names spelled out in one message."""

EXR_ENDINGS = (".exr", ".sxr", ".mxr")
"""sxr holds two views, mxr several parts: EXR by another name."""
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dpx", ".cin", ".tga", ".bmp", ".webp", ".hdr", ".tx")
MOVIE_ENDINGS = (".mov", ".mp4", ".m4v", ".mkv", ".avi", ".mxf", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv")

_UDIM = re.compile(r"<udim>|<uvtile>|%\(udim\)d|\$\{?udim\}?", re.IGNORECASE)
_TOKENS = re.compile(
    r"#+|@+|%0?\d*d|\$\{?F+\d*\}?|<(?:f|frame)\d*>|\{(?:frame)?(?::0?\d*d)?\}|"
    r"\[(?:#+|@+|%0?\d*d)\]|\[-?\d+--?\d+(?:x\d+)?\]|(?:(?<![A-Za-z0-9])-)?\d+--?\d+(?:x\d+)?[#@]+",
    re.IGNORECASE,
)
"""What stands for a frame number, from #### to After Effects' [1001-1100] and fileseq's 1001-1100#."""
_GLOBS = re.compile(r"\*|\?+")
_RANGE = re.compile(r"(-?\d+)-(-?\d+)(?:x(\d+))?")
_AFTER = re.compile(r"(?P<pattern>.*\S)\s+\[?(?P<range>-?\d+(?:--?\d+(?:x\d+)?)?)\]?")
"""A range after a pattern, as Nuke and clique write and paste it."""
_VIEW = re.compile(r"%[vV](?![A-Za-z])|%[vV](?=[_.\-/])")


@dataclasses.dataclass(frozen=True)
class Sequence:
    """The files of one role: a path per absolute frame number, and what was odd about them."""

    pattern: str
    files: dict[int, Path]
    strays: tuple[str, ...] = ()
    """Files of the same name whose padding or extension differs from the pattern's; the caller reports them."""
    unnumbered: bool = False
    """The pattern named one file without a frame number."""


def find(pattern: str | Path, role: str, endings: tuple[str, ...] = EXR_ENDINGS) -> Sequence:
    """The files that `pattern` names, ascending by frame. `role` is for messages: "plate", "matte", ...

    endings: of the files that count, in lower case.
    Raises SequenceError where nothing matches, a folder holds several sequences, or numbers are ambiguous.
    """
    text = str(pattern)
    if not text.strip() or "\0" in text:
        raise SequenceError(f"{spoken_role(role)} has no name.", "Name a sequence of EXR files.")
    path = Path(text)
    if path.is_dir():
        return _in_folder(path, role, endings)
    if not path.is_file():
        if tile := _UDIM.search(text):
            message = (
                f"{spoken_role(role)} {_plain(text)} has {tile[0]}: UDIM tiles belong to a texture, not to a shot."
            )
            raise SequenceError(message, "Name frames, as plate.####.exr.")
        if _VIEW.search(text):
            return _one_view(text, role)
    if not path.parent.is_dir():
        raise _no_folder(path, role)
    foreign = path.suffix.lower() in set(MOVIE_ENDINGS + PICTURE_ENDINGS).difference(endings)
    if foreign and path.is_file():
        raise _not_exr(path, role)
    names = _names(path.parent)
    for named, width, wanted in _readings(path, names, endings):
        found = _collected(text, path.parent, named, width, wanted, role)
        if found.files and foreign:
            raise _not_exr(path, role)
        if found.files:
            return found
    raise _nothing_found(path, names, role)


def in_folder(folder: Path) -> list[str]:
    """A pattern for every EXR sequence of a folder, in the order of their names."""
    return [str(folder / found.pattern) for found in _sequences(_names(folder))]


def missing(files: Iterable[int], wanted: Iterable[int]) -> list[int]:
    """Frames of `wanted` that `files` lacks, ascending."""
    have = set(files)
    return sorted(frame for frame in set(wanted) if frame not in have)


def evenly(frames: abc.Sequence[int], count: int) -> list[int]:
    """`count` frames, or indices, spread over all of them, first and last included; all where there are no more.

    >>> evenly(range(1001, 1025), 5)
    [1001, 1007, 1013, 1018, 1024]
    """
    picks = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return [frames[int(index)] for index in picks]


def format_frames(frames: Iterable[int]) -> str:
    """Frame numbers as an artist writes them.

    >>> format_frames([1003, 1007, 1008, 1009]), format_frames([2, 4, 6, 8])
    ('1003, 1007-1009', '2-8x2')
    """
    left = sorted(set(frames))
    runs: list[str] = []
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        length = 1
        while length < len(left) and left[length] - left[length - 1] == step:
            length += 1
        if length < (2 if step == 1 else 4):
            length, step = 1, 1
        a, b = left[0], left[length - 1]
        runs.append(str(a) if length == 1 else f"{a}-{b}" + (f"x{step}" if step > 1 else ""))
        left = left[length:]
    return ", ".join(runs)


def _names(folder: Path) -> list[str]:
    """Names of all files of a folder but hidden ones (macOS writes `._plate.1001.exr` beside plate.1001.exr)."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    except OSError as error:
        raise SequenceError(f"Folder {folder} can't be read: {error.strerror}.", "Check its rights.") from error


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings)


def _sequences(names: Iterable[str], endings: tuple[str, ...] = EXR_ENDINGS) -> list[NamedFrames]:
    return frame_names.group(name for name in names if _ends(name, endings))


def _in_folder(folder: Path, role: str, endings: tuple[str, ...]) -> Sequence:
    """The one sequence of a folder. Raises SequenceError for none or several."""
    names = _names(folder)
    found = _sequences(names, endings)
    if not found:
        raise _no_exr(folder, names, role, endings)
    if len(found) > 1:
        shown = [f"{one.pattern} ({_extent(one)})" for one in found[:LISTED]]
        more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
        where = "" if role in ("plate", "footage") else f"--{flag_of(role)} "
        ready = ", ".join(where + shlex.quote(str(folder / one.pattern)) for one in found[:LISTED])
        raise SequenceError(
            f"{spoken_role(role)} folder {folder} holds {len(found)} sequences: {', '.join(map(_plain, shown))}{more}.",
            f"Name one of them: {_plain(ready)}.",
        )
    (only,) = found
    return _collected(str(folder), folder, only, only.width() if only.numbered else 0, None, role)


def _extent(found: NamedFrames) -> str:
    if not found.numbered:
        return "one picture"
    numbers = [int(text) for text in found.numbers.values()]
    return format_frames(numbers) if len(numbers) < 3 else f"{min(numbers)} to {max(numbers)}"


def _readings(
    path: Path, names: list[str], endings: tuple[str, ...]
) -> Iterator[tuple[NamedFrames, int, frozenset[int] | None]]:
    """Every way to read a pattern or the name of one frame, the likeliest first: names, padding, frames asked for.

    A padding of 0 takes any. What looks like a token may be plain text in a name (`take#2.1001.exr`), so each is tried.
    """
    name = path.name
    if name not in names:
        tokens = [*reversed(list(_TOKENS.finditer(name)))] or [*reversed(list(_GLOBS.finditer(name)))]
        for token in tokens:
            # [####] is the token of After Effects, or a #### that stands in brackets.
            inner = [(token.start(), token.end())]
            if token[0].startswith("[") and token[0][1] in "#@%":
                inner.insert(0, (token.start() + 1, token.end() - 1))
            for start, end in inner:
                named = frame_names.matching(name[:start], name[end:], names)
                yield named, _padding(token[0]), _asked(token[0])
        if (after := _AFTER.fullmatch(name)) and after["pattern"] not in ("", name):
            wanted = _asked(after["range"])
            for named, width, _ in _readings(path.with_name(after["pattern"]), names, endings):
                yield named, width, wanted
        if tokens:
            return
    named = frame_names.around(name, [n for n in names if _ends(n, endings)])
    given = named.numbers.pop(name)
    if name in names:
        named.numbers[name] = given
    yield named, named.width(given) if named.numbered else 0, None


def _padding(token: str) -> int:
    """Digits a token asks for; 0, any number of them, for `#`, `%d` and `$F`, which hosts read differently."""
    hashes = re.search(r"#+|@+", token)
    if hashes:
        width = int(fileseq.getPaddingNum(hashes[0], pad_style=fileseq.PAD_STYLE_HASH1))
    elif token.startswith("?"):
        width = len(token)
    else:
        digits = None if _RANGE.search(token) else re.search(r"\d+", token)
        width = int(digits[0]) if digits else 0
    return width if width > 1 else 0


def _asked(token: str) -> frozenset[int] | None:
    """The frames that a token spells out, as [1001-1100] or 1001-1100x2#; None where it spells none."""
    found = _RANGE.search(token)
    text = found[0] if found else token if re.fullmatch(r"-?\d+", token) else None
    if text is None:
        return None
    try:
        frames = fileseq.FrameSet(text)
        if len(frames) > MAX_FRAMES:
            raise SequenceError(f"'{text}' is more than {MAX_FRAMES} frames.", "Name a narrower range.")
        return frozenset(int(frame) for frame in frames)
    except fileseq.FileSeqException as error:
        raise SequenceError(f"'{text}' is not a frame range.", "Write it as 1001-1048.") from error


def _collected(
    pattern: str, folder: Path, named: NamedFrames, width: int, wanted: frozenset[int] | None, role: str
) -> Sequence:
    """The files of one name, sorted into those that fit its padding and spelling, and strays."""
    if not named.numbers:
        return Sequence(pattern, {})
    if not named.numbered:
        (only,) = named.numbers
        return Sequence(pattern, {1: folder / only}, unnumbered=True)
    width = width or named.width()
    files: dict[int, Path] = {}
    strays: list[str] = []
    for name, text in named.numbers.items():
        frame = int(text)
        if wanted is not None and frame not in wanted:
            continue
        if frame in files or not frame_names.fits(text, width) or not name.endswith(named.suffix):
            strays.append(name)
        else:
            files[frame] = folder / name
    if files and max(files) - min(files) >= MAX_FRAMES:
        message = f"{spoken_role(role)} {_plain(pattern)} goes from frame {min(files)} to {max(files)}"
        raise SequenceError(f"{message}, more than {MAX_FRAMES} frames.", "Name a narrower pattern.")
    if files and wanted is not None and (gone := missing(files, wanted)):
        message = f"{spoken_role(role)} {_plain(pattern)} has no frames {format_frames(gone)}."
        raise SequenceError(message, f"There are {format_frames(files)}.")
    return Sequence(pattern, dict(sorted(files.items())), strays=tuple(sorted(strays)))


def _one_view(text: str, role: str) -> Sequence:
    """`%V` and `%v` stand for a view, left or l. One that is there is taken; of several, one must be named."""
    parts = Path(text).parts
    at = next(index for index, part in enumerate(parts) if _VIEW.search(part))
    folder = Path(*parts[:at]) if at else Path()
    if not folder.is_dir():
        raise _no_folder(folder / parts[at], role)
    pieces = _VIEW.split(_TOKENS.sub("\0", parts[at]), maxsplit=1)
    spelled = [re.escape(piece).replace(re.escape("\0"), ".*") for piece in pieces]
    spelled[1] = _VIEW.sub(".*", spelled[1])
    form = re.compile(rf"{spelled[0]}([A-Za-z][A-Za-z0-9]*){spelled[1]}")
    views = sorted({match[1] for entry in folder.iterdir() if (match := form.fullmatch(entry.name))})
    found: dict[str, Sequence] = {}
    for view in views:
        try:
            found[view] = find(_VIEW.sub(lambda _, view=view: view, text), role)  # type: ignore[misc]
        except SequenceError:
            continue
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise SequenceError(f"No {role} frames match {_plain(text)} in any view.", "Name one view's files.")
    named = ", ".join(shlex.quote(_VIEW.sub(view, text)) for view in found)
    raise SequenceError(f"{spoken_role(role)} {_plain(text)} has the views {', '.join(found)}.", f"Name one: {named}.")


def _plain(text: str) -> str:
    """A name fit for a one-line message."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _no_folder(path: Path, role: str) -> SequenceError:
    if _TOKENS.search(str(path.parent)) and not _TOKENS.search(path.name):
        message = f"{spoken_role(role)} {_plain(str(path))} has its frame number in a folder's name."
        return SequenceError(message, "Put the frames into one folder, numbered by file.")
    message = f"{spoken_role(role)} folder {_plain(str(path.parent))} does not exist."
    return SequenceError(message, "Check the path; nothing was done.")


def _not_exr(path: Path, role: str) -> SequenceError:
    kind = "a movie" if path.suffix.lower() in MOVIE_ENDINGS else f"a picture of kind {path.suffix[1:].upper()}"
    return SequenceError(f"{spoken_role(role)} {_plain(str(path))} is {kind}, not EXR.", _convert(path))


def _convert(path: Path) -> str:
    made = path.parent / f"{path.stem.split('.')[0].rstrip('#_-% ') or 'frames'}_exr"
    return f"Make EXR frames of it: void-server convert {shlex.quote(str(path))} --out {shlex.quote(str(made))}"


def _no_exr(folder: Path, names: list[str], role: str, endings: tuple[str, ...]) -> SequenceError:
    """Say what a folder holds instead of EXR files."""
    if endings != EXR_ENDINGS:
        message = f"{spoken_role(role)} folder {_plain(str(folder))} holds no {', '.join(endings)}."
        return SequenceError(message, "Name a folder or pattern of such files.")
    message = f"{spoken_role(role)} folder {_plain(str(folder))} holds no EXR files"
    others = [name for name in names if _ends(name, PICTURE_ENDINGS + MOVIE_ENDINGS)]
    if others:
        first = frame_names.group(others)[0]
        return SequenceError(f"{message}; it holds {_plain(first.pattern)}.", _convert(folder / first.pattern))
    inside = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    full = [str(child) for child in inside[:50] if _sequences(_names(child))]
    if full:
        return SequenceError(f"{message}; folders inside it do.", f"Name one of them: {_plain(', '.join(full[:4]))}.")
    return SequenceError(f"{message}.", "Name a folder or pattern of EXR frames.")


def _nothing_found(path: Path, names: list[str], role: str) -> SequenceError:
    """Say what the folder holds instead, so that a typing slip is seen at once."""
    near = [found.pattern for found in frame_names.group(names) if found.numbered]
    near.sort(key=lambda name: not _ends(name, EXR_ENDINGS))
    shown = _plain(", ".join(near[:4]))
    hint = f"The folder holds: {shown}." if near else "The folder holds no numbered files."
    return SequenceError(f"No {role} frames match {_plain(str(path))}.", hint)
