"""What an editor sees: strip, matte, Remove Object, a strip above; everything else stays to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
from desk import GIVEN, V5, addon, outside, plate_of, read, same_bits

BOX = (34, 20, 62, 40)
"""Pixels of the mask. With grow 3 nothing beyond NEAR may change: mask edges are antialiased over one pixel."""
NEAR = (30, 16, 66, 44)


def _masked(desk):
    strip = desk.image_strip()
    strip.void.mask = desk.box_mask(*BOX)
    return strip


def claim_outside_the_matte_nothing_changes_and_hdr_stays(desk):
    _masked(desk)
    before = {frame: desk.render(frame) for frame in (10, 13, 17)}
    result = desk.remove()
    assert (result.channel, desk.strips["plate"].channel) == (3, 2)
    assert len(desk.strips) == 2
    changed = 0
    for frame, was in before.items():
        now = desk.render(frame)
        assert same_bits(now[outside(*NEAR)], was[outside(*NEAR)]) == 0
        changed += same_bits(now, was)
        assert was[7, 71, 0] == now[7, 71, 0] > 11.9, "the highlight"
        assert was[51, 6, 0] == now[51, 6, 0] < 0, "the negatives"
    assert changed > 100


def claim_in_a_linear_sequencer_a_patched_render_is_the_clean_file(desk):
    strip = _masked(desk)
    strip.void.output = "PATCH"
    desk.scene.sequencer_colorspace_settings.name = "Linear Rec.709"
    result = desk.remove()
    for index, frame in enumerate((10, 14, 17)):
        clean = read(Path(strip.void.folder) / f"clean.{frame:04d}.exr")
        assert same_bits(desk.render(frame)[..., :3], clean[..., :3]) == 0, index
    assert result.blend_type == "ALPHA_OVER"


def claim_the_patch_is_transparent_outside_the_hole(desk):
    strip = _masked(desk)
    strip.void.output = "PATCH"
    before = desk.render(13)
    assert desk.remove().void.shows == "patch"
    was, now = before[outside(*NEAR)], desk.render(13)[outside(*NEAR)]
    # 5.2 rounds what lies under another strip while the sequencer works in sRGB: hence Automatic.
    assert np.abs(now - was).max() < 1e-3 and np.allclose(now, was, rtol=1e-4, atol=1e-6)
    if not V5:
        assert same_bits(now, was) == 0
    patch = read(Path(strip.void.folder) / "patch.0013.exr")
    assert (patch[outside(*NEAR)] == 0).all()
    assert set(np.unique(patch[..., 3])) == {0, 1}
    hole = (read(Path(strip.void.folder) / "clean.0013.exr") != plate_of(3))[..., :3].any(-1)
    assert (patch[..., 3] == hole).all()


def claim_exr_files_are_sent_as_they_are_and_full_frames_come_near_the_truth(desk):
    strip = desk.image_strip()
    desk.with_matte(strip)
    strip.void.output = "FULL"
    result = desk.remove()
    record = json.loads((Path(strip.void.folder) / "run.json").read_text())
    assert record["files"]["plate"]["10"] == str(Path(GIVEN["shot"]) / "plate/plate.1001.exr")
    assert record["files"]["matte"]["17"] == str(Path(GIVEN["shot"]) / "matte/matte.1008.exr")
    assert not (Path(strip.void.folder) / "sent").exists()
    truth = np.load(GIVEN["truth"]).astype(np.float32)
    for frame in (10, 17):
        clean = desk.render(frame)[..., :3]
        assert np.abs(clean - truth).max() < 0.06
    assert strip.mute and not result.mute and result.blend_type == strip.blend_type


def claim_a_scaled_rotated_strip_looks_the_same_around_the_patch(desk):
    strip = _masked(desk)
    desk.scene.render.resolution_x, desk.scene.render.resolution_y = 240, 160
    transform = strip.transform
    transform.scale_x, transform.scale_y, transform.rotation, transform.offset_x = 2.0, 1.8, 0.2, 11.5
    strip.crop.max_x = 7
    strip.use_flip_x = True
    strip.void.output = "PATCH"
    desk.scene.sequencer_colorspace_settings.name = "Linear Rec.709"
    before = desk.render(12)
    result = desk.remove()
    for name in ("scale_x", "scale_y", "rotation", "offset_x", "filter"):
        assert getattr(result.transform, name) == getattr(transform, name)
    assert (result.crop.max_x, result.use_flip_x) == (7, True)
    changed = (desk.render(12) != before).any(-1)
    assert 500 < changed.sum() < 0.4 * changed.size
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert rows.max() - rows.min() < 90 and columns.max() - columns.min() < 110


def claim_animation_and_modifiers_of_the_source_go_along(desk):
    strip = _masked(desk)
    for frame, offset in ((10, 0.0), (17, 7.0)):
        strip.transform.offset_x = offset
        strip.transform.keyframe_insert("offset_x", frame=frame)
    strip.modifiers.new("grade", "COLOR_BALANCE").color_balance.gain = (0.5, 1.0, 2.0)
    curves = strip.modifiers.new("curves", "CURVES")
    curves.curve_mapping.curves[0].points.new(0.25, 0.4)
    before = desk.render(17)
    result = desk.remove()
    assert tuple(result.modifiers["grade"].color_balance.gain) == (0.5, 1.0, 2.0)
    copied = result.modifiers["curves"].curve_mapping.curves[0].points
    assert [tuple(p.location) for p in copied] == [tuple(p.location) for p in curves.curve_mapping.curves[0].points]
    now = desk.render(17)
    moved = outside(NEAR[0] + 7, NEAR[1], NEAR[2] + 7, NEAR[3])
    assert same_bits(now[moved], before[moved]) == 0
    assert same_bits(now, before) > 100
    desk.scene.frame_set(17)
    assert result.transform.offset_x == 7.0


def claim_every_run_is_a_new_version_and_the_newest_shows(desk):
    strip = _masked(desk)
    strip.void.output = "PATCH"
    first, second = desk.remove(), desk.remove()
    assert [Path(s.void.folder).name for s in (first, second)] == ["v001", "v002"]
    assert (first.mute, second.mute) == (True, False)
    assert second.channel > strip.channel
    assert second.channel != first.channel
    desk.scene.sequence_editor.active_strip = second
    assert bpy.ops.void_inpaint.toggle() == {"FINISHED"} and second.mute
    assert bpy.ops.void_inpaint.toggle() == {"FINISHED"} and not second.mute


def claim_a_full_result_and_its_source_are_shown_by_turns(desk):
    strip = _masked(desk)
    strip.void.output = "FULL"
    result = desk.remove()
    shown = []
    for _ in range(3):
        shown.append((result.mute, strip.mute))
        bpy.ops.void_inpaint.toggle()
    assert shown == [(False, True), (True, False), (False, True)]


def claim_a_busy_channel_is_passed_over_and_a_full_timeline_is_said(desk):
    _masked(desk)
    for channel in range(3, 128):
        more = {"length": 5} if V5 else {"frame_end": 17}
        desk.strips.new_effect(f"c{channel}", "COLOR", channel=channel, frame_start=12, **more).mute = True
    assert desk.remove().channel == 128
    assert "No channel above 'plate' is free" in desk.refused()


def claim_a_preview_is_in_no_render_neither_before_nor_after_the_removal(desk):
    strip = desk.image_strip()
    desk.with_matte(strip)
    strip.void.physics_prior = True
    before = desk.render(12)
    assert bpy.ops.void_inpaint.preview() == {"FINISHED"}
    (made,) = [s for s in desk.strips if s.void.shows == "affected"]
    assert Path(made.void.folder).name == "affected_v001"
    assert not strip.mute and made.mute and strip.void.show_effects
    assert same_bits(desk.render(12), before) == 0
    desk.scene.sequence_editor.active_strip = strip
    desk.remove()
    assert not strip.void.show_effects
    clean = desk.render(12)
    desk.strips.remove(made)
    assert same_bits(desk.render(12), clean) == 0
    assert same_bits(clean, before) > 100


def claim_a_preview_may_be_the_affected_matte_of_the_next_run(desk):
    strip = desk.image_strip()
    desk.with_matte(strip)
    strip.void.physics_prior = True
    assert bpy.ops.void_inpaint.preview() == {"FINISHED"}
    (made,) = [s for s in desk.strips if s.void.shows == "affected"]
    # Accepted as it is, or painted on, it is the affected matte of the next run.
    strip.void.affected_strip = made.name
    desk.scene.sequence_editor.active_strip = strip
    assert desk.remove().void.shows == "clean"


def claim_the_overlay_tells_sure_from_suspected_and_does_without(desk):
    overlay, exr_file = addon("overlay"), addon("exr_file")
    sure, suspected = np.zeros((6, 8), np.float32), np.zeros((6, 8), np.float32)
    sure[1, 2], suspected[4, 5] = 1, 0.5
    exr_file.write(desk.folder / "both.exr", {"affected": sure, "suspected": suspected, "change": sure})
    exr_file.write(desk.folder / "one.exr", {"affected": sure})
    both, one = overlay.tint(desk.folder / "both.exr"), overlay.tint(desk.folder / "one.exr")
    assert both.shape == one.shape == (6, 8, 4)
    assert np.allclose(both[6 - 1 - 1, 2], (*overlay.SURE, 1)), "rows from the bottom"
    assert np.allclose(both[6 - 1 - 4, 5], (*overlay.SUSPECTED, 0.5))
    assert one[..., 3].sum() == 1 and both[..., 3].sum() == 1.5


def claim_the_overlay_finds_the_file_of_a_frame_also_after_a_move(desk):
    strip = desk.image_strip()
    desk.with_matte(strip)
    assert bpy.ops.void_inpaint.preview() == {"FINISHED"}
    overlay, folder = addon("overlay"), Path(strip.void.looked)
    assert overlay.folder_of(strip) == folder
    assert overlay.file_at(folder, strip, 12).name == "affected.0012.exr"
    for moved in (strip, desk.strips["matte"]):
        if hasattr(moved, "content_start"):
            moved.content_start += 30
        else:
            moved.frame_start += 30
    assert overlay.file_at(folder, strip, 42).name == "affected.0012.exr"
    assert overlay.file_at(folder, strip, 12) is None
    desk.scene.sequence_editor.active_strip = strip
    assert desk.remove()
    assert overlay.folder_of(strip) == Path(strip.void.folder)
    assert overlay.tint(overlay.file_at(Path(strip.void.folder), strip, 42)).shape[2] == 4


def claim_a_version_can_be_put_on_view(desk):
    strip = _masked(desk)
    for _ in range(2):
        desk.scene.sequence_editor.active_strip = strip
        desk.remove()
    one, two = (desk.strips[f"plate clean v00{i}"] for i in (1, 2))
    states = []
    for version in (1, 2, 0):
        assert bpy.ops.void_inpaint.show(version=version) == {"FINISHED"}
        states.append((strip.mute, one.mute, two.mute))
    assert states == [(True, False, True), (True, True, False), (False, True, True)]


def claim_the_preview_range_alone_is_done_again_and_lies_over_the_rest(desk):
    strip = desk.image_strip()
    desk.with_matte(strip)
    whole = desk.remove()
    scene = desk.scene
    strip.void.only_preview_range = True
    scene.sequence_editor.active_strip = strip
    assert "There is no preview range" in desk.refused()
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 12, 14
    strip.void.seed = 3
    part = desk.remove()
    timeline = addon("timeline")
    assert (timeline.left(part), timeline.right(part)) == (12, 15)
    assert (strip.mute, whole.mute, part.mute) == (True, False, False) and part.channel > whole.channel
    record = addon("results").Record.load(Path(part.void.folder))
    assert sorted(record.files["plate"]) == list(range(10, 18)), "the rest is looked at for background"
    assert sorted(p.name for p in Path(part.void.folder).glob("clean.*")) == [
        f"clean.{i:04d}.exr" for i in (12, 13, 14)
    ]
    assert bpy.ops.void_inpaint.show(version=1) == {"FINISHED"} and part.mute and not whole.mute
    assert bpy.ops.void_inpaint.show(version=2) == {"FINISHED"} and not part.mute and not whole.mute


def claim_frames_beyond_the_handles_are_sent_as_context_with_their_mattes(desk):
    strip = desk.image_strip()
    matte = desk.with_matte(strip)
    timeline, sources = addon("timeline"), addon("sources")
    timeline.set_handles(strip, 13, 15)
    timeline.set_handles(matte, 11, 16)
    plan = sources.plan(desk.scene, strip)
    assert plan.frames == tuple(range(10, 18)) and (plan.first, plan.end) == (13, 15)
    assert plan.settings["frames"] == "13-14"
    for role in ("plate", "matte"):
        names = [Path(plan.files[role][frame]).name for frame in plan.frames]
        assert names == [f"{role}.{1001 + i}.exr" for i in range(8)]
    strip.void.context = 1
    assert sources.plan(desk.scene, strip).frames == (12, 13, 14, 15)
    strip.void.matte_source, strip.void.mask = "MASK", desk.box_mask(*BOX)
    assert sources.plan(desk.scene, strip).frames == (13, 14), "nobody drew the mask beyond the handles"
    strip.void.matte_source, strip.void.context = "STRIP", 24
    result = desk.remove()
    assert (timeline.left(result), timeline.right(result)) == (13, 15)


def claim_a_painted_still_is_sent_as_the_reference_at_its_own_frame(desk):
    strip = desk.image_strip()
    desk.with_matte(strip)
    still = desk.image_strip(name="still", at=13, channel=5, count=1)
    still.mute = True
    strip.void.reference_strip = still.name
    desk.scene.sequence_editor.active_strip = strip
    plan = addon("sources").plan(desk.scene, strip)
    assert list(plan.files["reference"]) == [13]
    addon("timeline").set_handles(still, 12, 18)
    assert list(addon("sources").plan(desk.scene, strip).files["reference"]) == [12], "a held still counts once"
    assert desk.remove().void.shows == "clean"


def claim_the_node_group_lays_clean_over_plate(desk):
    strip = _masked(desk)
    desk.remove()
    assert bpy.ops.void_inpaint.add_nodes() == {"FINISHED"}
    scene = desk.scene
    tree = scene.compositing_node_group if hasattr(scene, "compositing_node_group") else scene.node_tree
    (node,) = [n for n in tree.nodes if n.bl_idname == "CompositorNodeGroup"]
    assert all(node.inputs[name].is_linked for name in ("Plate", "Clean"))
    if hasattr(scene, "compositing_node_group"):
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        output = tree.nodes.new("NodeGroupOutput")
    else:
        (output,) = [n for n in tree.nodes if n.bl_idname == "CompositorNodeComposite"]
    tree.links.new(node.outputs["Image"], output.inputs[0])
    scene.render.use_sequencer, scene.render.use_compositing = False, True
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))  # or Blender renders nothing at all
    scene.collection.objects.link(scene.camera)
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    if "compositor_device" in scene.render.bl_rna.properties:
        scene.render.compositor_device = "CPU"
    folder = Path(strip.void.folder)
    clean, plate = read(folder / "clean.0012.exr")[..., :3], plate_of(2)[..., :3]
    for change, wanted in ((1.0, clean), (0.0, plate), (0.5, (clean + plate) / 2)):
        node.inputs["Change"].default_value = change
        assert np.allclose(desk.render(12)[..., :3], wanted, rtol=1e-4, atol=1e-5), change


def claim_the_same_operator_works_in_background(desk):
    _masked(desk)
    assert bpy.app.background
    assert bpy.ops.void_inpaint.remove("INVOKE_DEFAULT") == {"FINISHED"}
    assert not [s for s in bpy.data.scenes if s.name.startswith(addon("pictures").STAGE)]
    assert [m.name for m in bpy.data.masks] == ["roto"]
