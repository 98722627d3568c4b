"""Which part of the plate VOID sees: a legal region at rest, or one that follows the hole as a camera would."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import textured
from void_server.engine.void.passes.noise import warped_noise
from void_server.engine.void.region import FINE_PIXELS, PAN, TRAINED_PIXELS, crops, region
from void_server.wire.shot import Window

CANVASES = [(1080, 1920), (2160, 4096), (1556, 2048), (858, 2048), (480, 854), (1920, 1080), (60, 100)]


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("most", [TRAINED_PIXELS, FINE_PIXELS])
def test_the_region_holds_every_hole_at_a_legal_size_and_exact_aspect(canvas, share, most):
    height, width = canvas
    rng = np.random.default_rng(0)
    for _ in range(20):
        h, w = max(1, int(height * share * rng.uniform(0.5, 1))), max(1, int(width * share * rng.uniform(0.5, 1)))
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        hole = Window(int(x), int(y), int(x) + w, int(y) + h)
        crop, (rows, columns) = region([hole], canvas, most_pixels=most)
        assert crop.contains(hole)
        assert rows % 16 == columns % 16 == 0
        assert rows * columns <= 1.1 * most
        scale = rows / crop.height
        assert scale <= 1
        assert (round(crop.height * scale), round(crop.width * scale)) == (rows, columns)


def test_a_small_hole_is_seen_at_full_resolution_and_a_large_one_with_context():
    crop, size = region([Window(900, 500, 1000, 560)], (1080, 1920))
    assert (crop.height, crop.width) == size
    large = Window(400, 300, 1300, 800)
    crop, _ = region([large], (1080, 1920))
    assert crop.contains(large.grow(round(0.25 * large.height)))


def test_a_larger_area_is_taken_only_as_far_as_it_shows_more():
    small, middling = [Window(900, 500, 1000, 560)], [Window(600, 300, 1200, 700)]
    assert region(small, (1080, 1920), most_pixels=FINE_PIXELS) == region(small, (1080, 1920))
    crop, (rows, columns) = region(middling, (1080, 1920), most_pixels=FINE_PIXELS)
    assert (crop.height, crop.width) == (rows, columns), "at the plate's own size"
    crop, (rows, columns) = region([Window(0, 0, 4096, 2160)], (2160, 4096), most_pixels=FINE_PIXELS)
    assert 0.9 * FINE_PIXELS < rows * columns <= 1.02 * FINE_PIXELS


def test_a_tall_thin_hole_is_seen_finer_than_in_the_plates_aspect():
    crop, (rows, columns) = region([Window(900, 40, 980, 1040)], (1080, 1920))
    assert rows > columns
    assert rows / crop.height > 1.5 * 384 / 1080


def test_an_asked_for_size_is_kept():
    crop, size = region([Window(0, 0, 1920, 1080)], (1080, 1920), size=(544, 960))
    assert size == (544, 960)
    assert round(crop.width * 544 / crop.height) == 960


def travelling(frames, step, width=160, height=200, noise=0.0, swing=0.0):
    """A box that crosses 1920x1080 to the right; noise: of each edge, as a matte's; swing: up and down."""
    rng = np.random.default_rng(0)
    found = []
    for t in range(frames):
        x, y = step * t, 500 + swing * np.sin(t / 9)
        edges = np.array([x, y, x + width, y + height]) + noise * rng.standard_normal(4)
        found.append(Window(*(int(edge) for edge in edges)).intersect(Window(0, 0, 1920, 1080)))
    return found


SHOTS = {
    "even": travelling(80, 20),
    "ragged matte": travelling(80, 20, noise=6),
    "swings": travelling(90, 18, swing=250),
    "fast": travelling(40, 40, width=300, height=400),
    "there and back": travelling(60, 25) + travelling(60, 25)[::-1],
    "comes and goes": [None] * 9 + travelling(40, 20) + [None] * 12 + travelling(80, 20)[52:] + [None] * 5,
}


@pytest.mark.parametrize("size", [None, (384, 672)])
@pytest.mark.parametrize("holes", SHOTS.values(), ids=SHOTS)
def test_a_crop_that_follows_holds_every_hole_with_context_and_pans_as_a_camera_does(holes, size):
    found, (rows, columns) = crops(holes, (1080, 1920), size=size)
    at_rest, rest_size = region([hole for hole in holes if hole], (1080, 1920), size=size)
    assert len(found) == len(holes)
    assert rows / found[0].height >= 1.25 * rest_size[0] / at_rest.height
    assert len({(crop.width, crop.height) for crop in found}) == 1, "one size"
    assert rows % 16 == columns % 16 == 0 and rows * columns <= 1.02 * TRAINED_PIXELS
    scale = rows / found[0].height
    assert (round(found[0].height * scale), round(found[0].width * scale)) == (rows, columns)
    canvas = Window(0, 0, 1920, 1080)
    for crop, hole in zip(found, holes):
        assert canvas.contains(crop)
        if hole is not None:
            assert crop.contains(hole.grow(round(0.25 * max(hole.width, hole.height))).intersect(canvas))
    for corners, side in (([c.x0 for c in found], found[0].width), ([c.y0 for c in found], found[0].height)):
        speed = np.diff(corners)
        assert np.abs(speed).max() <= side / PAN + 1
        assert np.abs(np.diff(speed)).max() <= side / 100 + 2, "no jerk, but for whole pixels"


@pytest.mark.parametrize(
    "holes",
    [
        [Window(500, 300, 1400, 900)] * 30,
        [Window(900 + t, 500, 1000 + t, 560) for t in range(40)],
        [Window(100, 500, 260, 700)] * 20 + [Window(1600, 500, 1760, 700)] * 20,
        [None, Window(0, 0, 1920, 1080), None],
    ],
    ids=["stays", "hardly moves", "jumps", "one frame"],
)
def test_a_crop_rests_where_following_would_show_no_more_or_be_no_pan(holes):
    found, size = crops(holes, (1080, 1920))
    assert (found[0], size) == region([hole for hole in holes if hole], (1080, 1920))
    assert len(set(found)) == 1 and len(found) == len(holes)


def test_fine_follows_where_the_same_is_shown_in_a_smaller_picture_which_takes_less_time():
    holes = [Window(14 * t, 400, 14 * t + 150, 600) for t in range(90)]
    at_rest, rest_size = region(holes, (800, 1420), most_pixels=FINE_PIXELS)
    found, size = crops(holes, (800, 1420), most_pixels=FINE_PIXELS)
    assert len(set(found)) > 1
    assert size[0] / found[0].height >= rest_size[0] / at_rest.height
    assert size[0] * size[1] < rest_size[0] * rest_size[1] / 2


def test_a_crop_rests_where_it_is_told_to():
    assert len(set(crops(SHOTS["even"], (1080, 1920), follow=False)[0])) == 1


def test_noise_for_the_second_pass_follows_the_fastest_pan():
    height, width = 192, 336
    pan = width // PAN
    world = textured.texture(height, width + 8 * pan) ** (1 / 2.2)
    first, second = warped_noise(np.stack([world[:, pan * t : pan * t + width] for t in range(5)]), 2, 1)
    moved = 4 * pan // 8
    assert np.corrcoef(first[..., moved:].ravel(), second[..., : width // 8 - moved].ravel())[0, 1] > 0.95
