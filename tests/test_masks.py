"""Masks as rotos, codecs, scans, renderers and mistakes make them: none replaces nearly a whole frame in silence.

`pytest tests/test_masks.py --hypothesis-profile=long` tries 3,000 of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests import tiny_shot
from void_server import pipeline
from void_server.image import mask_look
from void_server.image.matte import MATTE_FLOOR
from void_server.shot import check, mask_check, mask_reading
from void_server.shot.marks import Marks
from void_server.shot.surveyed import survey
from void_server.wire.errors import MatteError
from void_server.wire.report import Report
from void_server.wire.shot import FrameRange, ShotSettings

HEIGHT, WIDTH, COUNT = 90, 160, 3
FRAMES = range(1001, 1001 + COUNT)
PLAIN = ShotSettings(engine="propagate", physics_prior=False)


def disc(index, radius, soft_px=0.0):
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    mask = np.clip(radius + 0.5 - np.hypot(x - 50 - 6 * index, y - 45), 0, 1)
    return np.clip(cv2.GaussianBlur(mask, (0, 0), soft_px), 0, 1) if soft_px else mask


def noisy(mask, kind, height, rng):
    """What happens to a mask between roto and file."""
    shape = mask.shape
    if kind == "uniform":
        return np.maximum(mask, rng.random(shape) * height)
    if kind == "sparse":
        return np.maximum(mask, (rng.random(shape) > 0.97) * height)
    if kind == "gaussian":
        return np.clip(mask + rng.normal(0, height / 4, shape), 0, 1)
    if kind == "black":
        return mask * (1 - height) + height
    if kind == "blocks":
        blocks = rng.random((shape[0] // 8 + 1, shape[1] // 8 + 1)) * height
        return np.maximum(mask, np.kron(blocks, np.ones((8, 8)))[: shape[0], : shape[1]])
    if kind == "jpeg":
        quality = max(5, int(95 - 900 * height))
        return cv2.imdecode(cv2.imencode(".jpg", (mask * 255).astype(np.uint8), [1, quality])[1], 0) / 255
    return mask


KINDS = ["none", "uniform", "sparse", "gaussian", "black", "blocks", "jpeg"]


@st.composite
def masks(draw):
    """Three frames of a mask, and how they came about."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    radius, soft_px = draw(st.sampled_from([0, 3, 12, 30, 60, 120, 200])), draw(st.sampled_from([0, 0, 1, 4, 10]))
    kind, height = draw(st.sampled_from(KINDS)), draw(st.sampled_from([0.004, 0.01, 0.02, 0.05, 0.09, 0.3]))
    turned, scale = draw(st.booleans()), draw(st.sampled_from([1, 1, 1, 255, 1 / 255]))
    made = [noisy(disc(index, radius, soft_px), kind, height, rng) for index in range(COUNT)]
    return [((1 - one if turned else one) * scale).astype(np.float32) for one in made]


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plates")
    rng = np.random.default_rng(1)
    light = cv2.resize(rng.uniform(0.1, 0.6, (12, 20, 3)).astype(np.float32), (WIDTH, HEIGHT)).astype(np.float16)
    for frame in FRAMES:
        tiny_shot.write_exr(folder / f"plate.{frame}.exr", tiny_shot.rgb(light))
    return str(folder)


def checked(plates, folder, made, settings=PLAIN, role="matte", **header):
    """A checked shot; masks are arrays, or channels by name."""
    for frame, one in zip(FRAMES, made):
        channels = one if isinstance(one, dict) else {"A": one}
        dtyped = {name: np.asarray(channel, np.float16) for name, channel in channels.items()}
        tiny_shot.write_exr(Path(folder) / f"{role}/m.{frame}.exr", dtyped, **header)
    roles = {"matte": str(Path(folder) / "matte")} | ({role: str(Path(folder) / role)} if role != "matte" else {})
    return check.check_shot(check.find_files(plates, **roles), settings)


def judged(shot):
    """What is told about a shot's masks, and the largest share of a frame that would be replaced."""
    told = mask_check.judge(shot, mask_reading.look(shot))
    with survey(shot, Report()) as surveyed:
        told += mask_check.whole_frames(surveyed.marked())
    marks = Marks(shot)
    return dict(told), max(marks.share("change", frame) for frame in shot.frames)


@given(masks())
def test_nothing_replaces_most_of_a_frame_without_a_word(plates, made):
    with tempfile.TemporaryDirectory() as folder:
        shot = checked(plates, folder, made)
        try:
            told, share = judged(shot)
        except MatteError as error:
            assert error.hint
            event("refused: " + error.message.split(",")[0][:24])
            return
    event("told" if told else "quiet")
    assert share <= mask_check.MOST + 0.1 or told, share


@given(st.sampled_from(KINDS[1:-1]), st.sampled_from([0.005, 0.01, 0.02, 0.04, 0.065]), st.sampled_from([8, 14, 22]))
def test_haze_is_no_matte(plates, kind, height, radius):
    rng = np.random.default_rng(7)
    clean = [disc(index, radius) for index in range(COUNT)]
    with tempfile.TemporaryDirectory() as folder:
        shot = checked(plates, folder, [noisy(one, kind, height, rng) for one in clean])
        told, _ = judged(shot)
        assert "matte-haze" in told
        assert "--matte-floor 0" in told["matte-haze"]
        marks = Marks(shot)
        changed = [marks.on("change", frame, marks.whole) > 0 for frame in FRAMES]
    with tempfile.TemporaryDirectory() as folder:
        marks = Marks(checked(plates, folder, clean))
        wanted = [marks.on("change", frame, marks.whole) > 0 for frame in FRAMES]
    for got, true in zip(changed, wanted):
        # Noise on the very edge moves it by a pixel; a far speck would be a disc of its own.
        assert (got != true).mean() < 0.006


@given(st.sampled_from([0, 1, 3, 8, 16]), st.sampled_from([2, 8, 20, 40]), st.sampled_from(["none", "jpeg"]))
def test_a_clean_mask_keeps_every_value(soft_px, radius, kind):
    mask = noisy(disc(0, radius, soft_px), kind, 0.01, np.random.default_rng(3)).astype(np.float32)
    if mask.max() > 0.5:
        assert mask_look.floor_of([mask_look.look_at(mask)]) == MATTE_FLOOR


def test_motion_blur_defocus_and_glow_are_no_haze():
    y, x = np.mgrid[:540, :960].astype(np.float32)
    sharp = np.clip(60.5 - np.hypot(x - 400, y - 270), 0, 1)
    streak = cv2.filter2D(sharp, -1, np.full((1, 161), 1 / 161, np.float32))
    glow = np.exp(-np.maximum(np.hypot(x - 400, y - 270) - 60, 0) / 15)
    for mask in (sharp, streak, glow, cv2.GaussianBlur(sharp, (0, 0), 40)):
        assert mask_look.haze_of(np.asarray(mask, np.float32)) == 0


def refused(plates, folder, made, settings=PLAIN, role="matte", **header):
    with pytest.raises(MatteError) as caught:
        judged(checked(plates, folder, made, settings, role, **header))
    return f"{caught.value.message} {caught.value.hint}"


GREY = [{**dict.fromkeys("RGB", disc(index, 12)), "A": np.ones((HEIGHT, WIDTH))} for index in range(COUNT)]


def test_solid_alpha_is_refused_and_the_picture_beside_it_is_named(plates, tmp_path):
    said = refused(plates, tmp_path, GREY)
    assert "covers 100% of the frame on frames 1001-1003" in said
    assert "channel A is solid" in said
    assert "channel R could be meant" in said
    assert "--no-matte-invert" in said
    objects = [{"A": one["A"], "Object_0.Y": one["R"], "Object_1.Y": one["R"]} for one in GREY]
    assert "channels Object_0.Y, Object_1.Y could be meant" in refused(plates, tmp_path / "objects", objects)


def test_solid_alpha_that_leaves_out_the_overscan_is_seen_too(tmp_path):
    light = np.full((HEIGHT + 40, WIDTH + 40, 3), 0.2, np.float16)
    window = tiny_shot.window(-20, -20, WIDTH + 20, HEIGHT + 20)
    for frame in FRAMES:
        tiny_shot.write_exr(tmp_path / f"plate/p.{frame}.exr", tiny_shot.rgb(light), dataWindow=window,
                            displayWindow=tiny_shot.window(0, 0, WIDTH, HEIGHT))  # fmt: skip
    assert "covers 100%" in refused(str(tmp_path / "plate"), tmp_path, GREY)


@pytest.mark.parametrize(
    "role, what", [("affected", "nothing is left to recover it from"), ("keep", "nothing may change")]
)
def test_another_role_that_covers_all_is_named_by_its_flag(plates, tmp_path, role, what):
    checked(plates, tmp_path, [disc(index, 12) for index in range(COUNT)])
    said = refused(plates, tmp_path, GREY, role=role)
    assert f"--{role} covers all of frames 1001-1003" in said
    assert what in said


def test_a_keep_over_the_whole_matte_is_named_and_not_the_matte(plates, tmp_path):
    checked(plates, tmp_path, [disc(index, 12) for index in range(COUNT)])
    said = refused(plates, tmp_path, [disc(index, 40) for index in range(COUNT)], role="keep")
    assert said.startswith("--keep covers everything that the matte marks")


def test_an_inverted_matte_is_asked_about_and_turned_round_on_request(plates, tmp_path):
    made = [1 - disc(index, 12) for index in range(COUNT)]
    said = refused(plates, tmp_path, made)
    assert "covers 97% of the frame" in said
    assert "is it inverted?" in said
    assert "--matte-invert turns it round" in said
    told, share = judged(checked(plates, tmp_path, made, ShotSettings(physics_prior=False, matte_invert=True)))
    assert not told
    assert 0.02 < share < 0.1
    told, share = judged(checked(plates, tmp_path, made, ShotSettings(physics_prior=False, matte_invert=False)))
    assert "over 80%" in told["matte-everything"]


def test_a_matte_of_most_of_a_few_frames_is_told_and_not_refused(plates, tmp_path):
    made = [disc(0, 12), disc(1, 12), np.ones((HEIGHT, WIDTH))]
    told, _ = judged(checked(plates, tmp_path, made))
    assert "covers all of frames 1003" in told["matte-everything"]


def test_a_colour_picture_is_no_matte(plates, tmp_path):
    rng = np.random.default_rng(2)
    made = [{name: disc(index, 20) * rng.random((HEIGHT, WIDTH)) for name in "RGB"} for index in range(COUNT)]
    said = refused(plates, tmp_path, made)
    assert "its R, G, B differ" in said
    judged(checked(plates, tmp_path, made, ShotSettings(physics_prior=False, matte_channel="G")))
    grey = [dict.fromkeys("RGB", disc(index, 20)) for index in range(COUNT)]
    told, _ = judged(checked(plates, tmp_path, grey))
    assert not told


def test_a_faint_matte_a_wrong_scale_and_an_empty_one_are_three_things(plates, tmp_path):
    made = [disc(index, 12) for index in range(COUNT)]
    said = refused(plates, tmp_path / "faint", [one / 255 for one in made])
    assert "never rises above 0.0039" in said
    told, _ = judged(checked(plates, tmp_path / "high", [one * 255 for one in made]))
    assert "goes up to 255" in told["matte-scale"]
    assert "empty on every frame" in refused(plates, tmp_path / "none", [one * 0 for one in made])


def test_specks_are_named_and_refused_where_they_cover_the_frame(plates, tmp_path):
    rng = np.random.default_rng(5)
    few = [noisy(disc(index, 12), "none", 0, rng) for index in range(COUNT)]
    for one in few:
        one[5::10, 5:80:10] = 0.3
    told, _ = judged(checked(plates, tmp_path / "few", few))
    assert "strewn with specks, " in told["matte-specks"]
    assert "--matte-floor 0.31" in told["matte-specks"]
    many = [np.maximum(disc(index, 12), (rng.random((HEIGHT, WIDTH)) > 0.93) * 0.3) for index in range(COUNT)]
    assert "Grown, they cover" in refused(plates, tmp_path / "many", many)
    told, share = judged(checked(plates, tmp_path / "many", many, ShotSettings(physics_prior=False, matte_floor=0.31)))
    assert not told
    assert share < 0.1


def test_the_floor_is_the_artist_s_where_one_is_given(plates, tmp_path):
    made = [np.maximum(disc(index, 12), 0.3) for index in range(COUNT)]
    said = refused(plates, tmp_path, made)
    assert "--matte-floor 0.35 takes it off" in said
    told, share = judged(checked(plates, tmp_path, made, ShotSettings(physics_prior=False, matte_floor=0.35)))
    assert not told
    assert share < 0.1


def test_the_main_path_refuses_before_it_computes_and_writes_no_frame(plates, tmp_path):
    checked(plates, tmp_path, GREY)
    files = check.find_files(plates, str(tmp_path / "matte"))
    with pytest.raises(MatteError, match="solid"):
        pipeline.make_clean_plate(files, PLAIN, tmp_path / "out", Report())
    assert not list((tmp_path / "out").glob("*.exr"))


def test_a_part_of_a_shot_is_told_what_a_whole_one_is_refused(plates, tmp_path):
    shot = checked(plates, tmp_path, GREY)
    with pytest.raises(MatteError, match="solid"):
        mask_check.judge(shot, mask_reading.look(shot), part_of_shot=True)
    part = ShotSettings(physics_prior=False, frames=FrameRange(1001, 1001), handles=1)
    shot = checked(plates, tmp_path, GREY, part)
    told = dict(mask_check.judge(shot, mask_reading.look(shot), part_of_shot=True))
    assert "solid" in told["matte-everything"]


def test_the_faint_part_of_an_affected_estimate_is_neither_haze_nor_everything(plates, tmp_path):
    checked(plates, tmp_path, [disc(index, 12) for index in range(COUNT)])
    soft = [np.maximum(disc(index, 20, 6) * 0.9, 0.06) for index in range(COUNT)]
    shot = checked(plates, tmp_path, soft, role="affected")
    told, share = judged(shot)
    assert not told
    assert share < 0.3
    marks = Marks(shot)
    kept = marks.on("affected", 1001, marks.whole)
    outside = disc(0, 12) == 0
    assert np.array_equal(kept[outside], soft[0].astype(np.float16).astype(np.float32)[outside])


def test_haze_in_a_keep_lets_nothing_of_the_object_through(plates, tmp_path):
    checked(plates, tmp_path, [disc(index, 12) for index in range(COUNT)])
    rng = np.random.default_rng(4)
    hazy = [noisy(np.zeros((HEIGHT, WIDTH)), "uniform", 0.02, rng) for _ in range(COUNT)]
    for one in hazy:
        one[70:80, 100:140] = 1
    shot = checked(plates, tmp_path, hazy, role="keep")
    told, _ = judged(shot)
    assert "keep-haze" in told
    marks = Marks(shot)
    assert (marks.on("change", 1001, marks.whole)[disc(0, 12) == 1] == 1).all()
