"""Colour: which space a plate is said to be in, whether a Read changes a sample; with the real OCIO and its ACES."""

from __future__ import annotations

import pytest

from tests.fakes import nuke
from tests.nuke_session import comp, started

ocio = pytest.importorskip("PyOpenColorIO")

ACES_13 = "cg-config-v2.2.0_aces-v1.3_ocio-v2.4"
ACES_20 = "cg-config-v4.0.0_aces-v2.0_ocio-v2.5"


@pytest.fixture
def session():
    with started() as found:
        yield found


def managed(folder, working: str = "scene_linear", **knobs: str) -> nuke.Node:
    """A script under OCIO, as its settings are saved: public ACES scripts say `workingSpaceLUT scene_linear`."""
    node, _ = comp(folder)
    root = nuke.root()._data.knobs
    root.update({"colorManagement": "OCIO", "OCIO_config": ACES_13, "workingSpaceLUT": working, **knobs})
    return node


def planned(session, node, colorspace: str | None = None):
    if colorspace is not None:
        node.input(0)._data.knobs.update(raw="false", colorspace=colorspace)
    return session.host.request.plan(session.host.look(node))


@pytest.mark.parametrize("config", [ACES_13, f"fn-nuke_{ACES_13}", ACES_20])
@pytest.mark.parametrize("colorspace", ["default (ACEScg)", "scene_linear (ACEScg)", "ACEScg", "scene_linear"])
def test_an_aces_script_sends_its_plate_as_it_lies_and_names_its_space(tmp_path, session, config, colorspace):
    node = managed(tmp_path, OCIO_config=config)
    plan = planned(session, node, colorspace)
    assert "plate" in plan.direct and plan.settings.colorspace == "acescg"


@pytest.mark.parametrize("colorspace", ["ACES2065-1", "default (ACES2065-1)", "Linear Rec.709 (sRGB)", "ACEScct"])
def test_a_read_that_nuke_converts_is_rendered_in_the_working_space(tmp_path, session, colorspace):
    plan = planned(session, managed(tmp_path), colorspace)
    assert "plate" not in plan.direct and plan.settings.colorspace == "acescg"


def test_the_first_aces_configuration_names_its_spaces_with_families(tmp_path, session):
    """aces_1.2, which OCIO 2 no longer builds in; here by its names alone, as where no configuration is found."""
    node = managed(tmp_path, working="ACES - ACEScg", OCIO_config="aces_1.2")
    plan = planned(session, node, "default (ACES - ACEScg)")
    assert "plate" in plan.direct and plan.settings.colorspace == "acescg"


@pytest.mark.parametrize(
    ("space", "told"),
    [("Linear Rec.709 (sRGB)", "lin_rec709"), ("Linear P3-D65", "lin_p3d65"), ("lin_ap0", "aces2065-1")],
)
def test_a_studios_own_configuration_is_read_and_its_names_are_known_by_their_primaries(tmp_path, session, space, told):
    config = ocio.Config.CreateFromBuiltinConfig(ACES_13)
    same = config.getColorSpace(space)
    house = ocio.ColorSpace(name="House Linear")
    for way in (ocio.COLORSPACE_DIR_TO_REFERENCE, ocio.COLORSPACE_DIR_FROM_REFERENCE):
        if same.getTransform(way) is not None:
            house.setTransform(same.getTransform(way), way)
    config.addColorSpace(house)
    config.setRole("scene_linear", "House Linear")
    path = tmp_path / "config.ocio"
    path.write_text(config.serialize())
    node = managed(tmp_path, OCIO_config="custom", customOCIOConfigPath=path.as_posix())
    plan = planned(session, node, "default (House Linear)")
    assert "plate" in plan.direct and plan.settings.colorspace == told


@pytest.mark.parametrize("working", ["ACEScct", "Raw", "Linear ARRI Wide Gamut 4", "nonsense"])
def test_a_working_space_that_nobody_knows_is_refused_until_the_node_names_it(tmp_path, session, working):
    node = managed(tmp_path, working, OCIO_config="studio-config-v2.2.0_aces-v1.3_ocio-v2.4")
    with pytest.raises(session.host.request.RefusedError, match=r"names no colour space that VOID knows\. Write"):
        planned(session, node)
    node["colorspace"].setValue("lin_rec709")
    assert planned(session, node).settings.colorspace == "lin_rec709"


def test_a_role_without_its_configuration_is_refused_and_not_taken_for_rec709(tmp_path, session):
    node = managed(tmp_path, OCIO_config="custom", customOCIOConfigPath="/nowhere/config.ocio")
    with pytest.raises(session.host.request.RefusedError, match="its OCIO configuration was not found"):
        planned(session, node)


def test_the_environment_names_the_configuration_before_the_script_does(tmp_path, session, monkeypatch):
    monkeypatch.setenv("OCIO", f"ocio://{ACES_20}")
    node = managed(tmp_path, OCIO_config="custom", customOCIOConfigPath="/nowhere/config.ocio")
    assert planned(session, node).settings.colorspace == "acescg"


def test_nukes_own_management_names_no_primaries_and_the_files_tags_count(tmp_path, session):
    node, _ = comp(tmp_path)
    plan = planned(session, node, "default (linear)")
    assert "plate" in plan.direct and plan.settings.colorspace is None
