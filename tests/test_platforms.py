"""What is known of systems that nobody here has: their wheels exist, and the client needs nothing that they lack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement

from tests.live_daemon import LiveDaemon
from tests.tiny_shot import write

ROOT = Path(__file__).resolve().parent.parent

AS_WINDOWS = """
import os, signal, sys
# What CPython's library reference marks "Availability: Unix", of what this project uses anywhere.
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("fork", "pread", "geteuid", "getuid", "posix_fallocate", "sched_getaffinity", "sysconf"):
    if hasattr(os, name):
        delattr(os, name)
plain = os.open
def opened(path, *more, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return plain(path, *more, **named)
os.open = opened
from void_server import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def as_windows(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_WINDOWS, *map(str, words)], capture_output=True, text=True, check=False, timeout=100
    )


def test_the_client_runs_without_what_windows_lacks(tmp_path):
    shot = write(tmp_path / "shot")
    with LiveDaemon(tmp_path / "data", pipeline="void_server.pipeline:deliver") as daemon:
        given = (shot.plate, "--matte", shot.matte, "--out", tmp_path / "out", "--server", daemon.address)
        checked = as_windows("check", shot.plate, "--matte", shot.matte)
        assert checked.returncode == 0, checked.stderr
        done = as_windows("submit", *given)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out/manifest.json").is_file()
        listed = as_windows("status", "--server", daemon.address)
        assert listed.returncode == 0 and "done" in listed.stdout, listed.stderr


SYSTEMS = {
    "windows": ("win_amd64",),
    "macos-arm64": ("macosx_14_0_arm64",),
}


def looked_for(requirements: list[str], tags: tuple[str, ...], python: str, into: Path) -> str:
    """Ask the package index for wheels without bringing them; what pip says where one lacks."""
    words = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
    words += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    words += [f"--platform={tag}" for tag in tags]
    done = subprocess.run([*words, "--target", str(into), *requirements], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("system", SYSTEMS)
def test_everything_that_the_command_line_needs_has_a_wheel(system, tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [f"{r.name}{r.specifier}" for r in map(Requirement, project["dependencies"])]
    assert looked_for(needed, SYSTEMS[system], "3.12", tmp_path / "none") == ""


@pytest.mark.timeout(300)
def test_an_intel_mac_still_has_no_wheel_of_onnxruntime_as_the_guide_says(tmp_path):
    """When this fails, docs/tds.md may say more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [str(Requirement(r).specifier) for r in project["dependencies"] if r.startswith("onnxruntime")]
    assert "No matching distribution" in looked_for(
        [f"onnxruntime{needed[0]}"], ("macosx_14_0_x86_64",), "3.12", tmp_path / "none"
    )
