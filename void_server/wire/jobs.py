"""What a daemon says about itself and its jobs: `Hello` and `JobStatus`.

What comes in: the maps that answers carry. What goes out: frozen records. It does not know sockets or stores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

from void_server.wire.errors import ProtocolError, VoidError, bounded, from_wire, to_wire
from void_server.wire.messages import FINAL, STATES


@dataclasses.dataclass(frozen=True)
class Hello:
    """A daemon's introduction."""

    protocol: int
    server_version: str
    boot_id: str
    """Changes whenever the daemon starts, so that a client knows an old daemon from a new one on the same port."""
    limits: Mapping[str, int]
    engines: tuple[str, ...]
    devices: tuple[str, ...]
    time: float
    """The daemon's clock, seconds since 1970."""
    settings: frozenset[str] | None = None
    """Names of a shot's settings that it knows; None where the daemon is too old to say."""

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Hello:
        """Rebuild from an answer. Raises ProtocolError for limits that are no numbers."""
        if not all(isinstance(value, int) for value in fields["limits"].values()):
            raise ProtocolError("The daemon's limits can't be read.", "Update the older of the two ends.")
        return cls(
            fields["protocol"],
            fields["server_version"],
            fields["boot_id"],
            {str(k): int(v) for k, v in fields["limits"].items()},
            tuple(map(str, fields["engines"])),
            tuple(map(str, fields["devices"])),
            fields["time"],
            frozenset(map(str, fields["settings"])) if "settings" in fields else None,
        )


@dataclasses.dataclass(frozen=True)
class JobStatus:
    """One job as its daemon sees it. Truth; events are hints."""

    job: str
    name: str
    state: str
    """One of `messages.STATES`."""
    created: float
    """Seconds since 1970, by the daemon's clock."""
    stage: str = ""
    """What is being done now, in the pipeline's own words."""
    done: int = 0
    total: int = 0
    """Steps of `stage` finished, and how many there are."""
    frames_done: int = 0
    attempt: int = 0
    """How many times a worker has taken the job up."""
    position: int = 0
    """Place in the queue: 1 is next; 0 where the job does not wait."""
    error: Optional[VoidError] = None  # noqa: UP045 - evaluated on Python 3.9 by those who ask for type hints
    warnings: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """Whether the job is over: done, failed or cancelled."""
        return self.state in FINAL

    def to_wire(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        # Whatever a store holds, an old one or a damaged one: one status must not make a list that nobody can read.
        fields["name"] = self.name[:200]
        fields["error"] = to_wire(self.error) if self.error else None
        fields["warnings"] = [bounded(warning) for warning in self.warnings[:100]]
        return fields

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> JobStatus:
        """Rebuild from `to_wire`'s map; unknown keys are ignored. Raises ProtocolError for what can't be a status."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {name: value for name, value in fields.items() if name in known}
        numbers = ("done", "total", "frames_done", "attempt", "position")
        if (
            not all(isinstance(values.get(name), str) for name in ("job", "name", "state"))
            or not isinstance(values.get("stage", ""), str)
            or not isinstance(values.get("warnings") or [], (list, tuple))
            or values["state"] not in STATES
            or not isinstance(values.get("created"), (int, float))
            or not all(isinstance(values.get(name, 0), int) for name in numbers)
        ):
            raise ProtocolError("The daemon's status of a job can't be read.", "Update the older of the two ends.")
        error = values.get("error")
        values["error"] = from_wire(error) if isinstance(error, dict) else None
        values["warnings"] = tuple(map(str, values.get("warnings") or ()))
        return cls(**values)
