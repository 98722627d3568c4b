"""The store behind two doors: looking is at once, changes are made by one thread and committed together.

What comes in: callables that take a `Store`. What goes out: what they return. It does not know what they do.

A change that was awaited is on the disk. Changes that come while the disk is busy share the next transaction, so that
ten thousand small jobs do not wait for ten thousand syncs; one that is refused does not touch its neighbours.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from void_server.daemon.files.disk import is_full, translated
from void_server.daemon.store.store import Store
from void_server.wire.errors import StoreError, VoidError

T = TypeVar("T")
_MOST_TOGETHER = 256
"""Changes of one transaction at most, so that the first of them does not wait for ever for its neighbours."""


class _Waiting(NamedTuple):
    change: Callable[[Store], Any]
    durable: bool
    outcome: asyncio.Future[Any]


class Database:
    """One store: `now` to look at from the loop, `read` for long looks, `change` for everything else."""

    def __init__(self, path: Path, make_room: Callable[[], bool]) -> None:
        """Opens, makes or migrates the store. Raises StoreError.

        make_room: called once where the disk is full, in the thread that writes; whether trying again is worth it.
        """
        self._make_room = make_room
        try:
            self._changing = Store(path)
        except StoreError as error:
            if not (is_full(error) and make_room()):
                raise
            self._changing = Store(path)
        self.now = Store(path, reading=True)
        """For looks that take a millisecond at most, on the loop's own thread."""
        self._looking = Store(path, reading=True)
        self._writer = ThreadPoolExecutor(1, "store")
        self._reader = ThreadPoolExecutor(1, "look")
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def change(self, change: Callable[[Store], T], *, durable: bool = True) -> T:
        """Make a change; returns once it is durable, or, where that is not asked for, once it is made."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(change, durable, outcome))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._commit_all())
        return await outcome

    async def read(self, look: Callable[[Store], T]) -> T:
        """Look at much, away from the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, look, self._looking)

    async def tidy(self) -> None:
        """Give the disk back what changes left beside the database."""
        with contextlib.suppress(StoreError):
            await asyncio.get_running_loop().run_in_executor(self._writer, self._changing.shrink)

    async def close(self) -> None:
        """Make the changes that wait, and let go of the file."""
        if self._task is not None:
            await self._task
        self._writer.shutdown(wait=True)
        self._reader.shutdown(wait=True)
        for store in (self._looking, self.now, self._changing):
            store.close()

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
            outcomes = await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, batch)
            for waiting, outcome in zip(batch, outcomes):
                if waiting.outcome.done():
                    continue
                if isinstance(outcome, BaseException):
                    waiting.outcome.set_exception(outcome)
                else:
                    waiting.outcome.set_result(outcome)

    def _commit(self, batch: list[_Waiting]) -> list[Any]:
        """In the writer's thread: outcomes in order. Where the disk is full, once more after room was made."""
        changes, durable = [waiting.change for waiting in batch], any(waiting.durable for waiting in batch)
        for attempt in range(2):
            try:
                return self._changing.batch(changes, durable=durable)
            except VoidError as error:
                if attempt == 0 and is_full(error) and self._make_room():
                    continue
                if len(batch) == 1 or isinstance(error.__cause__, sqlite3.OperationalError):
                    return [error] * len(batch)
                break
            except Exception as error:  # noqa: BLE001 - a bug in one change must not be its neighbours' end
                if len(batch) == 1:
                    return [translated(error)]
                break
        return [outcome for waiting in batch for outcome in self._commit([waiting])]
