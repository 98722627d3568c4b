"""The Blender add-on in a Blender with a window, used by mouse and keyboard: Debian sid's own, in a folder of its own.

What comes in: `VOID_BLENDER_WINDOW`, the folder that `.ci/blender_window` built; without it, the one in the user's
cache folder. What goes out: one test for each scene of `tests/blender_window/scenes.py`; screenshots and measured gaps
in `build/blender_window`. Buttons are found by what they do, never by where they are. Where there is no such Blender
the tests are skipped with the reason, and `.ci/run` says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import tiny_shot
from void_server import cli
from void_server.commands.demo import shot as demo_shot

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "tests/blender_window"
KEPT = Path(os.environ.get("VOID_ARTIFACTS") or ROOT / "build") / "blender_window"
FRAMES = 8
"""Of the demo's 24: what is tested is the window, and the ball rolls on the same."""

SIZES = {"1280x720": (1280, 720, 1.0), "1920x1080": (1920, 1080, 1.0), "hidpi": (1920, 1080, 1.5)}

INSIDE = """
set -e
root=$1 shared=$2; shift 2
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; mount -t sysfs sysfs "$root/sys"
mkdir -p "$root$shared"; mount --bind "$shared" "$root$shared"
exec chroot "$root" "$@"
"""
"""The mounts are of this process's own and are gone with it."""


def _root():
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "void-tests/blender-window"
    root = Path(os.environ.get("VOID_BLENDER_WINDOW") or cache)
    if not (root / "complete").is_file():
        why = os.environ.get("VOID_NO_BLENDER_WINDOW") or f"none at {root}; as root: .ci/blender_window {root}"
        pytest.skip(f"no Blender with a window: {why}")
    return root


class Desk:
    """A folder that both sides see, with everything a scene needs."""

    def __init__(self, folder, root, built_zip):
        self.folder, self.root = folder, root
        self.shared = folder / "shared"
        self.resources, self.shots, self.report = (self.shared / n for n in ("resources", "shots", "report.jsonl"))
        for made in (self.resources, self.shots, self.shared / "home"):
            made.mkdir(parents=True)
        shutil.copytree(SCRIPTS, self.shared / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        self.zip = shutil.copy(built_zip, self.shared / "void_inpaint.zip")
        self.gate = self.shared / "gate"
        self._programs = []
        self._log = (folder / "blender.log").open("a")

    def inside(self, *words, **more):
        """A program of that Debian, started."""
        enter = ["unshare", "--mount", "--propagation", "private", "bash", "-c", INSIDE, "inside"]
        return subprocess.Popen(
            [*enter, str(self.root), str(self.shared), *words], stdin=subprocess.DEVNULL, text=True, **more
        )

    def blender(self, *words, display=""):
        return self.inside(
            "env", "-i", "PATH=/usr/bin:/bin", f"HOME={self.shared}/home", "LANG=C.UTF-8", f"DISPLAY={display}",
            "LIBGL_ALWAYS_SOFTWARE=1", f"BLENDER_USER_RESOURCES={self.resources}", f"VOID_WINDOW={self.given}",
            "blender", *words,
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def install(self):
        """By Blender's own installer, as `void-server install blender` calls it."""
        self.given = "{}"
        words = ("--command", "extension", "install-file", "--repo", "user_default", "--enable", str(self.zip))
        with self.blender(*words) as installing:
            assert installing.wait(120) == 0, self.log()

    def start_daemon(self):
        self.address = "tcp://127.0.0.1:*"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BLENDER"))}
        environment |= {"PYTHONPATH": str(ROOT), "VOID_TEST_GATE": str(self.gate), "CUDA_VISIBLE_DEVICES": ""}
        words = [sys.executable, "-m", "tests.fakes.gated_daemon", self.address, str(self.folder / "data")]
        daemon = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self._programs.append(daemon)
        os.setpriority(os.PRIO_PROCESS, daemon.pid, 10)  # as the add-on does with the one that it starts
        self.address = json.loads(daemon.stdout.readline())["ready"]

    def play(self, scene, size="1280x720", timeout_s=1700, **more):
        """Play a scene; its checks as (check, ok, detail), failed ones first to be seen."""
        width, height, scale = SIZES[size]
        screen = self.inside(
            "Xvfb", "-displayfd", "1", "-screen", "0", f"{width}x{height}x24", "+extension", "GLX", "-nolisten", "tcp",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._programs.append(screen)
        display = f":{screen.stdout.readline().strip()}"
        given = {
            "scene": scene, "size": size, "scale": scale, "screen": (width, height), "report": str(self.report),
            "gate": str(self.gate), "shots": str(self.shots), "shot": str(self.shared / "shot"),
            "blend": str(self.shared / "edit.blend"), "server": self.address, **more,
        }  # fmt: skip
        self.given = json.dumps(given)
        program = self.blender(
            "--gpu-backend", "opengl", "--window-geometry", "0", "0", str(width), str(height),
            "--enable-event-simulate", "--app-template", "Video_Editing",
            "--python", str(self.shared / "scripts/scenes.py"), display=display,
        )  # fmt: skip
        self._programs.append(program)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(timeout_s)
        self.stop(program, screen)
        said = self.report.read_text().splitlines() if self.report.is_file() else []
        return [json.loads(line) for line in said]

    def stop(self, *programs):
        for program in programs or self._programs[::-1]:
            if program.poll() is None:
                program.terminate()
                try:
                    program.wait(10)
                except subprocess.TimeoutExpired:
                    program.kill()
                    program.wait()
            if program.stdout is not None:
                program.stdout.close()

    def log(self):
        return (self.folder / "blender.log").read_text()[-2500:]


@pytest.fixture(scope="module")
def window_zip(tmp_path_factory):
    _root()
    out = tmp_path_factory.mktemp("zip") / "void_inpaint.zip"
    assert cli.main(["install", "blender", "--zip", str(out), "--platform", "linux-x64"]) == 0
    return out


@pytest.fixture
def desk(tmp_path, window_zip):
    made = Desk(tmp_path, _root(), window_zip)
    made.install()
    made.start_daemon()
    yield made
    made.stop()
    made._log.close()
    if made.shots.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        for picture in made.shots.iterdir():
            shutil.copy(picture, KEPT)
        if made.report.is_file():
            with (KEPT / "report.jsonl").open("a") as kept:
                kept.write(made.report.read_text())


def _demo(desk, frames=FRAMES):
    """The demo's shot, as `void-server demo` writes it, its first frames."""
    shot = desk.shared / "shot"
    demo_shot.write(shot)
    for role in ("plate", "matte", "truth"):
        for extra in sorted((shot / role).iterdir())[frames:]:
            extra.unlink()


def _tiny(desk):
    tiny_shot.write(desk.shared / "shot")


def _hold(desk, checks, scenes):
    """Every check of the scenes held, and every screenshot contains what it must."""
    told = {check["check"]: check for check in checks}
    for scene in scenes:
        if scene != "leave":
            assert f"scene {scene}" in told, f"Blender went away in scene {scene}: {checks}\n{desk.log()}"
    before = 0
    for check in checks:
        assert check["ok"], f"{check['check']}: {check['detail']}\n{desk.log()}"
        if "contains" in check:
            x0, y0, x1, y1 = check["preview"]
            light = cv2.imread(check["detail"])[y0:y1, x0:x1].astype(int)
            blue, green, red = (light[..., i] for i in range(3))
            ball = int(((red > 170) & (green < 0.5 * red) & (blue < 0.5 * red)).sum())
            tint = int(((blue > red + 50) & (blue > 100)).sum())
            if check["contains"] == "ball":
                before = ball
                assert ball > 200, check
            held = {"ball": True, "no ball": ball < 0.05 * before, "blue": tint > 300, "no blue": tint < 30}
            assert held[check["contains"]], (check, ball, before, tint)


@pytest.mark.timeout(1800)
def test_a_newcomer_removes_the_demos_ball_in_five_clicks(desk):
    _demo(desk)
    _hold(desk, desk.play("newcomer"), ["newcomer"])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", SIZES)
def test_button_progress_and_result_are_in_sight_and_in_place(desk, size):
    _tiny(desk)
    _hold(desk, desk.play("fits", size), ["fits"])


@pytest.mark.timeout(1800)
def test_preview_cancel_before_after_undo_and_redo_by_mouse_and_keyboard(desk):
    _demo(desk, 4)
    _hold(desk, desk.play("work"), ["work"])


@pytest.mark.timeout(1800)
def test_a_job_is_taken_up_after_blender_was_quit(desk):
    _tiny(desk)
    desk.play("leave")
    _hold(desk, desk.play("come_back"), ["leave", "come_back"])


@pytest.mark.timeout(1800)
def test_rendering_a_movie_strip_leaves_the_window_usable(desk):
    path = desk.shared / "plate.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 24, (640, 360))
    wall = cv2.resize(np.clip(tiny_shot.wall().astype(np.float32) * 255, 0, 255).astype(np.uint8), (640, 360))
    for index in range(8):
        frame = wall.copy()
        frame[150:210, 200 + 10 * index : 260 + 10 * index] = 250
        film.write(frame)
    film.release()
    _hold(desk, desk.play("movie", movie=str(path)), ["movie"])


@pytest.mark.timeout(1800)
def test_a_mask_is_drawn_over_the_strip_and_removes_what_it_covers(desk):
    _tiny(desk)
    _hold(desk, desk.play("mask"), ["mask"])
