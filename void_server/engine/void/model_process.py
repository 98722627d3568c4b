"""The model in a process of its own, so that this one never holds a card.

What comes in and goes out: see `asked.Model`. It computes nothing.

The model ends with its process: a cancelled or failed shot gives the whole card back at once, and so does whoever
kills this one. And what a shot is spread over are copies of this process (`parallel`), which holds gigabytes less: a
shot of 72 frames took 80 s instead of 99 (docs/measurements.md).

Between shots the process stays, with the model loaded, until it is released or the process that started it ends.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from void_server.engine.contract import Array
from void_server.engine.void.asked import Asked, Model
from void_server.engine.void.options import VoidOptions
from void_server.parallel import LOOK_S
from void_server.wire.errors import EngineError, VoidError
from void_server.wire.report import Event, Report

END_S = 20
"""A killed process that still ends after this long hangs in a driver; nobody waits for it."""


class ModelProcess:
    """See `asked.Model`. device: as `ModelHere` takes it."""

    def __init__(self, device: str | None = None) -> None:
        self._device = device or ""
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None

    def prepare(self) -> None:
        """Start the process: it takes some ten seconds to import torch, while the shot is read here."""
        self._started()

    def most_pixels(self, options: VoidOptions) -> int:
        return int(self._ask("most_pixels", (options,), Report()))

    def generate(self, asked: Asked, options: VoidOptions, report: Report) -> Array:
        made: Array = self._ask("generate", (asked, options), report)
        return made

    def release(self) -> None:
        if self._running is None:
            return
        process, pipe = self._running
        self._running = None
        pipe.close()
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)

    def __del__(self) -> None:
        self.release()

    def _ask(self, method: str, given: tuple[Any, ...], report: Report) -> Any:
        """What the method of `ModelHere` returns, its events forwarded. Raises what it raised."""
        process, pipe = self._started()
        try:
            pipe.send((method, given))
            while True:
                if not pipe.poll(LOOK_S):
                    report.check_cancelled()
                    continue
                kind, value = pipe.recv()
                if kind == "event":
                    report.forward(value)
                    report.check_cancelled()
                elif kind == "error":
                    raise value
                else:
                    return value
        except (OSError, EOFError) as gone:
            self.release()
            raise EngineError(
                f"The process that runs VOID was ended (status {process.poll()}), most likely for lack of memory.",
                "See the job's log; free some memory, or choose a smaller picture with --option size=256x448.",
            ) from gone
        except BaseException:
            # Whatever the shot failed of: nothing of it stays on the card.
            self.release()
            raise

    def _started(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._running is not None and self._running[0].poll() is None:
            return self._running
        self.release()
        ours, theirs = Pipe()
        # Not with -m: the package imports this module first, and Python warns of that.
        code = f"from {__name__} import main; main()"
        words = [sys.executable, "-c", code, str(theirs.fileno()), self._device]
        try:
            process = subprocess.Popen(
                words,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        finally:
            theirs.close()
        threading.Thread(target=_pass_on, args=(process,), name="void-model", daemon=True).start()
        self._running = process, ours
        return self._running


def in_this_process(device: str | None) -> Model:
    """The model here; imports torch. Raises EngineError where that is missing."""
    try:
        from void_server.engine.void.model_here import ModelHere
    except ImportError as error:
        raise EngineError(f"VOID needs torch: {error}.", "pip install 'void-server[void]'.") from error
    return ModelHere(device)


def _pass_on(process: subprocess.Popen[bytes]) -> None:
    """What the process prints goes where this one's errors go now: from job to job, that is another log."""
    assert process.stdout is not None
    with process.stdout:
        while said := os.read(process.stdout.fileno(), 1 << 16):
            with contextlib.suppress(OSError):
                os.write(2, said)


def serve(pipe: Connection, device: str | None) -> None:
    """Answer requests until the other end closes, then end at once, in the middle of whatever is computed."""
    requests: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                requests.put(pipe.recv())
        os._exit(0)

    threading.Thread(target=read, name="requests", daemon=True).start()
    model: Any = None
    with contextlib.suppress(EngineError):  # it is raised again where an answer is waited for
        model = in_this_process(device)
    while True:
        method, given = requests.get()
        try:
            if model is None:
                model = in_this_process(device)
            report = (Report(lambda event: _tell(pipe, event)),) if method == "generate" else ()
            answer = "result", getattr(model, method)(*given, *report)
        except VoidError as error:
            traceback.print_exc()
            answer = "error", error
        except BaseException as error:  # noqa: BLE001 - raised again where the result is waited for
            traceback.print_exc()
            text = f"VOID failed: {type(error).__name__}: {error}"
            answer = "error", EngineError(text.splitlines()[0], "The job's log holds the traceback.")
        pipe.send(answer)


def _tell(pipe: Connection, event: Event) -> None:
    pipe.send(("event", event))


def main() -> None:
    """Of the process itself: the pipe's descriptor and the device are its arguments."""
    serve(Connection(int(sys.argv[1])), sys.argv[2] or None)
