"""Keeps slow disks away from the server's loop: work goes to a thread, and whoever wants its outcome awaits it.

What comes in: callables. What goes out: what they return, or a VoidError. It does not know what the work is.

Source of the need: an inline `pwrite` stopped an event loop for up to 886 ms, one in a thread for 36 ms at worst.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from void_server.wire.errors import InternalError, StoreError, VoidError

T = TypeVar("T")


class Disk:
    """Two kinds of threads: one writer that keeps the order of what it is given, and a few for everything else."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "writer")
        self._others = ThreadPoolExecutor(4, "disk")

    def write(self, work: Callable[[], T]) -> Awaitable[T]:
        """Do `work` after all writes handed over before it. It is handed over by this call, not by awaiting it."""
        return _outcome(self._writer.submit(work))

    def do(self, work: Callable[[], T]) -> Awaitable[T]:
        """Do `work` at any time."""
        return _outcome(self._others.submit(work))

    def close(self) -> None:
        """Wait for what is under way, and take no more."""
        self._writer.shutdown(wait=True)
        self._others.shutdown(wait=True)


def _outcome(future: Future[T]) -> Awaitable[T]:
    wrapped = asyncio.wrap_future(future)

    async def outcome() -> T:
        try:
            return await wrapped
        except (VoidError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise translated(error) from error

    return outcome()


def translated(error: BaseException) -> VoidError:
    """The error to tell for what work on the disk raised."""
    if isinstance(error, VoidError):
        return error
    if is_full(error):
        return StoreError("The daemon's disk is full.", "Free space there, then send again: what arrived is kept.")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return StoreError("The daemon has no descriptor left for a file.", "Try again; raise its limit (ulimit -n).")
    if isinstance(error, OSError):
        return StoreError(f"The daemon's data folder can't be used: {error}.", "Look at the daemon's disk.")
    return InternalError(f"The daemon failed: {type(error).__name__}: {error}.", "Look at the daemon's own output.")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that the disk has no room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
        ):
            return True
        error = error.__cause__
    return False
