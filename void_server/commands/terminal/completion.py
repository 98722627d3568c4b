"""`void-server completion bash|zsh|tcsh`: what a shell needs to complete commands, flags, choices and file names.

What comes in: the command line's own parser. What goes out: a script as text. Written by shtab from the parser, so that
it can't name a flag that is not there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "tcsh")
FOLDERS = ("DIR", "ROOT")
FILES = ("PLATE", "MATTE", "SEQ", "SHOTS", "MOVIE", "FILE", "PATH", "PROGRAM", "KEY_FILE")
"""Metavars of words that name folders, and of words that name files."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for `shell`, one of `SHELLS`. The parser is marked on the way: use a fresh one."""
    import shtab

    for action in _actions(parser):
        if action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell)
    return text


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every flag and word of the parser and of its subcommands."""
    for action in parser._actions:  # there is no public list; shtab walks the same one
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
