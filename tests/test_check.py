"""Everything wrong with a shot is said in one message, before any work starts."""

from __future__ import annotations

import dataclasses
import shlex

import numpy as np
import OpenEXR
import pytest

from tests import tiny_shot
from void_server.shot import check
from void_server.wire.errors import ColourError, MatteError, PlateError, RequestError, SequenceError, SettingsError
from void_server.wire.shot import FrameRange, ShotSettings, Window


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path)


def checked(shot, **settings):
    return check.check_shot(check.find_files(shot.plate, shot.matte), ShotSettings(**settings))


def test_a_sound_shot_passes_with_what_was_assumed_named(shot):
    result = checked(shot)
    assert result.frames == result.wanted == tuple(tiny_shot.FRAMES)
    assert result.canvas == Window(0, 0, 96, 64)
    assert [code for code, _ in result.warnings] == ["colour-assumed"]


def test_every_problem_is_listed_at_once(shot):
    (shot.folder / "plate/plate.1003.exr").unlink()
    (shot.folder / "matte/matte.1005.exr").unlink()
    (shot.folder / "plate/plate.1006.exr").write_bytes(b"not an EXR")
    tiny_shot.write_exr(shot.folder / "plate/plate.1007.exr", tiny_shot.rgb(np.zeros((32, 96, 3), np.float16)))
    with pytest.raises(RequestError) as caught:
        checked(shot, frames=FrameRange(1001, 1020))
    for place in ("1001-1020", "1003", "1005", "plate.1006.exr", "1007 is 96x32"):
        assert place in caught.value.message
    assert caught.value.hint


def test_both_missing_sequences_are_named(tmp_path):
    with pytest.raises(SequenceError) as caught:
        check.find_files(str(tmp_path / "plate.####.exr"), str(tmp_path / "nowhere" / "matte.####.exr"))
    assert "plate" in caught.value.message
    assert "nowhere" in caught.value.message


def test_mixed_padding_is_named(shot):
    (shot.folder / "plate/plate.01009.exr").touch()
    with pytest.raises(SequenceError, match=r"plate.01009.exr"):
        checked(shot)


@pytest.mark.parametrize("missing, wanted", [("hold", 8), ("skip", 7)])
def test_a_missing_plate_frame_is_held_or_skipped_only_when_asked(shot, missing, wanted):
    (shot.folder / "plate/plate.1003.exr").unlink()
    with pytest.raises(SequenceError, match="1003"):
        checked(shot)
    result = checked(shot, missing=missing)
    assert len(result.wanted) == wanted
    if missing == "hold":
        assert result.plates[1003].path.name == "plate.1002.exr"
    assert "missing-frames" in [code for code, _ in result.warnings]


@pytest.mark.parametrize("missing, there", [("hold", True), ("skip", False)])
def test_a_missing_matte_frame_is_held_or_counts_as_empty_only_when_asked(shot, missing, there):
    (shot.folder / "matte/matte.1003.exr").unlink()
    with pytest.raises(MatteError, match="1003"):
        checked(shot)
    assert (1003 in checked(shot, missing=missing).mattes["matte"]) is there


def test_frames_are_matched_by_number_never_by_position(tmp_path):
    shot = tiny_shot.write(tmp_path)
    for frame in reversed(tiny_shot.FRAMES):
        path = shot.folder / f"matte/matte.{frame}.exr"
        path.rename(shot.folder / f"matte/matte.{frame + 100}.exr")
    with pytest.raises(MatteError, match="1101-1108"):
        checked(shot)


def test_handles_are_read_and_not_delivered(shot):
    result = checked(shot, frames=FrameRange(1003, 1004), handles=1)
    assert result.wanted == (1003, 1004)
    assert result.frames == (1002, 1003, 1004, 1005)
    assert checked(shot, frames=FrameRange(1003, 1004)).frames == tuple(tiny_shot.FRAMES)


def test_mattes_on_other_windows_are_matched_in_display_coordinates(tmp_path):
    shot = tiny_shot.write(tmp_path)
    for frame in tiny_shot.FRAMES:
        matte = np.ones((10, 20), np.float16)
        tiny_shot.write_exr(
            shot.folder / f"matte/matte.{frame}.exr", {"A": matte},
            dataWindow=tiny_shot.window(30, 20, 50, 30), displayWindow=tiny_shot.window(0, 0, 48, 32),
        )  # fmt: skip
    warnings = dict(checked(shot).warnings)
    assert "48x32" in warnings["matte-format"]


def test_a_matte_that_never_meets_the_plate_is_refused(tmp_path):
    shot = tiny_shot.write(tmp_path)
    for frame in tiny_shot.FRAMES:
        tiny_shot.write_exr(
            shot.folder / f"matte/matte.{frame}.exr", {"A": np.ones((10, 20), np.float16)},
            dataWindow=tiny_shot.window(300, 20, 320, 30), displayWindow=tiny_shot.window(0, 0, 96, 64),
        )  # fmt: skip
    with pytest.raises(MatteError, match="never meets"):
        checked(shot)


def test_a_pixel_aspect_that_changes_is_named(shot):
    light = tiny_shot.wall()
    tiny_shot.write_exr(shot.folder / "plate/plate.1004.exr", tiny_shot.rgb(light), pixelAspectRatio=2.0)
    with pytest.raises(SequenceError, match="1004 has pixel aspect 2"):
        checked(shot)


def test_colour_tags_are_read_and_unknown_names_refused(shot):
    ap1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
    for frame in tiny_shot.FRAMES:
        tiny_shot.write_exr(
            shot.folder / f"plate/plate.{frame}.exr", tiny_shot.rgb(tiny_shot.wall()), chromaticities=ap1
        )
    assert checked(shot).space.name == "lin_ap1"


def test_an_output_that_would_land_on_an_input_is_refused(tmp_path):
    shot = tiny_shot.write(tmp_path)
    for frame in tiny_shot.FRAMES:
        (shot.folder / f"plate/plate.{frame}.exr").rename(shot.folder / f"plate/clean.{frame}.exr")
    files = check.find_files(str(shot.folder / "plate/clean.####.exr"), shot.matte)
    with pytest.raises(SettingsError, match="one of the inputs"):
        check.check_output(shot.folder / "plate", files)


def test_a_plate_that_can_not_be_handled_is_refused_by_name(shot):
    path = shot.folder / "plate/plate.1002.exr"
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Z": np.zeros((64, 96), np.float32)}).write(str(path))
    with pytest.raises(PlateError) as caught:
        checked(shot)
    assert "plate.1002.exr" in caught.value.message
    assert caught.value.hint


def test_checked_shots_are_values(shot):
    with pytest.raises(dataclasses.FrozenInstanceError):
        checked(shot).frames = ()


def rewrite(shot, frames, **header):
    for frame in frames:
        path = shot.folder / f"plate/plate.{frame}.exr"
        tiny_shot.write_exr(path, tiny_shot.rgb(tiny_shot.read_rgb(path)), **header)


AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)


def test_colour_tags_that_change_within_a_shot_are_named_and_settled_by_a_flag(shot):
    rewrite(shot, range(1005, 1009), chromaticities=AP1)
    with pytest.raises(ColourError) as caught:
        checked(shot)
    assert "frames 1005-1008 are tagged acescg" in caught.value.message
    assert "frames 1001-1004 are without colour tags" in caught.value.message
    assert "--colorspace" in caught.value.hint
    assert checked(shot, colorspace="acescg").space.chromaticities == AP1


def test_the_same_space_under_two_kinds_of_tags_is_one(shot):
    rewrite(shot, range(1001, 1005), chromaticities=AP1)
    rewrite(shot, range(1005, 1009), colorInteropID="lin_ap1_scene")
    assert checked(shot).space.name == "lin_ap1"


def test_a_reference_in_another_space_is_named(shot):
    rewrite(shot, tiny_shot.FRAMES, chromaticities=AP1)
    files = check.find_files(shot.plate, shot.matte)
    painted = shot.folder / "painted.1003.exr"
    rec709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
    tiny_shot.write_exr(painted, tiny_shot.rgb(tiny_shot.wall()), chromaticities=rec709)
    files = dataclasses.replace(files, reference={1003: painted})
    with pytest.raises(ColourError, match="Reference frame 1003 is tagged lin_rec709; the plate is tagged acescg"):
        check.check_shot(files, ShotSettings())


def test_the_few_are_blamed_and_not_the_many_whichever_come_first(shot):
    small = tiny_shot.rgb(np.zeros((32, 96, 3), np.float16))
    for frame in (1001, 1002):
        tiny_shot.write_exr(shot.folder / f"plate/plate.{frame}.exr", small)
    with pytest.raises(SequenceError) as caught:
        checked(shot)
    assert caught.value.message == "Plate frames 1001-1002 are 96x32 at 0,0; frames 1003-1008 are 96x64 at 0,0."


def test_a_matte_that_changes_its_channel_is_named(shot):
    tiny_shot.write_exr(shot.folder / "matte/matte.1004.exr", tiny_shot.rgb(tiny_shot.wall()))
    with pytest.raises(MatteError) as caught:
        checked(shot)
    assert "frame 1004 has its mask in channel R; frames 1001-1003, 1005-1008 have" in caught.value.message


def test_what_is_wrong_with_every_frame_is_said_once(shot):
    for frame in tiny_shot.FRAMES:
        tiny_shot.write_exr(shot.folder / f"plate/plate.{frame}.exr", {"Z": np.zeros((64, 96), np.float32)})
    with pytest.raises(PlateError) as caught:
        checked(shot)
    assert caught.value.message.count("no red, green and blue") == 1
    assert "frames 1001-1008" in caught.value.message


def test_every_remedy_is_given_once(shot):
    (shot.folder / "plate/plate.1006.exr").write_bytes(b"")
    rewrite(shot, [1003], pixelAspectRatio=2.0)
    (shot.folder / "matte/matte.1005.exr").unlink()
    with pytest.raises(RequestError) as caught:
        checked(shot)
    said = f"{caught.value.message} {caught.value.hint}"
    for remedy in ("choose --missing hold or skip", "was the disk full?", "split the shot"):
        assert said.count(remedy) == 1


def test_several_sequences_in_a_folder_come_with_a_command_each(shot):
    for frame in tiny_shot.FRAMES:
        path = shot.folder / f"plate/plate.{frame}.exr"
        (shot.folder / f"plate/my depth.{frame}.exr").write_bytes(path.read_bytes())
    with pytest.raises(SequenceError) as caught:
        check.find_files(str(shot.folder / "plate"), shot.matte)
    commands = caught.value.hint.splitlines()[1:]
    assert len(commands) == 2
    for command in commands:
        plate, flag, matte = shlex.split(command)[2:5]
        assert flag == "--matte"
        assert len(check.find_files(plate, matte).plate) == 8


@pytest.mark.parametrize("name", ["roto.exr", "roto.0999.exr", "roto_0999.exr"])
def test_one_matte_is_never_advised_to_be_laid_over_a_shot(shot, name):
    one = shot.folder / "one" / name
    one.parent.mkdir()
    one.write_bytes((shot.folder / "matte/matte.1001.exr").read_bytes())
    files = check.find_files(shot.plate, str(one))
    with pytest.raises(MatteError) as caught:
        check.check_shot(files, ShotSettings())
    assert f"is one picture, {name}" in caught.value.message
    assert "hold" not in f"{caught.value.message}{caught.value.hint}"
    held = check.check_shot(files, ShotSettings(missing="hold"))
    assert "repeat the frame before" in dict(held.warnings)["matte-held"]


def test_pictures_too_small_to_follow_are_refused(tmp_path):
    for frame in (1001, 1002):
        tiny_shot.write_exr(tmp_path / f"plate/p.{frame}.exr", tiny_shot.rgb(np.zeros((11, 11, 3), np.float16)))
        tiny_shot.write_exr(tmp_path / f"matte/m.{frame}.exr", {"A": np.ones((11, 11), np.float16)})
    files = check.find_files(str(tmp_path / "plate"), str(tmp_path / "matte"))
    with pytest.raises(PlateError, match="11x11"):
        check.check_shot(files, ShotSettings())
