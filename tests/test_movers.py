"""Claims about who else moves: found against the camera, told from the object's own doing, and kept out of the fill."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.fakes.effects import Believes, Seen, scene
from tests.fakes.shots import MemoryShot
from void_server import background
from void_server.background.tracking.camera import follow
from void_server.background.tracking.movers import Movers
from void_server.background.tracking.survey import survey
from void_server.effects.find import find_affected
from void_server.engine.propagate import Propagate
from void_server.wire.report import Report
from void_server.wire.shot import Window

Array = npt.NDArray[np.float32]
HEIGHT, WIDTH, COUNT, PAN, WALK = 120, 200, 12, 2, 5
CROWD = slice(20, 70)


def _texture(seed: int, height: int, width: int) -> Array:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 1, (height, width, 3)), (0, 0), 1.5)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return (0.05 + 0.6 * noise).astype(np.float32)


def _walk(shade: bool = False) -> tuple[Array, Array, Array, Array]:
    """(plate, matte, where a passer-by is, where the object's shadow is) of a camera that pans over texture; object and
    passer-by walk in opposite ways."""
    ground = _texture(1, HEIGHT, WIDTH + PAN * COUNT)
    plates, mattes, others, shadows = [], [], [], []
    for t in range(COUNT):
        plate = ground[:, PAN * t : PAN * t + WIDTH].copy()
        matte, other, shadow = (np.zeros((HEIGHT, WIDTH), np.float32) for _ in range(3))
        matte[60:100, 30 + WALK * t : 55 + WALK * t] = 1
        x = 150 - WALK * t
        other[CROWD, x : x + 30] = 1
        shadow[100:112, 30 + WALK * t : 75 + WALK * t] = 1
        if shade:
            plate *= 1 - 0.5 * cv2.GaussianBlur(shadow, (0, 0), 2.5)[..., None]
        plate[CROWD, x : x + 30] = _texture(2, 50, 30)[..., ::-1]
        plate[matte > 0] = _texture(3, 40, 25).reshape(-1, 3)
        plates.append(plate)
        mattes.append(matte)
        others.append(other)
        shadows.append(shadow)
    return np.stack(plates), np.stack(mattes), np.stack(others), np.stack(shadows)


def _movers(plate: Array, matte: Array) -> Movers:
    shot = MemoryShot(plate, matte)
    looked = survey(shot, Report())
    return Movers(shot, looked, follow(looked, Report()))


def test_a_passer_by_is_somebody_else_and_the_object_is_not() -> None:
    plate, matte, other, _ = _walk()
    found = _movers(plate, matte)
    for t in range(2, COUNT - 2):
        others = found.others(t)
        assert others[other[t] > 0].mean() > 0.8
        assert not others[matte[t] > 0].any()
        apart = cv2.dilate(np.maximum(other[t], matte[t]), np.ones((17, 17), np.uint8)) == 0
        assert others[apart].mean() < 0.01


def test_a_shadow_that_slides_over_texture_is_nobody() -> None:
    plate, matte, other, shadow = _walk(shade=True)
    found = _movers(plate, matte)
    share = [found.others(t)[(shadow[t] > 0) & (other[t] == 0)].mean() for t in range(2, COUNT - 2)]
    assert np.mean(share) < 0.1


def test_it_is_the_same_whether_all_frames_were_found_before_or_one_is_asked_for() -> None:
    plate, matte, _, _ = _walk()
    one, all_of_them = _movers(plate, matte), _movers(plate, matte)
    all_of_them.prepare(lambda: None)
    assert all((one.others(t) == all_of_them.others(t)).all() for t in (0, 5, COUNT - 1))


def _filled(plate: Array, matte: Array) -> dict[int, Array]:
    shot = MemoryShot(plate, matte)
    out = {}
    with background.kept():
        for fill in Propagate().fill(shot, Report()):
            whole = plate[fill.frame - 1001].copy()
            whole[fill.crop.slices(Window(0, 0, WIDTH, HEIGHT))] = fill.rgb
            out[fill.frame - 1001] = whole
    return out


def test_what_travels_with_the_camera_is_no_background_however_many_frames_show_it() -> None:
    """Two frames show the ground behind the hole; on the others a rider whom the camera follows is in its place."""
    ground = _texture(4, HEIGHT, WIDTH + 4 * COUNT)
    truth = np.stack([ground[:, 4 * t : 4 * t + WIDTH] for t in range(COUNT)])
    plate, matte = truth.copy(), np.zeros(truth.shape[:3], np.float32)
    rider = _texture(5, 70, 60)[..., ::-1]
    for t in range(COUNT):
        plate[t, 30:100, 90:150] = rider  # the camera follows him
    matte[0, 50:70, 160:180] = 1
    plate[matte > 0] = 0.9
    result = _filled(plate, matte)[0]
    off = np.abs(result - truth[0])[matte[0] > 0]
    assert off.mean() < 0.25 * np.abs(rider.mean((0, 1)) - truth[0][matte[0] > 0]).mean()


def test_what_is_opaque_where_something_else_moves_is_shown_as_suspected_and_a_shadow_there_goes() -> None:
    plates, mattes, shadows, behind = scene()
    opaque = {frame: (shadow > 0) & (np.arange(shadow.shape[1]) % 34 < 17) for frame, shadow in shadows.items()}
    for frame, plate in plates.items():
        where = opaque[frame] & (mattes[frame] == 0)
        plate[where] = behind[where] * np.array([1.9, 0.6, 1.1], np.float32)

    class Crowded(Seen):
        def __init__(self, rgb: Array) -> None:
            super().__init__(rgb, at_rest=False)
            self.others = np.ones(rgb.shape[:2], np.float32)

    found = dict(
        find_affected(
            list(plates), plates.__getitem__, mattes.__getitem__, lambda _: Crowded(behind), Believes(0.9), Report()
        )
    )
    for frame, each in found.items():
        inner = cv2.erode((shadows[frame] > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        thing = cv2.erode(opaque[frame].astype(np.uint8), np.ones((3, 9), np.uint8)) > 0
        shade = inner & (cv2.dilate(opaque[frame].astype(np.uint8), np.ones((7, 7), np.uint8)) == 0)
        assert (each.appearance > 0.5)[thing].mean() < 0.1
        assert (each.suspected > 0.5)[thing].mean() > 0.9
        assert (each.appearance > 0.5)[shade].mean() > 0.9


@pytest.mark.parametrize(("restless", "believed"), [(0.0, True), (0.2, False)])
def test_a_camera_at_rest_is_believed_only_while_the_far_picture_is_quiet(restless: float, believed: bool) -> None:
    plates, mattes, shadows, behind = scene()
    rng = np.random.default_rng(9)
    for frame, plate in plates.items():
        far = cv2.dilate(np.maximum(mattes[frame], shadows[frame]), np.ones((31, 31), np.uint8)) == 0
        haze = far & (cv2.GaussianBlur(rng.standard_normal(far.shape), (0, 0), 3) > _above(restless))
        plate[haze] *= 0.5
    found = dict(
        find_affected(
            list(plates), plates.__getitem__, mattes.__getitem__, lambda _: Seen(behind), Believes(0.0), Report()
        )
    )
    marked = [(f.appearance > 0.5)[(shadows[n] > 0) & (mattes[n] == 0)].mean() for n, f in found.items()]
    assert (min(marked) > 0.95) if believed else (max(marked) == 0)


def _above(share: float) -> float:
    """The level above which about `share` of a smoothed noise lies."""
    sample: Sequence[float] = cv2.GaussianBlur(np.random.default_rng(9).standard_normal((90, 140)), (0, 0), 3).ravel()
    return float(np.quantile(sample, 1 - share)) if share else np.inf
