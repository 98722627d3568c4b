"""Nuke scripts and gizmo files as trees of nodes: read, wired as Nuke wires them, and written back.

What comes in: the text of a .nk or .gizmo file. What goes out: `ScriptNode`s with knobs, inputs and children.
The syntax is Tcl's: words in braces, quotes or bare, backslash escapes, comments where a command may begin. The wiring
is a stack machine: a node takes `inputs` nodes off the stack, the top one being input 0, and is put on it. It evaluates
nothing (see `nuke_graph`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

KINDS = {
    1: "String_Knob", 2: "File_Knob", 3: "Int_Knob", 4: "Enumeration_Knob", 6: "Boolean_Knob", 7: "Double_Knob",
    15: "BBox_Knob", 20: "Tab_Knob", 22: "PyScript_Knob", 26: "Text_Knob", 41: "Link_Knob",
}  # fmt: skip
"""addUserKnob's numbers. Source: scripts saved by Nuke 12 to 16; the classes' names are those of types-nuke."""


@dataclasses.dataclass
class UserKnob:
    """One addUserKnob: kind 4 name show, l label, t tooltip, T text or link, M menu, R range, +FLAG and -FLAG."""

    kind: int
    name: str
    label: str = ""
    tooltip: str = ""
    text: str = ""
    menu: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclasses.dataclass(eq=False)
class ScriptNode:
    cls: str
    knobs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Script text of each knob that is written, quotes and escapes undone; an expression keeps its braces."""
    user: dict[str, UserKnob] = dataclasses.field(default_factory=dict)
    inputs: list[ScriptNode | None] = dataclasses.field(default_factory=list)
    children: list[ScriptNode] = dataclasses.field(default_factory=list)
    parent: ScriptNode | None = None

    @property
    def name(self) -> str:
        return self.knobs.get("name", self.cls)

    def child(self, name: str) -> ScriptNode:
        return next(node for node in self.children if node.name == name)


class ScriptError(ValueError):
    pass


def words_of(text: str) -> Iterator[list[tuple[str, bool]]]:
    """Commands of a script, each a list of (word, was it in braces)."""
    at, command = 0, []
    while at < len(text):
        char = text[at]
        if char in "\n;":
            if command:
                yield command
            command, at = [], at + 1
        elif char in " \t\r":
            at += 1
        elif char == "\\" and text[at + 1 : at + 2] == "\n":
            at += 2
        elif char == "#" and not command:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        else:
            word, braced, at = _word(text, at)
            command.append((word, braced))
    if command:
        yield command


def _word(text: str, at: int) -> tuple[str, bool, int]:
    if text[at] == "{":
        end = _closing(text, at, "{", "}")
        return text[at + 1 : end], True, end + 1
    if text[at] == '"':
        out, at = [], at + 1
        while True:
            if at >= len(text):
                raise ScriptError("a quoted word does not end")
            if text[at] == '"':
                return "".join(out), False, at + 1
            piece, at = _escaped(text, at)
            out.append(piece)
    out = []
    while at < len(text) and text[at] not in " \t\r\n;":
        if text[at] == "[":
            end = _closing(text, at, "[", "]")
            out.append(text[at : end + 1])
            at = end + 1
        else:
            piece, at = _escaped(text, at)
            out.append(piece)
    return "".join(out), False, at


def _escaped(text: str, at: int) -> tuple[str, int]:
    if text[at] != "\\" or at + 1 == len(text):
        return text[at], at + 1
    return {"n": "\n", "t": "\t", "r": "\r", "\n": " "}.get(text[at + 1], text[at + 1]), at + 2


def _closing(text: str, at: int, opens: str, closes: str) -> int:
    depth = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == opens:
            depth += 1
        elif text[at] == closes:
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise ScriptError(f"'{opens}' is not closed")


def parse(text: str) -> ScriptNode:
    """The whole script as one node of class Root. Raises ScriptError for what is no script."""
    root = ScriptNode("Root")
    group, stacks, names = root, [[]], {}
    for command in words_of(text):
        head, rest = command[0][0], [word for word, _ in command[1:]]
        if head == "set" and len(rest) == 2:
            depth = rest[1].strip("[]").split()[-1]
            stack = stacks[-1]
            names[rest[0]] = stack[-1 - int(depth)] if int(depth) < len(stack) else None
        elif head == "push":
            word = rest[0]
            if word not in ("0", "$cut_paste_input") and word[1:] not in names:
                raise ScriptError(f"push {word}: nothing was set under that name")
            stacks[-1].append(names.get(word[1:]) if word.startswith("$") else None)
        elif head == "end_group":
            if len(stacks) == 1:
                raise ScriptError("end_group closes nothing")
            stacks.pop()
            group = group.parent or root
        elif len(command) == 2 and command[1][1] and head[:1].isalpha() and head[:1].isupper():
            node = _node(head, rest[0], stacks[-1])
            node.parent = group
            if head == "Root":
                root.knobs.update(node.knobs)
                continue
            group.children.append(node)
            stacks[-1].append(node)
            if head in ("Group", "Gizmo", "LiveGroup", "Precomp"):
                group = node
                stacks.append([])
        elif head not in ("version", "define_window_layout_xml", "add_layer", "load", "clone"):
            raise ScriptError(f"unknown command {head!r}")
    if len(stacks) > 1 and group.cls != "Gizmo":
        raise ScriptError(f"group {group.name} is not ended")
    return root


def _node(cls: str, body: str, stack: list[ScriptNode | None]) -> ScriptNode:
    node = ScriptNode(cls)
    wanted = 1
    for command in words_of(body):
        name, values = command[0][0], command[1:]
        if name == "addUserKnob":
            knob = _user_knob(values[0][0])
            node.user[knob.name] = knob
        elif name == "inputs":
            wanted = sum(int(part) for part in values[0][0].split("+"))
        elif len(values) == 1:
            node.knobs[name] = "{" + values[0][0] + "}" if values[0][1] else values[0][0]
        else:
            raise ScriptError(f"knob {name} of {cls} has {len(values)} values")
    node.inputs = [stack.pop() if stack else None for _ in range(wanted)]
    while node.inputs and node.inputs[-1] is None:
        node.inputs.pop()
    return node


def _user_knob(body: str) -> UserKnob:
    words = [word for command in words_of(body.replace("\n", " ")) for word, _ in command]
    if len(words) < 2 and words != ["20"]:
        raise ScriptError(f"addUserKnob {{{body}}} has no name")
    knob = UserKnob(int(words[0]), words[1] if len(words) > 1 else "", words=tuple(words))
    at = 2
    while at < len(words):
        word = words[at]
        if word[0] in "+-" and word[1:].isupper():
            knob.flags += (word,)
            at += 1
            continue
        value = words[at + 1]
        if word == "l":
            knob.label = value
        elif word == "t":
            knob.tooltip = value
        elif word == "T":
            knob.text = value
        elif word == "M":
            knob.menu = tuple(w for command in words_of(value) for w, _ in command if w)
        elif word == "R":
            at += 1
        at += 2
    return knob


def write(root: ScriptNode) -> str:
    """The text of a script that `parse` reads back to the same tree. Every connection is named, as Nuke names them."""
    lines = ["version 15.1 v3", _body("Root", root)]
    _write_children(root, lines)
    return "\n".join(lines) + "\n"


def _write_children(group: ScriptNode, lines: list[str]) -> None:
    for node in _sources_first(group):
        for source in reversed(node.inputs):
            lines.append(f"push $N{id(source):x}" if source is not None else "push 0")
        lines.append(_body(node.cls, node))
        if node.children or node.cls == "Group":
            _write_children(node, lines)
            lines.append("end_group")
        lines.append(f"set N{id(node):x} [stack 0]")


def _sources_first(group: ScriptNode) -> list[ScriptNode]:
    """Children in an order in which each comes after what feeds it, else as they are."""
    ordered: dict[int, ScriptNode] = {}

    def place(node: ScriptNode) -> None:
        if id(node) not in ordered:
            for source in node.inputs:
                if source is not None:
                    place(source)
            ordered[id(node)] = node

    for node in group.children:
        place(node)
    return list(ordered.values())


def _body(cls: str, node: ScriptNode) -> str:
    lines = [f"{cls} {{", f" inputs {len(node.inputs)}"]
    transient = {name for name, knob in node.user.items() if "+DO_NOT_WRITE" in knob.flags}
    lines += [f" addUserKnob {{{' '.join(_quoted(w) for w in knob.words)}}}" for knob in node.user.values()]
    lines += [f" {_quoted(name)} {_quoted(value)}" for name, value in node.knobs.items() if name not in transient]
    return "\n".join([*lines, "}"])


def _quoted(word: str) -> str:
    if word.startswith("{") and word.endswith("}") and len(word) > 2:
        return word
    if word and not set(word) & set(' \t\n"[]{}\\$;#'):
        return word
    for char in '\\"[]{}$':
        word = word.replace(char, "\\" + char)
    return '"' + word.replace("\n", "\\n") + '"'
