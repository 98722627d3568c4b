"""Lay a host's plug-in, with all it needs, into the user's folder of that host, and take away exactly that again.

What comes in: the name of a host, its versions, a folder. What goes out: files, one line in the host's own start-up
file, and `installed.json`, which lists them. It runs no host, and asks pip for wheels only, which it unpacks itself.

A host is a row in `HOSTS`. Hosts get `void_server.wire`, and pyzmq and msgpack for their own Python: nothing of theirs
is replaced, nothing is put into their Python.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import void_server
from void_server.commands import install_blender, wheels
from void_server.wire.errors import OutputError, SettingsError

MANIFEST = "installed.json"
REQUIREMENTS = ("pyzmq>=26,<28", "msgpack>=1.0.5,<2")
"""What `void_server.wire` needs; the same ranges as the package's own."""


@dataclasses.dataclass(frozen=True)
class Host:
    """How a host finds plug-ins."""

    pythons: Mapping[str, str]
    """Python of each version of the host."""
    home: str
    """Folder of the user that the host reads, below the home folder."""
    folder: str
    """Name of our folder in it."""
    sources: tuple[tuple[str, str], ...]
    """(folder or file of this project, where it goes in ours)."""
    start_file: str
    start_line: str
    """A line in `start_file` that makes the host read our folder."""
    start_again: str
    """What the artist does next."""


HOSTS: dict[str, Host] = {
    "nuke": Host(
        # Foundry's release notes, and VFX Reference Platform CY2021 to CY2025
        pythons={"14": "3.9", "15": "3.10", "16": "3.11", "17": "3.11"},
        home=".nuke",
        folder="void",
        sources=(("plugins/nuke", ""), ("gizmos", "gizmos")),
        start_file="init.py",
        start_line='import nuke; nuke.pluginAddPath("./void")  # laid by void-server install nuke',
        start_again="Start Nuke again: tab, VoidInpaint.",
    ),
}


def add_to(commands: Any) -> None:
    """Register `install` with the command line's subparsers."""
    text = "lay the plug-in into a host's user folder, or take it away"
    parser = commands.add_parser("install", help=text, description=text)
    parser.set_defaults(command=_run)
    parser.add_argument("--json", action="store_true", help="one JSON object a line; the last line is the result")
    parser.add_argument("host", choices=sorted([*HOSTS, "blender"]))
    parser.add_argument(
        "--to", type=Path, default=None, metavar="DIR", help="default: the user's own folder, as ~/.nuke"
    )
    parser.add_argument("--wheels", type=Path, default=None, metavar="DIR",
                        help="take pyzmq and msgpack from the wheels in this folder, without any network")  # fmt: skip
    parser.add_argument("--uninstall", action="store_true", help="remove exactly what was laid")
    install_blender.add_to(parser)
    for name, host in HOSTS.items():
        versions = ", ".join(host.pythons)
        parser.add_argument(f"--{name}-version", action="append", default=None, choices=list(host.pythons), metavar="N",
                            help=f"{versions}; may be repeated; default: all of them")  # fmt: skip


def _run(args: argparse.Namespace, console: Any, _cancelled: Any) -> int:
    if args.host == "blender":  # Blender has an installer of its own
        return install_blender.run(args, console)
    if args.zip or args.blender or args.platform:
        raise SettingsError("--zip, --blender and --platform are Blender's.", f"Leave them out for {args.host}.")
    host = HOSTS[args.host]
    to = args.to or Path.home() / host.home
    if args.uninstall:
        kept = uninstall(host, to)
        text = f"removed from {to / host.folder}"
        if kept:
            text += f"; changed since, so left there: {', '.join(kept)}"
        console.result({"removed": str(to / host.folder), "kept": kept}, text)
        return 0
    versions = getattr(args, f"{args.host}_version") or list(host.pythons)
    laid = install(host, to, versions, args.wheels)
    console.result({"installed": str(laid), "versions": versions}, f"{args.host} plug-in in {laid}. {host.start_again}")
    return 0


def install(host: Host, to: Path, versions: Sequence[str], wheels: Path | None = None) -> Path:
    """Lay everything and return the folder; an earlier installation there is taken away first.

    Nothing is changed before all wheels are there. Raises SettingsError, OutputError.
    """
    if wheels is not None and not wheels.is_dir():
        raise SettingsError(f"The folder of wheels {wheels} does not exist.", "Name an existing folder.")
    folder = to / host.folder
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise OutputError(f"{folder} is there already and not ours.", "Move it away, or choose another --to.")
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch)
        for source, target in _sources(host):
            _copy(source, staged / target)
        for python in sorted({host.pythons[version] for version in versions}):
            _unpack(_wheels(python, wheels, staged / "wheels"), staged / "python" / python)
            shutil.rmtree(staged / "wheels")
        try:
            if (folder / MANIFEST).is_file():
                uninstall(host, to)
            files = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
            start = to / host.start_file
            added = _added(start, host.start_line)
            fields = {
                "version": void_server.__version__,
                "host_versions": list(versions),
                "added": added.decode(),
                "files": {name: _sha256(path) for name, path in files.items()},
            }
            # The list comes first, so that an installation that breaks off can be taken away all the same.
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / MANIFEST, json.dumps(fields, indent=1).encode())
            for name, path in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / name)
            if added:
                _write(start, (start.read_bytes() if start.is_file() else b"") + added)
        except OSError as error:
            raise OutputError(f"{folder} can't be written: {error}.", "Choose another --to.") from error
    return folder


def uninstall(host: Host, to: Path) -> list[str]:
    """Remove what `install` laid; returns the files left there because somebody changed them. Raises SettingsError,
    OutputError."""
    folder = to / host.folder
    try:
        fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed, added = dict(fields["files"]), str(fields["added"]).encode()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"Nothing of VOID is installed in {folder}.", "Name the folder with --to.") from error
    kept = []
    try:
        for name, digest in listed.items():
            path = folder / name
            if not _inside(folder, path) or not path.is_file():
                continue
            if _sha256(path) == digest:
                path.unlink()
            else:
                kept.append(name)
        (folder / MANIFEST).unlink()
        _remove_line(to / host.start_file, host.start_line, added)
        for cache in sorted(folder.rglob("__pycache__")):  # made by the host's Python from what was laid
            shutil.rmtree(cache)
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise OutputError(f"{folder} can't be emptied: {error}.", "Close the host and try again.") from error
    return kept


def _sources(host: Host) -> Iterator[tuple[Path, str]]:
    """Folders of this project, in an installed wheel or in a checkout, and the wire package."""
    package = Path(void_server.__file__).resolve().parent
    for name, target in host.sources:
        found = [path for path in (package / "hosts" / name, package.parent / name) if path.exists()]
        if not found:
            raise SettingsError(f"This installation lacks {name}.", "Install void-server again, from its wheel.")
        yield found[0], target
    yield package / "wire", "python/wire/void_server/wire"
    yield package / "farm", "python/wire/void_server/farm"
    yield package / "__init__.py", "python/wire/void_server/__init__.py"


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))


def _wheels(python: str, folder: Path | None, into: Path) -> list[Path]:
    """Wheels for that Python and this machine: from `folder` alone, or from the package index. Raises SettingsError."""
    why = wheels.download(REQUIREMENTS, python, into, folder)
    if why:
        raise SettingsError(
            f"pyzmq and msgpack for Python {python} can't be had {why}",
            f"Download them elsewhere (pip download --no-deps --only-binary=:all: --python-version {python} "
            f'"{REQUIREMENTS[0]}" "{REQUIREMENTS[1]}") and name their folder with --wheels.',
        )
    return sorted(into.glob("*.whl"))


def _unpack(wheels: Sequence[Path], target: Path) -> None:
    """A wheel is a zip archive of a folder for Python's path. Raises SettingsError for one that is not."""
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if not _inside(target, target / name):
                        raise SettingsError(f"Wheel {wheel.name} holds {name!r}.", "Don't trust that wheel.")
                archive.extractall(target)
        except zipfile.BadZipFile as error:
            raise SettingsError(f"Wheel {wheel.name} is damaged.", "Download it again.") from error


def _inside(folder: Path, path: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(Path(os.path.normpath(folder)))


def _added(path: Path, line: str) -> bytes:
    """What to put at the end of a start-up file of the user's to give it the line; nothing if it has it."""
    before = path.read_bytes() if path.is_file() else b""
    if line.encode() in before.splitlines():
        return b""
    return (b"\n" if before and not before.endswith(b"\n") else b"") + line.encode() + b"\n"


def _remove_line(path: Path, line: str, added: bytes) -> None:
    """Take away what was added, or what is left of it; a file that held nothing else goes with it."""
    if not path.is_file():
        return
    before = path.read_bytes()
    if added and before.endswith(added):
        after = before[: -len(added)]
    else:
        after = re.sub(rb"^" + re.escape(line.encode()) + rb"\r?(\n|\Z)", b"", before, flags=re.M)
    if not after:
        path.unlink()
    elif after != before:
        _write(path, after)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
