"""Runs inside a windowed Blender: one scene of what a person does, named in `GIVEN["scene"]`.

What comes in: `VOID_WINDOW`, a JSON text. What goes out: one JSON line a check in `GIVEN["report"]`, screenshots.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hand import Gaps, Hand

GIVEN = json.loads(os.environ["VOID_WINDOW"])
MODULE = "bl_ext.user_default.void_inpaint"
GATE = Path(GIVEN["gate"])
PATIENCE_S = 600
"""How long a job may take on a machine that does much else; the daemon gives way to whatever runs there."""


def say(check, ok, detail="", **more):
    with Path(GIVEN["report"]).open("a", encoding="utf-8") as report:
        report.write(json.dumps({"check": check, "ok": bool(ok), "detail": str(detail), **more}) + "\n")


def addon(name):
    return importlib.import_module(f"{MODULE}.{name}")


def running():
    return addon("removal").running


def editor():
    return bpy.context.scene.sequence_editor


def strips():
    return [strip.name for strip in editor().strips] if editor() else []


def box(region):
    """A region in pixels of the screenshot, rows from the top: x0, y0, x1, y1."""
    height = bpy.context.window_manager.windows[-1].height
    screen = GIVEN["screen"][1]
    top = screen - height  # the window lies at the bottom of a screen without decorations
    return [region.x, top + height - region.y - region.height, region.x + region.width, top + height - region.y]


def ready(hand):
    """Until the first picture is drawn: shaders are compiled then."""
    for _ in range(3):
        with bpy.context.temp_override(window=hand.window):
            bpy.ops.wm.redraw_timer(type="DRAW_WIN_SWAP", iterations=1)
        yield 0.4


def opened(hand):
    """The demo's shot on the timeline, and the panel open."""
    plate = Path(GIVEN["shot"]) / "plate/plate.1001.exr"
    assert bpy.ops.void_inpaint.open_shot(filepath=str(plate)) == {"FINISHED"}
    yield 1.0
    yield from hand.open_tab("VOID")
    yield 0.5


def finished(hand):
    """Until the job that was just pressed for is over; whether it is."""
    yield from hand.until(running, 20)
    GATE.touch()
    done = yield from hand.until(lambda: not running(), PATIENCE_S)
    yield 1.0
    return done


def panel(hand):
    area = hand.sequencer()
    return area, hand.region(area, "UI")


def whole_picture(hand):
    """Whether the preview shows all of the frame and the frame fills it one way; where its corners lie."""
    region, render = hand.region(hand.preview(), "PREVIEW"), bpy.context.scene.render
    half = render.resolution_x / 2, render.resolution_y / 2
    left, low = region.view2d.view_to_region(-half[0], -half[1], clip=False)
    right, top = region.view2d.view_to_region(*half, clip=False)
    inside = left >= 0 and low >= 0 and right <= region.width and top <= region.height
    fills = max((right - left) / region.width, (top - low) / region.height)
    return inside and fills > 0.5, (left, low, right, top, region.width, region.height)


def newcomer(hand):
    """From a fresh window to the ball's removal, every click counted; walking to the folder in the browser is not."""
    GATE.touch()
    yield from hand.open_tab("VOID")
    area, region = panel(hand)
    yield from hand.press(area, region, "void_inpaint.open_shot")
    found = yield from hand.until(lambda: len(bpy.context.window_manager.windows) > 1, 10)
    yield 1.0
    browser = hand.area("FILE_BROWSER")
    browser.spaces.active.params.directory = (GIVEN["shot"] + "/plate/").encode()
    yield 1.0
    execute = hand.region(browser, "EXECUTE")
    picked = yield from hand.pick_file(browser, "plate.1001.exr")
    say("the file is seen and picked in the browser", picked, browser.spaces.active.params.filename)
    hand.shot("newcomer_browser")
    yield from hand.press(browser, execute, "file.execute")
    yield 1.5
    say("a shot is opened with its matte", found and strips() == ["matte", "plate"], strips())
    area, region = panel(hand)
    seen, frame = whole_picture(hand)
    say("the whole picture is in sight, as large as the preview", seen, frame)
    shown = {"preview": box(hand.region(hand.preview(), "PREVIEW"))}
    say("the ball is there before", True, hand.shot("newcomer_before"), contains="ball", **shown)
    yield from hand.press(area, region, "void_inpaint.remove")
    gaps = Gaps()
    yield from hand.until(running, 20)
    done = yield from hand.until(lambda: not running(), PATIENCE_S)
    say(
        "nothing stalls while a job runs",
        gaps.stop() < 2,
        f"longest gap {gaps.longest:.2f} s {gaps.at}",
        figure=gaps.longest,
    )
    yield 1.0
    say("a newcomer removes the ball in five clicks", done and "plate clean v001" in strips() and hand.clicks <= 5,
        f"{hand.clicks} clicks; {strips()}")  # fmt: skip
    say("the ball is gone after", True, hand.shot("newcomer_after"), contains="no ball", **shown)


def fits(hand):
    """Button, progress and result in sight at this size, without scrolling and in the same place."""
    GATE.unlink(missing_ok=True)
    yield from opened(hand)
    size = GIVEN["size"]
    area, region = panel(hand)
    button = yield from hand.find(area, region, "void_inpaint.remove")
    hand.shot(f"panel_{size}_before")
    say(f"the button is in sight at {size}", button, button)
    yield from hand.click(*button)
    yield from hand.until(lambda: any(r.state.name == "RUNNING" for r in running().values()), 60)
    yield 0.5
    cancel = yield from hand.find(area, region, "void_inpaint.cancel")
    hand.shot(f"panel_{size}_running")
    near = cancel and abs(cancel[1] - button[1]) < 24 * bpy.context.preferences.view.ui_scale
    say(f"progress and Cancel take the button's place at {size}", near, (button, cancel))
    done = yield from finished(hand)
    area, region = panel(hand)
    result = yield from hand.find(area, region, "void_inpaint.show(version=1)")
    again = yield from hand.find(area, region, "void_inpaint.remove")
    hand.shot(f"panel_{size}_done")
    say(f"the result is in sight at {size}", done and result and "plate clean v001" in strips(), (result, strips()))
    say(f"the button did not move at {size}", again and abs(again[1] - button[1]) <= 12, (button, again))


def work(hand):
    """Preview, cancel, undo and redo, before and after."""
    yield from opened(hand)
    bpy.ops.wm.save_as_mainfile(filepath=GIVEN["blend"])
    area, region = panel(hand)
    preview = {"preview": box(hand.region(hand.preview(), "PREVIEW"))}
    GATE.touch()
    yield from hand.press(area, region, "void_inpaint.preview")
    yield from finished(hand)
    say("the effects lie over the preview in blue", editor().strips["plate"].void.show_effects,
        hand.shot("preview"), contains="blue", **preview)  # fmt: skip
    # The toggle stands at the left of a row below the button. Blender names no property under the mouse, so it is
    # looked for downwards; on the way lies Sure, which is chosen already.
    _, y = yield from hand.find(area, region, "void_inpaint.preview")
    for below in range(18, 90, 9):
        yield from hand.click(region.x + 19 * hand.scale, y - below * hand.scale)
        if not editor().strips["plate"].void.show_effects:
            break
    say("the overlay can be put away", not editor().strips["plate"].void.show_effects, hand.shot("preview_off"),
        contains="no blue", **preview)  # fmt: skip
    GATE.unlink()
    yield from hand.press(area, region, "void_inpaint.remove")
    yield from hand.until(lambda: any(r.state.name == "RUNNING" for r in running().values()), 60)
    yield from hand.press(area, region, "void_inpaint.cancel")
    gone = yield from hand.until(lambda: not running(), 30)
    say("Cancel cancels", gone and not [s for s in strips() if "clean" in s], strips())
    yield from hand.press(area, region, "void_inpaint.remove")
    yield from finished(hand)
    landed = [s for s in strips() if "clean" in s]
    hand.shot("work_done")
    yield from hand.press(area, region, "void_inpaint.show(version=0)")
    source, clean = editor().strips["plate"], editor().strips[landed[0]]
    say("Original shows the original", (source.mute, clean.mute) == (False, True), (source.mute, clean.mute))
    yield from hand.press(area, region, f"void_inpaint.show(version={clean.void.version})")
    say("Clean shows the clean strip", (source.mute, clean.mute) == (True, False), (source.mute, clean.mute))
    window = hand.region(hand.sequencer(), "WINDOW")
    yield from hand.move(window.x + window.width // 2, window.y + window.height // 2)
    pressed = 0
    while pressed < 8 and [s for s in strips() if "clean" in s]:
        yield from hand.key("Z", ctrl=True)
        yield 0.5
        pressed += 1
    say("undo takes the clean strip away", not [s for s in strips() if "clean" in s], f"after {pressed}: {strips()}")
    for _ in range(pressed):
        yield from hand.key("Z", ctrl=True, shift=True)
        yield 0.5
    say("redo brings it back", [s for s in strips() if "clean" in s], strips())


def leave(hand):
    """Blender is quit while a job runs; the file was saved after the press."""
    GATE.unlink(missing_ok=True)
    yield from opened(hand)
    bpy.ops.wm.save_as_mainfile(filepath=GIVEN["blend"])
    area, region = panel(hand)
    yield from hand.press(area, region, "void_inpaint.remove")
    at = yield from hand.until(lambda: any(r.state.name == "RUNNING" for r in running().values()), 60)
    bpy.ops.wm.save_mainfile()
    say("Blender quits while a job runs", at)
    bpy.ops.wm.quit_blender()


def come_back(hand):
    GATE.touch()
    bpy.ops.wm.open_mainfile(filepath=GIVEN["blend"])
    yield 1.5
    yield from hand.open_tab("VOID")
    area, region = panel(hand)
    hand.shot("left_behind")
    yield from hand.press(area, region, "void_inpaint.reattach")
    done = yield from finished(hand)
    say("a job that Blender left is taken up again", done and "plate clean v001" in strips(), strips())


def movie(hand):
    """A movie strip must be rendered to be sent: the window stays usable, also once a preview lies on the timeline."""
    GATE.touch()
    strip = bpy.context.scene.sequence_editor_create().strips.new_movie(
        "movie", GIVEN["movie"], channel=1, frame_start=1, fit_method="FIT"
    )
    editor().active_strip = strip
    mask = bpy.data.masks.new("roto")
    spline = mask.layers.new(name="layer").splines.new()
    spline.use_cyclic = True
    spline.points.add(3)
    for point, place in zip(spline.points, ((0.3, 0.4), (0.5, 0.4), (0.5, 0.6), (0.3, 0.6))):
        point.handle_type = "FREE"
        point.co = point.handle_left = point.handle_right = place
    strip.void.mask = mask
    yield from hand.open_tab("VOID")
    area, region = panel(hand)
    for words in ("void_inpaint.preview", "void_inpaint.remove"):
        yield from hand.press(area, region, words)
        gaps = Gaps()
        yield from hand.until(running, 20)
        yield from hand.until(lambda: not any(r.state.name == "PREPARING" for r in running().values()), 120)
        told = gaps.stop() < 2, f"longest gap {gaps.longest:.2f} s {gaps.at}"
        say(f"rendering a movie stalls nothing: {words}", *told, figure=gaps.longest)
        yield from finished(hand)
    hand.shot("movie_done")
    say("a movie's clean strip lands", [s for s in strips() if "clean" in s], strips())


def mask(hand):
    """A mask is drawn over the strip's own picture, in the window that the pen opens, and removes what it covers."""
    GATE.touch()
    yield from opened(hand)
    strip = editor().strips["plate"]
    strip.void.matte_source, strip.void.matte_strip = "MASK", ""
    yield 0.5
    area, region = panel(hand)
    yield from hand.press(area, region, "void_inpaint.draw_mask")
    found = yield from hand.until(lambda: len(bpy.context.window_manager.windows) > 1, 10)
    yield 1.5
    clip = hand.area("CLIP_EDITOR")
    canvas = hand.region(clip, "WINDOW")
    x, y = canvas.x + canvas.width // 2, canvas.y + canvas.height // 2
    say("the strip's picture fills the window", clip.spaces.active.zoom_percentage > 200,
        f"{clip.spaces.active.zoom_percentage:.0f} %")  # fmt: skip
    for dx, dy in ((-60, -40), (60, -40), (60, 40), (-60, 40)):
        yield from hand.click(x + dx, y + dy, ctrl=True)
    hand.shot("mask")
    layers = strip.void.mask.layers
    points = len(layers[0].splines[0].points) if len(layers) and len(layers[0].splines) else 0
    say("the pen opens a window to draw in", found and clip.spaces.active.mask == strip.void.mask)
    say("four clicks are four points", points == 4, points)
    layers[0].splines[0].use_cyclic = True
    with bpy.context.temp_override(window=hand.window):
        bpy.ops.wm.window_close()
    yield 1.0
    yield from hand.press(area, region, "void_inpaint.remove")
    done = yield from finished(hand)
    say("what the mask covers is removed", done and "plate clean v001" in strips(), strips())


SCENES = {f.__name__: f for f in (newcomer, fits, work, leave, come_back, movie, mask)}


def begin():
    if MODULE not in bpy.context.preferences.addons:  # an app template has preferences of its own
        bpy.ops.preferences.addon_enable(module=MODULE)
    asked = bpy.context.preferences.addons[MODULE].preferences
    asked.server, asked.start_daemon = GIVEN["server"], False
    hand = Hand(GIVEN["shots"])
    hand.sequencer().spaces.active.timeline_overlay.show_strip_source = False  # nobody's folders in the pictures
    yield 1.0
    yield from ready(hand)
    yield from SCENES[GIVEN["scene"]](hand)


# At once: a splash swallows the first key.
bpy.context.preferences.view.show_splash, bpy.context.preferences.view.ui_scale = False, GIVEN.get("scale", 1.0)
steps = begin()
started = time.monotonic()


def tick():
    try:
        return next(steps)
    except StopIteration:
        say(f"scene {GIVEN['scene']}", True, f"{time.monotonic() - started:.0f} s")
    except BaseException:  # noqa: BLE001 - the session must hear whatever it was
        say(f"scene {GIVEN['scene']}", False, traceback.format_exc())
    sys.stdout.flush()
    os._exit(0)


bpy.app.timers.register(tick, first_interval=1.0, persistent=True)
