"""EXR in, EXR out: what comes back is the plate's own file, but for the samples that changed."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from tests import exr_files
from tests.exr_files import RGB, part, patch, read_bits, write
from void_server.image import exr
from void_server.image.exr import codec as exr_codec
from void_server.wire.errors import MatteError, PlateError
from void_server.wire.shot import Window

ALL_CODECS = range(14)
LOSSLESS = (0, 1, 2, 3, 4, 10, 11, 13)
LOSSY = (5, 6, 7, 8, 9, 12)
MIXED = {**RGB, "A": "half", "Z": "float", "id": "uint", "beauty.R": "float"}
WINDOW = Window(-7, 13, 54, 313)


def spread(header: exr.ImageHeader, window: Window, change: np.ndarray) -> np.ndarray:
    """Where the change is, on the whole data window."""
    where = np.zeros((header.data_window.height, header.data_window.width), bool)
    where[window.slices(header.data_window)] = change > 0
    return where


def check_clean(plate: bytes, clean: bytes, header: exr.ImageHeader, where: np.ndarray, rgb: np.ndarray) -> None:
    """Every sample of every part is the plate's own, but for the chosen channels under the change."""
    before, after = read_bits(plate), read_bits(clean)
    assert [list(p) for p in before] == [list(p) for p in after]
    assert header.rgb is not None
    for index, (old, new) in enumerate(zip(before, after)):
        for name in old:
            chosen = index == header.part and name in header.rgb
            if not chosen:
                np.testing.assert_array_equal(old[name], new[name], err_msg=name)
                continue
            np.testing.assert_array_equal(old[name][~where], new[name][~where], err_msg=name)
            kind = np.float16 if new[name].dtype == np.uint16 else np.float32
            np.testing.assert_array_equal(new[name][where].view(kind), rgb[:, header.rgb.index(name)].astype(kind))


def clean_of(plate: Path, layer: str | None = None) -> tuple[bytes, bytes]:
    """Write a clean version of a plate, check it, and give back both files."""
    header = exr.read_plate_header(plate, layer)
    window, rgb, change = patch(header.data_window)
    out = plate.with_name("clean.exr")
    exr.write_clean(header, out, window, rgb, change)
    before, after = plate.read_bytes(), out.read_bytes()
    check_clean(before, after, header, spread(header, window, change), rgb[change > 0])
    assert exr.read_plate_header(out, layer).data_window == header.data_window
    return before, after


@pytest.mark.parametrize("tile", [None, (32, 32), (64, 20)])
@pytest.mark.parametrize("codec", ALL_CODECS)
def test_pixels_outside_the_change_are_bit_identical(tmp_path: Path, codec: int, tile: tuple[int, int] | None) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, MIXED, compression=codec, tile=tile))
    before, after = clean_of(plate)
    if codec in LOSSLESS:
        end = exr_files.header_end(before)
        assert before[:end] == after[:end]


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_a_codec_is_read_as_the_library_reads_it(tmp_path: Path, codec: int) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB, compression=codec))
    header = exr.read_plate_header(plate)
    bits = read_bits(plate.read_bytes())[0]
    read = exr.read_rgb(header)
    assert read.dtype == np.float16
    for index, name in enumerate("RGB"):
        np.testing.assert_array_equal(read[..., index].view(np.uint16), bits[name])
    assert header.lossy == (codec in LOSSY and codec != 5)  # PXR24 keeps halves whole.


@pytest.mark.parametrize("codec", LOSSLESS)
def test_a_change_of_nothing_gives_the_file_back_byte_for_byte(tmp_path: Path, codec: int) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, MIXED, compression=codec))
    header = exr.read_plate_header(plate)
    window, rgb, change = patch(header.data_window)
    exr.write_clean(header, tmp_path / "clean.exr", window, rgb, change * 0)
    assert (tmp_path / "clean.exr").read_bytes() == plate.read_bytes()


def test_chunks_without_change_keep_their_bytes(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, MIXED))
    before, after = clean_of(plate)
    old, new = exr_files.table(before), exr_files.table(after)
    window, _, change = patch(WINDOW)
    rows = np.flatnonzero((change > 0).any(1)) + window.y0 - WINDOW.y0
    touched = set((rows // 16).tolist())
    assert 0 < len(touched) < len(old)
    for index in set(range(len(old))) - touched:
        size = 8 + struct.unpack_from("<i", before, old[index] + 4)[0]
        assert before[old[index] : old[index] + size] == after[new[index] : new[index] + size]


@pytest.mark.parametrize("codec", [3, 9])
@pytest.mark.parametrize("line_order", [0, 1, 2])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_chunks_may_lie_in_any_order(tmp_path: Path, codec: int, line_order: int, tile: tuple[int, int] | None) -> None:
    plate = write(tmp_path / "plate.exr", part(Window(0, 0, 40, 700), MIXED, compression=codec, tile=tile))
    count = len(exr_files.table(plate.read_bytes()))
    order = {
        0: list(range(count)),
        1: list(range(count))[::-1],
        2: np.random.default_rng(1).permutation(count).tolist(),
    }
    plate.write_bytes(exr_files.shuffled(plate.read_bytes(), order[line_order], line_order))
    before, after = clean_of(plate)
    old, new = exr_files.table(before), exr_files.table(after)
    if codec == 3:
        assert np.argsort(old).tolist() == np.argsort(new).tolist() == order[line_order]
    elif line_order < 2 and tile is None:
        assert len(new) > len(old)
        assert sorted(new, reverse=line_order == 1) == new


@pytest.mark.parametrize("codec", LOSSY)
def test_a_lossy_plate_comes_back_as_zip_with_its_decoded_samples(tmp_path: Path, codec: int) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, MIXED, compression=codec, comments="keep me"))
    assert exr.read_plate_header(plate).lossy
    before, after = clean_of(plate)
    header = exr.read_plate_header(tmp_path / "clean.exr")
    assert (header.compression, header.lossy) == ("zip", False)
    end = exr_files.header_end(before)
    differing = [index for index in range(end) if before[index] != after[index]]
    assert differing == [before.index(b"compression\0compression\0") + 28]


def test_other_parts_keep_everything(tmp_path: Path) -> None:
    screen = Window(0, 0, 64, 48)
    parts = [
        part(Window(0, 0, 30, 40), {"Z": "float"}, name="depth", display=screen, seed=1),
        part(WINDOW, MIXED, name="rgba", compression=9, display=screen, seed=2),
        part(Window(-5, -5, 90, 50), {"id": "uint"}, name="ids", compression=4, tile=(32, 16), display=screen, seed=3),
        part(WINDOW, RGB, name="diffuse", compression=4, display=screen, seed=4),
    ]
    plate = write(tmp_path / "plate.exr", *parts)
    clean_of(plate)
    before, after = clean_of(plate, "diffuse")
    end = exr_files.header_end(before)
    assert before[:end] == after[:end]


def test_deep_parts_beside_the_beauty_are_carried_along(tmp_path: Path) -> None:
    deep = np.empty((20, 30), object)
    for index in np.ndindex(deep.shape):
        deep[index] = np.arange(sum(index) % 3 + 1, dtype=np.float32)
    box = (np.array([0, 0], np.int32), np.array([29, 19], np.int32))
    header = {"compression": OpenEXR.ZIPS_COMPRESSION, "type": OpenEXR.deepscanline, "dataWindow": box}
    flat = part(Window(0, 0, 30, 20), RGB, name="rgba")
    plate = write(tmp_path / "plate.exr", flat, OpenEXR.Part(header, {"Z": deep}, "deep"))
    header_read = exr.read_plate_header(plate)
    window = header_read.data_window
    change = np.zeros((20, 30), np.float32)
    change[3:9, 4:20] = 1
    exr.write_clean(header_read, tmp_path / "clean.exr", window, np.full((20, 30, 3), 2, np.float32), change)
    pixels = OpenEXR.File(str(tmp_path / "clean.exr"), separate_channels=True).parts[1].channels["Z"].pixels
    assert all(np.array_equal(pixels[index], deep[index]) for index in np.ndindex(deep.shape))


ODD_ATTRIBUTES = {
    "a Latin-1 string": exr_files.attribute(b"owner", b"string", b"Andr\xe9 \xff\xff"),
    "a Latin-1 name": exr_files.attribute(b"\xe9t\xe9", b"int", b"\1\0\0\0"),
    "a rate over zero": exr_files.attribute(b"framesPerSecond", b"rational", struct.pack("<iI", 24, 0)),
    "a deep image state": exr_files.attribute(b"deepImageState", b"deepImageState", b"\1"),
    "an unknown type": exr_files.attribute(b"camera", b"vendorBlob", bytes(range(256))),
    "an empty vector": exr_files.attribute(b"lens", b"floatvector", b""),
    "a mistyped time code": exr_files.attribute(b"timeCode", b"string", b"01:00:00:00"),
    "a long header": exr_files.attribute(b"manifest", b"vendorBlob", bytes(300_000)),
}


@pytest.mark.parametrize("codec", [3, 8])
@pytest.mark.parametrize("odd", ODD_ATTRIBUTES)
def test_attributes_the_library_cannot_read_survive(tmp_path: Path, odd: str, codec: int) -> None:
    extra = ODD_ATTRIBUTES[odd]
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB, compression=codec))
    plate.write_bytes(exr_files.with_attributes(plate.read_bytes(), extra))
    header = exr.read_plate_header(plate)
    window, rgb, change = patch(header.data_window)
    exr.write_clean(header, tmp_path / "clean.exr", window, rgb, change)
    clean = (tmp_path / "clean.exr").read_bytes()
    plain = [exr_files.without_attributes(data, extra) for data in (plate.read_bytes(), clean)]
    check_clean(plain[0], plain[1], header, spread(header, window, change), rgb[change > 0])


def test_latin_1_channel_names_are_read_and_written(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, {**RGB, "id~": "uint", "idx": "half"}))
    plate.write_bytes(plate.read_bytes().replace(b"id~\0", b"id\xe9\0", 1))
    header = exr.read_plate_header(plate)
    assert [channel.name for channel in header.channels] == ["B", "G", "R", "id\xe9", "idx"] or [
        channel.name for channel in header.channels
    ] == ["B", "G", "R", "idx", "id\xe9"]
    window, rgb, change = patch(header.data_window)
    exr.write_clean(header, tmp_path / "clean.exr", window, rgb, change)
    before, after = (path.read_bytes().replace(b"id\xe9\0", b"id~\0", 1) for path in (plate, tmp_path / "clean.exr"))
    check_clean(before, after, header, spread(header, window, change), rgb[change > 0])


def test_b44_channels_marked_linear_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    pixels = {name: OpenEXR.Channel(name, exr_files.samples((40, 32), "half", 1), 1, 1, name != "G") for name in RGB}
    header = {"compression": OpenEXR.B44_COMPRESSION, "type": OpenEXR.scanlineimage}
    plate = tmp_path / "plate.exr"
    OpenEXR.File(header, pixels).write(str(plate))
    bits = read_bits(plate.read_bytes())[0]
    read = exr.read_rgb(exr.read_plate_header(plate))
    for index, name in enumerate("RGB"):
        np.testing.assert_array_equal(read[..., index].view(np.uint16), bits[name])
    assert not np.array_equal(bits["R"], bits["G"])


def test_half_is_held_to_its_finite_range_and_rounded_to_nearest(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(Window(0, 0, 4, 1), {"R": "half", "G": "float", "B": "half"}))
    header = exr.read_plate_header(plate)
    rgb = np.repeat(np.array([[1e6, -np.inf, 0.1, 65519.0]], np.float32)[..., None], 3, 2)
    exr.write_clean(header, tmp_path / "clean.exr", header.data_window, rgb, np.ones((1, 4), np.float32))
    read = exr.read_rgb(exr.read_plate_header(tmp_path / "clean.exr"))
    assert read.dtype == np.float32
    assert read[0, :, 0].tolist() == [65504, -65504, np.float16(0.1), 65504]
    np.testing.assert_array_equal(read[0, :, 1], rgb[0, :, 1])


def test_a_nan_never_replaces_light(tmp_path: Path) -> None:
    header = exr.read_plate_header(write(tmp_path / "plate.exr", part(WINDOW)))
    window, rgb, change = patch(header.data_window)
    rgb[change > 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        exr.write_clean(header, tmp_path / "clean.exr", window, rgb, change)
    assert [path.name for path in tmp_path.iterdir()] == ["plate.exr"]


def test_only_the_window_is_read_and_lies_where_it_should(tmp_path: Path) -> None:
    for tile in (None, (16, 24)):
        plate = write(tmp_path / "plate.exr", part(WINDOW, MIXED, tile=tile))
        header = exr.read_plate_header(plate)
        whole = exr.read_rgb(header)
        for window in (Window(-7, 13, -6, 14), Window(0, 20, 50, 60), Window(53, 312, 54, 313), WINDOW):
            piece = exr.read_rgb(header, window)
            np.testing.assert_array_equal(piece.view(np.uint16), whole[window.slices(WINDOW)].view(np.uint16))
        with pytest.raises(ValueError, match="reaches out"):
            exr.read_rgb(header, Window(-8, 13, 0, 20))


def test_rows_outside_the_window_are_not_even_unpacked(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    header = exr.read_plate_header(plate)
    data = bytearray(plate.read_bytes())
    last = exr_files.table(bytes(data))[-1]
    data[last + 8 :] = bytes(len(data) - last - 8)
    plate.write_bytes(data)
    assert exr.read_rgb(header, Window(-7, 13, 54, 100)).shape == (87, 61, 3)
    with pytest.raises(PlateError, match="damaged pixels"):
        exr.read_rgb(header)


def test_large_parts_stream_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("void_server.image.exr.splice.BATCH_BYTES", 40_000)
    for codec, tile in ((3, None), (8, None), (4, (16, 16))):
        clean_of(write(tmp_path / "plate.exr", part(WINDOW, MIXED, compression=codec, tile=tile)))


def test_many_threads_read_and_write_the_same_plate(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, MIXED, compression=8))
    header = exr.read_plate_header(plate)
    window, rgb, change = patch(header.data_window)

    def work(index: int) -> tuple[bytes, bytes]:
        out = tmp_path / f"clean.{index}.exr"
        exr.write_clean(header, out, window, rgb, change)
        return exr.read_rgb(header).tobytes(), out.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(12)))) == 1


def test_the_header_tells_what_the_file_says(tmp_path: Path) -> None:
    code = OpenEXR.TimeCode(1, 2, 3, 4, True, False, False, False, False, False, 0, 0, 0, 0, 0, 0, 0, 0)
    plate = write(
        tmp_path / "plate.exr",
        part(
            WINDOW,
            MIXED,
            compression=4,
            display=Window(0, 0, 50, 40),
            timeCode=code,
            pixelAspectRatio=2.0,
            chromaticities=(0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767),
            acesImageContainerFlag=1,
            colorInteropID="lin_ap1_scene",
        ),
    )
    header = exr.read_plate_header(plate)
    assert header.display_window == Window(0, 0, 50, 40)
    assert header.data_window == WINDOW
    assert (header.rgb, header.layer, header.part, header.notes) == (("R", "G", "B"), "", 0, ())
    assert {c.name: c.dtype for c in header.channels} == MIXED
    assert (header.compression, header.lossy, header.tiled, header.pixel_aspect) == ("piz", False, False, 2.0)
    assert header.chromaticities is not None
    assert header.chromaticities[:2] == pytest.approx((0.713, 0.293))
    assert (header.aces_container, header.color_interop_id) == (True, "lin_ap1_scene")
    assert header.timecode == "01:02:03;04"


def test_a_time_code_in_the_first_part_holds_for_all(tmp_path: Path) -> None:
    code = OpenEXR.TimeCode(1, 2, 3, 4, False, False, False, False, False, False, 0, 0, 0, 0, 0, 0, 0, 0)
    made = (part(WINDOW, RGB, name=name, timeCode=code) for name in ("albedo", "beauty"))
    plate = write(tmp_path / "plate.exr", *made)
    head, middle, tail = plate.read_bytes().split(b"timeCode\0")
    plate.write_bytes(head + b"timeCode\0" + middle + b"timeXode\0" + tail)
    header = exr.read_plate_header(plate)
    assert (header.part, header.timecode) == (1, "01:02:03:04")
    exr.write_aov(tmp_path / "aov.exr", header, {"change": np.zeros((WINDOW.height, WINDOW.width), np.float32)})
    assert exr.read_matte_header(tmp_path / "aov.exr").timecode == "01:02:03:04"


def test_a_matte_is_read_as_float(tmp_path: Path) -> None:
    matte = write(tmp_path / "matte.exr", part(WINDOW, {"A": "half"}, compression=9, tile=(32, 32)))
    header = exr.read_matte_header(matte)
    bits = read_bits(matte.read_bytes())[0]["A"]
    read = exr.read_matte(header, Window(0, 50, 20, 90))
    assert read.dtype == np.float32
    expected = bits.view(np.float16)[Window(0, 50, 20, 90).slices(WINDOW)].astype(np.float32)
    np.testing.assert_array_equal(read, expected)


def test_matte_errors_are_matte_errors(tmp_path: Path) -> None:
    with pytest.raises(MatteError, match=r"nothing\.exr can't be read"):
        exr.read_matte_header(tmp_path / "nothing.exr")
    ids = write(tmp_path / "ids.exr", part(WINDOW, {"A": "uint"}))
    with pytest.raises(MatteError, match="whole numbers"):
        exr.read_matte_header(ids)


def test_a_plate_that_changes_or_goes_between_header_and_pixels_is_refused(tmp_path: Path) -> None:
    plate = write(tmp_path / "plate.exr", part(WINDOW, RGB))
    header = exr.read_plate_header(plate)
    write(plate, part(Window(0, 0, 9, 9), RGB))
    with pytest.raises(PlateError, match="changed since"):
        exr.read_rgb(header)
    plate.unlink()
    with pytest.raises(PlateError, match="can't be read"):
        exr.read_rgb(header)


def test_strided_arrays_are_packed_as_they_look() -> None:
    grid = np.arange(64 * 40, dtype=np.float32).reshape(64, 40)
    infos = (exr.ChannelInfo("Z", "float", (1, 1), b"Z", 0),)
    payloads = exr_codec.encode({"Z": grid[::2, ::-1]}, 16, infos, 3)
    back = exr_codec.decode(Path("memory"), payloads, (40, 16), infos, 3)
    np.testing.assert_array_equal(back["Z"], grid[::2, ::-1])
