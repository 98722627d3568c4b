"""Light to the engine's codes and back: exact in range, bounded out of it."""

from __future__ import annotations

import numpy as np
import pytest

from void_server.image import colour, colour_space
from void_server.wire.errors import ColourError

HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)


def in_range(space: colour.EngineSpace) -> np.ndarray:
    finite = HALVES[np.isfinite(HALVES)]
    return finite[(finite >= 0) & (finite <= space.peak / space.gain)]


@pytest.mark.parametrize("gain, peak", [(1.0, 1.0), (1.0, 2.0), (1.0, 16.0), (4.0, 64.0), (0.5, 256.0)])
def test_every_half_float_in_range_comes_back_bit_for_bit(gain, peak):
    space = colour.EngineSpace(gain=gain, peak=peak)
    light = np.repeat(in_range(space)[:, None], 3, 1)
    # In float64, since the curve's own steps near the peak are finer than float32 codes can tell apart.
    back = space.decode(space._curve(light.astype(np.float64)))
    assert np.array_equal(back.astype(np.float16), light)


def test_float32_codes_keep_halves_to_their_last_bit():
    space = colour.EngineSpace(peak=16.0)
    light = np.repeat(in_range(space)[:, None], 3, 1)
    back = space.decode(space.encode(light)).astype(np.float16)
    steps = np.abs(back.view(np.uint16).astype(int) - light.view(np.uint16).astype(int))
    assert steps[light > 1e-4].max() <= 1


def test_the_table_gives_what_the_formula_gives():
    space = colour.EngineSpace(gain=2.0, peak=40.0)
    light = np.repeat(HALVES[:, None], 3, 1)
    with np.errstate(invalid="ignore"):
        by_formula = space.encode(light.astype(np.float32))
    assert np.allclose(space.encode(light), by_formula, atol=1e-6)


def test_decoded_light_is_bounded_whatever_the_code():
    space = colour.EngineSpace(gain=2.0, peak=40.0)
    wild = np.array([[-5.0, 0.5, 7.0], [np.nan, np.inf, -np.inf]], np.float32)
    light = space.decode(wild)
    assert np.isfinite(light).all()
    assert light.min() >= 0
    assert light.max() <= 20.0 + 1e-4


def test_the_curve_has_no_corner_at_the_knee():
    space = colour.EngineSpace(peak=16.0)
    x = colour.KNEE + np.array([-2e-4, -1e-4, 1e-4, 2e-4])
    code = space._curve(np.repeat(x[:, None], 3, 1))[:, 0]
    assert np.isclose((code[1] - code[0]) / 1e-4, (code[3] - code[2]) / 1e-4, rtol=1e-2)


def test_a_shot_without_highlights_gets_plain_srgb():
    samples = np.random.default_rng(0).uniform(0.05, 0.6, (1000, 3))
    assert colour.engine_space(samples).peak == 1.0


def test_a_dark_shot_is_lifted_and_an_ordinary_one_is_left_alone():
    rng = np.random.default_rng(0)
    assert colour.engine_space(rng.uniform(0.15, 0.25, (1000, 3))).gain == 1.0
    assert 8 < colour.engine_space(rng.uniform(0.01, 0.02, (1000, 3))).gain <= 16


@pytest.mark.parametrize("name", ["acescg", "lin_ap0", "lin_rec2020", "ACES2065-1", "lin_p3d65"])
def test_white_stays_white_and_colours_come_back_through_other_primaries(name):
    chromaticities = colour_space.plate_space(name, None, False, None).chromaticities
    space = colour.EngineSpace(peak=16.0, chromaticities=chromaticities)
    assert np.allclose(colour.to_rec709(chromaticities).sum(1), 1, atol=2e-3)
    light = np.random.default_rng(1).uniform(0.3, 0.5, (500, 3)).astype(np.float32)
    assert np.allclose(space.decode(space.encode(light)), light, rtol=2e-4)


def test_acescg_to_rec709_is_the_published_matrix():
    # ACES 1.3 reference: AP1 to linear Rec.709 with Bradford adaptation from ACES white to D65.
    published = [[1.70505, -0.62179, -0.08326], [-0.13026, 1.14080, -0.01055], [-0.02400, -0.12897, 1.15297]]
    assert np.allclose(colour.to_rec709(colour.AP1), published, atol=2e-3)


def test_the_space_comes_from_the_flag_then_the_tags_then_an_assumption_with_a_warning():
    tagged = colour_space.plate_space(None, colour.AP1, False, None)
    assert (tagged.name, tagged.warning) == ("lin_ap1", "")
    assert colour_space.plate_space("lin_rec709", colour.AP1, False, None).chromaticities == colour.REC709
    assert colour_space.plate_space(None, None, True, None).chromaticities == colour.AP0
    assert colour_space.plate_space(None, None, False, "lin_ap1_scene").chromaticities == colour.AP1
    assumed = colour_space.plate_space(None, None, False, None)
    assert assumed.chromaticities == colour.REC709
    assert "--colorspace" in assumed.warning


@pytest.mark.parametrize("name", ["acescct", "sRGB", "lin_mars"])
def test_a_space_that_is_unknown_or_not_linear_is_refused(name):
    with pytest.raises(ColourError) as caught:
        colour_space.plate_space(name, None, False, None)
    assert name in caught.value.message
    assert caught.value.hint
