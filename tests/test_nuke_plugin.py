"""What the plugin decides and how it behaves in Nuke, without a daemon."""

from __future__ import annotations

import dataclasses
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.fakes import nuke, nuke_script
from tests.nuke_session import PLUGIN, comp, graded, started, status
from void_server.wire.errors import JobCancelledError, UnreachableError


@pytest.fixture
def session():
    with started() as found:
        yield found


# Starting Nuke -------------------------------------------------------------------------------------------------------


def test_starting_nuke_and_opening_a_script_use_no_network(tmp_path, monkeypatch):
    def refuse(*_args, **_named):
        raise AssertionError("a socket was opened")

    with started() as session:
        comp(tmp_path)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setitem(sys.modules, "zmq", None)
    with started() as session:
        nuke._open(tmp_path / "sh010_comp_v002.nk")
        node = nuke.allNodes("Group")[0]
        session.host.knob_changed(node, node["prompt"])
        assert status(node) == "no result"
        write = nuke.nodes.Write()
        write.setInput(0, node)
        with pytest.raises(RuntimeError, match="VoidInpaint1 has no result"):
            nuke.execute(write, 1001, 1001)


def test_a_window_gets_a_menu_and_a_farm_machine_gets_gizmos_only():
    with started(gui=False) as session:
        assert not session.session.menus and len(session.session.before_render) == 1, "renders are guarded there too"
        assert [Path(p).name for p in session.session.plugin_path] == ["gizmos"]
    with started() as session:
        commands = session.session.menus["Nodes"]._menus["VOID"]._commands
        assert set(commands) == {"VoidInpaint", "VoidQuadmask", "Update nodes of this script"}
        exec(commands["VoidInpaint"])
        session.session.plugin_path.clear()
        exec(commands["VoidQuadmask"])
        assert [node.name() for node in nuke.allNodes()] == ["VoidInpaint1", "VoidQuadmask1"]


def test_whatever_is_wrong_with_the_plugin_nuke_starts(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "void_nuke", None)
    exec(compile((PLUGIN / "menu.py").read_text(), "menu.py", "exec"), {})
    assert "VOID is not available in this session" in capsys.readouterr().err


def test_a_button_without_the_plugin_says_what_to_do(tmp_path, session, monkeypatch):
    node, _ = comp(tmp_path)
    for name in [name for name in sys.modules if name.startswith("void_nuke")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "void_nuke", None)
    session.press(node, "remove")
    assert "void-server install nuke" in session.session.messages[0]


def test_each_view_is_a_job_of_its_own_rendered_under_its_name(tmp_path, session):
    node, _ = comp(tmp_path)
    session.session.views[:] = ["left", "right"]
    node["shot_views"].setValue("left right")
    session.host.work.run = lambda records, _hear, _cancelled: outcome(session, records)
    session.press(node, "remove")
    session.wait()
    folders = {Path(file).parent.parent.name for _, file, *_ in session.session.rendered}
    assert folders == {"left", "right"} and {v for *_, v, _ in session.session.rendered} == {"left", "right"}
    assert node.node("ReadClean")["file"].value().endswith("]/%V/clean.%04d.exr")
    assert node["result_at"].value().endswith("/v001")


def test_in_a_script_with_several_views_all_are_removed_in_or_none(tmp_path, session):
    node, _ = comp(tmp_path)
    session.session.views[:] = ["left", "right"]
    node["shot_views"].setValue("left")
    session.press(node, "remove")
    assert "the object would stay in right. Leave views blank for all" in session.session.messages.pop()
    node["shot_views"].setValue("")
    session.host.work.run = lambda records, _hear, _cancelled: outcome(session, records)
    session.press(node, "remove")
    session.wait()
    assert {v for *_, v, _ in session.session.rendered} == {"left", "right"}


def test_a_studios_defaults_for_writes_do_not_reach_what_is_rendered_to_be_sent(tmp_path, session):
    node, _ = comp(tmp_path)
    graded(node)
    session.session.knob_defaults = {
        "Write.autocrop": "true", "Write.use_limit": "true", "Write.first": "1", "Write.last": "2",
        "Write.create_directories": "true", "Write.beforeRender": "studio.check()", "Write.channels": "all",
        "Write.disable": "true", "Write.compression": "DWAA", "Write.premultiplied": "true", "Write.views": "left",
        "Write.frame_mode": "offset", "Write.frame": "100", "Write.datatype": "16 bit half", "Write.raw": "false",
    }  # fmt: skip
    session.host.work.run = lambda records, _hear, _cancelled: outcome(session, records)
    session.press(node, "remove")
    session.wait()
    (knobs,) = session.session.render_knobs
    wanted = {
        "autocrop": "false", "use_limit": "false", "create_directories": "false", "beforeRender": "",
        "disable": "false", "channels": "rgb", "compression": "Zip (1 scanline)", "premultiplied": "false",
        "views": "main", "raw": "true",
        "frame_mode": "expression", "frame": "", "datatype": "32 bit float",
    }  # fmt: skip
    assert {name: knobs[name] for name in wanted} == wanted


@pytest.mark.parametrize("how", ["switch above", "variable in a path", "inside a group of variables"])
def test_a_picture_that_depends_on_the_scripts_variables_is_refused(tmp_path, session, how):
    node, _ = comp(tmp_path)
    if how == "switch above":
        switch = nuke.nodes.VariableSwitch()
        switch.setInput(0, node.input(0))
        node.setInput(0, switch)
    elif how == "variable in a path":
        node.input(0)._data.knobs["file"] = "/shots/%{shot}/plate.%04d.exr"
    else:
        holder = nuke_script.ScriptNode("VariableGroup", {"name": "VariableGroup1"}, parent=session.session.root)
        node._data.parent = holder
    session.press(node, "remove")
    (said,) = session.session.messages
    assert "depends on the script's variables" in said and "above what switches" in said


def outcome(session, records, name: str = "READY"):
    done = tuple(record.with_(state="done" if name == "READY" else name.lower()) for record in records)
    return session.host.work.Outcome(session.host.State[name], done, "")


# Behaving ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("Read1: missing"), nuke.CancelledError("cancelled")])
def test_a_render_of_inputs_that_fails_or_is_cancelled_leaves_nothing_behind(tmp_path, session, error):
    node, _ = comp(tmp_path)
    node.input(0)._data.knobs.update(raw="false", colorspace="sRGB")
    nuke.root()["proxy"].setValue(True)
    inside = len(node._data.children)
    session.session.fail_render = error
    session.press(node, "remove")
    assert status(node).startswith("CANCELLED" if isinstance(error, nuke.CancelledError) else "FAILED: Nuke could not")
    assert len(node._data.children) == inside and nuke.root()["proxy"].value() is True
    assert session.session.undo_off == 0 and not list((tmp_path / "void").rglob("v*"))


def test_a_copied_node_gets_a_folder_of_its_own(tmp_path, session):
    node, _ = comp(tmp_path)
    session.host.work.run = lambda records, _hear, _cancelled: outcome(session, records)
    session.press(node, "remove")
    session.wait()
    copy = nuke.createNode("VoidInpaint")
    for index in (0, 1):
        copy.setInput(index, node.input(index))
    copy._data.knobs.update({k: v for k, v in node._data.knobs.items() if k != "name"})
    assert copy["void_id"].value() == node["void_id"].value() != ""
    session.press(copy, "remove")
    session.wait()
    assert copy["void_id"].value() != node["void_id"].value()
    assert len(list((tmp_path / "void").glob("*"))) == 2
    nuke._save(tmp_path / "sh010_comp_v002.nk")
    assert node["job_folder"].value() in (tmp_path / "sh010_comp_v002.nk").read_text()


def test_a_node_deleted_while_its_job_runs_harms_nobody(tmp_path, session):
    node, _ = comp(tmp_path)
    session.host.work.run = lambda records, _hear, _cancelled: outcome(session, records)
    session.press(node, "remove")
    nuke.delete(node)
    session.wait()
    assert not session.session.messages


def test_a_bug_in_the_thread_ends_as_failed_and_not_as_running_forever(tmp_path, session):
    node, _ = comp(tmp_path)

    def broken(*_args):
        raise ZeroDivisionError("oops")

    session.host.work.run = broken
    session.press(node, "remove")
    session.wait()
    assert status(node).startswith("FAILED: ZeroDivisionError") and "report" in status(node)


def test_what_befell_a_node_is_not_said_of_another_scripts_node_of_the_same_name(tmp_path, session):
    node, _ = comp(tmp_path)
    node.input(0)._data.knobs.update(raw="false", colorspace="sRGB")
    session.session.fail_render = RuntimeError("no licence")
    session.press(node, "remove")
    assert status(node).startswith("FAILED")
    nuke._save(tmp_path / "sh020.nk")
    (tmp_path / "sh020.nk").write_text((tmp_path / "sh010_comp_v002.nk").read_text())
    nuke._open(tmp_path / "sh020.nk")
    other = nuke.allNodes("Group")[0]
    session.host.knob_changed(other, other["prompt"])
    assert other.name() == node.name() and status(other) == "no result"


def test_a_grade_or_a_setting_makes_a_result_stale_and_moving_or_viewing_does_not(tmp_path, session):
    node, _ = comp(tmp_path)
    session.host.work.run = lambda records, _hear, _cancelled: outcome(session, records)
    session.press(node, "remove")
    session.wait()
    for name, value in (("edge_trim", 3), ("show", "plate"), ("result_mix", 0.5), ("grain", 0)):
        node[name].setValue(value)
    node.input(0)._data.knobs.update(xpos="400", note_font="Arial", selected="true")
    session.host._show(node)
    assert status(node).startswith("READY")
    node.input(0)._data.knobs["raw"] = "false"
    session.host.knob_changed(node, nuke.Knob(node, "inputChange", None))
    assert status(node).startswith("STALE")


def test_progress_only_grows_and_says_what_it_counts(session):
    states = sys.modules["void_nuke.states"]
    progress, percents = states.Progress(2), []
    for part in (0, 1):
        progress.part = part
        for stage, done, total in (
            ("upload", 5 << 20, 10 << 20), ("queued", 0, 0), ("verify", 3, 4), ("frames", 1, 2), ("fetch", 1, 1),
        ):  # fmt: skip
            progress.hear(stage, done, total)
            percents.append(progress.percent)
    assert percents == sorted(percents) and percents[0] == 5 and percents[-1] == 100
    progress.hear("upload", 5 << 20, 10 << 20)
    assert progress.line == "sending 5/10 MiB, view 2 of 2"


def test_every_state_is_reached_by_some_facts(session):
    states = sys.modules["void_nuke.states"]
    facts = [
        states.Facts(), states.Facts(has_result=True), states.Facts(has_result=True, changed=True),
        states.Facts(has_result=True, missing_frames=2), states.Facts(record="failed"),
        states.Facts(record="cancelled"), states.Facts(record="unfinished", has_result=True),
    ]  # fmt: skip
    facts += [dataclasses.replace(facts[1], live=live) for live in states.LIVE]
    assert {states.judge(fact) for fact in facts} == set(states.State)
    assert len({states.spoken(fact) for fact in facts}) == len(facts)


def test_a_torn_record_is_no_record(tmp_path, session):
    record = sys.modules["void_nuke.results"].Record
    (tmp_path / "job.json").write_text('{"request": "x"')
    assert record.load(tmp_path) is None
    (tmp_path / "job.json").write_text("[]")
    assert record.load(tmp_path) is None


def test_a_render_of_inputs_stops_where_a_node_above_has_no_result_either(tmp_path, session):
    above, _ = comp(tmp_path)
    below = nuke.createNode("VoidInpaint")
    below.setInput(0, above)
    below.setInput(1, above.input(1))
    below["range_mode"].setValue("input")
    session.press(below, "remove")
    assert status(below).startswith("FAILED") and "VoidInpaint1 has no result" in status(below)


def test_a_result_that_arrives_after_its_script_was_closed_waits_for_reattach(tmp_path, session):
    node, _ = comp(tmp_path)
    nuke._save(tmp_path / "sh010_comp_v002.nk")
    session.host.work.run = lambda records, _hear, _cancelled: outcome(session, records)
    session.press(node, "remove")
    nuke._save(tmp_path / "sh010_comp_v002.nk")
    nuke.delete(node)
    session.wait()
    nuke._open(tmp_path / "sh010_comp_v002.nk")
    again = nuke.allNodes("Group")[0]
    session.press(again, "refresh")
    session.wait_for(again, "DETACHED")
    session.press(again, "reattach")
    session.wait()
    assert again["has_result"].value() and again["version"].value() == 1
    session.press(again, "reattach")
    session.wait()
    assert "no job was left behind" in status(again)


def test_when_one_view_fails_the_other_is_given_up_and_nothing_is_left_behind(tmp_path, session):
    node, _ = comp(tmp_path)
    session.session.views[:] = ["left", "right"]
    node["shot_views"].setValue("left right")
    session.press(node, "remove")
    session.wait()
    assert status(node).startswith("FAILED: ")
    session.press(node, "reattach")
    session.wait()
    assert "no job was left behind" in status(node)


class SlowClient:
    """A client whose daemon never takes the shot: it ends when it is cancelled, or with what the test says."""

    error: Exception = JobCancelledError("Cancelled.")

    def __init__(self, _address: str, *, patience_s: float) -> None:
        assert patience_s > 60

    def __enter__(self) -> SlowClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def submit(self, _files, _settings, *, name, request, on_event, cancelled):
        on_event({"event": "progress", "stage": "upload", "done": 1, "total": 2, "frame": 1001})
        while not cancelled():
            threading.Event().wait(0.01)
        raise self.error


@pytest.mark.parametrize("error", [JobCancelledError("Cancelled."), UnreachableError("Silence.")])
def test_cancel_is_heard_while_frames_are_being_sent(tmp_path, session, monkeypatch, error):
    monkeypatch.setattr("void_server.wire.client.Client", SlowClient)
    monkeypatch.setattr(SlowClient, "error", error)
    node, _ = comp(tmp_path)
    session.press(node, "remove")
    session.wait_for(node, "SENDING")
    session.press(node, "cancel_job")
    session.wait()
    assert status(node) == "CANCELLED"
