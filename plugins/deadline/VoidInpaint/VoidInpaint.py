"""Deadline 10 plug-in: runs `void-server` on the worker, for a shot, a chunk, an assembly, or rows of a batch.

What comes in: a task's frames, and the plug-in info that `void_server.farm.deadline10` or the Monitor script wrote.
What goes out: one command line, and its progress and errors in the Monitor. It lives in Deadline's own interpreter:
standard library alone, no import of ours, Python 3.7 and up. Paths arrive as the submitting machine sees them, and are
mapped here.
"""

import csv
import os
import re
from pathlib import Path

from Deadline.Plugins import DeadlinePlugin, PluginType
from Deadline.Scripting import FileUtils, RepositoryUtils, SystemUtils
from System.Diagnostics import ProcessPriorityClass

ROLES = {
    "Plate": "plate",
    "Matte": "matte",
    "Affected": "affected",
    "AffectedAdd": "affected-add",
    "AffectedSub": "affected-sub",
    "Keep": "keep",
    "Reference": "reference",
}
"""Entries of the plug-in info that name sequences, and what the command line calls them."""
PATH_COLUMNS = (*ROLES.values(), "out")
MOST_EXTRAS = 64


def GetDeadlinePlugin():  # noqa: N802 - Deadline calls it by this name
    return VoidInpaint()


def CleanupDeadlinePlugin(plugin):  # noqa: N802
    plugin.Cleanup()


class VoidInpaint(DeadlinePlugin):
    """One task of one job. Every callback that is hung up here is taken down in Cleanup: Deadline leaks the rest."""

    def __init__(self):
        super().__init__()
        self.InitializeProcessCallback += self.InitializeProcess
        self.RenderExecutableCallback += self.RenderExecutable
        self.RenderArgumentCallback += self.RenderArgument
        self.CheckExitCodeCallback += self.CheckExitCode

    def Cleanup(self):  # noqa: N802
        for handler in self.StdoutHandlers:
            del handler.HandleCallback
        del self.InitializeProcessCallback
        del self.RenderExecutableCallback
        del self.RenderArgumentCallback
        del self.CheckExitCodeCallback

    def InitializeProcess(self):  # noqa: N802
        self.PluginType = PluginType.Simple
        self.SingleFramesOnly = False  # one process makes all frames of a task: the engine sees them together
        self.UseProcessTree = True  # a cancelled or requeued task takes its children along
        self.StdoutHandling = True
        self.ProcessPriority = ProcessPriorityClass.BelowNormal
        self.SetProcessEnvironmentVariable("PYTHONUNBUFFERED", "1")
        self.scrub_libraries()
        for pattern, handle in (
            (r"^VOID_PROGRESS ([0-9.]+)", self.HandleProgress),
            (r"^VOID_STATUS (.*)", self.HandleStatus),
            (r"^VOID_WARNING (.*)", self.HandleWarning),
            (r"^VOID_ERROR (.*)", self.HandleError),
        ):
            self.AddStdoutHandlerCallback(pattern).HandleCallback += handle
        if self.OverrideGpuAffinity():
            gpus = [str(gpu) for gpu in self.GpuAffinity()]
            if gpus:
                # Tasks that run at once on this machine take turns over its cards.
                gpu = gpus[self.GetThreadNumber() % len(gpus)]
                self.SetProcessEnvironmentVariable("CUDA_VISIBLE_DEVICES", gpu)
                self.LogInfo("CUDA_VISIBLE_DEVICES=" + gpu)

    def scrub_libraries(self):
        """Keep Deadline's own libraries from void-server: the Worker's loader path names them first, and its OpenSSL
        and C++ runtime are not those that torch was built with. Deadline's plug-in for Nuke does the same."""
        home = os.environ.get("DEADLINE_PATH", "")
        for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
            held = os.environ.get(name)
            if not held:
                continue
            paths = [path for path in held.split(":") if path]
            kept = [
                p for p in paths if not re.search("thinkbox|deadline", p, re.I) and not (home and p.startswith(home))
            ]
            if kept != paths:
                self.SetProcessEnvironmentVariable(name, ":".join(kept))
                self.LogInfo(name + " without Deadline's libraries: " + ":".join(kept))

    def RenderExecutable(self):  # noqa: N802
        listed = self.GetConfigEntry("VoidExecutable")
        found = FileUtils.SearchFileList(listed)
        if not found:
            where = listed.replace("\n", ";")
            self.FailRender(f"void-server was not found in: {where}. Set its path in the plug-in's configuration.")
        return found

    def RenderArgument(self):  # noqa: N802
        mode = self.GetPluginInfoEntry("Mode")
        span = f"{self.GetStartFrame()}-{self.GetEndFrame()}"
        if mode == "shot":
            words = ["farm", "task", *self.shot_words("--frames=" + span)]
        elif mode == "chunk":
            own = ["--chunk=" + span, "--overlap=" + self.GetPluginInfoEntry("Overlap")]
            words = ["farm", "task", *self.shot_words("--frames=" + self.GetPluginInfoEntry("ShotFrames")), *own]
        elif mode == "assemble":
            own = ["--overlap=" + self.GetPluginInfoEntry("Overlap")]
            words = ["farm", "assemble", *self.shot_words("--frames=" + self.GetPluginInfoEntry("ShotFrames")), *own]
        elif mode == "batch":
            out = self.mapped(self.GetPluginInfoEntry("Out"))
            words = ["farm", "batch", self.mapped_table(), "--out=" + out, *self.extra_words()]
        else:
            self.FailRender(f"Mode={mode} is unknown. Submit the job again.")
        return " ".join(self.quoted(word) for word in [*words, "--log-format=deadline"])

    def shot_words(self, frames):
        """The shot as words of the command line, its paths mapped."""
        words = [self.mapped(self.GetPluginInfoEntry("Plate")), frames]
        for entry, role in ROLES.items():
            path = self.GetPluginInfoEntryWithDefault(entry, "")
            if path and role != "plate":
                words.append(f"--{role}={self.mapped(path)}")
        words.append("--out=" + self.mapped(self.GetPluginInfoEntry("Out")))
        for entry, flag in (("Engine", "engine"), ("Prompt", "prompt"), ("Seed", "seed"), ("Handles", "handles")):
            value = self.GetPluginInfoEntryWithDefault(entry, "")
            if value:
                words.append(f"--{flag}={value}")
        prior = self.GetBooleanPluginInfoEntryWithDefault("PhysicsPrior", True)
        words.append("--physics-prior" if prior else "--no-physics-prior")
        return [*words, *self.extra_words()]

    def extra_words(self):
        """Settings that have no field of their own, a word an entry."""
        words = [self.GetPluginInfoEntryWithDefault(f"Extra{index}", "") for index in range(MOST_EXTRAS)]
        return [word for word in words if word]

    def mapped_table(self):
        """The rows of this task in a table of their own, with their paths as this machine sees them."""
        source = Path(self.GetDataFilename() or "missing")
        if not source.is_file():
            self.FailRender("The batch's table is missing from the job's auxiliary files. Submit the batch again.")
        with source.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
        head, rows = lines[0], lines[self.GetStartFrame() : self.GetEndFrame() + 1]
        for row in rows:
            for index, column in enumerate(head):
                if column in PATH_COLUMNS and row[index]:
                    row[index] = self.mapped(row[index])
        folder = Path(self.CreateTempDirectory(f"void{self.GetThreadNumber()}"))
        path = folder / f"rows_{self.GetStartFrame()}_{self.GetEndFrame()}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *rows])
        return str(path)

    def mapped(self, path):
        """A path of the submitting machine as this one sees it. No slash stays last: it would swallow the quote."""
        here = RepositoryUtils.CheckPathMapping(path)
        if not SystemUtils.IsRunningOnWindows() and re.match(r"[A-Za-z]:[\\/]|\\\\", path):
            here = here.replace("\\", "/")
        return here.rstrip("\\/") or here

    def quoted(self, word):
        """One word of the argument string, which Deadline splits at double quotes and nothing else."""
        if '"' in word or any(ord(c) < 32 for c in word) or word.endswith("\\"):
            self.FailRender(f"{word!r} can't stand on a command line. Submit the job again without it.")
        return f'"{word}"'

    def HandleProgress(self):  # noqa: N802
        self.SetProgress(min(100.0, float(self.GetRegexMatch(1))))

    def HandleStatus(self):  # noqa: N802
        self.SetStatusMessage(self.GetRegexMatch(1))

    def HandleWarning(self):  # noqa: N802
        self.LogWarning(self.GetRegexMatch(1))

    def HandleError(self):  # noqa: N802
        self.FailRender(self.GetRegexMatch(1))

    def CheckExitCode(self, code):  # noqa: N802
        if code != 0:
            self.FailRender(f"void-server ended with exit status {code} and named no reason; see the task's log.")
