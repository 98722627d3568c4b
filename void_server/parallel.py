"""Work on many frames at a time, on all cores: in processes, since threads of one process wait for each other.

What comes in: a function of one item, and items. What goes out: its results, in order, the same bits with any number of
processes. It knows no pictures.

Workers are forked, so they see everything that was made before (plates, masks, motion) without a copy; what they make
comes back through a pipe. Each is one thread, and OpenCV's own threads are off: a pool of threads does not survive a
fork, and many small loops over a few cores are slower than one frame a core.

Chosen over threads: a frame's work is some thousand calls of NumPy and OpenCV on small arrays, and under the
interpreter's lock sixteen cores were 1.2 times as fast as two. Over processes that are started afresh: those would have
to be sent the whole shot. Where the system can't fork (Windows) or should not (macOS), threads do the work.
"""

from __future__ import annotations

import collections
import concurrent.futures
import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

import cv2

from void_server.wire.errors import EngineError, VoidError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Results that may wait for their turn, as many times over as there are workers: more would only take memory."""
LOOK_S = 0.1
"""How often a caller that waits is asked whether it still wants the result."""
_PR_SET_PDEATHSIG = 1
"""Source: prctl(2), linux/prctl.h."""


_alone = False
"""Whether this process is itself a worker: it has one core."""


def _go_on() -> None:
    """What a caller checks who never changes his mind."""


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], hands: int, check: Callable[[], None] = _go_on
) -> Generator[Result, None, None]:
    """`work(item)` for every item, in order; so many at a time as there are hands, while the caller is busy too.

    work: anything, closures too; what it changes is seen by nobody else. check: asked while waiting; may raise.
    What `work` raises is raised here. Raises EngineError when the system ends a worker, as it does for want of memory.

    >>> list(in_order(lambda n: n * n, [1, 2, 3], hands=2))
    [1, 4, 9]
    """
    cv2.setNumThreads(1)
    hands = 1 if _alone else min(hands, len(items))
    if hands <= 1:
        for item in items:
            check()
            yield work(item)
    elif sys.platform != "linux":
        with ThreadPoolExecutor(hands) as pool:
            yield from _bounded(pool, lambda index: work(items[index]), len(items), AHEAD * hands, check)
    else:
        # All of them before the first thread: a fork leaves threads behind.
        workers = [_Worker.started(work, items) for _ in range(hands)]
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in workers:
            idle.put(worker)

        def ask(index: int) -> Any:
            worker = idle.get()
            try:
                return worker.ask(index)
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(hands, thread_name_prefix="parallel") as pool:
            try:
                yield from _bounded(pool, ask, len(items), AHEAD * hands, check)
            finally:
                # Before the threads are waited for: each waits for its worker.
                for worker in workers:
                    worker.stop()


def _bounded(
    pool: ThreadPoolExecutor, ask: Callable[[int], Result], count: int, ahead: int, check: Callable[[], None]
) -> Iterator[Result]:
    pending: collections.deque[Future[Result]] = collections.deque()
    asked = 0
    try:
        while pending or asked < count:
            while asked < count and len(pending) < ahead:
                pending.append(pool.submit(ask, asked))
                asked += 1
            yield _waited_for(pending.popleft(), check)
    finally:
        for future in pending:
            future.cancel()


def _waited_for(future: Future[Result], check: Callable[[], None]) -> Result:
    while True:
        check()
        try:
            return future.result(LOOK_S)
        except concurrent.futures.TimeoutError:
            if future.done():  # just now, or with a time-out of its own
                return future.result()


class _Worker:
    """One forked process, and the pipe to it."""

    def __init__(self, process: ForkProcess, pipe: Connection) -> None:
        self._process, self._pipe = process, pipe

    @classmethod
    def started(cls, work: Callable[[Any], Any], items: Sequence[Any]) -> _Worker:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(work, items, theirs, ours, os.getpid()), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that hold a lock while another forks. Those of this process that may
            # (writers, a predictor's) hold none that `work` asks for: it computes on one thread and reads files.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        return cls(process, ours)

    def ask(self, index: int) -> Any:
        """The result of one item. Raises what the work raised."""
        try:
            self._pipe.send(index)
            result, error = self._pipe.recv()
        except (OSError, EOFError) as gone:
            self._process.join()
            raise EngineError(
                f"A working process was ended by the system (status {self._process.exitcode}), most likely for want of "
                "memory.",
                "Run with fewer cores (--threads), or free some memory.",
            ) from gone
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(work: Callable[[Any], Any], items: Sequence[Any], pipe: Connection, theirs: Connection, parent: int) -> None:
    """A worker's life: until it is killed, or its parent is gone."""
    global _alone  # noqa: PLW0603 - one process, one answer
    _alone = True
    theirs.close()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            index = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        answer: tuple[Any, BaseException | None]
        try:
            answer = (work(items[index]), None)
        except VoidError as error:
            answer = (None, error)
        except BaseException as error:  # noqa: BLE001 - raised again where the result is waited for
            # As text: an exception of a library may hold what can't be sent.
            answer = (None, RuntimeError("".join(traceback.format_exception(error))))
        pipe.send(answer)
