"""Every command: `void-server demo | run | submit | serve | status | cancel | fetch | keys | doctor | ...`.

What comes in: words from a shell. What goes out: an exit status (0 done, 2 the request is wrong, 3 the daemon can't be
reached or refused, 4 the job failed, 130 cancelled), and text through `console`. Thin on purpose: it reads flags, calls
one function, and says what came of it. Hosts and farms call these names and flags, so they are stable.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import void_server
from void_server.commands import bundle, completion, examples, farm_commands, install, movies, shot_flags
from void_server.commands.console import LOG_FORMATS, Console, log_format
from void_server.wire.errors import InternalError, JobCancelledError, SettingsError, VoidError
from void_server.wire.report import Event, Report

Flags = Callable[[argparse.ArgumentParser], None]
DEFAULT_ADDRESS = "tcp://127.0.0.1:5790"
OVER = "Type the same command again; it starts over."
AGAIN = "Finished frames are kept: type the same command again and the rest is made."


class _Parser(shot_flags.FrameWords):
    """Says what is wrong with a flag in one line and a hint, as every other error is said."""

    def error(self, message: str) -> NoReturn:
        hint = f"See: {self.prog} --help"
        if message.startswith("unrecognized") and re.search(r"\d\.\w{3,4}\b", message):
            hint = "Put the pattern in quotes: the shell made many names of it."
        raise SettingsError(f"{message[0].upper()}{message[1:]}.", hint)


def main(argv: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one for each way a command can end
    """Run one command; returns its exit status. Never raises for what a user can cause."""
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(log_format(words))
    cancelled = _cancel_on_signals(console)
    try:
        args = _parser().parse_args(words)
        # OpenEXR prints its warnings to standard output, which belongs to the result alone.
        with contextlib.redirect_stdout(sys.stderr):
            status: int = args.command(args, console, cancelled)
        return status
    except VoidError as error:
        console.error(error)
        return error.exit_status
    except KeyboardInterrupt:
        console.error(JobCancelledError("Stopped at once.", AGAIN))
        return JobCancelledError.exit_status
    except BrokenPipeError:
        return 0
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except ModuleNotFoundError as error:
        console.error(_not_installed(error))
        return SettingsError.exit_status
    except Exception as error:  # noqa: BLE001 - the last border: a bug still gets one line, its traceback goes to a file
        console.error(InternalError(f"Internal error: {type(error).__name__}: {error}.", _log_traceback()))
        return InternalError.exit_status
    finally:
        console.close()


def _not_installed(error: ModuleNotFoundError) -> SettingsError:
    """On Python 3.9 and 3.10 the wheel brings only what hosts need: OpenEXR 3.5.3 asks for 3.11."""
    running = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return SettingsError(
        f"Library '{error.name}' is not installed for {running}.",
        "Use Python 3.11 or later, and install void-server there again.",
    )


def _log_traceback() -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="void-server-", suffix=".log", delete=False) as log:
        traceback.print_exc(file=log)
    return f"This is a bug; please report it with {log.name}."


def _cancel_on_signals(console: Console) -> Callable[[], bool]:
    """The first Ctrl-C or SIGTERM asks long work to stop between frames; a second Ctrl-C stops at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT and console.for_people:
            # Not through the console: it may be in the middle of a line of its own.
            os.write(2, b"\nStopping between frames; Ctrl-C again stops at once.\n")
        asked.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, ask)
        signal.signal(signal.SIGTERM, ask)
    return asked.is_set


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="void-server",
        description="Remove an object, and what it did to the scene, from EXR plates.",
        epilog=examples.epilog(""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"void-server {void_server.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], text: str, *flags: Flags) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=examples.epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=run)
        sub.add_argument(
            "--log-format", choices=LOG_FORMATS, default="human", help="how to speak; json: one object a line"
        )
        sub.add_argument("--json", action="store_true", help="the same as --log-format json")
        for add in flags:
            add(sub)
        return sub

    demo = command("demo", _demo, "make a short HDR shot with a known answer, remove its object, score the result")
    demo.add_argument("--out", type=Path, default=Path("void-demo"), metavar="DIR")

    text = "one shot, in this process: no daemon"
    command("run", _run, text, shot_flags.add_to, _add_threads, movies.add_preview)
    submit = command("submit", _submit, "one shot, through a daemon", shot_flags.add_to, _add_server)
    submit.add_argument("--detach", action="store_true", help="return once the daemon has everything; fetch later")
    submit.add_argument("--name", default="", help="what the job is called in lists; default: the plate's name")

    shot_flags.add_to(command("check", _check, "say all that will happen to a shot, without computing"), writes=False)

    command("convert", _convert, "a movie or pictures as scene-linear EXR; or EXR frames as a movie", movies.add_to)

    _add_daemon(command)

    text = "find what the object did to the scene, and write it for review"
    command("effects", _effects, text, shot_flags.add_to, _add_threads)

    weights = command("weights", _weights, "VOID's weights: bring them here, or say what is missing")
    weights.add_argument("action", choices=("fetch", "check"))
    weights.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: VOID_WEIGHTS, else the cache")
    weights.add_argument("--refine", action="store_true", help="the second pass's weights too")

    quadmask = command("quadmask", _quadmask, "write what VOID is told about a shot, as EXR and PNG")
    shot_flags.add_to(quadmask)
    quadmask.add_argument("--grid", action="store_true", help="fill whole cells of VOID's 8-row grid")

    bench = command("bench", _bench, "measure: clips with known answers, the wire, where a shot's time goes")
    _add_bench(bench)

    farm_commands.add_to(commands.add_parser("farm", help="send shots to Deadline, and run its tasks"))
    install.add_to(commands)

    command("bundle", bundle.run, "all that a machine without internet needs, in one folder", bundle.add_to)
    complete = command("completion", _completion, "a script that makes your shell complete commands and flags")
    complete.add_argument("shell", choices=completion.SHELLS)

    doctor = command("doctor", _doctor, "check this machine: libraries, engines, devices, disk, daemon")
    doctor.add_argument("--data", type=Path, default=None, metavar="DIR", help="a daemon's data folder; default: yours")
    doctor.add_argument("--report", type=Path, default=None, metavar="FILE",
                        help="also pack this, logs and headers for a bug report; no pictures")  # fmt: skip
    doctor.add_argument("about", type=Path, nargs="*", metavar="PATH",
                        help="--report: plates, mattes or results whose headers are to be packed")  # fmt: skip
    return parser


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="cores to use; default: all there are")


def _use_threads(args: argparse.Namespace) -> None:
    from void_server import process

    if args.threads is not None and args.threads < 1:
        raise SettingsError(f"--threads {args.threads} leaves nothing to work with.", "Give 1 or more.")
    process.use_threads(args.threads)


def _add_daemon(command: Callable[[str, Callable[..., int], str], argparse.ArgumentParser]) -> None:
    """The daemon, and what is asked of one."""
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


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("what", choices=("propagate", "effects", "removal", "native", "void", "wire", "speed"))
    bench.add_argument("plate", nargs="?", default=None, metavar="PLATE", help="speed: the shot's plate")
    bench.add_argument("--matte", default=None, metavar="SEQ", help="speed: the shot's matte")
    bench.add_argument("--affected", default=None, metavar="SEQ", help="speed: what is affected; default: it is found")
    bench.add_argument("--engine", default="propagate", metavar="NAME", help="speed: which engine")
    _add_threads(bench)
    bench.add_argument("--half", choices=("tuning", "reporting"), help="of the clips of `bench removal`; default: both")
    bench.add_argument("--data", type=Path, default=None, metavar="DIR", help="the folder of test clips")
    bench.add_argument(
        "--case", action="append", default=None, metavar="CASE",
        help="one case, or all of a kind (paste, @late, paste@late); may be repeated; default: all",
    )  # fmt: skip
    bench.add_argument(
        "--removal", action="store_true", help="effects: also remove, with the found and the true region"
    )
    bench.add_argument("--released", type=Path, default=None, metavar="DIR",
                       help="void: a checkout of Netflix/void-model to measure against")  # fmt: skip
    bench.add_argument("--shots", type=Path, default=None, metavar="DIR",
                       help="removal: shots with known answers; --case takes the beginning of a name")  # fmt: skip
    bench.add_argument("--method", action="append", default=None, metavar="NAME|NAME=COMMAND",
                       help="removal --shots: what removes (see bench/removers.py); may be repeated")  # fmt: skip
    bench.add_argument("--keep-work", type=Path, default=None, metavar="DIR", help="keep every case's EXR files here")


@contextlib.contextmanager
def _stopped(kept: Callable[[], str], how: str | Callable[[], str]) -> Iterator[None]:
    """Tell whoever pressed Ctrl-C what is kept, and how to go on; a callable is asked once that is known."""
    try:
        yield
    except JobCancelledError as error:
        hint = how if isinstance(how, str) else how()
        raise JobCancelledError(f"Stopped. {kept()}", hint, job=error.job) from error


def _client(args: argparse.Namespace) -> Any:
    from void_server.wire.client import Client

    return Client(args.server, keys=args.keys)


def _run(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server import pipeline

    _use_threads(args)
    finished: list[int] = []

    def on_event(event: Event) -> None:
        if event["event"] == "frame":
            finished.append(int(event["frame"]))
        console.on_event(event)

    def kept() -> str:
        if not finished:
            return "No clean frame was finished yet."
        return f"Of this run, {len(finished)} clean frame{'s' * (len(finished) != 1)} stay in {args.out}."

    report = Report(on_event, cancelled)
    with _stopped(kept, lambda: AGAIN if finished else OVER):
        manifest = pipeline.make_clean_plate(shot_flags.files(args), shot_flags.settings(args), args.out, report)
    if args.preview:
        with _stopped(lambda: f"All clean frames are in {args.out}; the movie is not.", AGAIN):
            movies.preview(args.out, manifest, report)
    console.result({"out": str(args.out), **manifest}, _done(args.out, manifest))
    return 0


def _check(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import check_shot

    found = check_shot.foretell(shot_flags.files(args), shot_flags.settings(args), args.out)
    for code, message in found.warnings:
        Report(console.on_event).warn(code, message)
    console.result(found.fields, "\n".join(found.lines))
    return 0


def _convert(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    with _stopped(lambda: "The frames made so far stay; they are not all.", OVER):
        fields, text = movies.run(args, Report(console.on_event, cancelled))
    console.result(fields, text)
    return 0


def _done(out: Path, manifest: dict[str, Any]) -> str:
    coverage = manifest["coverage"]
    recovered = "nothing had to change" if coverage is None else f"{coverage:.0%} recovered from real pixels"
    return f"{len(manifest['frames'])} clean frames in {out} ({recovered}); look at {out / 'sheet.png'}"


def _effects(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server import preview

    _use_threads(args)
    with _stopped(lambda: "What was found is not complete.", OVER):
        manifest = preview.write_affected(
            shot_flags.files(args), shot_flags.settings(args), args.out, Report(console.on_event, cancelled)
        )
    text = f"{len(manifest['frames'])} frames of affected.####.exr in {args.out}"
    console.result({"out": str(args.out), **manifest}, text)
    return 0


def _submit(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.shot import check, solid

    files, settings = shot_flags.files(args), shot_flags.settings(args)
    checked = check.check_shot(files, settings)
    for code, message in (*checked.warnings, *solid.judge(checked, solid.look(checked))):
        Report(console.on_event).warn(code, message)
    check.check_output(args.out, files)
    name = args.name or Path(args.plate).name
    with _client(args) as client:
        with _stopped(
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
        with _stopped(lambda: f"Job {status.job} goes on without you.", how):
            status = client.watch(status.job, on_event=console.on_event, cancelled=cancelled)
        if status.error is not None:
            raise status.error
        if status.state != "done":
            # Cancelled elsewhere. What may lie in the folder from an earlier job is not this one's.
            raise JobCancelledError(f"Job {status.job} was {status.state}.", "Submit the shot again.", job=status.job)
        with _stopped(lambda: f"Job {status.job} is done; not all of it is here yet.", f"Bring the rest: {later}"):
            client.fetch(status.job, args.out, on_event=console.on_event, cancelled=cancelled)
    import json

    manifest = json.loads((args.out / "manifest.json").read_text(encoding="utf-8"))
    console.result({"job": status.job, "out": str(args.out), **manifest}, _done(args.out, manifest))
    return 0


def _serve(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
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


def _status(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    with _client(args) as client:
        if args.job:
            job = client.status(args.job)
            console.result(job.to_wire(), "\n".join([_job_line(job), *(f"warning: {text}" for text in job.warnings)]))
            return 0
        jobs = client.jobs(everybody=args.all)
    console.result({"jobs": [job.to_wire() for job in jobs]}, "\n".join(map(_job_line, jobs)) or "no jobs")
    return 0


def _jobs(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
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


def _cancel(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    with _client(args) as client:
        job = client.cancel(args.job)
    console.result(job.to_wire(), _job_line(job))
    return 0


def _fetch(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    with (
        _stopped(
            lambda: f"Files that are whole stay in {args.out}.", "Type the same command again; it brings the rest."
        ),
        _client(args) as client,
    ):
        files = client.fetch(args.job, args.out, on_event=console.on_event, cancelled=cancelled)
    console.result({"out": str(args.out), "files": [f.name for f in files]}, f"{len(files)} files in {args.out}")
    return 0


def _keys(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.daemon import keys

    fields, text = keys.run(args.action, args.key, folder=args.keys, name=args.name, admin=args.admin, by=args.by)
    console.result(fields, text)
    return 0


def _demo(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import demo

    with _stopped(lambda: "The demo was not finished.", OVER):
        score = demo.run(args.out, console.on_event, cancelled)
    console.result(score, demo.spoken(score))
    return 0


def _weights(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import void_commands

    with _stopped(lambda: "Files that are whole are kept.", "Type the same command again; it fetches the rest."):
        return void_commands.weights(args, console, cancelled)


def _quadmask(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import void_commands

    return void_commands.write_quadmask(args, console, cancelled)


def _bench(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.bench import run as bench

    _use_threads(args)
    report = Report(console.on_event, cancelled)
    if args.what == "speed":
        fields, text = bench.speed_of(args.plate, args.matte, args.affected, args.engine, report)
    else:
        fields, text = bench.run(
            args.what,
            args.data,
            args.case,
            report,
            removal=args.removal,
            half=args.half,
            keep_work=args.keep_work,
            released=args.released,
            shots=args.shots,
            methods=args.method,
        )
    console.result(fields, text)
    return 4 if fields.get("failed") else 0


def _doctor(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import doctor

    if args.about and not args.report:
        raise SettingsError(f"{args.about[0]} is for a report.", "Add --report FILE.")
    findings = doctor.examine(args.data)
    fields: dict[str, Any] = {"findings": [f.to_wire() for f in findings], "verdict": doctor.verdict(findings)}
    text = doctor.spoken(findings)
    if args.report:
        from void_server.commands import report

        packed = report.write(args.report, findings, args.data, args.about)
        fields["report"] = str(args.report)
        said = f"{len(packed)} files packed in {args.report}, no pictures; paths and names are in it, so look first."
        text = f"{said}\n{text}"
    console.result(fields, text)
    return 0 if all(f.ok or not f.required for f in findings) else 4


def _completion(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    text = completion.script(_parser(), args.shell)
    console.result({"shell": args.shell, "script": text}, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
