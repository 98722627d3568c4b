"""Lay a host's plug-in, with all it needs, into the user's folder of that host, and take away exactly that again.

What comes in: the name of a host, its versions, a folder. What goes out: files, one line in the host's own start-up
file, and `installed.json`, which lists them. It runs no host, and asks pip for wheels only, which it unpacks itself.

A host is a row in `HOSTS`. Hosts get `void_server.wire`, and pyzmq and msgpack for their own Python: nothing of theirs
is replaced, nothing is put into their Python. Those two are compiled, so each version and system has a folder of its
own, `python/3.11-linux-x64`: one folder on a share serves every machine of a studio, and any machine can lay it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import void_server
from void_server.commands.installation import blender as install_blender
from void_server.commands.installation import wheels
from void_server.commands.terminal import examples
from void_server.wire.errors import OutputError, SettingsError
from void_server.wire.report import Report

MANIFEST = "installed.json"
REQUIREMENTS = ("pyzmq>=26,<28", "msgpack>=1.0.5,<2")
"""What `void_server.wire` needs; the same ranges as the package's own."""


PLATFORMS = {
    "linux-x64": ("manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_arm64",),
    "macos-x64": ("macosx_10_15_x86_64",),
}
"""Systems that Nuke runs on, and the tags of wheels for them. The oldest Linux decides: Nuke 14 runs on CentOS 7.
Source: Foundry's system requirements, Nuke 14 to 17."""


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
    parser = commands.add_parser(
        "install",
        help=text,
        description=text,
        epilog=examples.epilog("install"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("--json", action="store_true", help="one JSON object a line; the last line is the result")
    parser.add_argument("host", choices=sorted([*HOSTS, "blender"]))
    parser.add_argument(
        "--to", type=Path, default=None, metavar="DIR", help="default: the user's own folder, as ~/.nuke"
    )
    parser.add_argument("--wheels", type=Path, default=None, metavar="DIR",
                        help="take pyzmq and msgpack from the wheels in this folder, without any network")  # fmt: skip
    parser.add_argument("--central", type=Path, default=None, metavar="DIR",
                        help="nuke: for a whole studio: DIR itself, every system; name it in NUKE_PATH")  # fmt: skip
    parser.add_argument("--uninstall", action="store_true", help="remove exactly what was laid")
    install_blender.add_to(parser)
    for name, host in HOSTS.items():
        versions = ", ".join(host.pythons)
        parser.add_argument(f"--{name}-version", action="append", default=None, choices=list(host.pythons), metavar="N",
                            help=f"{versions}; may be repeated; default: all of them")  # fmt: skip


def _run(args: argparse.Namespace, console: Any, cancelled: Callable[[], bool]) -> int:
    report = Report(console.on_event, cancelled)
    if args.host == "blender":  # Blender has an installer of its own
        if args.central:
            raise SettingsError("--central is Nuke's.", "Leave it out for blender.")
        return install_blender.run(args, console, report)
    if args.zip or args.blender:
        raise SettingsError("--zip and --blender are Blender's.", f"Leave them out for {args.host}.")
    if args.central and args.to:
        raise SettingsError("--central and --to were both given.", "Give one of them.")
    host = HOSTS[args.host]
    place = Place(args.central, None) if args.central else Place((args.to or Path.home() / host.home), host.folder)
    if args.uninstall:
        kept = uninstall(host, place)
        text = f"removed from {place.folder}"
        if kept:
            text += f"; changed since, so left there: {', '.join(kept)}"
        console.result({"removed": str(place.folder), "kept": kept}, text)
        return 0
    versions = getattr(args, f"{args.host}_version") or list(host.pythons)
    platforms = args.platform or (list(PLATFORMS) if args.central else [])
    laid = install(host, place, versions, args.wheels, platforms, report)
    text = f"{args.host} plug-in in {laid}, for {', '.join(platforms or [this_platform()])}. {host.start_again}"
    if args.central:
        text = f"{text}\nFor every machine: NUKE_PATH={laid.as_posix()}"
    console.result({"installed": str(laid), "versions": versions, "platforms": platforms or [this_platform()]}, text)
    return 0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a plug-in goes: a folder of ours in one that the host reads, or a central one that is all ours."""

    to: Path
    name: str | None
    """Name of our folder in `to`; None is `to` itself, which no start-up file names."""

    @property
    def folder(self) -> Path:
        return self.to / self.name if self.name else self.to


def this_platform() -> str:
    """This machine, as `PLATFORMS` calls it; unlike any of them where Nuke does not run."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux") + f"-{machine}"


def install(
    host: Host,
    place: Place,
    versions: Sequence[str],
    wheels: Path | None = None,
    platforms: Sequence[str] = (),
    report: Report | None = None,
) -> Path:
    """Lay everything and return the folder; an earlier installation there is taken away first.

    platforms: names of `PLATFORMS`; none is this machine. Nothing is changed before all wheels are there. Raises
    SettingsError, OutputError.
    """
    if wheels is not None and not wheels.is_dir():
        raise SettingsError(f"The folder of wheels {wheels} does not exist.", "Name an existing folder.")
    folder = place.folder
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise OutputError(f"{folder} is there already and not ours.", "Move it away, or choose another --to.")
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch)
        for source, target in sources(host):
            _copy(source, staged / target)
        pythons, systems = sorted({host.pythons[version] for version in versions}), platforms or (this_platform(),)
        for at_python, python in enumerate(pythons):
            for at_system, system in enumerate(systems):
                if report:
                    report.progress("wheels", at_python * len(systems) + at_system, len(pythons) * len(systems))
                tags = [f"--platform={tag}" for tag in PLATFORMS[system]] if platforms else []
                found = _wheels(python, wheels, staged / "wheels", system, tags)
                _unpack(found, staged / "python" / f"{python}-{system}")
                shutil.rmtree(staged / "wheels")
        try:
            if (folder / MANIFEST).is_file():
                uninstall(host, place)
            files = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
            start = place.to / host.start_file
            added = _added(start, host.start_line) if place.name else b""
            fields = {
                "version": void_server.__version__,
                "host_versions": list(versions),
                "platforms": list(platforms or (this_platform(),)),
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
            if not place.name:
                _readable(folder)
        except OSError as error:
            raise OutputError(f"{folder} can't be written: {error}.", "Choose another --to.") from error
    return folder


def _readable(folder: Path) -> None:
    """Give everything below a central folder to whom the folder itself is given: an umask of 077 would hide it."""
    mode = folder.parent.stat().st_mode & 0o777
    for path in (folder, *folder.rglob("*")):
        path.chmod(mode | 0o700 if path.is_dir() else (mode & 0o666) | 0o600)


def uninstall(host: Host, place: Place) -> list[str]:
    """Remove what `install` laid; returns the files left there because somebody changed them. Raises SettingsError,
    OutputError."""
    folder = place.folder
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
        if place.name:
            _remove_line(place.to / host.start_file, host.start_line, added)
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


def sources(host: Host) -> Iterator[tuple[Path, str]]:
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


def _wheels(python: str, folder: Path | None, into: Path, system: str, tags: Sequence[str]) -> list[Path]:
    """Wheels for that Python and system: from `folder` alone, or from the package index. Raises SettingsError.

    tags: what pip is told of the system; none is this machine as it is, perhaps newer than those that studios run.
    """
    why = wheels.download(REQUIREMENTS, python, into, folder, tags)
    if why:
        named = " ".join(tags) + " " if tags else ""
        raise SettingsError(
            f"pyzmq and msgpack for Python {python} on {system} can't be had {why}",
            f"Download them elsewhere (pip download --no-deps --only-binary=:all: --python-version {python} {named}"
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
