"""Strict stand-in for the Monitor's dialog: keeps what is put into it, refuses what the real one has no name for."""

from __future__ import annotations

CONTROLS = {"LabelControl", "TextControl", "PoolComboControl", "GroupComboControl", "ButtonControl"}
shown: list = []
messages: list = []


class _Signal:
    def __init__(self):
        self.slots = []

    def connect(self, slot):
        assert callable(slot)
        self.slots.append(slot)


class _Control:
    def __init__(self, value):
        self.value = value
        self.ValueModified = _Signal()


class DeadlineScriptDialog:
    def __init__(self):
        self.controls: dict[str, _Control] = {}
        self._in_grid = False

    def SetTitle(self, title):
        self.title = title

    def AddGrid(self):
        self._in_grid = True

    def EndGrid(self):
        self._in_grid = False

    def _add(self, name, value, row, column):
        assert self._in_grid
        assert name not in self.controls, f"two controls are called {name}"
        assert isinstance(row, int)
        assert isinstance(column, int)
        self.controls[name] = _Control(value)
        return self.controls[name]

    def AddControlToGrid(self, name, control, value, row, column, tooltip="", expand=True, rowSpan=-1, colSpan=-1):
        assert control in CONTROLS, control
        assert isinstance(expand, bool)
        return self._add(name, value, row, column)

    def AddComboControlToGrid(self, name, control, value, items, row, column, tooltip="", expand=True):
        assert control == "ComboControl"
        assert value in items
        return self._add(name, value, row, column)

    def AddRangeControlToGrid(
        self, name, control, value, low, high, places, step, row, column, tooltip="", expand=True
    ):
        assert control == "RangeControl"
        assert low <= value <= high
        return self._add(name, value, row, column)

    def GetValue(self, name):
        return self.controls[name].value

    def SetValue(self, name, value):
        assert name in self.controls, name
        self.controls[name].value = value

    def ShowDialog(self, modal):
        assert not self._in_grid, "EndGrid comes first"
        shown.append(self)

    def ShowMessageBox(self, text, title):
        messages.append((title, text))

    def closeEvent(self, *args):
        shown.remove(self)
