"""The Nuke README, and the page of checks beside it, say what the files say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fakes.nuke_script import parse
from tests.nuke_session import started
from void_server.commands.installation import install

ROOT = Path(__file__).resolve().parent.parent
README = "\n".join((ROOT / "plugins/nuke" / name).read_text(encoding="utf-8") for name in ("README.md", "CHECKS.md"))
GROUP = parse((ROOT / "gizmos/VoidInpaint.gizmo").read_text(encoding="utf-8")).children[0]
INPUTS = {"": [0], "A": [1], "BA": [0, 1], "0": [0], "1": [1], "2": [2], "3": [3], "4": [4]}


def drawn() -> set[tuple[str, int, str]]:
    """(from, input, to) of every wire in the README's drawing."""
    block = README.split("## What is inside the node")[1].split("```text\n")[1].split("```")[0]
    wires = set()
    for line in block.splitlines():
        words = re.split(r"\s+──(\w*)(?:──)?>\s+", line)
        for source, label, target in zip(words[::2], words[1::2], words[2::2]):
            wires |= {(source, index, target) for index in INPUTS[label]}
    return wires


def test_the_drawing_is_the_graph():
    graph = {(s.name, i, n.name) for n in GROUP.children for i, s in enumerate(n.inputs) if s is not None}
    assert drawn() == graph and len(graph) > 20


def test_every_button_and_state_is_explained():
    with started() as session:
        for state in session.host.State:
            assert state.name in README, state
    for knob in GROUP.user.values():
        if knob.kind == 22:
            assert f"**{knob.label}**" in README or knob.label in README, knob.label


@pytest.mark.parametrize(
    "label",
    [
        "edge trim", "edge soften", "matte grow", "matte feather", "missing result", "server", "result folder",
        "hold frames", "outside result", "add layers", "versions", "compare with", "wipe", "redo from", "colorspace",
        "added grain", "render inputs on the farm",
    ],
)  # fmt: skip
def test_knobs_are_called_what_the_panel_calls_them(label):
    assert label in " ".join(README.split()) and label in {knob.label for knob in GROUP.user.values()}


def test_the_install_section_names_the_pythons_and_wheels_that_install_lays():
    for version, python in install.HOSTS["nuke"].pythons.items():
        assert version in README and python in README
    for requirement in install.REQUIREMENTS:
        assert f'"{requirement}"' in README


def test_the_checklist_has_its_steps_and_the_unknown_is_stated():
    steps = re.findall(r"^(\d+)\. ", README.split("## The ten-minute checklist")[1], re.M)
    assert [int(step) for step in steps] == list(range(1, 15))
    assert "Never run inside Nuke" in README
