"""The benchmark of the affected region, on hand-made arrays: its figures are the ones worked out by hand here."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from void_server import pipeline
from void_server.bench import effects as bench_effects
from void_server.bench import effects_table as bench_effects_table
from void_server.bench import run as bench
from void_server.bench.clips import cases as bench_cases
from void_server.bench.clips import files as bench_files
from void_server.bench.clips import mattes as bench_mattes
from void_server.bench.clips.cases import Case
from void_server.bench.score_region import cell_iou, overlap
from void_server.image import exr
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report

SIZE = (80, 120)


def box(x0, y0, x1, y1, frames=1, step=0):
    mask = np.zeros((frames, *SIZE), bool)
    for t in range(frames):
        mask[t, y0:y1, x0 + t * step : x1 + t * step] = True
    return mask


def case(frames=4, step=3, **more):
    """A box of 30x30 with a shadow of 30x10 at its foot, moving right."""
    matte = box(20, 20, 50, 50, frames, step)
    effect = box(20, 50, 50, 60, frames, step)
    plate = np.full((*matte.shape, 3), 0.5, np.float32)
    return Case(plate, matte, effect, np.ones_like(matte), plate, **more)


@pytest.fixture
def clips(tmp_path):
    """Two clips of three frames in DAVIS's form, and three labelled frames in CDnet's."""
    rng = np.random.default_rng(1)
    for name in ("yard", "dog"):
        folder = tmp_path / "davis" / name
        folder.mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(folder / f"{i:05d}.jpg"), rng.integers(90, 160, (*SIZE, 3), np.uint8))
            cv2.imwrite(str(folder / f"{i:05d}.png"), box(50, 20, 80, 60)[0].astype(np.uint8) * 255)
    road = tmp_path / "highway"
    for sub in ("input", "groundtruth"):
        (road / sub).mkdir(parents=True)
    for i in (7, 8):
        cv2.imwrite(str(road / f"input/in{i:06d}.jpg"), np.full((*SIZE, 3), 128, np.uint8))
        label = np.where(box(20, 20, 50, 50)[0], 255, np.where(box(20, 50, 50, 60)[0], 50, 0)).astype(np.uint8)
        cv2.imwrite(str(road / f"groundtruth/gt{i:06d}.png"), label)
    cv2.imwrite(str(road / "clean.png"), np.full((*SIZE, 3), 128, np.uint8))
    cv2.imwrite(str(road / "ROI.bmp"), np.full(SIZE, 255, np.uint8))
    return tmp_path


def test_overlap_is_what_it_is_on_paper():
    found, true = box(0, 0, 20, 10), box(10, 0, 30, 10)
    here = overlap(found, true, np.ones_like(true))
    assert here.iou == pytest.approx(100 / 300)
    assert (here.precision, here.recall) == (0.5, 0.5)
    assert here.false_share == pytest.approx(100 / (80 * 120))
    half = overlap(found, true, ~box(0, 0, 10, 10))
    assert (half.precision, half.false_share) == (1.0, 0.0)
    assert overlap(box(0, 0, 0, 0), box(0, 0, 0, 0), np.ones_like(true)).iou is None


def test_overlap_weighs_pixels_and_not_frames():
    found = np.concatenate([box(0, 0, 10, 10), box(0, 0, 0, 0)])
    true = np.concatenate([box(0, 0, 10, 10), box(0, 0, 30, 10)])
    assert overlap(found, true, np.ones_like(true)).iou == pytest.approx(0.25)


def test_cells_are_an_eighth_of_the_height():
    # 80 rows are eight cells of ten, 120 columns twelve.
    assert cell_iou(box(0, 0, 10, 10), box(3, 3, 7, 7)) == 1.0
    assert cell_iou(box(0, 0, 20, 10), box(10, 0, 30, 10)) == pytest.approx(1 / 3)
    assert cell_iou(box(0, 0, 0, 0), box(0, 0, 0, 0)) == 0.0


def test_a_sloppy_matte_is_wrong_by_six_hundredths_of_its_size():
    matte = box(40, 20, 90, 70)  # 50 wide: 3 pixels
    grown, shrunk = bench_mattes.sloppy(matte, "grow"), bench_mattes.sloppy(matte, "shrink")
    assert np.array_equal(shrunk, box(43, 23, 87, 67))
    assert (grown & box(37, 23, 93, 67) == box(37, 23, 93, 67)).all()
    assert not (grown & ~box(37, 17, 93, 73)).any()


def test_each_part_is_spoiled_by_its_own_size():
    matte = box(5, 5, 9, 9) | box(40, 20, 90, 70)
    grown = bench_mattes.sloppy(matte, "grow")
    assert grown[:, :12, :12].sum() == 16, "6 % of 4 pixels is less than one"
    assert grown.sum() > matte.sum()


def test_a_jittering_matte_keeps_its_shape_and_moves_by_no_more_than_promised():
    matte = box(40, 20, 90, 70, frames=40)
    moved = bench_mattes.sloppy(matte, "jitter")
    corners = np.array([[np.nonzero(m)[1].min() - 40, np.nonzero(m)[0].min() - 20] for m in moved])
    assert (moved.sum((1, 2)) == 2500).all()
    assert np.hypot(*corners.T).max() <= 3
    assert len(np.unique(corners, axis=0)) > 5
    assert np.array_equal(moved, bench_mattes.sloppy(matte, "jitter")), "the name of a case says all that is in it"


def test_a_late_matte_is_the_one_of_the_frame_before():
    matte = box(20, 20, 50, 50, frames=4, step=3)
    late = bench_mattes.sloppy(matte, "late")
    assert np.array_equal(late[1:], matte[:-1])
    assert np.array_equal(late[0], matte[0])


def test_the_fall_counts_only_pixels_that_both_mattes_leave_to_the_tool():
    spoiled = case(given=bench_mattes.sloppy(case().matte, "grow"))
    assert bench_effects.falls(spoiled.effect, spoiled.effect & ~spoiled.given, spoiled) == {"fall": 0.0}
    lost = bench_effects.falls(spoiled.effect, np.zeros_like(spoiled.effect), spoiled)
    assert lost == {"fall": 1.0}


def test_there_is_no_fall_where_a_sloppy_matte_covers_nearly_all_of_the_effect():
    covered = case(given=box(10, 10, 70, 59, 4, 0))
    assert bench_effects.falls(covered.effect, covered.effect, covered) == {"fall": None}


def test_a_paste_has_a_shadow_and_a_noeffect_has_none(clips):
    shaded = bench_cases.load(clips, "paste:yard:dog:3:0.5,10,10,2")
    bare = bench_cases.load(clips, "noeffect:yard:dog:3:0.5,10,10,2")
    assert shaded.effect.any(axis=(1, 2)).all()
    assert not bare.effect.any()
    assert np.array_equal(shaded.matte, bare.matte)
    assert bare.valid.all(), "marking the clip's own mover is the mistake to count"
    assert not (shaded.valid & box(50, 20, 80, 60)).any()
    darker = bare.plate - shaded.plate
    assert darker[shaded.effect].min() > 0
    away = ~shaded.effect & ~bench_cases.grown(shaded.matte[0], 30)
    assert np.abs(darker[away]).max() < 0.05


def test_a_camera_at_rest_sees_one_frame_with_grain_that_does_not_repeat(clips):
    deep = bench_cases.load(clips, "rest:yard:dog:3:1:0.5,10,10,2")
    assert deep.truth is not None and deep.valid.all(), "the clip's own mover is scenery here"
    assert np.array_equal(deep.truth[0], deep.truth[2])
    away = ~(deep.matte | deep.effect).any(0) & ~bench_cases.grown(deep.matte[0], 30)
    grain = (bench_cases.shown(deep.plate) - bench_cases.shown(deep.truth))[:, away]
    assert abs(grain.mean()) < 0.001 and grain.std() == pytest.approx(bench_cases.GRAIN, rel=0.05)
    assert abs(np.corrcoef(grain[0].ravel(), grain[1].ravel())[0, 1]) < 0.05
    faint = bench_cases.load(clips, "rest:yard:dog:3:0.3:0.5,10,10,2")
    left = [(each.plate / each.truth)[faint.effect].mean() for each in (deep, faint)]
    assert left[0] < left[1] < 0.95
    assert (faint.effect <= deep.effect).all() and faint.effect.any()


def test_the_same_name_gives_the_same_arrays(clips):
    first, second = (bench_cases.load(clips, "paste:yard:dog:3:0.5,10,10,2@jitter") for _ in range(2))
    for name in ("plate", "matte", "effect", "valid", "given"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("highway:900:60", "gt000900.png"),
        ("highway:seven:60", "seven"),
        ("highway:7", "can't be built"),
        ("paste:yard:cat:3", "cat"),
        ("rest:yard:dog:3", "can't be built"),
        ("quadmask:BigBen", "no quadmask"),
        ("teapot:1", "'teapot' is of no known kind"),
        ("highway:7:2@smudge", "@smudge"),
    ],
)
def test_a_case_that_cant_be_built_says_so(clips, name, said):
    with pytest.raises(SettingsError) as error:
        bench.run("effects", clips, [name], Report())
    assert name in error.value.message
    assert said in error.value.message


def test_one_word_stands_for_all_cases_of_its_kind():
    offered = bench_effects.CASES
    assert bench_cases.chosen(None, offered) == list(offered)
    assert bench_cases.chosen(["highway"], offered) == [c for c in offered if c.startswith("highway") and "@" not in c]
    assert bench_cases.chosen(["@late"], offered) == [c for c in offered if c.endswith("@late")]
    assert all(c.startswith("paste") and "@late" in c for c in bench_cases.chosen(["paste@late"], offered))
    with pytest.raises(SettingsError):
        bench_cases.chosen(["teapot"], offered)


def test_a_row_holds_what_the_tool_wrote(clips, tmp_path, monkeypatch):
    """A tool that marks the true shadow, one column short, and is told of no painted region."""

    def finds(files, settings, out, report):
        assert settings.deliver == "affected"
        assert not files.affected
        out.mkdir()
        for frame, path in files.plate.items():
            marked = box(20, 50, 47, 60)[0].astype(np.float32)
            channels = {"affected": marked, "physics": np.zeros_like(marked)}
            exr.write_aov(out / f"affected.{frame}.exr", exr.read_plate_header(path), channels)
        return {"coverage": 0.75}

    monkeypatch.setattr(pipeline, "deliver", finds)
    fields, text = bench.run(
        "effects", clips, ["highway:7:2", "highway:7:2@late"], Report(), keep_work=tmp_path / "kept"
    )
    row, late = json.loads(json.dumps(fields))["rows"]
    # The labelled object is grown by a pixel, which takes the shadow's first row: 30x9 are left, 27x9 are found.
    assert row["iou"] == pytest.approx(0.9)
    assert (row["precision"], row["false_share"], row["coverage"]) == (1.0, 0.0, 0.75)
    assert (late["fall"], late["fall_all"]) == (0.0, 0.0)
    asked = {line["what"]: line for line in fields["summary"]}
    assert asked["highway, shadows: IoU"]["worst"] == pytest.approx(0.9)
    assert "highway:7:2@late" in text
    folder = tmp_path / "kept/highway_7_2@late"
    assert {p.name for p in folder.iterdir()} == {"plate", "matte", "affected", "out"}


def test_a_window_with_next_to_no_shadow_counts_for_its_false_alarms_alone():
    like = {
        "case": "highway:1:1", "kind": "highway", "way": "", "iou": 0.0, "precision": None, "recall": None,
        "cell_iou": None, "true_share": 0.0, "found_share": 0.004, "false_share": 0.004, "coverage": None,
        "seconds_per_frame": 0.1,
    }  # fmt: skip
    lines = {line["what"]: line for line in bench_effects_table.summarise([like])}
    assert lines["highway, next to no shadow: false %"]["worst"] == pytest.approx(0.4)
    assert "highway, shadows: IoU" not in lines


def test_what_is_written_is_what_is_read(tmp_path):
    made = case(given=bench_mattes.sloppy(case().matte, "late"))
    files = bench_files.write(made, tmp_path)
    for index, frame in enumerate(files.plate):
        matte = exr.read_matte(exr.read_matte_header(files.matte[frame]))
        assert np.array_equal(matte > 0.5, made.given[index]), "the tool gets the sloppy matte"
    moved = np.roll(made.effect[0], 3, axis=0)
    for frame, path in files.plate.items():
        channels = {"affected": made.effect[0] * 1.0, "physics": moved * 1.0}
        exr.write_aov(tmp_path / f"affected.{frame}.exr", exr.read_plate_header(path), channels)
    assert np.array_equal(bench_files.read_affected(tmp_path, 4)[0], made.effect[0] | moved)


def test_a_hidden_patch_is_shown_by_no_frame_and_painted_on_one(clips, monkeypatch):
    monkeypatch.setattr(bench_cases, "HIDDEN_EVERY", 2)
    hidden, painted, seen = (bench_cases.load(clips, f"{kind}:yard:3") for kind in ("hidden", "painted", "shown"))
    assert hidden.matte.any(axis=(1, 2)).all()
    assert np.array_equal(hidden.plate[~hidden.matte], hidden.truth[~hidden.matte])
    assert np.ptp(hidden.plate[hidden.matte]) == 0, "nothing of the answer is left"
    assert not hidden.painted
    assert list(painted.painted) == [1]
    assert np.array_equal(painted.painted[1], painted.truth[1])
    assert seen.matte.any(axis=(1, 2)).tolist() == [False, True, False]


def test_what_the_artist_painted_reaches_the_tool_as_a_file(clips, tmp_path):
    files = bench_files.write(bench_cases.load(clips, "painted:yard:3"), tmp_path)
    assert list(files.reference) == [bench_files.FIRST + 1]
    assert files.reference[bench_files.FIRST + 1].is_file()
