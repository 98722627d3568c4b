"""Job bundles, checked and run by Open Job Description's own command line, and read by Deadline Cloud's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import yaml

from tests import farm_floor, tiny_shot
from tests.farm_floor import BIN, command, void_server
from void_server.farm import bundle
from void_server.farm.shot import FarmShot
from void_server.wire.errors import OutputError, SettingsError
from void_server.wire.shot import FrameRange, ShotSettings

OPENJD = BIN / "openjd"


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shöt")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """What a local run makes of the shot, which is the same in every test."""
    folder = tmp_path_factory.mktemp("local")
    void_server("run", *farm_floor.shot_words(tiny_shot.write(folder / "shot"), folder / "clean"))
    return folder / "clean"


def make(shot, tmp_path, *more):
    words = farm_floor.shot_words(shot, tmp_path / "out")
    done = void_server("farm", "bundle", *words, "--bundle", tmp_path / "bundle", "--no-warm", *more, "--json")
    fields = json.loads(done.stdout.splitlines()[-1])
    assert fields["clean"] == str(tmp_path / "out/clean.####.exr")
    return tmp_path / "bundle/template.yaml"


def test_a_whole_shot_is_one_task_and_makes_a_local_runs_frames(shot, local, tmp_path):
    template = make(shot, tmp_path)
    command(OPENJD, "check", template)
    done = command(OPENJD, "run", template)
    assert "Chunks run: 1" in done.stdout
    assert "openjd_progress: 100.0" in done.stdout
    farm_floor.same_frames(local, tmp_path / "out")


def test_chunks_that_read_the_whole_plate_make_a_local_runs_frames(shot, local, tmp_path):
    template = make(shot, tmp_path, "--chunk=3", "--overlap=1")
    command(OPENJD, "check", template)
    log = tmp_path / "log"
    command(OPENJD, "run", template, FARM_ENGINE_LOG=log)
    farm_floor.same_frames(local, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["chunks"]["ranges"] == ["1001-1003", "1004-1006", "1007-1008"]
    assert manifest["chunks"]["cross_faded"] == [1003, 1004, 1006, 1007]
    assert "chunked" in {warning["code"] for warning in manifest["warnings"]}
    assert not (tmp_path / "out/.chunks").exists()
    # Sent again after it succeeded, the assembly has nothing to do; a local run finds every frame finished.
    command(OPENJD, "run", template, "--step", "Assemble", "--no-run-dependencies")
    before = log.read_text()
    void_server("run", *farm_floor.shot_words(shot, tmp_path / "out"), FARM_ENGINE_LOG=log)
    assert log.read_text() == before


def test_corrections_travel_with_a_chunked_shot(shot, tmp_path):
    words = [f"--affected-{part}={shot.folder / part}" for part in ("add", "sub")]
    for part, frame, where in (
        ("add", 1002, np.s_[44:54, 10:60]),
        ("add", 1006, np.s_[44:54]),
        ("sub", 1006, np.s_[:, 40:]),
    ):
        picture = np.zeros((64, 96), np.float16)
        picture[where] = 1
        tiny_shot.write_exr(shot.folder / f"{part}/{part}.{frame}.exr", {"A": picture})
    template = make(shot, tmp_path, "--chunk=3", "--overlap=1", *words)
    command(OPENJD, "check", template)
    command(OPENJD, "run", template)
    void_server("run", *farm_floor.shot_words(shot, tmp_path / "local"), *words)
    farm_floor.same_frames(tmp_path / "local", tmp_path / "out")
    assert tiny_shot.read_channel(tmp_path / "out/aov.1006.exr", "affected")[44:54, :40].min() == 1
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert sorted(manifest["inputs"]["affected_add"]) == ["1002", "1006"]
    references = yaml.safe_load((tmp_path / "bundle/asset_references.yaml").read_text())["assetReferences"]
    assert len(references["inputs"]["filenames"]) == 16 + 3
    # With few handles, chunks that no stroke falls into are simply not corrected.
    command(OPENJD, "run", make(shot, tmp_path, "--chunk=4", "--overlap=0", "--handles=0", *words))


def test_a_person_at_the_farm_can_still_ask_for_the_effects_that_are_only_suspected(shot, tmp_path):
    template = make(shot, tmp_path)
    command(OPENJD, "run", template, "--job-param", "Effects=bold", "--job-param", "Quality=draft")
    assert json.loads((tmp_path / "out/manifest.json").read_text())["settings"]["effects"] == "bold"
    assert json.loads((tmp_path / "out/manifest.json").read_text())["settings"]["quality"] == "draft"
    with OpenEXR.File(str(tmp_path / "out/aov.1001.exr"), separate_channels=True) as file:
        assert {"suspected", "grain.R"} <= set(file.channels())


def test_a_failing_frame_fails_the_job_with_its_reason_and_a_retry_makes_only_what_is_missing(shot, local, tmp_path):
    template, bad, log = make(shot, tmp_path, "--chunk=4", "--overlap=1"), tmp_path / "bad", tmp_path / "log"
    bad.write_text("1008")
    done = command(OPENJD, "run", template, status=None, FARM_ENGINE_BAD=bad, FARM_ENGINE_LOG=log)
    assert done.returncode != 0
    assert "openjd_fail: Frame 1008 burnt. Mend the test." in done.stdout
    assert "openjd_status: assemble" not in done.stdout
    assert not list((tmp_path / "out").glob("*.exr"))
    first = farm_floor.made(log)
    assert first[:5] == [1001, 1002, 1003, 1004, 1005]
    command(OPENJD, "run", template, FARM_ENGINE_LOG=log)
    again = farm_floor.made(log)[len(first) :]
    assert set(again) <= {1005, 1006, 1007, 1008}, "the first chunk was finished"
    assert 1008 in again
    assert 1004 not in again
    farm_floor.same_frames(local, tmp_path / "out")


def test_a_cancelled_run_stops_between_frames_and_a_later_one_goes_on(shot, local, tmp_path):
    template, log = make(shot, tmp_path), tmp_path / "log"
    environment = farm_floor.environment(FARM_ENGINE_LOG=log, FARM_ENGINE_HOLD=1006, PYTHONUNBUFFERED=1)
    with subprocess.Popen(
        [OPENJD, "run", template], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "frames 3/8" in line:
                process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode != 0
    assert any("openjd_fail: Cancelled." in line for line in said), "".join(said)
    out = tmp_path / "out"
    assert not [p.name for p in out.iterdir() if p.name.endswith(".tmp")]
    assert not (out / "manifest.json").exists()
    assert {p.name for p in out.glob("clean.*")} <= {p.name for p in local.glob("clean.*")}
    for path in out.glob("clean.*"):
        assert path.read_bytes() == (local / path.name).read_bytes()
    before = farm_floor.made(log)
    command(OPENJD, "run", template, FARM_ENGINE_LOG=log)
    again = farm_floor.made(log)[len(before) :]
    assert 1006 in again
    assert not set(again) & {1001, 1002, 1003}
    farm_floor.same_frames(local, out)


def test_a_batch_runs_under_openjd_and_its_table_is_mapped(tmp_path):
    for name in ("s01", "s02"):
        tiny_shot.write(tmp_path / "here" / name, count=2)
    table = tmp_path / "shots.csv"
    rows = [f"{name},/far/{name}/plate,/far/{name}/matte/matte.####.exr,/far/out/{name},no" for name in ("s01", "s02")]
    table.write_text("\n".join(["name,plate,matte,out,physics_prior", *rows]))
    (tmp_path / "far").symlink_to(tmp_path / "here")
    local_table = tmp_path / "local.csv"
    local_table.write_text(table.read_text().replace("/far/", f"{tmp_path}/far/"))
    words = ["--batch", local_table, "--out", "/far/out", "--bundle", tmp_path / "bundle", "--shots-a-task=2"]
    void_server("farm", "bundle", *words)
    shots = tmp_path / "bundle/shots.csv"
    shots.write_text(shots.read_text().replace(f"{tmp_path}/far/", "/far/"))
    rules = {
        "version": "pathmapping-1.0",
        "path_mapping_rules": [
            {"source_path_format": "POSIX", "source_path": "/far", "destination_path": str(tmp_path / "here")}
        ],
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    template = tmp_path / "bundle/template.yaml"
    command(OPENJD, "check", template)
    command(OPENJD, "run", template, "--path-mapping-rules", f"file://{tmp_path}/rules.json")
    assert {p.name for p in (tmp_path / "here/out").iterdir()} == {"s01", "s02"}
    assert (tmp_path / "here/out/s02/clean.1002.exr").is_file()


def test_paths_are_mapped_by_the_sessions_rules(shot, local, tmp_path):
    template = make(shot, tmp_path)
    text = template.read_text().replace(str(tmp_path), "Z:\\\\show")
    template.write_text(text)
    rules = {
        "version": "pathmapping-1.0",
        "path_mapping_rules": [
            {"source_path_format": "WINDOWS", "source_path": "z:\\Show", "destination_path": str(tmp_path)}
        ],
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    command(OPENJD, "run", template, "--path-mapping-rules", f"file://{tmp_path}/rules.json")
    farm_floor.same_frames(local, tmp_path / "out")


@pytest.mark.parametrize("more", [[], ["--chunk=4", "--overlap=2"]])
def test_deadline_cloud_reads_the_bundle(shot, tmp_path, more):
    make(shot, tmp_path, *more)
    done = command(BIN / "deadline", "bundle", "info", tmp_path / "bundle", HOME=tmp_path)
    fields = json.loads(done.stdout[done.stdout.index("{") :])
    assert {p["name"] for p in fields["parameters"]} >= {"Plate", "Matte", "Out", "Frames", "Engine", "Prompt"}


def test_deadline_clouds_own_reader_takes_all_three_files(shot, tmp_path):
    from deadline.client.job_bundle.parameters import read_job_bundle_parameters
    from deadline.client.job_bundle.submission import AssetReferences

    make(shot, tmp_path, "--chunk=4", "--overlap=2")
    values = {p["name"]: p.get("value") for p in read_job_bundle_parameters(str(tmp_path / "bundle"))}
    assert values["deadline:priority"] == 50
    assert values["deadline:maxRetriesPerTask"] == 2
    references = AssetReferences.from_dict(yaml.safe_load((tmp_path / "bundle/asset_references.yaml").read_text()))
    assert len(references.input_filenames) == 16
    assert references.output_directories == {str(tmp_path / "out")}


def test_submitting_without_credentials_says_so_and_not_more(shot, tmp_path):
    words = farm_floor.shot_words(shot, tmp_path / "out")
    done = void_server(
        "farm", "submit", *words, "--to=deadline-cloud", "--farm-id=farm-0", "--queue-id=queue-0", status=3,
        HOME=tmp_path, AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=tmp_path / "no",
        AWS_DEFAULT_REGION="us-west-2",
    )  # fmt: skip
    assert "Deadline Cloud refused the job" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gpu_is_asked_for_where_the_engine_needs_one(tmp_path):
    shot = FarmShot(
        "/p/p.####.exr", "/m/m.####.exr", str(tmp_path / "out"), FrameRange(1, 48), ShotSettings(engine="void")
    )
    bundle.write(shot, tmp_path / "bundle", bundle.JobOptions(gpus=1), chunk=12, overlap=2)
    template = yaml.safe_load((tmp_path / "bundle/template.yaml").read_text())
    asked = [{a["name"]: a["min"] for a in s["hostRequirements"]["amounts"]} for s in template["steps"]]
    assert asked[0]["amount.worker.gpu"] == 1
    assert asked[0]["amount.worker.gpu.memory"] == bundle.GPU_MEMORY_MIB
    assert "amount.worker.gpu" not in asked[1]
    assert template["steps"][1]["dependencies"] == [{"dependsOn": "Inpaint"}]


@pytest.mark.parametrize("prompt", ["- a table: with {{Param.Out}} & #1", "no", "1e3", "été 'quoted' 😀", "--json"])
def test_any_text_survives_the_template(shot, tmp_path, prompt):
    settings = ShotSettings(engine="farm-test", physics_prior=False, prompt=prompt)
    farm_shot = FarmShot(shot.plate, shot.matte, str(tmp_path / "out"), FrameRange(1001, 1001), settings)
    bundle.write(farm_shot, tmp_path / "bundle", bundle.JobOptions())
    parameters = yaml.safe_load((tmp_path / "bundle/template.yaml").read_text())["parameterDefinitions"]
    assert next(p["default"] for p in parameters if p["name"] == "Prompt") == prompt
    command(OPENJD, "check", tmp_path / "bundle/template.yaml")


def test_text_reaches_the_engine_through_openjd(shot, tmp_path):
    settings = ShotSettings(engine="farm-test", physics_prior=False, prompt="--json: {{x}} été 'q'", layer=None, seed=3)
    out = tmp_path / "out"
    farm_shot = FarmShot(shot.plate, shot.matte, str(out), FrameRange(1001, 1002), settings)
    bundle.write(farm_shot, tmp_path / "bundle", bundle.JobOptions())
    command(OPENJD, "run", tmp_path / "bundle/template.yaml")
    told = json.loads((out / "manifest.json").read_text())["settings"]
    assert (told["prompt"], told["seed"]) == (settings.prompt, 3)


def test_what_cant_be_a_bundle_is_refused_before_anything_is_written(tmp_path):
    shot = FarmShot("/p/p.####.exr", "/m/m.####.exr", str(tmp_path / "out"), FrameRange(1, 48))
    for wrong, options in (
        ({"chunk": 6, "overlap": 4}, bundle.JobOptions()),
        ({"chunk": 0}, bundle.JobOptions()),
        ({"chunk": 12, "overlap": -1}, bundle.JobOptions()),
    ):
        with pytest.raises(SettingsError):
            bundle.write(shot, tmp_path / "bundle", options, **wrong)
    long = FarmShot("/p/" + "x" * 1100, "/m", str(tmp_path / "out"), FrameRange(1, 48))
    with pytest.raises(SettingsError, match="1024"):
        bundle.write(long, tmp_path / "bundle", bundle.JobOptions())
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        bundle.write(shot, tmp_path / "file/bundle", bundle.JobOptions())


def test_auto_is_settled_when_the_job_is_made(shot, tmp_path):
    words = [shot.plate, f"--matte={shot.matte}", f"--out={tmp_path / 'out'}", "--bundle", tmp_path / "b"]
    for more, engine in (([], "propagate"), (["--gpus=1"], "void")):
        said = void_server("farm", "bundle", *words, *more)
        assert f"Engine: {engine}" in said.stderr
        parameters = yaml.safe_load((tmp_path / "b/template.yaml").read_text())["parameterDefinitions"]
        assert next(p["default"] for p in parameters if p["name"] == "Engine") == engine


def test_a_host_on_bare_python_can_write_a_bundle_and_a_deadline_job():
    code = (
        "import sys; import void_server.farm.bundle, void_server.farm.deadline10;"
        "print(sorted(m for m in ('numpy', 'cv2', 'OpenEXR', 'fileseq', 'zmq', 'msgpack') if m in sys.modules))"
    )
    root = Path(farm_floor.ROOT)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=root, check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
