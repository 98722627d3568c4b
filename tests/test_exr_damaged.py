"""Damaged, foreign and hostile files: refused by name with a remedy, never a crash, a hang or a quiet success."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import exr_files
from tests.exr_files import RGB, part, write
from void_server.image import exr
from void_server.wire.errors import PlateError
from void_server.wire.shot import Window

ROOT = Path(__file__).parents[1]
PLATES = Path(os.environ.get("VOID_PLATES", ROOT.parent / "shared" / "plates"))
IMAGES = PLATES / "exr-images"
MEMORY_LIMIT_BYTES = 3 << 30
"""Address space of a child: libraries take about 1 GB of it, so no damaged file may ask for more than 2 GB."""
WINDOW = Window(-3, 5, 58, 88)

needs_images = pytest.mark.skipif(not IMAGES.is_dir(), reason="needs the ASWF test images (set VOID_PLATES)")


def abuse(files: Sequence[Path], timeout_s: float = 100) -> dict[str, dict[str, Any]]:
    """Run `exr_abuse` over files in one child of limited memory; fails with the file that killed it."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))

    child = subprocess.run(
        [sys.executable, "-m", "tests.exr_abuse", *map(str, files)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        preexec_fn=limit if os.name == "posix" else None,
    )
    # The library prints warnings of its own among our lines.
    lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    last = next((line["begins"] for line in reversed(lines) if "begins" in line), "no file")
    assert child.returncode == 0, f"exit {child.returncode} at {last}: {child.stderr[-800:]}"
    results = {line["file"]: line for line in lines if "file" in line}
    assert len(results) == len(files)
    for name, result in results.items():
        assert not result["left_behind"]
        for role in ("plate", "matte"):
            check_refusal(name, result[role])
    return results


def check_refusal(name: str, outcome: object) -> None:
    """A refusal names the file, fits a line, and says what to do."""
    if outcome == "ok":
        return
    assert isinstance(outcome, Mapping)
    assert outcome["message"].startswith(name)
    assert outcome["message"].isprintable()
    assert len(outcome["hint"]) > 20


@needs_images
def test_every_damaged_image_is_refused() -> None:
    """All of them have broken headers or chunk tables, or hold ids or no colour: none has a plate to give."""
    files = sorted(path for path in (IMAGES / "Damaged").iterdir() if path.suffix != ".rst")
    assert len(files) >= 90
    for name, result in abuse(files).items():
        assert result["plate"] != "ok", name
        assert result["matte"] != "ok", name


@needs_images
def test_every_sound_image_round_trips_or_is_refused_for_what_it_is() -> None:
    files = sorted(path for path in IMAGES.rglob("*.exr") if "Damaged" not in path.parts)
    assert len(files) >= 40
    results = abuse(files)
    plates = {Path(name).name: result["plate"] for name, result in results.items()}
    refused = {name: outcome["message"] for name, outcome in plates.items() if outcome != "ok"}
    reasons = {
        "luminance and chroma": {
            "Rec709_YC.exr", "XYZ_YC.exr", "CrissyField.exr", "Flowers.exr", "MtTamNorth.exr", "StarField.exr"
        },
        "no red, green and blue": {
            "Garden.exr", "Fog.exr", "GrayRampsDiagonal.exr", "GrayRampsHorizontal.exr", "WideFloatRange.exr"
        },
        "deep pixels": {"Balls.exr", "Leaves.exr", "Trunks.exr"},
    }  # fmt: skip
    for reason, names in reasons.items():
        assert {name for name, message in refused.items() if reason in message} == names & set(plates)
    assert set(refused) <= set().union(*reasons.values())


def mutations(data: bytes, count: int, rng: np.random.Generator) -> list[bytes]:
    """Flipped bytes, anywhere or in the pixels alone, cut ends, and lost tables."""
    body = exr_files.header_end(data)
    found = [data[: int(rng.integers(0, len(data)))] for _ in range(count // 4)]
    for turn in range(count - len(found)):
        broken = bytearray(data)
        low = body if turn % 2 else 0
        for at in rng.integers(low, len(data), int(rng.integers(1, 6))):
            broken[at] ^= int(rng.integers(1, 256))
        found.append(bytes(broken))
    return found


@pytest.mark.parametrize("codec", range(14))
def test_flipped_and_cut_files_neither_crash_nor_hang(tmp_path: Path, codec: int) -> None:
    rng = np.random.default_rng(codec)
    kinds = {**RGB, "Z": "float", "id": "uint"}
    makes = [
        (part(WINDOW, kinds, compression=codec),),
        (part(WINDOW, kinds, compression=codec, tile=(32, 24)),),
        (part(WINDOW, {"Z": "float"}, name="z"), part(WINDOW, kinds, compression=codec, name="rgba")),
    ]
    files = []
    for index, parts in enumerate(makes):
        plate = write(tmp_path / "plate.exr", *parts)
        for turn, data in enumerate(mutations(plate.read_bytes(), 16, rng)):
            files.append(tmp_path / f"broken.{index}.{turn}.exr")
            files[-1].write_bytes(data)
    results = abuse(files)
    assert any(result["plate"] != "ok" for result in results.values())


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = write(tmp_path / "plate.exr", part(WINDOW, RGB)).read_bytes()
    for end in [*range(0, 400, 7), *range(400, len(whole), 997), len(whole) - 1]:
        (tmp_path / "cut.exr").write_bytes(whole[:end])
        with pytest.raises(PlateError, match=r"cut\.exr"):
            exr.read_plate_header(tmp_path / "cut.exr")


def test_an_unfinished_render_names_the_missing_rows(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    data = bytearray(plate.read_bytes())
    end = exr_files.header_end(bytes(data))
    data[end + 16 : end + 32] = bytes(16)
    plate.write_bytes(data)
    with pytest.raises(PlateError, match="2 of 6 chunks were never written, between rows 37 and 68"):
        exr.read_plate_header(plate)


def set_attribute(data: bytes, name: bytes, value: bytes) -> bytes:
    at = data.index(name + b"\0") + len(name) + 1
    at = data.index(b"\0", at) + 5
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (b"dataWindow", struct.pack("<4i", 0, 0, 2**31 - 2, 2**31 - 2), "impossible dataWindow"),
        (b"dataWindow", struct.pack("<4i", 5, 5, 4, 9), "impossible dataWindow"),
        (b"dataWindow", struct.pack("<4i", 0, 0, 99_999, 9), "100000x10"),
        (b"dataWindow", struct.pack("<4i", 0, 0, 60_000, 60_000), "60001x60001"),
        (b"displayWindow", struct.pack("<4i", 0, 0, 99_999, 9), "100000x10"),
        (b"dataWindow", struct.pack("<4i", 0, 0, 60_000, 2_000), "truncated"),
        (b"compression", b"\x63", "codec 99"),
        (b"pixelAspectRatio", struct.pack("<f", float("nan")), "pixel aspect"),
        (b"channels", b"B\0" + struct.pack("<iiii", 9, 0, 1, 1), "channel list"),
        (b"channels", b"B\0" + struct.pack("<iiii", 1, 0, 2, 2), "subsampled"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, name: bytes, value: bytes, message: str) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    plate.write_bytes(set_attribute(plate.read_bytes(), name, value))
    with pytest.raises(PlateError, match=message) as caught:
        exr.read_plate_header(plate)
    assert caught.value.hint


def test_a_chunk_count_that_lies_is_refused(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB, name="rgba"), part(WINDOW, {"Z": "float"}, name="z"))
    for count in (5, 7, 0, -1, 2**31 - 1):
        broken = set_attribute(plate.read_bytes(), b"chunkCount", struct.pack("<i", count))
        (tmp_path / "broken.exr").write_bytes(broken)
        with pytest.raises(PlateError, match="chunk"):
            exr.read_plate_header(tmp_path / "broken.exr")


def test_a_header_that_promises_a_giant_costs_no_memory(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(Window(0, 0, 8, 8), dict.fromkeys("RGB", "float"), compression=9))
    head = set_attribute(plate.read_bytes(), b"dataWindow", struct.pack("<4i", 0, 0, 5000, 16383))
    head = head[: exr_files.header_end(head)]
    count, payload = 16384 // 256, bytes(40)
    offsets = [len(head) + 8 * count + index * (8 + len(payload)) for index in range(count)]
    chunks = b"".join(struct.pack("<ii", 256 * index, len(payload)) + payload for index in range(count))
    plate.write_bytes(head + struct.pack(f"<{count}Q", *offsets) + chunks)
    header = exr.read_plate_header(plate)
    tracemalloc.start()
    try:
        with pytest.raises(PlateError, match="damaged pixels"):
            exr.read_rgb(header)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_chunks_that_share_a_place_are_refused(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    data = bytearray(plate.read_bytes())
    end = exr_files.header_end(bytes(data))
    data[end + 8 : end + 16] = data[end : end + 8]
    plate.write_bytes(data)
    with pytest.raises(PlateError, match="share one place"):
        exr.read_plate_header(plate)


def test_chunks_in_each_others_place_are_refused(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    data = bytearray(plate.read_bytes())
    end = exr_files.header_end(bytes(data))
    data[end : end + 16] = data[end + 8 : end + 16] + data[end : end + 8]
    plate.write_bytes(data)
    header = exr.read_plate_header(plate)
    with pytest.raises(PlateError, match="rows from 5 on are not where they should be"):
        exr.read_rgb(header)


def clean(plate: Path) -> None:
    header = exr.read_plate_header(plate)
    shape = (header.data_window.height, header.data_window.width)
    ones = np.ones((*shape, 3), np.float32)
    exr.write_clean(header, plate.with_name("clean.exr"), header.data_window, ones, ones[..., 0])


def test_chunks_that_overlap_are_not_spliced(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    data = bytearray(plate.read_bytes())
    at = exr_files.table(bytes(data))[1]
    struct.pack_into("<i", data, at + 4, struct.unpack_from("<i", data, at + 4)[0] + 1)
    plate.write_bytes(data)
    with pytest.raises(PlateError, match="two chunks share byte"):
        clean(plate)
    assert not (tmp_path / "clean.exr").exists()


def test_a_part_that_points_into_another_is_not_spliced(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB, name="rgba"), part(WINDOW, {"Z": "float"}, name="z"))
    data = bytearray(plate.read_bytes())
    end = exr_files.header_end(bytes(data))
    (first,) = struct.unpack_from("<Q", data, end)
    struct.pack_into("<Q", data, end + 8 * 6, first + 30)
    plate.write_bytes(data)
    with pytest.raises(PlateError, match="part 1 points into another chunk"):
        clean(plate)
    assert not (tmp_path / "clean.exr").exists()


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.exr"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    else:
        pipe.mkdir()
    for path in (pipe, tmp_path):
        with pytest.raises(PlateError, match="is not a file"):
            exr.read_plate_header(path)
    for content, said in (
        (b"", r"is empty \(0 bytes\)"),
        (b"\x76\x2f\x31\x01", "cut off after 4 bytes"),
        (bytes(4096), "4096 zero bytes"),
        (b"\x89PNG\r\n\x1a\n" * 9, "is a PNG picture, not an EXR file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"anything else at all", "is not an EXR file"),
    ):
        (tmp_path / "other.exr").write_bytes(content)
        with pytest.raises(PlateError, match=said):
            exr.read_plate_header(tmp_path / "other.exr")
