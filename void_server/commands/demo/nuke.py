"""A Nuke script beside the demo's frames that opens and shows all of them: result, layers, and the shadow put back.

What comes in: the demo's folder. What goes out: `demo.nk` in it. Its VoidInpaint is the gizmo's own text with the
demo's clean frames as its result, so it needs no daemon, and no plug-in to be looked at. It knows no engine.
"""

from __future__ import annotations

import re
from pathlib import Path

import void_server
from void_server.commands.demo import shot as demo_shot
from void_server.wire.errors import SettingsError

BESIDE = "\\[file dirname \\[value root.name]]"
"""As a script writes it: the folder that this script lies in."""

HEAD = """#! The demo's shot in Nuke. Made by void-server demo; nothing in it is rendered by opening it.
version 14.0 v1
{layers}
Root {{
 inputs 0
 first_frame {first}
 last_frame {last}
 fps 24
 colorManagement Nuke
}}
"""

SOURCES = """StickyNote {{
 inputs 0
 label "1 the Viewer's input 1 is clean, 2 the plate\\n2 in its panel show, edge trim, mix are live\\n3 add layers is \
on: choose void.affected in the Viewer\\n4 to make a result of your own: void-server serve, then Remove"
 name HowTo
 xpos -200
 ypos -300
}}
Read {{
 inputs 0
 file_type exr
 file "{beside}/matte/matte.%04d.exr"
 first {first}
 last {last}
 origfirst {first}
 origlast {last}
 origset true
 raw true
 name Matte
 xpos 200
 ypos -300
}}
Read {{
 inputs 0
 file_type exr
 file "{beside}/plate/plate.%04d.exr"
 first {first}
 last {last}
 origfirst {first}
 origlast {last}
 origset true
 raw true
 name Plate
 xpos 0
 ypos -300
}}
set NdemoPlate [stack 0]
"""

RECIPE = """set Nvoid [stack 0]
push $Nvoid
Copy {
 inputs 2
 from0 void.affected
 to0 rgba.alpha
 name AffectedToAlpha
 xpos 200
 ypos 0
}
set Naffected [stack 0]
push $NdemoPlate
push $Naffected
MergeExpression {
 inputs 2
 expr0 "Br > 0.0001 ? 1 + (Ar / Br - 1) * Ba : 1"
 expr1 "Bg > 0.0001 ? 1 + (Ag / Bg - 1) * Ba : 1"
 expr2 "Bb > 0.0001 ? 1 + (Ab / Bb - 1) * Ba : 1"
 channel3 none
 name ShadowLight
 label "the shadow as light: 1 where there is none"
 xpos 200
 ypos 100
}
set Nlight [stack 0]
push $Nvoid
Grade {
 inputs 1
 white 0.5
 name NewGround
 label "stands for another ground"
 xpos 0
 ypos 100
}
set Nground [stack 0]
push $Nlight
push $Nground
Merge2 {
 inputs 2
 operation multiply
 output rgb
 name ShadowBack
 xpos 0
 ypos 200
}
set Nback [stack 0]
push $Nlight
Expression {
 channel0 none
 channel1 none
 channel2 none
 channel3 rgba.alpha
 expr3 "1 - (r + g + b) / 3"
 name ShadowMatte
 label "the shadow as a matte, in alpha"
 xpos 200
 ypos 200
}
set Nmatte [stack 0]
push $Nmatte
push $Nback
push $NdemoPlate
push $Nvoid
Viewer {
 inputs 4
 frame_range FIRST-LAST
 name Viewer1
 xpos 0
 ypos 320
}
"""
"""What the removed shadow is good for: laid over another ground as light, or handed on as a matte."""

KNOBS = """ has_result true
 result_first {first}
 result_last {last}
 layers true
 has_suspected true
 has_grain true
 tool_version {version}
"""


def write(out: Path) -> Path:
    """Write `demo.nk` beside the demo's plate, matte and clean frames. Raises SettingsError, OSError."""
    first, last = demo_shot.FIRST, demo_shot.FIRST + demo_shot.COUNT - 1
    gizmo = _gizmo()
    layers = "\n".join(line for line in gizmo.splitlines() if line.startswith("add_layer"))
    group = gizmo[gizmo.index("Group {") :]
    end = group.index("\n}\n") + 1
    knobs = KNOBS.format(first=first, last=last, version=void_server.__version__)
    group = group[:end] + knobs + group[end:]
    group = group.replace(" name VoidInpaint\n", " inputs 2\n name VoidInpaint1\n xpos 0\n ypos -150\n", 1)
    for reader, part in (("ReadClean", "clean"), ("ReadAov", "aov")):
        group = _pointed(group, reader, f"{BESIDE}/clean/{part}.%04d.exr", first, last)
    text = HEAD.format(layers=layers, first=first, last=last)
    text += SOURCES.format(beside=BESIDE, first=first, last=last) + group
    text += RECIPE.replace("FIRST-LAST", f"{first}-{last}")
    path = out / "demo.nk"
    path.write_text(text, encoding="utf-8")
    return path


def _pointed(group: str, reader: str, file: str, first: int, last: int) -> str:
    """The group with one of its Reads reading a sequence."""
    end = group.index(f"\n  name {reader}\n")
    start = group.rindex("\n Read {", 0, end)
    block = group[start:end].replace('\n  file ""', f'\n  file "{file}"')
    block += "".join(f"\n  {knob} {frame}" for knob, frame in _range(first, last))
    return group[:start] + block + group[end:]


def _range(first: int, last: int) -> list[tuple[str, int]]:
    return [("first", first), ("last", last), ("origfirst", first), ("origlast", last)]


def _gizmo() -> str:
    """The text of VoidInpaint's gizmo, in an installed wheel or in a checkout, without its comment."""
    package = Path(void_server.__file__).absolute().parent
    for folder in (package / "hosts" / "gizmos", package.parent / "gizmos"):
        if (folder / "VoidInpaint.gizmo").is_file():
            text = (folder / "VoidInpaint.gizmo").read_text(encoding="utf-8")
            return re.sub(r"^#!.*\n", "", text)
    raise SettingsError("This installation lacks gizmos.", "Install void-server again, from its wheel.")
