"""Read by every Nuke, on the farm too: says where the gizmos lie, and guards renders. No window, no socket, no work."""

import sys
from pathlib import Path

import nuke

# Never resolved: a mapped drive would become a network name, which a studio's own path rules don't know.
_here = Path(__file__).absolute().parent
for _gizmos in (_here / "gizmos", _here.parent.parent / "gizmos"):  # installed; in a checkout
    if _gizmos.is_dir():
        nuke.pluginAddPath(_gizmos.as_posix())
        break

try:
    from void_nuke import guard

    guard.install()
except Exception as error:  # noqa: BLE001 - an error in an init.py stops Nuke from starting, so none may leave here
    sys.stderr.write(f"VOID does not guard renders in this session: {type(error).__name__}: {error}\n")
