"""How a command ends: done, or stopped half-way, and what is there then.

What comes in: what is kept, what was made. What goes out: words for the console. It does not know the commands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from void_server.wire.errors import JobCancelledError

OVER = "Type the same command again; it starts over."
AGAIN = "Finished frames are kept: type the same command again and the rest is made."


@contextlib.contextmanager
def stopped(kept: Callable[[], str], how: str | Callable[[], str]) -> Iterator[None]:
    """Tell whoever pressed Ctrl-C what is kept, and how to go on; a callable is asked once that is known."""
    try:
        yield
    except JobCancelledError as error:
        hint = how if isinstance(how, str) else how()
        raise JobCancelledError(f"Stopped. {kept()}", hint, job=error.job) from error


def done(out: Path, manifest: dict[str, Any]) -> str:
    """One line about a finished result."""
    coverage = manifest["coverage"]
    recovered = "nothing had to change" if coverage is None else f"{coverage:.0%} recovered from real pixels"
    return f"{len(manifest['frames'])} clean frames in {out} ({recovered}); look at {out / 'sheet.png'}"
