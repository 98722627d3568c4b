"""The pages that people read, and the desk at which they read them: a clone, an environment, a shot beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests import tiny_shot

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *sorted(ROOT.glob("*.md")), *DOCS, ROOT / "void_server/effects/MODEL_CARD.md",
    *sorted((ROOT / "plugins").glob("*/*.md")),
]  # fmt: skip


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands_of(name: str) -> list[str]:
    """The blocks of a page that are to be typed."""
    return re.findall(r"```sh\n(.*?)```", text_of(name), re.S)


def shell(text: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, text=True, capture_output=True, check=False,
        env={**os.environ, **more},
    )  # fmt: skip


def set_up(folder: Path) -> None:
    (folder / ".venv/bin").mkdir(parents=True)
    command = folder / ".venv/bin/void-server"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m void_server.cli "$@"\n')
    command.chmod(0o755)
    tiny_shot.write(folder / "shot")


def type_in_order(blocks: list[str], folder: Path) -> str:
    """Type every line as a reader would, top to bottom; returns what was said. A line that ends in & is a daemon."""
    said, serving = "", None
    try:
        for block in blocks:
            for line in block.strip().splitlines():
                if line.endswith("&"):
                    words = [*line.removesuffix("&").split(), "--data", str(folder / "data"), "--json"]
                    serving = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True)
                    assert "ready" in json.loads(serving.stdout.readline())
                    continue
                done = shell(line, folder, XDG_CONFIG_HOME=str(folder / "config"))
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                said += done.stdout
    finally:
        if serving is not None:
            serving.send_signal(signal.SIGTERM)
            serving.wait(timeout=30)
            serving.stdout.close()
    return said
