"""Name mattes that mark whole frames: an RGB picture whose alpha is solid looks like that.

What comes in: a shot on disk. What goes out: (code, message) pairs for the artist. It changes nothing: a whole frame
may be meant.
"""

from __future__ import annotations

from void_server.image import sequence
from void_server.shot.marked import MarkedShot
from void_server.wire.shot import CORRECTIONS, flag_of, spoken_role


def whole_frames(shot: MarkedShot) -> list[tuple[str, str]]:
    """A warning for each role that marks everything on some frame to deliver."""
    found = []
    for role in ("matte", *CORRECTIONS):
        whole = [frame for frame in shot.wanted if shot.covers(role, frame)]
        if whole:
            subject = "The matte" if role == "matte" else spoken_role(role)
            message = f"{subject} covers all of frames {sequence.spoken(whole)}; is it in another channel?"
            found.append((f"{flag_of(role)}-everything", f"{message} See --matte-channel."))
    return found
