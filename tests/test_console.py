"""What a person sees while they wait: what is done, how much of it, how long it may take; and what Ctrl-C leaves."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny_shot
from void_server import cli
from void_server.commands.terminal import completion
from void_server.commands.terminal.console import STAGES, Console
from void_server.farm.dialects import UNTOLD
from void_server.wire.report import SHARES


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        return [line for line in re.split(r"[\r\n]+", self.getvalue()) if line.strip()]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(stage: str, done: int, total: int) -> dict[str, object]:
    return {"event": "progress", "stage": stage, "done": done, "total": total, "frame": None}


def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[Screen, Clock, Console]:
    """A console that a person watches. Called by the test itself: between a fixture and its test pytest takes standard
    error back."""
    screen, clock = Screen(), Clock()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen, clock, Console("human", clock)


def test_a_terminal_shows_stage_frames_share_and_time_left(monkeypatch):
    screen, clock, console = watched(monkeypatch)
    console.on_event(progress("camera", 1, 48))
    clock.now = 60.0
    console.on_event(progress("frames", 0, 48))
    console.on_event(progress("frames", 48, 48))
    console.close()
    said = screen.lines()
    assert any("following the camera" in line and "1/48 frames" in line and "12% of all" in line for line in said)
    # 30 % of the job took a minute, so 70 % take 2 min 20 s.
    assert any("filling and writing clean frames" in line and "30% of all, about 2 min left" in line for line in said)


def test_no_time_is_told_before_there_is_anything_to_tell_it_from(monkeypatch):
    screen, clock, console = watched(monkeypatch)
    console.on_event(progress("hash", 1, 48))
    clock.now = 1.0
    console.on_event(progress("frames", 10, 48))
    console.close()
    assert "left" not in screen.getvalue()


def test_bytes_are_told_as_bytes_and_their_time_from_their_own_rate(monkeypatch):
    screen, clock, console = watched(monkeypatch)
    console.on_event(progress("upload", 1, 2_000_000_000))
    clock.now = 10.0
    console.on_event(progress("upload", 500_000_000, 2_000_000_000))
    console.close()
    assert any("500M/2.00GB" in line and "about 31 s left" in line for line in screen.lines())


def test_where_nobody_watches_each_stage_is_one_line(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    console = Console("human")
    for stage in ("read", "camera", "read"):
        for done in range(1, 4):
            console.on_event(progress(stage, done, 3))
    console.close()
    assert said.getvalue().splitlines() == ["reading frames (3 frames)", "following the camera (3 frames)"]


def test_a_stage_that_alternates_with_another_does_not_flicker(monkeypatch):
    screen, _, console = watched(monkeypatch)
    for done in range(1, 4):
        console.on_event(progress("fill", done, 3))
        console.on_event(progress("frames", done, 3))
    console.close()
    assert not [line for line in screen.lines() if "filling and writing" not in line]


def test_waiting_for_a_device_is_said(monkeypatch):
    screen, _, console = watched(monkeypatch)
    console.on_event({"event": "state", "state": "queued"})
    assert "Waiting for a free device" in screen.getvalue()


def test_every_stage_that_counts_towards_a_job_has_words():
    assert set(SHARES) <= set(STAGES)
    source = "".join(path.read_text(encoding="utf-8") for path in Path(cli.__file__).parent.rglob("*.py"))
    said = set(re.findall(r"""progress\(\s*"(\w+)",""", source)) | set(re.findall(r'"stage": "(\w+)"', source))
    assert said <= set(STAGES) | set(UNTOLD)


def test_json_is_what_the_events_are(capsys):
    console = Console("json")
    event = progress("camera", 1, 48)
    console.on_event(event)
    console.on_event({"event": "state", "state": "queued"})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [event, {"event": "state", "state": "queued"}]


def run_until(words: list[object], when: str, *, presses: int = 1) -> tuple[int, str]:
    """Run a command on a terminal, press Ctrl-C once `when` is read; returns its status and all that was on it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "void_server.cli", *map(str, words)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, text=True) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux ends a terminal so, when nobody holds the other end
                break
            if not piece:
                break
            shown += piece
            if presses and when.encode() in shown:
                presses -= 1
                process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    os.close(ours)
    return process.returncode, shown.decode("utf-8", "replace")


def test_ctrl_c_says_that_it_was_heard_what_is_kept_and_how_to_go_on(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    out = tmp_path / "out"
    words = ["run", shot.plate, "--matte", shot.matte, "--out", out, "--no-physics-prior"]
    status, shown = run_until(words, "Engine: propagate")
    assert status == 130
    assert "Stopping between frames; Ctrl-C again stops at once." in shown
    assert re.search(r"Stopped\. (No clean frame was finished yet|Of this run, \d+ clean frames? stay in)", shown)
    assert re.search("[Tt]ype the same command again", shown)
    assert "Traceback" not in shown


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_names_the_commands_and_their_flags(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("doctor", "submit", "--affected-add", "--report"):
        assert word in script, word


def test_the_bash_script_is_one_that_bash_takes_and_completes_with(tmp_path):
    script = subprocess.run(
        [sys.executable, "-m", "void_server.cli", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "script").write_text(script)
    asked = f"""
    source {tmp_path}/script
    COMP_WORDS=(void-server ru); COMP_CWORD=1
    $(complete -p void-server | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["run"]


def test_the_version_is_told_with_the_name(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"void-server \d+\.\d+\.\d+\n", capsys.readouterr().out)
