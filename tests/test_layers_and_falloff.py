"""Claims about what propagate does where donors can't simply be believed: passers-by, and shadows no donor explains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import cv2
import numpy as np
import pytest

from tests.fakes.shots import MemoryShot
from void_server.background import shadow_falloff as falloff
from void_server.background.estimate import Estimator
from void_server.background.tracking.camera import Camera, follow
from void_server.background.tracking.layers import Layers
from void_server.background.tracking.movers import Movers
from void_server.background.tracking.survey import survey
from void_server.engine.propagate.key_frames import KeyFrames
from void_server.wire.report import Report
from void_server.wire.shot import Window

HEIGHT, WIDTH, COUNT, PAN, WALK = 160, 240, 9, 3, 7


def _ground(rng: np.random.Generator, height: int, width: int, coarse: float = 2) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.uniform(0, 1, (height, width)).astype(np.float32), (0, 0), coarse)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return np.repeat((0.1 + 0.5 * noise)[..., None], 3, 2)


def _passer_by(t: int) -> slice:
    return slice(20 + WALK * t, 60 + WALK * t)


@pytest.fixture(scope="module")
def layers() -> Layers:
    """A camera that pans over noise by 3 pixels a frame, and a patch of other noise that walks through by 7."""
    rng = np.random.default_rng(4)
    wide, patch = _ground(rng, HEIGHT, WIDTH + PAN * COUNT), _ground(rng, 40, 40)[..., ::-1] * 1.2
    plate = np.stack([wide[:, PAN * t : PAN * t + WIDTH].copy() for t in range(COUNT)])
    for t in range(COUNT):
        plate[t][60:100, _passer_by(t)] = patch
    matte = np.zeros((COUNT, HEIGHT, WIDTH), np.float32)
    matte[:, 120:150, 100:130] = 1
    looked = survey(MemoryShot(plate, matte), Report())
    return Layers(looked, follow(looked, Report()))


def _trust(layers: Layers, other: int) -> np.ndarray:
    return next(layers.trust(4, [other], Window(0, 0, WIDTH, HEIGHT), (WIDTH, HEIGHT)))


def test_a_passer_by_is_believed_less_than_what_it_passes(layers: Layers) -> None:
    other = 6
    trust = _trust(layers, other)
    beyond = slice(_passer_by(4).stop + 6, _passer_by(other).stop + PAN * 2 - 4)  # where it is not on the target itself
    assert trust[68:92, beyond].mean() < 0.1
    assert trust[10:50, 20:220].min() > 0.9


def test_ground_that_a_passer_by_has_just_left_is_believed(layers: Layers) -> None:
    other = 6
    left = _passer_by(other).start + PAN * 2 - 14  # covered two frames ago, bare ever since
    assert _trust(layers, other)[68:92, left : left + 6].mean() > 0.9


def test_strays_are_found_the_same_in_any_order(layers: Layers) -> None:
    fresh = Layers(layers.survey, layers.camera)
    backwards = {index: fresh.strays(index) for index in reversed(range(COUNT))}
    for index in range(COUNT):
        np.testing.assert_array_equal(layers.strays(index), backwards[index])


def _shadow(strength: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(ground, ground with a soft shadow on it, shade, bare), in code."""
    ground = _ground(np.random.default_rng(7), HEIGHT, WIDTH, coarse=6)
    shade = np.zeros((HEIGHT, WIDTH), bool)
    shade[50:110, 40:200] = True
    deep = np.minimum(cv2.distanceTransform(shade.astype(np.uint8), cv2.DIST_L2, 5), 8) / 8
    return ground, (ground - strength * deep[..., None]).astype(np.float32), shade, ~shade


def test_light_learnt_on_one_half_of_a_shadow_is_given_back_to_the_other() -> None:
    ground, plate, shade, bare = _shadow()
    depths = falloff.depth(shade, bare, 1.0)
    sure = shade.copy()
    sure[:, 110:] = False
    taken = falloff.curve([falloff.sampled(ground - plate, sure, depths)])
    assert taken is not None
    lit = falloff.lit(plate, depths, taken, ground, sure)
    rest = shade & ~sure
    assert np.abs(plate - ground)[rest].mean() > 0.15
    assert np.abs(lit - ground)[rest].max() < 0.02


def test_a_glow_is_no_shadow() -> None:
    ground, plate, shade, bare = _shadow(strength=-0.3)
    depths = falloff.depth(shade, bare, 1.0)
    assert falloff.curve([falloff.sampled(ground - plate, shade, depths)]) is None


def test_the_contrast_with_the_open_tells_something_of_a_shadow_that_no_donor_knows() -> None:
    ground, plate, shade, bare = _shadow()
    depths = falloff.depth(shade, bare, 1.0)
    assert falloff.curve([]) is None
    taken = falloff.curve([falloff.by_contrast(plate, shade, bare, depths, 1.0)])
    assert taken is not None
    lit = falloff.lit(plate, depths, taken, ground, np.zeros_like(shade))
    assert np.abs(lit - ground)[shade].mean() < 0.5 * np.abs(plate - ground)[shade].mean()


def test_donors_that_contradict_each_other_leave_a_shadow_unexplained() -> None:
    _, plate, shade, bare = _shadow()
    ring = cv2.dilate(shade.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & bare
    scatter = np.full(shade.shape, 0.01, np.float32)
    known = np.ones_like(shade)
    assert not falloff.unexplained(shade, plate, bare, known, scatter, ring, 1.0).any()
    scatter[shade] = 0.1
    assert falloff.unexplained(shade, plate, bare, known, scatter, ring, 1.0)[60:100, 60:180].all()


def test_even_ground_is_left_to_invention() -> None:
    _, plate, shade, bare = _shadow()
    nothing, still = np.zeros_like(shade), np.zeros(shade.shape, np.float32)
    patchy = falloff.unexplained(shade, plate * 2, bare, nothing, still, bare, 1.0)
    tarmac = falloff.unexplained(shade, plate * 0.1 + 0.3, bare, nothing, still, bare, 1.0)
    assert patchy.any() and not tarmac.any()


def test_keys_near_the_ends_of_a_scene_are_its_ends() -> None:
    keys = KeyFrames([0] * 20 + [1] * 30)
    assert keys.beside(0) == [0, 10] and keys.beside(19) == [10, 19]
    assert all(20 <= k < 50 for i in range(20, 50) for k in [*keys.near(i), *keys.chain(i)])
    assert keys.parent(35) is None


class Straying:
    """Stands for `Layers`: frames that stray as a whole, and others that don't."""

    def __init__(self, indices: set[int]) -> None:
        self.indices = indices

    def trust(self, index: int, others: list[int], crop: Window, size: tuple[int, int]) -> Iterator[np.ndarray]:
        return (np.full(size[::-1], 0.2 if other in self.indices else 1.0, np.float32) for other in others)


@pytest.mark.parametrize("strays", [True, False])
def test_a_view_that_strays_does_not_vote_on_the_background_of_effects(strays: bool) -> None:
    rng = np.random.default_rng(7)
    count, middle = 13, 6
    plate = np.stack([_ground(rng, HEIGHT, WIDTH)] * count)
    hidden = {t for t in range(count) if abs(t - middle) not in (1, 4)}
    for t in hidden - {middle}:
        plate[t][70:110, 85:125] = 1.5
    matte = np.zeros((count, HEIGHT, WIDTH), np.float32)
    matte[middle, 80:100, 95:115] = 1
    shot = MemoryShot(plate, matte)
    # Not quite at rest, else one median of the whole shot is made.
    camera = Camera(
        [np.array([[1, 0, 1e-6 * t], [0, 1, 0], [0, 0, 1]]) for t in range(count)], [0] * count, [1.0] * count
    )
    looked = survey(shot, Report())
    layers = cast(Layers, Straying(hidden if strays else set()))
    estimator = Estimator(shot, looked, camera, layers, Movers(shot, looked, camera))
    found = estimator.on(1001 + middle, Window(0, 0, WIDTH, HEIGHT), 1.0)
    off = np.abs(found.rgb - plate[middle])[matte[middle] > 0].mean()
    assert bool(off < 0.02) is strays
