"""Knobs of the fake Nuke: script text underneath, values of the right type on top, anything else refused."""

from __future__ import annotations

from typing import Any

from tests.fakes import nuke_graph
from tests.fakes import nuke_state as state
from tests.fakes.nuke_script import UserKnob


class Knob:
    def __init__(self, node: Any, name: str, user: UserKnob | None) -> None:
        self._node, self._name, self._user = node, name, user

    @property
    def _raw(self) -> str:
        default = BUILT_IN.get(self._node._data.cls, {}).get(self._name, "")
        return self._node._data.knobs.get(self._name, default)

    def name(self) -> str:
        state.main_only()
        return self._name

    def value(self) -> Any:
        state.main_only()
        return self._read()

    def _read(self) -> Any:
        return self._raw

    def getValue(self) -> Any:
        state.main_only()
        return float(self._raw or 0)

    def setValue(self, val: Any, /) -> bool:
        state.main_only()
        self._node._alive()
        text = self._text(val)
        self._node._data.knobs[self._name] = text
        state.session.changed(f"{self._node._data.name}.{self._name}")
        return True

    def _text(self, val: Any) -> str:
        if not isinstance(val, str):
            raise TypeError(f"{self._name}: a text is wanted, not {val!r}")
        return val


class String_Knob(Knob):
    pass


class Text_Knob(Knob):
    def _read(self) -> str:
        return self._raw or (self._user.text if self._user else "")


class Channel_Knob(Knob):
    pass


class Tab_Knob(Knob):
    pass


class PyScript_Knob(Knob):
    pass


class Script_Knob(String_Knob):
    def execute(self) -> None:
        state.main_only()


class File_Knob(String_Knob):
    def evaluate(self, frame: int) -> str:
        state.main_only()
        root = state.session.root.knobs["name"]
        return nuke_graph.evaluated(self._raw, frame, state.session.views[0], root, self._node._data)


class Boolean_Knob(Knob):
    def _read(self) -> bool:
        return self._raw == "true"

    def _text(self, val: Any) -> str:
        if not isinstance(val, (bool, int)):
            raise TypeError(f"{self._name}: a truth value is wanted, not {val!r}")
        return "true" if val else "false"


class Double_Knob(Knob):
    def _read(self) -> float:
        return float(self._raw or 0)

    def _text(self, val: Any) -> str:
        if not isinstance(val, (int, float)):
            raise TypeError(f"{self._name}: a number is wanted, not {val!r}")
        return str(val)


class BBox_Knob(Knob):
    """Four numbers, x y r t, from the lower left."""

    def _four(self) -> list[float]:
        state.main_only()
        return [float(word) for word in (self._raw.strip("{}") or "0 0 0 0").split()]

    def _put(self, index: int, number: float) -> None:
        four = self._four()
        four[index] = number
        self._node._data.knobs[self._name] = "{" + " ".join(f"{n:g}" for n in four) + "}"
        state.session.changed(f"{self._node._data.name}.{self._name}")

    def x(self) -> float:
        return self._four()[0]

    def y(self) -> float:
        return self._four()[1]

    def r(self) -> float:
        return self._four()[2]

    def t(self) -> float:
        return self._four()[3]

    def setX(self, x: float, /) -> None:
        self._put(0, x)

    def setY(self, y: float, /) -> None:
        self._put(1, y)

    def setR(self, r: float, /) -> None:
        self._put(2, r)

    def setT(self, t: float, /) -> None:
        self._put(3, t)


class Int_Knob(Double_Knob):
    def _read(self) -> int:
        return int(float(self._raw or 0))


class Enumeration_Knob(Knob):
    def values(self) -> list[str]:
        state.main_only()
        return list(self._user.menu) if self._user else []

    def setValues(self, items: list[str], /) -> None:
        """Source: the developer guide's Enumeration_Knob; a user's menu is replaced, its value stays if it is in it."""
        state.main_only()
        assert self._user is not None
        self._user.menu = tuple(items)
        if self._raw not in items:
            self._node._data.knobs[self._name] = items[0]

    def _read(self) -> str:
        menu = self._user.menu if self._user else ()
        return self._raw or (menu[0] if menu else "")

    def _text(self, val: Any) -> str:
        if self._user and val not in self._user.menu:
            raise ValueError(f"{self._name} has no entry {val!r}")
        return super()._text(val)


class Link_Knob(Knob):
    def _target(self) -> Knob:
        node, _, knob = self._user.text.partition(".") if self._user else ("", "", "")
        return self._node._wrap(self._node._data.child(node))[knob]

    def _read(self) -> Any:
        return self._target()._read()


TYPES: dict[str, type[Knob]] = {
    "first": Int_Knob, "last": Int_Knob, "origfirst": Int_Knob, "origlast": Int_Knob, "file": File_Knob,
    "customOCIOConfigPath": File_Knob,
    "raw": Boolean_Knob, "auto_alpha": Boolean_Knob, "origset": Boolean_Knob, "disable": Boolean_Knob,
    "Crop.box": BBox_Knob, "reformat": Boolean_Knob, "intersect": Boolean_Knob, "crop": Boolean_Knob,
    "proxy": Boolean_Knob, "Write.proxy": File_Knob, "use_limit": Boolean_Knob, "autocrop": Boolean_Knob,
    "create_directories": Boolean_Knob, "premultiplied": Boolean_Knob, "reading": Boolean_Knob,
    "checkHashOnRead": Boolean_Knob,
    "reload": Script_Knob, "from0": Channel_Knob, "from1": Channel_Knob, "from2": Channel_Knob,
    "from3": Channel_Knob, "channels": Channel_Knob,
    "number": Int_Knob, "first_frame": Double_Knob, "last_frame": Double_Knob, "white": Double_Knob,
}  # fmt: skip
BUILT_IN: dict[str, dict[str, str]] = {
    "Read": {
        "file": "", "first": "1", "last": "1", "origfirst": "1", "origlast": "1", "raw": "false", "frame": "",
        "colorspace": "default (linear)", "auto_alpha": "false", "reload": "", "on_error": "error",
    },
    "Write": {"file": "", "file_type": "", "channels": "rgb", "datatype": "16 bit half", "compression": "",
        "raw": "false", "use_limit": "false", "first": "1", "last": "1",
        "disable": "false", "autocrop": "false", "create_directories": "false", "premultiplied": "false",
        "reading": "false", "checkHashOnRead": "false", "on_error": "error", "frame_mode": "expression", "frame": "",
        "proxy": "", "views": "", "beforeRender": "", "afterRender": "", "beforeFrameRender": "",
        "afterFrameRender": "",
        "interleave": "channels, layers and views",
    },
    "TimeOffset": {"time_offset": "0"},
    "Grade": {"white": "1", "disable": "false"},
    "Copy": {"from0": "rgba.alpha", "to0": "rgba.alpha"},
    "Crop": {"box": "", "reformat": "false", "intersect": "false", "crop": "true"},
    "VariableSwitch": {}, "Viewer": {}, "Dot": {}, "Input": {"number": "0"}, "Group": {"label": "", "disable": "false"},
}  # fmt: skip
