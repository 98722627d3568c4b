"""The demo: a shot with a known answer goes through daemon and client, and the result is scored.

What comes in: a folder. What goes out, in it: the shot, the daemon's data, the clean frames, and a score by region. It
takes the same road as an artist's shot: files on disk, a daemon process, the wire, files on disk. It gives the engine
no hint of the shadow or the reflection.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server.bench import score
from void_server.commands.demo import nuke as demo_nuke
from void_server.commands.demo import shot as demo_shot
from void_server.image import exr
from void_server.shot import check
from void_server.wire.client import Client
from void_server.wire.errors import InternalError
from void_server.wire.report import Event, Report
from void_server.wire.shot import ShotSettings


def run(out: Path, on_event: Callable[[Event], None], cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Make the shot, send it through a daemon of its own, score what comes back. About half a minute on two cores."""
    report = Report(on_event, cancelled)
    report.note(f"Making a shot of {demo_shot.COUNT} frames in {out} ...")
    shot = demo_shot.write(out)
    report.check_cancelled()
    files = check.find_files(shot.plate, shot.matte)
    clean = out / "clean"
    with _daemon(out / "daemon") as address, Client(address) as client:
        job = client.submit(files, ShotSettings(), name="demo", on_event=on_event, cancelled=cancelled)
        final = client.watch(job.job, on_event=on_event, cancelled=cancelled)
        if final.error is not None:
            raise final.error
        client.fetch(job.job, clean, on_event=on_event, cancelled=cancelled)
    script = demo_nuke.write(out)
    places = {"out": str(out), "clean": str(clean), "sheet": str(clean / "sheet.png"), "nuke": str(script)}
    return {**places, **_score(shot, clean)}


def spoken(result: dict[str, Any]) -> str:
    """The score as a few lines for a person."""
    lines = [f"{'region':<16}{'untouched plate':>17}{'clean':>11}"]
    for region in ("object", "effect", "object+effect"):
        before, after = result["scores"]["plate"][region], result["scores"]["clean"][region]
        lines.append(f"{region:<16}{before:>14.1f} dB{after:>8.1f} dB")
    lines.append(f"{'keep':<16}{result['keep_samples_changed']:>17} samples changed")
    lines.append(f"frames in {result['clean']}")
    lines.append(f"look at   {result['sheet']}")
    lines.append(f"in Nuke   {result['nuke']}")
    return "\n".join(lines)


@contextmanager
def _daemon(data: Path) -> Iterator[str]:
    """A daemon process on a free port of this machine; yields its address and stops it afterwards."""
    command = [sys.executable, "-m", "void_server.cli", "serve", "--bind", "tcp://127.0.0.1:*", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--data", str(data)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            answer = json.loads(first) if first.strip() else {}
            if "ready" not in answer:
                raise InternalError(
                    "The demo's daemon did not start.", answer.get("message", "Run: void-server doctor")
                )
            yield str(answer["ready"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def _score(shot: demo_shot.DemoShot, clean: Path) -> dict[str, Any]:
    """PSNR by region for plate and clean, and how many samples changed where the result says nothing did."""
    stacks: dict[str, list[npt.NDArray[np.floating]]] = {"plate": [], "clean": [], "truth": []}
    changed = 0
    for index in range(demo_shot.COUNT):
        frame = demo_shot.FIRST + index
        paths = {
            "plate": Path(shot.plate.replace("####", str(frame))),
            "truth": Path(shot.truth.replace("####", str(frame))),
            "clean": clean / f"clean.{frame}.exr",
        }
        for name, path in paths.items():
            stacks[name].append(exr.read_rgb(exr.read_plate_header(path)))
        keep = exr.read_matte(exr.read_matte_header(clean / f"aov.{frame}.exr", "change")) == 0
        changed += score.samples_changed(stacks["clean"][-1], stacks["plate"][-1], keep)
    pictures = {name: np.stack(frames) for name, frames in stacks.items()}
    regions = {"object": shot.object, "effect": shot.effect, "object+effect": shot.object | shot.effect}
    scores = {
        name: {region: score.psnr(pictures[name], pictures["truth"], where) for region, where in regions.items()}
        for name in ("plate", "clean")
    }
    return {"scores": scores, "keep_samples_changed": changed}
