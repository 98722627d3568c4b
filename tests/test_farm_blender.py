"""From the strip to the farm and back, as far as Blender is not needed: the add-on's own waiting thread, real files."""

from __future__ import annotations

import importlib
import sys
import types

import pytest

from tests import farm_floor, tiny_shot
from tests.test_farm_nuke import ADDRESS, submitted
from void_server.shot import check
from void_server.wire.shot import FrameRange, ShotSettings

ADD_ON = farm_floor.ROOT / "plugins/blender/void_inpaint"


@pytest.fixture
def add_on(monkeypatch):
    """The add-on's modules that know no Blender."""
    package = types.ModuleType("void_inpaint")
    package.__path__ = [str(ADD_ON)]
    monkeypatch.setitem(sys.modules, "void_inpaint", package)
    yield lambda name: importlib.import_module(f"void_inpaint.{name}")
    for name in [name for name in sys.modules if name.startswith("void_inpaint.")]:
        del sys.modules[name]


def test_a_strips_run_waits_for_the_farm_and_finds_its_frames(farm, add_on, tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    files = check.find_files(shot.plate, shot.matte)
    folder = tmp_path / "void/strip/v001"
    folder.mkdir(parents=True)
    settings = ShotSettings(engine="propagate", physics_prior=False, frames=FrameRange(1001, 1008))
    record = add_on("results").Record(
        folder=folder, run="1", request="r1", server=ADDRESS, scene="Scene", strip="sh010", version=1, deliver="clean",
        output="", settings=settings.to_wire(), first=1001, end=1009, anchor=0.0, space="Linear Rec.709",
        files={role: {f: str(p) for f, p in files.of(role).items()} for role in ("plate", "matte")},
    )  # fmt: skip
    states = add_on("states")
    work = add_on("work").Work(record, states.Progress())
    work.start()
    while not (folder / "farm.json").is_file():
        assert work.is_alive(), work.error
    (job,) = submitted(tmp_path)
    (task,) = farm.run(job)
    assert task["status"] == "Completed", task
    work.join(60)
    assert work.state is states.State.LAYING, work.error
    assert len(list(folder.glob("clean.*.exr"))) == 8
    assert "colour space" in " ".join(work.record.warnings)
    assert add_on("work").ask_hello(ADDRESS, "").startswith("Deadline's client is ")
