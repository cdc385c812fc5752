"""How an entry lies in the tables of the SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

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

    keys: tuple[int, ...]
    """Rows of their cases."""
    ids: tuple[str, ...]
    kinds: list[Kind]
    halves: tuple[bytes, ...]
    checksums: tuple[int, ...]
    """Those on record; ``StoredEncoder.vectors`` compares them."""


_COLUMNS = "cases.row, cases.id, cases.task, cases.modality, cases.labels, halves, vectors.checksum"


def load(sql: sqlite3.Connection, encoder: StoredEncoder, index: ExactIndex, *, after: int) -> list[int]:
    """Append to the index the encoder's vectors of rows above ``after``.

    Returns:
        Their checksums.

    Raises:
        StoreError: one was changed.
    """
    # The plus sign keeps SQLite on the row order, which the index by case would lose.
    condition = "+vectors.encoder = ? AND vectors.row > ?"
    (pending,) = sql.execute(
        f"SELECT count(*) FROM vectors WHERE {condition}", (encoder.code, after)
    ).fetchone()
    index.reserve(pending)
    checksums: list[int] = []
    for part in _batches(sql, encoder, after):
        index.append(part.keys, part.ids, part.kinds, encoder.vectors(part.ids, part.halves, part.checksums))
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
        for part in _batches(sql, encoder, 0):
            encoder.vectors(part.ids, part.halves, part.checksums)
            checksums += part.checksums
        verify_block(sql, vectors_block(encoder.code), len(checksums), block_checksum(checksums))
        number += len(checksums)
    return number


def _batches(sql: sqlite3.Connection, encoder: StoredEncoder, after: int) -> Iterator[VectorBatch]:
    """The vectors of an encoder of rows above ``after``, in parts."""
    found = sql.execute(
        f"SELECT {_COLUMNS} FROM vectors JOIN cases ON cases.row = case_row "
        "WHERE +vectors.encoder = ? AND vectors.row > ? ORDER BY vectors.row",
        (encoder.code, after),
    )
    while part := found.fetchmany(_LOADED_AT_ONCE):
        keys, ids, tasks, modalities, texts, halves, checksums = zip(*part, strict=True)
        decoded = {text: tuple(json.loads(text)) for text in set(texts)}
        labels = (decoded[text] for text in texts)
        yield VectorBatch(keys, ids, list(zip(tasks, modalities, labels, strict=True)), halves, checksums)


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
