"""`void-server farm ...`: send shots to a farm from here, and run its tasks there.

What comes in: words from a shell, or from the job that a farm runs. What goes out: an exit status, and text through
`console`. Thin: it reads flags, calls one function, and says what came of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server.commands import shot_flags
from void_server.commands.terminal.console import LOG_FORMATS, Console
from void_server.farm import batch, bundle, chunks
from void_server.farm.shot import FarmShot, setting_words
from void_server.wire.errors import JobError, OutputError, SettingsError, to_wire
from void_server.wire.report import Report
from void_server.wire.shot import OPTIONAL_ROLES, ROLES, FrameRange, ShotFiles, ShotSettings

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
    _add_shots(make)
    make.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="where to write it")
    _add_job(make)

    send = command("submit", _submit, "send a shot, or a batch of shots, to Deadline")
    _add_shots(send)
    send.add_argument("--to", choices=("deadline10", "deadline-cloud"), default="deadline10")
    _add_job(send)
    _add_placement(send)

    task = command("task", _task, "on a worker: one shot, or one chunk of it")
    shot_flags.add_to(task)
    _add_worker(task)
    task.add_argument("--chunk", type=FrameRange.parse, metavar="A-B", help="make these of the shot's --frames")

    joined = command("assemble", _assemble, "on a worker: make one result of a shot's chunks")
    shot_flags.add_to(joined)
    _add_worker(joined)

    rows = command("batch", _batch, "on a worker, or here: some or all shots of a batch, one after the other")
    shot_flags.add_to(rows, of_batch=True)
    rows.add_argument("--rows", type=FrameRange.parse, metavar="A-B", help="which; default: all")
    _add_worker(rows)

    kept = command("warm", _warm, "on a worker: start or stop the daemon of a session")
    kept.add_argument("action", choices=("start", "stop"))
    kept.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder of the session's own")

    told = command("report", _report, "how every shot of a batch stands, and why those that failed did")
    told.add_argument("shots", metavar="SHOTS")
    told.add_argument("--out", type=Path, required=True, metavar="DIR")


def _add_shots(parser: argparse.ArgumentParser) -> None:
    """One shot, or `--batch` and no plate."""
    shot_flags.add_to(parser, required=False)
    parser.add_argument("--batch", type=Path, metavar="SHOTS", help="a CSV or a folder of shots, in place of PLATE")
    parser.add_argument("--shots-a-task", type=int, default=1, metavar="N", help="with --batch; default: 1")


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
    parser.add_argument("--warm", action=argparse.BooleanOptionalAction, default=None,
                        help="a daemon a session: weights load once; default: where it saves something")  # fmt: skip
    parser.add_argument("--worker-command", default=job.command, metavar="CMD", help="void-server on the worker")
    parser.add_argument("--name", default="", help="what the job is called; default: the output folder's name")


def _add_placement(parser: argparse.ArgumentParser) -> None:
    """Where a farm runs the job."""
    ten = parser.add_argument_group("deadline10")
    ten.add_argument("--pool", default="")
    ten.add_argument("--secondary-pool", default="", metavar="POOL")
    ten.add_argument("--group", default="")
    ten.add_argument("--limit", action="append", default=[], metavar="NAME", help="may be repeated")
    ten.add_argument("--machine-limit", type=int, default=0, metavar="N", help="most machines at once; default: any")
    ten.add_argument("--concurrent-tasks", type=int, default=1, metavar="N", help="tasks at once on one machine")
    ten.add_argument("--department", default="")
    ten.add_argument("--comment", default="")
    ten.add_argument("--suspended", action="store_true", help="wait in the Monitor until somebody resumes it")
    ten.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the worker's process")
    ten.add_argument("--plugin-directory", default="", metavar="DIR", help="try the plug-in without installing it")
    ten.add_argument("--deadlinecommand", default="", metavar="PATH")
    cloud = parser.add_argument_group("deadline-cloud")
    cloud.add_argument("--farm-id", default="", help="default: what `deadline config` holds")
    cloud.add_argument("--queue-id", default="", help="default: what `deadline config` holds")
    cloud.add_argument("--bundle", type=Path, default=None, metavar="DIR", help="keep the job bundle here")


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
        warm=args.warm,
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
    from void_server.shot import check

    if args.plate is None or args.matte is None:
        raise SettingsError("PLATE or --matte is missing.", "Give both, or --batch.")
    settings, files = _settled(args, console), shot_flags.files(args)
    checked = check.check_shot(files, settings)
    check.check_output(args.out, files)
    for code, message in checked.warnings:
        Report(console.on_event).warn(code, message)
    frames = FrameRange(checked.wanted[0], checked.wanted[-1])
    optional = {role: getattr(args, role) for role in OPTIONAL_ROLES}
    return FarmShot(args.plate, args.matte, str(args.out), frames, settings, name=args.name, **optional), files


def _bundle(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    written, clean = _written(args, console, args.bundle)
    fields = {"bundle": str(args.bundle), "files": [path.name for path in written], "clean": clean}
    text = f"{written[0]}\nrun it here:  openjd run {written[0]}\nclean frames will be {clean}"
    console.result(fields, text)
    return 0


def _written(args: argparse.Namespace, console: Console, folder: Path) -> tuple[list[Path], str]:
    """Write the bundle of a shot or a batch: (its files, where the clean frames will be)."""
    if args.batch is not None:
        rows, settings = _checked_batch(args, console)
        shots = folder / "shots.csv"
        _make(folder)
        shots.write_bytes(batch.table(rows))
        job = _job(args, settings)
        out = str(args.out.absolute())
        written = bundle.write_batch(shots, len(rows), out, settings, folder, job, args.shots_a_task, args.name)
        return written, str(args.out.absolute() / "*" / "clean.####.exr")
    shot, files = _checked_shot(args, console)
    written = bundle.write(shot, folder, _job(args, shot.settings), args.chunk, args.overlap, files)
    return written, shot.clean


def _submit(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    if args.to == "deadline-cloud":
        return _submit_to_cloud(args, console)
    from void_server.farm import deadline10

    placement = deadline10.Placement(
        pool=args.pool, secondary_pool=args.secondary_pool, group=args.group, limits=tuple(args.limit),
        machine_limit=args.machine_limit, concurrent_tasks=args.concurrent_tasks, department=args.department,
        comment=args.comment, suspended=args.suspended, environment=tuple(args.env),
        plugin_directory=args.plugin_directory, deadlinecommand=args.deadlinecommand,
    )  # fmt: skip
    if args.batch is not None:
        rows, settings = _checked_batch(args, console)
        job, out, name = _job(args, settings), str(args.out.absolute()), args.name or args.batch.stem
        with tempfile.TemporaryDirectory(prefix="void-batch-") as folder:
            shots = Path(folder, "shots.csv")
            shots.write_bytes(batch.table(rows))
            done = deadline10.submit_batch(shots, len(rows), name, out, settings, job, placement, args.shots_a_task)
        clean = str(args.out.absolute() / "*" / "clean.####.exr")
    else:
        shot, _ = _checked_shot(args, console)
        done = deadline10.submit_shot(shot, _job(args, shot.settings), placement, args.chunk, args.overlap)
        clean = shot.clean
    fields = {"job": done.job, "assemble_job": done.assemble_job, "clean": clean, "out": str(args.out.absolute())}
    console.result(fields, f"{done.job}\nclean frames will be {clean}")
    return 0


def _submit_to_cloud(args: argparse.Namespace, console: Console) -> int:
    from void_server.farm import deadline_cloud

    with tempfile.TemporaryDirectory(prefix="void-bundle-") as temporary:
        folder = args.bundle or Path(temporary)
        _, clean = _written(args, console, folder)
        job = deadline_cloud.submit(folder, args.farm_id, args.queue_id, args.name)
    console.result(
        {"job": job, "clean": clean, "out": str(args.out.absolute())}, f"{job}\nclean frames will be {clean}"
    )
    return 0


def _checked_batch(args: argparse.Namespace, console: Console) -> tuple[list[batch.Row], ShotSettings]:
    """Every row's cells and folders, checked without opening a frame. Raises one error that lists what is wrong."""
    if args.plate is not None or args.matte is not None:
        raise SettingsError("--batch and PLATE were both given.", "Give one of them.")
    if args.chunk is not None:
        raise SettingsError("--chunk does not go with --batch.", "Submit long shots one by one.")
    settings = _settled(args, console)
    rows = batch.read(args.batch, str(args.out))
    reader = shot_flags.reader()
    batch.check(args.batch, rows, lambda row: shot_flags.settings(reader.parse_args(row.words())))
    batch.look(args.batch, rows)
    return rows, settings


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} can't be made: {error.strerror}.", "Choose another folder.") from error


def _mapped(args: argparse.Namespace) -> tuple[ShotFiles, ShotSettings]:
    """A task's files and settings, its paths as this worker sees them."""
    from void_server.farm import path_mapping

    rules = path_mapping.read(args.path_mapping) if args.path_mapping else []
    for role in (*ROLES, "out"):
        given = getattr(args, role)
        if given is not None:
            setattr(args, role, path_mapping.mapped(str(given), rules))
    args.out = Path(args.out)
    return shot_flags.files(args), shot_flags.settings(args)


def _task(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server.farm_worker import farm_task

    files, settings = _mapped(args)
    # Each chunk tells of itself: one that succeeds must not take away why another failed.
    place = args.out if args.chunk is None else chunks.folder(args.out, args.chunk)
    with farm_task.told_in(place, args.out.name):
        report = Report(console.on_event, farm_task.unwanted(args.out, cancelled))
        if args.chunk is None:
            manifest = farm_task.run_shot(files, settings, args.out, report)
        else:
            manifest = farm_task.run_chunk(files, settings, args.out, args.chunk, args.overlap, report)
    _say_done(console, args.out, manifest)
    return 0


def _assemble(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server.farm_worker import assemble, farm_task

    files, settings = _mapped(args)
    with farm_task.told_in(args.out, args.out.name):
        report = Report(console.on_event, farm_task.unwanted(args.out, cancelled))
        manifest = assemble.assemble(files, settings, args.out, args.overlap, report)
    _say_done(console, args.out, manifest)
    return 0


def _batch(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server.farm import path_mapping
    from void_server.farm_worker import farm_task

    rules = path_mapping.read(args.path_mapping) if args.path_mapping else []
    shots, args.out = (path_mapping.mapped(str(p), rules) for p in (args.plate, args.out))
    rows = batch.read(Path(shots), args.out)
    inside = args.rows or FrameRange(1, len(rows))
    if inside.first < 1 or inside.last > len(rows):
        raise SettingsError(f"Rows {inside} reach outside the batch, which has {len(rows)}.", "Give rows it has.")
    chosen = [row.mapped(rules) for row in rows[inside.first - 1 : inside.last]]
    general = setting_words(shot_flags.settings(args))
    outcome = farm_task.run_batch(chosen, general, Report(console.on_event, cancelled))
    text = f"{len(outcome.done)} of {len(chosen)} shots finished"
    if outcome.failed:
        raise outcome.error(args.out)
    console.result({"done": outcome.done, "failed": []}, text)
    return 0


def _warm(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server.farm_worker import warm

    if args.action == "stop":
        there = warm.stop(args.data)
        console.result({"stopped": there}, "the session's daemon is stopped" if there else "there was no daemon")
        return 0
    address = warm.start(args.data)
    # Open Job Description's word, whatever the log's format: only its sessions have environments.
    text = f"openjd_env: {warm.VARIABLE}={address}" if address else "this system works without a session's daemon"
    console.result({"address": address}, text)
    return 0


def _report(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    standings = batch.standings(batch.read(Path(args.shots), str(args.out)))
    counts = Counter(standing.state for standing in standings)
    failed = [standing for standing in standings if standing.error is not None]
    lines = [f"{standing.row.name}: {standing.error}" for standing in failed]
    lines.append(", ".join(f"{counts[state]} {state}" for state in ("done", "failed", "started", "waiting")))
    shots = [
        {
            "name": s.row.name,
            "out": s.row.cells["out"],
            "state": s.state,
            "error": to_wire(s.error) if s.error else None,
        }
        for s in standings
    ]
    console.result({"counts": dict(counts), "shots": shots}, "\n".join(lines))
    return JobError.exit_status if failed else 0


def _say_done(console: Console, out: Path, manifest: dict[str, Any]) -> None:
    console.result({"out": str(out), **manifest}, f"{len(manifest['frames'])} frames finished for {out}")
