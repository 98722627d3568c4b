from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tests.fakes.effects import Believes, Seen, scene, sized
from void_server.effects import cues, decide
from void_server.effects.find import Affected, find_affected
from void_server.effects.predictor import Belief
from void_server.wire.report import Report

Array = npt.NDArray[np.float32]


def _found(plates: dict[int, Array], mattes: dict[int, Array], behind: Array, chance: float) -> dict[int, Affected]:
    seen = Seen(behind)
    return dict(
        find_affected(list(plates), plates.__getitem__, mattes.__getitem__, lambda _: seen, Believes(chance), Report())
    )


def test_a_shadow_at_the_objects_foot_is_found_whole_and_nothing_four_pixels_away() -> None:
    plates, mattes, shadows, behind = scene()
    for frame, found in _found(plates, mattes, behind, 0.3).items():
        true = shadows[frame] > 0
        near = cv2.dilate((true | (mattes[frame] > 0)).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert (found.appearance > 0.5)[true & (mattes[frame] == 0)].mean() > 0.95
        assert not ((found.appearance > 0.5) & ~near).any()
        assert found.appearance[mattes[frame] > 0].max() == 0


def test_darkness_away_from_the_object_is_not_its_doing() -> None:
    plates, mattes, _, behind = scene()
    for plate in plates.values():
        plate[5:15, 100:130] *= 0.4
    assert all(f.appearance[5:15, 100:130].max() == 0 for f in _found(plates, mattes, behind, 0.3).values())


def test_a_shadow_that_the_network_rules_out_is_none_unless_the_camera_rests() -> None:
    plates, mattes, shadows, behind = scene()
    moving = Seen(behind, at_rest=False)
    found = dict(
        find_affected(list(plates), plates.__getitem__, mattes.__getitem__, lambda _: moving, Believes(0.0), Report())
    )
    assert all(f.appearance.max() == 0 for f in found.values())
    at_rest = _found(plates, mattes, behind, 0.0)
    assert all((f.appearance > 0.5)[(shadows[n] > 0) & (mattes[n] == 0)].mean() > 0.95 for n, f in at_rest.items())


def test_what_would_move_is_told_apart_from_what_would_look_different() -> None:
    plates, mattes, _, behind = scene()
    seen = Seen(behind)
    found = dict(
        find_affected(
            list(plates), plates.__getitem__, mattes.__getitem__, lambda _: seen, Believes(0.0, physics=0.9), Report()
        )
    )
    for frame, each in found.items():
        outside = mattes[frame] == 0
        assert each.physics[outside].min() > 0.5
        assert each.physics[~outside].max() == 0


def test_a_first_look_suspects_what_a_last_one_does_not_believe_to_move() -> None:
    plates, mattes, _, behind = scene()
    marked = {}
    for first in (True, False):
        found = dict(
            find_affected(
                list(plates),
                plates.__getitem__,
                mattes.__getitem__,
                lambda _: Seen(behind),
                Believes(0.0, physics=0.3),
                Report(),
                first_look=first,
            )
        )
        marked[first] = max(float(each.physics.max()) for each in found.values())
    assert marked[True] > 0.5
    assert marked[False] == 0


def test_without_a_background_nothing_is_claimed() -> None:
    plates, mattes, _, _ = scene()
    found = dict(
        find_affected(list(plates), plates.__getitem__, mattes.__getitem__, lambda _: None, Believes(1.0), Report())
    )
    assert list(found) == list(plates)
    assert all(f.appearance.max() == 0 and f.physics.max() == 0 for f in found.values())


def test_shots_of_any_length_are_seen_eight_frames_at_a_time_in_order() -> None:
    plates, mattes, _, behind = scene(count=19)
    believes, seen = Believes(0.3), Seen(behind)
    found = dict(
        find_affected(list(plates), plates.__getitem__, mattes.__getitem__, lambda _: seen, believes, Report())
    )
    assert believes.asked == [8, 8, 3]
    assert list(found) == list(plates)
    assert sized(found) == behind.shape[:2]


def test_the_rim_that_a_tight_matte_leaves_spreads_no_further_than_itself() -> None:
    """An object of three times the light and a matte three pixels too small, on a plate that was smeared a little."""
    behind = np.full((96, 128, 3), 0.2, np.float32)
    plates, mattes, objects = {}, {}, {}
    noise = np.random.default_rng(3)
    for frame in range(1001, 1006):
        there = np.zeros(behind.shape[:2], np.float32)
        there[30:70, 30 + 3 * (frame - 1000) : 70 + 3 * (frame - 1000)] = 1
        smeared = cv2.GaussianBlur(there, (0, 0), 0.8) + 0.12 * cv2.GaussianBlur(there, (0, 0), 6.0)
        plate = behind + 0.4 * smeared[..., None] + noise.normal(0, 0.001, behind.shape)
        plates[frame], objects[frame] = plate.astype(np.float32), there
        mattes[frame] = cv2.erode(there, np.ones((7, 7), np.uint8))
    for frame, found in _found(plates, mattes, behind, 0.0).items():
        rim = (objects[frame] > 0) & (mattes[frame] == 0)
        far = cv2.distanceTransform((objects[frame] == 0).astype(np.uint8), cv2.DIST_L2, 5) > 3.5
        assert (found.appearance > 0.5)[rim].mean() > 0.95
        assert not ((found.appearance > 0.5) & far).any()


def _beside_a_dark_patch(coverage_under: float) -> tuple[dict[int, Affected], dict[int, Array]]:
    """A box without shadow on ground that is dark at its foot, before a moving camera; the network takes the dark for
    its shadow. coverage_under: whether other frames show what the box covers."""
    plates, mattes, _, behind = scene()
    behind[60:68] *= 0.5
    backgrounds = {}
    for frame, matte in mattes.items():
        plates[frame] = np.where(matte[..., None] > 0, 0.9, behind).astype(np.float32)
        backgrounds[frame] = Seen(behind, at_rest=False)
        backgrounds[frame].coverage = np.where(matte > 0, np.float32(coverage_under), np.float32(1))
    found = find_affected(
        list(plates), plates.__getitem__, mattes.__getitem__, backgrounds.__getitem__, Believes(0.9), Report()
    )
    return dict(found), mattes


def test_what_never_differs_from_the_background_is_no_effect_of_an_object_that_moves() -> None:
    found, _ = _beside_a_dark_patch(1.0)
    assert all(each.appearance.max() == 0 for each in found.values())


def test_an_object_that_never_leaves_its_place_may_have_its_effect_in_every_background() -> None:
    found, mattes = _beside_a_dark_patch(0.0)
    assert all(each.appearance[mattes[frame] == 0].min() == 1 for frame, each in found.items())


def test_a_thin_rim_does_not_lead_on_into_a_shadow_that_hardly_deviates() -> None:
    """A dark sliver at the object's foot, and a faint streak that runs on from it: a tree's shadow that moved."""
    behind = np.full((96, 160, 3), 0.3, np.float32)
    noise = np.random.default_rng(5)
    plates, mattes = {}, {}
    for frame in range(1001, 1006):
        plate = behind + noise.normal(0, 0.001, behind.shape)
        mattes[frame] = np.zeros(behind.shape[:2], np.float32)
        mattes[frame][40:60, 30:60] = 1
        plate[60:64, 30:60] *= 0.5
        plate[60:64, 60:90] *= np.interp(np.arange(30), [0, 12], [0.5, 0.85])[:, None]
        plates[frame] = np.where(mattes[frame][..., None] > 0, 0.9, plate).astype(np.float32)
    for found in _found(plates, mattes, behind, 0.0).values():
        assert (found.appearance[60:64, 30:60] > 0.5).mean() > 0.95
        assert found.appearance[60:64, 80:].max() == 0


def test_before_a_camera_at_rest_a_shadow_on_rough_ground_stands_out_more_than_before_one_that_moves() -> None:
    """Rough ground hides what an error of half a pixel explains; at rest there is hardly any."""
    rng = np.random.default_rng(5)
    grass = cv2.GaussianBlur(rng.normal(0, 1, (96, 160, 3)).astype(np.float32), (0, 0), 1.5)
    behind = (0.3 * np.exp(4 * grass)).astype(np.float32)
    matte, shade = (np.zeros(behind.shape[:2], np.float32) for _ in range(2))
    matte[20:50, 60:90], shade[56:76, 55:110] = 1, 1
    plate = np.where(matte[..., None] > 0, 0.9, behind * (1 - 0.3 * shade[..., None])).astype(np.float32)
    everywhere = np.ones_like(matte)
    share = {
        at_rest: float(cues.look(plate, matte, behind, everywhere, 0.01, at_rest=at_rest).deviates[shade > 0].mean())
        for at_rest in (True, False)
    }
    assert share[True] > 2 * share[False] > 0
    alone = np.where(matte[..., None] > 0, 0.9, behind).astype(np.float32)
    assert not cues.look(alone, matte, behind, everywhere, 0.01, at_rest=True).deviates[shade > 0].any()


def test_before_a_camera_at_rest_the_network_is_not_believed_where_noise_could_explain_what_it_sees() -> None:
    size = (200, 200)  # most of it far away, and quiet
    matte, dark = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    matte[10:20, 10:20], dark[10:40, 24:60] = 1, 1
    z = np.zeros(size, np.uint8)
    z[10:40, 24:42], z[10:40, 42:60] = round(16 * 2.3), round(16 * 2.7)
    look = cues.Look(z, np.zeros(size, np.uint8), dark, matte, (15.0, 15.0))
    sure = np.full((24, 32), 0.9, np.float32)
    belief = Belief(sure, sure * 0, np.zeros((12, 16), np.float32), np.zeros((2, 2, 3), np.float32))
    nowhere, known = np.zeros(size, bool), np.ones(size, bool)
    assert look.deviates[10:40, 24:60].all()
    found = decide.decide(look, nowhere, known, nowhere, nowhere, True, belief, [], decide.PHYSICS_SURE).sure
    assert found[12:38, 44:58].min() == 1 and found[12:38, 26:38].max() == 0
    found = decide.decide(look, nowhere, ~known, nowhere, nowhere, True, belief, [], decide.PHYSICS_SURE).sure
    assert found[12:38, 26:58].min() == 1, "without a background to speak against it"


def test_a_sliver_left_beside_a_found_shadow_is_found_too_and_a_thing_that_leads_away_is_not() -> None:
    size = (200, 200)
    matte, z, dark = (np.zeros(size, np.uint8) for _ in range(3))
    matte[90:110, 60:70] = 1
    z[90:110, 72:100] = z[90:110, 101:103] = 16 * 4  # the shadow, and a sliver behind a line that does not deviate
    z[112:180, 80:84] = 16 * 4  # begins beside it and leads away
    dark[z > 0] = 1
    look = cues.Look(z, np.zeros(size, np.uint8), dark, matte, (65.0, 100.0))
    chance = np.zeros(size, np.float32)
    chance[90:110, 70:100] = 0.9
    belief = Belief(chance, chance * 0, np.zeros((50, 50), np.float32), np.zeros((2, 2, 3), np.float32))
    nowhere, known = np.zeros(size, bool), np.ones(size, bool)
    found = decide.decide(look, nowhere, known, nowhere, nowhere, False, belief, [], decide.PHYSICS_SURE).sure
    assert found[92:108, 101:103].min() == 1
    assert found[120:180, 80:84].max() == 0
