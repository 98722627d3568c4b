"""Many shots as one job: a table with a shot a row, checked in seconds, looked up by number on the worker.

What comes in: a CSV or a folder of shots. What goes out: rows, a table in one settled form, and how each shot stands.
It opens no frame: ten thousand shots must be submitted while an artist waits, so a shot's headers are checked by its
own task. It knows no farm.

A CSV names its columns in its first row: `plate` and `matte`, and if wanted `name`, `out`, and any flag of
`void-server run` without its dashes. In a folder, each folder with `plate` and `matte` in it is a shot.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from void_server.farm.path_mapping import Rule, mapped
from void_server.farm.shot import check_text
from void_server.wire.errors import SequenceError, SettingsError, VoidError, from_wire, to_wire
from void_server.wire.shot import ROLES, flag_of

SEQUENCES: Final = tuple(flag_of(role) for role in ROLES)
PATHS: Final = (*SEQUENCES, "out")
SETTINGS: Final = (
    "frames", "handles", "engine", "physics-prior", "prompt", "colorspace", "layer", "matte-channel", "device", "seed",
    "missing", "grow-px", "feather-px", "matte-invert", "matte-floor", "option",
)  # fmt: skip
COLUMNS: Final = ("name", *PATHS, *SETTINGS)
LISTED = 20
"""Problems spelled out in one message; the rest is counted."""
LOOKERS = 16
"""Folders looked at together: on a network disk each look is a round trip."""
FAILED = "failed.json"
"""Left in a shot's output folder by a task that failed, taken away by one that succeeds."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One shot of a batch."""

    number: int
    """1 for the first shot; what a farm's task knows it by."""
    cells: Mapping[str, str]
    """By column, empty ones left out; `name`, `plate`, `matte` and `out` are always there."""

    @property
    def name(self) -> str:
        return self.cells["name"]

    @property
    def out(self) -> Path:
        return Path(self.cells["out"])

    def words(self) -> list[str]:
        """The row as words of `void-server run`: they follow the batch's own settings, and so override them."""
        words = [self.cells["plate"]]
        for column, value in self.cells.items():
            if column in ("physics-prior", "matte-invert"):
                words.append(f"--{column}" if truth(value) else f"--no-{column}")
            elif column not in ("name", "plate"):
                words.append(f"--{column}={value}")
        return words

    def mapped(self, rules: Sequence[Rule]) -> Row:
        """The row with its paths as this machine sees them."""
        cells = {c: mapped(value, rules) if c in PATHS else value for c, value in self.cells.items()}
        return dataclasses.replace(self, cells=cells)


def truth(value: str) -> bool:
    """A cell that says yes or no. Raises SettingsError for anything else."""
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in known:
        raise SettingsError(f"'{value}' is neither yes nor no.", "Write yes or no.")
    return known[value.lower()]


def read(source: Path, out: str) -> list[Row]:
    """The shots that a CSV or a folder names. `out` holds the results of rows that name no folder of their own.

    Raises SettingsError or SequenceError with everything that is wrong, by row.
    """
    found = list(_in_folder(source)) if source.is_dir() else _in_table(source)
    if not found:
        raise SequenceError(f"{source} holds no shots.", "Give a CSV with a row a shot, or a folder of shot folders.")
    problems: list[str] = []
    rows = [_row(number, cells, out, problems) for number, cells in enumerate(found, 1)]
    for folder, count in Counter(row.cells["out"] for row in rows).items():
        if count > 1:
            same = [str(row.number) for row in rows if row.cells["out"] == folder]
            problems.append(f"rows {', '.join(same[:4])} would all write to {folder}")
    _raise(source, problems)
    return rows


def check(source: Path, rows: Sequence[Row], read_settings: Callable[[Row], object]) -> None:
    """See that every row's settings can be read. Raises SequenceError with every row whose can't."""
    problems = []
    for row in rows:
        try:
            read_settings(row)
        except SettingsError as error:
            problems.append(f"row {row.number} ({row.name}): {error.message}")
    _raise(source, problems)


def look(source: Path, rows: Sequence[Row]) -> None:
    """See that every sequence has a frame on this machine. Raises SequenceError with every row that lacks one.

    Looks at names only, each folder once, several at a time.
    """
    folders = sorted({_folder(row.cells[role]) for row in rows for role in SEQUENCES if role in row.cells})
    with ThreadPoolExecutor(LOOKERS) as pool:
        names = dict(zip(folders, pool.map(_names, folders)))
    problems = []
    for row in rows:
        for role in SEQUENCES:
            pattern = row.cells.get(role)
            if pattern is not None and not _any(names[_folder(pattern)], pattern):
                problems.append(f"row {row.number} ({row.name}): {role} {pattern} has no frames")
    _raise(source, problems)


def table(rows: Sequence[Row]) -> bytes:
    """The rows as the CSV that travels with a job: only columns that some row uses, UTF-8."""
    used = [column for column in COLUMNS if any(column in row.cells for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, used, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.cells for row in rows)
    return text.getvalue().encode()


def note_failure(row: Row, error: VoidError) -> None:
    """Leave the reason beside the shot's frames, where it can be found without the farm."""
    write_failure(row.out, row.name, error)


def write_failure(out: Path, name: str, error: VoidError) -> None:
    text = json.dumps({"name": name, **to_wire(error)}, indent=1)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / FAILED).write_text(text + "\n", encoding="utf-8")
    except OSError:
        # The disk that refuses may be the very reason; the task's own log has it too.
        return


def note_success(row: Row) -> None:
    (row.out / FAILED).unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one shot of a batch stands, from its output folder alone."""

    row: Row
    state: str
    """done, failed, started, waiting"""
    error: VoidError | None = None


def standings(rows: Sequence[Row]) -> list[Standing]:
    """How every shot stands. Looks at three names a shot."""
    with ThreadPoolExecutor(LOOKERS) as pool:
        return list(pool.map(_standing, rows))


def _standing(row: Row) -> Standing:
    try:
        fields = json.loads((row.out / FAILED).read_text(encoding="utf-8"))
        return Standing(row, "failed", from_wire(fields))
    except (OSError, ValueError):
        pass
    if (row.out / "manifest.json").is_file():
        return Standing(row, "done")
    return Standing(row, "started" if (row.out / "frames.jsonl").is_file() else "waiting")


def _in_folder(folder: Path) -> Iterator[dict[str, str]]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        parts = {flag_of(role): os.path.join(entry.path, role) for role in ROLES}  # noqa: PTH118 - ten thousand times seven
        if os.path.isdir(parts["plate"]) and os.path.isdir(parts["matte"]):  # noqa: PTH112
            yield {"name": entry.name, **{r: p for r, p in parts.items() if os.path.isdir(p)}}  # noqa: PTH112


def _in_table(path: Path) -> list[dict[str, str]]:
    try:
        raw = path.read_bytes()
        # Spreadsheets save "Unicode text" as UTF-16; a CSV with a mark at its start is UTF-8 to others.
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = [cell.strip().lower().replace("_", "-") for cell in next(lines, [])]
        unknown = [column for column in head if column not in COLUMNS]
        if unknown or "plate" not in head or "matte" not in head or len(set(head)) < len(head):
            what = f"unknown columns {', '.join(unknown)}" if unknown else "not one column each of plate and matte"
            raise SettingsError(f"{path} has {what}.", f"Columns are {', '.join(COLUMNS)}.")
        rows = [line for line in lines if any(cell.strip() for cell in line)]
    except (OSError, ValueError, csv.Error) as error:
        raise SequenceError(f"{path} can't be read: {error}.", "Give a CSV in UTF-8.") from error
    for number, line in enumerate(rows, 1):
        if len(line) > len(head):
            raise SettingsError(f"{path}: row {number} has more cells than there are columns.", "Quote its commas.")
    return [{c: cell.strip() for c, cell in zip(head, line) if cell.strip()} for line in rows]


def _row(number: int, cells: dict[str, str], out: str, problems: list[str]) -> Row:
    try:
        missing = [column for column in ("plate", "matte") if column not in cells]
        if missing:
            raise SettingsError(f"no {' and no '.join(missing)}")
        cells = {c: os.path.abspath(v) if c in PATHS else v for c, v in cells.items()}  # noqa: PTH100 - patterns
        cells.setdefault("name", _named_after(cells["plate"]))
        cells.setdefault("out", os.path.abspath(os.path.join(out, cells["name"])))  # noqa: PTH100, PTH118
        for column, value in cells.items():
            check_text(column, value)
        if re.search(r"[\\/:*?<>|]|^\.+$", cells["name"]):
            raise SettingsError(f"name '{cells['name']}' can't be a folder's name")
        if "physics-prior" in cells:
            truth(cells["physics-prior"])
    except SettingsError as error:
        problems.append(f"row {number}: {error.message}")
        return Row(number, {"name": str(number), "out": f"row {number}"})
    return Row(number, {column: cells[column] for column in COLUMNS if column in cells})


def _named_after(plate: str) -> str:
    """A shot without a name is called after the folder of its plate, or the one above if that is called `plate`."""
    folder = Path(_folder(plate))
    return folder.parent.name if folder.name.lower() in ("plate", "plates") else folder.name


def _folder(pattern: str) -> str:
    return os.path.dirname(pattern) if pattern.lower().endswith(".exr") else pattern  # noqa: PTH120


def _names(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(".exr")]
    except OSError:
        return []


def _any(names: Sequence[str], pattern: str) -> bool:
    if not pattern.lower().endswith(".exr"):
        return bool(names)
    start = re.split(r"[#%$@]", os.path.basename(pattern))[0]  # noqa: PTH119
    return any(name.startswith(start) for name in names)


def _raise(source: Path, problems: Sequence[str]) -> None:
    if not problems:
        return
    lines = [f"{len(problems)} problems in {source}:", *(f"  {problem}" for problem in problems[:LISTED])]
    if len(problems) > LISTED:
        lines.append(f"  and {len(problems) - LISTED} more")
    raise SequenceError("\n".join(lines), "Mend these rows or take them out; nothing was submitted.")
