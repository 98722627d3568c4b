"""A farm in the shape of a daemon's client, so that a node or a strip sends to either and waits in the same way.

What comes in: an address that names a farm, a shot's files and settings, the folder that the result goes to. What goes
out: the same `JobStatus`, events and errors as `wire.client.Client`. How a job stands is read from its folder, which
the farm's tasks write into, so a host may close, and any machine may ask again later. Where Deadline's client is
installed, it is asked now and then as well: a job that failed, was deleted or never reached a worker writes nothing.

    deadline10                                    the farm's defaults
    deadline10:pool=gpu;chunk=24;handles=8        and with what `farm submit` calls --pool, --chunk, ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from void_server.farm import chunks, deadline10
from void_server.farm.batch import FAILED
from void_server.farm.bundle import JobOptions
from void_server.farm.shot import FarmShot
from void_server.wire.errors import (
    JobCancelledError,
    JobError,
    JobNotFoundError,
    OutputError,
    RefusedError,
    SettingsError,
    UnreachableError,
)
from void_server.wire.jobs import JobStatus
from void_server.wire.report import Event
from void_server.wire.shot import OPTIONAL_ROLES, FrameRange, ShotFiles, ShotSettings, spoken_role

RECORD = "farm.json"
"""What was submitted, in the result's folder."""
CANCELLED = "farm.cancelled"
"""Laid into the result's folder by a host that wants no result; tasks look for it between frames."""
LOOK_S = 1.0
"""How often a folder is looked at; on a network disk a look is a round trip for each chunk."""

ASK_S = 30.0
"""How often Deadline itself is asked; each time it starts a runtime and talks to a database."""
LOST_AFTER = 3
"""Answers in a row that a job is unknown, or completed without a result here, before that is believed."""

OnEvent = Optional[Callable[[Event], None]]
Cancelled = Optional[Callable[[], bool]]


def is_farm(address: str) -> bool:
    """Whether an address names a farm and no daemon.

    >>> is_farm("deadline10:pool=gpu"), is_farm("tcp://127.0.0.1:5790")
    (True, False)
    """
    return re.match(r"deadline10(:|$)", address) is not None


@dataclasses.dataclass(frozen=True)
class Target:
    """What an address says."""

    options: JobOptions
    placement: deadline10.Placement
    chunk: Optional[int]  # noqa: UP045 - hosts on Python 3.9 may ask for type hints
    overlap: int
    handles: Optional[int]  # noqa: UP045


def parse(address: str) -> Target:
    """Read an address. Raises SettingsError for a name or a number that it does not know."""
    if not is_farm(address):
        raise SettingsError(f"'{address}' names no farm.", "Write deadline10, or deadline10:pool=gpu;chunk=24.")
    given: dict[str, str] = {}
    for part in filter(None, address.partition(":")[2].split(";")):
        name, equals, value = part.partition("=")
        if not equals or name in given:
            raise SettingsError(f"'{part}' in {address} is no pair, or stands twice.", "Write it as pool=gpu.")
        given[name.strip()] = value.strip()
    numbers = {name: _number(address, given, name) for name in (*_SPLIT, *_JOB, "concurrent_tasks")}
    texts: dict[str, Any] = {name: given.pop(name, "") for name in _TEXTS}
    limits = tuple(filter(None, given.pop("limits", "").split(",")))
    if given:
        raise SettingsError(f"{address} says {', '.join(given)}, which is unknown.", f"Known: {', '.join(_KNOWN)}.")
    job = {name: numbers[name] for name in _JOB if numbers[name] is not None}
    placement = deadline10.Placement(limits=limits, concurrent_tasks=numbers["concurrent_tasks"] or 1, **texts)
    overlap = chunks.DEFAULT_OVERLAP if numbers["overlap"] is None else numbers["overlap"]
    return Target(JobOptions(**job), placement, numbers["chunk"], overlap, numbers["handles"])


_SPLIT = ("chunk", "overlap", "handles")
_JOB = ("gpus", "priority", "retries", "timeout_minutes")
_TEXTS = (
    "pool", "secondary_pool", "group", "department", "comment", "plugin_directory", "deadlinecommand", "nuke_pool",
    "nuke_group",
)  # fmt: skip
_KNOWN = (*_TEXTS, "limits", *_SPLIT, "concurrent_tasks", *_JOB)


def _number(address: str, given: dict[str, str], name: str) -> Any:
    text = given.pop(name, None)
    if text is None:
        return None
    if not text.isdigit():
        raise SettingsError(f"{name}={text} in {address} is no number.", "Give a whole number.")
    return int(text)


class FarmClient:
    """Speaks to one farm about the job of one result folder. Blocking calls only; safe to use from any thread."""

    def __init__(self, address: str, out: Path) -> None:
        """Starts nothing. Raises SettingsError for a bad address. out: where the frames will be; workers see it too."""
        self._target = parse(address)
        self._out = out

    def __enter__(self) -> FarmClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held open; the job goes on."""

    def submit(
        self,
        files: ShotFiles,
        settings: ShotSettings,
        *,
        name: str = "",
        request: str | None = None,
        on_event: OnEvent = None,
        cancelled: Cancelled = None,
        renders: Sequence[deadline10.NukeRender] = (),
    ) -> JobStatus:
        """Submit a shot; the same `request` again is the same job.

        files: each role's must be one sequence on a disk that the workers see; nothing is sent. renders: what Nuke
        renders there first, of inputs that are not there yet.
        Raises SettingsError before anything is submitted, UnreachableError, RefusedError, OutputError.
        """
        held = self._record()
        if held is not None and request and held.get("request") == request:
            return self.status(held["job"])
        if settings.deliver != "clean":
            raise SettingsError(f"A farm makes clean plates, not {settings.deliver}.", "Use a daemon for previews.")
        shot = self._shot(files, settings, name)
        if cancelled is not None and cancelled():
            raise JobCancelledError("Cancelled.")
        for stale in (self._out / CANCELLED, self._out / "manifest.json", *self._failures()):
            stale.unlink(missing_ok=True)
        target = self._target
        first: list[str] = []
        try:
            for render in renders:
                first.append(deadline10.submit_nuke(render, shot.name, target.options, target.placement))
            done = deadline10.submit_shot(
                shot, target.options, target.placement, target.chunk, target.overlap, after=first
            )
        except (RefusedError, UnreachableError) as error:
            if first:
                error.hint += f" Jobs that render the inputs were submitted; delete them: {', '.join(first)}."
            raise
        job = "deadline10:" + "+".join(filter(None, (*first, done.job, done.assemble_job)))
        fields = {
            "job": job, "request": request, "name": shot.name, "frames": str(shot.frames), "created": time.time(),
            "renders": first,
        }  # fmt: skip
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            (self._out / RECORD).write_text(json.dumps(fields), encoding="utf-8")
        except OSError as error:
            hint = f"Job {done.job} was submitted; delete it in the Monitor."
            raise OutputError(f"{self._out} can't be written: {error.strerror}.", hint) from error
        return self.status(job)

    def status(self, job: str) -> JobStatus:
        """How the job stands, from its folder. Raises JobNotFoundError where that holds another job or none."""
        held = self._record()
        if held is None or held["job"] != job:
            raise JobNotFoundError(f"{self._out} holds no job {job}.", "Look for it in the Monitor.")
        frames = FrameRange.parse(held["frames"])
        done = len({frame for frame in self._noted() if frame in frames})
        state, stage = ("running", "frames") if done else ("queued", "queued")
        if (self._out / "manifest.json").is_file():
            state = "done"
        elif (self._out / CANCELLED).exists():
            state = "cancelled"
        else:
            trouble = self._trouble()
            state, stage = ("running", f"on the farm: {trouble}") if trouble else (state, stage)
        warnings = self._warnings() if state == "done" else ()
        return JobStatus(job, held["name"], state, held["created"], stage, done, len(frames), done, warnings=warnings)

    def cancel(self, job: str) -> JobStatus:
        """Want no result any more: its tasks stop between frames, and say so in the Monitor."""
        status = self.status(job)
        if not status.final:
            (self._out / CANCELLED).touch()
        return self.status(job)

    def watch(self, job: str, on_event: OnEvent = None, cancelled: Cancelled = None) -> JobStatus:
        """Block until the job is done, cancelled, or failed for good, which is when Deadline says so and not earlier:
        a task that failed may be tried again, and its reason is told as the stage meanwhile."""
        said: tuple[Any, ...] = ()
        held = self._record() or {}
        farm = _Farm(job, self._target.placement.deadlinecommand, held.get("renders") or ())
        while True:
            status = self.cancel(job) if cancelled is not None and cancelled() else self.status(job)
            if not status.final:
                status = farm.judged(status, self._trouble)
            now = (status.state, status.stage, status.done)
            if on_event is not None and now != said:
                said = now
                on_event({"event": "state", "state": status.state, "job": job})
                progress = {"stage": status.stage, "done": status.done, "total": status.total, "frame": None}
                on_event({"event": "progress", **progress, "job": job})
            if status.final:
                return status
            threading.Event().wait(LOOK_S)

    def fetch(self, job: str, out: Path, *, on_event: OnEvent = None, cancelled: Cancelled = None) -> list[Path]:
        """The frames lie where they were asked for. Raises OutputError for another folder, JobNotFoundError."""
        self.status(job)
        if out.absolute() != self._out.absolute():
            raise OutputError(f"The farm writes to {self._out}, not {out}.", "Copy the frames.")
        return sorted(p for p in out.iterdir() if p.suffix in (".exr", ".png", ".json") and p.name != RECORD)

    def _shot(self, files: ShotFiles, settings: ShotSettings, name: str) -> FarmShot:
        target = self._target
        if target.handles is not None:
            settings = dataclasses.replace(settings, handles=target.handles)
        if settings.engine == "auto":
            # Every machine must come to the same engine, as with `farm submit`.
            settings = dataclasses.replace(settings, engine="void" if target.options.gpus else "propagate")
        if not files.plate or not files.matte:
            raise SettingsError("The shot has no plate or no matte.", "Give at least one frame of each.")
        patterns = {role: pattern(role, files.of(role)) for role in OPTIONAL_ROLES if files.of(role)}
        return FarmShot(
            pattern("plate", files.plate),
            pattern("matte", files.matte),
            str(self._out),
            settings.frames or FrameRange(min(files.plate), max(files.plate)),
            settings,
            name=re.sub(r"[\x00-\x1f\"]", " ", name),
            **patterns,
        )

    def _record(self) -> dict[str, Any] | None:
        try:
            fields = json.loads((self._out / RECORD).read_text(encoding="utf-8"))
            return fields if isinstance(fields, dict) and isinstance(fields.get("job"), str) else None
        except (OSError, ValueError):
            return None

    def _noted(self) -> Iterator[int]:
        """Every frame that some task has finished."""
        for journal in (self._out / "frames.jsonl", *self._out.glob(f"{chunks.FOLDER}/*/frames.jsonl")):
            try:
                lines = journal.read_text(encoding="utf-8").splitlines()
            except OSError:
                continue
            for line in lines:
                found = re.match(r'\{"frame": (-?\d+)', line)
                if found:
                    yield int(found[1])

    def _warnings(self) -> tuple[str, ...]:
        """What the manifest wants the artist to know."""
        try:
            found = json.loads((self._out / "manifest.json").read_text(encoding="utf-8"))["warnings"]
            return tuple(str(warning["message"]) for warning in found)
        except (OSError, ValueError, KeyError, TypeError):
            return ()

    def _trouble(self) -> str:
        """What the last task that failed said of it, or nothing."""
        for path in self._failures():
            try:
                return str(json.loads(path.read_text(encoding="utf-8"))["message"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return ""

    def _failures(self) -> list[Path]:
        return [self._out / FAILED, *sorted(self._out.glob(f"{chunks.FOLDER}/*/{FAILED}"))]


class _Farm:
    """What Deadline itself says about a job, asked at most every ASK_S."""

    def __init__(self, job: str, command: str, renders: Sequence[str] = ()) -> None:
        """renders: those of the jobs in which Nuke makes the inputs."""
        self._jobs = job.removeprefix("deadline10:").split("+")
        self._renders = renders
        self._command = command
        self._next = 0.0
        self._odd = 0
        self._said = ""

    def judged(self, status: JobStatus, trouble: Callable[[], str]) -> JobStatus:
        """A job's status from its folder, with Deadline's word on it. trouble: reads what the last failed task said."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + ASK_S
            try:
                job, self._said = self._unfinished()
            except UnreachableError as error:
                # Not every machine that looks at a folder has Deadline's client; frames tell of themselves.
                self._said = "" if status.done else f"queued: {error.message}"
                return self._with_stage(status)
            if self._said == "failed":
                return self._failed(status, job, trouble)
            self._odd = self._odd + 1 if self._said in ("", "completed") else 0
            if self._odd >= LOST_AFTER:
                return self._lost(status, job)
            waiting = {"suspended": "queued: suspended in the Monitor", "pending": "queued: waits for another job"}
            usual = "queued: Nuke renders the inputs" if job in self._renders else ""
            self._said = waiting.get(self._said, usual)
        return self._with_stage(status)

    def _unfinished(self) -> tuple[str, str]:
        """(id, standing) of the job that failed, else of the first that is not completed."""
        said = [(job, deadline10.standing(job, self._command)) for job in self._jobs]
        failed = [found for found in said if found[1] == "failed"]
        return next(iter(failed), next((found for found in said if found[1] != "completed"), said[-1]))

    def _with_stage(self, status: JobStatus) -> JobStatus:
        if self._said and status.state == "queued":
            return dataclasses.replace(status, stage=self._said)
        return status

    def _failed(self, status: JobStatus, job: str, trouble: Callable[[], str]) -> JobStatus:
        # Read now: the task may have failed since the folder was looked at. A network disk may be a look behind.
        reason = trouble()
        if not reason:
            threading.Event().wait(LOOK_S)
            reason = trouble() or ("Nuke renders an input there" if job in self._renders else "no task left a reason")
        report = ""
        with contextlib.suppress(UnreachableError):
            report = deadline10.error_report(job, self._command)
        hint = f"Its report: {report}." if report else "Its reports are in the Monitor."
        error = JobError(f"Job {job} failed on the farm: {reason}", f"{hint} Requeue it there, or submit again.")
        return dataclasses.replace(status, state="failed", error=error)

    def _lost(self, status: JobStatus, job: str) -> JobStatus:
        if self._said:
            error = JobError(
                f"Deadline says job {job} is completed, but its result is not in the folder it was to go to.",
                "See that this machine and the workers mean the same disk by that path.",
            )
        else:
            error = JobError(f"Deadline no longer knows job {job}.", "Somebody deleted it. Submit again.")
        return dataclasses.replace(status, state="failed", error=error)


def pattern(role: str, files: Mapping[int, Path]) -> str:
    """The one pattern that names a role's files by their frame numbers. Raises SettingsError where none does.

    >>> pattern("plate", {998: Path("/p/a.0998.exr"), 1001: Path("/p/a.1001.exr")})
    '/p/a.####.exr'
    """
    first = min(files)
    name = files[first].name
    odd = ""
    # From the last number on: `plate.1001.beauty2.exr` is frame 1001.
    for match in reversed(list(re.finditer(rf"(?<!\d){'-' * (first < 0)}0*{abs(first)}(?!\d)", name))):
        head, tail = name[: match.start()], name[match.end() :]
        padded = len(match[0])
        if not match[0].lstrip("-").startswith("0"):
            padded = min(len(f"{frame}") for frame in files)
        other = next((path for frame, path in files.items() if path.name != f"{head}{frame:0{padded}d}{tail}"), None)
        if other is None and len({path.parent for path in files.values()}) == 1:
            return str(files[first].with_name(f"{head}{'#' * padded}{tail}"))
        odd = odd or str(other or files[max(files)])
    if odd:
        raise SettingsError(f"{spoken_role(role)} {odd} is not of the sequence of {files[first]}.", "Use one sequence.")
    raise SettingsError(f"{files[first]} does not hold its frame's number, {first}.", "Number the files.")
