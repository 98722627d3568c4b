"""Small files that ask for much: refused before anything is taken, in little time and little memory."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from tests import tiny_shot
from tests.live_daemon import LiveDaemon
from void_server.shot import check
from void_server.wire.errors import MatteError, PlateError, RequestError
from void_server.wire.shot import ShotFiles, ShotSettings

ROOT = Path(__file__).parents[1]
ONE_PART, TILED, PARTS = (struct.pack("<II", 20000630, flags) for flags in (2, 2 | 0x200, 2 | 0x1000))

READ = """
import json, resource, sys, time
from pathlib import Path
from void_server.image import exr
from void_server.wire.errors import VoidError
from void_server.wire.shot import Window
import numpy, OpenEXR
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started, said = time.perf_counter(), "accepted"
try:
    header = exr.read_plate_header(Path(sys.argv[1]))
    exr.read_rgb(header)
except VoidError as error:
    said = error.message
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"said": said, "mb": peak / 1000, "cpu_s": time.process_time()}))
"""


def attribute(name: str, kind: str, value: bytes, size: int | None = None) -> bytes:
    return (
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value) if size is None else size) + value
    )


def header(width, height, *, names=("B", "G", "R"), dtype=1, extra=b"", tile=None, at=(0, 0), shown=None) -> bytes:
    """One part's header of attributes, without the byte that ends it. shown: width and height of the display window."""
    box = struct.pack("<4i", *at, at[0] + width - 1, at[1] + height - 1)
    display = struct.pack("<4i", 0, 0, shown[0] - 1, shown[1] - 1) if shown else box
    channels = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", dtype, 0, 1, 1) for name in names) + b"\0"
    text = attribute("channels", "chlist", channels)
    text += attribute("compression", "compression", b"\3")
    text += attribute("dataWindow", "box2i", box) + attribute("displayWindow", "box2i", display)
    text += attribute("lineOrder", "lineOrder", b"\0") + attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    text += attribute("screenWindowCenter", "v2f", bytes(8))
    text += attribute("screenWindowWidth", "float", struct.pack("<f", 1))
    if tile:
        text += attribute("tiles", "tiledesc", struct.pack("<IIB", *tile, 0))
    return text + extra


def one_tile(width: int, height: int) -> bytes:
    """A file whose only tile unpacks to zeros of that size, in float."""
    packer, packed, left = zlib.compressobj(9), [], width * height * 12
    while left:
        count = min(left, 1 << 24)
        packed.append(packer.compress(bytes(count)))
        left -= count
    payload = b"".join([*packed, packer.flush()])
    head = TILED + header(width, height, dtype=2, tile=(width, height)) + b"\0"
    return head + struct.pack("<Q", len(head) + 8) + struct.pack("<5i", 0, 0, 0, 0, len(payload)) + payload


def scanlines(width: int, height: int, **more) -> bytes:
    """Zeros in 16-row ZIP chunks."""
    count, top = -(-height // 16), more.get("at", (0, 0))[1]
    sample = {1: 2, 2: 4}[more.get("dtype", 1)] * len(more.get("names", "BGR"))
    head = ONE_PART + header(width, height, **more) + b"\0"
    offset, table, body, packed = len(head) + 8 * count, [], [], {}
    for chunk in range(count):
        rows = min(16, height - 16 * chunk)
        if rows not in packed:
            packed[rows] = zlib.compress(bytes(width * rows * sample), 9)
        payload = packed[rows]
        table.append(offset)
        body.append(struct.pack("<ii", top + chunk * 16, len(payload)) + payload)
        offset += len(body[-1])
    return head + struct.pack(f"<{count}Q", *table) + b"".join(body)


def many_parts(count: int) -> bytes:
    kind = attribute("type", "string", b"scanlineimage")
    heads = b"".join(
        header(64, 36, extra=attribute("name", "string", b"p%d" % n) + kind
               + attribute("chunkCount", "int", struct.pack("<i", 3))) + b"\0"
        for n in range(count)
    )  # fmt: skip
    return PARTS + heads + b"\0" + bytes(24 * count + 100)


def sparse(path: Path, claimed: int) -> None:
    """A file with one huge attribute that takes no room on the disk."""
    start = ONE_PART + attribute("x", "string", b"", claimed)
    with path.open("wb") as file:
        file.write(start)
        file.seek(claimed, os.SEEK_CUR)
        file.write(header(64, 36) + b"\0" + bytes(400))


BOMBS = {
    "100,000 x 100,000 pixels": lambda: ONE_PART + header(100_000, 100_000) + b"\0" + bytes(64),
    "46,341 squared": lambda: ONE_PART + header(46_341, 46_341) + b"\0" + bytes(64),
    "16,384 squared, zeros": lambda: scanlines(16_384, 16_384),
    "one tile of 1 GiB": lambda: one_tile(9400, 9400),
    "an attribute of 1 GB in 1 KB": lambda: ONE_PART + attribute("x", "string", b"", 1 << 30) + bytes(500),
    "20,000 parts": lambda: many_parts(20_000),
    "100,000 channels": lambda: (
        ONE_PART + header(8, 8, names=[f"c{n:06d}" for n in range(100_000)]) + b"\0" + bytes(5000)
    ),
    "500,000 attributes": lambda: (
        ONE_PART
        + b"".join(attribute(f"a{n}", "int", bytes(4)) for n in range(500_000))
        + header(64, 36)
        + b"\0"
        + bytes(400)
    ),
}


def read(path: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_asks_for_much_is_refused_before_it_gets_it(bomb, tmp_path):
    (tmp_path / "bomb.exr").write_bytes(BOMBS[bomb]())
    found = read(tmp_path / "bomb.exr")
    assert found["said"].startswith(str(tmp_path / "bomb.exr")), found
    assert found["mb"] < 300, found
    assert found["cpu_s"] < 20, "seconds of a processor, not of a clock"


def test_an_attribute_of_gigabytes_in_a_sparse_file_is_not_read(tmp_path):
    for name, claimed in (("one", 1 << 30), ("two", 2**31 - 1000)):
        sparse(tmp_path / f"{name}.exr", claimed)
        found = read(tmp_path / f"{name}.exr")
        assert "attribute 'x' claims" in found["said"] and found["mb"] < 300


def test_what_the_limits_are_for_is_not_refused(tmp_path):
    (tmp_path / "large.exr").write_bytes(scanlines(8192, 4320))
    (tmp_path / "tile.exr").write_bytes(one_tile(4096, 2160))
    for name in ("large", "tile"):
        assert read(tmp_path / f"{name}.exr")["said"] == "accepted"


SHOWN = (tiny_shot.WIDTH, tiny_shot.HEIGHT)
ODD = {
    "a window of half the most": (lambda: scanlines(8192, 8192, shown=SHOWN), "a data window of 8192x8192 at 0,0"),
    "a small window far away": (lambda: scanlines(16, 16, at=(60_000, 900), shown=SHOWN), "16x16 at 60000,900"),
    "far above": (lambda: scanlines(16, 16, at=(0, -(2**29)), shown=SHOWN), "16x16 at 0,-536870912"),
    "channels": (
        lambda: scanlines(*SHOWN, names=["B", "G", "R", *(f"x{n:04d}" for n in range(1000))]),
        "1003 channels in a part",
    ),
    "bytes": (
        lambda: scanlines(2048, 2048, dtype=2, shown=SHOWN, names=["B", "G", "R", *(f"x{n:03d}" for n in range(200))]),
        "3248 MB of samples",
    ),
}
"""Each within the limits that hold for any file."""


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shot")


def refused(shot, **more) -> RequestError:
    """What check says of the shot, having taken next to nothing."""
    files = check.find_files(shot.plate, shot.matte, **more)
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            check.check_shot(files, ShotSettings())
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    return caught.value


@pytest.mark.parametrize("odd", ODD)
def test_a_frame_that_asks_for_far_more_than_the_others_is_refused_by_name(odd, shot):
    make, said = ODD[odd]
    (shot.folder / "plate/plate.1004.exr").write_bytes(make())
    error = refused(shot)
    assert isinstance(error, PlateError) and error.frame == 1004
    assert error.message.startswith("Plate frame 1004 has ") and said in error.message
    assert "most frames of the shot have" in error.message and "as the others are" in error.hint
    assert "\n" not in error.message, "one line for one frame"


def test_so_is_one_of_many_more_parts(shot):
    picture = tiny_shot.rgb(tiny_shot.wall())
    parts = [OpenEXR.Part({"type": OpenEXR.scanlineimage}, picture, "beauty")]
    depth = np.zeros((64, 96), np.float16)
    parts += [OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"Z": depth.copy()}, f"p{n}") for n in range(99)]
    OpenEXR.File(parts).write(str(shot.folder / "plate/plate.1004.exr"))
    error = refused(shot)
    assert error.message == "Plate frame 1004 has 100 parts; most frames of the shot have 1 part."


def test_a_matte_or_reference_is_held_to_the_size_of_its_shot(shot):
    bomb = scanlines(8192, 8192, shown=SHOWN)
    (shot.folder / "matte/matte.1006.exr").write_bytes(scanlines(8192, 8192, shown=SHOWN, names=["A"]))
    painted = shot.folder / "painted.1003.exr"
    painted.write_bytes(bomb)
    error = refused(shot, reference=str(painted), affected_add=None)
    assert isinstance(error, MatteError) and error.frame == 1006
    assert "Matte frame 1006 has a data window of 8192x8192" in error.message
    assert "Reference frame 1003 has a data window of 8192x8192" in error.message


@pytest.mark.parametrize("large", [4, 8])
def test_many_frames_that_are_large_are_not_blamed(large, shot):
    for frame in tiny_shot.FRAMES[:large]:
        (shot.folder / f"plate/plate.{frame}.exr").write_bytes(scanlines(4096, 4096, shown=SHOWN))
    checked = check.check_shot(check.find_files(shot.plate, shot.matte), ShotSettings())
    assert checked.canvas.width == 4096


def test_two_frames_have_no_majority(shot):
    (shot.folder / "plate/plate.1002.exr").write_bytes(scanlines(4096, 4096, shown=SHOWN))
    found = check.find_files(shot.plate, shot.matte)
    two = ShotFiles(**{role: {f: found.of(role)[f] for f in (1001, 1002)} for role in ("plate", "matte")})
    assert check.check_shot(two, ShotSettings()).canvas.width == 4096


def test_windows_that_lie_apart_may_not_make_a_canvas_that_no_frame_could_have(shot):
    for index, frame in enumerate(tiny_shot.FRAMES):
        data = scanlines(96, 64, at=(index * 2**26, 0), shown=SHOWN)
        (shot.folder / f"plate/plate.{frame}.exr").write_bytes(data)
    error = refused(shot)
    assert "cover" in error.message and "together" in error.message and error.hint


def test_what_honest_shots_do_from_frame_to_frame_passes(tmp_path):
    """HD: a box that follows a small object, one frame with overscan on all sides, one with a hundred passes more, one
    without any, one of parts by layer, one in stereo."""
    hd, names = (1920, 1080), ["B", "G", "R", *(f"pass{n:03d}.x" for n in range(100))]
    frames = {
        1001: scanlines(64, 48, at=(100, 80), shown=hd),
        1002: scanlines(16, 16, at=(1900, 1060), shown=hd),
        1003: scanlines(4000, 2300, at=(-1040, -610), shown=hd),
        1004: scanlines(1920, 1080, dtype=2, names=names),
        1005: scanlines(1920, 1080),
        1008: scanlines(1, 1, shown=hd),
    }
    (tmp_path / "plate").mkdir()
    for frame, data in frames.items():
        (tmp_path / f"plate/p.{frame}.exr").write_bytes(data)
    black = np.zeros((1080, 1920, 3), np.float16)
    kind = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}
    for frame, views in ((1006, [{}]), (1007, [{"view": "left"}, {"view": "right"}])):
        parts = [
            OpenEXR.Part({**kind, **v}, tiny_shot.rgb(black.copy()), f"rgb.{v.get('view', 'main')}") for v in views
        ]
        parts += [OpenEXR.Part({**kind}, {"Z": black[..., 0].copy()}, f"pass{n}") for n in range(30)]
        OpenEXR.File(parts).write(str(tmp_path / f"plate/p.{frame}.exr"))
    for frame in range(1001, 1009):
        tiny_shot.write_exr(tmp_path / f"matte/m.{frame}.exr", {"A": np.ones((1080, 1920), np.float16)})
    checked = check.check_shot(check.find_files(str(tmp_path / "plate"), str(tmp_path / "matte")), ShotSettings())
    assert len(checked.plates) == 8


def test_a_bomb_sent_to_a_daemon_fails_by_name_and_the_next_shot_has_its_turn(shot, tmp_path):
    odd = {"plate/plate.1004.exr": scanlines(8192, 8192, shown=SHOWN), "plate/plate.1006.exr": one_tile(9400, 9400)}
    sound = check.find_files(shot.plate, shot.matte)
    plain = ShotSettings(engine="propagate", physics_prior=False)
    daemon = LiveDaemon(tmp_path / "data", pipeline="void_server.pipeline:deliver", worker_bytes=1 << 30)
    with daemon as live, live.client() as client:
        for number, (name, data) in enumerate(odd.items()):
            folder = tmp_path / f"odd{number}"
            shutil.copytree(shot.folder, folder)
            (folder / name).write_bytes(data)
            files = check.find_files(str(folder / "plate"), str(folder / "matte"))
            status = client.watch(client.submit(files, plain).job)
            assert (status.state, status.attempt, type(status.error)) == ("failed", 1, PlateError)
            assert status.error.frame == int(name.split(".")[1])
        assert client.watch(client.submit(sound, plain).job).state == "done"
