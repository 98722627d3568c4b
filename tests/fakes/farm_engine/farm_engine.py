"""An engine that another package registers: fast, counts what it makes, and fails or waits where a test says so.

FARM_ENGINE_LOG: a file that gets a line for each frame made. FARM_ENGINE_LOADS: one that gets a line for each engine
built. FARM_ENGINE_BAD: a file with frame numbers at which it fails. FARM_ENGINE_HOLD: a frame at which it waits until
it is cancelled.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np

from void_server.engine import Fill, Needs
from void_server.wire.errors import EngineError, InternalError


class FarmEngine:
    name = "farm-test"
    needs = Needs(merged=False)  # each frame stands alone, so that farms may retry just what failed

    def __init__(self, device):
        if "FARM_ENGINE_LOADS" in os.environ:
            with Path(os.environ["FARM_ENGINE_LOADS"]).open("a") as log:
                log.write("loaded\n")

    def fill(self, shot, report):
        bad = Path(os.environ.get("FARM_ENGINE_BAD", "none"))
        for frame in shot.wanted:
            crop = shot.hole(frame)
            if crop is None:
                continue
            if bad.is_file() and str(frame) in bad.read_text().split():
                raise EngineError(f"Frame {frame} burnt.", "Mend the test.", frame=frame)
            if os.environ.get("FARM_ENGINE_HOLD") == str(frame):
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    report.check_cancelled()
                    threading.Event().wait(0.02)
                raise InternalError("Nobody cancelled.")
            if "FARM_ENGINE_LOG" in os.environ:
                with Path(os.environ["FARM_ENGINE_LOG"]).open("a") as log:
                    log.write(f"{frame} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")
            shape = (crop.height, crop.width)
            # What a frame becomes hangs on how many frames were read: chunks with few handles differ, as engines do.
            light = np.full((*shape, 3), 0.1 * (frame % 7) + 0.001 * len(shot.frames), np.float32)
            yield Fill(frame, crop, light, np.ones(shape, np.float32), np.ones(shape, np.float32))

    def background(self, shot, frame, crop, scale, report):
        return None
