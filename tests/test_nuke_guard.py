"""Renders: what is stopped before the object slips back in, and what it costs everybody else."""

from __future__ import annotations

import pytest

from tests.fakes import nuke
from tests.nuke_session import comp, started


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
