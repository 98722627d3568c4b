"""Strict stand-in for deadlinecommand: takes a submission as the real one does, and refuses what is wrong with it.

What comes in: two job files and auxiliary files. What goes out: `Result=Success` and a job id, and the job as JSON in
the folder that FAKE_DEADLINE_REPOSITORY names; or `Result=Failure` and a reason. Keys: the union of a stock script that
writes every key and of public submitters. Unknown keys are refused here (Deadline itself passes them over in silence).
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import sys
import uuid
from pathlib import Path

NUMBERS = {
    "ChunkSize", "ConcurrentTasks", "Priority", "MachineLimit", "TaskTimeoutMinutes", "TaskTimeoutSeconds",
    "FailureDetectionTaskErrors", "FailureDetectionJobErrors",
}  # fmt: skip
CHOICES = {
    "InitialStatus": {"Active", "Suspended"},
    "OnTaskTimeout": {"Error", "Notify", "ErrorAndNotify", "Complete"},
    **{
        key: {"true", "false"}
        for key in (
            "EnableAutoTimeout", "OverrideTaskFailureDetection", "OverrideJobFailureDetection", "IsFrameDependent",
            "ResumeOnCompleteDependencies", "ResumeOnDeletedDependencies", "ResumeOnFailedDependencies",
            "IncludeEnvironment", "UseJobEnvironmentOnly",
        )
    },
}  # fmt: skip
TEXTS = {
    "Plugin", "Name", "BatchName", "Frames", "Comment", "Department", "UserName", "MachineName", "Pool",
    "SecondaryPool", "Group", "Whitelist", "Blacklist", "LimitGroups", "JobDependencies", "OnJobComplete",
    "CustomPluginDirectory",
    "PreJobScript", "PostJobScript", "PreTaskScript", "PostTaskScript",
}  # fmt: skip
NUMBERED = r"(EnvironmentKeyValue|ExtraInfoKeyValue|ExtraInfo|OutputDirectory|OutputFilename|AssetDependency)\d+"
OPTION_TYPES = {"label", "string", "boolean", "integer", "enum", "filename", "folder", "multilinemultifilename"}
POOLS, GROUPS = {"none", "gpu", "cpu"}, {"none", "cuda24"}


NUKE = {
    "SceneFile", "Version", "NukeX", "WriteNode", "Views", "BatchMode", "BatchModeIsMovie", "ContinueOnError",
    "EnforceRenderOrder", "RenderMode", "Threads", "RamUse", "StackSize", "UseGpu", "GpuOverride",
    "PerformanceProfiler", "PerformanceProfilerDir",
}  # fmt: skip
"""Plugin info of Deadline's own Nuke plug-in. Source: public submitters for it, among them its own."""


class Refused(Exception):
    pass


def read(path: Path) -> dict[str, str]:
    """A job file: UTF-16 with a mark, or ASCII. Anything else reads differently on another machine."""
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = raw.decode("utf-16")
    elif raw.isascii():
        text = raw.decode()
    else:
        raise Refused(f"{path.name} is neither ASCII nor marked UTF-16")
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"\w+", key):
            raise Refused(f"{path.name}:{number}: not Key=Value: {line!r}")
        if key in found:
            raise Refused(f"{path.name}:{number}: {key} stands twice")
        found[key] = value.strip()
    return found


def frames(text: str) -> list[int]:
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise Refused(f"Frames={text} can't be read")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def check_job(job: dict[str, str], repository: Path) -> None:
    for key, value in job.items():
        if key in NUMBERS:
            if not value.isdigit():
                raise Refused(f"{key}={value} is no number")
        elif key in CHOICES:
            if value not in CHOICES[key]:
                raise Refused(f"{key}={value} is not one of {sorted(CHOICES[key])}")
        elif key not in TEXTS and not re.fullmatch(NUMBERED, key):
            raise Refused(f"unknown job info key {key}")
        elif key.startswith(("EnvironmentKeyValue", "ExtraInfoKeyValue")) and "=" not in value:
            raise Refused(f"{key}={value} is no pair")
    if job.get("Pool", "none") not in POOLS or job.get("Group", "none") not in GROUPS:
        raise Refused(f"no such pool or group: {job.get('Pool')}, {job.get('Group')}")
    for dependency in filter(None, job.get("JobDependencies", "").split(",")):
        if not (repository / f"{dependency}.json").is_file():
            raise Refused(f"JobDependencies={dependency}: no such job")


def find_plugin(job: dict[str, str], repository: Path) -> Path:
    """The folder of the job's plug-in, its files read through once."""
    name = job.get("Plugin") or ""
    if name == "Nuke" and "CustomPluginDirectory" not in job:
        return repository / "plugins/Nuke"  # which comes with Deadline
    folder = Path(job.get("CustomPluginDirectory") or repository / "custom/plugins") / name
    if not name or not (folder / f"{name}.py").is_file():
        raise Refused(f"plugin '{name}' was not found in {folder.parent}")
    for suffix in ("param", "options"):
        parser = configparser.RawConfigParser(strict=True, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string((folder / f"{name}.{suffix}").read_text("utf-8"))
        except (OSError, configparser.Error) as error:
            raise Refused(f"{name}.{suffix}: {error}") from error
        for section in parser.sections():
            if parser[section].get("Type") not in OPTION_TYPES or not parser[section].get("Label"):
                raise Refused(f"{name}.{suffix}: [{section}] lacks a known Type or a Label")
    return folder


def submit(words: list[str], repository: Path) -> str:
    if len(words) < 2 or words[0].startswith("-"):
        raise Refused(f"usage: JOBINFO PLUGININFO [AUXILIARY ...], not {words}")
    job, plugin = read(Path(words[0])), read(Path(words[1]))
    check_job(job, repository)
    folder = find_plugin(job, repository)
    if job["Plugin"] == "Nuke":
        odd = set(plugin) - NUKE
        if odd or not Path(plugin.get("SceneFile", "")).is_file() or not re.fullmatch(r"\d+\.\d+", plugin["Version"]):
            raise Refused(f"Nuke's plug-in info: {sorted(odd)}, {plugin}")
    identity = uuid.uuid4().hex[:24]
    (repository / identity).mkdir()
    auxiliary = [str(shutil.copy(word, repository / identity)) for word in words[2:]]
    numbers, size = frames(job.get("Frames", "0")), int(job.get("ChunkSize", "1"))
    tasks = [{"frames": numbers[i : i + size], "status": "Queued", "errors": []} for i in range(0, len(numbers), size)]
    record = {
        "job": job,
        "plugin": plugin,
        "folder": str(folder),
        "auxiliary": list(map(str, auxiliary)),
        "tasks": tasks,
    }
    (repository / f"{identity}.json").write_text(json.dumps(record))
    return identity


def standing(repository: Path, identity: str) -> str:
    """A job's status: the words of the scripting reference (Active, Suspended, Completed, Failed, Pending)."""
    record = json.loads((repository / f"{identity}.json").read_text())
    states = [task["status"] for task in record["tasks"]]
    if "Failed" in states:
        return "Failed"
    if set(states) == {"Completed"}:
        return "Completed"
    if record["job"].get("InitialStatus") == "Suspended":
        return "Suspended"
    before = filter(None, record["job"].get("JobDependencies", "").split(","))
    return "Pending" if any(standing(repository, job) != "Completed" for job in before) else "Active"


def answer(words: list[str], repository: Path) -> str:
    """What is asked about a job. Sources: public programs that call `-GetJob ID True` and read its Key=Value lines
    (JobStatus or Status), and `-GetJobErrorReportFilenames ID`, a name a line."""
    if words[0] == "-GetJob" and len(words) == 3 and words[2] in ("True", "False"):
        key = os.environ.get("FAKE_DEADLINE_STATUS_KEY", "JobStatus")
        return f"JobId={words[1]}\r\n{key}={standing(repository, words[1])}\r\nPriority=50\r\n"
    if words[0] == "-GetJobErrorReportFilenames" and len(words) == 2:
        tasks = json.loads((repository / f"{words[1]}.json").read_text())["tasks"]
        count = sum(len(task["errors"]) for task in tasks)
        return "".join(f"{repository}/reports/{words[1]}_{index}.bz2\r\n" for index in range(count))
    raise Refused(f"unknown command {words}")


def main() -> int:
    repository = Path(os.environ["FAKE_DEADLINE_REPOSITORY"])
    if sys.argv[1:2] and sys.argv[1].startswith("-Get"):
        try:
            sys.stdout.write(answer(sys.argv[1:], repository))
        except (Refused, OSError) as error:
            sys.stdout.write(f"Error: {error}\n")
        return 0
    try:
        identity = submit(sys.argv[1:], Path(os.environ["FAKE_DEADLINE_REPOSITORY"]))
    except (Refused, OSError, UnicodeDecodeError) as error:
        # The real one has been seen to fail with status 0.
        sys.stdout.write(f"Result=Failure\nError: {error}\n")
        return 0
    sys.stdout.write(f"Result=Success\nJobID={identity}\nThe job was submitted successfully.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
