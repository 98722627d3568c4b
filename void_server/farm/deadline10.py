"""Jobs for Deadline 10: what goes into its two job files, and the one command that takes them.

What comes in: a `FarmShot` or a batch, and how the farm is to run it. What goes out: job ids. It needs Deadline's
client on this machine and the plug-in `plugins/deadline/VoidInpaint` in the farm's repository; it asks for no import of
theirs. It reads no frames.

Source of keys and traps: the manual's "Manual Submission" page, the stock scripts that write every key, and the public
submitters of other studios. GPUs have no key of their
own in Deadline 10: a pool, a group or a limit says which machines, and the worker's GPU affinity says which card.
"""

from __future__ import annotations

import codecs
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from void_server.farm import chunks
from void_server.farm.bundle import JobOptions
from void_server.farm.shot import FarmShot, check_text, key_of, setting_words
from void_server.wire.errors import RefusedError, SettingsError, UnreachableError
from void_server.wire.shot import ShotSettings

PLUGIN = "VoidInpaint"
ANSWER_S = 120
"""Longest wait for deadlinecommand: it starts a runtime and talks to a database."""
LOOK_ANSWER_S = 30
"""The same for a look at a job, which comes again by itself."""

Info = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where and how Deadline runs the job; empty is the farm's default."""

    pool: str = ""
    secondary_pool: str = ""
    group: str = ""
    limits: tuple[str, ...] = ()
    machine_limit: int = 0
    concurrent_tasks: int = 1
    """Tasks at once on one machine; each gets one of the worker's GPUs."""
    department: str = ""
    comment: str = ""
    suspended: bool = False
    environment: tuple[str, ...] = ()
    """KEY=VALUE pairs for the worker's process."""
    plugin_directory: str = ""
    """A folder with the plug-in's own folder in it, used instead of the repository's: for a trial."""
    deadlinecommand: str = ""
    """Whole path of the command; empty looks where Deadline installs it."""
    nuke_pool: str = ""
    nuke_group: str = ""
    """Where Nuke renders inputs: machines with a Nuke, which need not be those with a card."""


@dataclasses.dataclass(frozen=True)
class NukeRender:
    """An input that Deadline's own Nuke plug-in renders before a shot is made: one Write of a script, in one view."""

    script: str
    write: str
    """Its whole name, with the groups that it lies in."""
    frames: str
    """As Deadline reads them: 1001-1048, or 1002,1005-1006."""
    view: str
    version: str
    """Of Nuke, as 15.1."""
    nukex: bool
    files: str
    """Where its frames go, as a pattern."""


@dataclasses.dataclass(frozen=True)
class Submitted:
    """What came of a submission."""

    job: str
    assemble_job: Optional[str] = None  # noqa: UP045 - hosts on Python 3.9 may ask for type hints


def submit_shot(
    shot: FarmShot,
    options: JobOptions,
    placement: Placement,
    chunk: Optional[int] = None,  # noqa: UP045
    overlap: int = chunks.DEFAULT_OVERLAP,
    after: Sequence[str] = (),
) -> Submitted:
    """Submit one shot: one task, or with `chunk` a job of chunks and a second that assembles them. Blocks for seconds.

    after: jobs that make its inputs, which must be complete before it begins.
    Raises SettingsError before anything is submitted, UnreachableError, RefusedError.
    """
    request = uuid.uuid4().hex
    waits = _waits(after) if after else {}
    if chunk is None:
        job = {**shot_job(shot, options, placement, request=request), **waits}
        return Submitted(submit(job, plugin_info(shot, "shot"), placement))
    size = chunks.evened(shot.frames, chunk)
    chunks.check_overlap(chunks.split(shot.frames, size), overlap)
    job = {**shot_job(shot, options, placement, size=size, batch=shot.name, request=request), **waits}
    first = submit(job, plugin_info(shot, "chunk", overlap), placement)
    try:
        second = {**shot_job(shot, options, placement, batch=shot.name, request=request), **_after(first, shot)}
        # Fading needs no card: a GPU's pool and limits are left to those who need them, unless nothing else is known.
        second.pop("LimitGroups", None)
        return Submitted(first, submit(second, plugin_info(shot, "assemble", overlap), placement))
    except (RefusedError, UnreachableError) as error:
        error.hint = f"{error.hint} Job {first} was submitted and makes the chunks; delete it before you try again."
        raise


NUKE_CHUNK = 10
"""Frames a task of Nuke's: its start and the script's load are shared by so many."""


def submit_nuke(render: NukeRender, name: str, options: JobOptions, placement: Placement) -> str:
    """Have Deadline's own Nuke plug-in render an input; returns the job's id.

    Keys and their spelling are those of public submitters for that plug-in. Raises SettingsError, UnreachableError,
    RefusedError.
    """
    there = dataclasses.replace(
        placement, pool=placement.nuke_pool, group=placement.nuke_group, secondary_pool="", limits=(),
        machine_limit=0, concurrent_tasks=1, environment=(), plugin_directory="",
    )  # fmt: skip
    folder, _, files = render.files.replace("\\", "/").rpartition("/")
    job = {
        **_job(f"{name} {render.write.rpartition('.')[2]}", options, there, uuid.uuid4().hex),
        "Plugin": "Nuke",
        "BatchName": name,
        "Frames": render.frames,
        "ChunkSize": str(NUKE_CHUNK),
        "OutputDirectory0": folder,
        "OutputFilename0": files,
    }
    plugin = {
        "SceneFile": render.script,
        "Version": render.version,
        "NukeX": str(render.nukex),
        "WriteNode": render.write,
        "Views": render.view,
        "BatchMode": "True",
        "BatchModeIsMovie": "False",
        "ContinueOnError": "False",
        "RenderMode": "Use Scene Settings",
    }
    return submit(job, plugin, placement)


def submit_batch(
    table: Path, count: int, name: str, out: str, settings: ShotSettings, options: JobOptions, placement: Placement,
    shots_a_task: int = 1,
) -> Submitted:  # fmt: skip
    """Submit a batch: one job, a task for every `shots_a_task` rows, the table as its auxiliary file."""
    job = {
        **_job(name, options, placement, uuid.uuid4().hex),
        "Frames": f"1-{count}",
        "ChunkSize": str(shots_a_task),
        # One bad shot must not stop the others: only a task's own errors count.
        "OverrideJobFailureDetection": "true",
        "FailureDetectionJobErrors": str(count * (options.retries + 1)),
        "OutputDirectory0": out,
    }
    info = {"Mode": "batch", "Out": out, **_extras(setting_words(settings))}
    return Submitted(submit(job, info, placement, [table]))


def shot_job(
    shot: FarmShot, options: JobOptions, placement: Placement, size: int = 0, batch: str = "", request: str = ""
) -> dict[str, str]:
    """Job info of one shot. size: frames a task; 0 is the whole shot in one, whose borders are no seams."""
    return {
        **_job(shot.name, options, placement, request),
        **({"BatchName": batch} if batch else {}),
        "Frames": str(shot.frames),
        "ChunkSize": str(size or len(shot.frames)),
        "OutputDirectory0": shot.out,
        "OutputFilename0": "clean.####.exr",
    }


def plugin_info(shot: FarmShot, mode: str, overlap: int = 0) -> dict[str, str]:
    """What the plug-in reads. mode: shot, chunk or assemble. Paths as here: the worker maps them, never we."""
    settings = shot.settings
    shown = ("engine", "physics_prior", "prompt", "seed", "handles")
    info = {"Mode": mode, **{key_of(role): path for role, path in shot.paths().items()}, "Out": shot.out}
    info |= {"Engine": settings.engine, "PhysicsPrior": str(settings.physics_prior).lower(), "Seed": str(settings.seed)}
    info["Prompt"] = settings.prompt
    info["Handles"] = "" if settings.handles is None else str(settings.handles)
    if mode != "shot":
        info |= {"ShotFrames": str(shot.frames), "Overlap": str(overlap)}
    return {**info, **_extras(setting_words(settings, without=shown))}


def submit(job: Info, plugin: Info, placement: Placement, auxiliary: Sequence[Path] = ()) -> str:
    """Hand two job files to deadlinecommand; returns the job's id. Raises UnreachableError, RefusedError."""
    command = find_command(placement.deadlinecommand)
    with tempfile.TemporaryDirectory(prefix="void-deadline-") as folder:
        files = [Path(folder, "void_job_info.job"), Path(folder, "void_plugin_info.job")]
        for path, info in zip(files, (job, plugin)):
            path.write_bytes(file_text(info))
        try:
            done = call([command, *map(str, [*files, *auxiliary])], ANSWER_S)
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(
                f"{command} did not answer within {ANSWER_S} s.",
                f"Look in the Monitor for request {job.get('ExtraInfoKeyValue0', '')} before you submit again.",
            ) from error
        except OSError as error:
            raise UnreachableError(f"{command} can't be started: {error.strerror}.", "Check its rights.") from error
    text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    found = re.search(r"^\s*JobID=([0-9a-fA-F]{24})\s*$", text, re.M)
    # Its exit status alone is not to be trusted, and neither is either of the two lines.
    if not re.search(r"^\s*Result=Success\s*$", text, re.M) or not found:
        said = " ".join(text.split())[-400:] or f"exit status {done.returncode}, no words"
        raise RefusedError(f"Deadline refused the job: {said}", "Check the plug-in, pools and rights in the Monitor.")
    return found[1]


def standing(job: str, command: str = "") -> str:
    """How Deadline says a job stands: active, suspended, completed, failed or pending; "" where it knows no such job.

    command: whole path of deadlinecommand; empty looks where Deadline installs it. Blocks for seconds. Raises
    UnreachableError where it can't be asked.
    """
    text = _asked(find_command(command), "-GetJob", job, "True")
    # Public programs read either name; which of them a release writes is not documented.
    found = re.search(r"^\s*(?:Job)?Status=(\w+)", text, re.M)
    return found[1].lower() if found else ""


def error_report(job: str, command: str = "") -> str:
    """The file of a failed job's last error report, or nothing. Raises UnreachableError."""
    lines = _asked(find_command(command), "-GetJobErrorReportFilenames", job).split("\n")
    named = [line.strip() for line in lines if line.strip() and not line.startswith("Error")]
    return named[-1] if named else ""


def _asked(command: str, *words: str) -> str:
    try:
        done = call([command, *words], LOOK_ANSWER_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        raise UnreachableError(f"{command} did not answer: {error}.", "It is asked again.") from error
    return done.stdout.decode("utf-8", "replace").replace("\r", "")


def call(words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    """Run deadlinecommand. Raises OSError, subprocess.TimeoutExpired.

    A host with a window has no console and no standard handles on Windows: a program started from there must be given
    all three, or it can't be started, and no console, or one flashes up. Source: Deadline's own submitter for Nuke.
    """
    more: dict[str, Any] = {}
    if os.name == "nt":
        info = subprocess.STARTUPINFO()  # type: ignore[attr-defined,unused-ignore]
        info.dwFlags |= subprocess.STARTF_USESHOWWINDOW  # type: ignore[attr-defined,unused-ignore]
        info.wShowWindow = subprocess.SW_HIDE  # type: ignore[attr-defined,unused-ignore]
        more = {
            "startupinfo": info,
            "creationflags": subprocess.CREATE_NO_WINDOW,  # type: ignore[attr-defined,unused-ignore]
        }
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.run(words, stdin=none, stdout=pipe, stderr=pipe, timeout=timeout_s, check=False, **more)


def find_command(given: str = "") -> str:
    """Whole path of deadlinecommand. Raises UnreachableError.

    It lies in the folder that DEADLINE_PATH names; macOS keeps that folder's name in a file; Linux has a default.
    """
    name = "deadlinecommand.exe" if sys.platform == "win32" else "deadlinecommand"
    noted = Path("/Users/Shared/Thinkbox/DEADLINE_PATH")
    folders = [os.environ.get("DEADLINE_PATH", "")]
    folders += [noted.read_text(encoding="utf-8").strip()] if noted.is_file() else []
    folders += ["/opt/Thinkbox/Deadline10/bin"]
    for path in [given] if given else [str(Path(folder, name)) for folder in folders if folder]:
        if Path(path).is_file():
            return path
    found = None if given else shutil.which(name)
    if found:
        return found
    raise UnreachableError(
        f"{given or 'deadlinecommand'} was not found.",
        "Install Deadline's client here, or give --deadlinecommand or DEADLINE_PATH.",
    )


def file_text(info: Info) -> bytes:
    """A job file: `Key=Value` a line. UTF-16 with a mark where a value is not ASCII, as stock submitters write it.

    Raises SettingsError for a value that would be read as another key.
    """
    for key, value in info.items():
        if not re.fullmatch(r"[A-Za-z]\w*", key):
            raise SettingsError(f"{key!r} can't be a job's key.", "Use letters and digits.")
        check_text(key, value)
    text = "".join(f"{key}={value}\n" for key, value in info.items())
    return text.encode() if text.isascii() else codecs.BOM_UTF16_LE + text.encode("utf-16-le")


def _job(name: str, options: JobOptions, placement: Placement, request: str) -> dict[str, str]:
    """Job info that every kind of job shares."""
    info = {
        "Plugin": PLUGIN,
        "Name": name,
        "Comment": placement.comment,
        "Department": placement.department,
        "Priority": str(options.priority),
        "Pool": placement.pool,
        "SecondaryPool": placement.secondary_pool,
        "Group": placement.group,
        "LimitGroups": ",".join(placement.limits),
        "MachineLimit": str(placement.machine_limit),
        "ConcurrentTasks": str(placement.concurrent_tasks),
        "InitialStatus": "Suspended" if placement.suspended else "Active",
        # A guessed timeout kills long shots; an honest one is given by whoever submits.
        "EnableAutoTimeout": "false",
        "TaskTimeoutMinutes": str(options.timeout_minutes),
        "OnTaskTimeout": "Error",
        "OverrideTaskFailureDetection": "true",
        "FailureDetectionTaskErrors": str(options.retries + 1),
        "CustomPluginDirectory": placement.plugin_directory,
        "ExtraInfoKeyValue0": f"void_request={request}",
    }
    for index, pair in enumerate(placement.environment):
        if not re.match(r"[A-Za-z_]\w*=", pair):
            raise SettingsError(f"--env {pair} is no pair.", "Write it as NAME=VALUE.")
        info[f"EnvironmentKeyValue{index}"] = pair
    return {key: value for key, value in info.items() if value}


def _after(job: str, shot: FarmShot) -> dict[str, str]:
    """What makes a job the assembly that follows `job`."""
    return {
        "Name": f"{shot.name} assemble",
        "Frames": str(shot.frames.first),
        "ChunkSize": "1",
        "ConcurrentTasks": "1",
        **_waits([job]),
    }


def _waits(jobs: Sequence[str]) -> dict[str, str]:
    """What lets a job begin once others are complete, and not before."""
    return {
        "JobDependencies": ",".join(jobs),
        "ResumeOnCompleteDependencies": "true",
        "ResumeOnDeletedDependencies": "false",
        "ResumeOnFailedDependencies": "false",
    }


def _extras(words: Sequence[str]) -> dict[str, str]:
    """Settings without a field of their own in the Monitor, a word a key."""
    return {f"Extra{index}": word for index, word in enumerate(words)}
