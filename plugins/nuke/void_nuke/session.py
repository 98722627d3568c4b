"""What a run needs to know of this session of Nuke beside the node itself: how it manages colour, what is looked at.

What comes in: the script's root. What goes out: plain values. Main thread only; it changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, cast

import nuke

from void_nuke.colour import Colour, candidates, load
from void_nuke.nodes import text


def viewed(root: nuke.Node) -> Optional[tuple[float, float, float, float]]:  # noqa: UP045
    """The active viewer's region of interest, in pixels, while it is on.

    Source: "nuke.Viewer" in Nuke's Python reference: `roi` and `roiEnabled` give None while a viewer has no window. In
    proxy mode nobody says whose pixels those are, so there it does not count.
    """
    window = nuke.activeViewer() if nuke.GUI and not root["proxy"].value() else None
    viewer = window.node() if window is not None else None
    box = viewer.roi() if viewer is not None and viewer.roiEnabled() else None
    return (box["x"], box["y"], box["r"], box["t"]) if box else None


def colour(root: nuke.Node) -> Colour:
    """How this script manages colour. Reads an OCIO configuration from disk, as Nuke did when it opened the script."""
    managed, name, working = (text(root, knob) for knob in ("colorManagement", "OCIO_config", "workingSpaceLUT"))
    if managed != "OCIO":
        return Colour(False, working)
    custom = str(cast("nuke.File_Knob", root["customOCIOConfigPath"]).evaluate(1) or "")
    shipped = Path(str(nuke.env["ExecutablePath"])).parent / "plugins"
    paths = candidates(name, custom, [*nuke.pluginPath(), str(shipped)])
    return Colour(True, working, load(paths, name))
