"""What tests of the farm stand on: the environment of a worker, and how to look at what came out.

What comes in: folders. What goes out: environments, commands, arrays. It knows no farm's files.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_shot

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "tests/fakes/farm_engine"
THINKBOX = ROOT / "tests/fakes/thinkbox"
BIN = Path(sys.executable).parent


def environment(**more: object) -> dict[str, str]:
    """A worker's: our commands on the PATH, the test's engine registered."""
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    python = os.pathsep.join(p for p in (str(ENGINE), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PATH": path, "PYTHONPATH": python, **{key: str(value) for key, value in more.items()}}


def command(
    *words: object, status: int | None = 0, timeout_s: float = 100, **more: object
) -> subprocess.CompletedProcess[str]:
    """Run a command as a worker would; `status` None takes any."""
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, env=environment(**more), timeout=timeout_s, check=False
    )
    assert status is None or done.returncode == status, done.stdout + done.stderr
    return done


def void_server(
    *words: object, status: int | None = 0, timeout_s: float = 100, **more: object
) -> subprocess.CompletedProcess[str]:
    return command(sys.executable, "-m", "void_server.cli", *words, status=status, timeout_s=timeout_s, **more)


def shot_words(shot: tiny_shot.TinyShot, out: Path, engine: str = "farm-test") -> list[str]:
    return [shot.plate, f"--matte={shot.matte}", f"--out={out}", f"--engine={engine}", "--no-physics-prior"]


def same_frames(one: Path, other: Path, kinds: tuple[str, ...] = ("clean", "aov")) -> None:
    """Every frame file of `one` is there in `other`, byte for byte, and no more."""
    names = sorted(p.name for p in one.glob("*.exr"))
    assert names
    assert names == sorted(p.name for p in other.glob("*.exr"))
    for name in names:
        if name.split(".")[0] in kinds:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def made(log: Path) -> list[int]:
    """Frames that the test's engine made, in order."""
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.is_file() else []


def light(path: Path) -> np.ndarray:
    return tiny_shot.read_rgb(path).astype(np.float32)


@pytest.fixture
def farm(tmp_path, monkeypatch):
    """Deadline's stand-ins; yields a worker."""
    repository = tmp_path / "repository"
    repository.mkdir()
    program = tmp_path / "deadlinecommand"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/fakes/deadlinecommand.py "$@"\n')
    program.chmod(0o755)
    for name, value in environment(DEADLINE_PATH=tmp_path, FAKE_DEADLINE_REPOSITORY=repository).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(THINKBOX))
    monkeypatch.syspath_prepend(str(ROOT / "tests/fakes"))
    worker = importlib.import_module("deadline_worker")
    yield worker.Worker(repository, {"VoidExecutable": str(BIN / "void-server")})
    for name in ("deadline_worker", "Deadline", "Deadline.Plugins", "Deadline.Scripting"):
        sys.modules.pop(name, None)
