"""Read, match and rewrite every EXR named on the command line; one JSON line each. Run as a child process by tests.

A line is printed before a file is touched and another after it, so that the parent can name the file that crashed or
hung this process. In: paths. Out: per file what became of it as a plate and as a matte: 'refused' with the error, or
'ok' after the clean version was compared with the plate sample by sample.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from void_server.image import exr
from void_server.image.exr.chunks import find_layout, locate, read_table
from void_server.image.exr.container import open_source, read_container
from void_server.image.exr.splice import decode_blocks
from void_server.wire.errors import MatteError, PlateError


def all_samples(path: Path, part: int) -> dict[str, np.ndarray]:
    """Every channel of a part on its data window, as bytes per sample: uint8 [H, W, 2 or 4]."""
    with open_source(path) as source:
        container = read_container(source)
        layout = find_layout(path, container, container.parts[part])
        table = read_table(source, layout)
        spans = {chunk: locate(source, layout, chunk, table) for chunk in range(layout.chunk_count)}
        found: dict[str, np.ndarray] = {}
        for batch, (width, height), arrays in decode_blocks(source, layout, list(spans), spans):
            for name, pixels in arrays.items():
                raw = pixels.view(np.uint8).reshape(*pixels.shape, -1)
                whole = found.setdefault(
                    name, np.zeros((layout.window.height, layout.window.width, raw.shape[-1]), np.uint8)
                )
                for row, chunk in enumerate(batch):
                    where = layout.block_window(chunk).slices(layout.window)
                    whole[where] = raw[row * height : (row + 1) * height, :width]
        return found


def try_plate(path: Path, out: Path) -> None:
    header = exr.read_plate_header(path)
    assert header.rgb is not None
    exr.read_rgb(header)
    window = header.data_window
    shape = (window.height, window.width)
    rgb = np.full((*shape, 3), 0.75, np.float32)
    exr.write_clean(header, out, window, rgb, np.zeros(shape, np.float32))
    if not header.lossy:
        assert out.read_bytes() == path.read_bytes(), "a change of nothing changed the file"
    change = np.zeros(shape, np.float32)
    change[shape[0] // 3 : shape[0] // 3 + 5, :: shape[1] // 16 + 2] = 0.5
    exr.write_clean(header, out, window, rgb, change)
    before, after = all_samples(path, header.part), all_samples(out, header.part)
    assert before.keys() == after.keys()
    for name, pixels in before.items():
        outside = change == 0 if name in header.rgb else np.ones(shape, bool)
        assert np.array_equal(pixels[outside], after[name][outside]), f"{name} changed outside"
        if name in header.rgb:
            kind = np.float16 if pixels.shape[-1] == 2 else np.float32
            assert (after[name][~outside].view(kind) == 0.75).all(), f"{name} is not what was written"


def try_matte(path: Path, _: Path) -> None:
    exr.read_matte(exr.read_matte_header(path))


def say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "clean.exr"
        for name in sys.argv[1:]:
            say({"begins": name})
            result: dict[str, object] = {"file": name}
            for role, attempt, expected in (("plate", try_plate, PlateError), ("matte", try_matte, MatteError)):
                try:
                    attempt(Path(name), out)
                    result[role] = "ok"
                except expected as error:
                    result[role] = {"message": error.message, "hint": error.hint}
            left = [path.name for path in Path(folder).iterdir() if path != out]
            say({**result, "left_behind": left})


if __name__ == "__main__":
    main()
