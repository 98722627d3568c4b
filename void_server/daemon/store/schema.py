"""The database's tables, and how an older daemon's become today's.

What comes in: an open connection. What goes out: tables of the current version, or a refusal. It does not know what a
row means.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from void_server.wire.errors import StoreError

VERSION = 3

_TABLES = """
create table meta (name text primary key, value text not null);
create table jobs (
    job text primary key, owner text not null, request text not null, asked text not null, name text not null,
    settings text not null, state text not null, created real not null, changed real not null,
    queued integer not null default 0, attempt integer not null default 0, crashes integer not null default 0,
    error text, warnings text not null default '[]', frames_done integer not null default 0,
    fetched integer not null default 0, warned real, unique (owner, request)
);
create index jobs_by_state on jobs (state, queued);
create index jobs_by_queue on jobs (queued);
create index jobs_by_owner on jobs (owner, created);
create table files (
    job text not null references jobs on delete cascade, number integer not null, role text not null,
    frame integer not null, name text not null, size integer not null, fingerprint text not null,
    mtime_ns integer not null, path text, held text, primary key (job, number)
);
create index files_by_held on files (held);
create table frames (
    owner text not null, name text not null, size integer not null, fingerprint text not null,
    crc32 integer not null, sha256 text, verified integer not null default 0, used real not null,
    primary key (owner, name)
);
create index frames_by_fingerprint on frames (owner, fingerprint);
create index frames_by_hash on frames (owner, sha256);
create table events (
    job text not null references jobs on delete cascade, seq integer not null, event text not null,
    primary key (job, seq)
);
create table results (
    job text not null references jobs on delete cascade, attempt integer not null, name text not null,
    size integer not null, sha256 text not null, primary key (job, attempt, name)
);
"""

_FROM: dict[int, str] = {
    # Version 1 named frames after their hash, and knew no checksum; -1 tells the worker that there is none to compare.
    1: """
        drop index if exists files_by_hash;
        alter table files rename column sha256 to held;
        create index if not exists files_by_held on files (held);
        alter table frames rename to old_frames;
        drop index if exists frames_by_fingerprint;
        create table frames (
            owner text not null, name text not null, size integer not null, fingerprint text not null,
            crc32 integer not null, sha256 text, verified integer not null default 0, used real not null,
            primary key (owner, name)
        );
        insert into frames select owner, sha256, size, fingerprint, -1, sha256, verified, used from old_frames;
        drop table old_frames;
        create index frames_by_fingerprint on frames (owner, fingerprint);
        create index frames_by_hash on frames (owner, sha256);
    """,
    # Version 2 counted ages by the machine's clock; everything begins to age now.
    2: """
        alter table jobs add column frames_done integer not null default 0;
        alter table jobs add column fetched integer not null default 0;
        alter table jobs add column warned real;
        update jobs set changed = 0;
        update frames set used = 0;
        update jobs set frames_done = (select count(*) from results
            where results.job = jobs.job and results.attempt = jobs.attempt and name >= 'clean.' and name < 'clean/');
        create index if not exists jobs_by_state on jobs (state, queued);
        create index if not exists jobs_by_queue on jobs (queued);
        create index if not exists jobs_by_owner on jobs (owner, created);
    """,
}
"""What makes a store of one version one of the next; a step happens whole or not at all."""


def bring_up(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or migrate them. Writes nothing where they are current: a full disk must not stop a start.

    Raises StoreError for a store of a later version, sqlite3.Error for what is no database.
    """
    if not db.execute("select 1 from sqlite_master where name = 'meta'").fetchone():
        _step(db, _TABLES, VERSION)
        return
    version = int(db.execute("select value from meta where name = 'version'").fetchone()[0])
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a later void-server (store version {version}, this one's is {VERSION}).",
            "Update void-server, or use another --data.",
        )
    while version < VERSION:
        _step(db, _FROM[version], version + 1)
        version += 1


def _step(db: sqlite3.Connection, script: str, version: int) -> None:
    db.execute("begin immediate")
    try:
        for statement in script.split(";"):
            if statement.strip():
                db.execute(statement)
        db.execute("insert or replace into meta values ('version', ?)", (str(version),))
    except BaseException:
        db.execute("rollback")
        raise
    db.execute("commit")
