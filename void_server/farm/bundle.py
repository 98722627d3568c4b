"""A shot, or a batch of shots, as a job bundle of Open Job Description: what AWS Deadline Cloud and `openjd run` take.

What comes in: a `FarmShot` (or the list of a batch) and what the job asks of its hosts. What goes out: a folder with
`template.yaml`, `parameter_values.yaml` and `asset_references.yaml`. It submits nothing and reads no pixels.

The template carries the shot as its parameters' defaults, so that `openjd run template.yaml` runs it as it is, and a
person can change it in a submitter's window. Source of the forms: openjd-specifications, "Template Schemas"
(jobtemplate-2023-09, RFC 0001 for chunks) and deadline-cloud's `job_bundle/submission.py` for the other two files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from void_server.farm import chunks, yaml_text
from void_server.farm.shot import FarmShot, check_text, key_of, setting_words
from void_server.wire.errors import OutputError, SettingsError
from void_server.wire.shot import EFFECTS, QUALITY, ShotFiles, ShotSettings, flag_of

GPU_MEMORY_MIB = 20480
"""What engine void asks of a card: 18.9 GiB measured at 384x672 with its weights in 8 bit, and a little air."""
CANCEL_S = 30
"""Between asking a task to stop and killing it: it stops between frames, so the longest frame must fit."""


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """How a farm runs the job, whatever the job is."""

    gpus: int = 0
    gpu_memory_mib: int = GPU_MEMORY_MIB
    """Asked for where `gpus` is above 0."""
    memory_mib: int = 8192
    timeout_minutes: int = 24 * 60
    """Longest that one task may take."""
    priority: int = 50
    retries: int = 2
    """How often a failed task is tried again; finished frames are not made again."""
    command: str = "void-server"
    """The command on the worker: a name on its PATH, or a whole path."""
    warm: Optional[bool] = None  # noqa: UP045 - hosts on Python 3.9 may ask for type hints
    """Keep a daemon for each session, so that an engine loads its weights once and not for every task. None does so
    where it saves something: several tasks, and an engine that has weights."""


def write(
    shot: FarmShot,
    folder: Path,
    options: JobOptions,
    chunk: Optional[int] = None,  # noqa: UP045 - hosts on Python 3.9 may ask for type hints
    overlap: int = chunks.DEFAULT_OVERLAP,
    files: Optional[ShotFiles] = None,  # noqa: UP045
) -> list[Path]:
    """Write one shot's bundle and return its files. Without `chunk`, the shot is one task: a chunk's border is a seam.

    files: names every input one by one, for farms that carry inputs along; else their folders are named.
    Raises SettingsError, OutputError.
    """
    parameters = _shot_parameters(shot)
    words = _shot_words(shot)
    task = ["farm", "task", *words]
    steps: list[dict[str, Any]]
    if chunk is None:
        steps = [_step("Inpaint", task, options)]
    else:
        size = chunks.evened(shot.frames, chunk)
        chunks.check_overlap(chunks.split(shot.frames, size), overlap)
        parameters += [
            _number("ChunkSize", "Frames a chunk", size, "Splitting", 1),
            _number("Overlap", "Frames faded at a seam's either side", overlap, "Splitting", 0),
        ]
        own = ["--overlap={{Param.Overlap}}"]
        inpaint = _step("Inpaint", [*task, *own, "--chunk={{Task.Param.Frame}}"], options)
        inpaint["parameterSpace"] = {
            "taskParameterDefinitions": [
                {
                    "name": "Frame",
                    "type": "CHUNK[INT]",
                    "range": "{{Param.Frames}}",
                    "chunks": {"defaultTaskCount": "{{Param.ChunkSize}}", "rangeConstraint": "CONTIGUOUS"},
                }
            ]
        }
        # Fading needs no GPU and little memory: it may run on any host.
        fade = dataclasses.replace(options, gpus=0, memory_mib=2048)
        assemble = _step("Assemble", ["farm", "assemble", *words, *own], fade)
        assemble["dependencies"] = [{"dependsOn": "Inpaint"}]
        steps = [inpaint, assemble]
    split = chunk is not None
    warm = split and _has_weights(shot.settings)
    template = _template(f"void {shot.name}", parameters, steps, options, split, warm)
    inputs = _inputs(shot, files)
    return _write_files(folder, template, options, inputs, [shot.out])


def write_batch(
    table: Path, count: int, out: str, settings: ShotSettings, folder: Path, options: JobOptions, shots_a_task: int = 1,
    name: str = "",
) -> list[Path]:  # fmt: skip
    """Write the bundle of a batch: `table` (CSV, see `farm.batch`) goes along, and a task takes rows by their number.

    A scheduler keeps the range and one number a task; every path stays in the table. Raises like `write`.
    """
    check_text("out", out)
    parameters = [
        {
            "name": "Shots",
            "type": "PATH",
            "objectType": "FILE",
            "dataFlow": "IN",
            "default": table.name,
            "description": "CSV with a shot a row: name, plate, matte, and any setting.",
            "userInterface": {"control": "CHOOSE_INPUT_FILE", "label": "Shots", "groupLabel": "Batch"},
        },
        _text("Out", "Output folder", out, "Batch"),
        _text("Rows", "Rows", f"1-{count}", "Batch"),
        _number("ShotsPerTask", "Shots a task", shots_a_task, "Batch", 1),
        _text("VoidServer", "void-server on the worker", options.command, "Worker"),
    ]
    words = ["farm", "batch", "{{Param.Shots}}", "--out={{Param.Out}}", "--rows={{Task.Param.Row}}"]
    words += [*_literal(setting_words(settings)), *_SESSION_WORDS]
    step = _step("Shots", words, options)
    step["parameterSpace"] = {
        "taskParameterDefinitions": [
            {
                "name": "Row",
                "type": "CHUNK[INT]",
                "range": "{{Param.Rows}}",
                "chunks": {"defaultTaskCount": "{{Param.ShotsPerTask}}", "rangeConstraint": "CONTIGUOUS"},
            }
        ]
    }
    template = _template(f"void {name or table.stem}", parameters, [step], options, True, _has_weights(settings))
    written = _write_files(folder, template, options, {}, [out], failures=count)
    with _disk_errors(folder):
        if table.resolve() != (folder / table.name).resolve():
            shutil.copyfile(table, folder / table.name)
    return [*written, folder / table.name]


_SESSION_WORDS = ["--path-mapping={{Session.PathMappingRulesFile}}", "--log-format=openjd"]


def _shot_parameters(shot: FarmShot) -> list[dict[str, Any]]:
    settings = shot.settings
    given = shot.paths()
    labels = {
        "affected": "Affected matte",
        "affected_add": "Added to affected",
        "affected_sub": "Taken from affected",
        "keep": "Keep matte",
        "reference": "Reference frames",
    }
    parameters = [_text("Plate", "Plate", given["plate"], "Shot"), _text("Matte", "Matte", given["matte"], "Shot")]
    parameters += [_text(key_of(role), label, given[role], "Shot") for role, label in labels.items() if role in given]
    parameters += [
        _text("Out", "Output folder", shot.out, "Shot"),
        _text("Frames", "Frames to deliver", str(shot.frames), "Shot"),
        _choice("Engine", "Engine", settings.engine, sorted({"propagate", "void", settings.engine}), "Engine"),
        _choice(
            "PhysicsPrior",
            "Shadows and reflections",
            "--physics-prior" if settings.physics_prior else "--no-physics-prior",
            ["--physics-prior", "--no-physics-prior"],
            "Engine",
        ),
        _choice("Effects", "Which of them are removed", settings.effects, list(EFFECTS), "Engine"),
        _choice("Quality", "Time against picture, engine void", settings.quality, list(QUALITY), "Engine"),
        _text("Prompt", "The scene after removal", settings.prompt, "Engine"),
        _number("Seed", "Seed", settings.seed, "Engine", 0),
    ]
    if settings.handles is not None:
        parameters.append(_number("Handles", "Frames read for context", settings.handles, "Shot", 0))
    return parameters


def _shot_words(shot: FarmShot) -> list[str]:
    """A shot on a task's command line, each part from its parameter; `--flag=value` lets a value start with a dash."""
    words = ["{{Param.Plate}}"]
    words += [f"--{flag_of(role)}={{{{Param.{key_of(role)}}}}}" for role in shot.paths() if role != "plate"]
    words += ["--out={{Param.Out}}", "--frames={{Param.Frames}}", "--engine={{Param.Engine}}", "{{Param.PhysicsPrior}}"]
    words += [
        "--effects={{Param.Effects}}",
        "--quality={{Param.Quality}}",
        "--prompt={{Param.Prompt}}",
        "--seed={{Param.Seed}}",
    ]
    if shot.settings.handles is not None:
        words.append("--handles={{Param.Handles}}")
    shown = ("engine", "physics_prior", "effects", "quality", "prompt", "seed", "handles")
    return [*words, *_literal(setting_words(shot.settings, without=shown)), *_SESSION_WORDS]


def _literal(words: Sequence[str]) -> list[str]:
    for word in words:
        if "{{" in word:
            raise SettingsError(f"Setting {word} holds '{{{{', which job templates replace.", "Take it out.")
    return list(words)


def _template(
    name: str,
    parameters: list[dict[str, Any]],
    steps: list[dict[str, Any]],
    options: JobOptions,
    chunked: bool,
    warm: bool,
) -> dict[str, Any]:
    if not any(p["name"] == "VoidServer" for p in parameters):
        parameters = [*parameters, _text("VoidServer", "void-server on the worker", options.command, "Worker")]
    for parameter in parameters:
        if parameter["type"] == "STRING" and len(parameter["default"]) > 1024:
            raise SettingsError(
                f"{parameter['name']} is {len(parameter['default'])} characters long.", "Job templates take 1024."
            )
    template: dict[str, Any] = {"specificationVersion": "jobtemplate-2023-09"}
    if chunked:
        template["extensions"] = ["TASK_CHUNKING"]
    template["name"] = name.replace("{{", "{ {")[:128]
    template["parameterDefinitions"] = parameters
    if warm if options.warm is None else options.warm:
        template["jobEnvironments"] = [_warm_environment()]
    template["steps"] = steps
    return template


def _has_weights(settings: ShotSettings) -> bool:
    """Whether an engine may take long to load: all but the one that has nothing to load."""
    return settings.engine != "propagate"


def _warm_environment() -> dict[str, Any]:
    """A daemon for as long as a session lasts: its worker keeps the engine's weights between tasks."""
    data = "--data={{Session.WorkingDirectory}}/void-daemon"
    return {
        "name": "WarmDaemon",
        "script": {
            "actions": {
                "onEnter": {"command": "{{Param.VoidServer}}", "args": ["farm", "warm", "start", data], "timeout": 300},
                "onExit": {"command": "{{Param.VoidServer}}", "args": ["farm", "warm", "stop", data], "timeout": 120},
            }
        },
    }


def _step(name: str, words: list[str], options: JobOptions) -> dict[str, Any]:
    amounts: list[dict[str, Any]] = [{"name": "amount.worker.memory", "min": options.memory_mib}]
    if options.gpus:
        amounts += [
            {"name": "amount.worker.gpu", "min": options.gpus},
            {"name": "amount.worker.gpu.memory", "min": options.gpu_memory_mib},
        ]
    return {
        "name": name,
        "hostRequirements": {"amounts": amounts},
        "script": {
            "actions": {
                "onRun": {
                    "command": "{{Param.VoidServer}}",
                    "args": words,
                    "timeout": options.timeout_minutes * 60,
                    "cancelation": {"mode": "NOTIFY_THEN_TERMINATE", "notifyPeriodInSeconds": CANCEL_S},
                }
            }
        },
    }


def _text(name: str, label: str, value: str, group: str) -> dict[str, Any]:
    hint = {"control": "LINE_EDIT", "label": label, "groupLabel": group}
    return {"name": name, "type": "STRING", "default": value, "userInterface": hint}


def _choice(name: str, label: str, value: str, choices: list[str], group: str) -> dict[str, Any]:
    hint = {"control": "DROPDOWN_LIST", "label": label, "groupLabel": group}
    return {"name": name, "type": "STRING", "default": value, "allowedValues": choices, "userInterface": hint}


def _number(name: str, label: str, value: int, group: str, least: int) -> dict[str, Any]:
    hint = {"control": "SPIN_BOX", "label": label, "groupLabel": group}
    return {"name": name, "type": "INT", "default": value, "minValue": least, "userInterface": hint}


def _inputs(shot: FarmShot, files: ShotFiles | None) -> dict[str, list[str]]:
    """What a farm without shared disks must carry to its workers."""
    if files is not None:
        return {"filenames": sorted({os.path.abspath(path) for _, _, path in files.items()})}  # noqa: PTH100
    folders = {path if Path(path).is_dir() else str(Path(path).parent) for path in shot.paths().values()}
    return {"directories": sorted(folders)}


def _write_files(
    folder: Path,
    template: Mapping[str, Any],
    options: JobOptions,
    inputs: Mapping[str, list[str]],
    outputs: list[str],
    failures: int | None = None,
) -> list[Path]:
    values = [
        {"name": "deadline:priority", "value": options.priority},
        {"name": "deadline:targetTaskRunStatus", "value": "READY"},
        {"name": "deadline:maxRetriesPerTask", "value": options.retries},
        # One bad shot must not stop the others of its batch.
        {"name": "deadline:maxFailedTasksCount", "value": 20 if failures is None else failures},
    ]
    assets = {
        "inputs": {"filenames": inputs.get("filenames", []), "directories": inputs.get("directories", [])},
        "outputs": {"directories": outputs},
        "referencedPaths": [],
    }
    texts = {
        "template.yaml": yaml_text.dump(template),
        "parameter_values.yaml": yaml_text.dump({"parameterValues": values}),
        "asset_references.yaml": yaml_text.dump({"assetReferences": assets}),
    }
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_bytes(text.encode("utf-8"))
    return [folder / name for name in texts]


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn a disk's refusal into an OutputError that names the folder."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Bundle folder {folder} can't be written: {error.strerror or error}.", "Choose another folder."
        ) from error
