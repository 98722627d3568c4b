"""What a daemon says to whoever started it: lines on standard error that never hold it up and never end it.

What comes in: a line, or an error nobody foresaw. What goes out: text on standard error, in a thread of its own. A
terminal that was closed, or a pipe that nobody reads, costs the lines and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import time
import traceback

_MOST_WAITING = 1000
"""Lines that may wait for a reader; more are lost."""
_STANDARD_ERROR = 2

_waiting: queue.Queue[bytes] = queue.Queue(_MOST_WAITING)


def remark(text: object) -> None:
    """Say one line. Never waits and never raises."""
    with contextlib.suppress(queue.Full):
        _waiting.put_nowait(f"{text}\n".encode(errors="backslashreplace"))
    _start_writer()


def remark_on(error: BaseException) -> None:
    """Say where an error came from that nobody foresaw."""
    remark("".join(traceback.format_exception(error)).rstrip())


def last_words(patience_s: float = 1.0) -> None:
    """Wait until all is said, or nobody seems to listen."""
    until = time.monotonic() + patience_s
    while _waiting.unfinished_tasks and time.monotonic() < until:
        time.sleep(0.01)


@functools.cache
def _start_writer() -> None:
    # Its end is nobody's concern: it may be waiting for a reader who never comes.
    threading.Thread(target=_write, name="remarks", daemon=True).start()


def _write() -> None:
    while True:
        line = _waiting.get()
        # Past Python's own stream: a thread that waits inside it keeps the whole process from ending.
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(_STANDARD_ERROR, line) :]
        _waiting.task_done()
