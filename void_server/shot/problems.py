"""Collect what is wrong with a shot, so that the artist hears it all at once.

What comes in: errors, one by one. What goes out: nothing, or one error that lists them all, with every remedy once. It
looks at nothing itself.
"""

from __future__ import annotations

from void_server.wire.errors import RequestError, VoidError

LISTED = 20
"""Problems spelled out in one message; the rest is counted."""


class Problems:
    """What was found so far."""

    def __init__(self) -> None:
        self.found: list[VoidError] = []

    def add(self, error: VoidError) -> None:
        self.found.append(error)

    def raise_if_any(self) -> None:
        """Raise the only problem as it is; several as one error of the first one's kind, with the first one's hint."""
        if not self.found:
            return
        first = self.found[0]
        if len(self.found) == 1:
            raise first
        lines = [f"{len(self.found)} problems with this shot:"]
        said = {first.hint}
        for error in self.found[:LISTED]:
            remedy = "" if error.hint in said else f" {error.hint}"
            lines.append(f"  {error.message}{remedy}")
            said.add(error.hint)
        if len(self.found) > LISTED:
            lines.append(f"  and {len(self.found) - LISTED} more")
        kind = type(first) if isinstance(first, RequestError) else RequestError
        raise kind("\n".join(lines), first.hint, frame=first.frame)
