"""The README is executed: its commands run, its tree and its tables are the code's."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny_shot
from void_server.wire import messages

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.S)


def shell(text, folder, **more):
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, text=True, capture_output=True, check=False, **more
    )


@pytest.fixture
def desk(tmp_path):
    """A folder like the one the README is read in: a clone with an environment, and a shot beside it."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    command = tmp_path / ".venv/bin/void-server"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m void_server.cli "$@"\n')
    command.chmod(0o755)
    tiny_shot.write(tmp_path / "shot")
    return tmp_path


def test_the_second_command_is_what_ci_runs():
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    steps = [step.strip() for step in BLOCKS[1].split("&&")]
    assert [line for line in ci.splitlines() if line.startswith(("python3 -m venv", ".venv/"))] == steps


@pytest.mark.timeout(400)
def test_the_first_command_runs_from_a_fresh_clone(tmp_path):
    shutil.copytree(
        ROOT, tmp_path / "clone",
        ignore=shutil.ignore_patterns(".git", ".venv*", "*_cache", "__pycache__", "void-demo", "build", "dist"),
    )  # fmt: skip
    done = shell(BLOCKS[0], tmp_path / "clone")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert float(rows["object+effect"][3]) >= float(rows["object+effect"][1]) + 8
    assert rows["keep"][1] == "0"
    assert (tmp_path / "clone/void-demo/clean/sheet.png").is_file()


@pytest.mark.timeout(300)
def test_the_other_commands_run_in_the_order_of_the_page(desk):
    serving = None
    try:
        for block in BLOCKS[2:]:
            for line in block.strip().splitlines():
                if line.endswith("&"):
                    words = [*line.removesuffix("&").split(), "--data", str(desk / "data"), "--json"]
                    serving = subprocess.Popen(words, cwd=desk, stdout=subprocess.PIPE, text=True)
                    assert "ready" in json.loads(serving.stdout.readline())
                    continue
                done = shell(line, desk, env={**os.environ, "XDG_CONFIG_HOME": str(desk / "config")})
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    finally:
        if serving is not None:
            serving.send_signal(signal.SIGTERM)
            serving.wait(timeout=30)
            serving.stdout.close()
    for out in ("clean", "clean2"):
        assert (desk / f"shot/{out}/manifest.json").is_file()


def test_the_tree_is_the_real_tree():
    tree = re.search(r"```\n(README\.md .*?)```", README, re.S)[1]
    folder, drawn = ROOT, set()
    for line in tree.splitlines():
        name, purpose = line.split(None, 1)
        assert purpose
        folder = ROOT / "void_server" if line.startswith("    ") else ROOT
        assert (folder / name).exists(), name
        drawn.add((folder / name).resolve())
    rooms = [p for p in (ROOT / "void_server").iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    assert set(rooms) <= drawn, f"rooms the README does not draw: {set(rooms) - drawn}"


def test_every_file_the_readme_names_exists():
    for name in re.findall(r"`([\w/]+\.py)`", README):
        assert (ROOT / "void_server" / name).exists() or (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_message_table_is_the_protocol():
    assert messages.table_markdown().strip() in README


def test_every_flag_the_readme_names_is_a_flag():
    shown = subprocess.run(
        [sys.executable, "-m", "void_server.cli", "run", "--help"], text=True, capture_output=True, check=True
    ).stdout
    table = README.split("| flag | what it does |")[1].split("\n\n")[0]
    for flag in re.findall(r"--[a-z][a-z-]+", table):
        assert flag in shown, flag
