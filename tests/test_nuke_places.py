"""Where results lie, and that scripts find them: moved, published, or copied into a farm's temporary folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests import tiny_shot
from tests.fakes import nuke
from tests.fakes.nuke_graph import RenderError
from tests.nuke_session import comp, finish, graded, removed, started, status


@pytest.fixture
def session():
    with started() as found:
        yield found


def hole(node: nuke.Node, gui: bool = False, frame: int = 1003) -> float:
    """Light in the middle of the hole: .5 where the result is shown, .9 where the object is."""
    return round(float(nuke._view(node, frame, gui)["rgba.red"][tiny_shot.square(frame - 1001)].mean()), 2)


def opened(path: Path) -> nuke.Node:
    nuke._open(path)
    return nuke.allNodes("Group")[0]


def test_a_farm_that_renders_a_temporary_copy_of_the_script_finds_the_result(tmp_path, session):
    """As Deadline's Nuke plug-in does: a copy of the script in the worker's own folder, paths in it mapped as text."""
    home = tmp_path / "artist"
    home.mkdir()
    assert hole(removed(session, home)) == 0.5
    shutil.move(home, tmp_path / "mnt")
    text = (tmp_path / "mnt/sh010_comp_v002.nk").read_text().replace(f"{home.as_posix()}/", f"{tmp_path}/mnt/")
    copy = tmp_path / "worker/thread0/sh010_comp_v002.nk"
    copy.parent.mkdir(parents=True)
    copy.write_text(text)
    assert hole(opened(copy)) == 0.5


def test_a_script_published_or_saved_elsewhere_finds_the_result_where_it_lies(tmp_path, session):
    removed(session, tmp_path)
    published = tmp_path / "publish/v002/sh010.nk"
    published.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "sh010_comp_v002.nk", published)
    node = opened(published)
    assert hole(node) == 0.5
    session.press(node, "refresh")
    session.wait_for(node, "READY: v001")


def test_script_and_results_moved_together_find_each_other_without_the_plug_in(tmp_path, session):
    home = tmp_path / "old"
    home.mkdir()
    node = removed(session, home)
    plate = node.input(0)["file"].value()
    shutil.move(home, tmp_path / "new place")
    shutil.copytree(tmp_path / "new place/plates", home / "plates")  # the plate is on another disk
    node = opened(tmp_path / "new place/sh010_comp_v002.nk")
    assert node.input(0)["file"].value() == plate and hole(node) == 0.5
    session.press(node, "refresh")
    session.wait_for(node, "READY")
    assert "new place" in node["result_at"].value()


def test_neither_place_is_there_and_a_render_fails_instead_of_showing_the_object(tmp_path, session):
    node = removed(session, tmp_path)
    shutil.rmtree(tmp_path / "void")
    with pytest.raises(RenderError):
        hole(node)


@pytest.mark.parametrize("how", ["knob", "knob from the script", "knob with Tcl", "environment"])
def test_the_artist_or_the_studio_says_where_results_go(tmp_path, session, monkeypatch, how):
    wanted = tmp_path / "show/results of sh010"
    node, _ = comp(tmp_path)
    if how == "environment":
        monkeypatch.setenv("VOID_RESULTS", str(wanted))
    else:
        monkeypatch.setenv("SHOW", str(tmp_path / "show"))
        given = {"knob": str(wanted), "knob from the script": "show/results of sh010"}
        node["result_folder"].setValue(given.get(how, "[getenv SHOW]/results of sh010"))
    finish(session)
    session.press(node, "remove")
    session.wait()
    assert status(node).startswith("READY"), (status(node), session.session.messages)
    assert node["result_at"].value().startswith(wanted.as_posix()) and not (tmp_path / "void").exists()
    assert hole(node) == 0.5
    node["status"].setValue("")
    session.press(node, "refresh")
    session.wait_for(node, "READY")


@pytest.mark.skipif(os.name == "nt", reason="rights are POSIX's")
@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_what_an_artist_makes_can_be_read_by_whom_the_shots_folder_is_for(tmp_path, session, umask):
    """A render user is refused by an artist's private umask: folders and files take the rights of the one above."""
    home = tmp_path / "comp"
    home.mkdir()
    home.chmod(0o2755)
    before = os.umask(umask)
    try:
        removed(session, home)
        node = nuke.allNodes("Group")[0]
        graded(node)
        session.press(node, "remove")
        session.wait()
        assert session.session.rendered and status(node).startswith("READY: v002"), status(node)
    finally:
        os.umask(before)
    made = [home / "void", *(home / "void").rglob("*")]
    assert {p.stat().st_mode & 0o7777 for p in made if p.is_dir()} == {0o2755}
    assert {p.stat().st_mode & 0o777 for p in made if p.is_file()} == {0o644}


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_rendered(tmp_path, session):
    node, shot = comp(tmp_path)
    node["result_folder"].setValue(f"{shot.folder}/plate/plate.1001.exr/void")
    session.press(node, "remove")
    assert "can't be written to. Set result folder" in session.session.messages[0]
