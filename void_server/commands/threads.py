"""The flag --threads: how many cores a command may use.

What comes in: flags. What goes out: the process's own limit.
"""

from __future__ import annotations

import argparse

from void_server.wire.errors import SettingsError


def add_to(parser: argparse.ArgumentParser) -> None:
    """The flag itself."""
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="cores to use; default: all there are")


def use(args: argparse.Namespace) -> None:
    """Hold the process to it. Raises SettingsError for less than one."""
    from void_server import process

    if args.threads is not None and args.threads < 1:
        raise SettingsError(f"--threads {args.threads} leaves nothing to work with.", "Give 1 or more.")
    process.use_threads(args.threads)
