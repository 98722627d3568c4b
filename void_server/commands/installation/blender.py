"""Pack the Blender add-on into one extension zip for every supported Blender, and hand it to Blender's own installer.

What comes in: where the zip goes, which platforms, perhaps a folder of wheels. What goes out: a zip that Blender
installs without pip and without administrator. It asks pip for wheels only, and starts Blender only to install.

The zip holds the add-on, `void_server` itself as a wheel, and pyzmq and msgpack for Python 3.11 (Blender 4.5, 5.0),
3.13 (5.1 on) and 3.14 (Blender as Debian builds it). pyzmq has one wheel for 3.11 and one, `cp312-abi3`, for all later
ones. Blender's installer would take that pair alone for 3.11 only; msgpack, which has a wheel for each Python, tells it
of the others (measured on 4.5.15, 5.2.3 and Debian's 5.2.2).
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import void_server
from void_server.commands.installation import wheels as host_wheels
from void_server.wire.errors import OutputError, SettingsError
from void_server.wire.report import Report

REQUIREMENTS = ("pyzmq>=27.1,<28", "msgpack>=1.1.2,<2")
PYTHONS = ("3.11", "3.13", "3.14")
PLATFORMS = {
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_26_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_arm64", "macosx_10_15_universal2"),
}
"""Blender's name of each platform, and the tags of wheels that run on it.
Sources: Blender 4.5 needs glibc 2.28 and macOS 11.2 on Apple silicon (blender.org, requirements)."""
EXTENSION = "void_inpaint"
FOLDER = Path("plugins/blender") / EXTENSION
ROOMS = ("farm", "wire")
"""What the add-on imports of the package: the client of a daemon, and the one of a farm in the same shape."""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the flags that only Blender has to the command `install`."""
    parser.add_argument("--zip", type=Path, default=None, metavar="FILE",
                        help="blender: only build the extension, to be dropped onto a Blender window")  # fmt: skip
    # Nuke has its own row of systems and takes the same flag; `run` refuses those that Blender has not.
    parser.add_argument("--platform", action="append", default=None, choices=[*PLATFORMS, "macos-x64"], metavar="P",
                        help=f"{', '.join(PLATFORMS)}, for nuke macos-x64 as well; may be repeated; "
                        "default: a zip and --central have all, else this machine")  # fmt: skip
    parser.add_argument("--blender", default=None, metavar="PROGRAM", help="blender: default is the one on PATH")


def run(args: argparse.Namespace, console: Any, report: Report | None = None) -> int:
    """`install blender`: by Blender's own installer, or with --zip into a file. Raises like `build_zip`, `install`."""
    if args.uninstall or args.to:
        flag = "--uninstall" if args.uninstall else "--to"
        raise SettingsError(f"{flag} is not for Blender.", "Blender's Preferences, Add-ons remove what they installed.")
    if args.zip is None:
        said = install(args.blender, args.wheels, report)
        console.result({"installed": EXTENSION}, said or "Installed. In the Video Sequencer's sidebar: tab VOID.")
        return 0
    platforms = tuple(args.platform or PLATFORMS)
    if not set(platforms) <= set(PLATFORMS):
        raise SettingsError("The add-on is not packed for macos-x64.", f"Name one of: {', '.join(PLATFORMS)}.")
    out = build_zip(args.zip, platforms, args.wheels, report)
    text = f"{out} for {', '.join(platforms)}. Drop it onto a Blender 4.5 or later, or Preferences, Add-ons, Install."
    console.result({"zip": str(out), "platforms": list(platforms)}, text)
    return 0


def this_platform() -> str:
    """Blender's name of this machine. Raises SettingsError where Blender offers none."""
    machine = {"x86_64": "x64", "AMD64": "x64", "arm64": "arm64"}.get(platform.machine(), platform.machine())
    name = {"linux": "linux", "win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform) + f"-{machine}"
    if name not in PLATFORMS:
        raise SettingsError(f"The add-on is not packed for {name}.", f"Name one of: {', '.join(PLATFORMS)}.")
    return name


def build_zip(
    out: Path,
    platforms: Sequence[str] = tuple(PLATFORMS),
    wheels: Path | None = None,
    report: Report | None = None,
) -> Path:
    """Write the extension to `out`. wheels: take pyzmq and msgpack from this folder alone, without any network.

    Raises SettingsError where wheels can't be had, OutputError where `out` can't be written.
    """
    if wheels is not None and not wheels.is_dir():
        raise SettingsError(f"The folder of wheels {wheels} does not exist.", "Name an existing folder.")
    source = _source()
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / EXTENSION
        shutil.copytree(source, staged, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        bundled = staged / "wheels"
        bundled.mkdir()
        own_wheel(bundled)
        for at_platform, name in enumerate(platforms):
            for at_python, python in enumerate(PYTHONS):
                if report:
                    report.progress("wheels", at_platform * len(PYTHONS) + at_python, len(platforms) * len(PYTHONS))
                _download(bundled, name, python, wheels)
        manifest = staged / "blender_manifest.toml"
        text = manifest.read_text(encoding="utf-8")
        manifest.write_text(_completed(text, platforms, sorted(bundled.glob("*.whl"))), encoding="utf-8")
        packed = Path(scratch) / "packed.zip"
        host_wheels.pack(packed, ((path.relative_to(staged).as_posix(), path) for path in staged.rglob("*")))
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            part = out.with_name(f".{out.name}.part")
            shutil.copyfile(packed, part)
            part.replace(out)
        except OSError as error:
            raise OutputError(f"{out} can't be written: {error.strerror}.", "Choose another place.") from error
    return out


def install(blender: str | None, wheels: Path | None = None, report: Report | None = None) -> str:
    """Build the zip and let Blender's own installer take it; returns what Blender said.

    blender: the program; None looks on PATH. Raises SettingsError where there is none or it refuses.
    """
    program = shutil.which(blender or "blender")
    if program is None:
        raise SettingsError(
            f"Blender was not found{f' at {blender}' if blender else ' on PATH'}.",
            "Name it with --blender, or build the zip with --zip FILE and drop it onto a Blender window.",
        )
    with tempfile.TemporaryDirectory() as scratch:
        built = build_zip(Path(scratch) / f"{EXTENSION}.zip", (this_platform(),), wheels, report)
        words = [program, "--command", "extension", "install-file", "--repo", "user_default", "--enable", str(built)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SettingsError(
            f"Blender refused the add-on: {said[-1] if said else f'status {done.returncode}'}.",
            _remedy(done.stdout + done.stderr),
        )
    return done.stdout.strip()


def _remedy(said: str) -> str:
    """What to do about a refusal, by Blender's own words for it."""
    if "Python version" in said:
        return (
            f"The add-on holds wheels for Python {', '.join(PYTHONS)}, and this Blender runs another. Use one from "
            "blender.org."
        )
    if "Blender version" in said or "schema" in said:
        return "Use Blender 4.5 or later."
    return "Build the zip with --zip FILE and drop it onto a Blender window, which shows the whole reason."


def own_wheel(folder: Path) -> Path:
    """Pack what hosts import of the installed `void_server` as a wheel: its client, without dependencies.

    Source of the format: PyPA, Binary distribution format (wheel 1.0).
    """
    package = Path(void_server.__file__).resolve().parent
    version = void_server.__version__
    info = f"void_server-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: void-server\nVersion: {version}\nLicense: Apache-2.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: void-server\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        f"void_server/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in [
            package / "__init__.py",
            *(path for room in ROOMS for path in sorted((package / room).rglob("*.py"))),
        ]
    }
    files |= {f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": tags.encode()}
    files[f"{info}/RECORD"] = host_wheels.record(files, info)
    wheel = folder / f"void_server-{version}-py3-none-any.whl"
    host_wheels.pack(wheel, files.items())
    return wheel


def _source() -> Path:
    """The add-on's folder, in an installed wheel or in a checkout."""
    package = Path(void_server.__file__).resolve().parent
    for folder in (package / "hosts" / FOLDER, package.parent / FOLDER):
        if (folder / "blender_manifest.toml").is_file():
            return folder
    raise SettingsError("This installation lacks the Blender add-on.", "Install void-server again, from its wheel.")


def _download(into: Path, name: str, python: str, wheels: Path | None) -> None:
    tags = [f"--abi=cp{python.replace('.', '')}", "--abi=abi3", *(f"--platform={tag}" for tag in PLATFORMS[name])]
    why = host_wheels.download(REQUIREMENTS, python, into, wheels, tags)
    if why:
        raise SettingsError(
            f"pyzmq and msgpack for {name}, Python {python}, can't be had {why}",
            "Download their wheels elsewhere and name the folder with --wheels, or name fewer platforms.",
        )


def _completed(manifest: str, platforms: Iterable[str], wheels: Iterable[Path]) -> str:
    """The manifest with this version, and the platforms and wheels that the zip holds."""
    text = re.sub(r'^version = ".*"$', f'version = "{void_server.__version__}"', manifest, flags=re.M)
    listed = "".join(f'  "./wheels/{path.name}",\n' for path in wheels)
    named = ", ".join(f'"{name}"' for name in platforms)
    return text.replace("\n[permissions]", f"\nplatforms = [{named}]\nwheels = [\n{listed}]\n\n[permissions]")
