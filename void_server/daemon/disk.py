"""Keeps slow disks away from the server's loop: work goes to a thread, its outcome comes back to the loop.

What comes in: callables. What goes out: calls of their callbacks, on the loop's own thread. It does not know what the
work is.

Source of the need: an inline `pwrite` stopped an event loop for up to 886 ms, one in a thread for 36 ms at worst.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from void_server.wire.errors import InternalError, StoreError, VoidError

T = TypeVar("T")
Then = Callable[[Any], None]
Failed = Callable[[VoidError], None]


class Disk:
    """Two kinds of threads: one writer that keeps the order of what it is given, and a few for everything else."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "writer")
        self._others = ThreadPoolExecutor(4, "disk")
        self._outcomes: collections.deque[Callable[[], None]] = collections.deque()
        self.waker, self._wake = socket.socketpair()
        """Readable when `settle` has something to do."""
        self.waker.setblocking(False)
        self._wake.setblocking(False)

    def write(self, work: Callable[[], T], then: Callable[[T], None], failed: Failed) -> None:
        """Do `work` after all writes before it; then call `then(outcome)`, or `failed(error)`, on the loop."""
        self._hand_over(self._writer, work, then, failed)

    def do(self, work: Callable[[], T], then: Callable[[T], None], failed: Failed) -> None:
        """Do `work` at any time; then call `then(outcome)`, or `failed(error)`, on the loop."""
        self._hand_over(self._others, work, then, failed)

    def post(self, call: Callable[[], None]) -> None:
        """Have the loop make a call soon. From any thread."""
        self._outcomes.append(call)
        # Full: the loop is awake already. Closed: there is no loop any more.
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    @property
    def wake_fd(self) -> int:
        """A byte written here wakes the loop, also from a signal's C handler."""
        return self._wake.fileno()

    def settle(self) -> None:
        """Make the calls that are due. On the loop's thread."""
        try:
            while len(self.waker.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        while self._outcomes:
            try:
                self._outcomes.popleft()()
            except Exception as error:  # noqa: BLE001 - one outcome must never end the daemon
                sys.excepthook(type(error), error, error.__traceback__)

    def close(self) -> None:
        """Wait for what is under way, and take no more."""
        self._writer.shutdown(wait=True)
        self._others.shutdown(wait=True)
        self.waker.close()
        self._wake.close()

    def _hand_over(
        self, pool: ThreadPoolExecutor, work: Callable[[], T], then: Callable[[T], None], failed: Failed
    ) -> None:
        def finished(future: Future[T]) -> None:
            self.post(lambda: settled(future))

        def settled(future: Future[T]) -> None:
            error = future.exception()
            if error is None:
                try:
                    then(future.result())
                except VoidError as ours:
                    failed(ours)
            else:
                failed(translated(error))

        pool.submit(work).add_done_callback(finished)


def translated(error: BaseException) -> VoidError:
    """The error to tell for what work on the disk raised."""
    if isinstance(error, VoidError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError("The daemon's disk is full.", "Free space there, then send again: what arrived is kept.")
    if isinstance(error, OSError):
        return StoreError(f"The daemon's data folder can't be used: {error}.", "Look at the daemon's disk.")
    return InternalError(f"The daemon failed: {type(error).__name__}: {error}.", "Look at the daemon's own output.")
