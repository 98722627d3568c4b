"""One sqlite file: opened, migrated, changed in transactions that many changes may share.

What comes in: a path, then queries. What goes out: rows, or StoreError for whatever sqlite raises. It does not know
what the rows mean.

WAL with synchronous=FULL: once a change returns, it is on the disk. Measured cost of a transaction: 0.2 ms on an idle
disk, 4 ms, and up to 19 ms, on one that takes an upload; that is why `batch` commits many changes at once.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from void_server.daemon.store.schema import bring_up
from void_server.wire.errors import StoreError, VoidError


class SqliteFile:
    """An open database. An object belongs to one thread at a time."""

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        """Raises StoreError if the database can't be opened or is of a later version.

        reading: this one changes nothing; the tables are there already.
        """
        self._inside = False
        self._opened = time.monotonic()
        self._age = 0.0
        with as_store_error():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                if reading:
                    self._db.execute("pragma query_only = on")
                else:
                    self._db.execute("pragma journal_mode = wal")
                    self._db.execute("pragma foreign_keys = on")
                    bring_up(self._db, path)
                    found = self._db.execute("pragma quick_check(1)").fetchone()[0]
                    if found != "ok":
                        raise sqlite3.DatabaseError(found)
                row = self._db.execute("select value from meta where name = 'age'").fetchone()
                self._age = float(row[0]) if row else 0.0
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        self._db.close()

    def age(self) -> float:
        """Seconds that daemons were up with this database: a clock that nobody can set, and that stops over night."""
        return self._age + time.monotonic() - self._opened

    def save_age(self) -> None:
        with self._transaction() as db:
            db.execute("insert or replace into meta values ('age', ?)", (repr(self.age()),))

    def batch(self, changes: Sequence[Callable[[Any], Any]], *, durable: bool = True) -> list[Any]:
        """Make many changes in one transaction; for each its outcome, or the VoidError that it alone was refused with.

        durable: on the disk when this returns; else the next durable batch makes it so. Raises StoreError where none
        of them was made.
        """
        outcomes: list[Any] = []
        with self._transaction("full" if durable else "normal") as db:
            self._inside = True
            try:
                for change in changes:
                    db.execute("savepoint one")
                    try:
                        outcomes.append(change(self))
                    except StoreError:
                        raise
                    except VoidError as error:
                        db.execute("rollback to one")
                        outcomes.append(error)
                    db.execute("release one")
            finally:
                self._inside = False
        return outcomes

    def shrink(self) -> None:
        """Give the disk back what changes left beside the database."""
        with as_store_error():
            self._db.execute("pragma wal_checkpoint(truncate)")

    def _select(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        with as_store_error():
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self, synchronous: str = "full") -> Iterator[sqlite3.Connection]:
        with as_store_error():
            if self._inside:
                yield self._db
                return
            self._db.execute(f"pragma synchronous = {synchronous}")
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                # sqlite itself rolls back where the disk is full.
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise


def first(rows: list[Any]) -> Any:
    return rows[0] if rows else None


@contextlib.contextmanager
def as_store_error() -> Iterator[None]:
    """Turn what sqlite raises into our error."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"The daemon's database can't be used: {error}.", "Free space on its disk.") from error
