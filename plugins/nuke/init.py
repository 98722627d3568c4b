"""Read by every Nuke, on the farm too: says where the gizmos lie. No window, no socket, no work."""

from pathlib import Path

import nuke

_here = Path(__file__).resolve().parent
for _gizmos in (_here / "gizmos", _here.parent.parent / "gizmos"):  # installed; in a checkout
    if _gizmos.is_dir():
        nuke.pluginAddPath(str(_gizmos))
        break
