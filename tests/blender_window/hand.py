"""A person's hand and eye in a windowed Blender: moves the mouse, clicks, types, finds buttons by what they are.

What comes in: words of an operator. What goes out: simulated events of Blender's own. Buttons are found by moving the
mouse over a region and asking Blender which button lies under it, never by fixed pixels. Everything that takes time is
a generator that yields how long to wait, for `bpy.app.timers`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import bpy

STEP = 9
"""Pixels between two looks; Blender's buttons are 20 high, times the interface's scale."""
ACROSS = (0.5, 0.25, 0.75, 0.87, 0.95, 0.05)
"""Where in a region's width to look, the middle first."""


class Hand:
    def __init__(self, folder):
        self.folder, self.x, self.y, self.clicks = folder, 10, 10, 0
        self._main = bpy.context.window_manager.windows[0].as_pointer()

    @property
    def window(self):
        """The one in front: a browser or the preferences while they are open, else the only one."""
        windows = list(bpy.context.window_manager.windows)
        return next((w for w in windows if w.as_pointer() != self._main), windows[0])

    @property
    def scale(self):
        return bpy.context.preferences.view.ui_scale

    def area(self, kind, view=()):
        areas = (a for a in self.window.screen.areas if a.type == kind)
        return next(a for a in areas if not view or a.spaces.active.view_type in view)

    def sequencer(self):
        return self.area("SEQUENCE_EDITOR", ("SEQUENCER", "SEQUENCER_PREVIEW"))

    def preview(self):
        return self.area("SEQUENCE_EDITOR", ("PREVIEW",))

    def region(self, area, kind):
        return next(r for r in area.regions if r.type == kind)

    def event(self, kind, value, **more):
        self.window.event_simulate(kind, value, x=int(self.x), y=int(self.y), **more)

    def move(self, x, y):
        self.x, self.y = x, y
        self.event("MOUSEMOVE", "NOTHING")
        yield 0.06

    def click(self, x, y, **more):
        yield from self.move(x, y)
        yield 0.2
        self.event("LEFTMOUSE", "PRESS", **more)
        yield 0.1
        self.event("LEFTMOUSE", "RELEASE", **more)
        self.clicks += 1
        yield 0.4

    def key(self, name, **more):
        self.event(name, "PRESS", **more)
        self.event(name, "RELEASE", **more)
        yield 0.3

    def under(self, area, region):
        """The call of the operator whose button lies under the mouse; "" where none does."""
        manager = bpy.context.window_manager
        with bpy.context.temp_override(window=self.window, area=area, region=region):
            manager.clipboard = ""
            if bpy.ops.ui.copy_python_command_button.poll():
                bpy.ops.ui.copy_python_command_button()
            return manager.clipboard

    def find(self, area, region, words):
        """Where a button whose operator says `words` is drawn; None where none is in sight."""
        for share in ACROSS:
            x = region.x + int(region.width * share)
            for y in range(region.y + region.height - STEP, region.y, -STEP):
                yield from self.move(x, y)
                if words in self.under(area, region):
                    # Looked at twice: a button that the mouse has just left may still be the active one.
                    yield 0.15
                    yield from self.move(x, y - 2)
                    yield 0.1
                    if words in self.under(area, region):
                        return x, y - 2
        return None

    def press(self, area, region, words):
        """Find a button and click it."""
        place = yield from self.find(area, region, words)
        if place is None:
            raise AssertionError(f"no button says {words!r}; see {self.shot('lost')}")
        yield from self.click(*place)
        return place

    def open_tab(self, name):
        """The sidebar's tab, looked for along its edge as a person would."""
        area = self.sequencer()
        window = self.region(area, "WINDOW")
        if not area.spaces.active.show_region_ui:
            yield from self.move(window.x + window.width // 2, window.y + window.height // 2)
            yield from self.key("N")
            yield 0.8
        region = self.region(area, "UI")
        step = int(24 * bpy.context.preferences.view.ui_scale)
        before = self.clicks
        for y in range(region.y + region.height - step, region.y, -step):
            if region.active_panel_category == name:
                break
            yield from self.click(region.x + region.width - step // 2, y)
        self.clicks = before + (self.clicks > before)  # one, had it known where to look
        return region.active_panel_category == name

    def pick_file(self, browser, name):
        """Click a file in a browser, looked for from the top; whether it was there."""
        listing, before = self.region(browser, "WINDOW"), self.clicks
        for y in range(listing.y + listing.height - STEP, listing.y, -2 * STEP):
            yield from self.click(listing.x + 90, y)
            if browser.spaces.active.params.filename == name:
                break
        self.clicks = before + 1  # as for the tab
        return browser.spaces.active.params.filename == name

    def shot(self, name):
        """A picture of the screen; Blender's own is black from a timer."""
        path = f"{self.folder}/{name}.png"
        subprocess.run(["scrot", "-p", "-o", path], check=False)
        return path

    def until(self, happens, timeout_s):
        """Wait; whether it happened."""
        end = time.monotonic() + timeout_s
        while not happens():
            if time.monotonic() > end:
                return False
            yield 0.1
        return True


class Gaps:
    """The longest time for which Blender's window did nothing, measured by a timer of its own; and what Python was at
    meanwhile, seen from a thread: nothing of ours where Blender itself drew or waited."""

    LOOK_S, LONG_S = 0.02, 0.15

    def __init__(self):
        self.longest, self.at, self._last, self._seen = 0.0, "", None, ""
        self._main, self._over = threading.main_thread().ident, threading.Event()
        self._watch = self._tick  # one object: a bound method is another one each time
        bpy.app.timers.register(self._watch)
        threading.Thread(target=self._look, daemon=True).start()

    def _tick(self):
        now = time.monotonic()
        if self._last is not None and now - self._last > self.longest:
            self.longest, self.at = now - self._last, self._seen
        self._last, self._seen = now, ""
        return 0.02

    def _look(self):
        while not self._over.wait(self.LOOK_S):
            last, frame = self._last, sys._current_frames().get(self._main)
            if last is not None and time.monotonic() - last > self.LONG_S and not self._seen:
                calls = traceback.extract_stack(frame)[-4:] if frame is not None else []
                self._seen = " < ".join(f"{Path(c.filename).name}:{c.lineno} {c.name}" for c in calls[::-1])

    def stop(self):
        self._over.set()
        bpy.app.timers.unregister(self._watch)
        return self.longest
