"""The SQLite file behind the embedded store: schema, versions, ways of opening, errors in words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ...errors import StoreError
from .migration import add_checksums
from .verification import CASES, DAMAGED, THUMBNAILS, Damage

APPLICATION_ID = 0x6773636F
"""Marks the file as ours in SQLite's header (``gsco`` in ASCII)."""
SCHEMA_VERSION = 2
"""Raise it with every change of the schema and add the step from the version before."""

_PAGE_SIZE = 16384
"""Several vectors to a page; with 4 KiB pages a vector of width 1280 wastes a third of its page."""
_BUSY = 0.01
"""Seconds before a busy file is tried again."""
_SMALLEST = 512
"""No SQLite file has fewer bytes, except one that holds nothing."""

_SCHEMA = (
    """CREATE TABLE cases(
        row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL,
        task TEXT NOT NULL, labels TEXT NOT NULL, modality TEXT NOT NULL, patient TEXT NOT NULL,
        source TEXT NOT NULL, licence TEXT NOT NULL, report TEXT, checksum INTEGER)""",
    "CREATE INDEX cases_by_task ON cases(task, id)",
    "CREATE INDEX cases_by_sha256 ON cases(sha256)",
    "CREATE INDEX cases_by_patient ON cases(patient) WHERE patient != ''",
    """CREATE TABLE thumbnails(
        case_row INTEGER PRIMARY KEY REFERENCES cases(row) ON DELETE CASCADE, jpeg BLOB NOT NULL,
        checksum INTEGER)""",
    "CREATE TABLE encoders(encoder INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, width INTEGER NOT NULL)",
    # Vectors are never changed in place and their rows never reused: a reader that has seen row n
    # needs only the rows above it, unless something was deleted.
    """CREATE TABLE vectors(
        row INTEGER PRIMARY KEY AUTOINCREMENT, encoder INTEGER NOT NULL REFERENCES encoders,
        case_row INTEGER NOT NULL REFERENCES cases(row) ON DELETE CASCADE, halves BLOB NOT NULL,
        checksum INTEGER)""",
    "CREATE UNIQUE INDEX vectors_by_case ON vectors(case_row, encoder)",
    "CREATE TABLE deletions(count INTEGER NOT NULL)",
    "INSERT INTO deletions VALUES (0)",
)

_BLOCKS = "CREATE TABLE blocks(block TEXT PRIMARY KEY, number INTEGER NOT NULL, mixed INTEGER NOT NULL)"
"""For each block of rows: their number, and the exclusive or of their checksums."""
_BLOCK_OF = {CASES: f"'{CASES}'", THUMBNAILS: f"'{THUMBNAILS}'", "vectors": "'vectors ' || {row}.encoder"}


def _triggers() -> Iterator[str]:
    for table, block in _BLOCK_OF.items():
        for event, row, sign in (("INSERT", "NEW", "+"), ("DELETE", "OLD", "-")):
            own = block.format(row=row)
            # (a | b) - (a & b) is the exclusive or, which SQLite has no operator for.
            mixed = f"(mixed | {row}.checksum) - (mixed & {row}.checksum)"
            yield (
                f"CREATE TRIGGER {table}_{event.lower()} AFTER {event} ON {table} BEGIN "
                f"INSERT INTO blocks SELECT {own}, 0, 0 WHERE {own} NOT IN (SELECT block FROM blocks); "
                f"UPDATE blocks SET number = number {sign} 1, mixed = {mixed} WHERE block = {own}; END"
            )


_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, MemoryError)
"""What reading raises where a value is of another type, or as large as no value can be."""
_ADVICE = {
    sqlite3.SQLITE_NOTADB: "it is not a case store; name another path",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_ERROR: DAMAGED,
    sqlite3.SQLITE_TOOBIG: DAMAGED,
    sqlite3.SQLITE_FORMAT: DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: DAMAGED,
    sqlite3.SQLITE_BUSY: "another process keeps it locked; wait for it or stop it",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only; open the store with readonly=True",
    sqlite3.SQLITE_FULL: "the disk is full; make room and run the same command again",
    sqlite3.SQLITE_IOERR: "the disk is full or fails, or a file may not be so large (ulimit -f)",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that it is a file and who may read and write it",
}


@contextmanager
def errors_of(path: Path) -> Generator[None]:
    """Turn SQLite's errors into a ``StoreError`` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # Without a code: a text that is no UTF-8.
        advice = _ADVICE.get(code, DAMAGED if code == 0 else "check the disk and the file")
        raise StoreError(f"case store {path}: {error}; {advice}") from error
    except Damage as error:
        raise StoreError(f"case store {path}: {error}") from error
    except OSError as error:
        raise StoreError(f"case store {path}: {error.strerror}; check the folder") from error


@contextmanager
def damage_of(path: Path) -> Generator[None]:
    """Turn what reading a damaged file raises into a ``StoreError``; only for code that reads."""
    try:
        with errors_of(path):
            yield
    except _UNREADABLE as error:
        raise StoreError(f"case store {path}: {type(error).__name__}: {error}; {DAMAGED}") from error


def connect(path: Path, *, readonly: bool, timeout: float) -> sqlite3.Connection:
    """Open the file, and make it if it may be written and is not there.

    Args:
        path: the file itself, not its folder.
        readonly: nothing is written, not even beside the file where its folder is read-only.
        timeout: seconds to wait for another process that writes.

    Raises:
        StoreError: missing, not a case store, damaged, or made by a newer version.
    """
    with damage_of(path):
        # SQLite would take such a file for an empty one and overwrite it. It must not be read to be
        # told apart: closing it would release the locks that this process holds on it.
        if path.is_file() and 0 < path.stat().st_size < _SMALLEST:
            raise StoreError(f"{path} is not a case store; name another path")
        return _open_readonly(path, timeout) if readonly else _open_writable(path, timeout)


def in_rows(sql: sqlite3.Connection, query: str, values: list[str] | list[int]) -> Iterator[tuple[Any, ...]]:
    """Run a query that ends in ``IN`` for any number of values."""
    for start in range(0, len(values), 500):
        part = values[start : start + 500]
        # All at once: a reader that an error stops half-way must not keep the statement open.
        yield from sql.execute(f"{query} ({','.join('?' * len(part))})", part).fetchall()


def _open_writable(path: Path, timeout: float) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _closed_on_error(_raw(path, "rwc", timeout)) as sql:
        new = _is_new(sql, path)
        if new:
            sql.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        _write_ahead(sql, timeout)
        if new:
            _create(sql, path)
        _upgrade(sql)
        sql.execute("PRAGMA foreign_keys = ON")
        sql.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        # With a write-ahead log NORMAL keeps the file whole through any crash; only the last
        # transactions can be lost, and only if the machine itself goes down.
        sql.execute("PRAGMA synchronous = NORMAL")
        return sql


def _write_ahead(sql: sqlite3.Connection, timeout: float) -> None:
    """Use a write-ahead log. SQLite does not wait for others here: it gives up at once where one is busy."""
    end = time.monotonic() + timeout
    while True:
        try:
            sql.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_BUSY)


def _upgrade(sql: sqlite3.Connection) -> None:
    """Bring a file of an older version up to date, in one transaction."""
    if not _is_old(sql):
        return
    sql.execute("BEGIN IMMEDIATE")
    try:
        if _is_old(sql):  # no other process was faster
            sql.execute(_BLOCKS)
            add_checksums(sql)
            for statement in _triggers():
                sql.execute(statement)
            sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:
            sql.execute("ROLLBACK")
        raise


def _is_old(sql: sqlite3.Connection) -> bool:
    return sql.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION


def _open_readonly(path: Path, timeout: float) -> sqlite3.Connection:
    sql = _open_unchanged(path, timeout)
    if not _is_old(sql):
        return sql
    with closing(sql):
        try:
            with closing(_raw(path, "rw", timeout)) as writable:
                _upgrade(writable)
            return _open_unchanged(path, timeout)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
        # A file that cannot be written is read through an up-to-date copy in memory.
        with _closed_on_error(
            sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        ) as copy:
            sql.backup(copy)
            _upgrade(copy)
            return copy


def _open_unchanged(path: Path, timeout: float) -> sqlite3.Connection:
    if not path.is_file():
        raise StoreError(f"there is no case store at {path}; build one with `gsco store build`")
    try:
        return _open_built(path, "ro", timeout)
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        denied = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not denied or (log.exists() and log.stat().st_size):
            raise
    # A read-only folder has no place for the files that coordinate with writers, and no writers
    # either: SQLite may take the file for unchanging.
    return _open_built(path, "ro&immutable=1", timeout)


def _open_built(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    with _closed_on_error(_raw(path, mode, timeout)) as sql:
        if _is_new(sql, path):
            raise StoreError(f"{path} is empty; build a case store with `gsco store build`")
        return sql


@contextmanager
def _closed_on_error(sql: sqlite3.Connection) -> Generator[sqlite3.Connection]:
    try:
        yield sql
    except BaseException:
        sql.close()
        raise


def _raw(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def _is_new(sql: sqlite3.Connection, path: Path) -> bool:
    """Whether the file holds nothing yet; a file of another kind or version is refused."""
    # One statement sees one state: another process may be making the store at this moment.
    application, version, tables = sql.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM "
        "pragma_user_version), (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if application == 0 and version == 0 and tables == 0:
        return True
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is another program's SQLite file, not a case store; name another path")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer gsco (schema {version}, this one knows {SCHEMA_VERSION}); "
            "update gsco, or index into another file"
        )
    return False


def _create(sql: sqlite3.Connection, path: Path) -> None:
    sql.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster while this one waited for the lock.
        if _is_new(sql, path):
            for statement in (*_SCHEMA, _BLOCKS, *_triggers()):
                sql.execute(statement)
            sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:
            sql.execute("ROLLBACK")
        raise
