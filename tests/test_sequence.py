"""Sequences are found as artists write them, and what is odd about them is named."""

from __future__ import annotations

import pytest

from void_server.image.frames import sequence
from void_server.wire.errors import SequenceError


@pytest.fixture
def folder(tmp_path):
    for name in ("plate.1001.exr", "plate.1002.exr", "plate.1004.exr", "matte_v2.0009.exr", "matte_v2.0010.exr"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "pattern", ["plate.####.exr", "plate.%04d.exr", "plate.$F4.exr", "plate.@@@@.exr", "plate.#.exr", "plate.1002.exr"]
)
def test_every_way_of_writing_a_pattern_finds_the_same_frames(folder, pattern):
    found = sequence.find(folder / pattern, "plate")
    assert list(found.files) == [1001, 1002, 1004]
    assert found.files[1004] == folder / "plate.1004.exr"
    assert not found.strays


def test_a_folder_with_one_sequence_is_that_sequence(tmp_path):
    (tmp_path / "plate.1001.exr").touch()
    (tmp_path / "notes.txt").touch()
    assert list(sequence.find(tmp_path, "plate").files) == [1001]


def test_a_folder_with_two_sequences_is_refused_by_name(folder):
    with pytest.raises(SequenceError, match=r"plate.####.exr"):
        sequence.find(folder, "plate")


def test_padding_is_kept_to(folder):
    (folder / "plate.01003.exr").touch()
    found = sequence.find(folder / "plate.####.exr", "plate")
    assert 1003 not in found.files
    assert found.strays == ("plate.01003.exr",)


def test_extensions_in_mixed_case_are_reported(folder):
    (folder / "plate.1003.EXR").touch()
    assert sequence.find(folder / "plate.####.exr", "plate").strays == ("plate.1003.EXR",)


def test_numbers_roll_over_their_padding(tmp_path):
    for frame in (9998, 9999, 10000):
        (tmp_path / f"p.{frame}.exr").touch()
    assert list(sequence.find(tmp_path / "p.####.exr", "plate").files) == [9998, 9999, 10000]


def test_negative_frames_are_found(tmp_path):
    for name in ("p.-0002.exr", "p.-0001.exr", "p.00000.exr"):
        (tmp_path / name).touch()
    assert list(sequence.find(tmp_path / "p.%05d.exr", "plate").files) == [-2, -1, 0]


def test_nothing_found_says_what_is_there_instead(folder):
    with pytest.raises(SequenceError) as caught:
        sequence.find(folder / "plat.####.exr", "plate")
    assert "plate.####.exr" in caught.value.hint
    with pytest.raises(SequenceError, match="does not exist"):
        sequence.find(folder / "no" / "plate.####.exr", "plate")


def test_names_with_spaces_and_brackets_are_plain_names(tmp_path):
    (tmp_path / "a b (1) [x].1001.exr").touch()
    assert list(sequence.find(tmp_path / "a b (1) [x].####.exr", "plate").files) == [1001]


def test_one_file_without_a_number_is_one_frame(tmp_path):
    (tmp_path / "still.exr").touch()
    found = sequence.find(tmp_path / "still.exr", "plate")
    assert found.unnumbered
    assert list(found.files.values()) == [tmp_path / "still.exr"]
