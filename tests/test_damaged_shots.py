"""Damaged plates sent through a real daemon: each job fails with the file named and a remedy, and the daemon lives."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_shot
from tests.live_daemon import LiveDaemon
from void_server.image import exr
from void_server.shot import check
from void_server.wire.client import Client
from void_server.wire.errors import RequestError
from void_server.wire.shot import ShotFiles, ShotSettings

ROOT = Path(__file__).resolve().parent.parent
IMAGES = Path(os.environ.get("VOID_PLATES", ROOT.parent / "shared/plates")) / "exr-images"
REAL = "void_server.pipeline:deliver"
SETTINGS = ShotSettings(engine="propagate", physics_prior=False, colorspace="lin_rec709")

pytestmark = pytest.mark.skipif(not IMAGES.is_dir(), reason="needs the ASWF test images (set VOID_PLATES)")


def shot_of(path: Path, folder: Path) -> ShotFiles:
    """One frame of an image with a small matte in the middle of what its header says it covers."""
    header = exr.read_plate_header(path)
    box = header.data_window
    x, y = (box.x0 + box.x1) // 2, (box.y0 + box.y1) // 2
    matte = folder / f"{path.stem}.matte.exr"
    tiny_shot.write_exr(
        matte, {"A": np.ones((6, 6), np.float16)},
        dataWindow=tiny_shot.window(x - 3, y - 3, x + 3, y + 3),
        displayWindow=tiny_shot.window(*header.display_window),
    )  # fmt: skip
    return ShotFiles(plate={1: path}, matte={1: matte})


def outcomes(folder: Path) -> tuple[dict[str, RequestError], dict[str, ShotFiles]]:
    """What a header check alone says of every damaged image: refused with an error, or still a shot to be sent."""
    refused, sent = {}, {}
    for path in sorted(p for p in (IMAGES / "Damaged").rglob("*") if p.is_file()):
        try:
            files = shot_of(path, folder)
            check.check_shot(files, SETTINGS)
            sent[path.name] = files
        except RequestError as error:
            refused[path.name] = error
    return refused, sent


def spoilt(folder: Path) -> dict[str, ShotFiles]:
    """Plates with a sound header and pixels that can't be decoded: only the worker will find out."""
    shots = {}
    for seed in range(4):
        path = folder / f"spoilt{seed}.exr"
        tiny_shot.write_exr(path, tiny_shot.rgb(tiny_shot.wall()))
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 400] = np.random.default_rng(seed).bytes(400)
        path.write_bytes(data)
        shots[path.name] = shot_of(path, folder)
    return shots


@pytest.mark.timeout(300)
def test_no_damaged_plate_passes_as_success_and_the_daemon_outlives_them_all(tmp_path):
    refused, sent = outcomes(tmp_path)
    sent |= spoilt(tmp_path)
    assert len(refused) + len(sent) >= 90
    assert all(error.hint and name in error.message for name, error in refused.items())
    with LiveDaemon(tmp_path / "data", pipeline=REAL) as daemon, Client(daemon.address) as client:
        boot = client.hello().boot_id
        jobs = {name: client.submit(files, SETTINGS, name=name) for name, files in sent.items()}
        for name, job in jobs.items():
            final = client.watch(job.job)
            assert final.state == "failed", name
            assert isinstance(final.error, RequestError), f"{name}: {final.error!r}"
            assert final.error.hint
            assert final.error.frame == 1
        sound = client.submit(shot_of(IMAGES / "TestImages/GammaChart.exr", tmp_path), SETTINGS)
        assert client.watch(sound.job).state == "done"
        assert client.hello().boot_id == boot
