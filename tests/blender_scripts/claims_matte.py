"""Mattes come out as they were drawn: linear, complete, on the right frame."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import OpenEXR
from desk import HEIGHT, WIDTH, addon, raises, read


def _mattes(desk, strip, frames):
    """float32 [H, W] of the matte that would be sent, by frame."""
    made, plan = {}, addon("sources").plan(desk.scene, strip)
    (rendering,) = [r for r in plan.renderings if r.role == "matte"]
    stage = rendering.stage(desk.scene.name, "", plan.first, plan.end)
    for frame in frames:
        path = desk.folder / f"matte.{frame:04d}.exr"
        addon("removal")._render(stage, rendering, frame, path, None)
        made[frame] = read(path)[..., 3]
    stage.close()
    return made


def _covers(matte, x0, y0, x1, y1):
    """Whether a matte is 1 inside a box, 0 outside, but for its antialiased edge, which 4.5 draws wide."""
    inside = np.zeros(matte.shape, bool)
    inside[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = True
    beyond = np.ones(matte.shape, bool)
    beyond[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2] = False
    return bool((matte[inside] == 1).all() and (matte[beyond] == 0).all())


def claim_a_mask_lies_where_it_was_drawn_and_its_last_pixel_is_sound(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(30, 12, 60, 40)
    for frame, matte in _mattes(desk, strip, range(10, 18)).items():
        assert matte.shape == (HEIGHT, WIDTH)
        assert _covers(matte, 30, 12, 60, 40), frame
        assert matte[0, -1] == 0, "the pixel that Blender before 5.2 leaves uninitialised"
    strip.void.invert = True
    assert _mattes(desk, strip, [12])[12][0, -1] == 1


def claim_a_half_transparent_mask_is_half(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(30, 12, 60, 40)
    strip.void.mask.layers[0].alpha = 0.5
    assert abs(_mattes(desk, strip, [10])[10][25, 45] - 0.5) < 1e-3


def _moved(mask, frame, dx):
    """Key a mask's shape at a frame, moved by pixels; Blender has no other way than the Mask editor's own operator."""
    area = bpy.context.window.screen.areas[0]
    area.type = "IMAGE_EDITOR"
    area.spaces.active.mode = "MASK"
    area.spaces.active.mask = mask
    bpy.context.scene.frame_set(frame)
    for point in mask.layers[0].splines[0].points:
        point.select = True
        for name in ("co", "handle_left", "handle_right"):
            place = getattr(point, name)
            setattr(point, name, (place[0] + dx / WIDTH, place[1]))
    with bpy.context.temp_override(area=area, region=area.regions[-1]):
        assert bpy.ops.mask.shape_key_insert() == {"FINISHED"}


def claim_an_animated_mask_is_in_time_with_the_timeline(desk):
    strip = desk.image_strip(at=50)
    mask = desk.box_mask(10, 12, 30, 40)
    mask.layers[0].select = True
    mask.layers.active = mask.layers[0]
    for frame, dx in ((50, 0), (57, 42)):
        _moved(mask, frame, dx)
    mask.frame_start, mask.frame_end = 1, 20  # the mask's own range does not matter; timeline time does
    strip.void.mask = mask
    middles = {}
    for frame, matte in _mattes(desk, strip, range(50, 58)).items():
        columns = np.flatnonzero(matte[25] > 0.5)
        middles[frame] = (columns.min() + columns.max() + 1) / 2
    assert abs(middles[50] - 20) <= 1 and abs(middles[57] - 62) <= 1
    steps = np.diff([middles[f] for f in sorted(middles)])
    assert (steps >= 0).all() and steps.max() < 15


def claim_a_mask_that_follows_a_track_is_sent_where_the_track_goes(desk):
    """By Blender's own Make Parent; what its tracker would find is set by hand."""
    strip = desk.image_strip(at=50)
    assert bpy.ops.void_inpaint.draw_mask() == {"FINISHED"}
    (clip,) = bpy.data.movieclips
    track = clip.tracking.objects[0].tracks.new(name="corner", frame=1)
    for index in range(8):  # in frames of the clip, which begin at 1
        track.markers.insert_frame(1 + index, co=(0.2 + 6 * index / WIDTH, 0.5))
    bpy.data.masks.remove(strip.void.mask)
    strip.void.mask = desk.box_mask(10, 12, 30, 40)
    area = bpy.context.window.screen.areas[0]
    area.type = "CLIP_EDITOR"
    space = area.spaces.active
    space.clip, space.mode, space.mask = clip, "MASK", strip.void.mask
    clip.tracking.objects[0].tracks.active, track.select = track, True
    for point in strip.void.mask.layers[0].splines[0].points:
        point.select = True
    desk.scene.frame_set(50)
    with bpy.context.temp_override(area=area, region=area.regions[-1]):
        assert bpy.ops.mask.parent_set() == {"FINISHED"}
    for frame, matte in _mattes(desk, strip, (50, 54, 57)).items():
        dx = 6 * (frame - 50)
        assert _covers(matte, 10 + dx, 12, 30 + dx, 40), (frame, np.flatnonzero(matte[25] > 0.5)[[0, -1]])


def _png(desk, value, alpha=255):
    """A matte as 8-bit PNGs: a box of `value`."""
    files = []
    for i in range(8):
        image = bpy.data.images.new("png", WIDTH, HEIGHT, alpha=True)
        pixels = np.zeros((HEIGHT, WIDTH, 4), np.float32)
        pixels[..., 3] = 1
        pixels[20:40, 30:60] = (value / 255, value / 255, value / 255, alpha / 255)
        image.pixels.foreach_set(pixels.ravel())
        image.file_format = "PNG"
        path = desk.folder / f"png.{i:04d}.png"
        image.filepath_raw = str(path)
        image.save()
        bpy.data.images.remove(image)
        files.append(path)
    return files


def claim_a_grey_png_matte_keeps_its_value(desk):
    strip = desk.image_strip()
    files = _png(desk, 128)
    matte = desk.image_strip(name="png", channel=1, files=files)
    strip.void.matte_source, strip.void.matte_strip = "STRIP", "png"
    assert (pictures_size := addon("pictures").size_of(matte)) == (WIDTH, HEIGHT), pictures_size
    made = _mattes(desk, strip, [12])[12]
    assert abs(made[30, 45] - 128 / 255) < 5e-4
    assert made[0, 0] == 0


def claim_the_alpha_of_a_strip_is_a_matte(desk):
    files = _png(desk, 200, alpha=128)
    strip = desk.image_strip(name="own", files=files)
    strip.void.matte_source = "ALPHA"
    made = _mattes(desk, strip, [12])[12]
    assert abs(made[30, 45] - 128 / 255) < 5e-4
    assert made[0, 0] == 1
    other = desk.image_strip(channel=3)
    other.void.matte_source, other.void.matte_strip, other.void.matte_channel = "STRIP", "own", "A"
    assert abs(_mattes(desk, other, [12])[12][30, 45] - 128 / 255) < 5e-4


def claim_matte_strips_that_do_not_fit_are_refused_with_both_numbers(desk):
    strip = desk.image_strip()
    matte = desk.with_matte(strip, count=5)
    addon("timeline").set_handles(matte, 10, 15)
    with raises("covers frames 10-14; the strip needs 10-17"):
        addon("sources").plan(desk.scene, strip)
    image = bpy.data.images.new("small", 20, 10)
    image.filepath_raw, image.file_format = str(desk.folder / "small.png"), "PNG"
    image.save()
    small = desk.image_strip(name="small", channel=4, files=[desk.folder / "small.png"] * 8)
    strip.void.matte_strip = small.name
    with raises(f"is 20x10; the strip is {WIDTH}x{HEIGHT}"):
        addon("sources").plan(desk.scene, strip)
    strip.void.matte_strip = "nobody"
    with raises("There is no strip 'nobody'"):
        addon("sources").plan(desk.scene, strip)


def claim_a_mask_lies_over_the_data_window_that_blender_shows(desk):
    """Blender shows a cropped or overscanned EXR by its data window; there the mask was drawn, there the matte lies."""
    display = (np.array([0, 0], np.int32), np.array([95, 63], np.int32))
    for name, x0, y0 in (("cropped", 10, 5), ("overscan", -8, -6)):
        width, height, files = 70, 50, []
        data = (np.array([x0, y0], np.int32), np.array([x0 + width - 1, y0 + height - 1], np.int32))
        head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        for i in range(3):
            files.append(desk.folder / f"{name}.{i:04d}.exr")
            light = np.random.default_rng(i).uniform(0.2, 0.8, (height, width)).astype(np.float16)
            OpenEXR.File({**head, "dataWindow": data, "displayWindow": display}, dict.fromkeys("RGB", light)).write(
                str(files[-1])
            )
        strip = desk.image_strip(name=name, channel=2, files=files)
        strip.void.mask = desk.box_mask(30, 12, 50, 30, width, height, name=name)
        strip.void.output = "PATCH"
        desk.remove()
        patch = read(Path(strip.void.folder) / "patch.0011.exr")
        rows, columns = (np.flatnonzero(patch[..., 3].any(axis)) for axis in (1, 0))
        assert patch.shape == (height, width, 4)
        assert abs(rows.min() - 9) <= 2 and abs(rows.max() - 32) <= 2, (name, rows)
        assert abs(columns.min() - 27) <= 2 and abs(columns.max() - 52) <= 2, (name, columns)
        for old in list(desk.strips):
            desk.strips.remove(old)


def _cropped(desk, name, data, channels, display=(0, 0, WIDTH - 1, HEIGHT - 1), count=8):
    """EXR files of that data window: a box of 1 at display pixels (40, 20) to (60, 35)."""
    files, (x0, y0, x1, y1) = [], data
    value = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.float16)
    value[20 - y0 : 35 - y0, 40 - x0 : 60 - x0] = 1
    head = {
        "compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage,
        "dataWindow": (np.array([x0, y0], np.int32), np.array([x1, y1], np.int32)),
        "displayWindow": (np.array(display[:2], np.int32), np.array(display[2:], np.int32)),
    }  # fmt: skip
    for i in range(count):
        files.append(desk.folder / f"{name}.{i:04d}.exr")
        OpenEXR.File(head, dict.fromkeys(channels, value)).write(str(files[-1]))
    return files


def _on_display(path, width=WIDTH, height=HEIGHT):
    """float32 [H, W] of a matte's alpha on a display window from (0, 0), as everyone but Blender reads it."""
    with OpenEXR.File(str(path), separate_channels=True) as file:
        value = np.array(file.channels()["A"].pixels, np.float32)
        x0, y0, x1, y1 = np.concatenate(file.header()["dataWindow"]).tolist()
    canvas = np.zeros((height, width), np.float32)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1 + 1, width), min(y1 + 1, height)
    canvas[top:bottom, left:right] = value[top - y0 : bottom - y0, left - x0 : right - x0]
    return canvas


def claim_a_matte_cropped_to_what_it_holds_is_taken_as_the_daemon_would(desk):
    """The demo's own matte: alpha alone, its data window no larger than the ball, that of the plate overscanned."""
    strip = desk.image_strip(files=_cropped(desk, "plate", (-8, -6, WIDTH + 7, HEIGHT + 5), "RGB"))
    matte = desk.image_strip(name="matte", channel=1, files=_cropped(desk, "matte", (36, 16, 66, 40), "A"))
    strip.void.matte_source, strip.void.matte_strip = "STRIP", matte.name
    assert (strip.elements[0].orig_width, matte.elements[0].orig_width) == (WIDTH + 16, 31)
    desk.scene.sequence_editor.active_strip = strip
    assert desk.remove().void.shows == "clean"
    clean, plate = (read(Path(p)) for p in (Path(strip.void.folder) / "clean.0012.exr", desk.folder / "plate.0002.exr"))
    rows, columns = (np.flatnonzero((clean != plate).any(-1).any(axis)) for axis in (1, 0))
    assert rows.min() >= 20 + 6 - 4 and rows.max() <= 35 + 6 + 4
    assert columns.min() >= 40 + 8 - 4 and columns.max() <= 60 + 8 + 4


def claim_an_inverted_cropped_matte_removes_everything_around_it(desk):
    strip = desk.image_strip()
    for channels in ("A", "R", "RGB"):
        files = _cropped(desk, f"matte{channels}", (36, 16, 66, 40), channels)
        matte = desk.image_strip(name=f"matte {channels}", channel=3, files=files)
        strip.void.matte_source, strip.void.matte_strip, strip.void.invert = "STRIP", matte.name, True
        plan = addon("sources").plan(desk.scene, strip)
        (rendering,) = plan.renderings
        path = desk.folder / "made.exr"
        addon("removal")._render(None, rendering, 12, path, Path(plan.files["plate"][12]))
        made = _on_display(path)
        assert _covers(1 - made, 40, 20, 60, 35), channels
        assert made[0, 0] == made[-1, -1] == 1, channels


def claim_a_png_matte_lies_over_the_display_window(desk):
    files = _cropped(desk, "plate", (-8, -6, WIDTH + 7, HEIGHT + 5), "RGB")
    strip = desk.image_strip(files=files)
    matte = desk.image_strip(name="png", channel=1, files=_png(desk, 255))
    strip.void.matte_source, strip.void.matte_strip = "STRIP", matte.name
    plan = addon("sources").plan(desk.scene, strip)
    (rendering,) = plan.renderings
    stage, path = rendering.stage(plan.scene, "", plan.first, plan.end), desk.folder / "made.exr"
    addon("removal")._render(stage, rendering, 12, path, files[2])
    stage.close()
    assert _covers(_on_display(path), 30, 24, 60, 44)  # _png counts its rows from the bottom


def claim_our_exr_files_are_read_back_bit_for_bit_by_openexr(desk):
    exr_file = addon("exr_file")
    rng = np.random.default_rng(5)
    for height, width in ((1, 1), (16, 7), (33, 20)):
        half = rng.normal(0, 5, (height, width)).astype(np.float16).astype(np.float32)
        for light, kind in ((half, np.float16), (half + np.float32(1e-5), np.float32)):
            path = desk.folder / "ours.exr"
            exr_file.write(path, {"A": light, "R": -light}, (3, -2, 2 + width, height - 3), (0, 0, 99, 49))
            with OpenEXR.File(str(path), separate_channels=True) as file:
                channels = {name: channel.pixels.copy() for name, channel in file.channels().items()}
                windows = [np.concatenate(file.header()[name]).tolist() for name in ("dataWindow", "displayWindow")]
            assert channels["A"].dtype == kind
            assert (channels["A"] == light).all() and (channels["R"] == -light).all()
            assert windows == [[3, -2, 2 + width, height - 3], [0, 0, 99, 49]]
            assert exr_file.windows(path) == ((3, -2, 2 + width, height - 3), (0, 0, 99, 49))
    with raises("is no EXR file"):
        exr_file.windows(Path(__file__))
