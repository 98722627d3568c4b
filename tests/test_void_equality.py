"""VOID's numbers are the release's: held against golden numbers that `compare_released_void.py` took from its code."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from tests import compare_released_void as compare  # noqa: E402
from tests.fakes import tiny_void as tiny  # noqa: E402
from void_server.engine.void.passes import conditioning, windows  # noqa: E402


@pytest.fixture(scope="module")
def ours():
    return compare.Ours().cases()


@pytest.fixture(scope="module")
def golden():
    with np.load(compare.GOLDEN) as numbers:
        return dict(numbers)


@pytest.mark.parametrize(
    "case",
    ["transformer", "vae_encode_85", "vae_decode_22", "vae_decode_tiled", "pass1_85", "pass1_197", "pass2_85"],
)
def test_numbers_equal_the_release(case, ours, golden):
    assert set(ours) == set(golden)
    apart = np.abs(compare.samples(ours[case]()) - golden[case]).max()
    assert apart <= compare.LIMIT


def test_golden_numbers_can_tell_pictures_apart(golden):
    for name, numbers in golden.items():
        assert numbers[-1] > 0.3, name
    assert np.abs(golden["pass1_85"] - golden["pass2_85"]).max() > 0.1


@pytest.mark.parametrize("drift", [-3, 0, 3, 12])
def test_published_mask_values_map_as_documented_even_after_a_codec(drift):
    disk = torch.tensor([0.0, 63, 127, 255]).view(1, 1, 1, 1, 4)
    snapped = conditioning.scale_labels((255 - (disk + drift).clamp(0, 255)) / 255, 1, 4)
    assert (255 - snapped * 255).round().flatten().tolist() == [0, 63, 127, 255]
    for levels, fed in (("three", [0, 0, 128 / 255, 1]), ("two", [0, 0, 0, 1])):
        got = conditioning.mask_for_vae(conditioning.mask_levels(snapped, levels))[0, 0].flatten().tolist()
        assert got == pytest.approx(fed)


def test_halves_of_two_labels_fall_as_released():
    disk = torch.tensor([[0.0, 63], [63, 127], [127, 255], [0, 127]]).view(1, 1, 1, 4, 2)
    halved = conditioning.scale_labels(1 - disk / 255, 4, 1)
    assert (255 - halved * 255).round().flatten().tolist() == [63, 63, 127, 63]


@pytest.mark.parametrize("sample", ["BigBen", "moving_ball"])
def test_a_published_quadmask_maps_to_the_documented_levels(sample):
    plates = Path(os.environ.get("VOID_PLATES", Path(__file__).parents[2] / "shared" / "plates"))
    path = plates / "void" / sample / "quadmask.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is not here; set VOID_PLATES")
    capture = cv2.VideoCapture(str(path))
    frames = [frame for more, frame in (capture.read() for _ in range(3)) if more]
    capture.release()
    disk = torch.from_numpy(np.stack(frames)[..., 0].copy()).float()[None, None]
    assert set(disk.unique().tolist()) <= {0, 63, 127, 255}
    fed = conditioning.mask_for_vae(conditioning.mask_levels(1 - disk / 255, "three"))[:, :1]
    for value, level in ((0, 0.0), (63, 0.0), (127, 128 / 255), (255, 1.0)):
        there = fed[disk == value]
        assert torch.allclose(there, torch.full_like(there, level))


def test_lengths_and_windows_are_the_released_ones():
    lengths = {n: windows.legal_frames(n, at_least=85, at_most=197) for n in (1, 22, 85, 86, 93, 96, 197, 300)}
    assert lengths == {1: 85, 22: 85, 85: 85, 86: 93, 93: 93, 96: 101, 197: 197, 300: 197}
    assert windows.spans(26, 22) == [(0, 22), (18, 26)]
    assert windows.spans(50, 22) == [(0, 22), (18, 40), (36, 50)]


def test_every_latent_counts_once_where_windows_meet():
    for total in (26, 28, 50, 200):
        sums = np.zeros(total)
        for begin, end in windows.spans(total, 22):
            assert (end - begin) % 2 == 0
            sums[begin:end] += windows.weights((begin, end), total)
        assert np.allclose(sums, 1)


def test_a_released_clip_comes_back_padded_and_a_fixed_one_as_long_as_it_went_in(ours):
    pipe = compare.Ours().pipes[0]
    for preset, frames in (("released", 21), ("fixed", 15)):
        video, mask = tiny.clip(15)
        made = pipe(
            video=video,
            mask_video=mask,
            height=32,
            width=48,
            num_frames=21,
            num_inference_steps=1,
            prompt_embeds=tiny.embeds(3),
            preset=preset,
            output_type="np",
        ).frames[0]
        assert len(made) == frames
