"""A run and the world around it: cancel, a daemon that dies, undo, save, reload, several strips at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
from desk import addon, outside, same_bits

BOX, NEAR = (34, 20, 62, 40), (30, 16, 66, 44)


def _masked(desk, **more):
    strip = desk.image_strip(**more)
    strip.void.mask = bpy.data.masks.get("roto") or desk.box_mask(*BOX)
    return strip


def _no_stage_is_left():
    return not [s.name for s in bpy.data.scenes if s.name.startswith(addon("pictures").STAGE)]


def _running():
    return addon("removal").running


def claim_cancel_reaches_the_daemon_and_leaves_no_strip(desk):
    daemon = desk.gated()
    strip = _masked(desk)
    pressed = desk.press().to("RUNNING")
    assert daemon.states() == ["running"]
    assert bpy.ops.void_inpaint.cancel() == {"FINISHED"}
    pressed.to_end()
    assert pressed.result == {"CANCELLED"}
    assert pressed.reports == [("INFO", "Cancelled")]
    assert daemon.states() == ["cancelled"]
    assert [s.name for s in desk.strips] == ["plate"] and not _running()
    assert not (Path(strip.void.attempt) / "sent").exists()


def claim_cancel_while_frames_are_rendered_sends_nothing(desk):
    daemon = desk.gated()
    _masked(desk)
    pressed = desk.press()
    pressed.one_frame()
    assert pressed.removal.state.name == "PREPARING" and not _no_stage_is_left()
    assert bpy.ops.void_inpaint.cancel() == {"FINISHED"}
    pressed.to_end()
    assert daemon.states() == []
    assert _no_stage_is_left()
    assert [m.name for m in bpy.data.masks] == ["roto"]


def claim_one_tick_renders_one_frame_and_passes_events_through(desk):
    desk.gated()
    _masked(desk)
    pressed = desk.press()
    pressed.one_frame()
    assert pressed.removal.progress.line.startswith("Rendering frames to send ")
    sent = pressed.removal.record.folder / "sent"
    before = len(list(sent.iterdir()))
    assert before == 1
    for more in (1, 2, 3):
        pressed.one_frame()
        assert len(list(sent.iterdir())) == before + more
    assert pressed.tick() == {"PASS_THROUGH"}


def claim_a_daemon_killed_in_the_middle_is_waited_for(desk):
    daemon = desk.gated()
    _masked(desk)
    pressed = desk.press().to("RUNNING")
    daemon.kill()
    pressed.until(lambda: "does not answer" in pressed.removal.progress.line)
    daemon.start()
    daemon.open_gate()
    pressed.to_end()
    assert pressed.result == {"FINISHED"}, pressed.reports
    assert daemon.states() == ["done"]
    assert desk.strips["plate clean v001"]


def claim_no_daemon_is_said_with_the_remedy(desk):
    strip = _masked(desk)
    bpy.context.preferences.addons[addon().__name__].preferences.server = "tcp://127.0.0.1:9"
    said = desk.refused()
    assert "tcp://127.0.0.1:9" in said and "void-server serve" in said
    assert [s.name for s in desk.strips] == ["plate"] and strip.void.attempt and not strip.void.folder
    assert "127.0.0.1:9" in desk.refused("ping")


def claim_a_bug_in_the_thread_ends_the_run_and_keeps_an_accepted_job(desk):
    """Whatever breaks while a run waits, it is not SENDING for ever."""
    client, daemon = addon("work").Client, desk.gated()
    _masked(desk)
    for broken, ends, job in (("submit", "FAILED", False), ("status", "DETACHED", True)):
        whole = getattr(client, broken)
        setattr(client, broken, lambda *_, **__: {}["a bug"])
        try:
            pressed = desk.press().to_end()
        finally:
            setattr(client, broken, whole)
        assert pressed.removal.state.name == ends and bool(pressed.removal.record.job) is job
        ((_, said),) = pressed.reports
        assert "KeyError: 'a bug'. This is a bug" in said, said
    daemon.open_gate()
    assert bpy.ops.void_inpaint.reattach() == {"FINISHED"}
    assert "plate clean v002" in desk.strips


def claim_a_bug_between_two_ticks_ends_the_run_and_the_next_can_begin(desk):
    _masked(desk)
    strips = addon("result_strip")
    whole = strips.insert
    strips.insert = lambda *_: {}["a bug"]
    try:
        pressed = desk.press().to_end()
    finally:
        strips.insert = whole
    assert pressed.removal.state.name == "FAILED" and not _running()
    assert "KeyError: 'a bug'. This is a bug" in pressed.reports[-1][1], pressed.reports
    desk.remove()


def claim_one_undo_takes_the_strip_away_and_redo_brings_it_back(desk):
    _masked(desk)
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.void_inpaint.remove("EXEC_DEFAULT", True) == {"FINISHED"}
    assert [s.name for s in desk.strips] == ["plate", "plate clean v001"]
    assert desk.strips["plate"].mute
    bpy.ops.ed.undo()
    assert [s.name for s in desk.strips] == ["plate"]
    assert not desk.strips["plate"].mute
    bpy.ops.ed.redo()
    assert [s.name for s in desk.strips] == ["plate", "plate clean v001"]


def claim_undo_in_the_middle_of_a_run_does_not_stop_it(desk):
    daemon = desk.gated()
    _masked(desk)
    bpy.ops.ed.undo_push(message="before")
    pressed = desk.press()
    pressed.one_frame()
    pressed.one_frame()
    assert pressed.removal.state.name == "PREPARING"
    bpy.ops.ed.undo_push(message="an edit")
    bpy.ops.ed.undo()  # the mark of the run and our scenes are gone with it
    assert desk.strips["plate"].void.run == ""
    pressed.to("RUNNING")
    bpy.ops.ed.undo_push(message="another edit")
    bpy.ops.ed.undo()
    daemon.open_gate()
    pressed.to_end()
    assert pressed.result == {"FINISHED"}, pressed.reports
    assert desk.strips["plate clean v001"]
    assert _no_stage_is_left()


def claim_undo_brings_no_scene_of_ours_back(desk):
    _masked(desk)
    bpy.ops.ed.undo_push(message="before")
    pressed = desk.press()
    pressed.one_frame()
    desk.strips["plate"].color_tag = "COLOR_01"
    bpy.ops.ed.undo_push(message="an edit while frames are rendered")
    assert not _no_stage_is_left()
    pressed.to_end()
    assert pressed.result == {"FINISHED"}, pressed.reports
    bpy.ops.ed.undo_push(message="Remove Object")
    bpy.ops.ed.undo()
    assert desk.strips["plate"].color_tag == "COLOR_01"
    assert [s.name for s in desk.strips] == ["plate"]
    assert _no_stage_is_left()
    assert [m.name for m in bpy.data.masks] == ["roto"]


def claim_a_file_saved_in_the_middle_holds_nothing_of_ours_and_the_run_goes_on(desk):
    daemon = desk.gated()
    _masked(desk)
    pressed = desk.press()
    pressed.one_frame()
    assert not _no_stage_is_left()
    desk.save()
    saved_file = shutil.copy(desk.blend, desk.folder / "copy.blend")
    with bpy.data.libraries.load(str(saved_file)) as (saved, _):
        assert saved.scenes == ["Scene"]
        assert saved.masks == ["roto"]
    daemon.open_gate()
    pressed.to_end()
    assert pressed.result == {"FINISHED"}, pressed.reports


def claim_a_job_outlives_the_file_and_is_taken_up_after_reload(desk):
    daemon = desk.gated()
    _masked(desk)
    before = desk.render(13)
    desk.press().to("RUNNING")
    desk.save()
    desk.reload()
    assert not _running()
    assert daemon.states() == ["running"], "opening a file cancels nothing"
    daemon.kill()
    daemon.start()
    daemon.open_gate()
    strip = desk.strips["plate"]
    assert strip.void.mask.name == "roto"
    desk.scene.sequence_editor.active_strip = strip
    assert bpy.ops.void_inpaint.reattach() == {"FINISHED"}
    now = desk.render(13)
    assert same_bits(now[outside(*NEAR)], before[outside(*NEAR)]) == 0
    assert same_bits(now, before) > 100
    desk.scene.sequence_editor.active_strip = desk.strips["plate"]
    assert "No job of 'plate' was left behind" in desk.refused("reattach")


def claim_blender_ending_the_operator_leaves_the_job_to_the_daemon(desk):
    daemon = desk.gated()
    strip = _masked(desk)
    pressed = desk.press().to("RUNNING")
    pressed.cls.cancel(pressed.operator, bpy.context)  # what Blender calls when it quits or opens a file
    assert not _running()
    assert daemon.states() == ["running"]
    assert pressed.removal.record.left_behind and strip.void.attempt
    # Taken up again, it can still be cancelled.
    again = desk.press("reattach").to("RUNNING")
    assert bpy.ops.void_inpaint.cancel() == {"FINISHED"}
    again.to_end()
    assert daemon.states() == ["cancelled"]


def claim_a_run_left_while_rendering_says_so_and_starts_afresh(desk):
    desk.gated()
    _masked(desk)
    desk.press().one_frame()
    desk.save()
    desk.reload()
    assert [m.name for m in bpy.data.masks] == ["roto"] and _no_stage_is_left()
    desk.scene.sequence_editor.active_strip = desk.strips["plate"]
    assert "Press Remove Object" in desk.refused("reattach")
    desk.use(desk.daemon)
    assert Path(desk.remove().void.folder).name == "v002"


def claim_a_result_survives_save_reload_and_moving_the_project(desk):
    _masked(desk)
    desk.remove()
    shown = desk.render(13)
    desk.save()
    desk.reload()
    assert same_bits(desk.render(13), shown) == 0
    assert desk.strips["plate clean v001"].directory.startswith("//void/plate/v001")
    moved = desk.folder.with_name(desk.folder.name + " moved")
    shutil.copytree(desk.folder, moved)
    shutil.rmtree(desk.folder / "void")
    bpy.ops.wm.open_mainfile(filepath=str(moved / desk.blend.name))
    assert same_bits(desk.render(13), shown) == 0


def claim_two_strips_run_side_by_side(desk):
    daemon = desk.gated()
    first, second = _masked(desk), _masked(desk, name="other", at=40)
    runs = []
    for strip in (first, second):
        desk.scene.sequence_editor.active_strip = strip
        runs.append(desk.press())
        assert "A run is under way" in desk.refused()
    for run in runs:
        run.until(lambda run=run: run.removal.record.files)
    daemon.open_gate()
    for run in runs:
        run.to_end()
        assert run.result == {"FINISHED"}, run.reports
    assert {s.name for s in desk.strips} == {"plate", "other", "plate clean v001", "other clean v001"}


def claim_a_second_run_sends_nothing_anew(desk):
    strip = _masked(desk)
    desk.remove()
    strip.void.seed = 5
    strip.void.prompt = "a wall"
    heard = []
    pressed = desk.press()
    pressed.removal.progress.hear = lambda *words: (heard.append(words), type(pressed.removal.progress).hear(
        pressed.removal.progress, *words))  # fmt: skip
    pressed.to_end()
    assert pressed.result == {"FINISHED"}, pressed.reports
    sending = [words for words in heard if words[0].name == "SENDING" and len(words) > 2]
    plate_bytes = sum(p.stat().st_size for p in Path(strip.void.folder).glob("clean.*"))
    assert not sending or sending[-1][3] - sending[0][2] < plate_bytes / 2


def claim_a_copied_strip_gets_a_run_of_its_own(desk):
    strip = _masked(desk)
    desk.remove()
    copy = desk.image_strip(name="copy", at=10, channel=7)
    copy.void.mark, copy.void.run, copy.void.mask = strip.void.mark, strip.void.run, strip.void.mask
    desk.remove()
    assert copy.void.mark != strip.void.mark
    assert not desk.strips["plate clean v001"].mute
    assert desk.strips["copy clean v001"].channel == 8
