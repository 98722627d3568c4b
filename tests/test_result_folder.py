"""The folder a shot comes out in: a run that was cut off goes on as if it had not been."""

from __future__ import annotations

from void_server.result.folder import ResultFolder


def finished(folder, settings, frame, light):
    result = ResultFolder(folder, settings)
    result.keep_older(frame)
    result.clean(frame).write_bytes(light)
    result.aov(frame).write_bytes(light)
    result.note(frame, {})
    return result


def test_a_run_cut_off_between_a_frame_and_its_note_still_knows_the_older_frame(tmp_path):
    finished(tmp_path, "old", 1001, b"old")
    cut = ResultFolder(tmp_path, "new")
    assert cut.older(1001).read_bytes() == b"old"
    cut.keep_older(1001)
    replaced = tmp_path / "new.tmp"
    replaced.write_bytes(b"new")
    replaced.replace(cut.clean(1001))

    again = ResultFolder(tmp_path, "new")
    assert again.finished([1001]) == {}
    assert again.older(1001).read_bytes() == b"old", "not the frame that the run itself has put there"
    again.keep_older(1001)
    assert again.older(1001).read_bytes() == b"old"
    again.note(1001, {})
    assert again.older(1001) is None and list(again.finished([1001])) == [1001]
    assert not list(tmp_path.glob(".older*")), "nothing is left of it"
