"""One picture of a soft fill that is right and a sharp background that is sometimes wrong: what it keeps of each."""

from __future__ import annotations

import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes import textured
from void_server import background, engine, merge, pipeline
from void_server.bench.clips.cases import Case, shown
from void_server.bench.clips.files import FIRST, read_aov, read_clean
from void_server.bench.engines import native, stand_in
from void_server.merge import agreement, bands, drift, measures, request, softness
from void_server.merge.recovered import recovered
from void_server.merge.reduced import Behind, Drawn
from void_server.merge.smoothing import blur, enlarged, reduced
from void_server.merge.steady import steadied
from void_server.shot import check, surveyed
from void_server.shot.marks import Found, Marks
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import ShotSettings, Window

pytestmark = pytest.mark.timeout(600)

SIZE, LARGE = (80, 128), (240, 384)
FAULTS = stand_in.Faults(**{**stand_in.TYPICAL, "scale": 1 / 3})
HOLE = (slice(90, 150), slice(150, 230))


def code(seed=5):
    return textured.texture(*LARGE, seed) ** (1 / 2.2)


def drawn(truth, faults=FAULTS, frame=1):
    """What an engine with such faults draws of `truth` when it is asked for more than HOLE."""
    hole, asked = np.zeros(LARGE, np.float32), np.zeros(LARGE, np.float32)
    hole[HOLE] = 1
    asked[HOLE[0].start - 40 : HOLE[0].stop + 40, HOLE[1].start - 40 : HOLE[1].stop + 40] = 1
    plate = np.where(hole[..., None] > 0, np.float32(0.9), truth)
    fill = stand_in.spoiled(truth, asked, frame, faults)
    known = reduced(asked, SIZE) < 0.01
    window = Window(0, 0, LARGE[1], LARGE[0])
    return Drawn(frame, window, fill, reduced(plate, SIZE), known, reduced(asked, SIZE), reduced(hole, SIZE)), plate


def merged(truth, background, faults=FAULTS, scatter=0.0):
    """The whole picture in code, and the weight of the background's detail."""
    one, plate = drawn(truth, faults)
    hole = np.zeros(LARGE, bool)
    hole[HOLE] = True
    full = np.where(hole[..., None], background, plate).astype(np.float32)
    behind = Behind(reduced(full, SIZE), np.ones(SIZE, np.float32), np.full(SIZE, scatter, np.float32))
    asked = enlarged(one.asked, LARGE) > 0
    found = measures.measured([one], lambda _: (plate, ~asked))
    fill = measures.corrected(one, found.softness, behind)
    same = agreement.compare(fill, behind, found.error, found.softness)
    _, light, fine = agreement.weights(same, same.odds, same.like, same.background_variance, found.error.structure)
    layers = bands.Layers(
        fill, softness.sharpened(fill, found.sharpening), blur(behind.code, found.softness), light, fine
    )
    picture, _, weight = bands.laid_together(layers, full, LARGE, slice(0, LARGE[0]), slice(0, LARGE[1]))
    return picture, weight


def error(picture, truth, where=HOLE):
    return float(np.sqrt(((picture - truth)[where] ** 2).mean()) * 255)


@pytest.mark.parametrize("width", [0.0, 0.7, 1.5])
def test_an_engines_own_blur_is_found_on_known_ground(width):
    one, _ = drawn(code(), stand_in.Faults(scale=1 / 3, blur=width, gain=1.02, drift=3, flicker=1))
    assert softness.own_blur([(one.fill, one.plate, one.known)]) == width


@pytest.mark.parametrize("frame", [1, 2, 3])
def test_gain_drift_and_flicker_are_taken_back_inside_the_hole_too(frame):
    truth = code()
    one, _ = drawn(truth, FAULTS, frame)
    fill = measures.corrected(one, FAULTS.blur)
    wanted = blur(reduced(truth, SIZE), FAULTS.blur)
    inside = one.hole > 0.5
    before, after = (np.abs((f - wanted)[inside].mean()) * 255 for f in (one.fill, fill))
    assert before > 1
    assert after < 0.3


def test_other_content_on_known_ground_does_not_pull_the_colours():
    one, _ = drawn(code())
    other = one.fill.copy()
    other[5:20, 5:25] += 0.3
    known = one.known.astype(np.float32)
    moved = drift.corrected(other, blur(one.plate, FAULTS.blur), known)
    assert np.abs(moved - drift.corrected(one.fill, blur(one.plate, FAULTS.blur), known))[40:].mean() * 255 < 0.5


def test_where_both_agree_detail_is_the_backgrounds_and_light_is_better_than_either():
    truth = code()
    rng = np.random.default_rng(0)
    background = truth + 3 / 255 + rng.normal(0, 1 / 255, truth.shape).astype(np.float32)
    picture, weight = merged(truth, background, scatter=3 / 255)
    alone = enlarged(drawn(truth)[0].fill, LARGE)
    assert weight[HOLE].mean() > 0.9
    assert error(picture, truth) < 0.7 * min(error(background, truth), error(alone, truth))


def test_where_the_background_shows_another_thing_the_fill_wins():
    truth, wrong = code(), code(seed=9)
    picture, weight = merged(truth, wrong)
    alone = enlarged(drawn(truth)[0].fill, LARGE)
    assert weight[HOLE].mean() < 0.2
    assert error(picture, truth) < 1.1 * error(alone, truth) < 0.5 * error(wrong, truth)


def test_a_fill_that_invents_is_found_out_on_the_decoy_ring():
    truth = code()
    honest, invents = (
        agreement.measured([(one, measures.corrected(one, FAULTS.blur))], FAULTS.blur)
        for one, _ in (
            drawn(truth),
            drawn(truth, stand_in.Faults(**{**stand_in.TYPICAL, "scale": 1 / 3, "invent": 0.7})),
        )
    )
    assert honest.fine < 0.2
    assert invents.fine > 5 * honest.fine + 0.3
    assert invents.structure < honest.structure


def test_a_fill_that_invents_does_not_outvote_real_pixels():
    truth = code()
    background = truth + np.random.default_rng(0).normal(0, 1 / 255, truth.shape).astype(np.float32)
    worse = stand_in.Faults(**{**stand_in.TYPICAL, "scale": 1 / 3, "invent": 0.35, "noise": 1.0})
    picture, _ = merged(truth, background, worse)
    assert error(picture, truth) < 0.5 * error(enlarged(drawn(truth, worse)[0].fill, LARGE), truth)


def test_where_too_little_is_known_nothing_is_measured():
    one, plate = drawn(code())
    blind = Drawn(**{**vars(one), "known": np.zeros(SIZE, bool)})
    assert measures.measured([blind], lambda _: (plate, np.zeros(LARGE, bool))) is None


def test_a_part_of_an_enlargement_is_the_part_of_the_whole():
    small = code()[:60, :90]
    whole = enlarged(small, LARGE)
    assert np.abs(enlarged(small, LARGE, *HOLE) - whole[HOLE]).max() < 2e-3


@pytest.fixture(scope="module")
def shot(tmp_path_factory):
    return textured.write(tmp_path_factory.mktemp("textured"))


@pytest.fixture(autouse=True)
def registered():
    with stand_in.registered():
        yield


def remove(shot, out, name=stand_in.NAME, **options):
    faults = {**stand_in.TYPICAL, "scale": 0.4, **options}
    settings = ShotSettings(engine=name, options={"truth": str(shot.truth_folder), **faults})
    manifest = pipeline.make_clean_plate(shot.files, settings, out, Report())
    return read_clean(out, textured.COUNT), manifest


@pytest.fixture(scope="module")
def made(shot, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged")
    with stand_in.registered():
        clean, manifest = remove(shot, out)
        alone, _ = remove(shot, tmp_path_factory.mktemp("alone"), "stand-in-alone")
    return clean, manifest, out, alone


def case_of(shot):
    return Case(shot.plate, shot.matte > 0.5, shot.effect, np.ones_like(shot.effect), shot.truth)


def db(clean, shot, where):
    return 10 * np.log10(1 / np.mean((shown(clean)[where] - shown(shot.truth)[where]) ** 2))


def test_the_pipeline_puts_real_pixels_into_a_models_answer(shot, made):
    clean, manifest, _, alone = made
    under = shot.matte > 0.5
    assert db(clean, shot, under) > db(alone, shot, under) + 3
    assert manifest["coverage"] > 0.8


def test_what_the_engine_left_as_it_was_stays_the_plates_own_bits(shot, made):
    clean, _, out, _ = made
    change = read_aov(out, textured.COUNT, "change")
    away = change == 0
    assert (clean.astype(np.float16)[away] == shot.plate.astype(np.float16)[away]).all()
    region = native.region_figures(change, case_of(shot))
    assert region["overlap"] > 0.4, "the shadow was never marked: the engine removed it"
    assert region["needless"] < 0.1
    assert change[0, :, 110:].sum() == 0


def test_no_light_is_above_the_shots_own_and_the_lamp_behind_the_ball_comes_back(shot, made):
    clean = made[0]
    assert np.isfinite(clean).all()
    assert clean.max() <= shot.plate.max() + 0.01
    behind = [t for t in range(textured.COUNT) if (shot.matte[t][textured.LAMP] == 1).all()]
    assert behind
    for t in behind:
        assert clean[t][textured.LAMP].mean() > 4


def test_the_removed_objects_colour_does_not_come_back_at_its_soft_edge(shot, made):
    clean = made[0]
    edge = (shot.matte > 0) & (shot.matte < 1)
    redder = (clean[..., 0] - clean[..., 1]) - (shot.truth[..., 0] - shot.truth[..., 1])
    assert abs(redder[edge].mean()) < 0.005
    assert np.quantile(redder[edge], 0.99) < 0.08


def test_there_is_no_seam_and_no_flicker(shot, made):
    clean, _, out, _ = made
    change = read_aov(out, textured.COUNT, "change")
    away = shown(clean) - shown(shot.truth)
    means = [away[t][change[t] == 1].mean() * 255 for t in range(textured.COUNT)]
    assert np.abs(means).max() < 1
    assert np.abs(np.diff(means)).mean() < 0.5


def test_a_crop_that_moves_over_the_plate_costs_nothing(shot, made, tmp_path, monkeypatch):
    def panning(holes, canvas, **_):
        places = [Window(-30 + 9 * t, 0, 140 + 9 * t, 128) for t in range(len(holes))]
        assert all(place.contains(hole) for place, hole in zip(places, holes))
        return places, (64, 85)

    monkeypatch.setattr(stand_in, "crops", panning)
    clean, _ = remove(shot, tmp_path / "moves", pixels=1)
    monkeypatch.setattr(stand_in, "crops", lambda holes, *_, **__: ([Window(0, 0, 192, 128)] * len(holes), (64, 96)))
    at_rest, _ = remove(shot, tmp_path / "rests", pixels=1)
    for where in (shot.matte > 0.5, shot.effect):
        assert db(clean, shot, where) > db(at_rest, shot, where) - 0.5, "neither does it where it leaves the plate"
    changes = [read_aov(tmp_path / name, textured.COUNT, "change") for name in ("moves", "rests")]
    overlaps = [native.region_figures(change, case_of(shot))["overlap"] for change in changes]
    assert overlaps[0] > overlaps[1] - 0.05, "what the engine changed is found where it lies on the plate"
    means = [(shown(clean) - shown(shot.truth))[t][changes[0][t] == 1].mean() * 255 for t in range(textured.COUNT)]
    assert np.abs(np.diff(means)).mean() < 0.5


def seen_by(places, world, scale=0.5):
    """A map of each place of `world`, at `scale`."""
    size = (round(places[0].height * scale), round(places[0].width * scale))
    whole = Window(0, 0, world.shape[1], world.shape[0])
    return {t: reduced(world[place.slices(whole)], size) for t, place in enumerate(places)}


def test_maps_of_a_crop_that_moves_are_steadied_where_they_show_the_same_place():
    world = blur(np.random.default_rng(2).random((120, 240)).astype(np.float32), 3.0)
    rests, moves = (
        [Window(60, 20, 180, 100)] * 5,
        [Window(46 + 7 * t, 24 - 2 * t, 166 + 7 * t, 104 - 2 * t) for t in range(5)],
    )
    assert moves[2] == rests[2]
    assert np.allclose(steadied(seen_by(rests, world), dict(enumerate(rests)), 2), seen_by(rests, world)[2], atol=1e-6)
    own = seen_by(rests, world)[2]
    steady = steadied(seen_by(moves, world), dict(enumerate(moves)), 2)
    assert np.abs(steady - own).max() < 0.2 * world.std(), "but for what lies between two of its pixels"
    by_position = steadied(seen_by(moves, world), dict.fromkeys(range(5), moves[2]), 2)
    assert np.abs(by_position - own).max() > world.std()


def test_a_neighbour_does_not_count_where_it_shows_nothing():
    near = {1: np.zeros((40, 60), np.float32), 2: np.ones((40, 60), np.float32)}
    steady = steadied(near, {1: Window(80, 0, 200, 80), 2: Window(20, 0, 140, 80)}, 2)
    assert (steady[:, :30] == 1).all()
    assert (steady[:, 30:] < 1).all()


def test_grain_is_as_strong_as_beside_in_dark_and_in_light(shot, made):
    clean, _, out, _ = made
    change = read_aov(out, textured.COUNT, "change")
    wall = shot.truth.mean(0)
    left = (clean - wall)[..., 1]
    tone = wall[..., 1]
    inner = change == 1
    for low, high in ((0.05, 0.2), (0.2, 0.5)):
        here = (tone > low) & (tone < high)
        ours, theirs = (float(np.std(x[inner & here])) for x in (left, (shot.truth - wall)[..., 1]))
        assert 0.8 < ours / theirs < 1.25


def test_propagate_is_not_asked_for_more_and_not_put_together_with_itself():
    assert not engine.find("propagate").needs.merged
    assert engine.find("stand-in").needs.merged


def test_the_stand_in_spoils_nothing_unless_it_is_told_to():
    truth = code()
    assert np.array_equal(stand_in.spoiled(truth, np.ones(LARGE, np.float32), 3, stand_in.Faults()), truth)


def test_the_stand_in_is_gone_after_a_measurement_and_knows_its_faults(shot, tmp_path):
    with pytest.raises(SettingsError, match="hiccup"):
        remove(shot, tmp_path / "out", hiccup=1.0)
    assert "stand-in" in engine.names()


def test_bench_native_scores_by_hand_made_numbers(shot):
    case = case_of(shot)
    right = native.figures(shot.truth, case)
    assert right.contrast == pytest.approx(1)
    assert right.correlation == pytest.approx(1)
    assert right.flicker == 0
    region = native.region_figures(shot.effect.astype(np.float32), case)
    assert region["overlap"] == 1
    assert region["needless"] < 1e-3
    assert tiny_shot.FIRST == FIRST


def test_a_generous_request_holds_the_plain_one_and_reaches_along_the_ground(shot):
    checked = check.check_shot(shot.files, ShotSettings(engine="propagate"))
    with surveyed.survey(checked, Report()) as seen:
        marked = seen.marked()
        plain, wide = (merge.widened(marked, Report(), generous=g) for g in (False, True))
        for frame in (FIRST, FIRST + 4):
            hole, ring, more = (m.change(frame) > 0 for m in (marked, plain, wide))
            assert (ring[hole]).all()
            assert (more[ring]).all()
            assert ring.sum() > 1.5 * hole.sum()
            assert more.any(0).sum() - ring.any(0).sum() > more.any(1).sum() - ring.any(1).sum()
        assert plain.masks_key != marked.masks_key


def test_what_was_suspected_is_still_shown_under_a_wider_request(shot):
    checked = check.check_shot(shot.files, ShotSettings(engine="propagate"))
    doubted = np.zeros((textured.HEIGHT, textured.WIDTH), np.float32)
    doubted[100:110, 150:160] = 1
    nothing = np.zeros_like(doubted)
    with surveyed.survey(checked, Report()) as seen:
        found = Found.collected((frame, nothing, nothing, doubted) for frame in seen.marked().frames)
        marked = seen.marked(Marks(checked, found))
        asked = merge.widened(marked, Report(), generous=False)
        assert np.array_equal(asked.suspected(FIRST) > 0, doubted > 0)
        assert (asked.change(FIRST)[doubted > 0] == 0).all()


def test_bold_asks_the_engine_for_what_nobody_found(shot, tmp_path, monkeypatch):
    asked = []

    def widened(marked, report, *, generous):
        asked.append(generous)
        return request.widened(marked, report, generous=generous)

    monkeypatch.setattr(merge, "widened", widened)
    for effects in ("sure", "bold"):
        options = {"truth": str(shot.truth_folder), **stand_in.TYPICAL, "scale": 0.4}
        settings = ShotSettings(engine=stand_in.NAME, options=options, effects=effects)
        pipeline.make_clean_plate(shot.files, settings, tmp_path / effects, Report())
    assert asked == [False, True]


def test_recovered_pixels_come_with_the_scatter_of_their_donors(tmp_path):
    """Twice the grain: about twice the scatter, whatever it does to confidence."""
    scatter = []
    for grain in (0.02, 0.04):
        one = textured.write(tmp_path / f"{grain}", shadow=0, grain=grain)
        checked = check.check_shot(one.files, ShotSettings(engine="propagate"))
        with surveyed.survey(checked, Report()) as seen, background.kept():
            marked = seen.marked()
            frames = [FIRST, FIRST + 4]
            found = list(recovered(marked, frames, Report()))
            assert [f.fill.frame for f in found] == frames
            scatter.append(np.median(np.concatenate([f.scatter[f.fill.coverage > 0] for f in found])))
    assert scatter[1] / scatter[0] == pytest.approx(2, rel=0.25)
