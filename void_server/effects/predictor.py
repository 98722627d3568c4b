"""The learned half: a small network, run by ONNX Runtime, that tells an object's effects from everything else.

What comes in: the evidence of eight frames in a row. What goes out: what the network believes of each. How it was
trained, and where it fails: MODEL_CARD.md beside this file. It decides nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Protocol

import numpy as np
import numpy.typing as npt

from void_server.effects.evidence import Evidence
from void_server.process import threads
from void_server.wire.errors import EngineError

Array = npt.NDArray[np.float32]

FRAMES = 8
"""Frames the network sees together: its temporal shifts are built in."""
FILE = "predictor.onnx"
MOST_THREADS = 8
"""At 192 rows more gain nothing."""


@dataclasses.dataclass(frozen=True)
class Belief:
    """Of one frame, float32: chances in [0, 1]."""

    appearance: Array
    """[h/2, w/2]: the object changed how this place looks: shadow, reflection, splash, light."""
    attenuation: Array
    """[h/2, w/2]: natural logarithm of code with the object over code without it."""
    physics: Array
    """[h/4, w/4]: something here would move differently without the object."""
    cells: Array
    """[2, rows, columns]: both once more, for cells of an eighth of the short side."""


_loading = threading.Lock()


class Predictor(Protocol):
    def look(self, evidence: Sequence[Evidence]) -> list[Belief]:
        """Beliefs of up to FRAMES frames in a row, all of one size."""


class OnnxPredictor:
    """The network in this wheel."""

    def __init__(self, model: bytes) -> None:
        """Raises EngineError for a file that ONNX Runtime does not take."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(MOST_THREADS, threads())
        options.log_severity_level = 3
        # Threads that wait in a loop for work take the cores from those that measure the next frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = [
            p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in onnxruntime.get_available_providers()
        ]
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=wanted)
        except Exception as error:
            raise EngineError(
                f"{FILE} can't be loaded: {error}.", "Install void-server again: the file is damaged."
            ) from error

    def look(self, evidence: Sequence[Evidence]) -> list[Belief]:
        frames = [*evidence, *[evidence[-1]] * (FRAMES - len(evidence))]
        inputs = {f.name: np.stack([getattr(e, f.name) for e in frames]) for f in dataclasses.fields(Evidence)}
        appearance, attenuation, physics, cells = self._session.run(None, inputs)
        return [Belief(appearance[i, 0], attenuation[i, 0], physics[i, 0], cells[i]) for i in range(len(evidence))]


def shipped() -> OnnxPredictor:
    """The predictor in this wheel, loaded once a process."""
    with _loading:
        return _loaded()


@functools.cache
def _loaded() -> OnnxPredictor:
    return OnnxPredictor(resources.files("void_server.effects").joinpath(FILE).read_bytes())


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Load the shipped predictor beside what is done meanwhile; an error is raised where it is asked for."""
    # Imported here: a process that is forked while a thread imports could wait for that import for ever.
    import onnxruntime  # noqa: F401

    def load() -> None:
        with contextlib.suppress(EngineError):
            shipped()

    thread = threading.Thread(target=load, name="predictor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
