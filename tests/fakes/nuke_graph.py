"""Evaluates the few native nodes that the gizmos are made of, on real EXR files, in the viewer's and a render's manner.

What comes in: a node of `nuke_script`, pictures for the inputs of a group, a frame, a view, `gui`. What goes out: a map
from channel names to float32 [H, W]. What a node does is taken from the reference guide, not from Nuke itself:
it proves the graph's logic, not Nuke's arithmetic. A node or knob that it does not know is an error, never a guess.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR

from tests.fakes import tcl
from tests.fakes.nuke_script import ScriptNode

Picture = dict[str, np.ndarray]
SHORT = {"r": "rgba.red", "g": "rgba.green", "b": "rgba.blue", "a": "rgba.alpha"}
LONG = {"R": "rgba.red", "G": "rgba.green", "B": "rgba.blue", "A": "rgba.alpha"}


class RenderError(RuntimeError):
    """What makes a render fail: a Read that may not be black."""


@dataclasses.dataclass
class Graph:
    """inputs: picture by name of an Input node. script: path of the saved script."""

    inputs: Mapping[str, Picture | None]
    frame: int
    gui: bool = True
    script: str = ""
    view: str = "main"
    size: tuple[int, int] = (64, 96)

    def render(self, node: ScriptNode | None) -> Picture:
        """The picture of one node; black where nothing is connected."""
        if node is None:
            return {}
        if node.cls == "Group":
            return self.render(next(child for child in node.children if child.cls == "Output"))
        if self.number(node, "disable", 0):
            return self.source(node, 0)
        return getattr(self, f"do_{node.cls}")(node)

    def source(self, node: ScriptNode, index: int) -> Picture:
        return self.render(node.inputs[index] if index < len(node.inputs) else None)

    def number(self, node: ScriptNode, knob: str, default: float) -> float:
        raw = node.knobs.get(knob)
        if raw is None:
            return default
        if not raw.startswith("{"):
            return {"true": 1.0, "false": 0.0}[raw] if raw in ("true", "false") else float(raw)
        return float(self.expression(raw.strip("{}").strip('"').replace("\\", ""), node, {}))

    def expression(self, text: str, node: ScriptNode, pictures: Mapping[str, Picture]) -> Any:
        def value(name: str) -> Any:
            if name == "$gui":
                return float(self.gui)
            if name == "frame":
                return float(self.frame)
            if name.startswith("parent."):
                assert node.parent is not None
                return self.knob_of(node.parent, name[7:])
            if "." in name:
                assert node.parent is not None
                other, _, knob = name.partition(".")
                sibling = node.parent.child(other)
                assert knob in sibling.knobs, f"{name} is left to its default"
                return self.number(sibling, knob, 0)
            if name == "cx":  # the reference guide's Expression: -1 at the left edge, 1 at the right
                return np.linspace(-1, 1, self.size[1], dtype=np.float32)[None]
            prefix, channel = (name[0], name[1:]) if len(name) == 2 else ("", name)
            return pictures[prefix].get(SHORT[channel], np.zeros(self.size, np.float32))

        return Expression(text, value).evaluate()

    def knob_of(self, group: ScriptNode, name: str) -> float:
        raw, knob = group.knobs.get(name), group.user[name]
        if raw is None:
            return 0.0
        return float(knob.menu.index(raw)) if knob.menu else self.number(group, name, 0.0)

    def do_Input(self, node: ScriptNode) -> Picture:
        group, number = node.parent, int(node.knobs.get("number", "0"))
        if node.name in self.inputs or group is None or number >= len(group.inputs):
            return dict(self.inputs.get(node.name) or {})
        return self.render(group.inputs[number])

    def do_Dot(self, node: ScriptNode) -> Picture:
        return self.source(node, 0)

    do_Output = do_NoOp = do_Dot

    def do_Read(self, node: ScriptNode) -> Picture:
        assert node.knobs["raw"] == "true", f"{node.name} is not raw"
        first, last = (int(self.number(node, k, 1)) for k in ("first", "last"))
        if not first <= self.frame <= last and node.knobs.get("before") == "black":
            return {}
        path = evaluated(node.knobs.get("file", ""), self.frame, self.view, self.script, node)
        if Path(path).is_file():
            return read_exr(Path(path))
        on_error = node.knobs.get("on_error", "error")
        on_error = on_error if on_error.isalpha() else ("error", "black")[int(self.number(node, "on_error", 0))]
        if on_error == "error":
            raise RenderError(f"{node.name}: {path}: no such file")
        return {}

    def do_Assert(self, node: ScriptNode) -> Picture:
        """Source: Assert.cpp among the NDK's examples: an error with the message where the expression is false."""
        if not self.number(node, "expression", 1):
            raise RenderError(evaluated(node.knobs["message"], self.frame, self.view, self.script, node))
        return self.source(node, 0)

    def do_TimeWarp(self, node: ScriptNode) -> Picture:
        """Source: the knob's own words, "First frame to return for this output frame"; filter none mixes nothing."""
        assert node.knobs["filter"] == "none"
        frame = self.number(node, "lookup", self.frame)
        assert frame == int(frame)
        return dataclasses.replace(self, frame=int(frame)).source(node, 0)

    def do_TimeOffset(self, node: ScriptNode) -> Picture:
        return dataclasses.replace(self, frame=self.frame - int(self.number(node, "time_offset", 0))).source(node, 0)

    def do_Crop(self, node: ScriptNode) -> Picture:
        """Source: the reference guide's Crop: black outside the box; with reformat off, the format stays."""
        assert node.knobs["reformat"] == "false" and node.knobs["crop"] == "true"
        rows, columns = _rows_and_columns(node.knobs["box"], self.size)
        out = {}
        for name, picture in self.source(node, 0).items():
            out[name] = np.zeros_like(picture)
            out[name][rows, columns] = picture[rows, columns]
        return out

    def do_Merge2(self, node: ScriptNode) -> Picture:
        """Source: the reference guide's Merge operations: multiply is A times B; output says into which channels."""
        assert node.knobs["operation"] == "multiply" and node.knobs["output"] == "rgb"
        out, other = dict(self.source(node, 0)), self.source(node, 1)
        return {**out, **{name: out[name] * other[name] for name in list(SHORT.values())[:3]}}

    def do_Grade(self, node: ScriptNode) -> Picture:
        gain = np.float32(self.number(node, "white", 1.0))
        return {name: p * gain if name != "rgba.alpha" else p for name, p in self.source(node, 0).items()}

    def do_Copy(self, node: ScriptNode) -> Picture:
        out, other = dict(self.source(node, 0)), self.source(node, 1)
        for index in range(4):
            if f"from{index}" in node.knobs:
                source = other.get(node.knobs[f"from{index}"])
                out[node.knobs[f"to{index}"]] = np.zeros(self.size, np.float32) if source is None else source
        return out

    def do_Expression(self, node: ScriptNode) -> Picture:
        below = self.source(node, 0)
        return self._computed(node, below, {"": below})

    def do_MergeExpression(self, node: ScriptNode) -> Picture:
        below = self.source(node, 0)
        return self._computed(node, below, {"B": below, "A": self.source(node, 1)})

    def _computed(self, node: ScriptNode, below: Picture, pictures: Mapping[str, Picture]) -> Picture:
        out = dict(below)
        for index, default in enumerate(SHORT.values()):
            channel, text = node.knobs.get(f"channel{index}", default), node.knobs.get(f"expr{index}", "")
            if channel != "none" and text:
                result = np.asarray(self.expression(text, node, pictures), np.float32)
                out[channel] = np.broadcast_to(result, self.size)
        return out

    def do_Dilate(self, node: ScriptNode) -> Picture:
        out, size = dict(self.source(node, 0)), self.number(node, "size", 0)
        act: Callable[..., np.ndarray] = cv2.dilate if size > 0 else cv2.erode
        kernel = np.ones((2 * round(abs(size)) + 1,) * 2, np.uint8)
        channel = node.knobs["channels"]
        out[channel] = act(np.ascontiguousarray(out[channel]), kernel)
        return out

    def do_Blur(self, node: ScriptNode) -> Picture:
        out, size = dict(self.source(node, 0)), self.number(node, "size", 0)
        channel = node.knobs["channels"]
        out[channel] = cv2.GaussianBlur(np.ascontiguousarray(out[channel]), (0, 0), size / 2)
        return out

    def do_Switch(self, node: ScriptNode) -> Picture:
        which = int(self.number(node, "which", 0))
        return self.source(node, min(max(which, 0), len(node.inputs) - 1))


class Expression:
    """Nuke's expression language, as far as the gizmos speak it: ?:, || &&, comparisons, + - * /, names, numbers."""

    TOKEN = re.compile(r"\s*(\|\||&&|==|!=|<=|>=|[-+*/()<>?:!]|\d+\.?\d*|\$?[A-Za-z_][\w.]*)")
    LEVELS = (("||",), ("&&",), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/"))

    def __init__(self, text: str, value: Callable[[str], Any]) -> None:
        self.value, self.tokens, at = value, [], 0
        while at < len(text.rstrip()):
            match = self.TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"can't read {text[at:]!r} in expression {text!r}")
            self.tokens.append(match[1])
            at = match.end()

    def evaluate(self) -> Any:
        with np.errstate(all="ignore"):
            result = self._choice()
        if self.tokens:
            raise ValueError(f"left over in an expression: {self.tokens}")
        return result

    def _take(self, *wanted: str) -> str:
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in wanted else ""

    def _choice(self) -> Any:
        condition = self._level(0)
        if not self._take("?"):
            return condition
        yes = self._choice()
        assert self._take(":")
        return np.where(np.asarray(condition) != 0, yes, self._choice())

    def _level(self, depth: int) -> Any:
        if depth == len(self.LEVELS):
            return self._single()
        left = self._level(depth + 1)
        while sign := self._take(*self.LEVELS[depth]):
            left = self._apply(sign, left, self._level(depth + 1))
        return left

    def _single(self) -> Any:
        if self._take("-"):
            return -self._single()
        if self._take("!"):
            return np.asarray(self._single()) == 0
        if self._take("("):
            inside = self._choice()
            assert self._take(")")
            return inside
        word = self.tokens.pop(0)
        return np.float32(word) if word[0].isdigit() else self.value(word)

    @staticmethod
    def _apply(sign: str, a: Any, b: Any) -> Any:
        ops: dict[str, Callable[[Any, Any], Any]] = {
            "||": lambda x, y: (np.asarray(x) != 0) | (np.asarray(y) != 0),
            "&&": lambda x, y: (np.asarray(x) != 0) & (np.asarray(y) != 0),
            "==": np.equal, "!=": np.not_equal, "<": np.less, ">": np.greater, "<=": np.less_equal,
            ">=": np.greater_equal, "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide,
        }  # fmt: skip
        return ops[sign](a, b)


def evaluated(text: str, frame: int, view: str, script: str, node: ScriptNode | None = None) -> str:
    """A file knob's text with Tcl, %04d and %V put in. node: whose knob it is, for `[value parent.NAME]`."""

    def value(name: str) -> str:
        if name == "root.name":
            return script
        if name == "frame":
            return str(frame)
        if name.startswith("parent.") and node is not None and node.parent is not None:
            group, knob = node.parent, name.removeprefix("parent.")
            if knob == "name" or knob in group.user:
                return group.knobs.get(knob, "")
        raise ValueError(f"Tcl asks for {name}, which is not there")

    text = tcl.substituted(text, value).replace("%V", view)
    text = re.sub(r"%0(\d)d", lambda m: f"{frame:0{m[1]}d}", text)
    return re.sub(r"#+", lambda m: f"{frame:0{len(m[0])}d}", text)


def _rows_and_columns(box: str, size: tuple[int, int]) -> tuple[slice, slice]:
    """Slices of a box of Nuke's, whose y goes up, in a picture whose rows go down."""
    x, y, right, top = (round(float(word)) for word in box.strip("{}").split())
    return slice(max(0, size[0] - top), size[0] - max(0, y)), slice(max(0, x), min(size[1], right))


def read_exr(path: Path) -> Picture:
    """Channels under the names Nuke gives them: R is rgba.red; one without a layer lands in `other`.

    A data window inside the display window is laid onto black; one that overscans is taken as it is.
    """
    with OpenEXR.File(str(path), separate_channels=True) as file:
        pixels = {name: np.array(c.pixels, np.float32) for name, c in file.channels().items()}
        (x0, y0), (x1, y1) = (np.array(corner, int) for corner in file.header()["dataWindow"])
        (left, upper), (right, lower) = (np.array(corner, int) for corner in file.header()["displayWindow"])
    if x0 >= left and y0 >= upper and x1 <= right and y1 <= lower:
        whole = {name: np.zeros((lower - upper + 1, right - left + 1), np.float32) for name in pixels}
        for name, picture in pixels.items():
            whole[name][y0 - upper : y1 - upper + 1, x0 - left : x1 - left + 1] = picture
        pixels = whole
    return {_named(name): picture for name, picture in pixels.items()}


def _named(name: str) -> str:
    """Source: ExrChannelNameToNuke.cpp among the NDK's examples: R, G, B and A are red, green, blue and alpha in every
    layer."""
    layer, _, channel = name.rpartition(".")
    if not layer:
        return LONG.get(name, f"other.{name}")
    return f"{layer}.{LONG.get(channel, f'.{channel}').partition('.')[2]}"


def size_of(node: ScriptNode, frame: int, script: str) -> tuple[int, int]:
    """Height and width of the Read at the end of a node's first inputs."""
    while node.inputs or node.cls == "Input":
        source = node.parent.inputs[int(node.knobs.get("number", "0"))] if node.cls == "Input" and node.parent else None
        node = source or node.inputs[0]
    inside = min(max(frame, int(node.knobs["first"])), int(node.knobs["last"]))
    return next(iter(read_exr(Path(evaluated(node.knobs["file"], inside, "main", script))).values())).shape


def write_frame(write: ScriptNode, frame: int, gui: bool, script: str, view: str) -> None:
    """One frame of a Write to EXR files."""
    assert write.cls == "Write" and write.knobs["file_type"] == "exr" and write.knobs["raw"] == "true"
    graph = Graph({}, frame, gui, script, view, size_of(write, frame, script))
    path = Path(evaluated(write.knobs["file"], frame, view, script))
    wanted = {"rgb": "rgba", "alpha": "rgba.alpha"}[write.knobs["channels"]]
    source = write.inputs[0]
    box = source.knobs["box"] if source is not None and source.cls == "Crop" else ""
    write_exr(path, graph.render(source), wanted, write.knobs["datatype"] == "16 bit half", box)


def write_exr(path: Path, picture: Picture, channels: str, half: bool, box: str = "") -> None:
    """rgba or one channel, as a Write does. Alpha alone is written as A. box: what a Crop leaves of the data window."""
    short = {v: k for k, v in LONG.items()}
    names = list(LONG.values()) if channels == "rgba" else [channels]
    kind = np.float16 if half else np.float32
    size = next(iter(picture.values())).shape
    rows, columns = _rows_and_columns(box, size) if box else (slice(0, size[0]), slice(0, size[1]))
    held = {
        short.get(n, n): np.ascontiguousarray(picture[n][rows, columns].astype(kind)) for n in names if n in picture
    }
    header = {"compression": OpenEXR.ZIPS_COMPRESSION, "type": OpenEXR.scanlineimage}
    if box:
        low, high = (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)
        header["dataWindow"] = (np.array(low, np.int32), np.array(high, np.int32))
        header["displayWindow"] = (np.array((0, 0), np.int32), np.array((size[1] - 1, size[0] - 1), np.int32))
    OpenEXR.File(header, held).write(str(path))
