"""Files appear whole or not at all, and AOV files line up with their plate."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from tests import exr_files
from tests.exr_files import RGB, part, patch, read_bits, write
from void_server.image import exr
from void_server.wire.errors import OutputError, PlateError
from void_server.wire.shot import Window

WINDOW = Window(-7, 13, 54, 313)


def test_an_aov_lies_on_the_plates_windows(tmp_path: Path) -> None:
    code = OpenEXR.TimeCode(1, 2, 3, 4, False, False, False, False, False, False, 0, 0, 0, 0, 0, 0, 0, 0)
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB, display=Window(0, 0, 50, 40), timeCode=code))
    rate = exr_files.attribute(b"framesPerSecond", b"rational", struct.pack("<iI", 48000, 2000))
    plate.write_bytes(exr_files.with_attributes(plate.read_bytes(), rate))
    header = exr.read_plate_header(plate)
    change = np.random.default_rng(0).random((WINDOW.height, WINDOW.width), np.float32)
    change[3] = 1e-12
    change[4] = 0
    exr.write_aov(tmp_path / "aov.exr", header, {"change": change, "affected": np.full_like(change, 1e-12)})
    assert rate in (tmp_path / "aov.exr").read_bytes()
    read = exr.read_matte_header(tmp_path / "aov.exr", "change")
    assert (read.display_window, read.data_window) == (header.display_window, header.data_window)
    assert (read.timecode, read.compression) == ("01:02:03:04", "zip")
    bits = read_bits((tmp_path / "aov.exr").read_bytes())[0]
    held = bits["change"].view(np.float16)
    np.testing.assert_array_equal(held > 0, change > 0)
    np.testing.assert_array_equal(held[5:], change[5:].astype(np.float16))
    assert not bits["affected"].any()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    header = exr.read_plate_header(plate)
    window, rgb, change = patch(WINDOW)
    data = bytearray(plate.read_bytes())
    offsets = exr_files.table(bytes(data))
    data[offsets[8] + 8 : offsets[8] + 60] = bytes(52)
    plate.write_bytes(data)
    with pytest.raises(PlateError, match="damaged pixels"):
        exr.write_clean(header, tmp_path / "clean.exr", window, rgb, change)
    assert [path.name for path in tmp_path.iterdir()] == ["plate.exr"]
    with pytest.raises(OutputError, match="can't be written"):
        exr.write_clean(header, tmp_path / "no such folder" / "clean.exr", window, rgb, change)
    with pytest.raises(OutputError, match="the plate itself"):
        exr.write_clean(header, plate, window, rgb, change)
    assert plate.read_bytes() == bytes(data)


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="a file size limit stands in for the full disk")
    header = exr.read_plate_header(write(tmp_path / "plate.exr", part(WINDOW, RGB)))
    window, rgb, change = patch(WINDOW)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            exr.write_clean(header, tmp_path / "clean.exr", window, rgb, change)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["plate.exr"]
