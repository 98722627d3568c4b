"""The README is executed: from a fresh clone, with nothing but what it says, to a clean plate of one's own."""

from __future__ import annotations

import re
import shutil

import pytest

from tests import tiny_shot
from tests.pages import ROOT, commands_of, shell, text_of

README = text_of("README.md")
INSTALL, RUN, DEMO, DOCTOR, CHECK = commands_of("README.md")


def test_the_last_command_is_what_ci_runs():
    steps = [step.strip() for step in CHECK.split("&&")]
    ci = text_of(".ci/run")
    assert [line for line in ci.splitlines() if line.startswith(("python3 -m venv", ".venv/"))] == steps


@pytest.mark.timeout(600)
def test_two_commands_lead_from_a_fresh_clone_to_a_clean_plate_of_ones_own(tmp_path):
    clone = tmp_path / "clone"
    ignored = (".git", ".venv*", "*_cache", "__pycache__", "void-demo", "build", "dist")
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*ignored))
    tiny_shot.write(clone / "shot")
    for command in (INSTALL, RUN):
        done = shell(command, clone)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "shot/clean/sheet.png").is_file()
    plates = {path.name.replace("plate", "clean") for path in (clone / "shot/plate").iterdir()}
    assert plates == {path.name for path in (clone / "shot/clean").glob("clean.*.exr")}

    done = shell(DEMO, clone)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert float(rows["object+effect"][3]) >= float(rows["object+effect"][1]) + 8
    assert rows["keep"][1] == "0"
    assert (clone / "void-demo/clean/sheet.png").is_file()

    done = shell(DOCTOR, clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("ready, with engine propagate")


def test_the_first_screen_says_what_it_is_and_where_it_runs():
    screen = "\n".join(README.splitlines()[:30])
    for place in ("In Nuke", "In Blender", "On the command line", "On the farm"):
        assert f"**{place}" in screen, place
    assert screen.index("![") < screen.index("**In Nuke")
    assert len(README.splitlines()) <= 130


def test_each_of_the_five_figures_has_its_command_and_its_date():
    rows = README.split("## Five figures")[1].split("\n\n")[1].splitlines()[2:]
    assert len(rows) == 5
    for row in rows:
        assert re.search(r"\d{4}-\d\d-\d\d", row), row
        assert re.search(r"`void-server \w+", row.split("|")[-2]), row
