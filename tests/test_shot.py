"""The words of a shot check themselves, and survive a message."""

from __future__ import annotations

import pytest

from void_server.wire.errors import SettingsError
from void_server.wire.shot import FrameRange, ShotSettings, Window


@pytest.mark.parametrize("text", ["", "1001-", "a-b", "1001-1010x2", "1001,1005", "1010-1001"])
def test_what_is_not_one_run_of_frames_is_refused(text):
    with pytest.raises(SettingsError) as caught:
        FrameRange.parse(text)
    assert caught.value.hint


def test_negative_frames_are_frames():
    assert list(FrameRange.parse("-2-1")) == [-2, -1, 0, 1]


def test_windows_that_share_nothing_intersect_in_an_empty_one():
    assert Window(0, 0, 4, 4).intersect(Window(9, 9, 12, 12)).empty
    assert Window(0, 0, 4, 4).union(Window(9, 9, 9, 9)) == Window(0, 0, 4, 4)


def test_settings_survive_a_message():
    settings = ShotSettings(frames=FrameRange(1001, 1010), prompt="a table", options={"steps": 30}, handles=4)
    assert ShotSettings.from_wire(settings.to_wire()) == settings


def test_settings_from_a_newer_end_are_read_without_what_we_do_not_know():
    assert ShotSettings.from_wire({"seed": 3, "hologram": True}) == ShotSettings(seed=3)


def test_a_client_that_does_not_know_of_suspected_effects_gets_those_that_are_sure():
    fields = ShotSettings().to_wire()
    del fields["effects"]
    assert ShotSettings.from_wire(fields).effects == "sure"
    assert ShotSettings.from_wire({"effects": "bold"}).effects == "bold"
    del fields["quality"]
    assert ShotSettings.from_wire(fields).quality == "release"
    with pytest.raises(SettingsError, match="quality='best' is unknown"):
        ShotSettings(quality="best")
    with pytest.raises(SettingsError, match="effects='wild'"):
        ShotSettings(effects="wild")


@pytest.mark.parametrize(
    "fields",
    [{"seed": "3"}, {"seed": True}, {"physics_prior": 1}, {"handles": 1.5}, {"options": []}, {"missing": "guess"},
     {"grow_px": -1}, {"seed": -1}, {"frames": "all"}, {"handles": -2}],
)  # fmt: skip
def test_settings_of_the_wrong_kind_are_refused_by_name(fields):
    with pytest.raises(SettingsError) as caught:
        ShotSettings.from_wire(fields)
    assert next(iter(fields)) in caught.value.message or "frame range" in caught.value.message
