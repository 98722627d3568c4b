"""The folder of results: versions, the record of each job, and what of a result is there.

What comes in: paths. What goes out: records, paths, and `Facts` for `states`. It knows neither Nuke nor the wire.

    BASE/NAME_ID/v001/                            one Remove; a preview is affected_v001 or frame_v001
        job.json                                  the record: enough to take the job up again after a crash
        sent/plate.%04d.exr ...                   what was rendered to be sent; gone once the job is over
        clean.%04d.exr aov.%04d.exr sheet.png manifest.json
    with several views one folder each: v001/left/...

BASE is what the node's `result folder` says, else $VOID_RESULTS, else `void` beside the script. The script holds the
whole path of the version it shows, with forward slashes, as farms' path mapping and published copies need it; beside
it the path from the script's own folder, which serves where script and results have moved together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from void_nuke.states import Facts

RECORD = "job.json"
VARIABLE = "VOID_RESULTS"
SHOWN = (
    "[if {[file isdirectory [value parent.result_at]]} {return [value parent.result_at]} "
    "{return [file dirname [value root.name]]/[value parent.result_rel]}]"
)
"""The folder that a Read inside the node reads from, worked out by Nuke whenever it reads: the whole path where it is
there, else the same folder as seen from this script. Deadline renders a copy of the script in a temporary folder, with
its paths mapped: there the first serves."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One job, written before anything is sent, so that whatever dies, the job can be taken up."""

    folder: Path
    request: str
    """Names the job: the same id with the same shot is the same job, however often it is sent."""
    server: str
    node: str
    deliver: str
    """What it is for: one of `STEMS`."""
    view: str
    settings: Mapping[str, Any]
    files: Mapping[str, Mapping[int, str]]
    first: int
    last: int
    fingerprint: str = ""
    job: str = ""
    state: str = "unfinished"
    """unfinished, done, failed or cancelled."""
    error: str = ""
    warnings: tuple[str, ...] = ()
    """What the daemon wants the artist to know about the result."""
    base: str = ""
    """Folder of the version that all frames but those of this job come from; empty where it makes them all."""
    renders: Sequence[Mapping[str, Any]] = ()
    """What the farm's Nuke is to render first: fields of a `NukeRender` each."""
    shown: bool = False
    """Whether a node has taken the result; one that was fetched while its script was closed waits for Reattach."""

    @property
    def left_behind(self) -> bool:
        """Whether it can be taken up: also where it failed on a farm, and a requeued task made it after all."""
        late = self.state == "failed" and (self.folder / "manifest.json").is_file()
        return self.state == "unfinished" or (self.state == "done" and not self.shown) or late

    def with_(self, **changes: Any) -> Record:
        """A changed copy, already on disk. Raises OSError."""
        changed = dataclasses.replace(self, **changes)
        changed.save()
        return changed

    def save(self) -> None:
        fields = dataclasses.asdict(self)
        fields.pop("folder")
        make_folder(self.folder)
        temporary = self.folder / f".{RECORD}.{uuid.uuid4().hex}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(fields, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        _like(temporary, self.folder)
        temporary.replace(self.folder / RECORD)

    @classmethod
    def load(cls, folder: Path) -> Record | None:
        """The record in a folder; None where there is none that can be read."""
        try:
            fields = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            known = {field.name for field in dataclasses.fields(cls)}
            fields = {name: value for name, value in fields.items() if name in known}
            fields["files"] = {
                role: {int(f): str(p) for f, p in found.items()} for role, found in fields["files"].items()
            }
            return cls(folder=folder, **fields)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def tidy(self) -> None:
        """Remove what was rendered to be sent, and scripts that were left to render it from. Never fails: a file left
        over does no harm."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder / "sent")
        for script in {str(render["script"]) for render in self.renders}:
            with contextlib.suppress(OSError):
                Path(script).unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that lack, each with the rights of the one it is made in, whatever this user's
    umask: a farm's user reads what an artist's Nuke has made. Raises OSError; FileExistsError where a file is there."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _like(folder, folder.parent)


def share(folder: Path) -> None:
    """Give every file of a folder that is this user's the rights of the folder, but for running it. Never fails."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            _like(path, folder)


def _like(path: Path, folder: Path) -> None:
    """Give a new path the rights of a folder; where rights are not POSIX's, or not ours to give, it stays as it is."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        mode = folder.stat().st_mode & 0o7777
        path.chmod(mode if path.is_dir() else (mode & 0o666) | 0o600)


def new_name(node: str) -> str:
    """Name of a node's folder: readable, and unlike that of any other node.

    >>> new_name("VoidInpaint1").startswith("VoidInpaint1_")
    True
    """
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', node)}_{uuid.uuid4().hex[:8]}"


def new_request() -> str:
    return uuid.uuid4().hex


def base_of(script: str, given: str) -> Path:
    """Where results go. given: what the node's `result folder` says; if it is no whole path, it starts at the script.

    >>> base_of("/shots/sh010/comp/a.nk", "").as_posix(), base_of("/shots/sh010/comp/a.nk", "../void").as_posix()
    ('/shots/sh010/comp/void', '/shots/sh010/void')
    """
    told = given.strip() or os.environ.get(VARIABLE, "").strip() or "void"
    return Path(os.path.normpath(Path(script).parent / told))


def from_script(script: str, folder: Path) -> str:
    """A folder as seen from the script's own, with forward slashes; empty where there is no way, as between drives."""
    try:
        return Path(os.path.relpath(folder, Path(script).parent)).as_posix()
    except ValueError:
        return ""


STEMS = {"clean": "v", "affected": "affected_v", "frame": "frame_v"}
"""What a run is for, and how its versions' folders begin."""


def stem(deliver: str) -> str:
    return STEMS[deliver]


def claim_version(folder: Path, deliver: str) -> int:
    """Make the next version's folder and return its number; older ones are never written to. Raises OSError."""
    version = max(versions(folder, deliver), default=0) + 1
    while True:
        try:
            make_folder(folder)
            claimed = version_folder(folder, deliver, version)
            claimed.mkdir()
            _like(claimed, folder)
            return version
        except FileExistsError:
            version += 1


def version_folder(folder: Path, deliver: str, version: int) -> Path:
    return folder / f"{stem(deliver)}{version:03d}"


def discard(folder: Path) -> None:
    """Remove a version in which nothing came about. Never fails."""
    shutil.rmtree(folder, ignore_errors=True)


def versions(folder: Path, deliver: str) -> list[int]:
    """Numbers of the versions on disk, ascending."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(m[1]) for m in (re.fullmatch(rf"{stem(deliver)}(\d{{3,}})", n) for n in names) if m)


def in_script(part: str, several_views: bool) -> str:
    """The text for a Read inside the node: the version that is shown, one folder a view where there are several.

    >>> in_script("clean", False).endswith("]/clean.%04d.exr"), in_script("aov", True).endswith("]/%V/aov.%04d.exr")
    (True, True)
    """
    return f"{SHOWN}/{'%V/' if several_views else ''}{part}.%04d.exr"


def preview_in_script(folder: Path, part: str, several_views: bool) -> str:
    """The same for a preview, which only this window shows: the whole path alone."""
    return f"{folder.as_posix()}/{'%V/' if several_views else ''}{part}.%04d.exr"


def records(folder: Path) -> Iterator[Record]:
    """Every record under a node's folder, newest version first."""
    found = []
    for deliver in STEMS:
        for version in versions(folder, deliver):
            top = version_folder(folder, deliver, version)
            with contextlib.suppress(OSError):
                found += [record for path in (top, *sorted(top.iterdir())) if (record := Record.load(path))]
    yield from sorted(found, key=lambda r: _written(r.folder / RECORD), reverse=True)


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def unfinished(base: Path, name: str, node: str) -> list[Record]:
    """Jobs of a node that nobody waits for, and results that no node has taken, one a view: those of the newest run.

    A script that was never saved after Remove knows no folder; then the node's own name finds it.
    """
    if name:
        folders = [base / name]
    else:
        try:
            folders = [path for path in base.iterdir() if path.is_dir()]
        except OSError:
            folders = []
    left = [r for f in folders for r in records(f) if r.left_behind and (name or r.node == node)]
    if not left:
        return []
    newest = max(left, key=lambda r: _written(r.folder / RECORD))
    return [r for r in left if run_of(r) == run_of(newest)]


def _is_version(folder: Path) -> bool:
    return bool(re.fullmatch(r"(affected_|frame_)?v\d{3,}", folder.name))


def run_of(record: Record) -> Path:
    """The version's folder that a record belongs to, whatever its view."""
    return record.folder if _is_version(record.folder) else record.folder.parent


def version_of(record: Record) -> tuple[str, int]:
    """Name of the node's folder, and the version, that a record belongs to."""
    run = run_of(record)
    return run.parent.name, int(run.name.rpartition("v")[2])


def missing(record: Record) -> int:
    """How many files of a finished result are not there. One listing of one folder."""
    try:
        names = set(os.listdir(record.folder))  # noqa: PTH208 - one call to a network disk, not one a file
    except OSError:
        names = set()
    parts = ("affected",) if record.deliver == "affected" else ("clean", "aov")
    wanted = {f"{part}.{frame:04d}.exr" for part in parts for frame in range(record.first, record.last + 1)}
    return len((wanted | {"manifest.json"}) - names)


def fill(record: Record) -> None:
    """Give a version the frames that its job did not make, from the one it is based on. Raises OSError.

    Frames that were made are never touched. Linked where the disk can, else copied.
    """
    for frame in range(record.first, record.last + 1):
        for part in ("clean", "aov"):
            name = f"{part}.{frame:04d}.exr"
            if not (record.folder / name).exists():
                try:
                    os.link(Path(record.base) / name, record.folder / name)
                except OSError:
                    shutil.copy2(Path(record.base) / name, record.folder / name)


def listed(folder: Path) -> list[str]:
    """A line for every finished version under a node's folder, newest first: its day, engine, what was recovered."""
    lines = []
    done = [record for record in records(folder) if record.deliver == "clean" and record.state == "done"]
    for version, record in sorted({version_of(r)[1]: r for r in done}.items(), reverse=True):
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(_written(record.folder / RECORD) / 1e9))
        lines.append("  ".join((f"v{version:03d}", day, *_figures(record.folder))))
    return lines


def _figures(folder: Path) -> list[str]:
    """What a result's manifest says of it, in a few words; nothing where it says nothing."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        words = [str(manifest["engine"]["name"])]
        if isinstance(manifest.get("coverage"), (int, float)):
            words.append(f"{manifest['coverage']:.0%} recovered")
        return words
    except (OSError, ValueError, KeyError, TypeError):
        return []


def version_in(line: str) -> int:
    """The version that a line of `listed` names; 0 for any other.

    >>> version_in("v012  2026-11-30 16:12  propagate"), version_in("off")
    (12, 0)
    """
    found = re.match(r"v(\d{3,})\b", line)
    return int(found[1]) if found else 0


def find(base: Path, name: str, node: str, version: int, shown: str) -> tuple[Facts, Record | None, list[str]]:
    """What the disk says about a node, the finished record of `version`, and `listed`. Not for the main thread.

    shown: the folder of the version that the node shows; where `base` has none of this node, it is looked at instead,
    as for a script that was saved elsewhere.
    """
    folder = base / name
    if name and shown and not folder.is_dir():
        folder = Path(shown).parent
    left = bool(unfinished(folder.parent if name else base, name, node))
    every = list(records(folder)) if name else []
    mine = [r for r in every if r.deliver == "clean" and r.state == "done" and version_of(r)[1] == version]
    lost = sum(missing(record) for record in mine) if mine else int(version > 0)
    newest = every[0] if every else None
    state = "unfinished" if left else (newest.state if newest is not None and newest.state != "done" else "")
    error = newest.error if newest is not None else ""
    lines = listed(folder) if name else []
    return Facts(record=state, error=error, missing_frames=lost), mine[0] if mine else None, lines


def reveal(folder: Path) -> None:
    """Open a folder in the system's file browser. Raises OSError where there is none of either."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist yet")
    opener = {"darwin": "open", "win32": "explorer"}.get(sys.platform, "xdg-open")
    subprocess.Popen([opener, str(folder)])
