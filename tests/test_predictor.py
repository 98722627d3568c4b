"""The network in the wheel: what it takes, what it gives, and that it sees a shadow when there is one."""

from __future__ import annotations

import dataclasses
from importlib import resources

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from void_server.effects import evidence, predictor
from void_server.effects.evidence import Evidence
from void_server.effects.predictor import Belief
from void_server.wire.errors import EngineError

Array = npt.NDArray[np.float32]
HEIGHT, WIDTH = 192, 256


def _wall() -> Array:
    rng = np.random.default_rng(4)
    coarse = rng.uniform(0.15, 0.5, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.float32)
    wide = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 1.2)
    return np.asarray(np.clip(wide + 0.1 * fine, 0.02, None), np.float32)


def _scene(count: int = 8, depth: float = 0.65) -> tuple[list[Evidence], list[Array]]:
    """A box that moves right over a wall that is known, with a soft shadow at its foot that takes `depth` of the
    light."""
    wall = _wall()
    ones, noise = np.ones((HEIGHT, WIDTH), np.float32), np.full((HEIGHT, WIDTH), 0.004, np.float32)
    rows, shadows = [], []
    for t in range(count):
        x = 60 + 5 * t
        matte, shadow = np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.float32)
        matte[70:120, x : x + 34] = 1
        shadow[118:134, x + 4 : x + 60] = 1
        shadow = cv2.GaussianBlur(shadow, (0, 0), 2) * (1 - matte)
        plate = np.where(matte[..., None] > 0, 0.8, wall * (1 - depth * shadow[..., None])).astype(np.float32)
        rows.append(evidence.gather(plate, matte, wall, ones, noise, 1.0))
        shadows.append(shadow)
    return rows, shadows


def test_the_file_takes_and_gives_what_the_runtime_names() -> None:
    whole = resources.files("void_server.effects").joinpath(predictor.FILE).read_bytes()
    session = onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])
    rows, _ = _scene(1)
    wanted = {f.name: [predictor.FRAMES, getattr(rows[0], f.name).shape[0]] for f in dataclasses.fields(Evidence)}
    assert {i.name: i.shape[:2] for i in session.get_inputs()} == wanted
    assert all(isinstance(side, str) for i in session.get_inputs() for side in i.shape[2:]), "any height and width"
    # Its answers are told apart by their order.
    assert [o.name for o in session.get_outputs()] == [f.name for f in dataclasses.fields(Belief)]
    assert {x.type for x in [*session.get_inputs(), *session.get_outputs()]} == {"tensor(float)"}


@pytest.mark.parametrize("shape", [(1080, 1920), (1920, 1080), (300, 1800)])
def test_it_answers_at_every_size_that_evidence_comes_in(shape: tuple[int, int]) -> None:
    height, width = evidence.network_size(*shape)
    light, flat = np.full((height, width, 3), 0.2, np.float32), np.zeros((height, width), np.float32)
    (belief,) = predictor.shipped().look([evidence.gather(light, flat, light, flat + 1, flat, 1.0)])
    assert belief.appearance.shape == belief.attenuation.shape == (height // 2, width // 2)
    assert belief.physics.shape == (height // 4, width // 4)
    assert all(np.isfinite(getattr(belief, f.name)).all() for f in dataclasses.fields(Belief))


def test_it_fits_in_the_wheel_and_gives_chances_of_the_promised_sizes() -> None:
    assert resources.files("void_server.effects").joinpath(predictor.FILE).stat().st_size <= 16 << 20
    rows, _ = _scene()
    for belief in predictor.shipped().look(rows):
        assert belief.appearance.shape == belief.attenuation.shape == (HEIGHT // 2, WIDTH // 2)
        assert belief.physics.shape == (HEIGHT // 4, WIDTH // 4)
        assert belief.cells.shape == (2, 8, 11)
        for chance in (belief.appearance, belief.physics, belief.cells):
            assert chance.min() >= 0 and chance.max() <= 1


def test_a_shadow_is_believed_and_nothing_else_is() -> None:
    rows, shadows = _scene()
    for row, shadow, belief in list(zip(rows, shadows, predictor.shipped().look(rows)))[2:6]:
        half = cv2.resize(shadow, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
        outside = cv2.resize(row.matte[0], (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) == 0
        assert belief.appearance[(half > 0.8) & outside].mean() > 0.8
        assert belief.appearance[(half < 0.01) & outside].mean() < 0.1
        assert belief.attenuation[(half > 0.8) & outside].mean() < -0.2


@pytest.mark.parametrize("depth", [0.3, 0.65])
def test_a_shadow_is_believed_where_it_lies_and_not_without_one(depth: float) -> None:
    rows, shadows = _scene(depth=depth)
    bare, _ = _scene(depth=0.0)
    half = np.stack([cv2.resize(s, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for s in shadows])
    clear = np.stack([cv2.resize(r.matte[0], half.shape[:0:-1], interpolation=cv2.INTER_AREA) == 0 for r in rows])
    with_shadow, without = (np.stack([b.appearance for b in predictor.shipped().look(e)]) for e in (rows, bare))
    inside = (half > 0.8) & clear
    believed = with_shadow[inside].mean()
    assert believed > 0.5
    assert believed > 2 * with_shadow[(half < 0.01) & clear].mean()
    assert believed > 2 * without[inside].mean(), "it is the shadow that is seen, not the place under the box"


def _same(first: list[Belief], second: list[Belief]) -> bool:
    return all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name))
        for a, b in zip(first, second)
        for f in dataclasses.fields(Belief)
    )


def test_the_same_evidence_gives_the_same_bits() -> None:
    rows, _ = _scene()
    assert _same(predictor.shipped().look(rows), predictor.shipped().look(rows))


@pytest.mark.parametrize("count", range(1, predictor.FRAMES))
def test_a_short_run_is_seen_as_if_its_last_frame_stood_still(count: int) -> None:
    rows, _ = _scene(count)
    short = predictor.shipped().look(rows)
    held = predictor.shipped().look([*rows, *[rows[-1]] * (predictor.FRAMES - count)])
    assert len(short) == count
    assert _same(short, held[:count])


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_damaged_file_is_named_with_its_remedy(kept: float) -> None:
    whole = resources.files("void_server.effects").joinpath(predictor.FILE).read_bytes()
    for damaged in (whole[: int(kept * len(whole))], b"not a network"):
        with pytest.raises(EngineError, match=r"predictor\.onnx") as caught:
            predictor.OnnxPredictor(damaged)
        assert "Install" in caught.value.hint


def test_a_dark_plate_is_brought_to_where_training_pictures_lie() -> None:
    wall = _wall()
    assert evidence.exposure([wall * 0.6]) == 1.0
    gain = evidence.exposure([wall * 0.01])
    assert 0.05 < float((wall * 0.01 * gain).mean()) < 0.1
