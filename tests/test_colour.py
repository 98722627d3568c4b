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


HOSTS = {
    "ACES - ACEScg": colour.AP1,
    "ACEScg": colour.AP1,
    "Linear ACEScg": colour.AP1,
    "lin_ap1_scene": colour.AP1,
    "Role - scene_linear (ACES - ACEScg)": None,
    "scene_linear (ACES - ACEScg)": colour.AP1,
    "ACES/ACEScg": colour.AP1,
    "ACES - ACES2065-1": colour.AP0,
    "Linear ACES": colour.AP0,
    "aces2065_1": colour.AP0,
    "Linear Rec.709 (sRGB)": colour.REC709,
    "Linear Rec.709": colour.REC709,
    "Utility - Linear - sRGB": colour.REC709,
    "Utility/Linear/Utility - Linear - Rec.709": colour.REC709,
    "linear": colour.REC709,
    "Linear": colour.REC709,
    "LIN_SRGB": colour.REC709,
    "Linear BT.709 I-D65": colour.REC709,
    "Linear Rec.2020": colour.REC2020,
    "Utility - Linear - Rec.2020": colour.REC2020,
    "lin_rec2020_scene": colour.REC2020,
    "Linear DCI-P3 D65": colour.P3D65,
    "lin_displayp3": colour.P3D65,
    "lin_adobergb_scene": colour_space.ADOBE,
    "Utility - Linear - Adobe RGB": colour_space.ADOBE,
    "Linear CIE-XYZ E": colour_space.XYZ_E,
}
"""Names that Nuke, Blender and the ACES configs of 1.2 to 2.1 write, with what they mean."""


@pytest.mark.parametrize("name", HOSTS)
def test_names_that_hosts_write_are_known_and_exact(name, monkeypatch):
    monkeypatch.delenv("OCIO", raising=False)
    if HOSTS[name] is None:
        with pytest.raises(ColourError, match="unknown"):
            colour_space.plate_space(name, None, False, None)
        return
    found = colour_space.plate_space(name, None, False, None)
    assert (found.chromaticities, found.warning) == (HOSTS[name], "")


def test_every_linear_name_of_opencolorio_s_own_configs_is_known_with_its_own_matrix(monkeypatch):
    monkeypatch.delenv("OCIO", raising=False)
    ocio = pytest.importorskip("PyOpenColorIO")
    titles = sorted(row[0] for row in ocio.BuiltinConfigRegistry().getBuiltinConfigs())
    # The oldest of the small ones and the newest of the large ones; all ten pass, in half a minute.
    for title in (titles[0], titles[-1]):
        config = ocio.Config.CreateFromBuiltinConfig(title)
        for space in config.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_SCENE, ocio.COLORSPACE_ALL):
            for name in (space.getName(), *space.getAliases()):
                if space.isData():
                    assert "gives no colour" in colour_space.plate_space(name, None, False, None).warning
                elif space.getEncoding() == "scene-linear" and "XYZ" not in space.getName():
                    found = colour_space.plate_space(name, None, False, None).chromaticities
                    if name == space.getName():
                        processor = ocio.Config.GetProcessorToBuiltinColorSpace(config, name, "Linear Rec.709 (sRGB)")
                        rgb = np.eye(3, dtype=np.float32)
                        processor.getDefaultCPUProcessor().applyRGB(rgb)
                    assert np.allclose(colour.to_rec709(found).T, rgb, atol=4e-3), name
                else:
                    with pytest.raises(ColourError, match=r"not scene-linear|not RGB"):
                        colour_space.plate_space(name, None, False, None)


CONFIG = """ocio_profile_version: 2
roles: {scene_linear: studio_lin, aces_interchange: aces, data: nothing, plates: studio_lin}
file_rules: [!<Rule> {name: Default, colorspace: default}]
displays: {sRGB: [!<View> {name: Raw, colorspace: nothing}]}
colorspaces:
  - !<ColorSpace> {name: aces, encoding: scene-linear}
  - !<ColorSpace> {name: default, encoding: scene-linear}
  - !<ColorSpace> {name: nothing, isdata: true}
  - !<ColorSpace>
    name: studio_lin
    aliases: [show_a]
    to_scene_reference: !<BuiltinTransform> {style: ACEScg_to_ACES2065-1}
  - !<ColorSpace>
    name: studio_log
    to_scene_reference: !<BuiltinTransform> {style: ACEScct_to_ACES2065-1}
"""


def test_a_studio_s_own_config_knows_its_names_and_roles_first(tmp_path, monkeypatch):
    (tmp_path / "config.ocio").write_text(CONFIG)
    monkeypatch.setenv("OCIO", str(tmp_path / "config.ocio"))
    for name in ("studio_lin", "show_a", "scene_linear", "plates", "Show_A"):
        found = colour_space.plate_space(name, None, False, None)
        assert (found.chromaticities, found.warning) == (colour.AP1, "")
    assert colour_space.plate_space("Linear Rec.2020", None, False, None).chromaticities == colour.REC2020
    with pytest.raises(ColourError, match=r"'studio_log' \(--colorspace\) is not scene-linear"):
        colour_space.plate_space("studio_log", None, False, None)
    monkeypatch.setenv("OCIO", str(tmp_path / "gone.ocio"))
    with pytest.raises(ColourError, match=r"\$OCIO names can't be read"):
        colour_space.plate_space("studio_lin", None, False, None)
    assert colour_space.plate_space(None, colour.AP1, False, None).chromaticities == colour.AP1


def test_a_role_without_a_config_is_taken_and_said(monkeypatch):
    monkeypatch.delenv("OCIO", raising=False)
    for name in ("scene_linear", "compositing_linear", "rendering"):
        found = colour_space.plate_space(name, None, False, None)
        assert found.chromaticities == colour.AP1
        assert "is a role" in found.warning
        assert "ACEScg is taken" in found.warning


@pytest.mark.parametrize("interop_id", ["unknown", "data", "raw", ""])
def test_an_interop_id_that_says_nothing_leaves_it_to_the_other_tags(interop_id):
    tagged = colour_space.plate_space(None, colour.AP1, False, interop_id)
    assert (tagged.name, tagged.chromaticities) == ("lin_ap1", colour.AP1)
    assert bool(tagged.warning) == (interop_id in ("data", "raw"))
    bare = colour_space.plate_space(None, None, False, interop_id)
    assert bare.chromaticities == colour.REC709
    assert "--colorspace" in bare.warning
    assert (f"'{interop_id}'" in bare.warning) == bool(interop_id)


def test_an_interop_id_nobody_knows_is_named_with_its_attribute_and_the_flag():
    with pytest.raises(ColourError, match="colorInteropID") as caught:
        colour_space.plate_space(None, None, False, "studio:lin_mars_scene")
    assert "--colorspace" in caught.value.hint
    tagged = colour_space.plate_space(None, colour.AP1, False, "studio:lin_mars_scene")
    assert tagged.chromaticities == colour.AP1
    assert "is unknown" in tagged.warning
    with pytest.raises(ColourError, match="not scene-linear"):
        colour_space.plate_space(None, colour.REC709, False, "srgb_rec709_display")
    both = colour_space.plate_space(None, colour.AP1, False, "lin_rec709_scene")
    assert both.chromaticities == colour.REC709
    assert "its chromaticities lin_ap1" in both.warning


def test_xyz_is_read_as_xyz():
    xyz = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3)
    assert np.allclose(colour.rgb_to_xyz(xyz), np.eye(3))
    found = colour_space.plate_space(None, xyz, False, None)
    assert found.warning == ""
    light = np.random.default_rng(1).uniform(0.2, 0.5, (50, 3)).astype(np.float32)
    space = colour.EngineSpace(peak=16.0, chromaticities=found.chromaticities)
    assert np.isfinite(space.encode(light)).all()
    assert colour.display(light, xyz).mean() > 100


@pytest.mark.parametrize(
    "numbers",
    [
        (0.0,) * 8,
        (np.nan,) * 8,
        (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.0),
        (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3),
    ],
)
def test_chromaticities_that_are_no_colour_space_are_left_out_and_named(numbers):
    found = colour_space.plate_space(None, numbers, False, None)
    assert found.chromaticities == colour.REC709
    assert "chromaticities" in found.warning
    assert "--colorspace" in found.warning


@pytest.mark.parametrize("name", ["Raw", "Non-Color", "data", "unknown", "default"])
def test_a_name_that_says_nothing_leaves_it_to_the_file(name):
    assert colour_space.plate_space(name, colour.AP1, False, None).chromaticities == colour.AP1
    assert "gives no colour" in colour_space.plate_space(name, None, False, None).warning


@pytest.mark.parametrize(
    "name", ["AlexaV3LogC", "Gamma2.2", "Cineon", "Output - sRGB", "Filmic Log", "ACES - ACEScct", "LogC4"]
)
def test_curves_are_refused_as_not_linear_whoever_wrote_them(name):
    with pytest.raises(ColourError, match="not scene-linear"):
        colour_space.plate_space(name, None, False, None)
