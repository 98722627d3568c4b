"""The model in a process of its own: the same answers, and nothing of it is left when it should be gone."""

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from tests.test_void_engine import Heard, a_shot, fill, options, weights  # noqa: F401 - fixtures
from void_server import engine as engines
from void_server.engine.void import VoidEngine
from void_server.engine.void.model_process import ModelProcess
from void_server.wire.errors import EngineError, JobCancelledError, LimitError
from void_server.wire.report import Report

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux copies processes")


@pytest.fixture
def model():
    model = ModelProcess("cpu")
    yield model
    model.release()


def pid_of(model):
    return model._running[0].pid


def test_it_makes_the_same_bits_and_says_the_same_as_the_model_in_this_process(options, model):  # noqa: F811
    fill(a_shot(options))  # the prompt is known from now on
    heard, heard_here = Heard(), Heard()
    made = list(VoidEngine("cpu", model).fill(a_shot(options), heard.report))
    here = list(VoidEngine("cpu").fill(a_shot(options), heard_here.report))
    assert all((a.rgb == b.rgb).all() for a, b in zip(made, here, strict=True))
    assert heard.events == heard_here.events


def test_it_stays_for_the_next_shot_and_is_gone_once_released(options, model):  # noqa: F811
    engine = VoidEngine("cpu", model)
    list(engine.fill(a_shot(options), Report()))
    first = pid_of(model)
    list(engine.fill(a_shot(options), Report()))
    assert pid_of(model) == first
    engine.release()
    assert not Path(f"/proc/{first}").exists()


def test_it_is_started_with_the_engine_and_waits_for_the_shot(options, monkeypatch):  # noqa: F811
    apart = ModelProcess("cpu")
    monkeypatch.setattr("void_server.engine.void.engine._model_on", lambda device: apart)
    engine = engines.load("void", "cpu")
    try:
        started = pid_of(apart)
        assert list(engine.fill(a_shot(options), Report()))
        assert pid_of(apart) == started
        assert engines.load("void", "cpu") is engine
        assert pid_of(apart) == started
    finally:
        engines.release()


def test_cancel_ends_it_and_the_next_shot_has_a_new_one(options, model):  # noqa: F811
    engine, seen = VoidEngine("cpu", model), []
    report = Report(seen.append, lambda: any(e.get("stage") == "void" for e in seen))
    with pytest.raises(JobCancelledError):
        list(engine.fill(a_shot(options), report))
    assert model._running is None
    assert list(engine.fill(a_shot(options), Report()))


def test_one_that_the_system_ends_fails_its_shot_in_one_line(options, model):  # noqa: F811
    engine = VoidEngine("cpu", model)

    def kill(event):
        if event.get("stage") == "void":
            os.kill(pid_of(model), signal.SIGKILL)

    with pytest.raises(EngineError, match="was ended") as caught:
        list(engine.fill(a_shot(options), Report(kill)))
    assert "\n" not in caught.value.message
    assert list(engine.fill(a_shot(options), Report()))


def test_what_it_raises_is_raised_here_and_what_it_prints_goes_where_errors_go(options, model, capfd):  # noqa: F811
    wanted = options | {"preset": "released", "refine": True, "window": 29}
    with pytest.raises(LimitError, match="29 frames at most"):
        list(VoidEngine("cpu", model).fill(a_shot(wanted, frames=33), Report()))
    for thread in threading.enumerate():
        if thread.name == "void-model":
            thread.join()
    said = capfd.readouterr().err
    assert "LimitError" in said
    assert "Warning" not in said


def test_it_does_not_outlive_whoever_started_it():
    script = """
        import os, signal
        from void_server.engine.void.model_process import ModelProcess
        model = ModelProcess("cpu")
        print(model._started()[0].pid, flush=True)
        input()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        ends = os.pidfd_open(int(starter.stdout.readline()))
        starter.communicate("\n", timeout=60)
        assert starter.returncode == -signal.SIGKILL
        assert select.select([ends], [], [], 60)[0], "it is still there"
        os.close(ends)
