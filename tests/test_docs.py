"""Every page is checked: its links lead somewhere, its commands run or at least parse, its tables are the code's."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, commands_of, named, set_up, text_of, type_in_order
from void_server import cli
from void_server.commands.terminal import examples
from void_server.wire import errors, messages

LONGER = {"docs/measurements.md"}
"""Pages that may be longer than a page."""
MOST_LINES = 200


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S), re.M
    ):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=named)
def test_no_page_is_longer_than_a_page(page):
    assert named(page) in LONGER or len(page.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`([\w/]+\.py)`", text) + re.findall(r"pytest (tests/[\w/]+\.py)", text):
        assert any((folder / name).exists() for folder in (ROOT / "void_server", ROOT, page.parent)) or list(
            page.parent.rglob(name)
        ), name
    for module in re.findall(r"python -m ((?:tests|training)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def parsers(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, sub in action.choices.items():
                found |= parsers(sub, f"{name} {word}".strip())
    return found


COMMANDS = parsers(cli._parser())


def spoken_commands(text: str) -> list[str]:
    """Whatever a page says as a command: in a block, or between backticks."""
    blocks = [line for block in re.findall(r"```(?:sh)?\n(.*?)```", text, re.S) for line in block.splitlines()]
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S).replace("\n", " "))
    spoken = [said for said in (*blocks, *inline) if re.search(r"(^|/)void-server( |$)", said.split("#")[0])]
    return [said for said in spoken if not re.match(r"void-server was ", said)]  # a message, no command


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_and_flag_a_page_names_is_one(page):
    for said in spoken_commands(page.read_text(encoding="utf-8")):
        for one in re.split(r"&&|;|\|", said):
            match = re.search(r"(?:^|/|\s)void-server((?: [a-z][a-z0-9-]*)*)(.*)$", one)
            if not match or not (match[1] or match[2].startswith(" --")):
                continue
            words = match[1].split()
            name = max((" ".join(words[:n]) for n in range(3) if " ".join(words[:n]) in COMMANDS), key=len)
            assert name or not words, said
            known = {flag for action in COMMANDS[name]._actions for flag in action.option_strings}
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", match[2]):
                assert flag in known, f"{said}: {flag}"


@pytest.mark.timeout(300)
def test_the_artists_page_runs_in_its_order(tmp_path):
    set_up(tmp_path)
    (tmp_path / "shot/clean").mkdir()
    blocks = commands_of("docs/artists.md")
    run = commands_of("README.md")[1]
    said = type_in_order([run, *(block for block in blocks if "--preview" not in block)], tmp_path)
    assert "Engine" in said or "engine" in said
    assert len(blocks) == 3
    for name in ("clean", "clean2"):
        assert (tmp_path / f"shot/{name}/manifest.json").is_file()
    assert (tmp_path / "shot/affected/sheet.png").is_file()


@pytest.mark.timeout(900)
def test_the_tds_page_runs_in_its_order(tmp_path):
    set_up(tmp_path)
    said = type_in_order(commands_of("docs/tds.md"), tmp_path)
    assert "ana" in said
    assert said.rstrip().splitlines()[-1].startswith("ready")
    assert (tmp_path / "shot/clean/manifest.json").is_file()
    assert (tmp_path / "void_inpaint.zip").is_file()
    assert (tmp_path / "tools/void_nuke/gizmos/VoidInpaint.gizmo").is_file()
    assert (tmp_path / "inside/bin/void-server").is_file()


def test_every_flag_of_the_artists_table_is_one_of_run():
    known = {flag for action in COMMANDS["run"]._actions for flag in action.option_strings}
    table = text_of("docs/artists.md").split("| flag | what it does |")[1].split("\n\n")[0]
    flags = re.findall(r"--[a-z][a-z-]+", table)
    assert len(flags) > 20
    assert set(flags) <= known


def test_the_tree_is_the_real_tree():
    tree = re.search(r"```\n(README\.md .*?)```", text_of("docs/development.md"), re.S)[1]
    drawn = set()
    for line in tree.splitlines():
        name, purpose = line.split(None, 1)
        assert purpose
        folder = ROOT / "void_server" if line.startswith("    ") else ROOT
        assert (folder / name).exists(), name
        drawn.add((folder / name).resolve())
    rooms = [p for p in (ROOT / "void_server").iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    assert set(rooms) <= drawn, f"rooms the page does not draw: {set(rooms) - drawn}"


def test_the_message_table_is_the_protocol():
    assert messages.table_markdown().strip() in text_of("docs/protocol.md")


def test_the_groups_of_errors_are_the_tree_and_end_as_the_page_says():
    rows = re.findall(r"^\| `(\w+Error)` \|.*\| (\d)", text_of("docs/protocol.md"), re.M)
    assert {name for name, _ in rows} == {kind.__name__ for kind in errors.VoidError.__subclasses__()}
    for name, status in rows:
        assert getattr(errors, name).exit_status == int(status)


def test_what_may_be_imported_can_be():
    table = text_of("docs/development.md").split("| module | names | for |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \|", table, re.M)
    assert len(rows) > 5
    for module, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_every_measurement_has_its_date_and_a_command():
    text = text_of("docs/measurements.md")
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    assert len(sections) > 8
    for section in sections:
        heading = section.splitlines()[0]
        if heading == "What misses":
            continue
        assert re.search(r"\(2\d{3}-\d\d-\d\d\)$", heading), heading
        assert re.search(r"`(void-server|pytest|python) [^`]+`", section), heading


@pytest.mark.parametrize("line", [line for rows in examples.EXAMPLES.values() for line, _ in rows])
def test_every_example_under_help_is_a_command(line):
    words = shlex.split(line.partition(" > ")[0])[1:]
    if words[0] == "COMMAND":
        return
    cli._parser().parse_args(words)


def test_examples_stand_under_the_help_of_their_command():
    for name in examples.EXAMPLES:
        shown = subprocess.run(
            [sys.executable, "-m", "void_server.cli", *name.split(), "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "examples:" in shown, name


def test_the_model_card_and_licences_name_every_repository_weights_come_from():
    from void_server.engine.void.model import weights

    page = text_of("docs/models.md")
    for repository in (weights.VOID_REPO, weights.BASE_REPO):
        assert f"https://huggingface.co/{repository}" in page, repository
