"""The training room: its pictures say what they should, and its file is what torch computes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from void_server.effects.training import clips, export, looks, pictures, raycaster, scenes
from void_server.effects.training.network import Network

TEXTURES = looks.Textures(2, 4)


@pytest.fixture(scope="module")
def covering() -> pictures.Pictures:
    rng = np.random.default_rng(0)
    size = 3 * (256**2 + 64**2 + 16**2 + 4**2)
    return pictures.Pictures(
        rng.integers(0, 255, (4, size), np.uint8), 2, rng.integers(0, 255, (2, 3, 448, 784), np.uint8)
    )


@pytest.fixture(scope="module")
def cast() -> dict[str, Any]:
    made = [scenes.make(seed) for seed in (11, 12, 13, 14)]
    return {key: np.stack([m[key] for m in made]) for key in made[0]}


def _example(
    cast: dict[str, Any], covering: pictures.Pictures, seed: int, on_photographs: int
) -> tuple[clips.Example, Any]:
    rng = np.random.default_rng(seed)
    batch = clips.stacked([looks.dress(cast, i, rng, TEXTURES) for i in range(2)])
    atlas, plates = torch.from_numpy(covering.tiles), torch.from_numpy(covering.plates)
    torch.manual_seed(seed)
    return clips.make(batch, atlas, plates, on_photographs, torch.Generator().manual_seed(seed), (2, 2)), batch


def test_a_seed_is_a_scene_and_taking_the_object_away_moves_what_it_held() -> None:
    first, second = scenes.make(21), scenes.make(21)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    moved = []
    for seed in range(40):
        made = scenes.make(seed)
        if list(scenes.KINDS)[made["kind"]] == "support":
            moved.append(np.abs(made["with_object"][-1, 1:, :3] - made["without"][-1, 1:, :3]).max())
    assert moved and np.mean(np.array(moved) > 0.05) > 0.8


@pytest.mark.parametrize("on_photographs", [0, 2])
def test_labels_lie_outside_the_object_and_inputs_are_what_the_runtime_gives(
    cast: dict[str, Any], covering: pictures.Pictures, on_photographs: int
) -> None:
    example, _ = _example(cast, covering, 5, on_photographs)
    under = torch.nn.functional.max_pool2d(example.matte, 2) > 0
    assert float((example.appearance * example.appearance_weight)[under].sum()) == 0
    for one in example.inputs:
        assert one.shape[-2:] == clips.SIZE
        assert torch.isfinite(one).all() and float(one.min()) >= 0 and float(one.max()) <= 1
    mirrored = example.mirrored()
    for field in dataclasses.fields(example):
        assert torch.equal(getattr(mirrored, field.name).flip(-1), getattr(example, field.name))


def test_an_object_that_casts_nothing_has_no_effect_to_find(cast: dict[str, Any], covering: pictures.Pictures) -> None:
    rng = np.random.default_rng(1)
    batch = clips.stacked([looks.dress(cast, i, rng, TEXTURES) for i in range(2)])
    for n in range(2):
        batch["primitives"]["ghost"][n, batch["object"][n, 1:]] = 1
    batch["views"]["ripples"]["height"] = 0
    atlas, plates = torch.from_numpy(covering.tiles), torch.from_numpy(covering.plates)
    example = clips.make(batch, atlas, plates, 0, torch.Generator().manual_seed(1), (2, 2))
    assert float((example.appearance * example.appearance_weight).sum()) == 0


def test_records_are_the_structs_of_the_ray_caster() -> None:
    floats = {raycaster.PRIMITIVE: 20, raycaster.POSE: 13, raycaster.LIGHT: 7, raycaster.RIPPLE: 6,
              raycaster.VIEW: 12 + 5 + 2 * 6, raycaster.WORLD: 23 + 3 * 7 + 6 + 6}  # fmt: skip
    assert {record.itemsize // 4 for record in floats} == set(floats.values())
    assert all(record.itemsize == 4 * count for record, count in floats.items())


def test_pictures_come_back_from_their_file_and_every_eighth_is_held_out(
    tmp_path: Path, covering: pictures.Pictures
) -> None:
    covering.save(tmp_path / "pictures.npz")
    again = pictures.Pictures.load(tmp_path / "pictures.npz")
    assert np.array_equal(again.tiles, covering.tiles) and again.photographic == 2
    own, kept = again.part(False), again.part(True)
    assert len(own.tiles) + len(kept.tiles) == len(again.tiles) and len(kept.tiles) == 1


@pytest.mark.filterwarnings("ignore")
def test_the_exported_file_answers_as_torch_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    apart = export.export(Network().eval(), tmp_path / "network.onnx")
    assert apart < 1e-4
    assert (tmp_path / "network.onnx").stat().st_size <= 16 << 20


def test_the_command_says_what_it_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "void_server.effects.training", "--help"], capture_output=True, text=True, check=True
    )
    assert all(word in done.stdout for word in ("pictures", "train", "export"))
