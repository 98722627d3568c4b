"""A strip in company: effects and transitions made from it, titles over it, its proxies, a scene for two eyes."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from claims_timeline import _movie
from desk import COUNT, V5, addon, outside, plate_of, raises, read, same_bits

BOX, NEAR = (34, 20, 62, 40), (30, 16, 66, 44)


def _masked(desk, **more):
    strip = desk.image_strip(**more)
    strip.void.mask = bpy.data.masks.get("roto") or desk.box_mask(*BOX)
    return strip


def _effect(desk, kind, channel, *inputs, at=10, count=COUNT):
    """An effect strip; Blender takes handles of one with inputs from those."""
    length = {"length": count} if V5 else {"frame_end": at + count}
    given = dict(zip(("input1", "input2"), inputs))
    return desk.strips.new_effect(name=kind.lower(), type=kind, channel=channel, frame_start=at, **length, **given)


def _linear(desk):
    desk.scene.sequencer_colorspace_settings.name = "Linear Rec.709"


def claim_an_effect_over_the_plate_shows_the_clean_strip_and_by_turns_the_original(desk):
    _linear(desk)
    strip = _masked(desk)
    blur = _effect(desk, "GAUSSIAN_BLUR", 3, strip)
    blur.size_x = blur.size_y = 0
    blur.use_flip_x = True  # what can be told from the plate to the bit
    before = desk.render(13)
    assert same_bits(before, plate_of(3)[:, ::-1]) == 0
    desk.scene.sequence_editor.active_strip = blur  # an editor clicks what lies on top
    result = desk.remove()
    assert result.void.shows == "clean" and strip.mute and blur.input_1 == result and blur.channel > result.channel
    clean, now = read(Path(strip.void.folder) / "clean.0013.exr"), desk.render(13)
    assert same_bits(now, clean[:, ::-1]) == 0 and same_bits(clean, plate_of(3)) > 100
    desk.scene.sequence_editor.active_strip = blur
    assert bpy.ops.void_inpaint.toggle() == {"FINISHED"}
    assert blur.input_1 == strip and same_bits(desk.render(13), before) == 0
    assert bpy.ops.void_inpaint.toggle() == {"FINISHED"}
    assert blur.input_1 == result and same_bits(desk.render(13), now) == 0
    again = desk.remove()
    assert again.void.version == 2 and blur.input_1 == again and blur.channel > again.channel


def claim_effects_over_effects_stay_in_their_order(desk):
    _linear(desk)
    strip = _masked(desk)
    first = _effect(desk, "GAUSSIAN_BLUR", 3, strip)
    second = _effect(desk, "GAUSSIAN_BLUR", 4, first)
    for blur in (first, second):
        blur.size_x = blur.size_y = 0
    second.use_flip_y = True
    desk.scene.sequence_editor.active_strip = second
    result = desk.remove()
    assert first.input_1 == result and second.input_1 == first
    assert result.channel < first.channel < second.channel
    clean = read(Path(strip.void.folder) / "clean.0013.exr")
    assert same_bits(desk.render(13), clean[::-1]) == 0


def claim_a_cross_fade_goes_on_with_the_clean_strip(desk):
    _linear(desk)
    strip = _masked(desk)
    other = desk.image_strip(name="other", at=14, channel=3)
    cross = _effect(desk, "CROSS", 4, strip, other, at=14, count=4)
    before = {frame: desk.render(frame) for frame in (12, 15, 20)}
    desk.scene.sequence_editor.active_strip = strip
    result = desk.remove()
    assert (cross.input_1, cross.input_2) == (result, other) and cross.channel > result.channel
    now = {frame: desk.render(frame) for frame in before}
    far = outside(*NEAR)
    assert same_bits(now[20], before[20]) == 0, "after the fade nothing is another"
    for frame in (12, 15):
        assert same_bits(now[frame][far], before[frame][far]) == 0 and same_bits(now[frame], before[frame]) > 100
    desk.scene.sequence_editor.active_strip = cross
    assert "Select an image, movie or scene strip" in desk.refused()
    with raises("Select 'plate clean v001' or 'other'."):
        addon("sources").plan(desk.scene, cross)


def claim_a_movie_under_an_effect_gets_whole_frames_and_a_part_of_it_is_refused(desk):
    movie = _movie(desk)
    movie.void.mask = desk.box_mask(*BOX)
    plan = addon("sources").plan
    assert plan(desk.scene, movie).output == "PATCH"
    _effect(desk, "GLOW", 3, movie)
    assert plan(desk.scene, movie).output == "FULL" and not plan(desk.scene, movie).notes
    movie.void.output = "PATCH"
    (note,) = plan(desk.scene, movie).notes
    assert "'glow' takes one strip" in note
    movie.void.only_preview_range = desk.scene.use_preview_range = True
    desk.scene.frame_preview_start, desk.scene.frame_preview_end = 12, 14
    with raises("'glow' shows it whole. Switch Preview Range Only off."):
        plan(desk.scene, movie)


def claim_a_title_or_a_grade_that_the_clean_strip_hides_is_named(desk):
    strip = _masked(desk)
    _effect(desk, "TEXT", 3)
    _effect(desk, "ADJUSTMENT", 4)
    _effect(desk, "TEXT", 5, at=200).name = "elsewhere"
    desk.scene.sequence_editor.active_strip = strip
    result = desk.remove()
    said = " ".join(addon("results").Record.load(Path(result.void.folder)).warnings)
    assert "lies over 'text', 'adjustment'. Move what it hides to a channel above it." in said, said
    desk.strips["text"].channel, desk.strips["adjustment"].channel = 20, 21
    desk.scene.sequence_editor.active_strip = strip
    again = desk.remove()
    assert "lies over" not in " ".join(addon("results").Record.load(Path(again.void.folder)).warnings)


def claim_proxies_are_neither_sent_nor_rendered(desk):
    movie, area = _movie(desk), bpy.context.window.screen.areas[0]
    area.type = "SEQUENCE_EDITOR"
    for strip in (movie, _masked(desk, channel=4)):
        for other in desk.strips:
            other.select = other == strip
        desk.scene.sequence_editor.active_strip = strip
        strip.use_proxy = True
        strip.proxy.build_25, strip.proxy.quality = True, 50
        strip.proxy.use_proxy_custom_directory = True
        strip.proxy.directory = str(desk.folder / f"proxies {strip.name}")
        with bpy.context.temp_override(area=area, region=area.regions[-1]):
            assert bpy.ops.sequencer.rebuild_proxy() == {"FINISHED"}
        assert [p for p in (desk.folder / f"proxies {strip.name}").rglob("*") if p.is_file()], "no proxy was built"
        strip.void.mask = bpy.data.masks.get("roto") or desk.box_mask(*BOX)
        desk.remove()
        clean, light = read(Path(strip.void.folder) / "clean.0013.exr"), plate_of(3)
        far = outside(*NEAR)
        assert clean.shape == light.shape
        if strip == movie:
            assert np.median(np.abs(clean - np.clip(light, 0, 1))[far][:, :3]) < 5e-3
        else:
            assert same_bits(clean[far], light[far]) == 0


def claim_a_scene_for_two_eyes_takes_flat_strips_and_says_why_no_stereo_one(desk):
    movie, strip = _movie(desk), _masked(desk, channel=4)
    desk.scene.render.use_multiview = True
    desk.scene.render.views_format = "STEREO_3D"
    result = desk.remove()
    far, clean = outside(*NEAR), read(Path(result.void.folder) / "clean.0013.exr")
    assert same_bits(clean[far], plate_of(3)[far]) == 0 and not result.use_multiview
    movie.void.mask, desk.scene.sequence_editor.active_strip = strip.void.mask, movie
    desk.remove()
    assert (Path(movie.void.folder) / "clean.0013.exr").is_file()
    strip.use_multiview = True
    desk.scene.sequence_editor.active_strip = strip
    said = desk.refused()
    assert "stereo strip. Switch off its Use Multi-View" in said and said.count("\n") <= 1, said
    desk.scene.render.use_multiview = False
    assert desk.remove().void.version == 2, "a scene for one eye shows it flat"
