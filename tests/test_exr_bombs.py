"""Small files that ask for much: refused before anything is taken, in little time and little memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

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


def header(width: int, height: int, *, names=("B", "G", "R"), dtype=1, extra=b"", tile=None) -> bytes:
    """One part's header of attributes, without the byte that ends it."""
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channels = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", dtype, 0, 1, 1) for name in names) + b"\0"
    text = attribute("channels", "chlist", channels)
    text += attribute("compression", "compression", b"\3")
    text += attribute("dataWindow", "box2i", box) + attribute("displayWindow", "box2i", box)
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


def scanlines(width: int, height: int) -> bytes:
    """Zeros in 16-row ZIP chunks."""
    count = -(-height // 16)
    head = ONE_PART + header(width, height) + b"\0"
    offset, table, body, packed = len(head) + 8 * count, [], [], {}
    for chunk in range(count):
        rows = min(16, height - 16 * chunk)
        payload = packed.setdefault(rows, zlib.compress(bytes(width * rows * 6), 9))
        table.append(offset)
        body.append(struct.pack("<ii", chunk * 16, len(payload)) + payload)
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
