"""Previews of one frame, parts made anew, versions and their comparison, and what the node says at a glance."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from tests import tiny_shot
from tests.fakes import nuke
from tests.nuke_session import comp, finish, removed, started, status


@pytest.fixture
def session():
    with started() as found:
        yield found


def light(node: nuke.Node, frame: int = 1003, gui: bool = True) -> np.ndarray:
    return np.array(nuke._view(node, frame, gui)["rgba.red"])


def press(session, node: nuke.Node, button: str) -> None:
    session.press(node, button)
    session.wait()


def changed_by(session, node, button: str, value: float) -> None:
    """Press a button whose result fills the hole with another value than before."""
    real = session.host.work.run

    def run(records, hear, cancelled):
        outcome = real(records, hear, cancelled)
        for record in outcome.records:
            for path in record.folder.glob("clean.*.exr"):
                picture = tiny_shot.read_rgb(path).astype(np.float32)
                picture[picture == 0.5] = value
                tiny_shot.write_exr(path, tiny_shot.rgb(picture))
        return outcome

    session.host.work.run = run
    press(session, node, button)
    session.host.work.run = real


def test_a_frame_is_previewed_from_its_neighbours_and_no_render_ever_sees_it(tmp_path, session):
    node, _ = comp(tmp_path)
    finish(session)
    seen = []
    real = session.host.work.run
    session.host.work.run = lambda records, hear, cancelled: (seen.extend(records), real(records, hear, cancelled))[1]
    session.session.frame = 1003
    press(session, node, "preview_frame")
    (record,) = seen
    assert (
        record.settings["frames"] == "1003-1003" and record.settings["handles"] == 8 and len(record.files["plate"]) == 8
    )
    assert node["show"].value() == "frame" and not node["has_result"].value()
    plate = tiny_shot.read_rgb(tmp_path / "plates/plate/plate.1003.exr")[..., 0].astype(np.float32)
    assert (light(node)[tiny_shot.square(2)] == 0.5).all()
    assert np.array_equal(light(node, 1004), tiny_shot.read_rgb(tmp_path / "plates/plate/plate.1004.exr")[..., 0])
    node["missing_result"].setValue("plate")
    assert np.array_equal(light(node, gui=False), plate)
    assert [p.name for p in (tmp_path / "void").glob("*/*")] == ["frame_v001"]
    session.session.frame = 990
    session.press(node, "preview_frame")
    assert "Frames 990-990 are asked for; the plate has 1001-1008. Choose others." in session.session.messages[-1]


def test_a_preview_keeps_to_the_viewers_region_while_that_is_on(tmp_path, session):
    node, _ = comp(tmp_path)
    session.session.frame = 1003
    sent = []

    def look(records, _hear, _cancelled):
        with OpenEXR.File(records[0].files["plate"][1003]) as file:
            sent.append([list(map(int, corner)) for corner in file.header()["dataWindow"]])
        return session.host.work.Outcome(session.host.State.CANCELLED, tuple(records))

    session.host.work.run = look
    whole = [[0, 0], [95, 63]]
    press(session, node, "preview_frame")
    session.session.viewer = nuke.nodes.Viewer()
    press(session, node, "preview_frame")
    session.session.roi = {"x": 10.0, "y": 20.0, "r": 60.0, "t": 50.0}
    press(session, node, "preview_frame")
    assert sent == [whole] * 3, "without a viewer, before it has a window, and while its region is off"
    session.session.roi_on = True
    press(session, node, "preview_frame")
    assert sent.pop() == [[10, 14], [59, 43]], "Nuke's y goes up, EXR's down"
    press(session, node, "remove")
    nuke.root()["proxy"].setValue(True)
    press(session, node, "preview_frame")
    assert sent[3:] == [whole] * 2, "a whole shot is not cut to what is looked at, nor is a proxy's"
    nuke.root()["proxy"].setValue(False)
    session.session.roi = {"x": 10.0, "y": 20.0, "r": 12.0, "t": 50.0}
    session.press(node, "preview_frame")
    assert "The viewer's region is 2 by 30 pixels" in session.session.messages[-1]


def test_some_frames_are_made_anew_and_the_others_are_taken_over(tmp_path, session):
    node = removed(session, tmp_path)
    for knob, frame in (("redo_first", 1003), ("redo_last", 1004)):
        node[knob].setValue(frame)
    real = session.host.work.run

    def run(records, hear, cancelled):
        (record,) = records
        assert record.settings["frames"] == "1003-1004" and (record.first, record.last) == (1001, 1008)
        real([dataclasses.replace(record, first=1003, last=1004)], hear, cancelled)
        session.host.results.fill(record)  # as after a fetch
        return session.host.work.Outcome(session.host.State.READY, (record.with_(state="done"),))

    session.host.work.run = run
    press(session, node, "redo_range")
    session.host.work.run = real
    assert status(node).startswith("READY: v002") and node["result_last"].value() == 1008
    (one, two) = sorted((tmp_path / "void").glob("*/v*"))
    for frame in range(1001, 1009):
        same = (one / f"clean.{frame}.exr").samefile(two / f"clean.{frame}.exr")
        assert same is (frame not in (1003, 1004)), "nothing that was not asked for is made, or copied"
    assert (light(node, 1003, gui=False)[tiny_shot.square(2)] == 0.5).all()
    node["redo_last"].setValue(1010)
    session.press(node, "redo_range")
    assert "Frames 1003-1010 are to be made anew; the shown version has 1001-1008" in session.session.messages[-1]


def test_a_part_made_anew_leaves_the_version_as_stale_as_the_rest_of_it(tmp_path, session):
    node = removed(session, tmp_path)
    before = node["input_fingerprint"].value()
    node["seed"].setValue(3)
    for knob in ("redo_first", "redo_last"):
        node[knob].setValue(1002)
    press(session, node, "redo_range")
    assert node["input_fingerprint"].value() == before and status(node).startswith("STALE: v002")


def test_versions_are_listed_with_day_engine_and_figures_and_one_choice_goes_back(tmp_path, session):
    node = removed(session, tmp_path)
    changed_by(session, node, "remove", 0.25)
    (first, second) = sorted((tmp_path / "void").glob("*/v*"))
    second_manifest = {"engine": {"name": "propagate"}, "coverage": 0.973}
    (second / "manifest.json").write_text(json.dumps(second_manifest))
    session.press(node, "refresh")
    nuke._pump(lambda: len(node["versions"].values()) == 2)
    lines = node["versions"].values()
    assert lines[0].startswith("v002  20") and lines[0].endswith("  propagate  97% recovered")
    assert lines[1].startswith("v001  20") and node["compare"].values() == ["off", *lines]
    assert light(node)[30, 30] == 0.25
    session.session.undo.clear()
    node["versions"].setValue(lines[1])
    session.host.knob_changed(node, node["versions"])
    session.wait_for(node, "v001")
    assert light(node)[30, 30] == 0.5 and Path(node["result_at"].value()) == first
    assert "VOID: v001" in session.session.undo


def test_two_versions_are_compared_under_a_wipe_in_the_viewer_alone(tmp_path, session):
    node = removed(session, tmp_path)
    changed_by(session, node, "remove", 0.25)
    session.press(node, "refresh")
    nuke._pump(lambda: len(node["compare"].values()) == 3)
    hole = tiny_shot.square(2)
    node["compare"].setValue(node["compare"].values()[2])
    session.host.knob_changed(node, node["compare"])
    nuke._pump(node["comparing"].value)
    assert (light(node)[hole] == 0.25).all(), "the wipe stands in the middle, the hole left of it"
    node["wipe"].setValue(-1.0)
    assert (light(node)[hole][:, 1:] == 0.5).all()
    assert (light(node, gui=False)[hole] == 0.25).all(), "renders show one version"
    nuke._save(tmp_path / "saved.nk")
    text = (tmp_path / "saved.nk").read_text()
    assert "comparing true" not in text and "\n note RUN" not in text
    node["compare"].setValue("off")
    session.host.knob_changed(node, node["compare"])
    nuke._pump(lambda: not node["comparing"].value())
    assert (light(node)[hole] == 0.25).all()


def test_the_graph_shows_at_a_glance_what_a_node_needs(tmp_path, session):
    node = removed(session, tmp_path)
    assert node["note"].value() == "" and "[value note]" in node._data.knobs["label"]
    node["seed"].setValue(5)
    session.host.knob_changed(node, node["seed"])
    assert node["note"].value() == "STALE"
    session.host._live[session.host._key(node)] = live = session.host.Live(None, print, print)
    session.host._show_live(node, session.host.State.RUNNING, "frames 4/8, ETA 0:12")
    assert node["note"].value() == "RUNNING frames 4/8, ETA 0:12" and live.state.name == "RUNNING"


def test_how_long_it_takes_is_told_once_enough_of_it_is_behind(session):
    now = [0.0]
    progress = sys.modules["void_nuke.states"].Progress(1, lambda: now[0])
    progress.hear("upload", 1, 100)
    assert "ETA" not in progress.line
    now[0] = 60.0
    progress.hear("upload", 100, 100)
    assert progress.percent == 20 and progress.line.endswith(", ETA 4:00")
    now[0] = 60000.0
    progress.hear("frames", 1, 2)
    assert progress.line.endswith(", ETA 9:22:30"), progress.line
