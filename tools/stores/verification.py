"""Verifies that a case store's file holds what was written to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import StoreError
from .checksums import block_checksum, case_checksum, thumbnail_checksum

DAMAGED = (
    "the file is damaged; restore it from a backup, or delete it and index again "
    "(the bundled store is rebuilt automatically)"
)
CASES, THUMBNAILS = "cases", "thumbnails"
"""Names of blocks; those of vectors are in ``vectors_block``."""
COLUMNS = "id, sha256, task, labels, modality, patient, source, licence, report"
"""The columns of a case that its checksum covers."""

_AT_ONCE = 2048


@dataclass(frozen=True)
class StoreCheck:
    """What was verified, row by row."""

    cases: int
    vectors: int
    thumbnails: int


class Damage(StoreError):
    """A case store does not hold what was written to it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; {DAMAGED}")


def vectors_block(code: int) -> str:
    """Name the block of an encoder's vectors."""
    return f"vectors {code}"


def verify_structure(sql: sqlite3.Connection) -> None:
    """Verify the file's pages and indexes, and that all vectors and thumbnails have their cases.

    Raises:
        StoreError: they are not whole.
    """
    (found,) = sql.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise Damage(str(found))
    if sql.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise Damage("a vector or a thumbnail has lost its case")


def verify_cases(sql: sqlite3.Connection) -> int:
    """Verify the file's structure and indexes, and every case; return how many there are.

    Raises:
        StoreError: something was lost or changed.
    """
    verify_structure(sql)
    checksums = []
    for *columns, checksum in _rows(sql, f"SELECT {COLUMNS}, checksum FROM cases"):
        if case_checksum(columns) != checksum:
            raise Damage(f"case {columns[0]} was changed")
        checksums.append(checksum)
    verify_block(sql, CASES, len(checksums), block_checksum(checksums))
    _verify_encoders(sql)
    return len(checksums)


def verify_thumbnails(sql: sqlite3.Connection) -> int:
    """Verify every thumbnail; return how many there are.

    Raises:
        StoreError: something was lost or changed.
    """
    query = "SELECT id, jpeg, thumbnails.checksum FROM thumbnails JOIN cases ON cases.row = case_row"
    checksums = []
    for id, jpeg, checksum in _rows(sql, query):
        verified_thumbnail(id, jpeg, checksum)
        checksums.append(checksum)
    verify_block(sql, THUMBNAILS, len(checksums), block_checksum(checksums))
    return len(checksums)


def verified_thumbnail(id: str, jpeg: bytes, checksum: int) -> bytes:
    """The thumbnail of a case, as it was written.

    Raises:
        StoreError: it was changed.
    """
    if thumbnail_checksum(id, jpeg) != checksum:
        raise Damage(f"the thumbnail of case {id} was changed")
    return jpeg


def verify_block(sql: sqlite3.Connection, block: str, number: int, checksum: int) -> None:
    """Compare the rows of a block with what is on record for it.

    Args:
        sql: the snapshot that the rows were read from.
        block: its name.
        number: of rows.
        checksum: ``block_checksum`` of the rows.

    Raises:
        StoreError: rows were lost, added or changed.
    """
    recorded = sql.execute("SELECT number, mixed FROM blocks WHERE block = ?", (block,)).fetchone()
    if (recorded or (0, 0)) != (number, checksum):
        raise Damage(f"rows of the block {block!r} were lost or changed")


def _verify_encoders(sql: sqlite3.Connection) -> None:
    known = {vectors_block(code) for (code,) in sql.execute("SELECT encoder FROM encoders")}
    there = {block for (block,) in sql.execute("SELECT block FROM blocks WHERE number != 0")}
    if there - known - {CASES, THUMBNAILS}:
        raise Damage("an encoder was lost")


def _rows(sql: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    found = sql.execute(query)
    while part := found.fetchmany(_AT_ONCE):
        yield from part
