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
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import void_server
from void_server.commands import bench_command, daemon_commands, farm_commands, movies, shot_flags, threads
from void_server.commands.installation import bundle, install
from void_server.commands.terminal import completion, examples
from void_server.commands.terminal.console import LOG_FORMATS, Console, log_format
from void_server.commands.terminal.outcome import AGAIN, OVER, done, stopped
from void_server.wire.errors import InternalError, JobCancelledError, SettingsError, VoidError
from void_server.wire.report import Event, Report

Flags = Callable[[argparse.ArgumentParser], None]


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
    command("run", _run, text, shot_flags.add_to, threads.add_to, movies.add_preview)
    shot_flags.add_to(command("check", _check, "say all that will happen to a shot, without computing"), writes=False)

    command("convert", _convert, "a movie or pictures as scene-linear EXR; or EXR frames as a movie", movies.add_to)

    daemon_commands.add_to(command)

    text = "find what the object did to the scene, and write it for review"
    command("effects", _effects, text, shot_flags.add_to, threads.add_to)

    weights = command("weights", _weights, "VOID's weights: bring them here, or say what is missing")
    weights.add_argument("action", choices=("fetch", "check"))
    weights.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: VOID_WEIGHTS, else the cache")
    weights.add_argument("--refine", action="store_true", help="the second pass's weights too")

    quadmask = command("quadmask", _quadmask, "write what VOID is told about a shot, as EXR and PNG")
    shot_flags.add_to(quadmask)
    quadmask.add_argument("--grid", action="store_true", help="fill whole cells of VOID's 8-row grid")

    text = "measure: clips with known answers, the wire, where a shot's time goes"
    command("bench", bench_command.run, text, bench_command.add_to)

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


def _run(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server import pipeline

    threads.use(args)
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
    with stopped(kept, lambda: AGAIN if finished else OVER):
        manifest = pipeline.make_clean_plate(shot_flags.files(args), shot_flags.settings(args), args.out, report)
    if args.preview:
        with stopped(lambda: f"All clean frames are in {args.out}; the movie is not.", AGAIN):
            movies.preview(args.out, manifest, report)
    console.result({"out": str(args.out), **manifest}, done(args.out, manifest))
    return 0


def _check(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import check_shot

    found = check_shot.foretell(shot_flags.files(args), shot_flags.settings(args), args.out)
    for code, message in found.warnings:
        Report(console.on_event).warn(code, message)
    console.result(found.fields, "\n".join(found.lines))
    return 0


def _convert(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    with stopped(lambda: "The frames made so far stay; they are not all.", OVER):
        fields, text = movies.run(args, Report(console.on_event, cancelled))
    console.result(fields, text)
    return 0


def _effects(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server import preview

    threads.use(args)
    with stopped(lambda: "What was found is not complete.", OVER):
        manifest = preview.write_affected(
            shot_flags.files(args), shot_flags.settings(args), args.out, Report(console.on_event, cancelled)
        )
    text = f"{len(manifest['frames'])} frames of affected.####.exr in {args.out}"
    console.result({"out": str(args.out), **manifest}, text)
    return 0


def _demo(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands.demo import run as demo

    with stopped(lambda: "The demo was not finished.", OVER):
        score = demo.run(args.out, console.on_event, cancelled)
    console.result(score, demo.spoken(score))
    return 0


def _weights(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import void_commands

    with stopped(lambda: "Files that are whole are kept.", "Type the same command again; it fetches the rest."):
        return void_commands.weights(args, console, cancelled)


def _quadmask(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    from void_server.commands import void_commands

    return void_commands.write_quadmask(args, console, cancelled)


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
