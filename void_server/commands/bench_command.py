"""The command `bench`: its flags, and which measurement they name.

What comes in: flags. What goes out: an exit status, figures and a table through the console.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from void_server.commands import threads
from void_server.commands.terminal.console import Console
from void_server.wire.report import Report


def add_to(bench: argparse.ArgumentParser) -> None:
    """The flags of `bench`."""
    bench.add_argument("what", choices=("propagate", "effects", "removal", "native", "void", "wire", "speed"))
    bench.add_argument("plate", nargs="?", default=None, metavar="PLATE", help="speed: the shot's plate")
    bench.add_argument("--matte", default=None, metavar="SEQ", help="speed: the shot's matte")
    bench.add_argument("--affected", default=None, metavar="SEQ", help="speed: what is affected; default: it is found")
    bench.add_argument("--engine", default="propagate", metavar="NAME", help="speed: which engine")
    threads.add_to(bench)
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
                       help="removal: shots with known answers; else, without --data: a small one")  # fmt: skip
    bench.add_argument("--method", action="append", default=None, metavar="NAME|NAME=COMMAND",
                       help="removal from these: what removes (bench/known/removers.py); may be repeated")  # fmt: skip
    bench.add_argument("--keep-work", type=Path, default=None, metavar="DIR", help="keep every case's EXR files here")


def run(args: argparse.Namespace, console: Console, cancelled: Callable[[], bool]) -> int:
    """Measure; 4 where something that has to hold does not."""
    from void_server.bench import run as bench

    threads.use(args)
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
