"""The gizmo files: their syntax, the graph they draw, and what that graph does to pixels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes import nuke_facts
from tests.fakes.nuke_graph import Graph, RenderError, read_exr
from tests.fakes.nuke_script import ScriptError, ScriptNode, parse, write
from void_server.effects.quadmask import quadmask

ROOT = Path(__file__).resolve().parent.parent
GIZMOS = sorted((ROOT / "gizmos").glob("*.gizmo"))
UI_KNOBS = {
    "postage_stamp",
    "name",
    "xpos",
    "ypos",
    "label",
    "help",
    "tile_color",
    "note_font_color",
    "knobChanged",
    "disable",
}

THIRD_PARTY_MANNERS = r"""#! /Applications/Nuke6.3v4/Nuke6.3v4.app/Contents/MacOS/Nuke6.3v4 -nx
version 6.3
#####################################
# comments { with braces and "quotes
#####################################
Root {
 inputs 0
 name /shots/sh010/sh010.nk
 views "left #ff0000\nright #00ff00"
}
set cut_paste_input [stack 0]
push $cut_paste_input
Gizmo {
 note_font "Bitstream Vera Sans Bold"
 mapsize {0.15 0.15}
 "Two Words" 3
 addUserKnob {
    20 tank_tab
    l "Two Words"
 }
 addUserKnob {4 profile l "" M {"a b" c\ d {e f}}
  t "A \"quoted\" tip;\nwith \[tcl] and {braces}" +DO_NOT_WRITE
  -STARTLINE}
 addUserKnob {26 ""}
 addUserKnob {20 "" l Group n 1}
 addUserKnob {41 mapped l "" +HIDDEN T Blur1.size}
 addUserKnob {22 go l Go T "import x\nx.go(\"a\")" +STARTLINE}
 addUserKnob {7 size R 0 100}
 size 12.5
}
 Input {
  inputs 0
  name mask
  number 1
 }
set N1a2b [stack 0]
 Input {
  inputs 0
  name img
 }
set N3c4d [stack 0]
push 0
push $N3c4d
 Merge2 {
  inputs 2
  disable {{"\[exists parent.input1] ? 0 : 1" x76 0}}
  operation multiply
  name Merge1
 }
push $N1a2b
push $N3c4d
 Keymix {
  inputs 2+1
  name Keymix1
 }
 Group {
  name Inner
 }
  Input {
   inputs 0
   name in1
  }
  Output {
   name out1
  }
 end_group
 Output {
  name Output1
 }
end_group
"""


def gizmo(name: str) -> ScriptNode:
    return parse((ROOT / f"gizmos/{name}.gizmo").read_text(encoding="utf-8")).children[0]


def wires(group: ScriptNode) -> list[tuple[str, int, str]]:
    return [(n.name, i, s.name) for n in group.children for i, s in enumerate(n.inputs) if s is not None]


def test_the_parser_reads_the_manners_of_gizmos_in_the_wild():
    group = parse(THIRD_PARTY_MANNERS).children[0]
    assert group.cls == "Gizmo" and [n.name for n in group.children][-2:] == ["Inner", "Output1"]
    profile = group.user["profile"]
    assert profile.menu == ("a b", "c d", "e f") and profile.flags == ("+DO_NOT_WRITE", "-STARTLINE")
    assert profile.tooltip == 'A "quoted" tip;\nwith [tcl] and {braces}'
    assert group.user["mapped"].text == "Blur1.size" and group.user["go"].text == 'import x\nx.go("a")'
    assert group.knobs["size"] == "12.5" and group.knobs["mapsize"] == "{0.15 0.15}"
    merge, keymix, inner = (group.child(n) for n in ("Merge1", "Keymix1", "Inner"))
    assert [i and i.name for i in merge.inputs] == ["img"], "the second input is empty and the top of the stack is B"
    assert [i and i.name for i in keymix.inputs] == ["img", "mask", "Merge1"]
    assert inner.inputs[0] is keymix and inner.child("out1").inputs[0] is inner.child("in1")
    assert parse(THIRD_PARTY_MANNERS).knobs["views"].splitlines()[1] == "right #00ff00"


@pytest.mark.parametrize(
    "broken",
    [
        "Group {\n name x\n",
        "Blur {\n size {1\n}",
        "push $Nabc\n",
        "end_group\n",
        'Blur {\n label "x\n}',
        "Group {\n}\n",
    ],
)
def test_the_parser_refuses_what_is_no_script(broken):
    with pytest.raises(ScriptError):
        parse(broken)


@pytest.mark.parametrize("path", GIZMOS, ids=lambda p: p.stem)
def test_a_gizmo_is_one_group_of_native_nodes_and_survives_being_saved(path):
    root = parse(path.read_text(encoding="utf-8"))
    assert [n.cls for n in root.children] == ["Group"], "a Group is embedded in scripts, a Gizmo is not"
    group = root.children[0]
    assert group.name == path.stem
    again = parse(write(root)).children[0]
    assert wires(again) == wires(group) and list(again.user) == list(group.user)
    assert {n.name: n.knobs for n in again.children} == {n.name: n.knobs for n in group.children}
    assert not [n for n in group.children if n.cls == "Write"], "a farm would run it"
    for node in group.children:
        unknown = set(node.knobs) - nuke_facts.KNOBS[node.cls] - UI_KNOBS
        assert not unknown, f"Nuke's {node.cls} has no knob {unknown}"
        for index in range(len(node.inputs)):
            assert index < nuke_facts.INPUTS[node.cls], f"{node.name} has too many inputs"
    numbers = [n.knobs.get("number", "0") for n in group.children if n.cls == "Input"]
    assert sorted(numbers) == [str(i) for i in range(len(numbers))]


@pytest.mark.parametrize("path", GIZMOS, ids=lambda p: p.stem)
def test_every_visible_knob_says_what_it_does_and_every_link_and_expression_finds_its_knob(path):
    group = gizmo(path.stem)
    for knob in group.user.values():
        if "+INVISIBLE" not in knob.flags and knob.kind not in (20, 26):
            assert len(knob.tooltip) > 15, f"{knob.name} has no tooltip"
        if knob.kind == 41:
            node, _, name = knob.text.partition(".")
            assert name in nuke_facts.KNOBS[group.child(node).cls]
        if knob.kind == 22:
            compile(knob.text, knob.name, "exec")
    compile(group.knobs.get("knobChanged", ""), "knobChanged", "exec")
    for node in group.children:
        for value in node.knobs.values():
            for name in re.findall(r"parent\.(\w+)", value):
                assert name in (*group.user, "name"), f"{node.name} asks for parent.{name}"
    assert not set(re.findall(r"https?://|tcp://\d|/home/|/Users/", path.read_text(encoding="utf-8")))


def test_reads_inside_leave_nothing_to_a_studios_defaults_and_make_no_stamps_or_local_copies():
    reads = [node for node in gizmo("VoidInpaint").children if node.cls == "Read"]
    assert len(reads) >= 3
    said = {
        "raw": "true", "on_error": "error", "before": "hold", "after": "hold", "auto_alpha": "false",
        "premultiplied": "false", "localizationPolicy": "off", "postage_stamp": "false", "origset": "true",
    }  # fmt: skip
    for node in reads:
        assert {name: node.knobs.get(name) for name in said} == said, node.name
        assert node.knobs["file"] == "", "a file that never is would trip collectors of assets"


# What the graph does to pixels ---------------------------------------------------------------------------------------


def with_result(folder: Path) -> tuple[ScriptNode, tiny_shot.TinyShot, np.ndarray, np.ndarray]:
    """The node with a result of one frame on disk: a plate full of odd samples, its clean frame and change."""
    group = gizmo("VoidInpaint")
    shot = tiny_shot.write(folder, 1)
    plate = read_exr(folder / "plate/plate.1001.exr")
    rgb = np.stack([plate[f"rgba.{c}"] for c in ("red", "green", "blue")], -1)
    rgb[0, 0], rgb[0, 1], rgb[0, 2], rgb[0, 3] = np.inf, np.nan, -3.5, 61000.0
    change = np.zeros(rgb.shape[:2], np.float32)
    change[20:40, 2:20] = 1
    change[20:40, 2] = 0.25
    clean = np.where(change[..., None] > 0, np.float32(0.5), rgb)
    clean[30, 10] = 40.0
    out = folder / "result"
    tiny_shot.write_exr(out / "clean.1001.exr", tiny_shot.rgb(clean.astype(np.float32)))
    tiny_shot.write_exr(out / "aov.1001.exr", {"change": change, "affected": change})
    for node, stem in (("ReadClean", "clean"), ("ReadAov", "aov"), ("ReadAffected", "aov")):
        group.child(node).knobs.update(file=f"{out.as_posix()}/{stem}.%04d.exr", first="1001", last="1001")
    group.knobs.update(has_result="true", result_first="1001", result_last="1001")
    return group, shot, rgb, clean


def seen(group: ScriptNode, rgb: np.ndarray, frame: int = 1001, gui: bool = True) -> np.ndarray:
    plate = {f"rgba.{c}": rgb[..., i] for i, c in enumerate(("red", "green", "blue"))}
    extra = {"rgba.alpha": np.full(rgb.shape[:2], 0.3, np.float32), "depth.Z": np.full(rgb.shape[:2], 7, np.float32)}
    out = Graph({"plate": {**plate, **extra}}, frame, gui=gui).render(group)
    assert np.array_equal(out["rgba.alpha"], extra["rgba.alpha"]) or group.knobs.get("show") == "affected"
    assert np.array_equal(out["depth.Z"], extra["depth.Z"]), "extra layers pass"
    assert set(out) == {*plate, *extra}, "the node adds no channels"
    return np.stack([out[name] for name in plate], -1)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return np.ascontiguousarray(a, np.float32).tobytes() == np.ascontiguousarray(b, np.float32).tobytes()


def test_inside_the_change_is_the_clean_frame_and_outside_every_bit_of_the_plate(tmp_path):
    group, _, rgb, clean = with_result(tmp_path)
    out = seen(group, rgb)
    inside = np.any(clean != rgb, -1) & (np.arange(rgb.shape[0]) > 5)[:, None]
    assert inside.any() and same_bits(out[inside], clean[inside]), "highlights of 40 included"
    assert same_bits(out[~inside], rgb[~inside]), "Inf, NaN, negatives and 61000 included"


@pytest.mark.parametrize("edge", [{"edge_trim": "3"}, {"edge_soften": "6"}, {"edge_trim": "2", "edge_soften": "4"}])
def test_edge_knobs_act_live_and_never_reach_outside_the_change(tmp_path, edge):
    group, _, rgb, clean = with_result(tmp_path)
    before = seen(group, rgb)
    group.knobs.update(edge)
    after = seen(group, rgb)
    inside = np.any(clean != rgb, -1) & (np.arange(rgb.shape[0]) > 5)[:, None]
    assert same_bits(after[~inside], rgb[~inside])
    assert not same_bits(after, before)
    graded = rgb * np.float32(1.7)
    assert same_bits(seen(group, graded)[~inside], graded[~inside]), "not even over a plate changed since"


def test_mix_lays_part_of_the_result_over_the_plate_and_none_is_the_plate(tmp_path):
    group, _, rgb, clean = with_result(tmp_path)
    group.knobs["result_mix"] = "0.5"
    assert np.allclose(seen(group, rgb)[35, 10], (rgb[35, 10] + clean[35, 10]) / 2)
    group.knobs["result_mix"] = "0"
    assert same_bits(seen(group, rgb), rgb)


def test_a_plate_changed_after_the_run_still_comes_through_outside_the_change(tmp_path):
    group, _, rgb, _ = with_result(tmp_path)
    graded = rgb * np.float32(1.7)
    out = seen(group, graded)
    outside = np.ones(rgb.shape[:2], bool)
    outside[20:40, 2:20] = False
    assert same_bits(out[outside], graded[outside])


def test_without_a_result_the_viewer_shows_the_plate_and_a_render_fails(tmp_path):
    group = gizmo("VoidInpaint")
    rgb = np.random.default_rng(1).random((64, 96, 3), np.float32)
    assert same_bits(seen(group, rgb), rgb)
    with pytest.raises(RenderError, match="has no result for frame"):
        seen(group, rgb, gui=False)
    group.knobs["missing_result"] = "plate"
    assert same_bits(seen(group, rgb, gui=False), rgb)


def test_a_render_fails_outside_the_range_for_a_deleted_frame_and_for_a_result_switched_off(tmp_path):
    group, _, rgb, _ = with_result(tmp_path)
    assert seen(group, rgb, gui=False)[30, 10, 0] == 40
    for outside in (1001 - 6, 1001 + 6):
        with pytest.raises(RenderError, match=f"VoidInpaint has no result for frame {outside}, so the object"):
            seen(group, rgb, frame=outside, gui=False)
        assert same_bits(seen(group, rgb, frame=outside), rgb)
    group.knobs["show"] = "plate"
    with pytest.raises(RenderError, match="has no result for frame"):
        seen(group, rgb, gui=False)
    group.knobs["show"] = "result"
    (tmp_path / "result/clean.1001.exr").unlink()
    (tmp_path / "result/aov.1001.exr").unlink()
    with pytest.raises(RenderError, match="no such file"):
        seen(group, rgb, gui=False)
    group.knobs["files_missing"] = "true"
    assert same_bits(seen(group, rgb), rgb), "once the plug-in has looked, a viewer shows the plate"
    with pytest.raises(RenderError, match="has no result for frame"):
        seen(group, rgb, gui=False)


@pytest.mark.parametrize("gui", [True, False])
def test_beyond_its_ends_a_result_is_held_for_nodes_below_that_look_at_neighbours(tmp_path, gui):
    group, _, rgb, _ = with_result(tmp_path)
    inside = seen(group, rgb, gui=gui)
    for frame in (1001 - 5, 1000, 1002, 1001 + 5):
        assert same_bits(seen(group, rgb, frame=frame, gui=gui), inside)
    group.knobs["hold_frames"] = "0"
    if gui:
        assert same_bits(seen(group, rgb, frame=1002), rgb)
    else:
        with pytest.raises(RenderError, match="has no result for frame 1002"):
            seen(group, rgb, frame=1002, gui=False)


def test_outside_its_result_the_node_passes_the_plate_or_fails_as_it_is_told(tmp_path):
    group, _, rgb, _ = with_result(tmp_path)
    group.knobs["outside_result"] = "plate"
    assert same_bits(seen(group, rgb, frame=1000, gui=False), rgb)
    assert seen(group, rgb, gui=False)[30, 10, 0] == 40
    group.knobs["outside_result"] = "error"
    with pytest.raises(RenderError, match="has no result for frame 1000"):
        seen(group, rgb, frame=1000, gui=False)


def test_the_affected_area_is_shown_in_red_in_the_viewer_and_never_rendered(tmp_path):
    group, _, rgb, _ = with_result(tmp_path)
    plain = seen(group, rgb, gui=False)
    group.knobs.update(show="affected", has_preview="true")
    red = seen(group, rgb)
    assert red[30, 10, 0] > rgb[30, 10, 0] + 0.7 and same_bits(red[50:], rgb[50:])
    assert same_bits(seen(group, rgb, gui=False), plain)


def test_layers_come_beside_rgba_on_request_and_only_where_the_result_is_shown(tmp_path):
    group, _, rgb, _ = with_result(tmp_path)
    rng = np.random.default_rng(4)
    aovs = {
        name: rng.random(rgb.shape[:2], np.float32)
        for name in ("change", "affected", "coverage", "confidence", "physics", "suspected")
    }
    tiny_shot.write_exr(tmp_path / "result/aov.1001.exr", aovs)
    group.knobs["layers"] = "true"
    plate = {f"rgba.{c}": rgb[..., i] for i, c in enumerate(("red", "green", "blue"))}
    shown = Graph({"plate": plate}, 1001).render(group)
    assert set(shown) == {*plate, *(f"void.{name}" for name in aovs if name != "suspected")}, "it is not in every file"
    group.knobs["has_suspected"] = "true"
    shown = Graph({"plate": plate}, 1001).render(group)
    for name, picture in aovs.items():
        assert same_bits(shown[f"void.{name}"], picture), name
    group.knobs["show"] = "plate"
    assert set(Graph({"plate": plate}, 1001).render(group)) == set(plate)


def with_grain(folder: Path, group: ScriptNode) -> np.ndarray:
    """Lay grain beside the change of `with_result`, as the main path writes it."""
    change = read_exr(folder / "result/aov.1001.exr")["other.change"]
    grain = np.random.default_rng(6).normal(0, 0.02, (*change.shape, 3)) * (change > 0)[..., None]
    grain = grain.astype(np.float16)
    channels = {f"grain.{c}": grain[..., i] for i, c in enumerate("RGB")}
    tiny_shot.write_exr(folder / "result/aov.1001.exr", {"change": change, "affected": change, **channels})
    group.knobs["has_grain"] = "true"
    return grain.astype(np.float32)


def test_added_grain_is_matched_more_less_or_off_without_a_new_run(tmp_path):
    group, _, rgb, clean = with_result(tmp_path)
    whole = read_exr(tmp_path / "result/aov.1001.exr")["other.change"] == 1
    before = seen(group, rgb)
    grain = with_grain(tmp_path, group)
    assert same_bits(seen(group, rgb), before), "match is what was delivered, to the bit"
    for gain in ("0", "0.5", "2"):
        group.knobs["grain"] = gain
        out = seen(group, rgb)
        expected = clean + (np.float32(gain) - 1) * grain
        assert np.allclose(out[whole], expected[whole], atol=1e-6)
        outside = np.any(grain != 0, -1) == 0
        assert same_bits(out[outside], rgb[outside]), "Inf, NaN and negatives of the plate among it"
    assert same_bits(seen(group, rgb, gui=False), out), "a render shows what the viewer shows"


def test_a_result_that_tells_of_no_grain_stays_as_it_is_whatever_the_knob_says(tmp_path):
    group, _, rgb, _ = with_result(tmp_path)
    before = seen(group, rgb)
    group.knobs["grain"] = "0"
    assert same_bits(seen(group, rgb), before)


def test_what_is_only_suspected_is_orange_in_the_preview_of_what_is_affected(tmp_path):
    group, _, rgb, _ = with_result(tmp_path)
    suspected = np.zeros(rgb.shape[:2], np.float32)
    suspected[44:48, 30:40] = 1
    sure = np.zeros_like(suspected)
    sure[30:40, 5:15] = 1
    tiny_shot.write_exr(tmp_path / "result/found.1001.exr", {"affected": sure, "suspected": suspected})
    group.child("ReadAffected").knobs["file"] = f"{tmp_path.as_posix()}/result/found.%04d.exr"
    group.knobs.update(show="affected", has_preview="true")
    out, doubted, found = seen(group, rgb), (46, 35), (35, 10)
    assert np.allclose(out[doubted], rgb[doubted] * (1, 0.4, 0.4) + (0.8, 0.3, 0))
    assert np.allclose(out[found], rgb[found] * (1, 0.4, 0.4) + (0.8, 0, 0))
    assert same_bits(out[55:], rgb[55:])


def test_the_quadmask_gizmo_builds_the_labels_that_the_model_reads():
    rng = np.random.default_rng(2)
    matte, affected = (rng.random((2, 64, 96)) * (rng.random((2, 64, 96)) > 0.5)).astype(np.float32)
    keep = np.zeros((64, 96), np.float32)
    keep[:8] = 1
    group = gizmo("VoidQuadmask")
    group.knobs["show"] = "quadmask"
    roles = {"matte": matte, "affected": affected, "keep": keep}
    inputs = {name: {"rgba.alpha": picture} for name, picture in roles.items()}
    out = Graph(inputs, 1001).render(group)
    expected = quadmask(matte[None], affected[None], grey_on_first_frame=True)[0]
    labels = np.round(out["rgba.red"] * 255).astype(np.uint8)
    assert set(np.unique(expected)) == {0, 63, 127, 255}
    assert np.array_equal(labels[8:], expected[8:]) and (labels[:8] == 255).all()
    assert np.array_equal(out["rgba.alpha"][8:], (affected > 0.05)[8:].astype(np.float32))
    assert not out["rgba.alpha"][:8].any()


def test_growing_in_the_quadmask_gizmo_widens_what_it_hands_to_the_affected_input():
    spot = np.zeros((64, 96), np.float32)
    spot[30, 40] = 1
    group = gizmo("VoidQuadmask")
    group.knobs["affected_grow"] = "3"
    out = Graph({"plate": {}, "affected": {"rgba.alpha": spot}, "matte": {"rgba.alpha": spot * 0}}, 1).render(group)
    assert out["rgba.alpha"].sum() == 49 and out["rgba.green"][30, 40] == 0.5
