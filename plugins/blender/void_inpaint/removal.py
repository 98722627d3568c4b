# SPDX-License-Identifier: GPL-3.0-or-later
"""One run from press to strip, in steps small enough for a timer: the main path of this add-on.

What comes in: a plan, or the record of a run that was left behind. What goes out: a strip on the timeline, and `state`,
`progress` and `error` on the way. Every step finds scenes and strips anew by name and mark: an artist may edit, undo or
save between any two. It knows no operator and no panel.
"""

from __future__ import annotations

import contextlib
import time
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path

import bpy

from void_server.wire.errors import OutputError, VoidError

from . import result_strip, results, timeline, words
from .pictures import Stage, finish_matte, place_plate, write_patch
from .results import Record
from .sources import Plan, Rendering
from .states import OVER, Progress, State
from .work import Starter, Work, bug

running: dict[str, Removal] = {}
"""Runs of this session that are under way, by mark."""

JOIN_S = 5.0
"""Longest wait for a thread when Blender quits; a thread that outlives it is a daemon thread and holds no data."""


class Removal:
    """A run. `advance` does a little and says whether there is more; nothing else must be called often."""

    def __init__(self, record: Record, plan: Plan | None, starter: Starter = None) -> None:
        self.record = record
        self._starter = starter
        self.plan = plan
        self.progress = Progress()
        self.error = ""
        self.warnings: list[str] = list(plan.notes) if plan is not None else []
        self._work: Work | None = None
        self._stages: list[Stage] = []
        self._cancelled = False
        self._steps = self._run()
        running[record.run] = self

    @classmethod
    def begin(
        cls, plan: Plan, root: Path, server: str, keys: str, deliver: str = "clean", starter: Starter = None
    ) -> Removal:
        """Claim a version folder, mark the strip, write the record. Raises OutputError.

        starter: starts the daemon of this machine, should nobody answer.
        """
        run = uuid.uuid4().hex
        try:
            folder, version = results.claim(root, plan.strip, deliver)
            record = Record(
                folder=folder, run=run, request=uuid.uuid4().hex, server=server, keys=keys, scene=plan.scene,
                strip=plan.strip, version=version, deliver=deliver, output=plan.output, settings=plan.settings,
                first=plan.first, end=plan.end, anchor=plan.anchor, space=plan.space, partial=plan.partial,
            )  # fmt: skip
            record.save()
        except OSError as error:
            hint = "Choose another output folder in the add-on's preferences."
            raise OutputError(f"{root} can't be written: {error.strerror}.", hint) from error
        scene, strip = timeline.find(plan.scene, "", plan.strip)
        timeline.mark(scene, strip, run)
        strip.void.run, strip.void.attempt = run, str(folder)
        return cls(record, plan, starter)

    @classmethod
    def take_up(cls, record: Record, starter: Starter = None) -> Removal:
        """Go on with a run that was left behind: everything to be sent is on disk. Raises OutputError."""
        try:
            if not record.job:  # its upload was broken off, which cancelled that request
                record = record.with_(request=uuid.uuid4().hex)
        except OSError as error:
            raise OutputError(f"{record.folder} can't be written: {error.strerror}.", "Free it.") from error
        return cls(record, None, starter)

    @property
    def state(self) -> State:
        return self.progress.state

    def advance(self, budget_s: float = 0.02) -> bool:
        """Work for about `budget_s`; False once the run is over. One rendered frame is never cut, however long."""
        until = time.monotonic() + budget_s
        while self.state not in OVER:
            if next(self._steps, True) or time.monotonic() > until:
                break
        return self.state not in OVER

    def finish(self) -> None:
        """Work to the end, blocking: for scripts, where nothing calls a timer."""
        try:
            while self.advance():
                if self._work is not None:
                    self._work.over.wait(0.02)
        except BaseException:
            self.cancel()
            if self._work is not None:
                self._work.join(JOIN_S)  # so that the daemon has heard it
            self._end(State.CANCELLED)
            raise

    def cancel(self) -> None:
        """Stop at the next step, and stop the daemon. Returns at once."""
        self._cancelled = True
        if self._work is not None:
            self._work.cancel()

    def leave(self) -> None:
        """Stop waiting, now, and leave the job to the daemon: Blender quits, or opens another file."""
        if self.state not in OVER:
            self.stop_waiting()
            self._end(State.DETACHED)

    def stop_waiting(self) -> None:
        """End the thread and touch nothing of Blender's, which may be half gone. The record on disk stands."""
        if self._work is not None:
            self._work.leave()
            self._work.join(JOIN_S)
            self.record = self._work.record

    def drop_stages(self) -> None:
        """Take our scenes out of the file, as before a save; the next step makes them again."""
        for stage in self._stages:
            stage.close()

    def _run(self) -> Iterator[bool]:
        """Steps; each says whether the next had better wait for the next tick."""
        try:
            if self.plan is not None:
                yield from self._prepare(self.plan)
            yield from self._wait()
            if self.state is State.LAYING:
                yield from self._lay()
        except _Cancelled:
            self._end(State.CANCELLED)
        except (VoidError, OSError, RuntimeError, ReferenceError, ValueError) as error:
            self._end(State.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - else the strip would say "a run is under way" until Blender quits
            traceback.print_exc()
            self._end(State.FAILED, bug(error))

    def _prepare(self, plan: Plan) -> Iterator[bool]:
        files = {role: dict(found) for role, found in plan.files.items()}
        todo = [(r, frame) for r in plan.renderings for frame in (plan.frames if r.only is None else r.only)]
        whole = plan.frames[0], plan.frames[-1] + 1
        stages = {r.role: r.stage(plan.scene, self.record.run, *whole) for r in plan.renderings}
        self._stages = [stage for stage in stages.values() if stage is not None]
        self.record.sent("plate", plan.first).parent.mkdir(exist_ok=True)
        for done, (rendering, frame) in enumerate(todo):
            self._check()
            self.progress.hear(State.PREPARING, "", done, len(todo))
            while bpy.app.is_job_running("RENDER"):  # the artist renders; both can't
                yield True
                self._check()
            path = self.record.sent(rendering.role, frame)
            plate = plan.files.get("plate", {}).get(frame) or files.get("plate", {}).get(frame)
            _render(stages[rendering.role], rendering, frame, path, Path(plate) if plate else None)
            files.setdefault(rendering.role, {})[frame] = str(path)
            yield False
        self.drop_stages()
        self._stages = []
        self.record = self.record.with_(files=files)

    def _wait(self) -> Iterator[bool]:
        self._check()
        self._work = Work(self.record, self.progress, self._starter)
        self._work.start()
        while not self._work.over.is_set():
            yield True
        self.record = self._work.record
        if self._work.state is State.LAYING:
            self.progress.hear(State.LAYING)
        else:
            self._end(self._work.state, self._work.error)

    def _lay(self) -> Iterator[bool]:
        record, part = self.record, "clean" if self.record.deliver == "clean" else "affected"
        self.warnings += words.of_manifest(words.read_manifest(record.folder)) or record.warnings
        frames = range(record.first, record.end)
        if part == "clean" and record.output == "PATCH":
            see_through = False
            for done, frame in enumerate(frames):
                self._check()
                plate = Path(record.files["plate"][frame])
                see_through |= write_patch(record.frame("clean", frame), plate, record.frame("patch", frame))
                self.progress.hear(State.LAYING, "", done + 1, len(frames))
                yield False
            part = "patch"
            if see_through:
                self.warnings.append("The strip is see-through where it changed: use Output Full to keep its alpha.")
        while bpy.app.is_job_running("RENDER"):
            yield True
            self._check()
        strip = result_strip.insert(record, part)
        hidden = timeline.covered(*timeline.find(record.scene, record.run, record.strip), strip)
        if hidden and not strip.mute:
            names = ", ".join(f"'{name}'" for name in hidden)
            self.warnings.append(f"The clean strip lies over {names}. Move what it hides to a channel above it.")
        self.record = record.with_(warnings=tuple(dict.fromkeys(self.warnings)))
        self._end(State.READY)

    def _check(self) -> None:
        if self._cancelled:
            raise _Cancelled

    def _end(self, state: State, error: str = "") -> None:
        with contextlib.suppress(ReferenceError, RuntimeError):
            self.drop_stages()
        self.error = error = words.in_the_panel(error)
        ended = {State.READY: "done", State.CANCELLED: "cancelled", State.FAILED: "failed"}.get(state)
        with contextlib.suppress(OSError):
            if ended:
                self.record = self.record.with_(state=ended, error=error)
        if ended:
            self.record.tidy()
        self.progress.hear(state, error or state.value)
        running.pop(self.record.run, None)


class _Cancelled(Exception):
    pass


def _render(stage: Stage | None, rendering: Rendering, frame: int, path: Path, plate: Path | None) -> None:
    """Make one frame of a role. plate: the EXR file that it lies over, where the plate has files."""
    own = Path(rendering.files[frame]) if rendering.files else None
    if stage is not None:
        stage.render(frame, path)
    if rendering.role in ("plate", "reference"):
        if own is not None:
            place_plate(path, own)
        return
    unfinished = bool(rendering.mask) and bpy.app.version < (5, 2, 0)
    finish_matte(
        own if stage is None and own else path,
        out=path, invert=rendering.invert, channel=rendering.channel, last_pixel=unfinished, plate=plate, own=own,
    )  # fmt: skip


def leave_all() -> None:
    """Leave every run to its daemon. Called when Blender opens a file or disables the add-on."""
    for removal in list(running.values()):
        removal.leave()


def stop_threads() -> None:
    """The same when Blender quits."""
    for removal in list(running.values()):
        removal.stop_waiting()
