"""What is sent, what is rendered first, and what is refused: decided before anything happens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes import nuke
from tests.nuke_session import comp, graded, read, started
from void_server.wire.shot import ShotSettings


@pytest.fixture
def session():
    with started() as found:
        yield found


@pytest.fixture
def request_(session):
    return session.host.request


def asked(session, node):
    return session.host.look(node)


# Refusing ------------------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_said_in_one_message_and_nothing_is_touched(tmp_path, session):
    node = nuke.createNode("VoidInpaint")
    node["range_mode"].setValue("custom")
    node["first"].setValue(1010.5)
    node["last"].setValue(1001)
    node["shot_views"].setValue("left")
    node["server"].setValue("gpu box")
    node["matte_grow"].setValue(-4)
    session.press(node, "remove")
    (said,) = session.session.messages
    for problem in (
        "no name yet",
        "connected to plate",
        "connected to matte",
        "1010.5",
        "no view left",
        "gpu box",
        "grow",
    ):
        assert problem in said, problem
    assert said.count("\n- ") == 7 and not node["void_id"].value() and not session.host._live


@pytest.mark.parametrize(
    ("knobs", "problem"),
    [
        ({"range_mode": "custom", "first": 990, "last": 1004}, "the plate has 1001-1008"),
        ({"range_mode": "custom", "first": 1004, "last": 1002}, "runs backwards"),
        ({"range_mode": "global"}, "the plate has 1001-1008"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_range_or_setting_that_cannot_be_is_refused_with_its_remedy(tmp_path, session, request_, knobs, problem):
    node, _ = comp(tmp_path)
    for name, value in knobs.items():
        node[name].setValue(value)
    with pytest.raises(request_.RefusedError, match=problem):
        request_.plan(asked(session, node))


def test_a_plate_in_steps_and_too_long_a_shot_are_refused(tmp_path, session, request_):
    node, _ = comp(tmp_path)
    node.input(0)._data.knobs.update(_step="2", last="4000")
    with pytest.raises(request_.RefusedError) as refused:
        request_.plan(asked(session, node))
    assert "steps of 2" in str(refused.value) and "Split the shot" in str(refused.value)


def test_nuke_non_commercial_is_told_that_its_python_sees_too_little(tmp_path, session, request_):
    node, _ = comp(tmp_path)
    session.session.env["nc"] = True
    session.press(node, "remove")
    (said,) = session.session.messages
    assert "Non-commercial, which shows Python ten nodes" in said and not list((tmp_path).glob("void"))


# Sending files or rendering them -------------------------------------------------------------------------------------


def direct(session, node) -> set[str]:
    plan = session.host.request.plan(asked(session, node))
    assert set(plan.direct) | set(plan.bake) == {"plate", "matte"} and not set(plan.direct) & set(plan.bake)
    return set(plan.direct)


def test_exr_reads_are_sent_as_they_are_through_dots_and_switched_off_nodes(tmp_path, session):
    node, _ = comp(tmp_path)
    assert direct(session, node) == {"plate", "matte"}
    dot, grade = nuke.nodes.Dot(), nuke.nodes.Grade(white="3", disable="true")
    grade.setInput(0, node.input(0))
    dot.setInput(0, grade)
    node.setInput(0, dot)
    assert direct(session, node) == {"plate", "matte"}
    grade["disable"].setValue(False)
    assert direct(session, node) == {"matte"}, "a grade must be rendered"


@pytest.mark.parametrize(
    ("knobs", "sent"),
    [
        ({"raw": "false", "colorspace": "default (linear)"}, True),
        ({"raw": "false", "colorspace": "Utility/Raw"}, True),
        ({"raw": "false", "colorspace": "scene_linear (linear)"}, True),
        ({"raw": "false", "colorspace": "sRGB"}, False),
        ({"raw": "false", "colorspace": "ACES - ACEScg"}, False),
        ({"frame": "frame*2"}, False),
        ({"file": "/shots/plate.%04d.dpx"}, False),
        ({"file": "/shots/%V/plate.%04d.exr"}, False),
        ({"file": "/shots/still.exr"}, False),
    ],
)
def test_a_plate_is_sent_as_it_lies_only_if_nuke_would_not_change_a_sample(tmp_path, session, knobs, sent):
    node, _ = comp(tmp_path)
    node.input(0)._data.knobs.update(knobs)
    assert ("plate" in direct(session, node)) is sent


def test_a_matte_without_alpha_or_in_another_channel_or_too_short_is_rendered(tmp_path, session):
    node, shot = comp(tmp_path)
    node.setInput(1, read(shot.plate, "NoAlpha"))
    assert direct(session, node) == {"plate"}
    node.setInput(1, read(shot.matte, "Short", last=1004))
    assert direct(session, node) == {"plate"}
    node.setInput(1, read(shot.matte, "Right"))
    assert direct(session, node) == {"plate", "matte"}
    node.node("MatteAsAlpha")["from0"].setValue("mask.a")
    assert direct(session, node) == {"plate"}


def painted(shot, role: str, frames) -> str:
    """A sequence of a role with a few frames."""
    for frame in frames:
        if role == "reference":
            tiny_shot.write_exr(shot.folder / f"{role}/{role}.{frame}.exr", tiny_shot.rgb(shot.truth))
        else:
            spot = np.zeros((64, 96), np.float16)
            spot[40:44, 10:20] = 1
            tiny_shot.write_exr(shot.folder / f"{role}/{role}.{frame}.exr", {"A": spot})
    return str(shot.folder / f"{role}/{role}.####.exr")


def test_a_painted_frame_is_a_reference_at_its_frame_and_nowhere_else(tmp_path, session, request_):
    node, shot = comp(tmp_path)
    node.setInput(4, read(painted(shot, "reference", (1003,)), "Painted", 1003, 1003))
    plan = request_.plan(asked(session, node))
    assert plan.reference == (1003,) and list(plan.direct["reference"]) == [1003]
    paint = nuke.nodes.Grade()
    paint.setInput(0, node.input(0))
    node.setInput(4, paint)
    with pytest.raises(request_.RefusedError, match="press add this frame"):
        request_.plan(asked(session, node))
    for frame in (1006, 1002, 1006):
        session.session.frame = frame
        session.press(node, "add_reference")
    assert node["reference_frames"].value() == "1006 1002"
    plan = request_.plan(asked(session, node))
    assert plan.reference == (1002, 1006) and "reference" in plan.bake
    node["reference_frames"].setValue("1003-1005, 990")
    assert request_.plan(asked(session, node)).reference == (1003, 1004, 1005)
    for wrong, said in (("10x", "no steps"), ("990", "Reference frame 990 lies outside")):
        node["reference_frames"].setValue(wrong)
        with pytest.raises(request_.RefusedError, match=said):
            request_.plan(asked(session, node))


def test_corrections_and_reference_are_sent_beside_the_rest(tmp_path, session):
    node, shot = comp(tmp_path)
    for index, role in ((5, "affected_add"), (6, "affected_sub")):
        node.setInput(index, read(painted(shot, role, range(1001, 1009)), role))
    node.setInput(4, graded(node))
    node.setInput(0, node.input(4).input(0))
    node["reference_frames"].setValue("1002 1005-1006")
    seen = []

    def keep(records, _hear, _cancelled):
        seen.extend(records)
        return session.host.work.Outcome(session.host.State.CANCELLED, tuple(records))

    session.host.work.run = keep
    session.press(node, "remove")
    session.wait()
    (record,) = seen
    assert {role: len(files) for role, files in record.files.items()} == {
        "plate": 8, "matte": 8, "affected_add": 8, "affected_sub": 8, "reference": 3,
    }  # fmt: skip
    assert [(first, last) for _, _, first, last, _, _ in session.session.rendered] == [(1002, 1002), (1005, 1006)]


@pytest.mark.parametrize(("knob", "value"), [("quality", "draft"), ("effects", "bold")])
def test_a_setting_that_this_void_has_not_is_refused_and_one_it_has_is_sent(
    tmp_path, session, request_, monkeypatch, knob, value
):
    node, _ = comp(tmp_path)
    node[knob].setValue(value)
    assert getattr(request_.plan(asked(session, node)).settings, knob) == value
    names = [field.name for field in dataclasses.fields(ShotSettings) if field.name != knob]
    fewer = [(name, object, dataclasses.field(default=None)) for name in names]
    monkeypatch.setattr(request_, "ShotSettings", dataclasses.make_dataclass("Older", fewer, frozen=True))
    with pytest.raises(request_.RefusedError, match=f"This VOID has no {knob} {value}. Set it to "):
        request_.plan(asked(session, node))


def test_handles_and_range_decide_what_is_read_and_what_is_delivered(tmp_path, session):
    node, _ = comp(tmp_path)
    for name, value in {"range_mode": "custom", "first": 1003, "last": 1004, "handles": 1}.items():
        node[name].setValue(value)
    plan = session.host.request.plan(asked(session, node))
    assert (str(plan.frames), str(plan.reads), plan.settings.handles) == ("1003-1004", "1002-1005", 1)
    assert sorted(plan.direct["plate"]) == [1002, 1003, 1004, 1005]
    node["handles"].setValue(-1)
    plan = session.host.request.plan(asked(session, node))
    assert str(plan.reads) == "1001-1008" and plan.settings.handles is None
