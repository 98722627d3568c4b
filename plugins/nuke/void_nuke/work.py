"""The work of one press of Remove, away from Nuke's main thread: send, wait, fetch, one job after another.

What comes in: records of jobs, and three callables of the host: one that hears progress, one that asks whether anybody
still wants it. What goes out: an `Outcome`; the result lies in each record's folder. It is the only module that opens a
socket, and does so only in `run` and `cancel`. It touches no node.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from void_nuke import results
from void_nuke.results import Record
from void_nuke.states import Progress, State
from void_server.wire.errors import JobCancelledError, JobNotFoundError, OutputError, VoidError, WireError
from void_server.wire.shot import ShotFiles, ShotSettings

WAIT_S = 600.0
"""How long a daemon may stay away in the middle of a job before the job is left behind, to be reattached."""
CANCEL_WAIT_S = 120.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How it ended: READY, FAILED, CANCELLED or DETACHED, with the records as they stand on disk."""

    state: State
    records: tuple[Record, ...]
    error: str = ""


def client_problem() -> str:
    """Why the wire client can't be imported into this Python, or nothing."""
    try:
        import void_server.wire.client  # noqa: F401
    except ImportError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        return f"The VOID client is not installed for Python {version} ({error}). Run: void-server install nuke."
    return ""


def run(
    records: Sequence[Record],
    hear: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    patience_s: float = WAIT_S,
) -> Outcome:
    """Bring every record's job to its end. Blocks for minutes to hours; never raises for what a user can cause."""
    done, progress = list(records), Progress(len(records))
    for index, record in enumerate(records):
        progress.part = index
        try:
            done[index] = _one(record, progress, hear, cancelled, patience_s)
        except JobCancelledError:
            return _cancelled(done, index)
        except WireError as error:
            # Nothing is known about the job, so it is not over: it can be taken up later.
            done[index] = Record.load(record.folder) or record
            if done[index].job:
                return Outcome(State.DETACHED, tuple(done), _line(error))
            if cancelled():
                return _cancelled(done, index)
            return _failed(done, index, error)
        except (VoidError, OSError) as error:
            return _failed(done, index, error)
    said = dict.fromkeys(warning for record in done for warning in record.warnings)
    return Outcome(State.READY, tuple(done), " ".join(said))


def _one(
    record: Record,
    progress: Progress,
    hear: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    patience_s: float,
) -> Record:
    if record.state == "done":
        return record  # fetched while its script was closed

    def on_event(event: Mapping[str, Any]) -> None:
        if event.get("event") == "progress":
            progress.hear(str(event["stage"]), int(event["done"]), int(event["total"]))
            hear(progress)
        elif event.get("event") == "state" and event.get("state") == "queued":
            progress.hear("queued", 0, 0)
            hear(progress)

    with _client(record, patience_s) as client:
        if not record.job:
            more = {"renders": _renders(record)} if record.renders else {}
            status = client.submit(
                _files(record),
                ShotSettings.from_wire(record.settings),
                name=f"{record.node} {record.view}".strip(),
                request=record.request,
                on_event=on_event,
                cancelled=cancelled,
                **more,
            )
            record = record.with_(job=status.job)
        try:
            status = client.watch(record.job, on_event=on_event, cancelled=cancelled)
        except JobNotFoundError as error:
            raise OutputError(error.message, "That daemon no longer knows this job. Press Remove again.") from error
        if status.state == "cancelled":
            raise JobCancelledError("Cancelled.")
        if status.error is not None:
            raise status.error
        client.fetch(record.job, record.folder, on_event=on_event, cancelled=cancelled)
    if record.base:
        results.fill(record)
    results.share(record.folder)
    record = record.with_(state="done", error="", warnings=status.warnings)
    record.tidy()
    return record


def cancel(records: Sequence[Record]) -> Outcome:
    """Cancel jobs that were left behind. Blocks for a few seconds at most."""
    done = list(records)
    for index, record in enumerate(done):
        try:
            if record.job and record.state == "unfinished":
                with _client(record, CANCEL_WAIT_S) as client:
                    client.cancel(record.job)
        except JobNotFoundError:
            pass  # gone already, which is what was asked for
        except VoidError as error:
            return Outcome(State.DETACHED, tuple(done), _line(error))
        done[index] = _ended(record, "cancelled")
    return Outcome(State.CANCELLED, tuple(done))


def _client(record: Record, patience_s: float) -> Any:
    """Whoever makes this result: a daemon, or a farm, whose tasks write into the record's folder."""
    from void_server.farm.client import FarmClient, is_farm
    from void_server.wire.client import Client

    if is_farm(record.server):
        return FarmClient(record.server, record.folder)
    return Client(record.server, patience_s=patience_s)


def _renders(record: Record) -> list[Any]:
    from void_server.farm.deadline10 import NukeRender

    return [NukeRender(**fields) for fields in record.renders]


def _files(record: Record) -> ShotFiles:
    return ShotFiles(**{role: {f: Path(p) for f, p in found.items()} for role, found in record.files.items()})


def _cancelled(records: list[Record], index: int) -> Outcome:
    for later in range(index, len(records)):
        records[later] = _ended(Record.load(records[later].folder) or records[later], "cancelled")
    return Outcome(State.CANCELLED, tuple(records))


def _failed(records: list[Record], index: int, error: Exception) -> Outcome:
    """One job failed, so those after it are given up: a shot with one eye done is no result."""
    for later in range(index, len(records)):
        record = Record.load(records[later].folder) or records[later]
        records[later] = _ended(record, "failed", _line(error))
    return Outcome(State.FAILED, tuple(records), _line(error))


def _ended(record: Record, state: str, error: str = "") -> Record:
    try:
        record = record.with_(state=state, error=error)
    except OSError:
        record = dataclasses.replace(record, state=state, error=error)
    record.tidy()
    return record


def _line(error: Exception) -> str:
    if isinstance(error, VoidError):
        return f"{error.message} {error.hint}".strip()
    return str(error)
