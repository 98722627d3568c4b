"""Which file an editor's frame shows: trim, reverse, strobe, hold, retime, move; and back onto the timeline."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from desk import COUNT, GIVEN, V5, addon, outside, plate_of, raises, read, same_bits

BOX, NEAR = (34, 20, 62, 40), (30, 16, 66, 44)


def _seen(desk, strip):
    """Index of the source file that Blender renders, for each timeline frame; EXR shows unchanged in a linear space."""
    timeline = addon("timeline")
    desk.scene.sequencer_colorspace_settings.name = "Linear Rec.709"
    plates = [plate_of(i) for i in range(COUNT)]
    seen = {}
    for frame in range(timeline.left(strip), timeline.right(strip)):
        desk.forget()
        shown = desk.render(frame)
        alike = [i for i, plate in enumerate(plates) if same_bits(plate, shown) == 0]
        assert len(alike) == 1, frame
        seen[frame] = alike[0]
    return seen


def _sent(desk, strip):
    """Index of the source file that would be sent, or rendered, for each timeline frame."""
    strip.void.mask = bpy.data.masks.get("roto") or desk.box_mask(*BOX)
    plan = addon("sources").plan(desk.scene, strip)
    return {frame: int(Path(path).suffixes[0][1:]) - 1001 for frame, path in plan.files["plate"].items()}


def _retime(desk, strip, speed=50.0):
    context = bpy.context
    area = context.window.screen.areas[0]
    area.type = "SEQUENCE_EDITOR"
    strip.select = True
    with context.temp_override(area=area, region=area.regions[-1]):
        assert bpy.ops.sequencer.retiming_segment_speed_set(speed=speed) == {"FINISHED"}


def _retime_unevenly(desk, strip):
    _retime(desk, strip, 70.0)


def _trim(desk, strip):
    addon("timeline").set_handles(strip, 12, 16)


def _hold(desk, strip):
    addon("timeline").set_handles(strip, 7, 21)


def _reverse(desk, strip):
    strip.use_reverse_frames = True


def _strobe(desk, strip):
    strip.strobe = 3


def _trim_content(desk, strip):
    for name in ("animation_offset_start", "content_trim_start"):
        if hasattr(strip, name):
            setattr(strip, name, 2)


def _reverse_trim_move(desk, strip):
    strip.use_reverse_frames = True
    _trim(desk, strip)
    if hasattr(strip, "content_start"):
        strip.content_start = 30
    else:
        strip.frame_start = 30


def claim_every_timeline_frame_sends_the_file_that_blender_shows(desk):
    lengths = {}
    edits = (_trim, _hold, _reverse, _strobe, _trim_content, _retime, _retime_unevenly, _reverse_trim_move)
    for edit in edits:
        for old in list(desk.strips):
            desk.strips.remove(old)
        strip = desk.image_strip()
        edit(desk, strip)
        sent = _sent(desk, strip)
        seen = _seen(desk, strip)
        assert sent == seen, (edit.__name__, sent, seen)
        lengths[edit.__name__] = (len(sent), len(set(sent.values())))
    assert lengths["_trim"] == (4, 4)
    assert lengths["_hold"] == (14, 8)
    assert lengths["_strobe"][1] == 3
    assert lengths["_retime"][0] > 12
    assert lengths["_reverse_trim_move"] == (4, 4)


def claim_a_retimed_strip_gets_whole_frames_whatever_blender_shows_of_it(desk):
    """5.x shows a neighbour by what it showed before; a patch would leave the object's rim beside the hole."""
    strip = desk.image_strip()
    _retime(desk, strip, 70.0)
    sent = _sent(desk, strip)
    strip.void.output = "PATCH" if V5 else "FULL"
    desk.scene.sequencer_colorspace_settings.name = "Linear Rec.709"
    result = desk.remove()
    assert result.void.shows == "clean" and strip.mute and not result.mute
    for frame, index in sorted(sent.items(), reverse=True):
        shown = desk.render(frame)
        assert same_bits(shown[outside(*NEAR)], plate_of(index)[outside(*NEAR)]) == 0, frame
    if V5:
        assert "may show a neighbour" in " ".join(addon("results").Record.load(Path(result.void.folder)).warnings)


def claim_a_retimed_movie_is_rendered_from_an_empty_memory(desk):
    movie = _movie(desk)
    _retime(desk, movie, 70.0)
    movie.void.mask = desk.box_mask(*BOX)
    timeline = addon("timeline")
    plan = addon("sources").plan(desk.scene, movie)
    assert plan.output == ("FULL" if V5 else "PATCH")
    (rendering,) = [r for r in plan.renderings if r.role == "plate"]
    stage, series = rendering.stage(plan.scene, "", plan.first, plan.end), []
    for frames in (plan.frames, reversed(plan.frames)):
        seen = {}
        for frame in frames:
            stage.render(frame, desk.folder / "one.exr")
            light = read(desk.folder / "one.exr")
            seen[frame] = min(range(COUNT), key=lambda i: np.abs(light - np.clip(plate_of(i), 0, 1)).mean())
        series.append(seen)
    stage.close()
    assert series[0] == series[1]
    assert len(set(series[0].values())) == COUNT and timeline.right(movie) - timeline.left(movie) > 10


def claim_a_reversed_trimmed_held_strip_gets_its_result_frame_by_frame(desk):
    strip = desk.image_strip()
    strip.use_reverse_frames = True
    addon("timeline").set_handles(strip, 12, 21)
    strip.void.mask = desk.box_mask(*BOX)
    before = {frame: desk.render(frame) for frame in (12, 15, 20)}
    result = desk.remove()
    timeline = addon("timeline")
    assert (timeline.left(result), timeline.right(result)) == (12, 21)
    for frame, was in before.items():
        now = desk.render(frame)
        assert same_bits(now[outside(*NEAR)], was[outside(*NEAR)]) == 0, frame
        assert same_bits(now, was) > 100, frame


def claim_frames_before_zero_work_as_any_other(desk):
    strip = desk.image_strip(at=-20)
    strip.void.mask = desk.box_mask(*BOX)
    with raises("Blender renders no frame before 0"):
        addon("sources").plan(desk.scene, strip)
    desk.with_matte(strip)
    bpy.context.preferences.edit.use_negative_frames = True
    before = desk.render(-15)
    result = desk.remove()
    assert addon("timeline").left(result) == -20
    now, far = desk.render(-15), outside(50, 18, 76, 42)
    assert same_bits(now[far], before[far]) == 0
    assert same_bits(now, before) > 100


def _movie(desk):
    """The tiny shot as a lossless 8-bit movie, made by Blender."""
    strip = desk.image_strip()
    scene, path = desk.scene, desk.folder / "plate.mkv"
    image = scene.render.image_settings
    if "media_type" in image.bl_rna.properties:
        image.media_type = "VIDEO"
    image.file_format = "FFMPEG"
    scene.render.ffmpeg.format, scene.render.ffmpeg.codec = "MKV", "FFV1"
    scene.view_settings.view_transform = "Standard"
    scene.frame_start, scene.frame_end = 10, 17
    scene.render.filepath, scene.render.use_file_extension = str(path), False
    with bpy.context.temp_override(scene=scene):
        bpy.ops.render.render(animation=True)
    desk.strips.remove(strip)
    movie = desk.strips.new_movie("movie", str(path), channel=2, frame_start=10, fit_method="ORIGINAL")
    movie.void.physics_prior, movie.void.engine = False, "propagate"
    scene.sequence_editor.active_strip = movie
    return movie


def claim_a_movie_is_rendered_untransformed_and_patched(desk):
    movie = _movie(desk)
    desk.scene.render.resolution_x, desk.scene.render.resolution_y = 240, 160
    movie.transform.scale_x = movie.transform.scale_y = 2.5
    movie.transform.keyframe_insert("scale_x", frame=10)  # animated or not: what is sent has the movie's own size
    movie.void.mask = desk.box_mask(*BOX)
    desk.scene.sequencer_colorspace_settings.name = "Linear Rec.709"
    before = desk.render(13)
    result = desk.remove()
    clean = read(Path(movie.void.folder) / "clean.0013.exr")
    assert clean.shape == (64, 96, 4)
    light = np.clip(plate_of(3)[..., :3], 0, 1)
    assert np.median(np.abs(clean[..., :3] - light)[outside(*NEAR)]) < 5e-3
    assert result.void.shows == "patch"
    now, far = desk.render(13), outside(60, 28, 180, 120, 240, 160)
    assert np.allclose(now[far], before[far], rtol=1e-5, atol=1e-6), float(np.abs(now - before)[far].max())
    assert (np.abs(now - before) > 0.01).sum() > 500


def claim_a_scene_strip_is_rendered_at_its_scene_s_own_size(desk):
    nested = bpy.data.scenes.new("nested")
    nested.render.resolution_x, nested.render.resolution_y = 96, 64
    nested.sequencer_colorspace_settings.name = "Linear Rec.709"
    inner = nested.sequence_editor_create().strips.new_image(
        "inner", str(Path(GIVEN["shot"]) / "plate/plate.1001.exr"), channel=1, frame_start=1, fit_method="ORIGINAL"
    )
    for i in range(1, COUNT):
        inner.elements.append(f"plate.{1001 + i}.exr")
    nested.frame_start, nested.frame_end = 1, COUNT
    strip = desk.strips.new_scene("scene", nested, channel=2, frame_start=10)
    strip.scene_input = "SEQUENCER"
    strip.void.physics_prior, strip.void.engine = False, "propagate"
    strip.void.mask = desk.box_mask(*BOX)
    desk.scene.sequence_editor.active_strip = strip
    desk.remove()
    clean = read(Path(strip.void.folder) / "clean.0013.exr")
    light, far = plate_of(3), outside(*NEAR)
    assert same_bits(clean[far], light[far]) == 0, float(np.abs(clean - light)[far].max())


def claim_a_3d_scene_strip_is_rendered_with_its_light(desk):
    world = bpy.data.scenes.new("world")
    world.render.resolution_x, world.render.resolution_y, world.render.engine = 96, 64, "CYCLES"
    world.cycles.samples, world.cycles.device, world.cycles.use_denoising = 1, "CPU", False
    world.world = bpy.data.worlds.new("sky")
    world.world.use_nodes = True
    (sky,) = [n for n in world.world.node_tree.nodes if n.bl_idname == "ShaderNodeBackground"]
    sky.inputs["Color"].default_value, sky.inputs["Strength"].default_value = (1, 0.5, 0.25, 1), 8.0
    world.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    world.collection.objects.link(world.camera)
    world.frame_start, world.frame_end = 1, 2
    strip = desk.strips.new_scene("3d", world, channel=2, frame_start=10)
    strip.void.physics_prior, strip.void.engine = False, "propagate"
    strip.void.mask = desk.box_mask(*BOX)
    desk.scene.sequence_editor.active_strip = strip
    desk.remove()
    clean = read(Path(strip.void.folder) / "clean.0011.exr")
    light = clean[outside(*NEAR)][:, :3]
    assert np.allclose(light, (8, 4, 2), rtol=1e-3), (light.min(0), light.max(0), clean[30, 45])


def claim_a_result_follows_a_strip_that_was_moved_renamed_and_trimmed_meanwhile(desk):
    daemon = desk.gated()
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(*BOX)
    pressed = desk.press().to("RUNNING")
    if hasattr(strip, "content_start"):
        strip.content_start += 100
    else:
        strip.frame_start += 100
    strip.name, strip.channel = "renamed", 5
    addon("timeline").set_handles(strip, 112, 116)
    daemon.open_gate()
    pressed.to_end()
    assert pressed.result == {"FINISHED"}, pressed.reports
    timeline = addon("timeline")
    (result,) = timeline.results_of(desk.scene, strip.void.mark)
    assert (timeline.left(result), timeline.right(result), result.channel) == (112, 116, 6)
    strip.mute, result.mute = False, True
    before = desk.render(113)
    strip.mute, result.mute = True, False
    now = desk.render(113)
    assert same_bits(now[outside(*NEAR)], before[outside(*NEAR)]) == 0
    assert same_bits(now, before) > 100


def claim_a_strip_deleted_meanwhile_leaves_its_frames_and_says_where(desk):
    daemon = desk.gated()
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(*BOX)
    pressed = desk.press().to("RUNNING")
    desk.strips.remove(strip)
    daemon.open_gate()
    pressed.to_end()
    assert pressed.result == {"CANCELLED"}
    assert "no longer there; the frames are in" in pressed.reports[-1][1]
    assert (pressed.removal.record.folder / "clean.0010.exr").is_file()


def claim_strips_that_hold_no_picture_are_refused_with_the_remedy(desk):
    strip = desk.image_strip()
    sources = addon("sources")
    meta = desk.strips.new_meta("meta", channel=6, frame_start=10)
    strip.void.mask = desk.box_mask(*BOX)
    with raises("Select an image, movie or scene strip"):
        sources.plan(desk.scene, meta)
    desk.scene.render.use_multiview = strip.use_multiview = True
    with raises("stereo strip. Switch off"):
        sources.plan(desk.scene, strip)
    strip.use_multiview = False
    strip.move_to_meta(meta)
    with raises("inside a meta strip. Move it out"):
        sources.plan(desk.scene, meta.strips["plate"])
