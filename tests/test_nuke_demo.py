"""The demo's script in Nuke: it opens, and shows result, layers and the shadow put back, from files beside it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes import nuke_facts
from tests.fakes.nuke_graph import Graph
from tests.fakes.nuke_script import ScriptNode, parse
from void_server.commands.demo import nuke as demo_nuke
from void_server.commands.demo import shot as demo_shot
from void_server.result import aovs

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "plugins/nuke/README.md").read_text(encoding="utf-8")
FRAME = demo_shot.FIRST
INPUTS = {"": [0], "A": [1], "BA": [0, 1], "0": [0], "1": [1]}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder as the demo leaves it, one frame made by hand: a wall of .4, an object, its shadow at half light."""
    folder = tmp_path_factory.mktemp("demo") / "my demo"
    wall = np.full((64, 96, 3), 0.4, np.float32)
    plate, affected, change = wall.copy(), np.zeros((64, 96), np.float32), np.zeros((64, 96), np.float32)
    plate[20:40, 10:30] = 0.9
    plate[40:50, 10:40] = 0.2
    affected[40:50, 10:40] = 1
    change[20:50, 10:40] = 1
    matte = np.zeros((64, 96), np.float32)
    matte[20:40, 10:30] = 1
    tiny_shot.write_exr(folder / f"plate/plate.{FRAME}.exr", tiny_shot.rgb(plate))
    tiny_shot.write_exr(folder / f"matte/matte.{FRAME}.exr", {"A": matte})
    tiny_shot.write_exr(folder / f"clean/clean.{FRAME}.exr", tiny_shot.rgb(wall))
    flat = dict.fromkeys(("coverage", "confidence", "physics", "suspected", *aovs.GRAIN), change)
    tiny_shot.write_exr(folder / f"clean/aov.{FRAME}.exr", {"change": change, "affected": affected, **flat})
    return folder, parse(demo_nuke.write(folder).read_text(encoding="utf-8")), plate


def seen(demo, name: str, gui: bool = True) -> dict[str, np.ndarray]:
    folder, root, _ = demo
    graph = Graph({}, FRAME, gui, (folder / "demo.nk").as_posix())
    return graph.render(root.child(name))


def test_it_is_a_script_of_native_nodes_and_every_path_in_it_is_relative(demo):
    folder, root, _ = demo
    text = (folder / "demo.nk").read_text()
    assert str(folder) not in text and "/home/" not in text
    assert root.knobs["first_frame"] == str(demo_shot.FIRST)
    assert {node.name for node in root.children} >= {"Plate", "Matte", "VoidInpaint1", "ShadowBack", "Viewer1", "HowTo"}
    for node in root.children:
        if node.cls != "Group":
            unknown = set(node.knobs) - nuke_facts.KNOBS[node.cls] - {"name", "xpos", "ypos", "label"}
            assert not unknown, f"Nuke's {node.cls} has no knob {unknown}"


def test_it_shows_the_clean_frames_and_every_layer_in_the_viewer_and_in_a_render(demo):
    _, _, plate = demo
    for gui in (True, False):
        shown = seen(demo, "VoidInpaint1", gui)
        assert np.allclose(shown["rgba.red"], 0.4) and plate.max() > 0.8
        assert {f"void.{name}" for name in aovs.MASKS} <= set(shown)


def test_the_removed_shadow_falls_on_another_ground_and_the_object_does_not_come_back(demo):
    light = seen(demo, "ShadowLight")["rgba.red"]
    assert np.allclose(light[42:48, 12:38], 0.5) and np.allclose(light[:20], 1) and np.allclose(light[22:38, 12:28], 1)
    back = seen(demo, "ShadowBack")["rgba.green"]
    assert np.allclose(back[42:48, 12:38], 0.1) and np.allclose(back[22:38, 12:28], 0.2)
    matte = seen(demo, "ShadowMatte")["rgba.alpha"]
    assert np.allclose(matte[42:48, 12:38], 0.5) and np.allclose(matte[:20], 0)


def test_the_drawing_of_the_recipe_is_the_graph_of_the_demo(demo):
    _, root, _ = demo
    block = README.split("## The shadow, put back")[1].split("```text\n")[1].split("```")[0]
    drawn = set()
    for line in block.splitlines():
        words = re.split(r"\s+──(\w*)(?:──)?>\s+", line)
        for source, label, target in zip(words[::2], words[1::2], words[2::2]):
            drawn |= {(source, index, target) for index in INPUTS[label]}

    def wires(node: ScriptNode) -> set[tuple[str, int, str]]:
        return {(s.name, i, node.name) for i, s in enumerate(node.inputs) if s is not None}

    graph = set().union(*(wires(node) for node in root.children if node.cls != "Viewer"))
    assert drawn == graph
