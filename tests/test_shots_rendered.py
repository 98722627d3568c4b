"""Shots with known answers out of the real Blender: one tiny one, rendered, taken apart, and given to the benchmark."""

import dataclasses
import json

import numpy as np
import pytest

from tests.shots import make
from tests.shots.description import describe
from tests.test_blender import blender_python
from void_server import cli
from void_server.bench.known import known_shots

TINY = dataclasses.replace(describe("stack", scale=0.15), frames=3, samples=2)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(the shot, its renderings as (frame, states)): 96x54, 3 frames."""
    out = tmp_path_factory.mktemp("shots")
    raws = []
    develop = make.develop

    def watched(raw, index, d, facts, how):
        raws.append({name: make.state(raw, name, index, d, facts, how) for name in ("full", "unseen", "removed")})
        return develop(raw, index, d, facts, how)

    make.develop = watched
    try:
        make.make(TINY, out, blender_python("4.5"))
    finally:
        make.develop = develop
    return known_shots.find(out, None)[0], raws


def test_clean_plate_and_effects_and_object_make_the_plate(tiny):
    shot, _ = tiny
    for frame in shot.frames:
        total = shot.rgb("clean", frame).astype(np.float32)
        for layer in ("object", "appearance", "physics"):
            total += np.stack([known_shots.channel(shot.path("layers", frame), f"{layer}.{c}") for c in "RGB"], -1)
        plate = shot.rgb("plate", frame).astype(np.float32)
        assert np.abs(total - plate).max() <= 2 * np.spacing(np.float16(plate.max()))


def test_the_clean_plate_is_what_was_rendered_without_the_object(tiny):
    """The layers take noise away and nothing else: what is left agrees with a rendering that never had the object."""
    shot, raws = tiny
    about = json.loads((shot.folder / "shot.json").read_text())
    for frame, states in zip(shot.frames, raws):
        clean, removed = shot.rgb("clean", frame).astype(np.float32), states["removed"]
        grain = about["photography"]["grain"] * np.sqrt(0.02 + removed)
        assert np.median(np.abs(clean - removed) / grain) < 2.2, (
            "the grain's own deviation, and a little of the denoiser's"
        )
        gone = shot.region("physics", frame) | shot.region("object", frame)
        wrong = np.abs(states["full"] - removed)[gone].mean()
        assert np.abs(clean - removed)[gone].mean() < wrong / 2


def test_what_falls_without_the_object_is_physics_and_its_shadow_is_appearance(tiny):
    shot, raws = tiny
    last = shot.frames[-1]
    assert shot.region("physics", last).mean() > 0.005
    assert shot.region("appearance", last).mean() > 0.002
    assert (raws[-1]["unseen"] != raws[-1]["removed"]).any()
    assert shot.matte(last).max() == 1 and 0 < (shot.matte(last) > 0).mean() < 0.2
    assert shot.region("keep", last).mean() > 0.5


def test_the_same_description_gives_the_same_bits(tiny, tmp_path):
    shot, _ = tiny
    again = make.make(TINY, tmp_path, blender_python("4.5"))
    for role in make.ROLES:
        for frame in shot.frames:
            name = f"{role}/{role}.{frame}.exr"
            assert (again / name).read_bytes() == (shot.folder / name).read_bytes(), name


def test_it_can_be_scored_from_the_command_line(tiny, tmp_path, capsys):
    shot, _ = tiny
    words = ["bench", "removal", "--shots", str(shot.folder.parent), "--method", "propagate", "--method", "telea"]
    assert cli.main([*words, "--keep-work", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["method"] for row in rows] == ["propagate", "telea"]
    assert all(row["keep_broken"] == 0 and row["regions"]["physics"] for row in rows)
    assert (tmp_path / shot.name / "sheet.png").is_file()
