"""The little Tcl that the node's file knobs and messages speak, and nothing more.

What comes in: a text with [commands], and the values of the knobs it may ask for. What goes out: the text with each
command replaced by its answer. Commands: value, file dirname/tail/isdirectory, getenv, if/return, frame. Anything else
is an error, never a guess. Sources: Tcl's own manual, "Tcl" (words, braces, substitution) and "if"; presets of paths in
public repositories for how Nuke's knobs use them, as `[if {[value this.exr]} {return "exr"} {return "jpg"}]` in a file
knob; `[value parent.NAME]` in a Read inside a group as Griptape's published gizmos write it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def substituted(text: str, value: Callable[[str], str]) -> str:
    """`text` with its [commands] answered. value: what `[value NAME]` gives; raises KeyError for an unknown name."""
    out, at = "", 0
    while at < len(text):
        if text[at] == "[":
            end = _closing(text, at, "[", "]")
            out += command(text[at + 1 : end], value)
            at = end + 1
        else:
            out, at = out + text[at], at + 1
    return out


def command(text: str, value: Callable[[str], str]) -> str:
    words = _words(text)
    name, rest = words[0][0], words[1:]
    if name == "if":
        chosen = rest[1] if condition(rest[0][0], value) else rest[2]
        return command(chosen[0], value)
    given = [word if braced else substituted(word, value) for word, braced in rest]
    if name == "return" and len(given) == 1:
        return given[0]
    if name == "value" and len(given) == 1:
        return value(given[0])
    if name == "getenv" and len(given) == 1:
        return os.environ.get(given[0], "")
    if name == "frame" and not given:
        return value("frame")
    if name == "file" and len(given) == 2:
        act, path = given
        if act == "dirname":
            return Path(path).parent.as_posix() if path else "."
        if act == "tail":
            return Path(path).name
        if act == "isdirectory":
            return str(int(bool(path) and Path(path).is_dir()))
    raise ValueError(f"Tcl that this stand-in does not know: {text}")


def condition(text: str, value: Callable[[str], str]) -> bool:
    """A condition of one command; Tcl's expressions are more, and none of it is used."""
    text = text.strip()
    if not (text.startswith("[") and _closing(text, 0, "[", "]") == len(text) - 1):
        raise ValueError(f"a condition that this stand-in does not know: {text}")
    return command(text[1:-1], value) not in ("0", "")


def _words(text: str) -> list[tuple[str, bool]]:
    """(word, was it in braces). Quotes group; a command inside a word belongs to it, spaces and all."""
    words: list[tuple[str, bool]] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\n":
            at += 1
        elif text[at] == "{":
            end = _closing(text, at, "{", "}")
            words.append((text[at + 1 : end], True))
            at = end + 1
        else:
            quoted = text[at] == '"'
            at, word = at + quoted, ""
            while at < len(text) and (text[at] != '"' if quoted else text[at] not in " \t\n"):
                end = _closing(text, at, "[", "]") if text[at] == "[" else at
                word += text[at : end + 1]
                at = end + 1
            at += quoted
            words.append((word, False))
    return words


def _closing(text: str, at: int, opens: str, closes: str) -> int:
    depth = 0
    for index in range(at, len(text)):
        depth += {opens: 1, closes: -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise ValueError(f"'{opens}' is not closed in {text!r}")
