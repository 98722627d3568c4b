"""The daemon on this machine: found or pointed at, started, stopped, never installed."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import bpy
from claims_words import Layout
from desk import GIVEN, addon


def _asked():
    return bpy.context.preferences.addons[addon().__name__].preferences


def _free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def _program(desk, words='exec "$PYTHON" -m void_server.cli "$@" $MORE'):
    """`void-server` as a program of its own, with its data in the claim's folder."""
    path = desk.folder / "void-server"
    head = f"#!/bin/sh\nPYTHON={GIVEN['python']}\nexport PYTHONPATH={GIVEN['root']}\nexport CUDA_VISIBLE_DEVICES=\n"
    more = f'[ "$1" = serve ] && MORE="--data {desk.folder}/data"\n'
    path.write_text(f"{head}{more}{words}\n")
    path.chmod(0o755)
    _asked().program, _asked().server = str(path), _free_address()
    return path


def _until(happens, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < deadline, addon("local_daemon").log_tail(addon("preferences").own_folder(), 20)
        time.sleep(0.05)


def _answers():
    try:
        return bpy.ops.void_inpaint.ping() == {"FINISHED"}
    except RuntimeError:
        return False


def claim_the_daemon_is_started_and_stopped_and_tells_its_log(desk):
    local, folder = addon("local_daemon"), addon("preferences").own_folder()
    _program(desk)
    assert local.started(folder) is None and not bpy.ops.void_inpaint.stop_daemon.poll()
    try:
        assert bpy.ops.void_inpaint.start_daemon() == {"FINISHED"}
        made = local.started(folder)
        assert made.address == _asked().server
        own, its = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, made.pid))
        assert its > own or its == 19, "the window comes first"
        assert local.start(made.program, made.address, folder) == made, "one is enough"
        _until(_answers)
        assert local.log_tail(folder)
        local._own.clear()  # as after Blender was started anew
        assert local.started(folder) == made
    finally:
        assert bpy.ops.void_inpaint.stop_daemon() == {"FINISHED"}
    assert local.started(folder) is None and not _answers()
    assert not local.stop(folder)


def claim_a_press_starts_the_daemon_where_nobody_answers(desk):
    _program(desk)
    _asked().start_daemon = True
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    try:
        assert desk.remove().void.shows == "clean"
    finally:
        addon("local_daemon").stop(addon("preferences").own_folder())


def claim_a_daemon_that_does_not_start_is_said_and_never_hangs(desk):
    _program(desk, words="echo no such luck; exit 3")
    _asked().start_daemon = True
    work = addon("work")
    patience, work.START_S = work.START_S, 1.0
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(34, 20, 62, 40)
    try:
        assert _asked().server in desk.refused()
    finally:
        work.START_S = patience
    assert addon("local_daemon").log_tail(addon("preferences").own_folder())[-1] == "no such luck"


def claim_the_doctor_is_asked_and_his_findings_are_drawn(desk):
    _program(desk)
    assert bpy.ops.void_inpaint.doctor() == {"FINISHED"}
    findings = addon("preferences").findings
    assert {"void-server", "engine propagate", "disk"} <= {f["what"] for f in findings}
    layout = Layout()
    addon("preferences")._draw_findings(layout)
    assert any(text.startswith("engine void: ") for text in layout.drawn)
    _program(desk, words="echo broken; exit 1")
    assert "void-server doctor failed: broken" in desk.refused("doctor")


def claim_without_the_program_its_installation_is_explained_and_nothing_is_installed(desk):
    local = addon("local_daemon")
    path, os.environ["PATH"] = os.environ["PATH"], str(desk.folder)
    home, os.environ["HOME"] = os.environ.get("HOME", ""), str(desk.folder)
    try:
        assert local.find_program() == ""
        assert "was not found" in desk.refused("start_daemon")
        (desk.folder / "void-server").write_text("#!/bin/sh\n")
        assert local.find_program() == "", "it can't be run"
        (desk.folder / "void-server").chmod(0o755)
        assert Path(local.find_program()) == desk.folder / "void-server"
        assert local.find_program(str(desk.folder / "nowhere")) == "", "what is pointed at is taken, or nothing"
    finally:
        os.environ["PATH"], os.environ["HOME"] = path, home
    assert bpy.ops.void_inpaint.copy_install() == {"FINISHED"}


def claim_a_shot_is_opened_with_the_matte_that_lies_beside_it(desk):
    for strip in list(desk.strips):
        desk.strips.remove(strip)
    plate = Path(GIVEN["shot"]) / "plate/plate.1003.exr"
    desk.scene.frame_set(5)
    assert bpy.ops.void_inpaint.open_shot(filepath=str(plate)) == {"FINISHED"}
    source = desk.scene.sequence_editor.active_strip
    matte = desk.strips[source.void.matte_strip]
    timeline = addon("timeline")
    assert [len(s.elements) for s in (source, matte)] == [8, 8]
    assert (timeline.left(source), timeline.left(matte)) == (5, 5) and matte.mute and not source.mute
    assert (desk.scene.frame_start, desk.scene.frame_end) == (5, 12)
    assert (desk.scene.render.resolution_x, desk.scene.render.resolution_y) == (96, 64)
    source.void.engine, source.void.physics_prior = "propagate", False
    assert desk.remove().void.shows == "clean"
    assert "Pick one file of an image sequence" in _refused_shot(desk.folder / "nothing.exr")


def _refused_shot(path):
    try:
        bpy.ops.void_inpaint.open_shot(filepath=str(path))
    except RuntimeError as error:
        return str(error)
    return ""


def claim_a_mask_is_drawn_over_a_clip_in_time_with_the_strip(desk):
    strip = desk.image_strip(at=20)
    assert bpy.ops.void_inpaint.draw_mask() == {"FINISHED"}
    (clip,) = bpy.data.movieclips
    assert clip.frame_start == 20 and tuple(clip.size) == (96, 64)
    assert strip.void.mask is not None and strip.void.matte_source == "MASK"
    mask = strip.void.mask
    assert bpy.ops.void_inpaint.draw_mask() == {"FINISHED"} and strip.void.mask == mask, "drawn on, not begun anew"


def claim_a_chosen_matte_strip_is_muted(desk):
    strip = desk.image_strip()
    matte = desk.image_strip(role="matte", channel=3)
    assert not matte.mute
    strip.void.matte_strip = matte.name
    assert matte.mute
