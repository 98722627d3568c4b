"""Ten sessions as studios have them, and the whole life of one shot. Without a window where `nuke -t` would run them.

Nuke could not be had: what stands in for it is strict about what public files and documents say, and no more.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes import nuke, nuke_script
from tests.fakes.nuke_graph import RenderError
from tests.nuke_session import ROOT, comp, daemon, finish, graded, read, removed, started, status
from void_server import cli

pytestmark = pytest.mark.timeout(120)
HOLE = tiny_shot.square(2)


def light(node: nuke.Node, frame: int = 1003, gui: bool = False) -> np.ndarray:
    return np.array(nuke._view(node, frame, gui)["rgba.red"])


def shows_result(node: nuke.Node, frame: int = 1003, gui: bool = False) -> bool:
    return bool((light(node, frame, gui)[tiny_shot.square(frame - 1001)] == 0.5).all())


def render(session, node: nuke.Node, first: int, last: int) -> None:
    """What Nuke calls for a render of a Write below a node, and the pictures it asks for."""
    write = nuke.nodes.Write()
    write.setInput(0, node)
    session.session.this = write
    for callback in session.session.before_render:
        callback()
    for frame in range(first, last + 1):
        session.session.frame = frame
        for callback in session.session.before_frame:
            callback()
        light(node, frame)


def test_1_a_central_installation_is_all_that_a_farm_machine_reads(tmp_path):
    """NUKE_PATH=/share/void: init.py and menu.py are found there, gizmos too, and libraries of this very machine."""
    wheels, share = tmp_path / "wheels", tmp_path / "share/void"
    from tests.test_install import write_wheel

    write_wheel(wheels, "pyzmq", "zmq", "27.1.0")
    write_wheel(wheels, "msgpack", "msgpack", "1.1.0")
    assert cli.main(["install", "nuke", "--central", str(share), "--wheels", str(wheels)]) == 0
    code = (
        "import sys, types; here = sys.argv[1]; sys.path.insert(0, here); nuke = types.ModuleType('nuke')\n"
        "seen = []; nuke.pluginAddPath = seen.append; nuke.addBeforeRender = nuke.addBeforeFrameRender = seen.append\n"
        "sys.modules['nuke'] = nuke\n"
        "exec(compile(open(here + '/init.py').read(), here + '/init.py', 'exec'), {'__file__': here + '/init.py'})\n"
        "import zmq, msgpack; print(seen[0], len(seen), zmq.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code, str(share)], capture_output=True, text=True, check=True
    )
    folder, count, library = done.stdout.split()
    assert (folder, count) == (f"{share}/gizmos", "3") and Path(library).is_relative_to(share / "python"), done.stderr


def test_2_a_published_script_renders_on_a_farm_that_copies_and_maps_it(tmp_path):
    with started() as session:
        home = tmp_path / "artist"
        home.mkdir()
        removed(session, home)
        shutil.copytree(home, tmp_path / "publish", ignore=shutil.ignore_patterns("void"))
    shutil.move(home, tmp_path / "mnt")
    text = (tmp_path / "publish/sh010_comp_v002.nk").read_text().replace(f"{home}/", f"{tmp_path}/mnt/")
    copy = tmp_path / "worker/sh010_comp_v002.nk"
    copy.parent.mkdir()
    copy.write_text(text)
    with started(gui=False) as session:
        nuke._open(copy)
        (node,) = nuke.allNodes("Group")
        render(session, node, 1001, 1008)
        assert shows_result(node)
        with pytest.raises(RuntimeError, match="Frame 1009 lies outside"):
            render(session, node, 1001, 1009)


def test_3_two_artists_work_on_one_shot_and_neither_takes_anothers_result(tmp_path):
    with started() as session:
        removed(session, tmp_path)
    shutil.copy(tmp_path / "sh010_comp_v002.nk", tmp_path / "sh010_comp_v002_bob.nk")
    for script in ("sh010_comp_v002_bob.nk", "sh010_comp_v002.nk"):
        with started(gui=False) as session:
            nuke._open(tmp_path / script)
            (node,) = nuke.allNodes("Group")
            finish(session)
            session.press(node, "remove")
            assert status(node).startswith("READY"), status(node)
            nuke._save(tmp_path / script)
    folders = sorted(path.name for path in (tmp_path / "void").glob("*/v*"))
    assert folders == ["v001", "v002", "v003"], "one folder, a version each, none written to twice"
    places = [(tmp_path / s).read_text().count("/v003") for s in ("sh010_comp_v002_bob.nk", "sh010_comp_v002.nk")]
    assert places[0] == 0 and places[1] > 0


@pytest.mark.parametrize("config", ["cg-config-v2.2.0_aces-v1.3_ocio-v2.4", "studio-config-v4.0.0_aces-v2.0_ocio-v2.5"])
def test_4_an_aces_script_sends_plates_as_they_lie_and_results_read_raw(tmp_path, config):
    pytest.importorskip("PyOpenColorIO")
    with started(gui=False) as session:
        node, _ = comp(tmp_path)
        nuke.root()._data.knobs.update(colorManagement="OCIO", OCIO_config=config, workingSpaceLUT="scene_linear")
        plan = session.host.request.plan(session.host.look(node))
        assert plan.settings.colorspace == "acescg" and not plan.bake
        node.input(0)._data.knobs.update(raw="false", colorspace="default (ACEScg)")
        plan = session.host.request.plan(session.host.look(node))
        assert plan.settings.colorspace == "acescg" and not plan.bake
        assert all(n.knobs["raw"] == "true" for n in node._data.children if n.cls == "Read")


def test_5_a_stereo_script_is_removed_in_both_eyes_and_each_shows_its_own(tmp_path):
    with started(gui=False) as session:
        node, _ = comp(tmp_path)
        session.session.views[:] = ["left", "right"]
        finish(session)
        session.press(node, "remove")
        assert status(node).startswith("READY: v001"), (status(node), session.session.messages)
        file = node.node("ReadClean")["file"]
        assert Path(file.evaluate(1004)).is_file() and "/left/" in file.evaluate(1004)
        render(session, node, 1001, 1008)
        shutil.rmtree(next((tmp_path / "void").glob("*/v001/right")))
        with pytest.raises(RuntimeError, match="/right"):
            render(session, node, 1001, 1008)


def test_6_a_script_of_three_thousand_nodes_is_walked_once_and_one_without_ours_never(tmp_path):
    with started() as session:
        node = removed(session, tmp_path)
        source = node
        for index in range(3000):
            grade = nuke.nodes.Grade(name=f"G{index}")
            grade.setInput(0, source)
            source = grade
        write = nuke.nodes.Write()
        write.setInput(0, source)
        session.session.this = write
        for callback in session.session.before_render:
            callback()
        session.session.touched = 0
        for frame in range(1001, 1009):
            session.session.frame = frame
            for callback in session.session.before_frame:
                callback()
        assert session.session.touched < 200, "frames do not walk the script again"
        nuke.delete(node)
        for callback in session.session.before_render:
            callback()
        session.session.touched = 0
        for callback in (*session.session.before_render, *session.session.before_frame):
            callback()
        assert session.session.touched == 0


def test_7_nodes_below_that_look_at_neighbours_find_a_picture_and_a_write_beyond_is_stopped(tmp_path):
    with started(gui=False) as session:
        node = removed(session, tmp_path)
        before, after = nuke.nodes.TimeOffset(time_offset="3"), nuke.nodes.TimeOffset(time_offset="-3")
        for offset in (before, after):
            offset.setInput(0, node)
        assert np.array_equal(light(before, 1002), light(node, 1001)), "frame 999 is asked for"
        assert np.array_equal(light(after, 1007), light(node, 1008)), "frame 1010 is asked for"
        with pytest.raises(RenderError, match="has no result for frame 990"):
            light(node, 990)


def test_8_without_a_daemon_everything_but_remove_goes_on_and_remove_says_why(tmp_path):
    with started(gui=False) as session:
        removed(session, tmp_path)
    with started(gui=False) as session:
        nuke._open(tmp_path / "sh010_comp_v002.nk")
        (node,) = nuke.allNodes("Group")
        session.press(node, "remove")
        assert status(node).startswith("FAILED: ") and "tcp://127.0.0.1:9" in status(node), status(node)
        assert shows_result(node), "the result of before stays"
        render(session, node, 1001, 1008)


def test_9_a_project_that_moved_with_its_results_goes_on_where_it_is(tmp_path):
    home = tmp_path / "old"
    home.mkdir()
    with started() as session:
        removed(session, home)
    shutil.move(home, tmp_path / "archive_2026")
    text = (tmp_path / "archive_2026/sh010_comp_v002.nk").read_text()
    plates = text.replace(f"{home}/plates", f"{tmp_path}/archive_2026/plates")
    (tmp_path / "archive_2026/sh010_comp_v002.nk").write_text(plates)
    with started(gui=False) as session:
        nuke._open(tmp_path / "archive_2026/sh010_comp_v002.nk")
        (node,) = nuke.allNodes("Group")
        render(session, node, 1001, 1008)
        assert shows_result(node)
        session.press(node, "refresh")
        assert status(node).startswith("STALE") or status(node).startswith("READY")
        assert node["result_at"].value().startswith(f"{tmp_path}/archive_2026/void/")


def test_10_a_node_of_the_version_before_is_told_of_and_brought_up_to_date_with_all_it_holds(tmp_path):
    """Its Group, as saved in a script by the version before, with a result of before beside the script."""
    with started() as session:
        made = removed(session, tmp_path)
        name = made["job_folder"].value()
        old_data = nuke_script.parse((ROOT / "tests/data/VoidInpaint_before_0.2.gizmo").read_text()).children[0]
        old_data.parent = session.session.root
        old_data.knobs["name"] = "CleanUp"
        session.session.root.children.append(old_data)
        old = nuke._wrap(old_data)
        for index in (0, 1):
            old.setInput(index, made.input(index))
        path = f"[file dirname [value root.name]]/void/{name}/v001"
        for reader, part in (("ReadClean", "clean"), ("ReadAov", "aov")):
            old.node(reader)._data.knobs.update(file=f"{path}/{part}.%04d.exr", first="1001", last="1008")
        old.node("MatteAsAlpha")["from0"].setValue("mask.a")
        for knob, value in {
            "has_result": True, "version": 1, "result_first": 1001, "result_last": 1008, "prompt": "a table",
            "seed": 4, "matte_grow": 7.0, "void_id": made["void_id"].value(), "job_folder": name,
            "input_fingerprint": "0" * 32,
        }.items():  # fmt: skip
            old[knob].setValue(value)
        nuke.delete(made)
        below = nuke.nodes.Grade()
        below.setInput(0, old)
        old.setXYpos(120, 340)
        nuke._save(tmp_path / "sh010.nk")
        assert shows_result(old)
        render(session, below, 1001, 1001)
        session.press(old, "remove")
        assert "An older version made CleanUp" in session.session.messages[-1]
        session.host.knob_changed(old, old["prompt"])
        session.session.undo.clear()
        exec(session.session.menus["Nodes"]._menus["VOID"]._commands["Update nodes of this script"])
        assert session.session.messages[-1] == "Updated: CleanUp."
        (new,) = nuke.allNodes("Group")
        assert new.name() == "CleanUp" and (new.xpos(), new.ypos()) == (120, 340)
        assert below.input(0) is new and [new.input(i).name() for i in (0, 1)] == ["Plate", "Matte"]
        assert (new["prompt"].value(), new["seed"].value(), new["matte_grow"].value()) == ("a table", 4, 7.0)
        assert new["matte_channel"].value() == "mask.a" and new["version"].value() == 1
        assert shows_result(new) and new["result_at"].value() == f"{tmp_path}/void/{name}/v001"
        session.press(new, "refresh")
        session.wait_for(new, "READY: v001")
        session.session.messages.clear()
        session.host.update_nodes()
        assert "up to date" in session.session.messages[0]


def test_the_whole_life_of_a_shot_from_the_first_wire_to_the_last_render(tmp_path):
    """With a window and a real daemon: preview, remove, paint, correct, grade, redo, compare, publish, render."""
    with daemon(tmp_path / "data") as (_, address):
        with started() as session:
            node, shot = comp(tmp_path, address)
            session.session.frame = 1004
            session.press(node, "preview_frame")
            session.wait()
            assert node["show"].value() == "frame", status(node)
            session.press(node, "preview_affected")
            session.wait()
            assert node["show"].value() == "affected", status(node)
            session.press(node, "remove")
            session.wait()
            assert status(node).startswith("READY: v001"), status(node)
            graded(node)
            session.host.knob_changed(node, nuke.Knob(node, "inputChange", None))
            assert status(node).startswith("STALE") and node["note"].value() == "STALE"
            tiny_shot.write_exr(shot.folder / "paint/paint.1003.exr", tiny_shot.rgb(shot.truth * 2))
            node.setInput(4, read(str(shot.folder / "paint/paint.####.exr"), "Paint", 1003, 1003))
            session.press(node, "remove")
            session.wait()
            assert status(node).startswith("READY: v002"), status(node)
            node["layers"].setValue(True)
            shown = nuke._view(node, 1003)
            assert {"void.change", "void.affected", "void.coverage", "void.confidence", "void.physics"} <= set(shown)
            for knob in ("redo_first", "redo_last"):
                node[knob].setValue(1006)
            session.press(node, "redo_range")
            session.wait()
            assert status(node).startswith("READY: v003"), status(node)
            nuke._save(tmp_path / "sh010_comp_v003.nk")
        published = tmp_path / "publish/sh010.nk"
        published.parent.mkdir()
        shutil.copy(tmp_path / "sh010_comp_v003.nk", published)
    with started(gui=False) as session:
        nuke._open(published)
        (node,) = nuke.allNodes("Group")
        render(session, node, 1001, 1008)
        truth = (shot.truth.astype(np.float32) * 2)[HOLE]
        clean = np.stack([nuke._view(node, 1003, False)[f"rgba.{c}"] for c in ("red", "green", "blue")], -1)[HOLE]
        assert np.abs(clean - truth).mean() < 0.05
