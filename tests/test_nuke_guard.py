"""Renders: what is stopped before the object slips back in, and what it costs everybody else."""

from __future__ import annotations

import pytest

from tests.fakes import nuke
from tests.nuke_session import comp, removed, started


@pytest.fixture
def session():
    with started() as found:
        yield found


def chain(count: int, source: nuke.Node | None = None) -> nuke.Node:
    """A Write below `count` nodes in a row."""
    for index in range(count):
        node = nuke.nodes.Grade(name=f"G{index}")
        if source is not None:
            node.setInput(0, source)
        source = node
    write = nuke.nodes.Write()
    write.setInput(0, source)
    return write


def guard(session, write: nuke.Node) -> None:
    session.session.this = write
    for callback in session.session.before_render:
        callback()


def test_a_script_without_our_node_is_not_walked_however_deep_it_is(session):
    write = chain(3000)
    guard(session, write)
    session.session.touched = 0
    guard(session, write)
    assert session.session.touched == 0, "one list is asked of Nuke, and no node"


def test_a_chain_of_thousands_above_the_write_ends_in_an_answer(tmp_path, session):
    node, _ = comp(tmp_path)
    write = chain(1500, node)
    with pytest.raises(RuntimeError, match="VoidInpaint1 has no result"):
        guard(session, write)
    guard(session, chain(5))  # a Write that does not see the node is not its business


def test_an_error_of_our_own_stops_nobodys_render(tmp_path, session, monkeypatch, capsys):
    node, _ = comp(tmp_path)
    write = chain(1, node)
    del node._data.user["missing_result"]
    guard(session, write)
    assert "VOID could not check this render: NameError" in capsys.readouterr().err


def test_turning_a_knob_serialises_no_tree(tmp_path, session):
    node, _ = comp(tmp_path)
    node.setInput(0, chain(50, node.input(0)).input(0))
    session.host.knob_changed(node, node["prompt"])
    assert session.session.serialised == 0
    session.host.knob_changed(node, nuke.Knob(node, "inputChange", None))
    assert session.session.serialised > 50


# What is stopped -----------------------------------------------------------------------------------------------------


def below(node: nuke.Node, *between: nuke.Node, limit: tuple[int, int] | None = None) -> nuke.Node:
    """A Write below a node, with others between."""
    for other in between:
        other.setInput(0, node)
        node = other
    write = nuke.nodes.Write()
    write.setInput(0, node)
    if limit:
        for knob, value in (("use_limit", True), ("first", limit[0]), ("last", limit[1])):
            write[knob].setValue(value)
    return write


def frames(session, write: nuke.Node, first: int, last: int) -> None:
    """What Nuke calls when it renders frames; the pictures are other tests' business."""
    guard(session, write)
    for frame in range(first, last + 1):
        session.session.frame = frame
        for callback in session.session.before_frame:
            callback()


@pytest.mark.parametrize("gui", [True, False])
def test_a_render_is_stopped_where_the_object_would_slip_back_in(tmp_path, gui):
    with started(gui) as session:
        node, _ = comp(tmp_path)
        write = below(node)
        with pytest.raises(RuntimeError, match="has no result"):
            guard(session, write)
        node["missing_result"].setValue("plate")
        guard(session, write)


def test_a_node_that_shows_the_plate_stops_a_render(tmp_path, session):
    node = removed(session, tmp_path)
    write = below(node)
    frames(session, write, 1001, 1008)
    node["show"].setValue("plate")
    with pytest.raises(RuntimeError, match="shows the plate"):
        guard(session, write)


def test_a_file_that_is_gone_is_named_before_the_first_frame_renders(tmp_path, session):
    node = removed(session, tmp_path)
    write = below(node)
    (folder,) = (tmp_path / "void").glob("*/v001")
    (folder / "clean.1004.exr").unlink()
    (folder / "clean.1006.exr").unlink()
    with pytest.raises(RuntimeError, match=r"2 of 8 frames of its result are not in .*/v001, frame 1004 first"):
        guard(session, write)
    folder.rename(tmp_path / "away")
    with pytest.raises(RuntimeError, match=r"its result is not at .*No such file"):
        guard(session, write)


def test_a_write_over_more_frames_than_the_result_has_is_stopped_at_once_or_at_the_frame(tmp_path, session):
    node = removed(session, tmp_path)
    with pytest.raises(RuntimeError, match="Frame 1009 lies outside the result of VoidInpaint1, which has 1001-1008"):
        guard(session, below(node, limit=(1001, 1009)))
    frames(session, below(node, limit=(1002, 1008)), 1002, 1008)
    with pytest.raises(RuntimeError, match="Frame 1000 lies outside"):
        frames(session, below(node), 1000, 1008)
    with pytest.raises(RuntimeError, match="Frame 1009 lies outside"):
        frames(session, below(node), 1001, 1009)
    for _ in range(2):  # a viewer's frame, which stands still, judges nothing
        frames(session, below(node), 990, 990)
    node["outside_result"].setValue("plate")
    frames(session, below(node), 990, 1020)


def test_where_time_is_moved_between_node_and_write_the_graph_alone_judges(tmp_path, session):
    node = removed(session, tmp_path)
    frames(session, below(node, nuke.nodes.TimeOffset()), 1, 8)
    (tmp_path / "void").rename(tmp_path / "away")
    with pytest.raises(RuntimeError, match="its result is not at"):
        guard(session, below(node, nuke.nodes.TimeOffset()))


def test_every_views_folder_is_looked_into(tmp_path, session):
    node = removed(session, tmp_path)
    session.session.views[:] = ["left", "right"]
    node["shot_views"].setValue("left right")
    session.press(node, "remove")
    session.wait()
    guard(session, below(node))
    (folder,) = (tmp_path / "void").glob("*/v002/right")
    (folder / "clean.1001.exr").unlink()
    with pytest.raises(RuntimeError, match=r"1 of 8 frames .*/right"):
        guard(session, below(node))


def test_a_second_look_at_frames_forgets_the_nodes_of_the_render_before(tmp_path, session):
    node = removed(session, tmp_path)
    write = below(node)
    guard(session, write)
    write.setInput(0, None)
    nuke.delete(node)
    frames(session, write, 1, 3)
