"""`void-server bundle`: all that a machine without internet needs, in one folder.

What comes in: a folder, which extras, perhaps the wheel that this was installed from. What goes out: that folder, with
wheels for this system and Python, wheels for every Nuke, the Blender zip, the gizmos, what to type, and checksums. It
asks pip for wheels and computes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import void_server
from void_server.commands.installation import blender as install_blender
from void_server.commands.installation import install
from void_server.commands.installation import wheels as host_wheels
from void_server.wire.errors import JobCancelledError, OutputError, SettingsError
from void_server.wire.report import Report

SUMS, TOLD = "SHA256SUMS", "INSTALL.txt"
STAGE = "bundle"


def add_to(parser: argparse.ArgumentParser) -> None:
    """The flags of `bundle`."""
    parser.add_argument("out", type=Path, metavar="DIR", help="a folder that is not there yet, or empty")
    parser.add_argument("--void", action="store_true", help="with torch and what engine void needs; several GB")
    parser.add_argument("--wheel", type=Path, default=None, metavar="FILE",
                        help="this project's wheel; default: made from what is running")  # fmt: skip
    parser.add_argument("--wheels", type=Path, default=None, metavar="DIR",
                        help="take every wheel from this folder, without any network")  # fmt: skip
    parser.add_argument(
        "--no-hosts", dest="hosts", action="store_false", help="without Nuke's wheels and Blender's zip"
    )


def run(args: argparse.Namespace, console: Any, cancelled: Callable[[], bool]) -> int:
    """Write the bundle and say what is in it. Raises SettingsError, OutputError."""
    report = Report(console.on_event, cancelled)
    try:
        files = write(args.out, report, void=args.void, wheel=args.wheel, wheels=args.wheels, hosts=args.hosts)
    except JobCancelledError as error:
        raise JobCancelledError("Stopped. Nothing was written.", "Type the same command again.") from error
    size = sum(file.stat().st_size for file in files)
    text = (
        f"{len(files)} files, {size / 1e6:.0f} MB, in {args.out}, for {target()}. What to do there: {args.out / TOLD}"
    )
    console.result({"bundle": str(args.out), "files": len(files), "bytes": size, "target": target()}, text)
    return 0


def target() -> str:
    """The system and Python that the wheels of a bundle made here are for."""
    return f"Python {sys.version_info.major}.{sys.version_info.minor} on {platform.system()} {platform.machine()}"


def write(
    out: Path,
    report: Report,
    *,
    void: bool = False,
    wheel: Path | None = None,
    wheels: Path | None = None,
    hosts: bool = True,
) -> list[Path]:
    """Write the bundle; returns its files. Nothing appears in `out` before everything is there.

    Raises SettingsError where a wheel can't be had, OutputError where `out` can't be written or holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} holds something already.", "Name a folder that is not there yet, or an empty one.")
    pairs = [(python, system) for python in sorted(set(NUKE.pythons.values())) for system in install.PLATFORMS]
    steps = 2 + (len(pairs) + 1 if hosts else 0)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            staged = Path(scratch) / out.name
            own = _own_wheel(staged / "wheels", wheel)
            report.progress(STAGE, 1, steps)
            _dependencies(own, staged / "wheels", void, wheels)
            report.progress(STAGE, 2, steps)
            if hosts:
                _for_hosts(staged, pairs, wheels, report, steps)
            (staged / TOLD).write_text(_told(void, hosts), encoding="utf-8")
            files = sorted(path for path in staged.rglob("*") if path.is_file())
            sums = "".join(f"{_sha256(path)}  {path.relative_to(staged).as_posix()}\n" for path in files)
            (staged / SUMS).write_text(sums, encoding="utf-8")
            if out.exists():
                out.rmdir()
            staged.rename(out)
    except OSError as error:
        raise OutputError(f"{out} can't be written: {error.strerror or error}.", "Choose another place.") from error
    return sorted(path for path in out.rglob("*") if path.is_file())


NUKE = install.HOSTS["nuke"]


def _own_wheel(into: Path, given: Path | None) -> Path:
    """This project's wheel: as given, else built from the clone that this runs from, else what is installed."""
    into.mkdir(parents=True)
    if given is not None:
        if not given.is_file() or given.suffix != ".whl":
            raise SettingsError(f"{given} is not a wheel.", "Name the .whl file that void-server was installed from.")
        return Path(shutil.copy2(given, into))
    clone = Path(void_server.__file__).resolve().parent.parent
    if (clone / "pyproject.toml").is_file():
        _pip("build the wheel", "wheel", "--no-deps", "--wheel-dir", str(into), str(clone))
        return next(into.glob("*.whl"))
    packed = host_wheels.packed(into, "void-server")
    if packed is None:
        raise SettingsError(
            "This installation can't be packed again.", "Name the wheel it came from with --wheel FILE."
        )
    return packed


def _dependencies(own: Path, into: Path, void: bool, wheels: Path | None) -> None:
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    named = f"{own}[void]" if void else str(own)
    _pip("collect its wheels", "wheel", "--wheel-dir", str(into), *source, named)


def _for_hosts(staged: Path, pairs: list[tuple[str, str]], wheels: Path | None, report: Report, steps: int) -> None:
    folder = staged / "hosts"
    folder.mkdir()
    for number, (python, system) in enumerate(pairs, 1):
        tags = [f"--platform={tag}" for tag in install.PLATFORMS[system]]
        why = host_wheels.download(install.REQUIREMENTS, python, folder, wheels, tags)
        if why:
            raise SettingsError(f"Wheels for Python {python} on {system} can't be had {why}", "Or give --no-hosts.")
        report.progress(STAGE, 2 + number, steps)
    install_blender.build_zip(folder / "void_inpaint.zip", wheels=wheels)
    report.progress(STAGE, steps, steps)
    for source, name in install.sources(NUKE):
        if name == "gizmos":
            shutil.copytree(source, staged / name, ignore=shutil.ignore_patterns(".*"))


def _told(void: bool, hosts: bool) -> str:
    extra = "'void-server[void]'" if void else "void-server"
    lines = [
        f"void-server {void_server.__version__}, for {target()}, without internet. In this folder:",
        "",
        f"1. sha256sum --check {SUMS}",
        f"2. python3 -m venv /opt/void && /opt/void/bin/pip install --no-index --find-links wheels {extra}",
        "3. /opt/void/bin/void-server doctor",
    ]
    if hosts:
        lines += [
            "4. For Nuke, on a share: /opt/void/bin/void-server install nuke --central /tools/void_nuke --wheels hosts",
            "   and NUKE_PATH=/tools/void_nuke on every machine.",
            "5. For Blender 4.5 and later: drop hosts/void_inpaint.zip onto its window.",
        ]
    return "\n".join([*lines, ""])


def _pip(what: str, *words: str) -> None:
    command = [sys.executable, "-m", "pip", words[0], "--quiet", "--disable-pip-version-check", *words[1:]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise SettingsError(
            f"pip could not {what}: {(lines or ['it said nothing'])[0]}",
            "Is the package index reachable? --wheels DIR takes everything from a folder.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
