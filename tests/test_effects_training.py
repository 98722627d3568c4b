"""The training room: its pictures say what they should, and its file is what torch computes."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]")
for library in ("mujoco", "efficientnet_lite_pytorch", "onnx"):
    pytest.importorskip(library, reason="needs the extra [training]")

from tests.fakes.training import answers  # noqa: E402
from training import (  # noqa: E402
    __main__ as command,
)
from training import (  # noqa: E402
    clips,
    export,
    filters,
    held_out,
    looks,
    pictures,
    raycaster,
    scenes,
    sensor,
    train,
)
from training.network import Deployed, Network  # noqa: E402

TEXTURES = looks.Textures(2, 4)
DEVICE = raycaster.device()
COMPILER = "nvcc" if DEVICE.type == "cuda" else "g++"
draws = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which(COMPILER) is None,
    reason=f"the ray caster needs Linux and {COMPILER}",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another on a busy machine take twice as long as one alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def covering() -> pictures.Pictures:
    rng = np.random.default_rng(0)
    size = 3 * (256**2 + 64**2 + 16**2 + 4**2)
    return pictures.Pictures(
        rng.integers(0, 255, (4, size), np.uint8), 2, rng.integers(0, 255, (2, 3, 448, 784), np.uint8)
    )


@pytest.fixture(scope="module")
def cast() -> dict[str, Any]:
    """Something that holds up something else."""
    made = scenes.make(12)
    assert list(scenes.KINDS)[made["kind"]] == "support"
    return made


@pytest.fixture(scope="module")
def batch(cast: dict[str, Any]) -> dict[str, Any]:
    """One clip of that, over dry ground."""
    one = {key: np.stack([value]) for key, value in cast.items()}
    return clips.stacked([looks.dress(one, 0, np.random.default_rng(1), TEXTURES)])


def _made(batch: dict[str, Any], covering: pictures.Pictures, on_photographs: int) -> tuple[clips.Example, Any]:
    """An example, and [N * WINDOW, 1, h, w] where its object truly is."""
    atlas, plates = (torch.from_numpy(x).to(DEVICE) for x in (covering.tiles, covering.plates))
    truth: list[Any] = []

    def rotoscoped(is_object: Any, generator: Any) -> Any:
        truth.append(is_object)
        return drawn_by_hand(is_object, generator)

    drawn_by_hand = sensor.rotoscoped
    torch.manual_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensor, "rotoscoped", rotoscoped)
        generator = torch.Generator(DEVICE).manual_seed(1)
        example = clips.make(copy.deepcopy(batch), atlas, plates, on_photographs, generator, (2, 2))
    return example, truth[0][:, : looks.WINDOW].reshape(-1, 1, *clips.SIZE)


@pytest.fixture(scope="module")
def ray_cast(batch: dict[str, Any], covering: pictures.Pictures) -> tuple[clips.Example, Any]:
    return _made(batch, covering, 0)


@pytest.fixture(scope="module")
def on_photograph(batch: dict[str, Any], covering: pictures.Pictures) -> tuple[clips.Example, Any]:
    return _made(batch, covering, 1)


def _found(example: clips.Example) -> float:
    return float((example.appearance * example.appearance_weight).sum())


def test_a_seed_is_a_scene_and_taking_the_object_away_moves_what_it_held() -> None:
    first, second = scenes.make(21), scenes.make(21)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    moved = []
    for seed in range(40):
        made = scenes.make(seed)
        if list(scenes.KINDS)[made["kind"]] == "support":
            moved.append(np.abs(made["with_object"][-1, 1:, :3] - made["without"][-1, 1:, :3]).max())
    assert moved and np.mean(np.array(moved) > 0.05) > 0.8


@draws
@pytest.mark.parametrize("road", ["ray_cast", "on_photograph"])
def test_labels_lie_outside_the_object_and_inputs_are_what_the_runtime_gives(
    road: str, request: pytest.FixtureRequest
) -> None:
    example, is_object = request.getfixturevalue(road)
    assert float(is_object.sum()) > 0 and _found(example) > 0
    for under in (is_object, example.matte):
        covered = torch.nn.functional.max_pool2d(under, 2) > 0
        for label in (example.appearance, example.appearance_weight, example.physics, example.physics_weight):
            assert float(label[covered].sum()) == 0
    for one in example.inputs:
        assert one.shape[-2:] == clips.SIZE
        assert torch.isfinite(one).all() and float(one.min()) >= 0 and float(one.max()) <= 1


@draws
def test_a_mirrored_example_is_mirrored_in_every_field(ray_cast: tuple[clips.Example, Any]) -> None:
    example, _ = ray_cast
    mirrored = example.mirrored()
    for field in dataclasses.fields(example):
        own, other = (getattr(e, field.name).cpu().numpy() for e in (example, mirrored))
        assert np.array_equal(other, own[..., ::-1]), field.name


def _background(count: int) -> Any:
    """A picture whose light says where each pixel is, known everywhere: [count, 5, h, w]."""
    x, y = filters.grid(*clips.SIZE, DEVICE)
    width = clips.SIZE[1]
    held = torch.stack([x / width, y / width, torch.zeros_like(x), torch.ones_like(x), torch.zeros_like(x)])
    return held.expand(count, -1, -1, -1).clone()


@pytest.mark.parametrize("fault", ["torn", "bent"])
def test_parallax_spoils_the_background_of_a_moving_camera_by_as_much_as_it_should_and_none_at_rest(fault: str) -> None:
    count, generator = 24, torch.Generator(DEVICE).manual_seed(4)
    moves = torch.arange(count, device=DEVICE) % 2 == 1
    each = 1 if fault == "torn" else looks.WINDOW
    held = _background(count * each)
    spoiled = (clips._torn if fault == "torn" else clips._bent)(held, moves, generator)
    off = ((spoiled - held)[:, :2] * clips.SIZE[1]).pow(2).sum(1).sqrt().reshape(count, each, *clips.SIZE)
    assert float(off[~moves].max()) == 0
    inner = off[..., 20:-20, 20:-20]  # what lies beyond the edge repeats it
    if fault == "bent":
        assert 0.5 < float(inner.max()) <= clips.BENT_PX * 2**0.5 + 0.01
        assert float((inner[moves].flatten(1).amax(1) > 0).float().mean()) > 0.4
        return
    patches = (off[moves] > 0.5).flatten(1).float().mean(1)
    assert 0 < float((patches > 0).float().mean()) < 0.7
    assert float(patches.max()) <= clips.TORN_SHARE[1] + 0.01
    assert float(inner[inner > 0.5].min()) > clips.TORN_PX[0] - 0.1 and float(inner.max()) < clips.TORN_PX[1] + 0.1


@draws
def test_a_spoiled_background_changes_neither_picture_nor_labels(
    batch: dict[str, Any], covering: pictures.Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = copy.deepcopy(batch)
    moving["to_view"][:, :, 0, 2] += np.arange(looks.TAKES) - looks.WINDOW // 2
    monkeypatch.setattr(clips, "BENT", 1.0)
    monkeypatch.setattr(clips, "TORN", 1.0)
    spoiled, _ = _made(moving, covering, 0)
    monkeypatch.setattr(clips, "_moved", lambda held, off: held)
    clean, _ = _made(moving, covering, 0)
    assert float((spoiled.behind - clean.behind).abs().mean()) > 1e-3
    for field in dataclasses.fields(spoiled):
        if field.name not in ("behind", "coverage", "scatter"):
            assert torch.equal(getattr(spoiled, field.name), getattr(clean, field.name)), field.name


def test_what_was_found_before_does_not_give_the_effect_away() -> None:
    count = 40
    effect, solid = torch.zeros(2, count * looks.WINDOW, 1, *clips.SIZE, device=DEVICE)
    solid[..., 60:90, 100:130] = 1
    effect[..., 90:100, 100:160] = 1
    effect[: looks.WINDOW] = 0
    found = clips._found_before(effect, solid, torch.Generator(DEVICE).manual_seed(2))
    too_much = (found * (1 - effect) * (1 - solid)).flatten(1).sum(1).reshape(count, -1)[:, 0]
    missed = (effect * (1 - found)).flatten(1).sum(1).reshape(count, -1)[:, 0]
    assert 0.5 < float((too_much > 50).float().mean()) < 1 and 0.1 < float((missed > 50).float().mean()) < 0.6
    far = torch.ones_like(solid)
    far[..., 20:140, 60:200] = 0
    assert float((found * far).sum()) == 0


def test_a_passer_by_weighs_more_in_physics_than_what_lies_about() -> None:
    body = torch.tensor([[[[0, 1, 2, 3, -1]]]])
    movers = {"movers": torch.tensor([[0, 1, -1]]), "mover_is_object": torch.tensor([[True, False, False]])}
    assert clips._passing(body, movers)[0, 0, 0].tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("sigma", [0.7, 1.5, 4.0])
def test_both_ways_to_blur_are_the_same_blur(sigma: float) -> None:
    picture = torch.rand(2, 3, 24, 40)
    assert torch.allclose(filters.Blur(3, sigma)(picture), filters.gauss(picture, sigma), atol=1e-6)


@draws
def test_what_was_held_up_moves_and_says_so_in_physics(ray_cast: tuple[clips.Example, Any]) -> None:
    example, _ = ray_cast
    assert float((example.physics * example.physics_weight).sum()) > 0


@draws
def test_an_object_that_casts_nothing_has_no_effect_to_find(
    batch: dict[str, Any], covering: pictures.Pictures, ray_cast: tuple[clips.Example, Any]
) -> None:
    assert _found(ray_cast[0]) > 0, "the same clip with an object that does cast"
    ghostly = copy.deepcopy(batch)
    ghostly["primitives"]["ghost"][0, ghostly["object"][0, 1:]] = 1
    example, is_object = _made(ghostly, covering, 0)
    assert torch.equal(is_object, ray_cast[1]), "seen by the camera all the same"
    assert _found(example) == 0


def _structs() -> dict[str, list[tuple[str, int]]]:
    """Fields of the structs in raycaster.cu, each with how many floats it holds."""
    text = re.sub(r"//[^\n]*", "", raycaster.SOURCE.read_text(encoding="utf-8"))
    counts = {"LIGHTS": raycaster.LIGHTS, "RIPPLES": raycaster.RIPPLES, "PRIMITIVES": scenes.PARTS}
    for name, count in counts.items():
        assert re.search(rf"\b{name} = {count}\b", text), f"{name} differs between raycaster.cu and Python"
    found: dict[str, list[tuple[str, int]]] = {}
    for name in ("Primitive", "Pose", "Light", "Ripple", "World", "View"):
        body = re.search(rf"struct {name} \{{(.*?)\}};", text, re.S)
        assert body, name
        found[name] = []
        for declared in filter(None, (d.strip() for d in body[1].split(";"))):
            kind, names = declared.split(None, 1)
            width = 1 if kind == "float" else sum(n for _, n in found[kind])
            for one in names.split(","):
                field = re.fullmatch(r"(\w+)(?:\[(\w+)\])?", one.strip())
                assert field, one
                times = field[2] or "1"
                found[name].append((field[1], width * (counts[times] if times in counts else int(times))))
    return found


@draws
def test_the_ray_caster_leaves_the_arithmetic_of_its_process_alone() -> None:
    """Subnormal numbers survive: whoever loads it still writes a plate's own bits."""
    raycaster._library()
    assert np.float32(2.0**-149) > 0 and sys.float_info.min / 2 > 0


@pytest.mark.parametrize("name", ["Primitive", "Pose", "Light", "Ripple", "World", "View"])
def test_records_are_the_structs_of_the_ray_caster_field_for_field(name: str) -> None:
    record, struct = getattr(raycaster, name.upper()), _structs()[name]
    assert [(field, record[field].itemsize // 4) for field in record.names] == struct
    assert record.itemsize == 4 * sum(count for _, count in struct)


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
    network = Network().train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # one pass sets the statistics, so that the answers have something to differ in
    some = [torch.rand(export.FRAMES, channels, 64, 96) for channels in export.INPUTS.values()]
    with torch.no_grad():
        network(*some)
        answers = network.eval()(*some)
    assert all(float(answer.std()) > 0.01 for answer in answers)
    file = tmp_path / "network.onnx"
    assert export.export(network, file) < 1e-4, "at 192x256"
    assert file.stat().st_size <= 16 << 20
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for size in ((64, 96), (96, 64)):
        given = {name: torch.rand(export.FRAMES, channels, *size) for name, channels in export.INPUTS.items()}
        with torch.no_grad():
            wanted = Deployed(network)(*given.values())
        got = session.run(list(export.OUTPUTS), {name: x.numpy() for name, x in given.items()})
        assert max(float(np.abs(w.numpy() - g).max()) for w, g in zip(wanted, got)) < 1e-4, size


def test_what_stands_otherwise_is_what_moved_or_turned_as_far_as_one_can_see() -> None:
    poses = np.zeros((1, looks.PICTURES, scenes.PARTS), raycaster.POSE)
    poses["rotation"] = np.eye(3).ravel()
    never = poses[:, looks.TAKES + looks.WINDOW :]
    never["centre"][:, :, 0, 2], never["centre"][:, :, 1, 2] = 0.02, 0.005
    for part, angle in ((2, 0.1), (3, 0.01)):
        never["rotation"][:, :, part, 1], never["rotation"][:, :, part, 3] = -np.sin(angle), np.sin(angle)
    poses["centre"][:, : looks.TAKES, 4] = 1  # of other pictures than the two that are compared
    never["centre"][:, 4:, 5] = 1
    first = torch.tensor([-1, 0, 1, 2, 3, 4, 5, 6]).expand(1, looks.WINDOW, 1, 8)
    found = clips._otherwise(poses, first)[0, :, 0].int().tolist()
    assert found[0] == [0, 0, 1, 0, 1, 0, 0, 0] and found[-1] == [0, 0, 1, 0, 1, 0, 0, 1]


class _Knowing(torch.nn.Module):  # type: ignore[misc]
    """Answers with the labels of the example that was made last, as surely as `sure`: wrongly where negative."""

    def __init__(self, sure: float, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.sure, make = sure, clips.make

        def watched(*given: Any) -> clips.Example:
            self.example = make(*given)
            return self.example

        patch.setattr(clips, "make", watched)

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        assert all(one.shape == own.shape for one, own in zip(inputs, self.example.inputs))
        return answers(self.example, self.sure)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(held_out, "BATCH", 1)
    monkeypatch.setattr(held_out, "RAYS", (1, 1))
    return monkeypatch


@draws
def test_figures_are_full_for_the_truth_and_nought_for_its_opposite(
    cast: dict[str, Any], covering: pictures.Pictures, few: pytest.MonkeyPatch
) -> None:
    kept_back = {key: np.stack([value]) for key, value in cast.items()}
    shares = {}
    for sure in (9.0, -9.0, 0.5):
        with pytest.MonkeyPatch.context() as patch:
            shares[sure] = held_out.score(_Knowing(sure, patch), kept_back, covering, 0.0)
    oracle = [name for name in shares[9.0] if "seen" in name]
    learnt = set(shares[9.0]) - {*oracle, "appearance, broadly", "beside idle objects"}
    assert {"appearance, support", "physics cells, support", "appearance, true background", "physics cells"} <= learnt
    assert not any(kind in name for name in learnt for kind in scenes.KINDS if kind != "support")
    assert all(shares[9.0][name] == 1 for name in learnt)
    assert all(shares[-9.0][name] == 0 for name in learnt - {"cells"}), "of cells either kind is asked"
    assert shares[0.5]["appearance from .7"] == 0 and shares[0.5]["appearance from .3"] < 1
    assert all(shares[9.0][name] == shares[-9.0][name] and 0 < shares[9.0][name] < 1 for name in oracle)


@draws
def test_the_true_background_is_true_where_one_was_recovered_or_everywhere(
    ray_cast: tuple[clips.Example, Any],
) -> None:
    example, _ = ray_cast
    plate, true, matte, coverage, scatter = held_out.with_true_background(example)
    assert torch.equal(plate, example.plate) and torch.equal(matte, example.matte)
    assert torch.equal(coverage, example.coverage) and float(scatter.max()) == 0
    assert 0.2 < float(coverage.mean()) < 1 and float(true[coverage.expand_as(true) == 0].abs().max()) == 0
    off = [float(((one - example.clean).abs() * coverage).sum()) for one in (true, example.behind)]
    assert off[0] < off[1]
    for soft in sensor.SOFT:
        same = filters.gauss(example.clean, soft)
        softly = dataclasses.replace(example, plate=same)
        assert torch.equal(held_out.with_true_background(softly)[1], same * coverage)
        _, everywhere, _, full, _ = held_out.without_holes(softly)
        assert torch.equal(everywhere, same) and float(full.min()) == 1


@draws
@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_is_scored_by_one_command(
    tmp_path: Path, covering: pictures.Pictures, few: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many = pictures.Pictures(covering.tiles.repeat(4, 0), 8, covering.plates.repeat(4, 0))  # every eighth is kept back
    many.save(tmp_path / "pictures.npz")
    train._save(Network().state_dict(), tmp_path / "one.pt")
    words = f"score {tmp_path}/one.pt {tmp_path}/one.pt --pictures {tmp_path}/pictures.npz --scenes 1 --workers 1"
    few.setattr(sys, "argv", ["training", *words.split()])
    command.main()
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one.pop("held out") for one in said] == ["scenes", "photographs"]
    assert all(0 <= figure <= 1 for one in said for figure in one.values())
    assert "appearance" in said[1] and not any(kind in name for name in said[1] for kind in scenes.KINDS)


def test_the_command_says_what_it_does() -> None:
    done = subprocess.run([sys.executable, "-m", "training", "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("pictures", "train", "score", "export"))
