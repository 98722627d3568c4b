"""A file's header as lines of text, for a bug report: no pixel and no thumbnail.

What comes in: a path, also of a file that can't be read. What goes out: lines. It decides nothing and raises nothing.
"""

from __future__ import annotations

from pathlib import Path

from void_server.image.exr.container import Attribute, open_source, read_container
from void_server.wire.errors import VoidError

_HIDDEN = ("preview",)
"""Types of attribute that are pictures. Source: OpenEXR file layout, predefined attribute types."""
_MOST_BYTES = 200


def describe(path: Path) -> list[str]:
    """Size, parts, windows, channels and attributes of an EXR file; or why they can't be read."""
    try:
        lines = [f"{path} {path.stat().st_size} bytes"]
        with open_source(path) as source:
            container = read_container(source)
    except (VoidError, OSError) as error:
        return [f"{path}", f"  can't be read: {error}"]
    for part in container.parts:
        lines.append(f"  part {part.index} {part.name!r} {part.storage}, {part.chunk_count} chunks")
        lines.append(f"    display {tuple(part.display_window)}, data {tuple(part.data_window)}")
        lines += [f"    channel {c.name!r} {c.dtype} {c.sampling}" for c in part.channels]
        lines += [
            f"    {name!r} {attribute.type} {_shown(attribute)}"
            for name, attribute in part.attributes.items()
            if name != "channels"
        ]
    return lines


def _shown(attribute: Attribute) -> str:
    if attribute.type in _HIDDEN:
        return f"left out, {len(attribute.value)} bytes"
    value = attribute.value[:_MOST_BYTES]
    text = value.decode("utf-8", "backslashreplace") if attribute.type == "string" else value.hex()
    return repr(text) if len(attribute.value) <= _MOST_BYTES else f"{text!r}... {len(attribute.value)} bytes"
