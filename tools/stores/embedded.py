"""The case store for one machine: one SQLite file, searched exactly in memory."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from ...case import SimilarCase
from ...errors import StoreError
from . import rows
from .base import Search, StoreBase
from .database import connect, damage_of, errors_of, in_rows
from .exact import Ban, Hit
from .protocol import EVERYTHING, Entry, Exclusion, Filter, KnownCase, similar_case
from .vector_cache import VectorCache
from .vectors import checked_entry
from .verification import Damage, StoreCheck, verified_thumbnail, verify_cases, verify_thumbnails

_BATCH = 256


class EmbeddedStore(StoreBase):
    """Known cases in one SQLite file; the vectors of an encoder are loaded at its first search.

    Vectors lie in the file at half precision (2 bytes per number: similarities change by less than
    0.001) and in memory at single precision. A search is one matrix product, exact, and sees all
    that was committed before it, by whichever process. A batch of entries is written whole or not
    at all, whatever happens to the process.

    Every row has a checksum, and so has the block of all vectors of an encoder. The file's structure and
    its cases are verified at the first use of a store, vectors when they are loaded, and a row whenever it
    is read: a file that was damaged gives a ``StoreError`` and never other neighbours. A file of an older
    version gets its checksums when it is opened; where it cannot be written, a copy in memory gets them.

    It is meant for up to 128 million numbers of an encoder (100,000 vectors of width 1,280), which take half
    a gigabyte of memory; above it a warning names Weaviate. ``docs/stores.md`` has the measured times.

    Any number of threads may share a store, and any number of processes may open the file; writers
    wait for each other. A store must not be used across ``fork``, nor lie on a network drive.

    Args:
        path: the file; it is made where it is missing.
        readonly: never write, but to bring the file of an older version up to date. A file in a
            folder that cannot be written is taken for unchanging.
        timeout: seconds to wait for another writer.

    Raises:
        StoreError: the file is missing (readonly), damaged, not a case store or from a newer version.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False, timeout: float = 30.0) -> None:
        self.path = Path(path)
        self.readonly = readonly
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._vectors = VectorCache(self.path)
        connection = connect(self.path, readonly=readonly, timeout=timeout)
        self._connection: sqlite3.Connection | None = connection
        self._verified = False
        # A store that nobody closed still closes its file, which also tidies SQLite's log away.
        weakref.finalize(self, connection.close)

    def add(self, entries: Iterable[Entry]) -> int:
        """See ``CaseStore.add``; a case that is there keeps its labels, delete it to change them."""
        pending, new = iter(entries), 0
        while batch := [checked_entry(entry) for entry in islice(pending, _BATCH)]:
            with self._writing() as sql:
                new += sum([rows.insert(sql, entry) for entry in batch])
        return new

    def _nearest(self, search: Search) -> list[list[SimilarCase]]:
        with self._reading() as sql:
            sought = self._sought(sql, search)
        # Outside the transaction, so that the threads of a process search side by side.
        hits = sought()
        with self._reading() as sql:
            known = rows.cases(sql, {hit.key for query in hits for hit in query})
        if any(hit.key not in known for query in hits for hit in query):
            # A case that somebody deleted in between must not leave a gap: search and read in one snapshot.
            with self._reading() as sql:
                hits = self._sought(sql, search)()
                known = rows.cases(sql, {hit.key for query in hits for hit in query})
        with damage_of(self.path):
            return [[_similar(known.get(hit.key), hit, search.encoder) for hit in query] for query in hits]

    def scan(self, where: Filter = EVERYTHING) -> Iterator[Entry]:
        """See ``CaseStore.scan``; entries are read as they are taken, in small batches."""
        last, condition, values = "", *_condition(where)
        query = f"SELECT row, id FROM cases WHERE id > ? AND {condition} ORDER BY id LIMIT {_BATCH}"
        while True:
            with self._reading() as sql:
                page = sql.execute(query, (last, *values)).fetchall()
                batch = rows.entries(sql, [row for row, _ in page])
            if not page:
                return
            last = page[-1][1]
            yield from batch

    def get(self, ids: Iterable[str]) -> dict[str, Entry]:
        """See ``CaseStore.get``."""
        with self._reading() as sql:
            found = [row for (row,) in in_rows(sql, "SELECT row FROM cases WHERE id IN", list(ids))]
            return {entry.case.id: entry for entry in rows.entries(sql, found)}

    def count(self, where: Filter = EVERYTHING) -> int:
        """See ``CaseStore.count``."""
        condition, values = _condition(where)
        with self._reading() as sql:
            return sql.execute(f"SELECT count(*) FROM cases WHERE {condition}", values).fetchone()[0]

    def delete(self, ids: Iterable[str]) -> int:
        """See ``CaseStore.delete``; an encoder is forgotten with its last vector."""
        with self._writing() as sql:
            found = list(in_rows(sql, "SELECT row FROM cases WHERE id IN", list(ids)))
            sql.executemany("DELETE FROM cases WHERE row = ?", found)
            if found:
                sql.execute("UPDATE deletions SET count = count + 1")
                sql.execute("DELETE FROM encoders WHERE encoder NOT IN (SELECT encoder FROM vectors)")
        return len(found)

    def erase(self, ids: Iterable[str]) -> int:
        """Delete cases and leave no trace of them in the file and its log; return how many.

        Raises:
            StoreError: the store cannot be written, or another program has it open and keeps its log.
        """
        deleted = self.delete(ids)
        with self._lock, errors_of(self.path):
            sql = self._open()
            # Pages that an older version freed without overwriting them go too.
            sql.execute("VACUUM")
            # An earlier version kept an index of the vectors there.
            shutil.rmtree(self.path.with_name(f"{self.path.name}-index"), ignore_errors=True)
            busy, *_ = sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(
                f"another program has case store {self.path} open, and its log still holds the deleted data; "
                "stop it and run the same command again"
            )
        return deleted

    def encoders(self) -> dict[str, int]:
        """See ``CaseStore.encoders``."""
        with self._reading() as sql:
            return {name: encoder.width for name, encoder in rows.encoders(sql).items()}

    def tasks(self) -> dict[str, int]:
        """See ``CaseStore.tasks``."""
        with self._reading() as sql:
            counted = sql.execute("SELECT task, count(*) FROM cases GROUP BY task ORDER BY task")
            return dict(counted.fetchall())

    def thumbnail(self, id: str) -> bytes | None:
        """See ``CaseStore.thumbnail``."""
        query = (
            "SELECT jpeg, thumbnails.checksum FROM thumbnails JOIN cases ON cases.row = case_row WHERE id = ?"
        )
        with self._reading() as sql:
            row = sql.execute(query, (id,)).fetchone()
            return verified_thumbnail(id, *row) if row else None

    def verify(self) -> StoreCheck:
        """Verify everything: the file's structure, and every case, vector and thumbnail.

        Raises:
            StoreError: something was lost or changed; it says what.
        """
        with self._reading() as sql:
            return StoreCheck(verify_cases(sql), rows.verify_vectors(sql), verify_thumbnails(sql))

    def seal(self) -> None:
        """Leave one file with nothing beside it, to be copied and read; nobody else may have it open."""
        with self._lock, errors_of(self.path):
            self._open().execute("PRAGMA journal_mode = DELETE")

    def close(self) -> None:
        """Release the file; closing twice is harmless."""
        with self._lock, errors_of(self.path):
            self._vectors.clear()
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _sought(self, sql: sqlite3.Connection, search: Search) -> Callable[[], list[list[Hit]]]:
        """How to search what the snapshot of ``sql`` holds."""
        found = self._vectors.view(sql, search.encoder, search.queries.shape[1], search.where)
        if found is None:
            return lambda: [[] for _ in search.queries]
        view, kinds = found
        bans = [_ban(sql, one) for one in search.exclude]
        return lambda: view.search(search.queries, search.k, kinds, bans)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with damage_of(self.path), self._transaction("BEGIN") as sql:
            if not self._verified:
                verify_cases(sql)
                self._verified = True
            yield sql

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        if self.readonly:
            raise StoreError(f"case store {self.path} was opened read-only; open it without readonly=True")
        if not self._verified:
            with self._reading():
                pass
        with self._transaction("BEGIN IMMEDIATE") as sql:
            yield sql

    @contextmanager
    def _transaction(self, begin: str) -> Generator[sqlite3.Connection]:
        if os.getpid() != self._process:
            raise StoreError(f"case store {self.path} was opened before fork; open it again in this process")
        with self._lock, errors_of(self.path):
            sql = self._open()
            if sql.in_transaction:  # this thread's own: its snapshot is the one to read
                yield sql
                return
            sql.execute(begin)
            try:
                yield sql
                sql.execute("COMMIT")
            except BaseException:
                if sql.in_transaction:
                    sql.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"case store {self.path} is closed")
        return self._connection


def _condition(where: Filter) -> tuple[str, tuple[str, ...]]:
    parts, values = ["TRUE"], ()
    carried = "EXISTS (SELECT 1 FROM json_each(cases.labels) WHERE value"
    for start, allowed, end in (
        ("task", where.tasks, ""),
        ("modality", where.modalities, ""),
        (carried, where.labels, ")"),
        (f"NOT {carried}", where.without, ")"),
    ):
        if allowed:
            parts.append(f"{start} IN ({','.join('?' * len(allowed))}){end}")
            values += allowed
    return " AND ".join(parts), values


def _ban(sql: sqlite3.Connection, exclusion: Exclusion) -> Ban:
    """The rows that an exclusion names; an empty group is an unknown one and excludes nobody."""
    keys = [row for (row,) in in_rows(sql, "SELECT row FROM cases WHERE sha256 IN", list(exclusion.sha256s))]
    query = "SELECT row FROM cases WHERE patient != '' AND patient IN"
    keys += [row for (row,) in in_rows(sql, query, list(exclusion.groups))]
    keys += [row for (row,) in in_rows(sql, "SELECT row FROM cases WHERE id IN", list(exclusion.ids))]
    return Ban(np.array(keys, np.int64), exclusion.above_similarity)


def _similar(case: KnownCase | None, hit: Hit, encoder: str) -> SimilarCase:
    if case is None or case.id != hit.id:
        raise Damage(f"case {hit.id} was lost")
    return similar_case(case, hit.similarity, encoder)
