"""Which channels are taken: named ones first, the obvious one with a word about it, and never a silent guess."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from tests import exr_files
from tests.exr_files import part, write
from void_server.image import exr
from void_server.wire.errors import MatteError, PlateError
from void_server.wire.shot import Window

SMALL = Window(0, 0, 8, 6)


def rgb(layer: str = "", names: Sequence[str] = ("R", "G", "B")) -> list[str]:
    return [f"{layer}.{name}" if layer else name for name in names]


def one_part(path: Path, *names: str, **header: object) -> Path:
    return write(path / "plate.exr", part(SMALL, dict.fromkeys(names, "half"), **header))


def several_parts(path: Path, **parts: Sequence[str]) -> Path:
    made = [part(SMALL, dict.fromkeys(names, "half"), name=name) for name, names in parts.items()]
    return write(path / "plate.exr", *made)


@pytest.mark.parametrize(
    ("names", "chosen", "noted"),
    [
        (rgb(), ("R", "G", "B"), False),
        ([*rgb(), "A", "Z", *rgb("diffuse"), *rgb("beauty")], ("R", "G", "B"), False),
        (rgb("", ("r", "g", "b")), ("r", "g", "b"), False),
        (rgb("", ("red", "green", "blue")), ("red", "green", "blue"), False),
        ([*rgb(), "r", "g", "b"], ("R", "G", "B"), False),
        (rgb("beauty", ("red", "green", "blue")), ("beauty.red", "beauty.green", "beauty.blue"), True),
        ([*rgb("rgba"), *rgb("diffuse")], ("rgba.R", "rgba.G", "rgba.B"), True),
        (
            [*rgb("ViewLayer.Combined"), *rgb("ViewLayer.DiffCol"), "ViewLayer.Combined.A"],
            ("ViewLayer.Combined.R", "ViewLayer.Combined.G", "ViewLayer.Combined.B"),
            True,
        ),
        ([*rgb("odd.name"), "Z"], ("odd.name.R", "odd.name.G", "odd.name.B"), True),
    ],
)
def test_the_beauty_of_one_part(tmp_path: Path, names: list[str], chosen: tuple[str, ...], noted: bool) -> None:
    header = exr.read_plate_header(one_part(tmp_path, *names))
    assert header.rgb == chosen
    assert header.layer == chosen[0].rpartition(".")[0]
    assert (header.notes != ()) == noted
    assert all("beauty taken from" in note and header.layer in note for note in header.notes)


def test_a_layer_s_colours_may_be_joined_by_an_underscore_where_there_are_no_others(tmp_path: Path) -> None:
    header = exr.read_plate_header(one_part(tmp_path, "beauty_R", "beauty_G", "beauty_B"))
    assert (header.rgb, header.layer) == (("beauty_R", "beauty_G", "beauty_B"), "beauty")
    assert exr.read_plate_header(one_part(tmp_path, "beauty_R", "beauty_G", "beauty_B", *rgb())).rgb == ("R", "G", "B")


def test_colours_in_three_parts_are_one_picture_and_go_back_into_theirs(tmp_path: Path) -> None:
    window = Window(-3, 2, 61, 50)
    parts = [part(window, {name: "half", f"{name}.id": "uint"}, name=name, seed=index, display=Window(0, 0, 64, 64))
             for index, name in enumerate("RGB")]  # fmt: skip
    plate = write(tmp_path / "plate.exr", *parts)
    header = exr.read_plate_header(plate)
    assert header.notes == ("beauty put together from the parts R, G, B",)
    before = exr_files.read_bits(plate.read_bytes())
    light = exr.read_rgb(header)
    for index, name in enumerate("RGB"):
        assert np.array_equal(light[..., index].view(np.uint16), before[index][name])
    where, new, change = exr_files.patch(window)
    exr.write_clean(header, tmp_path / "clean.exr", where, new, change)
    after = exr_files.read_bits((tmp_path / "clean.exr").read_bytes())
    inside = np.zeros(light.shape[:2], bool)
    inside[where.slices(window)] = change > 0
    for index, name in enumerate("RGB"):
        assert np.array_equal(after[index][f"{name}.id"], before[index][f"{name}.id"])
        assert np.array_equal(after[index][name][~inside], before[index][name][~inside])
        expected = new[change > 0][:, index].astype(np.float16)
        assert np.array_equal(after[index][name][inside].view(np.float16), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.exr", "plate.exr"]
    with pytest.raises(MatteError, match="several channels"):
        exr.read_matte_header(plate)


@pytest.mark.parametrize(
    "names",
    [[*rgb("diffuse"), *rgb("specular")], [*rgb("rgba"), *rgb("beauty")], [*rgb("A.Combined"), *rgb("B.Combined")]],
)
def test_two_possible_beauties_are_listed_not_guessed(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(PlateError, match="could be the beauty") as caught:
        exr.read_plate_header(one_part(tmp_path, *names))
    for name in names:
        assert name.rpartition(".")[0] in caught.value.hint


@pytest.mark.parametrize(
    ("layer", "chosen"),
    [("diffuse", "diffuse"), ("DIFFUSE", "diffuse"), ("deep.spec", "deep.spec"), ("spec", "deep.spec"), ("rgba", "")],
)
def test_a_layer_by_name(tmp_path: Path, layer: str, chosen: str) -> None:
    plate = one_part(tmp_path, *rgb(), *rgb("diffuse"), *rgb("deep.spec"))
    header = exr.read_plate_header(plate, layer)
    assert (header.layer, header.notes) == (chosen, ())


def test_a_layer_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    plate = one_part(tmp_path, *rgb(), *rgb("diffuse"), "mask.R", "mask.G")
    for missing in ("beauty", "mask"):
        with pytest.raises(PlateError, match=f"no layer '{missing}'") as caught:
            exr.read_plate_header(plate, missing)
        assert caught.value.hint == "Name one with --layer: rgb, diffuse."


def test_a_part_by_name_and_its_beauty_by_default(tmp_path: Path) -> None:
    plate = several_parts(tmp_path, albedo=rgb(), beauty=[*rgb(), "A"], depth=["Z"])
    header = exr.read_plate_header(plate)
    assert (header.part, header.part_name) == (1, "beauty")
    assert header.notes == ("beauty taken from beauty",)
    assert exr.read_plate_header(plate, "albedo").part == 0
    with pytest.raises(PlateError, match="no layer 'depth'"):
        exr.read_plate_header(plate, "depth")


def test_parts_that_all_could_be_the_beauty_are_listed(tmp_path: Path) -> None:
    plate = several_parts(tmp_path, albedo=rgb(), normals=rgb())
    with pytest.raises(PlateError, match="could be the beauty") as caught:
        exr.read_plate_header(plate)
    assert caught.value.hint == "Name one with --layer: albedo, normals."


def test_views_in_parts(tmp_path: Path) -> None:
    made = [
        part(SMALL, dict.fromkeys(rgb(), "half"), name=f"{name}_{view}", view=view)
        for view in ("left", "right")
        for name in ("rgba", "albedo")
    ]
    plate = write(tmp_path / "plate.exr", *made)
    header = exr.read_plate_header(plate)
    assert header.part_name == "rgba_left"
    assert "view left" in header.notes[0]
    assert "rgba_right" in header.notes[0]
    assert exr.read_plate_header(plate, "right").part_name == "rgba_right"
    assert exr.read_plate_header(plate, "albedo_right").part_name == "albedo_right"
    assert exr.read_plate_header(plate, "albedo").part_name == "albedo_left"


def test_views_in_one_part(tmp_path: Path) -> None:
    plate = one_part(tmp_path, *rgb(), *rgb("right"))
    views = b"".join(struct.pack("<i", len(view)) + view for view in (b"left", b"right"))
    extra = exr_files.attribute(b"multiView", b"stringvector", views)
    plate.write_bytes(exr_files.with_attributes(plate.read_bytes(), extra))
    header = exr.read_plate_header(plate)
    assert header.layer == ""
    assert header.notes == ("beauty taken from rgb, view left; left alone: right",)
    assert exr.read_plate_header(plate, "right").layer == "right"
    assert exr.read_plate_header(plate, "left").layer == ""


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        (["Y"], "no red, green and blue; its channels are Y", "as RGB"),
        (["Y", "RY", "BY"], "luminance and chroma", "Convert it to RGB"),
        (["R", "G", "Z"], "no red, green and blue", "as RGB"),
    ],
)
def test_plates_without_colour_are_refused(tmp_path: Path, names: list[str], message: str, hint: str) -> None:
    with pytest.raises(PlateError, match=message) as caught:
        exr.read_plate_header(one_part(tmp_path, *names))
    assert hint in caught.value.hint


def test_light_in_whole_numbers_is_refused(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(SMALL, {"R": "half", "G": "uint", "B": "half"}))
    with pytest.raises(PlateError, match="whole numbers"):
        exr.read_plate_header(plate)


@pytest.mark.parametrize(
    ("names", "chosen", "note"),
    [
        ([*rgb(), "A"], "A", ()),
        (["A"], "A", ()),
        (["alpha", "Z"], "alpha", ()),
        (["Y"], "Y", ("matte taken from Y",)),
        (["roto.spline"], "roto.spline", ("matte taken from roto.spline",)),
        (rgb(), "R", ("matte taken from R: no alpha",)),
        ([*rgb(), "matte"], "matte", ("matte taken from matte",)),
        (["Z", "mask.a"], "mask.a", ("matte taken from mask.a",)),
        ([*rgb("matte"), "Z"], "matte.R", ("matte taken from matte.R",)),
        ([*rgb(), *rgb("mask")], "mask.R", ("matte taken from mask.R",)),
    ],
)
def test_the_matte_of_one_part(tmp_path: Path, names: list[str], chosen: str, note: tuple[str, ...]) -> None:
    header = exr.read_matte_header(one_part(tmp_path, *names))
    assert (header.matte_channel, header.notes) == (chosen, note)


def test_a_matte_channel_by_name(tmp_path: Path) -> None:
    plate = one_part(tmp_path, *rgb(), "A", "mask.a", "holdout.x", "holdout.y")
    for wanted, chosen in (("G", "G"), ("mask.a", "mask.a"), ("mask", "mask.a"), ("MASK.A", "mask.a")):
        assert exr.read_matte_header(plate, wanted).matte_channel == chosen
    with pytest.raises(MatteError, match="several channels") as caught:
        exr.read_matte_header(plate, "holdout")
    assert "holdout.x, holdout.y" in caught.value.hint
    with pytest.raises(MatteError, match="no channel 'nope'") as caught:
        exr.read_matte_header(plate, "nope")
    assert "mask.a" in caught.value.hint


def test_a_matte_in_a_part(tmp_path: Path) -> None:
    plate = several_parts(tmp_path, rgba=rgb(), roto=["Y"])
    assert exr.read_matte_header(plate, "roto").part == 1
    assert exr.read_matte_header(plate, "roto.Y").part == 1
    several_parts(tmp_path, rgba=rgb(), roto=["A"])
    assert exr.read_matte_header(plate).part == 1


def test_several_mattes_are_listed_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(MatteError, match="several channels") as caught:
        exr.read_matte_header(one_part(tmp_path, "mask.x", "mask.y"))
    assert "mask.x, mask.y" in caught.value.hint


def test_mip_maps_are_refused_by_name(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(SMALL, dict.fromkeys(rgb(), "half"), tile=(4, 4)))
    tiles = struct.pack("<IIB", 4, 4, 0)
    plate.write_bytes(plate.read_bytes().replace(tiles, tiles[:-1] + bytes([1]), 1))
    with pytest.raises(PlateError, match="mip-mapped") as caught:
        exr.read_plate_header(plate)
    assert "Nuke" in caught.value.hint


def test_deep_plates_are_refused_by_name(tmp_path: Path) -> None:
    deep = np.empty((4, 4), object)
    for index in np.ndindex(deep.shape):
        deep[index] = np.ones(2, np.float32)
    header = {"compression": OpenEXR.ZIPS_COMPRESSION, "type": OpenEXR.deepscanline}
    OpenEXR.File(header, {name: deep.copy() for name in "RGBA"}).write(str(tmp_path / "plate.exr"))
    with pytest.raises(PlateError, match="deep pixels") as caught:
        exr.read_plate_header(tmp_path / "plate.exr")
    assert "DeepToImage" in caught.value.hint
