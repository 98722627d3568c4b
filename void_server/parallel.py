"""Work on many frames at a time, on all cores: in processes, since threads of one process wait for each other.

What comes in: a function of one item, and items. What goes out: its results, in order, the same bits with any number of
processes. It knows no pictures.

Workers are forked, so they see everything that was made before (plates, masks, motion) without a copy; what they make
comes back through shared memory. Each is one thread; the threads of OpenCV and of NumPy's BLAS are off, here too: a
pool of threads does not survive a fork, many small loops over a few cores are slower than one frame a core, and a sum
that is split over threads has other bits with another number of cores.

Chosen over threads: a frame's work is some thousand calls of NumPy and OpenCV on small arrays, and under the
interpreter's lock sixteen cores were 1.2 times as fast as two. Over processes that are started afresh: those would have
to be sent the whole shot. Where the system can't fork (Windows) or should not (macOS), threads do the work.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import ctypes
import functools
import inspect
import itertools
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import cv2
import threadpoolctl

from void_server import shared_arrays
from void_server.wire.errors import EngineError, VoidError

Item = TypeVar("Item")
Result = TypeVar("Result")
_Answer = tuple[Any, BaseException | None]

AHEAD = 2
"""Results that may wait for their turn, as many times over as there are workers: more would only take memory."""
CREW_S = 0.05
"""What it costs to start and end workers, before that was measured here: .03 s in a process of 300 MB, .25 in one of
4 GB, for sixteen."""
WORTH = 2.0
"""Workers must save so many times what it costs to start and end them."""
LOOK_S = 0.1
"""How often a caller that waits is asked whether it still wants the result."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
"""Source: prctl(2), linux/prctl.h."""


_alone = False
"""Whether this process is itself a worker: it has one core."""
_crews = 0
_counting = threading.Lock()
_forking = threading.Lock()
"""Held while workers are forked: another crew's would inherit both ends of the pipes, and hide that one ended."""
_seconds: dict[object, float] = {}
"""What an item took when it was last worked on here, by the function's code."""
_crew_s = CREW_S
"""What it took to start and end the last workers."""


def _go_on() -> None:
    """What a caller checks who never changes his mind."""


def in_order(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    hands: int,
    check: Callable[[], None] = _go_on,
    *,
    heavy: bool = False,
) -> Generator[Result, None, None]:
    """`work(item)` for every item, in order; so many at a time as there are hands, while the caller is busy too.

    work: anything, closures too; what it changes is seen by nobody else. check: asked while waiting; may raise.
    heavy: the caller knows that it pays to fork; else items are worked on here until what is left of them seems to,
    as it may from the start when the same function was asked before.
    What `work` raises is raised here. Raises EngineError when the system ends a worker, as it does for want of memory.

    >>> list(in_order(lambda n: n * n, [1, 2, 3], hands=2))
    [1, 4, 9]
    """
    _one_thread_a_process()
    done, spent = 0, 0.0
    hands = 1 if _alone else max(1, min(hands, len(items)))
    whose = _code_of(work)
    each_s = _seconds.get(whose)
    while done < len(items) and not (
        hands > 1 and (heavy or (each_s is not None and _pays(each_s, len(items) - done, hands)))
    ):
        check()
        begun = time.monotonic()
        result = work(items[done])
        done, spent = done + 1, spent + time.monotonic() - begun
        each_s = _seconds[whose] = spent / done
        yield result
    if done == len(items):
        return
    with Crew(work, min(hands, len(items) - done)) as crew:
        pending: collections.deque[Future[Result]] = collections.deque()
        for item in items[done:]:
            pending.append(crew.submit(item))
            if len(pending) >= AHEAD * crew.hands:
                yield waited_for(pending.popleft(), check)
        while pending:
            yield waited_for(pending.popleft(), check)


def in_batches(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    hands: int,
    check: Callable[[], None] = _go_on,
    *,
    heavy: bool = False,
) -> Generator[Result, None, None]:
    """`in_order` for items that are made one after another, or are large: a few are drawn, then worked on together.

    Items are seen by the workers as they lie in memory; only results are sent. AHEAD times as many as there are hands
    are held at a time.

    >>> list(in_batches(lambda n: n * n, iter([1, 2, 3]), hands=2))
    [1, 4, 9]
    """
    drawn = iter(items)
    while batch := list(itertools.islice(drawn, AHEAD * max(1, hands))):

        @functools.wraps(work)
        def picked(at: int, batch: Sequence[Item] = batch) -> Result:
            return work(batch[at])

        yield from in_order(picked, range(len(batch)), hands, check, heavy=heavy)


def _one_thread_a_process() -> None:
    cv2.setNumThreads(1)
    _limit_blas()


@functools.cache
def _limit_blas() -> None:
    """OpenBLAS starts a thread a core in every process that multiplies a matrix: eight processes on two cores took 2.8
    times the processor time with sixteen such threads each. Workers inherit the limit."""
    threadpoolctl.ThreadpoolController().select(internal_api="openblas").limit(limits=1)


def _code_of(work: Callable[..., Any]) -> object:
    """What two closures of one function have in common, and so may take as long."""
    while isinstance(work, functools.partial):
        work = work.func
    work = inspect.unwrap(work)
    return getattr(getattr(work, "__func__", work), "__code__", type(work))


def _pays(each_s: float, left: int, hands: int) -> bool:
    """Whether workers save more time than it takes to start and end them, as it did the last time."""
    return each_s * left * (1 - 1 / hands) > WORTH * _crew_s


def waited_for(future: Future[Result], check: Callable[[], None]) -> Result:
    """A result, once it is there. check: asked while waiting; may raise."""
    while True:
        check()
        try:
            return future.result(LOOK_S)
        except concurrent.futures.TimeoutError:
            if future.done():  # just now, or with a time-out of its own
                return future.result()
        except EngineError:
            # What ends a whole group of processes ends the workers at once, and this one asks them why too late.
            check()
            raise


class Crew(Generic[Item, Result]):
    """Workers for one function, forked when the context is entered and ended with it. Items are sent to them.

    They end with the thread that entered (PR_SET_PDEATHSIG of prctl(2)).
    """

    def __init__(self, work: Callable[[Item], Result], hands: int) -> None:
        self._work = work
        self.hands = 1 if _alone else max(1, hands)
        self._workers: list[_Worker] = []
        self._pool: ThreadPoolExecutor | None = None
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._start_s = 0.0

    def __enter__(self) -> Crew[Item, Result]:
        begun = time.monotonic()
        _one_thread_a_process()
        if self.hands > 1:
            if sys.platform == "linux":
                # All of them before the first thread: a fork leaves threads behind.
                with _forking:
                    self._workers = _started(self._work, self.hands)
                for worker in self._workers:
                    self._idle.put(worker)
            self._pool = ThreadPoolExecutor(self.hands, thread_name_prefix="crew")
        self._start_s = time.monotonic() - begun
        return self

    def __exit__(self, *_: object) -> None:
        global _crew_s  # noqa: PLW0603 - one process, one answer
        begun = time.monotonic()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            # Before the threads are waited for: each waits for its worker.
            for worker in self._workers:
                worker.kill()
            self._pool.shutdown(wait=True)
            if self._workers and sys.is_finalizing():
                # No thread starts any more.
                _all_ended(self._workers)
            elif self._workers:
                # Giving back large processes' memory takes the system a tenth of a second; nobody has to wait for that.
                threading.Thread(target=_all_ended, args=(self._workers,), name="crew-end", daemon=True).start()
                _crew_s = self._start_s + time.monotonic() - begun

    def submit(self, item: Item) -> Future[Result]:
        """Have one item worked on; with a single hand at once, in this process."""
        if self._pool is not None and not _alone:
            return self._pool.submit(self._ask, item)
        done: Future[Result] = Future()
        try:
            done.set_result(self._work(item))
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for, as a worker's is
            done.set_exception(error)
        return done

    def _ask(self, item: Item) -> Result:
        if not self._workers:
            return self._work(item)
        worker = self._idle.get()
        try:
            result: Result = worker.ask(item)
            return result
        finally:
            self._idle.put(worker)


class _Worker:
    """One forked process, and the pipe to it.

    Forked by hand: `multiprocessing.Process` closes standard input in the child, which waits for ever where a thread of
    the parent is reading from it, as a daemon's worker does.
    """

    def __init__(self, pipe: Connection, mother: _Worker | None) -> None:
        """mother: the worker that forked this one; None is this process."""
        self._pipe, self._mother = pipe, mother
        self._pid: int | None = None
        self._status: int | None = None
        self._starting, self._ending = threading.Lock(), threading.Lock()

    def ask(self, item: Any) -> Any:
        """The result of one item. Raises what the work raised."""
        try:
            self._known_pid()
            shared_arrays.send(self._pipe, item)
            result, error = shared_arrays.receive(self._pipe)
        except (OSError, EOFError) as gone:
            # It may be there still: this process could not take what it sent.
            self.kill()
            raise EngineError(
                f"A working process was ended by the system (status {self.ended()}), most likely for lack of memory.",
                "Run with fewer cores (--threads), or free some memory.",
            ) from gone
        if error is not None:
            raise error
        return result

    def _known_pid(self) -> int:
        """It says so itself, first of all. Raises EOFError where it never came to life."""
        with self._starting:
            if self._pid is None:
                self._pid = int(self._pipe.recv())
            return self._pid

    def kill(self) -> None:
        with self._ending, contextlib.suppress(OSError, EOFError):
            if self._status is None:
                os.kill(self._known_pid(), signal.SIGKILL)

    def close(self) -> None:
        self._pipe.close()

    def ended(self) -> int | None:
        """Wait for the process to end; its exit status, negative for a signal; None where the system tells nobody."""
        if self._mother is not None:
            # A process is told of the end of its own children, and inherits those of a child that ended.
            self._mother.kill()
            self._mother.ended()
        with self._ending, contextlib.suppress(OSError, EOFError):
            if self._status is None:
                self._status = os.waitstatus_to_exitcode(os.waitpid(self._known_pid(), 0)[1])
        return self._status


def _started(work: Callable[[Any], Any], hands: int) -> list[_Worker]:
    """So many workers. Each is forked by this process or by a worker before it, so that forks run side by side: one of
    a process that holds gigabytes takes up to 30 ms, and sixteen in a row half a second."""
    pipes: list[tuple[Connection, Connection]] = []
    workers: dict[int, _Worker] = {}

    def related(mother: _Worker | None, first: int, last: int) -> None:
        for middle, end in _halves(first, last):
            workers[middle] = _Worker(pipes[middle][0], mother)
            related(workers[middle], middle + 1, end)

    _adopt(1)
    # An interrupt that is raised in the middle of a fork would be raised in the child as well.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pipes += [Pipe() for _ in range(hands)]
        related(None, 0, hands)
        _fork(work, pipes, 0, hands)
    except BaseException as error:
        for _, theirs in pipes:
            theirs.close()
        for worker in workers.values():
            worker.kill()
        _all_ended([*workers.values()])
        if not isinstance(error, OSError):
            raise
        raise EngineError(
            f"No more processes can be started: {error.strerror}.", "Run with fewer cores (--threads), or end others."
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return [workers[number] for number in range(hands)]


def _halves(first: int, last: int) -> Iterator[tuple[int, int]]:
    """(a worker that the process at hand forks, where the range ends that this one looks after), upper half first.

    >>> list(_halves(0, 8))
    [(4, 8), (2, 4), (1, 2), (0, 1)]
    """
    while last > first:
        middle = (first + last) // 2
        yield middle, last
        last = middle


def _fork(work: Callable[[Any], Any], pipes: Sequence[tuple[Connection, Connection]], first: int, last: int) -> None:
    """Workers `first` to `last` - 1, each with its end of its pipe."""
    for middle, end in _halves(first, last):
        mother = os.getpid()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that hold a lock while another forks. Those of this process that may
            # (a predictor's, a listener's) hold none that `work` asks for: it computes on one thread and reads files.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                # First of all, so that nobody ends without a name.
                pipes[middle][1].send(os.getpid())
                _begin(mother)
                for number, (ours, theirs) in enumerate(pipes):
                    ours.close()
                    if not middle <= number < end:
                        theirs.close()
                _fork(work, pipes, middle + 1, end)
                _serve(work, pipes[middle][1])
            finally:
                os._exit(1)
        for _, theirs in pipes[middle:end]:
            theirs.close()


def _adopt(crews: int) -> None:
    """While there are crews this process inherits the children of its children, so that it can wait for them."""
    global _crews  # noqa: PLW0603 - one process, one answer
    with _counting:
        _crews += crews
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(_crews > 0))


def _all_ended(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.ended()
    for worker in workers:
        worker.close()
    _adopt(-1)


def _begin(mother: int) -> None:
    """A worker's first breath: it ends with the process that forked it."""
    global _alone  # noqa: PLW0603 - one process, one answer
    _alone = True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != mother:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    """A worker's life: until it is killed, or nobody is left who would ask. Never returns."""
    while True:
        try:
            item = shared_arrays.receive(pipe)
        except (EOFError, OSError):
            os._exit(0)
        except Exception as error:  # noqa: BLE001 - an item of a class that can't be made again
            answer: _Answer = (None, _as_text(error))
        else:
            answer = _answer(work, item)
            del item
        try:
            shared_arrays.send(pipe, answer)
        except OSError:
            os._exit(0)
        except Exception as error:  # noqa: BLE001 - a result, or a library's error, that can't be sent
            shared_arrays.send(pipe, (None, _as_text(error)))
        # Else it would lie here beside the next one.
        del answer


def _answer(work: Callable[[Any], Any], item: Any) -> _Answer:
    try:
        return work(item), None
    except VoidError as error:
        return None, error
    except BaseException as error:  # noqa: BLE001 - raised again where the result is waited for
        return None, _as_text(error)


def _as_text(error: BaseException) -> RuntimeError:
    """An exception of a library may hold what can't be sent."""
    return RuntimeError("".join(traceback.format_exception(error)))
