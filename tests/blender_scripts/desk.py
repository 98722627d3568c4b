"""An editor's desk inside Blender: a saved file, strips, masks, a real daemon, and an independent judge of pixels.

What comes in: `GIVEN`, what the test session prepared. What goes out: `Desk`. Files are judged by OpenEXR's own Python
package, never by the code under test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import OpenEXR

GIVEN = json.loads(sys.argv[1])
V5 = bpy.app.version >= (5, 0, 0)
WIDTH, HEIGHT, FIRST, COUNT = 96, 64, 1001, 8


def addon(name=""):
    """A module of the installed extension."""
    import importlib

    return importlib.import_module(f"bl_ext.user_default.void_inpaint{'.' + name if name else ''}")


class Daemon:
    """`void-server serve` in a process of its own. With a gate, jobs wait until `open_gate`."""

    def __init__(self, folder, gated=False):
        self.folder, self.gated, self.process, self.address = folder, gated, None, "tcp://127.0.0.1:*"
        self.gate = folder / "gate"
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self):
        data = str(self.folder / "data")
        words = [GIVEN["python"], "-m", "void_server.cli", "serve", "--bind", self.address, "--data", data, "--json"]
        if self.gated:
            words = [GIVEN["python"], "-m", "tests.fakes.gated_daemon", self.address, data]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BLENDER"))}
        environment |= {"PYTHONPATH": GIVEN["root"], "VOID_TEST_GATE": str(self.gate), "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        self.address = json.loads(self.process.stdout.readline())["ready"]

    def open_gate(self):
        self.gate.touch()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
            self.process.stdout.close()

    def states(self):
        from void_server.wire.client import Client

        with Client(self.address) as client:
            return [job.state for job in client.jobs()]


class Desk:
    """A fresh, saved file for one claim. `daemon` is shared by all claims; `gated()` starts one of the claim's own."""

    def __init__(self, folder, daemon):
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        folder.mkdir(parents=True)
        self.folder, self.daemon, self._own = folder, daemon, []
        self.use(daemon)
        asked = bpy.context.preferences.addons[addon().__name__].preferences
        asked.start_daemon, asked.program = False, ""
        scene = self.scene
        scene.sequence_editor_create()
        if hasattr(bpy.context.workspace, "sequencer_scene"):
            bpy.context.workspace.sequencer_scene = scene
        scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
        self.blend = folder / "edit.blend"
        self.save()

    @property
    def scene(self):
        return bpy.data.scenes["Scene"]

    @property
    def strips(self):
        return self.scene.sequence_editor.strips

    def save(self):
        bpy.ops.wm.save_as_mainfile(filepath=str(self.blend))

    def reload(self):
        bpy.ops.wm.open_mainfile(filepath=str(self.blend))

    def use(self, daemon):
        bpy.context.preferences.addons[addon().__name__].preferences.server = daemon.address

    def gated(self):
        daemon = Daemon(self.folder / "gated", gated=True)
        self._own.append(daemon)
        self.use(daemon)
        return daemon

    def close(self):
        addon("removal").leave_all()
        for daemon in self._own:
            daemon.stop()

    def image_strip(self, role="plate", name=None, at=10, channel=2, count=COUNT, files=None):
        """An image strip of the tiny shot: role plate or matte."""
        folder = Path(GIVEN["shot"]) / role
        files = files or [folder / f"{role}.{FIRST + i}.exr" for i in range(count)]
        strip = self.strips.new_image(
            name or role, str(files[0]), channel=channel, frame_start=at, fit_method="ORIGINAL"
        )
        for file in files[1:]:
            strip.elements.append(Path(file).name)
        strip.void.physics_prior = False
        strip.void.engine = "propagate"
        self.scene.sequence_editor.active_strip = strip
        return strip

    def with_matte(self, strip, **more):
        """Give a strip the tiny shot's own matte, muted, beside it."""
        matte = self.image_strip("matte", at=int(addon("timeline").content_start(strip)), channel=1, **more)
        matte.mute = True
        strip.void.matte_source, strip.void.matte_strip = "STRIP", matte.name
        self.scene.sequence_editor.active_strip = strip
        return matte

    def box_mask(self, x0, y0, x1, y1, width=WIDTH, height=HEIGHT, name="roto"):
        """A mask that covers those pixels, rows counted from the top, of a picture of that size."""
        mask = bpy.data.masks.new(name)
        spline = mask.layers.new(name="layer").splines.new()
        spline.use_cyclic = True
        spline.points.add(3)
        longest = max(width, height)
        for point, (x, y) in zip(spline.points, ((x0, y0), (x1, y0), (x1, y1), (x0, y1))):
            place = (x - width / 2) / longest + 0.5, (height - y - height / 2) / longest + 0.5
            point.handle_type = "FREE"
            point.co = point.handle_left = point.handle_right = place
        return mask

    def render(self, frame, name="render"):
        """float32 [H, W, 4] of the timeline at a frame, rows from the top."""
        scene, path = self.scene, self.folder / f"{name}.exr"
        image = scene.render.image_settings
        if "media_type" in image.bl_rna.properties:
            image.media_type = "IMAGE"
        image.file_format, image.color_mode, image.color_depth, image.exr_codec = "OPEN_EXR", "RGBA", "32", "ZIP"
        scene.render.filepath, scene.render.use_file_extension = str(path), False
        scene.render.dither_intensity = 0
        scene.frame_current = frame
        with bpy.context.temp_override(scene=scene):
            bpy.ops.render.render(write_still=True)
        return read(path)

    def forget(self):
        """Empty what Blender remembers of strips' pictures; on 5.x that decides what a retimed strip shows."""
        area = bpy.context.window.screen.areas[0]
        area.type = "SEQUENCE_EDITOR"
        with bpy.context.temp_override(area=area, region=area.regions[-1]):
            assert bpy.ops.sequencer.refresh_all() == {"FINISHED"}

    def remove(self, **more):
        """Press Remove Object on the active strip, as a script does; the strip of the result."""
        before = {s.name for s in self.strips}
        assert bpy.ops.void_inpaint.remove(**more) == {"FINISHED"}
        (made,) = [s for s in self.strips if s.name not in before]
        return made

    def refused(self, operator="remove"):
        """What the artist is told when an operator refuses."""
        try:
            result = getattr(bpy.ops.void_inpaint, operator)()
        except RuntimeError as error:
            return str(error)
        raise AssertionError(f"not refused: {result}")

    def press(self, operator="remove"):
        """Press a button in a window: a run that is advanced by `tick`, as the timer would."""
        return Pressed(getattr(addon("operators"), f"VOID_INPAINT_OT_{operator}"))


class Pressed:
    """An operator's modal part in the hands of a test; Blender without a window calls no timer."""

    def __init__(self, cls):
        self.cls, self.reports = cls, []
        self.operator = SimpleNamespace(
            deliver=getattr(cls, "deliver", "clean"),
            report=lambda kind, text: self.reports.append((*kind, text)),
            _timer=None,
        )
        for name in ("_say", "_stop_timer"):
            setattr(self.operator, name, getattr(cls, name).__get__(self.operator))
        self.operator._removal = self.removal = cls.begin(self.operator, bpy.context)

    def tick(self):
        return self.cls.modal(self.operator, bpy.context, SimpleNamespace(type="TIMER"))

    def one_frame(self):
        """What a tick does whose time is used up by one frame."""
        assert self.removal.advance(budget_s=0)

    def until(self, happens, timeout_s=60.0):
        deadline = time.monotonic() + timeout_s
        while not happens():
            assert time.monotonic() < deadline, f"it never happened; {self.removal.progress.line} {self.reports}"
            self.result = self.tick()
            if self.removal._work is not None:
                self.removal._work.over.wait(0.01)
        return self

    def to(self, state):
        return self.until(lambda: self.removal.state.name == state)

    def to_end(self):
        states = addon("states")
        return self.until(lambda: self.removal.state in states.OVER)


def read(path):
    """float32 [H, W, 4] of an EXR by OpenEXR itself, rows from the top; what lacks is black, or alpha 1."""
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name: np.array(channel.pixels, np.float32) for name, channel in file.channels().items()}
    rgb = [channels.get(name, np.zeros_like(next(iter(channels.values())))) for name in "RGB"]
    return np.stack([*rgb, channels.get("A", np.ones_like(rgb[0]))], -1)


def plate_of(index):
    return read(Path(GIVEN["shot"]) / f"plate/plate.{FIRST + index}.exr")


def outside(x0, y0, x1, y1, width=WIDTH, height=HEIGHT):
    """bool [H, W]: everything but a box."""
    keep = np.ones((height, width), bool)
    keep[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = False
    return keep


def same_bits(a, b):
    """How many samples differ by a bit; +0 and -0 are the same light."""
    return int(((a + 0.0).view(np.uint32) != (b + 0.0).view(np.uint32)).sum())


@contextlib.contextmanager
def raises(words):
    try:
        yield
    except Exception as error:  # noqa: BLE001 - any error must be the one that is claimed
        assert words in str(error), f"{words!r} is not in: {error}"
    else:
        raise AssertionError("nothing was raised")
