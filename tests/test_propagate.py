from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.fakes.shots import MemoryShot
from void_server import background
from void_server.background import BackgroundEstimate
from void_server.engine import Fill
from void_server.engine.propagate import Propagate
from void_server.wire.errors import JobCancelledError, SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]
HEIGHT, WIDTH = 120, 160


def _world(seed: int = 0) -> Array:
    """A textured wall, larger than the picture: float32 [240, 400, 3], scene-linear."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.random((24, 40, 3), dtype=np.float32), (400, 240), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.random((240, 400, 3), dtype=np.float32), (0, 0), 1.2)
    return np.clip(0.1 + 0.5 * coarse + 0.8 * (fine - 0.5), 0.01, None).astype(np.float32)


def _clip(
    count: int = 12, pan: float = 3.0, speed: float = 8.0, world: Array | None = None
) -> tuple[Array, Array, Array]:
    """(plate, matte, truth): a square passes a wall while the camera pans."""
    world = _world() if world is None else world
    truth, matte = [], np.zeros((count, HEIGHT, WIDTH), np.float32)
    for t in range(count):
        move = np.array([[1, 0, -40 - pan * t], [0, 1, -40]], np.float32)
        truth.append(cv2.warpAffine(world, move, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC))
        left = int(20 + speed * t)
        matte[t, 40:70, left : left + 24] = 1
    answer = np.stack(truth)
    plate = np.where(matte[..., None] > 0, np.float32(2.5), answer)
    return plate.astype(np.float32), matte, answer


def _fills(shot: MemoryShot) -> dict[int, Fill]:
    return {f.frame: f for f in Propagate().fill(shot, Report())}


def _error(shot: MemoryShot, fills: dict[int, Fill], truth: Array) -> float:
    """Median relative error inside the matte over all frames."""
    errors = []
    for index, frame in enumerate(shot.frames):
        if frame in fills:
            fill = fills[frame]
            rows, columns = fill.crop.slices(Window(0, 0, WIDTH, HEIGHT))
            inside = shot.matte(frame)[rows, columns] > 0
            answer = truth[index][rows, columns][inside]
            errors.append(np.abs(fill.rgb[inside] - answer) / (answer + 0.05))
    return float(np.median(np.concatenate(errors)))


def _behind(plate: Array, matte: Array, frame: int) -> BackgroundEstimate:
    return background.of(MemoryShot(plate, matte), Report()).estimate(frame, Window(0, 0, WIDTH, HEIGHT), 1.0)


def _around(matte: Array, pixels: int) -> npt.NDArray[np.bool_]:
    """Up to so many pixels outside a matte."""
    near = cv2.dilate(matte, np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8))
    return np.asarray((near > 0) & (matte == 0), bool)


def test_brings_back_what_other_frames_of_a_panning_shot_show() -> None:
    plate, matte, truth = _clip()
    shot = MemoryShot(plate, matte)
    fills = _fills(shot)
    assert list(fills) == list(shot.frames)
    assert _error(shot, fills, truth) < 0.03
    assert np.mean([f.coverage[shot.change(f.frame, f.crop) > 0].mean() for f in fills.values()]) > 0.95


def test_a_still_camera_gets_the_plates_own_samples_back() -> None:
    plate, matte, truth = _clip(pan=0)
    shot = MemoryShot(plate, matte)
    assert _error(shot, _fills(shot), truth) < 1e-3


def test_fill_is_the_same_bits_whichever_frames_are_wanted() -> None:
    plate, matte, _ = _clip()
    whole, part = _fills(MemoryShot(plate, matte)), _fills(MemoryShot(plate, matte, wanted=[1004, 1009]))
    assert list(part) == [1004, 1009]
    for frame, fill in part.items():
        assert np.array_equal(fill.rgb, whole[frame].rgb)
        assert np.array_equal(fill.coverage, whole[frame].coverage)


def test_what_was_never_seen_is_filled_and_said_not_to_be_covered() -> None:
    plate, matte, _ = _clip(pan=0, speed=0)
    for frame, fill in _fills(MemoryShot(plate, matte)).items():
        inside = MemoryShot(plate, matte).matte(frame, fill.crop) > 0
        assert fill.coverage[inside].max() == 0
        assert fill.confidence[inside].max() < 0.5
        assert np.isfinite(fill.rgb).all()
        assert fill.rgb[inside].max() < 2.0, "the object's own light must not come back"


def test_what_was_invented_stands_still_behind_a_still_camera() -> None:
    plate, matte, _ = _clip(pan=0, speed=0)
    fills = list(_fills(MemoryShot(plate, matte)).values())
    inside = matte[0][fills[0].crop.slices(Window(0, 0, WIDTH, HEIGHT))] > 0
    for fill in fills[1:]:
        assert np.allclose(fill.rgb[inside], fills[0].rgb[inside], atol=1e-3)


@pytest.mark.parametrize("pan", [0.0, 2.0])
def test_one_painted_frame_serves_the_whole_shot(pan: float) -> None:
    # The square moves with the wall, so no frame ever shows what is behind it.
    plate, matte, truth = _clip(pan=pan, speed=-pan)
    shot = MemoryShot(plate, matte, reference={1006: truth[5]})
    fills = _fills(shot)
    assert _error(shot, fills, truth) < 0.03
    assert np.mean([f.coverage[shot.change(f.frame, f.crop) > 0].mean() for f in fills.values()]) > 0.95


def test_nothing_is_taken_across_a_cut() -> None:
    first, matte, truth = _clip(count=6)
    other = np.clip(1.2 - _world(9), 0.01, None).astype(np.float32) * 2
    second, matte2, truth2 = _clip(count=6, world=other)
    shot = MemoryShot(np.concatenate([first, second]), np.concatenate([matte, matte2]))
    assert _error(shot, _fills(shot), np.concatenate([truth, truth2])) < 0.06


def test_what_is_kept_in_front_never_becomes_background() -> None:
    plate, matte, _ = _clip(pan=0)
    keep = np.zeros_like(matte)
    keep[3:9, 30:80, 60:90] = 1
    plate[keep > 0] = 9.0
    shot = MemoryShot(plate, matte, keep=keep)
    for frame, fill in _fills(shot).items():
        assert fill.rgb[shot.change(frame, fill.crop) > 0].max() < 2.0


@pytest.mark.parametrize("count", [1, 2])
def test_shots_of_one_or_two_frames_are_filled(count: int) -> None:
    plate, matte, _ = _clip(count=count)
    fills = _fills(MemoryShot(plate, matte))
    assert len(fills) == count
    assert all(np.isfinite(f.rgb).all() and f.rgb.shape[2] == 3 for f in fills.values())


def test_a_hole_over_the_whole_picture_and_one_at_its_border_are_filled() -> None:
    plate, matte, _ = _clip(count=4)
    matte[1] = 1
    matte[2, :20, :30] = 1
    fills = _fills(MemoryShot(plate, matte))
    assert fills[1002].crop == Window(0, 0, WIDTH, HEIGHT)
    assert all(np.isfinite(f.rgb).all() for f in fills.values())


def test_extreme_light_is_neither_clipped_nor_spread() -> None:
    world = _world()
    world[100:110, 150:160] = 3000.0
    world[90, 100] = -0.02
    plate, matte, truth = _clip(world=world)
    shot = MemoryShot(plate, matte)
    fills = _fills(shot)
    assert all(np.isfinite(f.rgb).all() for f in fills.values())
    assert _error(shot, fills, truth) < 0.05


def test_a_flash_costs_no_frame_its_donors_and_is_lit_as_the_flash_is() -> None:
    plate, matte, truth = _clip()
    flash = 4
    plate[flash] *= 4
    truth[flash] *= 4
    shot = MemoryShot(plate, matte)
    fills = _fills(shot)
    assert _error(shot, fills, truth) < 0.05
    assert all(f.coverage[f.coverage > 0].size for f in fills.values())
    alone = MemoryShot(plate, matte, wanted=[shot.frames[flash]])
    assert _error(alone, _fills(alone), truth) < 0.08


def test_a_light_of_ten_thousand_times_the_scene_does_not_hide_the_camera() -> None:
    world = _world()
    world[100:112, 150:166] = 2000.0
    plate, matte, truth = _clip(world=world)
    shot = MemoryShot(plate, matte)
    assert background.of(shot, Report()).lost() == []
    assert _error(shot, _fills(shot), truth) < 0.05


def test_a_camera_that_can_not_be_followed_is_said_to_be_lost() -> None:
    rng = np.random.default_rng(3)
    plate = rng.uniform(0.2, 0.3, (6, HEIGHT, WIDTH, 3)).astype(np.float32)
    matte = np.zeros(plate.shape[:3], np.float32)
    matte[:, 40:60, 50:70] = 1
    told = []
    list(Propagate().fill(MemoryShot(plate, matte), Report(told.append)))
    assert "camera-lost" in [event.get("code") for event in told]


@pytest.mark.parametrize("light", [0.0, 0.2])
def test_a_plate_without_features_is_filled_with_less_confidence(light: float) -> None:
    plate = np.full((5, HEIGHT, WIDTH, 3), light, np.float32)
    matte = _clip(count=5)[1]
    for fill in _fills(MemoryShot(plate, matte)).values():
        assert np.abs(fill.rgb - light).max() < 1e-4
        assert fill.confidence.max() <= 0.6


def test_unknown_pixels_are_no_background() -> None:
    plate, matte, truth = _clip(pan=0)
    known = np.ones_like(matte)
    known[2:6, 30:80] = 0
    plate[2:6, 30:80] = 0
    shot = MemoryShot(plate, matte, known=known)
    fills = _fills(shot)
    first = fills[1001]
    inside = shot.matte(1001, first.crop) > 0
    answer = truth[0][first.crop.slices(Window(0, 0, WIDTH, HEIGHT))]
    assert np.abs(first.rgb[inside] - answer[inside]).max() < 1e-3


def test_gaps_in_frames_and_frames_without_a_matte_are_no_obstacle() -> None:
    plate, matte, truth = _clip()
    matte[4] = 0
    plate[4] = truth[4]
    numbers = [1001, 1002, 1005, 1006, 1007, 1010, 1011, 1012, 1013, 1020, 1021, 1022]
    shot = MemoryShot(plate, matte, frames=numbers)
    fills = _fills(shot)
    assert list(fills) == [n for n in numbers if n != 1007]
    assert _error(shot, fills, truth) < 0.03


def test_background_is_recovered_around_the_hole_too_and_without_the_object() -> None:
    plate, matte, truth = _clip()
    found = _behind(plate, matte, 1006)
    rgb, seen = found.rgb, found.coverage > 0.5
    assert not found.at_rest
    assert (found.clear <= found.coverage).all()
    assert found.scatter.shape == seen.shape and found.scatter.min() >= 0
    assert seen[matte[5] > 0].mean() > 0.9
    assert seen[30:80, 40:130].mean() > 0.9
    assert np.median(np.abs(rgb[seen] - truth[5][seen]) / (truth[5][seen] + 0.05)) < 0.04


def test_background_follows_when_what_is_affected_changes() -> None:
    plate, matte, truth = _clip(pan=0)
    dark = np.roll(matte, 30, axis=1)
    plate = np.where(dark[..., None] > 0, plate * 0.3, plate).astype(np.float32)
    first = MemoryShot(plate, matte)
    background.of(first, Report()).estimate(1001, Window(0, 0, WIDTH, HEIGHT), 1.0)
    second = MemoryShot(plate, matte, affected=dark)
    second.plates_key = first.plates_key
    again = background.of(second, Report()).estimate(1001, Window(0, 0, WIDTH, HEIGHT), 1.0)
    assert again.at_rest
    assert np.abs(again.rgb - truth[0])[again.coverage > 0].max() < 1e-3


@pytest.mark.parametrize(("count", "pan", "speed"), [(32, 0.0, 3.0), (24, 2.0, 2.0)])
def test_a_shadow_that_travels_with_the_object_is_not_in_the_background(count: int, pan: float, speed: float) -> None:
    # So wide and slow that most views of a place show it in the shade: those with the object elsewhere must decide.
    plate, matte, truth = _clip(count=count, pan=pan, speed=speed)
    shadow = np.zeros_like(matte)
    for t in range(count):
        left = int(20 + speed * t)
        shadow[t, 66:82, left - 16 : left + 40] = 1
    shadow *= matte == 0
    plate = np.where(shadow[..., None] > 0, plate * 0.4, plate).astype(np.float32)
    middle = count // 2
    found = _behind(plate, matte, 1001 + middle)
    beyond = (shadow[middle] > 0) & (found.clear > 0.5)
    assert beyond.sum() > 0.5 * (shadow[middle] > 0).sum()
    apart = np.abs(found.rgb - truth[middle])[beyond]
    assert np.mean(apart > 0.3 * truth[middle][beyond]) < 0.03
    if pan == 0:
        assert apart.max() < 1e-2


@pytest.mark.parametrize("pan", [0.0, 3.0])
def test_background_is_clear_where_the_object_has_moved_away(pan: float) -> None:
    plate, matte, _ = _clip(pan=pan)
    found = _behind(plate, matte, 1006)
    assert found.clear[_around(matte[5], 12)].min() > 0


@pytest.mark.parametrize(("pan", "speed"), [(0.0, 0.0), (3.0, -1.0)])
def test_background_is_seen_but_not_clear_around_an_object_that_hardly_moves(pan: float, speed: float) -> None:
    plate, matte, _ = _clip(pan=pan, speed=speed)
    found, around = _behind(plate, matte, 1006), _around(matte[5], 4)
    assert found.coverage[around].mean() > 0.5
    assert found.clear[around].max() == 0


@pytest.mark.parametrize("pan", [0.0, 3.0])
def test_what_is_marked_as_affected_on_every_frame_still_has_a_background_to_speak_against_it(pan: float) -> None:
    """A first look may take a wall's own dark strip for a shadow: left a hole, it could never be told from one."""
    plate, matte, truth = _clip(pan=pan)
    strip = np.zeros_like(matte)
    for t in range(len(matte)):
        strip[t, 76:84, 60 - round(pan * t) + 33 : 90 - round(pan * t) + 33] = 1
    shot = MemoryShot(plate, matte, affected=strip)
    found = background.of(shot, Report()).estimate(1006, Window(0, 0, WIDTH, HEIGHT), 1.0)
    inside = cv2.erode(strip[5], np.ones((3, 3), np.uint8)) > 0
    assert found.coverage[inside].mean() > 0.95
    assert found.clear[inside].max() == 0, "it may hold the object's shadow"
    assert np.median(np.abs(found.rgb - truth[5])[inside] / truth[5][inside]) < 0.05


def test_a_real_shadow_is_not_brought_back_where_other_frames_show_the_place_without() -> None:
    plate, matte, truth = _clip(count=24, pan=0, speed=4)
    shadow = np.roll(matte, 24, axis=1) * (matte == 0)
    plate = np.where(shadow[..., None] > 0, plate * 0.4, plate).astype(np.float32)
    shot = MemoryShot(plate, matte, affected=shadow)
    found = background.of(shot, Report()).estimate(1012, Window(0, 0, WIDTH, HEIGHT), 1.0)
    assert np.abs(found.rgb - truth[12])[shadow[11] > 0].max() < 1e-2


@pytest.mark.parametrize("speed", [0.0, 4.0, 8.0])
def test_twelve_clear_views_of_a_camera_at_rest_are_beyond_suspicion(speed: float) -> None:
    plate, matte, _ = _clip(count=24, pan=0, speed=speed)
    # An object's own size to every side: no shadow of it is suspected farther off.
    reach = int(np.sqrt(matte[0].sum()))
    views = np.sum([~_around(m, reach) & (m == 0) for m in matte], axis=0)
    assert (views >= 12).mean() > 0.5 and (views[:, 0] >= 12).any()
    found = _behind(plate, matte, 1012)
    assert found.at_rest
    assert found.clear[views >= 12].min() == 1  # up to the picture's edge


def test_exposure_that_changes_between_frames_is_no_deviation_from_the_background() -> None:
    plate, matte, truth = _clip()
    steps = np.float32(1.1) ** np.array([0, 1, 0, -1, 0, 1, 2, 1, 0, -1, 0, 1], np.float32)
    steady = _behind(plate, matte, 1006)
    found = _behind(plate * steps[:, None, None, None], matte, 1006)
    seen = (found.coverage > 0.5) & (matte[5] == 0)
    assert seen.mean() > 0.8
    there = np.log(found.rgb[seen] + 0.05) - np.log(truth[5][seen] * steps[5] + 0.05)
    assert abs(float(np.median(there))) < 0.01
    assert np.quantile(np.abs(there), 0.9) < 0.04
    # A tenth of the light would be .03 and more.
    assert np.median(found.scatter[seen]) < np.median(steady.scatter[seen]) + 0.005


def test_cancel_is_heard_between_frames() -> None:
    plate, matte, _ = _clip()
    events: list[str] = []
    report = Report(lambda e: events.append(e["event"]), lambda: len(events) > 15)
    with pytest.raises(JobCancelledError):
        list(Propagate().fill(MemoryShot(plate, matte), report))


def test_unknown_options_and_devices_are_refused() -> None:
    plate, matte, _ = _clip(count=2)
    with pytest.raises(SettingsError, match="sharpness"):
        list(Propagate().fill(MemoryShot(plate, matte, options={"sharpness": 2}), Report()))
    with pytest.raises(SettingsError, match="cuda"):
        Propagate("cuda:0")
