"""Strict stand-in for Deadline.Plugins: an attribute that the real class lacks is an error.

`begin` is the stand-in's own door: a worker gives the plug-in its task through it.
"""

from __future__ import annotations

import re
import tempfile


class PluginType:
    Simple = "Simple"
    Advanced = "Advanced"


class RenderFailed(Exception):
    """What FailRender does to a task."""


class _Event:
    """A .NET event: += adds a listener, calling it calls them all."""

    def __init__(self):
        self.listeners = []

    def __iadd__(self, listener):
        self.listeners.append(listener)
        return self

    def __call__(self, *words):
        assert len(self.listeners) == 1, f"{len(self.listeners)} listeners"
        return self.listeners[0](*words)


class _StdoutHandler:
    def __init__(self, pattern):
        self.pattern = re.compile(pattern)
        self.HandleCallback = _Event()


_EVENTS = (
    "InitializeProcessCallback", "RenderExecutableCallback", "RenderArgumentCallback", "PreRenderTasksCallback",
    "PostRenderTasksCallback", "CheckExitCodeCallback",
)  # fmt: skip
_SETTINGS = {
    "PluginType": str, "SingleFramesOnly": bool, "StdoutHandling": bool, "UseProcessTree": bool, "ProcessPriority": str,
}  # fmt: skip


class DeadlinePlugin:
    def __init__(self):
        for name in _EVENTS:
            object.__setattr__(self, name, _Event())
        object.__setattr__(self, "StdoutHandlers", [])
        object.__setattr__(self, "seen", {"progress": [], "said": [], "log": [], "environment": {}})

    def __setattr__(self, name, value):
        if name in _EVENTS:
            assert isinstance(value, _Event), f"{name} takes listeners with +="
        elif name in _SETTINGS:
            assert isinstance(value, _SETTINGS[name]), f"{name} is {value!r}"
        else:
            raise AttributeError(f"DeadlinePlugin has no attribute {name}")
        object.__setattr__(self, name, value)

    def begin(self, task, plugin_info, config, gpus, thread, data_file):
        held = {"task": task, "info": plugin_info, "config": config, "gpus": gpus, "thread": thread, "data": data_file}
        object.__setattr__(self, "held", held)

    def heard(self, line):
        """A line of the process on its standard output."""
        for handler in self.StdoutHandlers:
            match = handler.pattern.search(line)
            if match:
                object.__setattr__(self, "match", match)
                handler.HandleCallback()

    def left_behind(self):
        """Callbacks that Cleanup did not take down."""
        left = [name for name in _EVENTS if self.__dict__.get(name) is not None and self.__dict__[name].listeners]
        return left + [h.pattern.pattern for h in self.StdoutHandlers if "HandleCallback" in h.__dict__]

    def AddStdoutHandlerCallback(self, pattern):
        self.StdoutHandlers.append(_StdoutHandler(pattern))
        return self.StdoutHandlers[-1]

    def GetRegexMatch(self, index):
        return self.match.group(index)

    def GetPluginInfoEntry(self, key):
        if key not in self.held["info"]:
            raise RenderFailed(f"plugin info entry {key} is missing")
        return self.held["info"][key]

    def GetPluginInfoEntryWithDefault(self, key, default):
        return self.held["info"].get(key, default)

    def GetBooleanPluginInfoEntryWithDefault(self, key, default):
        return self.held["info"].get(key, str(default)).lower() in ("true", "1")

    def GetConfigEntry(self, key):
        if key not in self.held["config"]:
            raise RenderFailed(f"config entry {key} is missing from the .param file")
        return self.held["config"][key]

    def GetDataFilename(self):
        return self.held["data"]

    def GetStartFrame(self):
        return self.held["task"][0]

    def GetEndFrame(self):
        return self.held["task"][-1]

    def GetThreadNumber(self):
        return self.held["thread"]

    def OverrideGpuAffinity(self):
        return bool(self.held["gpus"])

    def GpuAffinity(self):
        return tuple(self.held["gpus"])

    def CreateTempDirectory(self, name):
        return tempfile.mkdtemp(prefix=f"{name}-")

    def SetProcessEnvironmentVariable(self, name, value):
        assert isinstance(name, str)
        assert isinstance(value, str)
        self.seen["environment"][name] = value

    def SetProgress(self, percent):
        assert isinstance(percent, float)
        assert 0 <= percent <= 100
        self.seen["progress"].append(percent)

    def SetStatusMessage(self, text):
        assert isinstance(text, str)
        self.seen["said"].append(text)

    def LogInfo(self, text):
        self.seen["log"].append(text)

    def LogWarning(self, text):
        self.seen["log"].append(f"WARNING: {text}")

    def FailRender(self, text):
        raise RenderFailed(text)
