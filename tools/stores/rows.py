"""How an entry lies in the tables of the SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .checksums import block_checksum, case_checksum, thumbnail_checksum, vector_checksum
from .database import in_rows
from .exact import ExactIndex, Kind
from .protocol import Entry, KnownCase, Vectors
from .vectors import pack, same_width, unpack
from .verification import COLUMNS, Damage, vectors_block, verified_thumbnail, verify_block

_LOADED_AT_ONCE = 2048


class StoredEncoder(NamedTuple):
    """A vector space of the store."""

    code: int
    width: int
    name: str

    def vectors(self, ids: Sequence[str], halves: Sequence[bytes], checksums: Sequence[int]) -> Vectors:
        """Vectors as they lie in the file, verified, at single precision and normalised.

        Args:
            ids: of their cases.
            halves: one per case.
            checksums: on record.

        Raises:
            StoreError: one was changed.
        """
        for id, own, checksum in zip(ids, halves, checksums, strict=True):
            if vector_checksum(self.name, self.width, id, own) != checksum:
                raise Damage(f"the vector of encoder {self.name!r} of case {id} was changed")
        return _unpacked(halves, self.width)


def insert(sql: sqlite3.Connection, entry: Entry) -> bool:
    """Write a checked entry, or the vectors that a case already there lacks; whether it was new."""
    case = entry.case
    known = sql.execute("SELECT row FROM cases WHERE id = ?", (case.id,)).fetchone()
    row = known[0] if known else _insert_case(sql, case, entry.thumbnail)
    for name, vector in entry.vectors.items():
        encoder = _encoder_for(sql, name, len(vector))
        halves = pack(vector).tobytes()
        sql.execute(
            "INSERT INTO vectors(encoder, case_row, halves, checksum) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (encoder, row, halves, vector_checksum(name, len(vector), case.id, halves)),
        )
    return known is None


def encoders(sql: sqlite3.Connection) -> dict[str, StoredEncoder]:
    """Every encoder by name."""
    rows = sql.execute("SELECT name, encoder, width FROM encoders ORDER BY name")
    return {name: StoredEncoder(code, width, name) for name, code, width in rows}


def cases(sql: sqlite3.Connection, rows: Iterable[int]) -> dict[int, KnownCase]:
    """Known cases by row; rows that are gone are left out.

    Raises:
        StoreError: one was changed.
    """
    found = in_rows(sql, f"SELECT row, checksum, {COLUMNS} FROM cases WHERE row IN", list(rows))
    return {row: _case(checksum, *columns) for row, checksum, *columns in found}


def entries(sql: sqlite3.Connection, rows: Iterable[int]) -> list[Entry]:
    """Whole entries, ordered by id."""
    known = cases(sql, rows)
    vectors: dict[int, dict[str, Vectors]] = {row: {} for row in known}
    joined = (
        "SELECT case_row, encoder, name, width, halves, checksum FROM vectors JOIN encoders USING (encoder)"
    )
    for row, code, name, width, halves, checksum in in_rows(sql, f"{joined} WHERE case_row IN", list(known)):
        encoder = StoredEncoder(code, width, name)
        vectors[row][name] = encoder.vectors([known[row].id], [halves], [checksum])[0]
    query = "SELECT case_row, jpeg, checksum FROM thumbnails WHERE case_row IN"
    jpegs = {
        row: verified_thumbnail(known[row].id, jpeg, checksum)
        for row, jpeg, checksum in in_rows(sql, query, list(known))
    }
    whole = [Entry(case, _by_name(vectors[row]), jpegs.get(row)) for row, case in known.items()]
    return sorted(whole, key=lambda entry: entry.case.id)


class VectorBatch(NamedTuple):
    """Vectors of one encoder as they lie in the file, column by column."""

    rows: tuple[int, ...]
    keys: tuple[int, ...]
    """Rows of their cases."""
    ids: tuple[str, ...]
    kinds: list[Kind]
    halves: tuple[bytes, ...]
    checksums: tuple[int, ...]
    """Those on record; ``StoredEncoder.vectors`` compares them."""


_COLUMNS = "vectors.row, cases.row, cases.id, cases.task, cases.modality, halves, vectors.checksum"


def load(
    sql: sqlite3.Connection,
    encoder: StoredEncoder,
    index: ExactIndex,
    *,
    after: int,
    kinds: Collection[Kind] | None = None,
) -> list[int]:
    """Append to the index the encoder's vectors of rows above ``after``, of some kinds or of all.

    Returns:
        Their checksums.

    Raises:
        StoreError: one was changed.
    """
    # The plus sign keeps SQLite on the row order, which the index by case would lose.
    condition = "+vectors.encoder = ? AND vectors.row > ?"
    bound: tuple[Any, ...] = (encoder.code, after)
    tables = "vectors JOIN cases ON cases.row = case_row"
    if kinds is None:
        (pending,) = sql.execute(f"SELECT count(*) FROM vectors WHERE {condition}", bound).fetchone()
        index.reserve(pending)
    else:
        # From the few cases to their vectors, and not through all vectors.
        tables = "cases CROSS JOIN vectors ON case_row = cases.row"
        condition = (
            f"vectors.encoder = ? AND vectors.row > ? AND (task, modality) IN (VALUES {_marks(len(kinds))})"
        )
        bound += tuple(chain.from_iterable(kinds))
    found = sql.execute(f"SELECT {_COLUMNS} FROM {tables} WHERE {condition} ORDER BY vectors.row", bound)
    checksums: list[int] = []
    while part := _batch(found.fetchmany(_LOADED_AT_ONCE)):
        vectors = encoder.vectors(part.ids, part.halves, part.checksums)
        index.append(part.keys, part.ids, part.kinds, vectors)
        checksums += part.checksums
    return checksums


def verify_vectors(sql: sqlite3.Connection) -> int:
    """Verify every vector of every encoder; return how many there are.

    Raises:
        StoreError: one was lost or changed.
    """
    number = 0
    for encoder in encoders(sql).values():
        checksums: list[int] = []
        last = 0
        while part := after(sql, encoder, last, _LOADED_AT_ONCE):
            encoder.vectors(part.ids, part.halves, part.checksums)
            checksums += part.checksums
            last = part.rows[-1]
        verify_block(sql, vectors_block(encoder.code), len(checksums), block_checksum(checksums))
        number += len(checksums)
    return number


def after(sql: sqlite3.Connection, encoder: StoredEncoder, last: int, number: int) -> VectorBatch | None:
    """The next vectors of an encoder, of rows above ``last``; None where there are no more."""
    query = (
        f"SELECT {_COLUMNS} FROM vectors JOIN cases ON cases.row = case_row "
        "WHERE +vectors.encoder = ? AND vectors.row > ? ORDER BY vectors.row LIMIT ?"
    )
    return _batch(sql.execute(query, (encoder.code, last, number)).fetchall())


def vectors_of(
    sql: sqlite3.Connection, encoder: StoredEncoder, keys: Sequence[int]
) -> dict[int, tuple[str, bytes]]:
    """The case's id and the vector, as it lies in the file, by case row; gone ones are left out."""
    query = (
        "SELECT cases.row, id, halves, vectors.checksum "
        "FROM cases CROSS JOIN vectors ON case_row = cases.row "
        f"WHERE vectors.encoder = {encoder.code:d} AND cases.row IN"
    )
    found: dict[int, tuple[str, bytes]] = {}
    for key, id, halves, checksum in in_rows(sql, query, list(keys)):
        encoder.vectors([id], [halves], [checksum])
        found[key] = (id, halves)
    return found


def scored_of(
    sql: sqlite3.Connection, encoder: StoredEncoder, keys: Sequence[int]
) -> dict[int, tuple[str, Vectors]]:
    """Like ``vectors_of``, at single precision."""
    found = vectors_of(sql, encoder, keys)
    if not found:
        return {}
    vectors = _unpacked([halves for _, halves in found.values()], encoder.width)  # verified already
    return {key: (id, vector) for (key, (id, _)), vector in zip(found.items(), vectors, strict=True)}


def number_until(sql: sqlite3.Connection, encoder: StoredEncoder, last: int) -> int:
    """How many vectors of an encoder there are up to a row."""
    query = "SELECT count(*) FROM vectors INDEXED BY vectors_by_case WHERE encoder = ? AND row <= ?"
    return sql.execute(query, (encoder.code, last)).fetchone()[0]


def _batch(found: Sequence[tuple[Any, ...]]) -> VectorBatch | None:
    if not found:
        return None
    seen, keys, ids, tasks, modalities, halves, checksums = zip(*found, strict=True)
    return VectorBatch(seen, keys, ids, list(zip(tasks, modalities, strict=True)), halves, checksums)


def _marks(pairs: int) -> str:
    return ", ".join(["(?, ?)"] * pairs)


def _insert_case(sql: sqlite3.Connection, case: KnownCase, thumbnail: bytes | None) -> int:
    values = (case.id, case.sha256, case.task, json.dumps(case.labels, ensure_ascii=False), case.modality)
    values += (case.group, case.source, case.licence, case.report)
    marks = ", ".join("?" * (len(values) + 1))
    query = f"INSERT INTO cases({COLUMNS}, checksum) VALUES ({marks})"
    row = sql.execute(query, (*values, case_checksum(values))).lastrowid
    assert row is not None
    if thumbnail:
        checksum = thumbnail_checksum(case.id, thumbnail)
        sql.execute("INSERT INTO thumbnails VALUES (?, ?, ?)", (row, thumbnail, checksum))
    return row


def _encoder_for(sql: sqlite3.Connection, name: str, width: int) -> int:
    known = sql.execute("SELECT encoder, width FROM encoders WHERE name = ?", (name,)).fetchone()
    if known:
        same_width(name, known[1], width)
        return known[0]
    code = sql.execute("INSERT INTO encoders(name, width) VALUES (?, ?)", (name, width)).lastrowid
    assert code is not None
    return code


def _case(
    checksum: int,
    id: str,
    sha256: str,
    task: str,
    labels: str,
    modality: str,
    patient: str,
    source: str,
    licence: str,
    report: str | None,
) -> KnownCase:
    if case_checksum((id, sha256, task, labels, modality, patient, source, licence, report)) != checksum:
        raise Damage(f"case {id} was changed")
    return KnownCase(
        sha256=sha256,
        task=task,
        labels=tuple(json.loads(labels)),
        modality=modality,
        group=patient,
        source=source,
        licence=licence,
        report=report,
    )


def _unpacked(halves: Iterable[bytes], width: int) -> Vectors:
    return unpack(np.frombuffer(b"".join(halves), "<f2").reshape(-1, width))


def _by_name(vectors: Mapping[str, Vectors]) -> dict[str, Vectors]:
    return dict(sorted(vectors.items()))
