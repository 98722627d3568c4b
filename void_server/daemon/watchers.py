"""Who is told of a job's events: a task for each watcher, that waits for its reader and never loses a lasting event.

What comes in: a wish to watch, and word that a job changed. What goes out: `event` messages. It does not know sockets:
`send` is given to it, and takes as long as the reader takes.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from void_server.daemon.store.store import Store
from void_server.wire.errors import LimitError, VoidError
from void_server.wire.messages import FINAL, LIMITS
from void_server.wire.report import Event


@dataclasses.dataclass(frozen=True)
class Peer:
    """One connection: where answers go, and whose requests these are."""

    identity: bytes
    owner: str
    name: str = ""
    """How the owner is called in the audit."""
    admin: bool = False
    descriptor: int = -1
    host: str = ""


@dataclasses.dataclass(eq=False)
class _Watcher:
    peer: Peer
    request: str
    job: str
    seen: int
    """The number of the last lasting event that was sent."""
    passing: Event | None = None
    """The latest progress that was not sent yet; an older one is not worth a message."""
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


SendEvent = Callable[[Peer, str, int, str, Event], Awaitable[bool]]
"""Sends (to, request, seq, job, event) once the peer has room for it; false where the peer is gone."""


class Watchers:
    """All of them. Belongs to the loop's thread."""

    def __init__(self, now: Store, send: SendEvent, admits: Callable[[str], bool]) -> None:
        """admits: whether an owner may hear anything any more."""
        self._now = now
        self._send = send
        self._admits = admits
        self._of_job: dict[str, set[_Watcher]] = {}
        self._of_peer: dict[bytes, dict[str, _Watcher]] = {}

    def add(self, peer: Peer, request: str, job: str, after: int) -> None:
        """Send the job's lasting events after that number, and all to come. The same request again starts anew.

        Raises LimitError where one connection watches too much.
        """
        of_peer = self._of_peer.setdefault(peer.identity, {})
        if request in of_peer:
            self._end(of_peer[request])
        elif len(of_peer) >= LIMITS["watches"].value:
            raise LimitError(f"{len(of_peer)} jobs are watched on one connection.", "Watch fewer, or connect again.")
        watcher = _Watcher(peer, request, job, after)
        self._of_peer.setdefault(peer.identity, {})[request] = watcher
        self._of_job.setdefault(job, set()).add(watcher)
        watcher.task = asyncio.create_task(self._tell(watcher))

    def tell(self, job: str, passing: Event | None = None) -> None:
        """The store holds new lasting events of a job, or `passing` is worth telling whoever reads fast enough."""
        for watcher in self._of_job.get(job, ()):
            watcher.passing = passing or watcher.passing
            watcher.changed.set()

    def gone(self, descriptor: int) -> None:
        """A connection is lost: nobody reads there any more."""
        for of_peer in list(self._of_peer.values()):
            for watcher in list(of_peer.values()):
                if watcher.peer.descriptor == descriptor:
                    self._end(watcher)

    def close(self) -> None:
        for of_peer in list(self._of_peer.values()):
            for watcher in list(of_peer.values()):
                self._end(watcher)

    def __len__(self) -> int:
        return sum(map(len, self._of_peer.values()))

    async def _tell(self, watcher: _Watcher) -> None:
        try:
            while self._admits(watcher.peer.owner):
                watcher.changed.clear()
                passing, watcher.passing = watcher.passing, None
                while events := self._now.events(watcher.job, watcher.seen):
                    for seq, event in events:
                        if not await self._send(watcher.peer, watcher.request, seq, watcher.job, event):
                            return
                        watcher.seen = seq
                        if event.get("event") == "state" and event.get("state") in FINAL:
                            return
                if passing and not await self._send(watcher.peer, watcher.request, watcher.seen, watcher.job, passing):
                    return
                await watcher.changed.wait()
        except VoidError:
            # The store can't be read now; the client asks again after its own patience.
            return
        finally:
            self._drop(watcher)

    def _end(self, watcher: _Watcher) -> None:
        if watcher.task:
            watcher.task.cancel()
        self._drop(watcher)

    def _drop(self, watcher: _Watcher) -> None:
        of_job = self._of_job.get(watcher.job, set())
        of_job.discard(watcher)
        if not of_job:
            self._of_job.pop(watcher.job, None)
        of_peer = self._of_peer.get(watcher.peer.identity, {})
        if of_peer.get(watcher.request) is watcher:
            del of_peer[watcher.request]
        if not of_peer:
            self._of_peer.pop(watcher.peer.identity, None)
