"""Brings the file of a case store up to date that an older version of gsco wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np

from .checksums import block_checksum, case_checksum, thumbnail_checksum, vector_checksum
from .vectors import LENGTH_TOLERANCE
from .verification import CASES, COLUMNS, THUMBNAILS, Damage, vectors_block, verify_structure

_TABLES = (CASES, THUMBNAILS, "vectors")


def add_checksums(sql: sqlite3.Connection) -> None:
    """From schema 1 to 2, within the caller's transaction: give every row a checksum.

    What the file holds now is taken for what was written, as far as it can be told: its structure and
    indexes are whole, and every vector has length one.

    Raises:
        StoreError: the file is damaged.
    """
    verify_structure(sql)
    for table in _TABLES:
        sql.execute(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER")
    made = {CASES: list(_cases(sql)), THUMBNAILS: list(_thumbnails(sql)), "vectors": []}
    for code, name, width in sql.execute("SELECT encoder, name, width FROM encoders").fetchall():
        own = list(_vectors(sql, code, name, width))
        made["vectors"] += own
        _record(sql, vectors_block(code), own)
    for table, key in ((CASES, "row"), (THUMBNAILS, "case_row"), ("vectors", "row")):
        sql.executemany(f"UPDATE {table} SET checksum = ? WHERE {key} = ?", made[table])
    _record(sql, CASES, made[CASES])
    _record(sql, THUMBNAILS, made[THUMBNAILS])


def _cases(sql: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    for row, *columns in sql.execute(f"SELECT row, {COLUMNS} FROM cases"):
        yield case_checksum(columns), row


def _thumbnails(sql: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    query = "SELECT case_row, id, jpeg FROM thumbnails JOIN cases ON cases.row = case_row"
    for row, id, jpeg in sql.execute(query):
        yield thumbnail_checksum(id, jpeg), row


def _vectors(sql: sqlite3.Connection, code: int, name: str, width: int) -> Iterator[tuple[int, int]]:
    query = "SELECT vectors.row, id, halves FROM vectors JOIN cases ON cases.row = case_row WHERE encoder = ?"
    for row, id, halves in sql.execute(query, (code,)):
        vector = np.frombuffer(halves, "<f2").astype(np.float32)
        if len(vector) != width or not abs(float(np.linalg.norm(vector)) - 1) < LENGTH_TOLERANCE:
            raise Damage(f"the vector of encoder {name!r} of case {id} was changed")
        yield vector_checksum(name, width, id, halves), row


def _record(sql: sqlite3.Connection, block: str, rows: list[tuple[int, int]]) -> None:
    mixed = block_checksum(checksum for checksum, _ in rows)
    sql.execute("INSERT INTO blocks VALUES (?, ?, ?)", (block, len(rows), mixed))
