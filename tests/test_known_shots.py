"""The benchmark on shots with known answers: its figures on shots made by hand, and the taking apart of renderings."""

import json
import shutil
import sys

import numpy as np
import OpenEXR
import pytest

from tests.shots import layers, photography, ship
from tests.shots.description import PUBLISHED, WHY, describe
from void_server import cli
from void_server.bench.known import known_removal, known_shots, perceptual, region_scores, removers
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report

HEIGHT, WIDTH, FRAMES, FIRST = 54, 96, 4, 1001


def write(path, **channels):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {k: np.ascontiguousarray(v.astype(np.float16)) for k, v in channels.items()}).write(str(path))


def rgb(light):
    return {name: light[..., i] for i, name in enumerate("RGB")}


def ground(seed=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 0.5, (HEIGHT, WIDTH, 3)).astype(np.float16).astype(np.float32)


@pytest.fixture
def shots(tmp_path):
    """One shot: a square crosses still ground, its shadow halves the light beside it, somebody stands at the left."""
    folder = tmp_path / "shots/square-9001"
    clean = ground()
    for i in range(FRAMES):
        plate, where = clean.copy(), {word: np.zeros((HEIGHT, WIDTH)) for word in known_shots.REGIONS}
        where["object"][20:34, 30 + 10 * i : 44 + 10 * i] = 1
        where["appearance"][34:42, 30 + 10 * i : 44 + 10 * i] = 1
        where["bystander"][5:45, 4:14] = 1
        plate[where["object"] > 0] = 1.5
        plate[where["appearance"] > 0] *= 0.5
        where["keep"] = (where["object"] == 0) & (where["appearance"] == 0)
        number = FIRST + i
        write(folder / f"plate/plate.{number}.exr", **rgb(plate))
        write(folder / f"clean/clean.{number}.exr", **rgb(clean))
        write(folder / f"matte/matte.{number}.exr", A=where["object"])
        write(folder / f"regions/regions.{number}.exr", **where)
    about = {"name": "square-9001", "why": "made by hand", "first": FIRST, "frames": FRAMES, "size": [WIDTH, HEIGHT]}
    (folder / "shot.json").write_text(json.dumps(about))
    return folder.parent


def scored(shots, method, keep=None):
    fields, _ = known_removal.run(shots, None, [method], Report(), keep)
    return fields["rows"][0], fields


TOOL = """
import pathlib, shutil, sys
import numpy as np, OpenEXR
plates, out = pathlib.Path(sys.argv[1]).parent, pathlib.Path(sys.argv[2])
def light(path):
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {name: np.array(channel.pixels) for name, channel in file.channels().items()}
def save(name, channels):
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(out / f"{name}.{number}.exr"))
for path in sorted(plates.glob("*.exr")):
    number, c = path.name.split(".")[1], light(path)
    BODY
"""


def program(tmp_path, body):
    """A command that gets plate pattern and output folder, and runs `body` on the channels `c` of each frame."""
    script = tmp_path / "tool.py"
    script.write_text(TOOL.replace("BODY", body))
    return f"mine={sys.executable} {script} {{plate}} {{out}}"


def test_who_gives_the_truth_has_no_error_and_does_no_harm(shots, tmp_path):
    body = "shutil.copy(plates.parent / f'clean/clean.{number}.exr', out / f'clean.{number}.exr')"
    row, fields = scored(shots, program(tmp_path, body))
    assert fields["failed"] == 0 and row["harm_db"] <= 0
    for region in ("object", "appearance", "bystander", "keep"):
        figures = row["regions"][region]
        assert figures["pu21_psnr"] == region_scores.PERFECT_DB and figures["flip"] == 0 and figures["ssim"] == 1
    assert row["regions"]["physics"] is None, "nothing moves otherwise here"
    assert row["keep_broken"] == 0 and row["keep_changed"] == 0 and row["memory_mb"] > 1


def test_the_untouched_plate_is_the_measure_of_harm(shots):
    row, _ = scored(shots, "plate")
    shadow = row["regions"]["appearance"]
    light = ground()
    halved = np.stack([light[34:42, 30 + 10 * i : 44 + 10 * i] for i in range(FRAMES)]) * 0.5
    assert shadow["psnr_linear"] == pytest.approx(10 * np.log10(1 / (halved.astype(np.float64) ** 2).mean()), abs=0.02)
    assert shadow["worse"] == 0 and row["regions"]["keep"]["pu21_psnr"] == region_scores.PERFECT_DB
    assert row["harm_db"] > 0, "it leaves the object in, where even a smear is nearer"


def test_a_fill_that_does_not_know_the_shadow_leaves_it(shots):
    fields, text = known_removal.run(shots, None, ["plate", "telea", "median", "masked-median"], Report(), None)
    by = {row["method"]: row["regions"] for row in fields["rows"]}
    assert by["masked-median"]["object"]["pu21_psnr"] > by["telea"]["object"]["pu21_psnr"] + 10
    assert by["masked-median"]["appearance"]["worse"] == 0
    assert all(name in text for name in ("telea", "masked-median", "harm worst"))


def test_a_bystander_who_loses_his_light_is_counted_as_worse(shots, tmp_path):
    body = "[channel.__setitem__((slice(5, 45), slice(4, 9)), 0) for channel in c.values()]; save('clean', c)"
    fields, text = known_removal.run(shots, None, [program(tmp_path, body)], Report(), None)
    assert fields["rows"][0]["regions"]["bystander"]["worse"] == pytest.approx(0.5)
    assert "bystanders worse in at most 50.0 %" in text


def test_one_sample_changed_that_had_to_be_kept_fails_the_run(shots, tmp_path, capsys):
    body = "c['R'][0, 90] *= np.float16(1.01); save('clean', c)"
    assert cli.main(["bench", "removal", "--shots", str(shots), "--method", program(tmp_path, body)]) == 4
    assert f"{FRAMES} samples that had to be kept were changed" in capsys.readouterr().out


def test_a_tool_that_says_what_it_changed_is_held_to_that(shots, tmp_path):
    body = (
        "z = np.zeros(c['R'].shape, np.float16); z[0, 90] = 1; c['R'][0, 90:92] += np.float16(1); save('clean', c); "
        "save('aov', {'change': z, 'affected': z, 'physics': z})"
    )
    row, _ = scored(shots, program(tmp_path, body))
    assert row["declares"] and row["keep_broken"] == FRAMES, "of two changed pixels it named one"
    assert row["overlap"]["recall"] == 0


def test_what_was_found_is_held_against_what_is_seen_and_faint_effects_count_neither_way(shots, tmp_path):
    found = tmp_path / "found"
    shutil.copytree(shots / "square-9001/clean", found)
    for frame in range(FIRST, FIRST + FRAMES):
        regions = {
            w: known_shots.channel(shots / f"square-9001/regions/regions.{frame}.exr", w) for w in known_shots.REGIONS
        }
        light = known_shots.find(shots, None)[0].rgb("plate", frame).astype(np.float32)
        write(found / f"aov.{frame}.exr", change=regions["appearance"] * 0 + 1, affected=regions["appearance"],
              physics=regions["appearance"] * 0)  # fmt: skip
        regions["appearance"][0:5, 20:60] = 1
        light[0:5, 20:60] *= 0.99
        write(shots / f"square-9001/plate/plate.{frame}.exr", **rgb(light))
        write(shots / f"square-9001/regions/regions.{frame}.exr", **regions)
    overlap = region_scores.measure(known_shots.find(shots, None)[0], found)["overlap"]
    assert overlap["iou"] > 0.9 and overlap["recall"] == 1, "the shadow's rim is fainter than the eye sees"


def test_a_program_that_fails_fails_its_row_and_no_other(shots, tmp_path):
    fields, text = known_removal.run(
        shots, None, [program(tmp_path, "sys.exit('out of luck')"), "mine2=/nowhere/tool", "plate"], Report(), None
    )
    failed, missing, plain = fields["rows"]
    assert "out of luck" in failed["failed"] and "can't be started" in missing["failed"] and not plain["failed"]
    assert fields["failed"] == 2 and "FAILED: " in text


def test_our_engine_is_scored_with_what_it_found_and_leaves_a_contact_sheet(shots, tmp_path):
    fields, _ = known_removal.run(shots, None, ["propagate", "telea"], Report(), tmp_path / "kept")
    row, smear = fields["rows"]
    assert row["declares"] and row["keep_broken"] == 0 and row["overlap"] is not None
    assert row["regions"]["object"]["pu21_psnr"] > smear["regions"]["object"]["pu21_psnr"]
    assert (tmp_path / "kept/square-9001/sheet.png").stat().st_size > 1000
    assert json.loads((tmp_path / "kept/scores.json").read_text())["rows"][0]["method"] == "propagate"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "matte/matte.1003.exr").unlink(), "matte.1003.exr is missing"),
        (lambda f: (f / "shot.json").write_text("{}"), "does not describe a shot"),
    ],
)
def test_a_shot_that_is_not_whole_is_refused_with_its_place(shots, change, says):
    change(shots / "square-9001")
    with pytest.raises(SettingsError, match=says):
        known_shots.find(shots, None)


def test_what_is_not_there_is_said_in_one_line(shots, tmp_path, capsys):
    for words, says in (
        (["--shots", str(tmp_path / "none")], "There is no shot in"),
        (["--shots", str(shots), "--case", "teapot"], "No shot in"),
        (["--shots", str(shots), "--method", "magic"], "No method is 'magic'"),
        (["--data", str(tmp_path), "--method", "telea"], "without --data"),
        (["--half", "tuning"], "folder of test clips is not there"),
    ):
        assert cli.main(["bench", "removal", *words]) == 2
        assert says in capsys.readouterr().err


def test_a_shot_comes_along_that_is_no_published_one():
    (shot,) = known_shots.find(known_shots.SHIPPED, None)
    assert int(shot.name.rpartition("-")[2]) not in PUBLISHED
    assert sum(path.stat().st_size for path in known_shots.SHIPPED.rglob("*") if path.is_file()) < 4_000_000
    for frame in shot.frames:
        plate, clean, keep = shot.rgb("plate", frame), shot.rgb("clean", frame), shot.region("keep", frame)
        assert ((plate.view(np.uint16) == clean.view(np.uint16)).all(-1) == keep).all()
        assert not (keep & shot.region("appearance", frame)).any() and keep.mean() > 0.5
        assert (shot.region("object", frame) == (shot.matte(frame) > 0)).all()


def test_a_shot_made_small_keeps_what_has_the_same_bits_in_both(shots, tmp_path):
    """The codec changes whole blocks, so what is kept is taken from what comes out of it."""
    ship.ship(shots / "square-9001", tmp_path / "small", 2, 200)
    (small,), (large,) = known_shots.find(tmp_path / "small", None), known_shots.find(shots, None)
    assert len(small.frames) == 2 and small.name == large.name
    for frame in small.frames:
        plate, clean, keep = small.rgb("plate", frame), small.rgb("clean", frame), small.region("keep", frame)
        assert (plate != large.rgb("plate", frame)).any()
        assert ((plate.view(np.uint16) == clean.view(np.uint16)).all(-1) == keep).all()
        assert 0 < keep.mean() < large.region("keep", frame).mean()
        assert (small.region("object", frame) == large.region("object", frame)).all()


@pytest.mark.timeout(600)
def test_without_a_folder_the_shot_that_comes_along_is_scored(tmp_path, capsys):
    """The shadow goes, the ground comes back, and what was to be kept has the plate's own bits."""
    words = ["--method", "plate", "--method", "masked-median", "--method", "propagate", "--keep-work", str(tmp_path)]
    assert cli.main(["bench", "removal", *words, "--json"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]}
    found = rows["propagate"]
    assert found["keep_broken"] == 0 and found["harm_db"] < 0
    of = {name: {region: row["regions"][region]["pu21_psnr"] for region in ("object", "appearance")}
          for name, row in rows.items()}  # fmt: skip
    assert of["propagate"]["object"] > of["masked-median"]["object"] > of["plate"]["object"]
    assert of["propagate"]["appearance"] > of["plate"]["appearance"] + 3
    assert list(tmp_path.glob("*/sheet.png"))


def test_pu21_is_the_published_curve():
    # PU21 of 0.005, 100 and 10000 nits, by the authors' table: 0, 256 and 596 to the rounding of the fit.
    codes = perceptual.pu21(np.float32([0.00005, 1, 100]))
    assert np.allclose(codes, [0, 256.4, 595.4], atol=1.5)
    light = np.geomspace(1e-4, 90, 50, dtype=np.float32)
    assert (np.diff(perceptual.pu21(light)) > 0).all(), "highlights count, as they don't on a display"


def test_every_kind_says_why_it_is_there_and_published_seeds_are_in_one_place():
    assert all(describe(kind).seed in PUBLISHED for kind in WHY)
    assert min(PUBLISHED) > 1000, "whoever tunes counts from 1"
    with pytest.raises(ValueError, match="No kind of shot is 'teapot'"):
        describe("teapot")


def test_a_seed_gives_the_same_numbers_for_one_purpose_and_others_for_another():
    d, again, other = describe("stack"), describe("stack"), describe("stack", seed=7)
    assert d.random("scene").random() == again.random("scene").random()
    assert d.random("scene").random() not in (d.random("grain").random(), other.random("scene").random())


def taken_apart(full, unseen, removed, matte, grain=0.01):
    d = describe("stack", scale=0.15)
    how = photography.of(d, {"grain": grain})
    unit = photography.grain(matte.shape, 0, how)
    return layers.take_apart(full, unseen, removed, matte, np.zeros_like(matte), unit, how)


def test_layers_add_up_to_the_plate_and_each_holds_its_own():
    removed = np.full((HEIGHT, WIDTH, 3), 0.3, np.float32)
    unseen = removed.copy()
    unseen[5:15, 60:75] = 0.6  # a box that would lie elsewhere
    full = unseen.copy()
    full[30:45, 10:30] *= 0.5  # a shadow
    full[20:32, 12:24] = 2.0
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[20:32, 12:24] = 1
    frame = taken_apart(full, unseen, removed, matte)
    total = sum(frame.layers.values()) + frame.clean.astype(np.float32)
    assert np.array_equal(total.astype(np.float16), frame.plate)
    assert frame.layers["object"][25, 15, 0] == pytest.approx(1.7, abs=0.1)
    assert frame.layers["appearance"][40, 20, 0] == pytest.approx(-0.15, abs=0.03)
    assert frame.layers["physics"][10, 65, 0] == pytest.approx(0.3, abs=0.03)
    assert frame.regions["appearance"][40, 20] and not frame.regions["physics"][40, 20]
    assert frame.regions["physics"][10, 65] and not frame.regions["appearance"][10, 65]
    assert frame.regions["keep"][50, 90] and not frame.regions["keep"][10, 65]


def test_what_two_renderings_of_the_same_thing_differ_in_is_no_effect():
    rng = np.random.default_rng(2)
    one = np.full((HEIGHT, WIDTH, 3), 0.3, np.float32)
    other = one * (1 + rng.normal(0, 0.004, one.shape)).astype(np.float32)
    frame = taken_apart(one, other, other, np.zeros((HEIGHT, WIDTH), np.float32))
    assert frame.regions["keep"].all() and np.array_equal(frame.plate, frame.clean)


def test_the_default_methods_are_there():
    assert set(removers.FREE) <= set(removers.SIMPLE) and "propagate" in removers.DEFAULT
