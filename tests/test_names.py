"""Names as hosts, cameras, farms and people make them: each ends in the right frames or in one clear line.

`pytest tests/test_names.py --hypothesis-profile=long` tries 3,000 of them.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from void_server.image.frames import frame_names, sequence
from void_server.wire.errors import SequenceError

WORDS = ["plate", "sh010_comp", "A001C002_230101_R1AB", "beauty", "bg-plate", "IMG", "take#2", "a b (1)", "[x]"]
WORDS += ["é", "2k", "SHOT.main", "2048x1152", "020", "100%", "x@y", "render", "P1-3", "$HIP", "shot_2026-11-30"]
VERSIONS = ["", "_v003", ".v12", "-V2", "_V001_2k"]
SEPARATORS = [".", "_", "-", " ", ""]
TAILS = ["", "", "", ".beauty", "_L", ".left", "-denoised", "_v2", ".beauty1", ".2k", "_ACEScg"]
STARTS = [-20, -3, 0, 1, 8, 95, 990, 1001, 9997, 100001]


@st.composite
def shots(draw):
    """(names by frame, the name's form around the number, width) of one sequence."""
    prefix = draw(st.sampled_from(WORDS)) + draw(st.sampled_from(VERSIONS))
    separator = draw(st.sampled_from(SEPARATORS))
    # Digits that touch digits are one number to anybody.
    assume(separator or not prefix[-1].isdigit())
    tail = draw(st.sampled_from(TAILS)) + draw(st.sampled_from([".exr", ".exr", ".EXR", ".sxr"]))
    width = draw(st.integers(1, 6))
    first, step = draw(st.sampled_from(STARTS)), draw(st.sampled_from([1, 1, 2, 10]))
    frames = range(first, first + step * draw(st.integers(2, 9)), step)
    blender = draw(st.booleans())

    def number(frame):
        return f"{'-' * (frame < 0)}{abs(frame):0{width}d}" if blender else f"{frame:0{width}d}"

    # A number below zero after a dash or a space could be anybody's.
    assume(frames[0] >= 0 or separator in (".", "_") or (0 in frames))
    return {f: f"{prefix}{separator}{number(f)}{tail}" for f in frames}, prefix + separator, tail, width


def laid(folder, names):
    for name in names:
        (Path(folder) / name).touch()


def found(pattern):
    """Frames by name, or the one line and the hint that say why not."""
    try:
        result = sequence.find(pattern, "plate")
    except SequenceError as error:
        assert error.message and error.hint
        assert "\n" not in error.message
        return error
    return {frame: path.name for frame, path in result.files.items()} if not result.strays else result


@given(shots(), st.data())
def test_a_folder_and_each_frame_of_it_are_the_sequence(shot, data):
    names, *_ = shot
    with tempfile.TemporaryDirectory() as folder:
        laid(folder, names.values())
        assert found(folder) == names
        one = data.draw(st.sampled_from(sorted(names.values())))
        assert found(Path(folder) / one) == names


@given(shots(), st.sampled_from(["#", "#w", "%0wd", "%d", "$F", "$Fw", "@w", "[#w]", "range", "nuke"]))
def test_every_host_s_pattern_finds_what_it_names(shot, kind):
    names, prefix, tail, width = shot
    token = {
        "#": "#", "#w": "#" * width, "%0wd": f"%0{width}d", "%d": "%d", "$F": "$F", "$Fw": f"$F{width}",
        "@w": "@" * width, "[#w]": f"[{'#' * width}]", "range": f"[{min(names)}-{max(names)}]", "nuke": "#" * width,
    }[kind]  # fmt: skip
    step = sorted(names)[1] - min(names)
    pattern = f"{prefix}{token}{tail}"
    if kind == "range" and step > 1:
        pattern = f"{prefix}[{min(names)}-{max(names)}x{step}]{tail}"
    if kind == "nuke":
        pattern += f" {min(names)}-{max(names)}" + (f"x{step}" if step > 1 else "")
    with tempfile.TemporaryDirectory() as folder:
        laid(folder, names.values())
        assert found(Path(folder) / pattern) == names, pattern


@given(shots(), shots(), st.data())
def test_two_sequences_in_a_folder_are_listed_and_each_is_found_by_what_is_listed(one, other, data):
    names, others = one[0], other[0]
    assume(not set(names.values()) & set(others.values()))
    with tempfile.TemporaryDirectory() as folder:
        laid(folder, [*names.values(), *others.values()])
        answer = found(folder)
        if isinstance(answer, dict):
            # Two that continue each other are one to anybody: plate-8 and plate-9 beside plate-1 and plate0 too.
            assert set(answer.values()) == {*names.values(), *others.values()}
            return
        if isinstance(answer, sequence.Sequence):
            assert answer.strays
            return
        if "more than" in answer.message:
            return
        event("several")
        listed = sequence.in_folder(Path(folder))
        assert len(listed) > 1
        collected = {}
        for pattern in listed:
            part = found(pattern)
            assert isinstance(part, (dict, sequence.Sequence)), pattern
            files = part if isinstance(part, dict) else {f: p.name for f, p in part.files.items()}
            collected.update({name: frame for frame, name in files.items()})
            collected.update(dict.fromkeys(part.strays) if isinstance(part, sequence.Sequence) else {})
        assert set(collected) == {*names.values(), *others.values()}


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)))
def test_no_name_at_all_breaks_the_search(names):
    grouped = frame_names.group(f"{name}.exr" for name in names)
    assert sorted(n for one in grouped for n in one.numbers) == sorted({f"{name}.exr" for name in names})
    for one in grouped:
        for name, text in one.numbers.items():
            assert not text or re.fullmatch(r"-?[0-9]{1,9}", text)
            assert text in name


@given(st.text(max_size=30))
def test_whatever_is_typed_gets_frames_or_one_line(text):
    with tempfile.TemporaryDirectory() as folder:
        laid(folder, ["plate.1001.exr", "plate.1002.exr"])
        try:
            answer = found(f"{folder}/{text}")
        except OSError:  # names too long for the disk
            return
        assert isinstance(answer, (dict, SequenceError, sequence.Sequence))


@pytest.mark.parametrize(
    "names, given_name, frames",
    [
        (["name_0999.exr", "name_1000.exr"], "name_0999.exr", [999, 1000]),
        (["A001-1001.exr", "A001-1002.exr"], "A001-1002.exr", [1001, 1002]),
        (["r-0002.exr", "r-0001.exr", "r0000.exr", "r0001.exr"], "r-0001.exr", [-2, -1, 0, 1]),
        (["-0001.exr", "0000.exr"], "0000.exr", [-1, 0]),
        (["1001.exr", "1002.exr"], "1001.exr", [1001, 1002]),
        (["name 1001.exr", "name 1002.exr"], "name 1001.exr", [1001, 1002]),
        (["still_v002.exr", "still_v001.exr"], "still_v002.exr", [1]),
        (["p.1001.b1.exr", "p.1001.b2.exr", "p.1002.b1.exr", "p.1002.b2.exr"], "p.1002.b2.exr", [1001, 1002]),
        (["x_9.exr", "x_10.exr", "x_11.exr"], "x_9.exr", [9, 10, 11]),
        (["p.1001.exr", "._p.1001.exr", ".p.1002.exr.tmp"], "p.1001.exr", [1001]),
    ],
)
def test_names_from_public_reports(tmp_path, names, given_name, frames):
    laid(tmp_path, names)
    assert list(found(tmp_path / given_name)) == frames
