"""How an entry lies in the tables of the SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ...errors import StoreError
from .database import in_rows
from .exact import ExactIndex
from .protocol import Entry, KnownCase, Vectors
from .vectors import pack, same_width, unpack

_FIELDS = "row, id, sha256, task, labels, modality, patient, source, licence, report"
_LOADED_AT_ONCE = 2048


class Encoder(NamedTuple):
    """A vector space of the store."""

    code: int
    width: int


def insert(sql: sqlite3.Connection, entry: Entry) -> bool:
    """Write a checked entry, or the vectors that a case already there lacks; whether it was new."""
    case = entry.case
    known = sql.execute("SELECT row FROM cases WHERE id = ?", (case.id,)).fetchone()
    row = known[0] if known else _insert_case(sql, case, entry.thumbnail)
    for name, vector in entry.vectors.items():
        encoder = _encoder_for(sql, name, len(vector))
        sql.execute(
            "INSERT INTO vectors(encoder, case_row, halves) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (encoder, row, pack(vector).tobytes()),
        )
    return known is None


def encoders(sql: sqlite3.Connection) -> dict[str, Encoder]:
    """Every encoder by name."""
    rows = sql.execute("SELECT name, encoder, width FROM encoders ORDER BY name")
    return {name: Encoder(code, width) for name, code, width in rows}


def cases(sql: sqlite3.Connection, rows: Iterable[int]) -> dict[int, KnownCase]:
    """Known cases by row; rows that are gone are left out."""
    found = in_rows(sql, f"SELECT {_FIELDS} FROM cases WHERE row IN", list(rows))
    return {columns[0]: _case(*columns[2:]) for columns in found}


def entries(sql: sqlite3.Connection, rows: Iterable[int]) -> list[Entry]:
    """Whole entries, ordered by id."""
    known = cases(sql, rows)
    vectors: dict[int, dict[str, Vectors]] = {row: {} for row in known}
    joined = "SELECT case_row, name, width, halves FROM vectors JOIN encoders USING (encoder)"
    for row, name, width, halves in in_rows(sql, f"{joined} WHERE case_row IN", list(known)):
        vectors[row][name] = _unpacked([halves], width)[0]
    jpegs = dict(in_rows(sql, "SELECT case_row, jpeg FROM thumbnails WHERE case_row IN", list(known)))
    whole = [Entry(case, _by_name(vectors[row]), jpegs.get(row)) for row, case in known.items()]
    return sorted(whole, key=lambda entry: entry.case.id)


def load(sql: sqlite3.Connection, encoder: Encoder, index: ExactIndex, *, after: int) -> None:
    """Append to the index the encoder's vectors of rows above ``after``."""
    # The plus sign keeps SQLite on the row order, which the index by case would lose.
    condition = "+vectors.encoder = ? AND vectors.row > ?"
    bound = (encoder.code, after)
    (pending,) = sql.execute(f"SELECT count(*) FROM vectors WHERE {condition}", bound).fetchone()
    index.reserve(pending)
    rows = sql.execute(
        "SELECT cases.row, cases.id, cases.task, cases.modality, halves "
        f"FROM vectors JOIN cases ON cases.row = case_row WHERE {condition} ORDER BY vectors.row",
        bound,
    )
    while part := rows.fetchmany(_LOADED_AT_ONCE):
        keys, ids, tasks, modalities, halves = zip(*part, strict=True)
        index.append(keys, ids, list(zip(tasks, modalities, strict=True)), _unpacked(halves, encoder.width))


def _insert_case(sql: sqlite3.Connection, case: KnownCase, thumbnail: bytes | None) -> int:
    values = (case.id, case.sha256, case.task, json.dumps(case.labels, ensure_ascii=False), case.modality)
    values += (case.group, case.source, case.licence, case.report)
    marks = "NULL, " + ", ".join("?" * len(values))
    row = sql.execute(f"INSERT INTO cases({_FIELDS}) VALUES ({marks})", values).lastrowid
    assert row is not None
    if thumbnail:
        sql.execute("INSERT INTO thumbnails VALUES (?, ?)", (row, thumbnail))
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
    sha256: str,
    task: str,
    labels: str,
    modality: str,
    patient: str,
    source: str,
    licence: str,
    report: str | None,
) -> KnownCase:
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
    try:
        return unpack(np.frombuffer(b"".join(halves), "<f2").reshape(-1, width))
    except ValueError as error:
        raise StoreError("a vector in the case store is damaged; delete the file and index again") from error


def _by_name(vectors: Mapping[str, Vectors]) -> dict[str, Vectors]:
    return dict(sorted(vectors.items()))
