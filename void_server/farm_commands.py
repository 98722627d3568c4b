"""`void-server farm ...`: send shots to a farm from here, and run its tasks there.

What comes in: words from a shell, or from the job that a farm runs. What goes out: an exit status, and text through
`console`. Thin: it reads flags, calls one function, and says what came of it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server import shot_flags
from void_server.console import LOG_FORMATS, Console
from void_server.farm import bundle, chunks
from void_server.farm.shot import FarmShot
from void_server.wire.errors import SettingsError
from void_server.wire.report import Report
from void_server.wire.shot import FrameRange, ShotFiles, ShotSettings

Cancelled = Callable[[], bool]
Run = Callable[[argparse.Namespace, Console, Cancelled], int]


def add_to(farm: argparse.ArgumentParser) -> None:
    """Give `void-server farm` its own commands."""
    commands = farm.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        sub.add_argument("--log-format", choices=LOG_FORMATS, default="human", help="who reads what is said")
        sub.add_argument("--json", action="store_true", help="the same as --log-format json")
        return sub

    make = command("bundle", _bundle, "write a job bundle: for Deadline Cloud, or openjd run")
    shot_flags.add_to(make)
    make.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="where to write it")
    _add_job(make)

    task = command("task", _task, "on a worker: one shot, or one chunk of it")
    shot_flags.add_to(task)
    _add_worker(task)
    task.add_argument("--chunk", type=FrameRange.parse, metavar="A-B", help="make these of the shot's --frames")

    joined = command("assemble", _assemble, "on a worker: make one result of a shot's chunks")
    shot_flags.add_to(joined)
    _add_worker(joined)


def _add_job(parser: argparse.ArgumentParser) -> None:
    """How the farm is to run the job."""
    job = bundle.JobOptions()
    parser.add_argument("--chunk", type=int, metavar="N", help="split into chunks of at most N frames; default: whole")
    _add_overlap(parser)
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs a task asks for; default: 1 with engine void")
    parser.add_argument("--gpu-memory-gb", type=float, default=job.gpu_memory_mib / 1024, metavar="N")
    parser.add_argument("--memory-gb", type=float, default=job.memory_mib / 1024, metavar="N")
    parser.add_argument("--timeout-minutes", type=int, default=job.timeout_minutes, metavar="N", help="longest task")
    parser.add_argument("--priority", type=int, default=job.priority, metavar="N", help="0 to 100")
    parser.add_argument("--retries", type=int, default=job.retries, metavar="N", help="tries after a task failed")
    parser.add_argument("--worker-command", default=job.command, metavar="CMD", help="void-server on the worker")
    parser.add_argument("--name", default="", help="what the job is called; default: the output folder's name")


def _add_overlap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overlap", type=int, default=chunks.DEFAULT_OVERLAP, metavar="N", help="frames faded on either side of a seam"
    )


def _add_worker(parser: argparse.ArgumentParser) -> None:
    _add_overlap(parser)
    parser.add_argument("--path-mapping", type=Path, metavar="FILE", help="a session's rules, schema pathmapping-1.0")


def _job(args: argparse.Namespace, settings: ShotSettings) -> bundle.JobOptions:
    """Raises SettingsError for what no farm takes."""
    gpus = args.gpus if args.gpus is not None else int(settings.engine == "void")
    if not 0 <= args.priority <= 100:
        raise SettingsError(f"--priority {args.priority} is out of range.", "Give 0 to 100.")
    for flag in ("timeout_minutes", "retries", "gpu_memory_gb", "memory_gb"):
        if getattr(args, flag) < (flag != "retries"):
            raise SettingsError(f"--{flag.replace('_', '-')} {getattr(args, flag):g} is too small.", "Give more.")
    return bundle.JobOptions(
        gpus=gpus,
        gpu_memory_mib=round(args.gpu_memory_gb * 1024),
        memory_mib=round(args.memory_gb * 1024),
        timeout_minutes=args.timeout_minutes,
        priority=args.priority,
        retries=args.retries,
        command=args.worker_command,
    )


def _settled(args: argparse.Namespace, console: Console) -> ShotSettings:
    """The settings, with `auto` decided here: on a farm, every machine must come to the same engine."""
    settings = shot_flags.settings(args)
    if settings.engine == "auto":
        name = "void" if args.gpus else "propagate"
        why = "because the job asks for a GPU" if args.gpus else "because the job asks for no GPU (--gpus 1 takes void)"
        Report(console.on_event).note(f"Engine: {name}, {why}.")
        settings = dataclasses.replace(settings, engine=name)
    return settings


def _checked_shot(args: argparse.Namespace, console: Console) -> tuple[FarmShot, ShotFiles]:
    """Everything that is wrong with a shot is said here, and not by a worker at night."""
    from void_server import check

    settings, files = _settled(args, console), shot_flags.files(args)
    checked = check.check_shot(files, settings)
    check.check_output(args.out, files)
    for code, message in checked.warnings:
        Report(console.on_event).warn(code, message)
    frames = FrameRange(checked.wanted[0], checked.wanted[-1])
    optional = {role: getattr(args, role) for role in ("affected", "keep", "reference")}
    return FarmShot(args.plate, args.matte, str(args.out), frames, settings, name=args.name, **optional), files


def _bundle(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    shot, files = _checked_shot(args, console)
    written = bundle.write(shot, args.bundle, _job(args, shot.settings), args.chunk, args.overlap, files)
    fields = {"bundle": str(args.bundle), "files": [path.name for path in written], "clean": shot.clean}
    text = f"{written[0]}\nrun it here:  openjd run {written[0]}\nclean frames will be {shot.clean}"
    console.result(fields, text)
    return 0


def _mapped(args: argparse.Namespace) -> tuple[ShotFiles, ShotSettings]:
    """A task's files and settings, its paths as this worker sees them."""
    from void_server.farm import path_mapping

    rules = path_mapping.read(args.path_mapping) if args.path_mapping else []
    for role in ("plate", "matte", "affected", "keep", "reference", "out"):
        given = getattr(args, role)
        if given is not None:
            setattr(args, role, path_mapping.mapped(str(given), rules))
    args.out = Path(args.out)
    return shot_flags.files(args), shot_flags.settings(args)


def _task(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server import farm_task

    files, settings = _mapped(args)
    report = Report(console.on_event, cancelled)
    if args.chunk is None:
        manifest = farm_task.run_shot(files, settings, args.out, report)
    else:
        manifest = farm_task.run_chunk(files, settings, args.out, args.chunk, args.overlap, report)
    _say_done(console, args.out, manifest)
    return 0


def _assemble(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server import assemble

    files, settings = _mapped(args)
    manifest = assemble.assemble(files, settings, args.out, args.overlap, Report(console.on_event, cancelled))
    _say_done(console, args.out, manifest)
    return 0


def _say_done(console: Console, out: Path, manifest: dict[str, Any]) -> None:
    console.result({"out": str(out), **manifest}, f"{len(manifest['frames'])} frames finished for {out}")
