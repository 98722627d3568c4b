"""The frames that the daemon holds, as rows: whose, how large, of which content, and which jobs need them.

What comes in: names and sums. What goes out: rows. It does not know the bytes (`frames.py` keeps those).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from void_server.daemon.store.sqlite_file import SqliteFile, first


class JobFile(NamedTuple):
    """One file of a job as it was asked for."""

    number: int
    role: str
    frame: int
    name: str
    size: int
    fingerprint: str
    mtime_ns: int
    path: str | None
    """Where the daemon itself sees it, under a trusted root; None where the bytes travel."""
    held: str | None
    """The frame that holds its content; None until it has come."""


class FrameTable(SqliteFile):
    """The part of the store that knows received frames."""

    def holds(self, owner: str, name: str) -> bool:
        """Whether a frame of this name is held."""
        return bool(self._select("select 1 from frames where owner = ? and name = ?", (owner, name)))

    def frame_like(self, owner: str, size: int, fingerprint: str, sums: tuple[str, int]) -> str | None:
        """The frame that holds the content of these sums (sha256, crc32), if any does.

        A frame whose hash is not known yet, and which nothing tells from this content, gets the hash as its sender's
        word: the worker that verifies the frame takes it for damaged should it have another one.
        """
        sha256, crc32 = sums
        # Two questions, each with an index of its own: with `or` between them sqlite looks at every frame there is.
        row = first(
            self._select(
                "select name from frames where owner = ? and sha256 = ? and size = ? limit 1", (owner, sha256, size)
            )
        )
        if row is not None:
            return str(row[0])
        row = first(
            self._select(
                "select name from frames indexed by frames_by_fingerprint where owner = ? and fingerprint = ?"
                " and size = ? and sha256 is null and crc32 = ? limit 1",
                (owner, fingerprint, size, crc32),
            )
        )
        if row is None:
            return None
        with self._transaction() as db:
            db.execute("update frames set sha256 = ? where owner = ? and name = ?", (sha256, owner, row[0]))
        return str(row[0])

    def knows_fingerprint(self, owner: str, fingerprint: str) -> bool:
        found = self._select("select 1 from frames where owner = ? and fingerprint = ?", (owner, fingerprint))
        return bool(found)

    def known_fingerprints(self, job: str) -> set[str]:
        """Which of a job's fingerprints some frame of its owner has."""
        found = self._select(
            "select distinct files.fingerprint from files join jobs using (job)"
            " join frames on frames.owner = jobs.owner and frames.fingerprint = files.fingerprint where job = ?",
            (job,),
        )
        return {row[0] for row in found}

    def keep_frame(self, job: str, number: int, name: str, crc32: int) -> None:
        """A file of a job lies on the disk as frame `name`, synced, with the checksum that its sender gave."""
        with self._transaction() as db:
            db.execute(
                "insert or ignore into frames select owner, ?, files.size, fingerprint, ?, null, 0, ? from files"
                " join jobs using (job) where job = ? and number = ?",
                (name, crc32, self.age(), job, number),
            )
            db.execute("update files set held = ? where job = ? and number = ?", (name, job, number))
            db.execute("update jobs set changed = ? where job = ?", (self.age(), job))

    def unverified(self, job: str) -> dict[str, tuple[int, str | None]]:
        """Frames among the job's files that no worker has checked yet: (crc32, sha256 if a sender gave it) by name."""
        found = self._select(
            "select frames.name, crc32, sha256 from files join jobs using (job)"
            " join frames on frames.owner = jobs.owner and frames.name = held where job = ? and not verified",
            (job,),
        )
        return {row[0]: (row[1], row[2]) for row in found}

    def verified(self, owner: str, hashes: Mapping[str, str]) -> None:
        """A worker found these frames, by name, to be what was sent, and to have these hashes."""
        with self._transaction() as db:
            rows = [(sha256, self.age(), owner, name) for name, sha256 in hashes.items()]
            db.executemany("update frames set verified = 1, sha256 = ?, used = ? where owner = ? and name = ?", rows)

    def forget_frame(self, owner: str, name: str) -> None:
        with self._transaction() as db:
            db.execute("delete from frames where owner = ? and name = ?", (owner, name))

    def used_bytes(self, owner: str) -> int:
        """What an owner has the daemon keep: frames held and still expected, and results."""
        found = self._select(
            "select (select coalesce(sum(size), 0) from frames where owner = :owner)"
            " + (select coalesce(sum(size), 0) from files join jobs using (job)"
            "    where owner = :owner and state = 'receiving' and held is null and path is null)"
            " + (select coalesce(sum(size), 0) from results join jobs using (job) where owner = :owner)",
            {"owner": owner},
        )
        return int(found[0][0])

    def expected_bytes(self) -> int:
        """Bytes that were promised room and have not come whole: everybody's."""
        found = self._select(
            "select coalesce(sum(size), 0) from files join jobs using (job)"
            " where state = 'receiving' and held is null and path is null"
        )
        return int(found[0][0])

    def unused_frames(self, older_than_s: float, owner: str | None = None) -> list[tuple[str, str, int, str]]:
        """Frames (owner, name, size, fingerprint) that no unfinished job needs and nobody used
        for so long, longest first."""
        found = self._select(
            "select owner, name, size, fingerprint from frames where used < ? and (? is null or owner = ?) and not"
            " exists (select 1 from files join jobs using (job) where held = frames.name"
            " and jobs.owner = frames.owner and state in ('receiving', 'queued', 'running')) order by used",
            (self.age() - older_than_s, owner, owner),
        )
        return [(row[0], row[1], row[2], row[3]) for row in found]

    def frame_names(self) -> set[str]:
        """Names of all frames, whosever."""
        return {row[0] for row in self._select("select name from frames")}
