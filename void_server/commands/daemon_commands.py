"""The daemon's commands: the daemon itself, and what is asked of one.

What comes in: flags. What goes out: an exit status, and text through the console. It loads nothing until it works.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from void_server.commands import shot_flags
from void_server.commands.terminal.console import Console
from void_server.commands.terminal.outcome import done, stopped
from void_server.wire.errors import JobCancelledError, SettingsError
from void_server.wire.messages import DEFAULT_ADDRESS
from void_server.wire.report import Report

Cancelled = Callable[[], bool]
Command = Callable[..., argparse.ArgumentParser]


def add_to(command: Command) -> None:
    """Every command of this module, by `command(name, function, help, *flags)`."""
    submit = command("submit", _submit, "one shot, through a daemon", shot_flags.add_to, _add_server)
    submit.add_argument("--detach", action="store_true", help="return once the daemon has everything; fetch later")
    submit.add_argument("--name", default="", help="what the job is called in lists; default: the plate's name")

    serve = command("serve", _serve, "the daemon: takes shots, keeps them safe, works through them")
    serve.add_argument("--bind", default=DEFAULT_ADDRESS, metavar="ADDR", help="tcp://127.0.0.1:* picks a free port")
    serve.add_argument("--data", type=Path, default=None, metavar="DIR", help="where jobs and frames are kept")
    serve.add_argument("--device", action="append", default=None, metavar="D", help="cpu, cuda:0, ...; may be repeated")
    serve.add_argument("--keys", type=Path, default=None, metavar="DIR", help="server key and allowed clients")
    serve.add_argument(
        "--trust", type=Path, action="append", default=[], metavar="ROOT",
        help="files under this folder may be named by path instead of being sent; may be repeated",
    )  # fmt: skip
    serve.add_argument("--idle-release-s", type=float, default=None, metavar="S",
                       help="give a card's memory back after S seconds without a job; default: 120")  # fmt: skip
    serve.add_argument("--quota-gb", type=float, default=None, metavar="N", help="most that is kept of one owner")
    serve.add_argument(
        "--keep-days", type=float, default=None, metavar="N",
        help="days after which finished jobs go (31); results that nobody fetched a week after a warning",
    )  # fmt: skip
    serve.add_argument(
        "--worker-gb", type=float, default=None, metavar="N", help="most memory that one worker may take"
    )

    for name, act, text, out in (
        ("status", _status, "what the daemon is doing, or how one job stands", False),
        ("cancel", _cancel, "stop a job; its unfinished work is thrown away", False),
        ("fetch", _fetch, "bring a job's frames here", True),
    ):
        sub = command(name, act, text)
        sub.add_argument("job", metavar="JOB", nargs="?" if name == "status" else None)
        _add_server(sub)
        if out:
            sub.add_argument("--out", type=Path, required=True, metavar="DIR")
        if name == "status":
            sub.add_argument("--all", action="store_true", help="everybody's jobs, for administrators")

    jobs = command("jobs", _jobs, "what the daemon keeps of you, and how to have it keep less")
    jobs.add_argument("action", choices=("list", "drop"))
    jobs.add_argument("job", metavar="JOB", nargs="*", help="drop: jobs that are over; their results are deleted")
    _add_server(jobs)
    jobs.add_argument("--all", action="store_true", help="list: everybody's, for administrators")

    keys = command("keys", _keys, "who may use a daemon that is reached over a network")
    keys.add_argument("action", choices=("new", "allow", "revoke", "rotate", "list"))
    keys.add_argument(
        "key", nargs="?",
        help="allow, revoke: a public key, or the file that holds it; new: client|daemon; rotate: a name, or daemon",
    )  # fmt: skip
    keys.add_argument("by", nargs="?", metavar="NEW_KEY", help="rotate: the key that replaces the one of that name")
    keys.add_argument("--admin", action="store_true", help="allow: may list, watch, cancel and drop everybody's jobs")
    keys.add_argument("--keys", type=Path, default=None, metavar="DIR")
    keys.add_argument("--name", default=None, help="whose key it is")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", default=DEFAULT_ADDRESS, metavar="ADDR")
    parser.add_argument("--keys", type=Path, default=None, metavar="DIR", help="this client's keys")


def _client(args: argparse.Namespace) -> Any:
    from void_server.wire.client import Client

    return Client(args.server, keys=args.keys)


def _submit(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server.shot import check, mask_check, mask_reading

    files, settings = shot_flags.files(args), shot_flags.settings(args)
    checked = check.check_shot(files, settings)
    for code, message in (*checked.warnings, *mask_check.judge(checked, mask_reading.look(checked))):
        Report(console.on_event).warn(code, message)
    check.check_output(args.out, files)
    name = args.name or Path(args.plate).name
    with _client(args) as client:
        with stopped(
            lambda: "Frames that arrived whole stay with the daemon.", "Type the same command again; it sends the rest."
        ):
            status = client.submit(files, settings, name=name, on_event=console.on_event, cancelled=cancelled)
        if status.state == "queued" and (status.position or 0) > 1:
            Report(console.on_event).note(f"Job {status.job} is number {status.position} in the queue.")
        if args.detach:
            text = f"{status.job}\nfetch it later: void-server fetch {status.job} --out {args.out}"
            console.result({"job": status.job, "state": status.state}, text)
            return 0
        later = f"void-server fetch {status.job} --out {args.out}"
        how = f"Bring its frames later: {later}. Or stop it: void-server cancel {status.job}"
        with stopped(lambda: f"Job {status.job} goes on without you.", how):
            status = client.watch(status.job, on_event=console.on_event, cancelled=cancelled)
        if status.error is not None:
            raise status.error
        if status.state != "done":
            # Cancelled elsewhere. What may lie in the folder from an earlier job is not this one's.
            raise JobCancelledError(f"Job {status.job} was {status.state}.", "Submit the shot again.", job=status.job)
        with stopped(lambda: f"Job {status.job} is done; not all of it is here yet.", f"Bring the rest: {later}"):
            client.fetch(status.job, args.out, on_event=console.on_event, cancelled=cancelled)
    manifest = json.loads((args.out / "manifest.json").read_text(encoding="utf-8"))
    console.result({"job": status.job, "out": str(args.out), **manifest}, done(args.out, manifest))
    return 0


def _serve(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server.daemon import server
    from void_server.daemon.config import DaemonConfig

    config = DaemonConfig.from_flags(
        bind=args.bind, data=args.data, devices=args.device, keys=args.keys, trust=args.trust,
        quota_gb=args.quota_gb, keep_days=args.keep_days, worker_gb=args.worker_gb, idle_release_s=args.idle_release_s,
    )  # fmt: skip
    status: int = server.serve(
        config, ready=lambda address: console.result({"ready": address}, f"void-server listens on {address}")
    )
    if console.for_people:
        Report(console.on_event).note("Stopped. Jobs are kept, and go on when the daemon starts again.")
    return status


def _status(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    with _client(args) as client:
        if args.job:
            job = client.status(args.job)
            console.result(job.to_wire(), "\n".join([_job_line(job), *(f"warning: {text}" for text in job.warnings)]))
            return 0
        jobs = client.jobs(everybody=args.all)
    console.result({"jobs": [job.to_wire() for job in jobs]}, "\n".join(map(_job_line, jobs)) or "no jobs")
    return 0


def _jobs(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    if args.action == "drop" and not args.job:
        raise SettingsError("jobs drop needs a job.", "See: void-server jobs list")
    with _client(args) as client:
        jobs = [client.drop(job) for job in args.job] if args.action == "drop" else client.jobs(everybody=args.all)
    text = "\n".join(map(_job_line, jobs)) or "no jobs"
    console.result({"jobs": [job.to_wire() for job in jobs]}, f"dropped:\n{text}" if args.action == "drop" else text)
    return 0


def _job_line(job: Any) -> str:
    where = f"{job.stage} {job.done}/{job.total}" if job.state == "running" and job.total else ""
    where = f"place {job.position} in the queue" if job.state == "queued" and job.position else where
    why = f"{job.error.message} {job.error.hint}" if job.error else ""
    return "  ".join(part for part in (job.job, job.state.ljust(9), job.name, where, why) if part)


def _cancel(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    with _client(args) as client:
        job = client.cancel(args.job)
    console.result(job.to_wire(), _job_line(job))
    return 0


def _fetch(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    with (
        stopped(
            lambda: f"Files that are whole stay in {args.out}.", "Type the same command again; it brings the rest."
        ),
        _client(args) as client,
    ):
        files = client.fetch(args.job, args.out, on_event=console.on_event, cancelled=cancelled)
    console.result({"out": str(args.out), "files": [f.name for f in files]}, f"{len(files)} files in {args.out}")
    return 0


def _keys(args: argparse.Namespace, console: Console, cancelled: Cancelled) -> int:
    from void_server.daemon.network import keys

    fields, text = keys.run(args.action, args.key, folder=args.keys, name=args.name, admin=args.admin, by=args.by)
    console.result(fields, text)
    return 0
