"""Fake Nuke, real client, real daemon in its own process, real EXR files."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import OpenEXR
import psutil
import pytest

from tests import tiny_shot
from tests.fakes import nuke
from tests.nuke_session import ROOT, comp, daemon, started, status
from void_server.wire.client import Client

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with daemon(tmp_path_factory.mktemp("daemon") / "data") as found:
        yield found


@pytest.fixture
def server(running):
    return running[1]


@contextlib.contextmanager
def worker_held(process: subprocess.Popen[str]) -> Iterator[None]:
    """The daemon's worker stands still meanwhile, so that a job surely is unfinished."""
    held = psutil.Process(process.pid).children(recursive=True)
    for child in held:
        child.suspend()
    try:
        yield
    finally:
        for child in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.resume()


def accepted(session) -> bool:
    """Whether the daemon has the whole job and the node's thread waits for it."""
    return any(live.state.name in ("QUEUED", "RUNNING") for live in session.host._live.values())


def results(folder: Path) -> list[Path]:
    return sorted((folder / "void").glob("*/v*"))


def picture(node: nuke.Node, frame: int, gui: bool = True) -> np.ndarray:
    seen = nuke._view(node, frame, gui)
    return np.stack([seen[f"rgba.{c}"] for c in ("red", "green", "blue")], -1)


def test_remove_brings_the_clean_plate_into_the_node_and_disturbs_nothing(tmp_path, server):
    with started() as session:
        node, shot = comp(tmp_path, server)
        before = set(tmp_path.rglob("*"))
        nuke.root()["proxy"].setValue(True)
        node.setSelected(False)
        nuke.allNodes("Read")[0].setSelected(True)
        wires = [[i and i.name for i in child.inputs] for child in session.session.root.children]
        session.session.undo.clear()
        session.press(node, "remove")
        assert not session.session.messages
        session.wait()
        assert status(node).startswith("READY: v001 (The plate does not say its colour space"), status(node)
        assert session.session.undo == ["VOID: v001"], "one undo step"
        assert nuke.root()["proxy"].value() is True and len(nuke.selectedNodes()) == 1
        assert wires == [[i and i.name for i in child.inputs] for child in session.session.root.children]
        assert not session.session.rendered, "EXR Reads are sent as they are"
        (result,) = results(tmp_path)
        new = {p for p in tmp_path.rglob("*") if p.is_file()} - before
        assert {p.parent for p in new} == {result}, "all new files lie in one folder beside the script"
        assert json.loads((result / "manifest.json").read_text())["settings"]["frames"] == "1001-1008"
        task = session.session.tasks[0]
        assert task._percents == sorted(task._percents) and task._percents[-1] == 100
        frame = 1004
        clean, plate = picture(node, frame), tiny_shot.read_rgb(tmp_path / f"plates/plate/plate.{frame}.exr")
        wall = shot.truth.astype(np.float32)
        hole = tiny_shot.square(frame - 1001)
        assert np.abs(clean[hole] - wall[hole]).mean() < 0.1 * np.abs(plate[hole] - wall[hole]).mean()
        far = np.ones(clean.shape[:2], bool)
        far[10:50, 15:70] = False
        assert np.array_equal(clean[far], plate[far].astype(np.float32)) and clean.max() == 12
        assert np.array_equal(picture(node, frame, gui=False), clean), "a farm renders the same"
        nuke._save(tmp_path / "sh010_comp_v003.nk")
        text = (tmp_path / "sh010_comp_v003.nk").read_text()
        assert text.count("value root.name") == 2 and f"result_at {result.as_posix()}" in text
        assert node["result_rel"].value() == result.relative_to(tmp_path).as_posix()


def grained(shot: tiny_shot.TinyShot) -> None:
    """Give every frame of the plate grain of its own."""
    rng = np.random.default_rng(8)
    for frame in tiny_shot.FRAMES:
        path = shot.folder / f"plate/plate.{frame}.exr"
        light = tiny_shot.read_rgb(path).astype(np.float32)
        tiny_shot.write_exr(path, tiny_shot.rgb((light + rng.normal(0, 0.02, light.shape)).astype(np.float16)))


def test_bold_effects_are_asked_of_the_daemon_and_what_it_says_comes_as_layers_and_live_grain(tmp_path, server):
    with started() as session:
        node, shot = comp(tmp_path, server)
        grained(shot)
        node["effects"].setValue("bold")
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("READY"), status(node)
        (result,) = results(tmp_path)
        assert json.loads((result / "manifest.json").read_text())["settings"]["effects"] == "bold"
        assert node["has_suspected"].value() and node["has_grain"].value()
        node["layers"].setValue(True)
        shown = nuke._view(node, 1004, False)
        aov = {n: tiny_shot.read_channel(result / "aov.1004.exr", n) for n in ("suspected", "change", "grain.G")}
        assert np.array_equal(shown["void.suspected"], aov["suspected"])
        node["layers"].setValue(False)
        match = picture(node, 1004)
        node["grain"].setValue(0)
        bare = picture(node, 1004)
        inside = aov["change"] == 1
        assert np.allclose((match - bare)[inside][:, 1], aov["grain.G"][inside], atol=1e-6) and aov["grain.G"].any()
        assert np.array_equal(match[aov["change"] == 0], bare[aov["change"] == 0])
        assert status(node).startswith("READY"), "no new run is needed"
        node["effects"].setValue("sure")
        session.host.knob_changed(node, node["effects"])
        assert status(node).startswith("STALE"), "other effects are another result"


def test_a_second_remove_makes_a_new_version_and_refresh_goes_back_to_the_old_one(tmp_path, server):
    with started() as session:
        node, _ = comp(tmp_path, server)
        session.press(node, "remove")
        session.wait()
        node["seed"].setValue(7)
        session.host.knob_changed(node, node["seed"])
        assert status(node).startswith("STALE: v001")
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("READY: v002") and [p.name for p in results(tmp_path)] == ["v001", "v002"]
        node["version"].setValue(1)
        session.press(node, "refresh")
        nuke._pump(lambda: "v001" in status(node))
        assert node["result_at"].value().endswith("/v001")
        assert status(node).startswith("STALE: v001")
        moved = tmp_path / "elsewhere"
        moved.mkdir()
        nuke._save(moved / "sh010.nk")
        node["status"].setValue("")
        session.press(node, "refresh")
        session.wait_for(node, "STALE: v001")  # a script saved elsewhere keeps its result
        shutil.rmtree(tmp_path / "void")
        session.press(node, "refresh")
        session.wait_for(node, "MISSING")


def test_what_is_no_plain_exr_read_is_rendered_at_full_size_and_the_leftovers_are_removed(tmp_path, server):
    with started() as session:
        node, _ = comp(tmp_path, server)
        grade = nuke.nodes.Grade(white="2")
        grade.setInput(0, node.input(0))
        node.setInput(0, grade)
        nuke.root()["proxy"].setValue(True)
        node.setSelected(False)
        grade.setSelected(True)
        inside = [child.name for child in node._data.children]
        session.session.undo.clear()
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("READY: v001")
        ((_, file, first, last, view, depth),) = session.session.rendered
        assert (first, last, view, depth) == (1001, 1008, "main", "32 bit float")
        assert not Path(file).parent.exists(), "what was rendered to be sent is gone"
        assert [child.name for child in node._data.children] == inside and nuke.root()["proxy"].value() is True
        assert session.session.undo == ["VOID: v001"] and nuke.selectedNodes() == [grade]
        assert picture(node, 1004).max() == 24, "the graded highlight came through"


def test_preview_affected_shows_what_the_object_did_and_removes_nothing(tmp_path, server):
    with started() as session:
        node, _ = comp(tmp_path, server)
        session.press(node, "preview_affected")
        session.wait()
        assert not session.session.messages, session.session.messages
        assert node["has_preview"].value() and node["show"].value() == "affected", status(node)
        assert not node["has_result"].value() and not results(tmp_path)
        (folder,) = (tmp_path / "void").glob("*/affected_v001")
        assert len(list(folder.glob("affected.*.exr"))) == 8 and not list(folder.glob("clean.*"))
        assert picture(node, 1003).shape == (64, 96, 3)


def test_one_frame_is_previewed_and_a_range_made_anew_by_the_daemon(tmp_path, server):
    with started() as session:
        node, _ = comp(tmp_path, server)
        session.session.frame = 1003
        session.press(node, "preview_frame")
        session.wait()
        assert node["show"].value() == "frame" and status(node).startswith("no result"), status(node)
        (folder,) = (tmp_path / "void").glob("*/frame_v001")
        assert [path.name for path in folder.glob("clean.*")] == ["clean.1003.exr"]
        previewed = picture(node, 1003)
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("READY: v001"), status(node)
        hole = tiny_shot.square(2)
        assert np.abs(previewed[hole] - picture(node, 1003)[hole]).mean() < 0.02, "all its neighbours were within reach"
        for knob in ("redo_first", "redo_last"):
            node[knob].setValue(1005)
        session.press(node, "redo_range")
        session.wait()
        assert status(node).startswith("READY: v002"), status(node)
        one, two = results(tmp_path)
        shared = [f for f in tiny_shot.FRAMES if (one / f"clean.{f}.exr").samefile(two / f"clean.{f}.exr")]
        assert shared == [f for f in tiny_shot.FRAMES if f != 1005]
        session.press(node, "refresh")
        nuke._pump(lambda: len(node["versions"].values()) == 2)
        assert all("propagate" in line and "recovered" in line for line in node["versions"].values())


def test_only_a_region_is_sent_and_all_outside_it_is_the_plate(tmp_path, server):
    with started() as session:
        node, shot = comp(tmp_path, server)
        node["use_region"].setValue(True)
        session.press(node, "remove")
        assert "The region is 0 by 0 pixels" in session.session.messages.pop()
        for put, number in ((node["region"].setX, 0), (node["region"].setY, 20), (node["region"].setT, 50)):
            put(number)
        node["region"].setR(60)
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("READY: v001"), status(node)
        (result,) = results(tmp_path)
        with OpenEXR.File(str(result / "clean.1003.exr")) as file:
            window = [list(map(int, corner)) for corner in file.header()["dataWindow"]]
        assert window == [[0, 14], [59, 43]], "Nuke's y goes up, EXR's down"
        inside = [child.cls for child in node._data.children]
        assert "Crop" not in inside and "Write" not in inside
        clean, plate = picture(node, 1003), tiny_shot.read_rgb(tmp_path / "plates/plate/plate.1003.exr")
        hole = tiny_shot.square(2)
        assert np.abs(clean[hole] - shot.truth.astype(np.float32)[hole]).mean() < 0.1
        far = np.ones(clean.shape[:2], bool)
        far[14:44, :60] = False
        assert np.array_equal(clean[far], plate[far].astype(np.float32))
        assert np.array_equal(picture(node, 1003, gui=False), clean)


def test_cancel_on_the_node_or_in_the_progress_bar_stops_the_job_at_the_daemon(tmp_path, running):
    process, server = running
    with started() as session:
        node, _ = comp(tmp_path, server)
        for how in ("node", "bar"):
            with worker_held(process):
                session.press(node, "remove")
                nuke._pump(lambda: accepted(session))
                session.press(node, "remove")
                assert "under way" in session.session.messages.pop(), "one job a node at a time"
                if how == "node":
                    session.press(node, "cancel_job")
                    assert status(node).startswith("CANCELLING")
                else:
                    session.session.cancel_tasks.set()
                session.wait()
            assert status(node) == "CANCELLED" and not node["has_result"].value()
            session.session.cancel_tasks.clear()
            with Client(server) as client:
                assert client.jobs()[0].state == "cancelled"
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("READY: v003"), "a cancelled node can be used again"


def test_what_the_daemon_says_is_wrong_stands_on_the_node_with_its_remedy(tmp_path, server):
    with started() as session:
        node, _ = comp(tmp_path, server)
        torn = tmp_path / "plates/plate/plate.1005.exr"
        torn.write_bytes(torn.read_bytes()[:200])
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("FAILED: ") and "1005" in status(node)
        assert not session.session.messages, "the artist is busy elsewhere: no window pops up"


def test_a_daemon_killed_in_the_middle_of_a_job_and_started_again_finishes_it(tmp_path):
    data = tmp_path / "data"
    with started() as session, daemon(data) as (process, address):
        node, _ = comp(tmp_path, address)
        session.press(node, "remove")
        workers = psutil.Process(process.pid).children(recursive=True)
        nuke._pump(lambda: accepted(session))
        for child in workers:
            child.suspend()
        for gone in (process, *workers):
            gone.kill()
        process.wait()
        with daemon(data, address):
            session.wait()
        assert status(node).startswith("READY: v001")


def test_without_a_daemon_the_node_fails_in_plain_words_and_stays_usable(tmp_path):
    with started() as session:
        node, _ = comp(tmp_path, "tcp://127.0.0.1:9")
        session.host.work.WAIT_S = 1.0
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("FAILED: ") and "127.0.0.1:9" in status(node)
        session.press(node, "reattach")
        session.wait()
        assert not session.session.messages


CRASH = """
import os, sys
from pathlib import Path
from tests.fakes import nuke
from tests.nuke_session import comp, started, status
with started() as session:
    folder = Path(sys.argv[1])
    node, _ = comp(folder, sys.argv[2])
    session.press(node, "remove")
    if sys.argv[3] == "saved":
        nuke._save(folder / "sh010_comp_v002.nk")
    nuke._pump(lambda: "QUEUED" in status(node) or "RUNNING" in status(node))
    os._exit(1)
"""


@pytest.mark.parametrize("script", ["saved", "not saved"])
def test_a_script_opened_again_after_a_crash_takes_up_its_job(tmp_path, running, script):
    process, server = running
    words = [sys.executable, "-c", CRASH, str(tmp_path), server, script]
    with worker_held(process):
        crashed = subprocess.run(words, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert crashed.returncode == 1 and not crashed.stderr, crashed.stderr
    with started() as session:
        nuke._open(tmp_path / "sh010_comp_v002.nk")
        node = nuke.allNodes("Group")[0]
        assert bool(node["void_id"].value()) == (script == "saved")
        assert status(node) == "no result", "nothing of the crashed session sticks to the node"
        session.press(node, "refresh")
        session.wait_for(node, "DETACHED")
        session.press(node, "reattach")
        session.wait()
        assert status(node).startswith("READY: v001") and len(results(tmp_path)) == 1
        assert picture(node, 1004).shape == (64, 96, 3)


def test_without_a_window_remove_waits_and_leaves_the_result_in_the_script(tmp_path, server):
    with started(gui=False) as session:
        node, _ = comp(tmp_path, server)
        session.press(node, "remove")
        assert status(node).startswith("READY: v001") and not session.session.tasks
        assert picture(node, 1008, gui=False).max() == 12


def test_overscan_anamorphic_pixels_and_extra_layers_come_back_as_they_went(tmp_path, server):
    with started() as session:
        node, _ = comp(tmp_path, server)
        rng = np.random.default_rng(5)
        display = tiny_shot.window(8, 4, 88, 60)
        for path in sorted((tmp_path / "plates/plate").iterdir()):
            light = tiny_shot.read_rgb(path)
            depth = rng.random(light.shape[:2], np.float32) * 1e6
            header = {"displayWindow": display, "pixelAspectRatio": 2.0}
            tiny_shot.write_exr(path, {**tiny_shot.rgb(light), "depth.Z": depth}, **header)
        session.press(node, "remove")
        session.wait()
        assert status(node).startswith("READY"), status(node)
        for frame in tiny_shot.FRAMES:
            plate, clean = (
                OpenEXR.File(str(path), separate_channels=True)
                for path in (tmp_path / f"plates/plate/plate.{frame}.exr", results(tmp_path)[0] / f"clean.{frame}.exr")
            )
            with plate, clean:
                for name in ("dataWindow", "displayWindow", "pixelAspectRatio"):
                    assert np.array_equal(plate.header()[name], clean.header()[name]), name
                before, after = (file.channels()["depth.Z"].pixels for file in (plate, clean))
                assert before.tobytes() == after.tobytes()
