"""What the training counts as wrong: less, the nearer an answer comes to what is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]")
for library in ("mujoco", "efficientnet_lite_pytorch", "onnx"):
    pytest.importorskip(library, reason="needs the extra [training]")

from tests.fakes.training import answers  # noqa: E402
from training import clips, export, looks, losses  # noqa: E402


def _labelled() -> clips.Example:
    """One clip of made-up labels, known nearly everywhere."""
    rng = np.random.default_rng(6)

    def blobs(share: float) -> Any:
        field = torch.from_numpy(rng.random((looks.WINDOW, 1, 6, 12), np.float32) < share).float()
        return torch.nn.functional.interpolate(field, (24, 48))

    inputs = {n: torch.zeros(looks.WINDOW, c, 48, 96) for n, c in export.INPUTS.items()}
    known = 1 - blobs(0.1), 1 - blobs(0.1)
    return clips.Example(
        **inputs,
        appearance=blobs(0.3),
        appearance_weight=known[0],
        broad=blobs(0.3),
        broad_weight=known[0],
        physics=blobs(0.3),
        physics_weight=known[1],
        attenuation=torch.from_numpy(rng.uniform(-1, 1, (looks.WINDOW, 1, 24, 48)).astype(np.float32)),
        clean=torch.zeros(looks.WINDOW, 3, 48, 96),
        differs=torch.zeros(looks.WINDOW, 1, 48, 96),
        valid=torch.ones(looks.WINDOW, 1, 1, 1),
    )


def test_the_loss_falls_the_nearer_the_answers_come_to_the_truth() -> None:
    example = _labelled()
    wrong, unsure, likely, right = (losses.loss(example, answers(example, sure)) for sure in (-10, 0, 2, 10))
    assert float(wrong[0]) > float(unsure[0]) > float(likely[0]) > float(right[0])
    assert float(right[0]) < 0.01
    for name, part in right[1].items():
        assert part < unsure[1][name] < wrong[1][name], name


def test_what_nobody_knows_is_held_against_no_answer() -> None:
    example = _labelled()
    appearance, *others = answers(example, 2)
    denied = torch.where(example.appearance_weight > 0, appearance, -appearance)
    assert not torch.equal(denied, appearance)
    assert float(losses.loss(example, (denied, *others))[0]) == float(losses.loss(example, (appearance, *others))[0])


def test_too_much_costs_as_much_as_too_little() -> None:
    truth = torch.zeros(looks.WINDOW, 1, 24, 48)
    truth[..., 8:16, 12:24] = 1
    known = torch.ones_like(truth)
    wide, narrow = truth.clone(), truth.clone()
    wide[..., 8:16, 24:26] = 1
    narrow[..., 8:16, 22:24] = 0
    costs = [float(losses._tversky((2 * answer - 1) * 20, truth, known)) for answer in (wide, narrow)]
    assert costs[0] == pytest.approx(costs[1], rel=0.2) and min(costs) > 0
