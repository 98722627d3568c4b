"""Deadline 10 against strict stand-ins: what is submitted, and what the real plug-in file makes of it on a worker.

The stand-ins are no licensed farm: `plugins/deadline/README.md` says what has not been run on one.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import farm_floor, tiny_shot
from void_server.farm import deadline10
from void_server.farm.bundle import JobOptions
from void_server.farm.shot import FarmShot
from void_server.wire.errors import RefusedError, SettingsError, UnreachableError
from void_server.wire.shot import FrameRange, ShotSettings

SETTINGS = ShotSettings(engine="farm-test", physics_prior=False)


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shöt")


@pytest.fixture
def farm(tmp_path, monkeypatch):
    """A repository with our plug-in installed, a client's command, and a maker of workers."""
    repository = tmp_path / "repository"
    plugins = repository / "custom/plugins"
    plugins.mkdir(parents=True)
    (plugins / "VoidInpaint").symlink_to(farm_floor.ROOT / "plugins/deadline/VoidInpaint")
    client = tmp_path / "client"
    client.mkdir()
    program = client / "deadlinecommand"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {farm_floor.ROOT}/tests/fakes/deadlinecommand.py "$@"\n')
    program.chmod(0o755)
    for name, value in farm_floor.environment(DEADLINE_PATH=client, FAKE_DEADLINE_REPOSITORY=repository).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(farm_floor.THINKBOX))
    monkeypatch.syspath_prepend(str(farm_floor.ROOT / "tests/fakes"))
    known = set(sys.modules)
    worker = importlib.import_module("deadline_worker")
    config = {"VoidExecutable": f"/nowhere/void-server\n{farm_floor.BIN / 'void-server'}"}
    yield lambda gpus=(): worker.Worker(repository, config, gpus)
    for name in set(sys.modules) - known:
        if name.split(".")[0] in ("Deadline", "DeadlineUI", "System", "deadline_worker", "monitor_script"):
            del sys.modules[name]


def farm_shot(shot, out, **more):
    return FarmShot(shot.plate, shot.matte, str(out), FrameRange(1001, 1008), more.pop("settings", SETTINGS), **more)


def test_the_farms_frames_are_a_local_runs_frames(shot, farm, tmp_path):
    done = farm_floor.void_server("farm", "submit", *farm_floor.shot_words(shot, tmp_path / "out"), "--json")
    job = json.loads(done.stdout.splitlines()[-1])
    assert job["clean"] == str(tmp_path / "out/clean.####.exr")
    (task,) = farm().run(job["job"])
    assert task["status"] == "Completed", task
    assert task["progress"][-1] == 100.0
    assert task["progress"] == sorted(task["progress"])
    assert any("frame 1004" in line for line in task["said"])
    farm_floor.void_server("run", *farm_floor.shot_words(shot, tmp_path / "local"))
    farm_floor.same_frames(tmp_path / "local", tmp_path / "out")


def test_deadlines_own_libraries_are_kept_from_the_command_and_the_studios_stay(shot, farm, tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/Thinkbox/Deadline10/lib:/studio/lib::/home/x/Deadline10/bin")
    monkeypatch.setenv("DYLD_LIBRARY_PATH", "/Applications/Thinkbox/Deadline10/Resources")
    done = deadline10.submit_shot(farm_shot(shot, tmp_path / "out"), JobOptions(), deadline10.Placement())
    (task,) = farm().run(done.job)
    assert task["status"] == "Completed", task
    assert (task["environment"]["LD_LIBRARY_PATH"], task["environment"]["DYLD_LIBRARY_PATH"]) == ("/studio/lib", "")


def test_from_a_host_on_windows_the_command_gets_all_three_handles_and_no_console(shot, farm, tmp_path, monkeypatch):
    """The names are those of Python's subprocess on Windows; the command itself runs here."""
    seen = {}

    class StartupInfo:
        dwFlags, wShowWindow = 0, 5

    def run(words, **named):
        seen.update(named)
        return real(words, **{k: v for k, v in named.items() if k not in ("startupinfo", "creationflags")})

    real = subprocess.run
    monkeypatch.setattr(deadline10.os, "name", "nt")
    windows = {"STARTUPINFO": StartupInfo, "STARTF_USESHOWWINDOW": 1, "SW_HIDE": 0, "CREATE_NO_WINDOW": 0x08000000}
    for name, value in windows.items():
        monkeypatch.setattr(subprocess, name, value, raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    done = deadline10.call([str(tmp_path / "client/deadlinecommand"), "-GetJob", "0" * 24, "True"], 60)
    assert b"Error" in done.stdout
    assert {seen[name] for name in ("stdin", "stdout", "stderr")} == {subprocess.DEVNULL, subprocess.PIPE}
    assert seen["creationflags"] == 0x08000000 and (seen["startupinfo"].dwFlags, seen["startupinfo"].wShowWindow) == (
        1,
        0,
    )


def test_chunks_run_on_two_gpus_and_are_assembled_by_a_second_job(shot, farm, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    placement = deadline10.Placement(concurrent_tasks=2, environment=(f"FARM_ENGINE_LOG={log}",), limits=("void_gpu",))
    done = deadline10.submit_shot(farm_shot(shot, out), JobOptions(), placement, chunk=4, overlap=1)
    worker = farm(gpus=(2, 5))
    assert worker.pending(done.assemble_job) == [done.job]
    tasks = worker.run(done.job)
    assert [t["status"] for t in tasks] == ["Completed", "Completed"]
    assert {t["environment"]["CUDA_VISIBLE_DEVICES"] for t in tasks} == {"2", "5"}
    assert {line.split()[1] for line in log.read_text().splitlines()} == {"2", "5"}
    assert not list(out.glob("clean.*"))
    (assembly,) = worker.run(done.assemble_job)
    assert assembly["status"] == "Completed", assembly
    assert "LimitGroups" not in worker.job(done.assemble_job)["job"]
    assert json.loads((out / "manifest.json").read_text())["chunks"]["ranges"] == ["1001-1004", "1005-1008"]
    farm_floor.void_server("run", *farm_floor.shot_words(shot, tmp_path / "local"))
    farm_floor.same_frames(tmp_path / "local", out)


def test_windows_paths_are_mapped_on_a_linux_worker(shot, farm, tmp_path, monkeypatch):
    monkeypatch.setattr(deadline10, "plugin_info", windows_info := _as_windows(tmp_path))
    done = deadline10.submit_shot(farm_shot(shot, tmp_path / "out"), JobOptions(), deadline10.Placement())
    assert windows_info.seen["Plate"].startswith("Z:\\show\\")
    from Deadline.Scripting import RepositoryUtils

    monkeypatch.setattr(RepositoryUtils, "mappings", (("Z:\\show\\", f"{tmp_path}/"),))
    (task,) = farm().run(done.job)
    assert task["status"] == "Completed", task
    assert (tmp_path / "out/clean.1008.exr").is_file()
    assert not any("\\" in word for word in task["words"])


def test_corrections_reach_the_worker_and_are_mapped(shot, farm, tmp_path, monkeypatch):
    for part, frame in (("add", 1002), ("sub", 1003)):
        picture = np.full((64, 96), 0.5, np.float16)
        tiny_shot.write_exr(shot.folder / f"{part}/{part}.{frame}.exr", {"A": picture})
    from Deadline.Scripting import RepositoryUtils

    monkeypatch.setattr(RepositoryUtils, "mappings", (("/far/", f"{shot.folder}/"),))
    roles = {"affected_add": "/far/add/add.####.exr", "affected_sub": "/far/sub"}
    done = deadline10.submit_shot(farm_shot(shot, tmp_path / "out", **roles), JobOptions(), deadline10.Placement())
    worker = farm()
    assert worker.job(done.job)["plugin"]["AffectedAdd"] == "/far/add/add.####.exr"
    (task,) = worker.run(done.job)
    assert task["status"] == "Completed", task
    inputs = json.loads((tmp_path / "out/manifest.json").read_text())["inputs"]
    assert (list(inputs["affected_add"]), list(inputs["affected_sub"])) == (["1002"], ["1003"])


def _as_windows(root: Path):
    """Plug-in info as a Windows machine would have written it, with a trailing slash where people leave one."""
    real = deadline10.plugin_info

    def info(*words):
        found = real(*words)
        for key in ("Plate", "Matte", "Out"):
            found[key] = found[key].replace(f"{root}/", "Z:\\show\\").replace("/", "\\")
        found["Out"] += "\\"
        info.seen = found
        return found

    return info


def test_a_failing_frame_fails_the_task_with_its_reason_and_a_requeue_makes_only_what_is_missing(shot, farm, tmp_path):
    bad, log, out = tmp_path / "bad", tmp_path / "log", tmp_path / "out"
    bad.write_text("1005")
    placement = deadline10.Placement(environment=(f"FARM_ENGINE_BAD={bad}", f"FARM_ENGINE_LOG={log}"))
    done = deadline10.submit_shot(farm_shot(shot, out), JobOptions(retries=1), placement)
    worker = farm()
    (task,) = worker.run(done.job)
    assert task["status"] == "Failed"
    assert task["errors"] == ["Frame 1005 burnt. Mend the test."] * 2
    assert (out / "clean.1002.exr").is_file()
    bad.write_text("")
    worker.requeue(done.job)
    (task,) = worker.run(done.job)
    assert task["status"] == "Completed"
    made = farm_floor.made(log)
    assert sorted(set(made)) == list(tiny_shot.FRAMES)
    assert all(made.count(frame) == 1 for frame in (1001, 1002)), made


def test_a_corrupt_plate_is_named_in_the_monitor(shot, farm, tmp_path):
    path = shot.folder / "plate/plate.1003.exr"
    path.write_bytes(path.read_bytes()[:900])
    done = deadline10.submit_shot(farm_shot(shot, tmp_path / "out"), JobOptions(retries=0), deadline10.Placement())
    (task,) = farm().run(done.job)
    assert task["status"] == "Failed"
    assert "plate.1003.exr" in task["errors"][0]


def test_settings_reach_the_worker_as_they_were_given(shot, farm, tmp_path):
    settings = ShotSettings(
        engine="farm-test", physics_prior=False, prompt="un café, l'été = 30°; 50% & more", seed=7, handles=3,
        grow_px=5.0, effects="bold",
    )  # fmt: skip
    out = tmp_path / "out put"
    done = deadline10.submit_shot(farm_shot(shot, out, settings=settings), JobOptions(), deadline10.Placement())
    (task,) = farm().run(done.job)
    assert task["status"] == "Completed", task
    told = ShotSettings.from_wire(json.loads((out / "manifest.json").read_text())["settings"])
    assert {**told.to_wire(), "frames": None} == settings.to_wire()


def test_a_batch_is_one_job_with_a_task_a_shot_and_bad_shots_fail_alone(farm, tmp_path):
    for name in ("s01", "s02", "s03"):
        tiny_shot.write(tmp_path / "shots" / name, count=2)
    (tmp_path / "shots/s02/matte/matte.1002.exr").unlink()
    words = ["--batch", tmp_path / "shots", "--out", tmp_path / "out", "--no-physics-prior", "--retries=0"]
    done = farm_floor.void_server("farm", "submit", *words, "--json")
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    tasks = farm().run(job)
    assert [t["status"] for t in tasks] == ["Completed", "Failed", "Completed"]
    assert "s02: Matte frames 1002 are missing." in tasks[1]["errors"][0]
    report = farm_floor.void_server("farm", "report", tmp_path / "shots", "--out", tmp_path / "out", status=4)
    assert report.stdout.splitlines()[-1] == "2 done, 1 failed, 0 started, 0 waiting"


@pytest.mark.parametrize(
    "placement, reason",
    [
        (deadline10.Placement(pool="gpus"), "no such pool"),
        (deadline10.Placement(plugin_directory="/nowhere"), "was not found"),
    ],
)
def test_what_deadline_refuses_is_said(shot, farm, tmp_path, placement, reason):
    with pytest.raises(RefusedError, match=reason):
        deadline10.submit_shot(farm_shot(shot, tmp_path / "out"), JobOptions(), placement)


def test_the_stand_in_refuses_unknown_keys_and_malformed_files(shot, farm, tmp_path, monkeypatch):
    job = deadline10.shot_job(farm_shot(shot, tmp_path / "out"), JobOptions(), deadline10.Placement())
    for wrong, reason in (({"RequestedGPUs": "1"}, "unknown job info key"), ({"Priority": "high"}, "no number")):
        with pytest.raises(RefusedError, match=reason):
            deadline10.submit({**job, **wrong}, {"Mode": "shot"}, deadline10.Placement())
    monkeypatch.setattr(deadline10, "file_text", lambda info: "Plugin=VoidInpaint\nName=é\n".encode())
    with pytest.raises(RefusedError, match="neither ASCII nor marked UTF-16"):
        deadline10.submit(job, {}, deadline10.Placement())


@pytest.mark.parametrize("text", ["sh010\nPriority=100", "sh010\r", 'a "b"', "tab\tbed", "\x85"])
def test_no_value_can_inject_a_key_or_a_word(text):
    with pytest.raises(SettingsError):
        deadline10.file_text({"Name": text})
    with pytest.raises(SettingsError):
        FarmShot("/p.####.exr", "/m.####.exr", "/out", FrameRange(1, 2), name=text)


def test_files_are_utf16_only_where_a_value_needs_it():
    assert deadline10.file_text({"Name": "sh010"}) == b"Name=sh010\n"
    assert deadline10.file_text({"Name": "sh010 é"}).decode("utf-16") == "Name=sh010 é\n"


def test_without_deadlinecommand_the_way_out_is_said(shot, tmp_path, monkeypatch):
    monkeypatch.setenv("DEADLINE_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="deadlinecommand was not found"):
        deadline10.submit_shot(farm_shot(shot, tmp_path / "out"), JobOptions(), deadline10.Placement())


def test_a_missing_executable_is_told_by_the_plugin(shot, farm, tmp_path):
    done = deadline10.submit_shot(farm_shot(shot, tmp_path / "out"), JobOptions(retries=0), deadline10.Placement())
    worker = farm()
    worker._config["VoidExecutable"] = "/nowhere/void-server"
    (task,) = worker.run(done.job)
    assert "void-server was not found in: /nowhere/void-server" in task["errors"][0]


@pytest.mark.parametrize("chunk", ["", "4"])
def test_the_monitors_window_submits_the_very_job_that_the_command_line_does(shot, farm, tmp_path, monkeypatch, chunk):
    from Deadline.Scripting import ClientUtils
    from DeadlineUI.Controls.Scripting import DeadlineScriptDialog as dialogs

    monkeypatch.setattr(ClientUtils, "command", str(tmp_path / "client/deadlinecommand"))
    path = farm_floor.ROOT / "plugins/deadline/scripts/Submission/VoidInpaint.py"
    spec = importlib.util.spec_from_file_location("monitor_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "OVERLAP", 2)
    script.__main__()
    window = dialogs.shown.pop()
    values = {
        "Plate": shot.plate,
        "Matte": shot.matte,
        "Out": str(tmp_path / "out"),
        "Frames": "1001-1008",
        "Chunk": chunk,
        "AffectedAdd": "/add/add.####.exr",
        "AffectedSub": "/sub",
        "Effects": "bold",
        "Quality": "fine",
    }
    for name, value in values.items():
        window.SetValue(f"{name}Box", value)
    window.controls["SubmitButton"].ValueModified.slots[0]()
    _, said = dialogs.messages.pop()
    assert "Result=Success" in said, said
    ours = deadline10.submit_shot(
        farm_shot(
            shot, tmp_path / "out", settings=ShotSettings(engine="propagate", effects="bold", quality="fine"),
            affected_add="/add/add.####.exr", affected_sub="/sub",
        ),
        JobOptions(), deadline10.Placement(pool="none", group="none"), int(chunk) if chunk else None, 2,
    )  # fmt: skip
    theirs = [line[6:] for line in said.splitlines() if line.startswith("JobID=")][-1]
    jobs = [farm().job(identity) for identity in (theirs, ours.assemble_job or ours.job)]
    for job in jobs:
        del job["job"]["ExtraInfoKeyValue0"]
        job["job"].pop("JobDependencies", None)
    assert jobs[0] == jobs[1]


ON_BARE_PYTHON = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
spec = importlib.util.spec_from_file_location("plugin", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
plugin = module.GetDeadlinePlugin()
info = {"Mode": "chunk", "Plate": "/p/p.####.exr", "Matte": "/m", "Out": "/o/", "ShotFrames": "1-9", "Overlap": "1"}
plugin.begin([1, 5], info, {}, (3,), 0, "")
plugin.InitializeProcessCallback()
print(plugin.RenderArgumentCallback(), plugin.seen["environment"]["CUDA_VISIBLE_DEVICES"])
module.CleanupDeadlinePlugin(plugin)
assert plugin.left_behind() == []
"""


@pytest.mark.parametrize("version", ["3.7", "3.9", "3.10", "3.12"])
def test_the_plugin_runs_on_the_pythons_that_deadline_embeds(version):
    found = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    python = str(found[-1]) if found else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    plugin = farm_floor.ROOT / "plugins/deadline/VoidInpaint/VoidInpaint.py"
    done = farm_floor.command(
        python, "-W", "error", "-S", "-c", ON_BARE_PYTHON, farm_floor.THINKBOX, plugin, PYTHONPATH=""
    )
    assert done.stdout.split() == [
        *('"farm"', '"task"', '"/p/p.####.exr"', '"--frames=1-9"', '"--matte=/m"', '"--out=/o"', '"--physics-prior"'),
        *('"--chunk=1-5"', '"--overlap=1"', '"--log-format=deadline"', "3"),
    ]


def test_the_monitors_window_says_what_is_wrong(farm, tmp_path):
    from DeadlineUI.Controls.Scripting import DeadlineScriptDialog as dialogs

    path = farm_floor.ROOT / "plugins/deadline/scripts/Submission/VoidInpaint.py"
    spec = importlib.util.spec_from_file_location("monitor_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.__main__()
    dialogs.shown.pop().controls["SubmitButton"].ValueModified.slots[0]()
    assert dialogs.messages.pop()[1] == "Plate is empty."
