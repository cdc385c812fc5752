"""Rows of tables in the formats that data sets come in."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError
from ...models.data.tables import read_text_table

Row = Mapping[str, Any]

SUFFIXES = frozenset({".csv", ".json", ".jsonl", ".pkl", ".tsv", ".txt"})


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """Read a table.

    Args:
        path: CSV, TSV, JSON (a list of objects, or an object of such lists by split, which becomes a column
            ``split``), JSON lines, a pickle that holds nothing but plain values, or text.
        columns: of text without a heading line, separated by ``|``.

    Raises:
        ConfigurationError: the file cannot be read, or is not of its format.
    """
    try:
        rows = list(_read(path, columns))
    except (OSError, UnicodeDecodeError, ValueError, pickle.UnpicklingError, EOFError) as error:
        raise ConfigurationError(f"cannot read the table {path}: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ConfigurationError(f"{path.name}, row {number} is not an object with named fields")
    return rows


def _read(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if columns:
        yield from _bare_rows(path, columns)
    elif suffix in (".csv", ".tsv", ".txt"):
        yield from read_text_table(path).rows
    elif suffix == ".pkl":
        with path.open("rb") as file:
            yield from _listed(_PlainUnpickler(file).load())
    else:
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".jsonl":
            yield from (json.loads(line) for line in text.splitlines() if line.strip())
        else:
            yield from _listed(json.loads(text))


def _bare_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        values = line.split("|")
        if len(values) != len(columns):
            raise ValueError(f"line {number} has {len(values)} fields, not {', '.join(columns)}")
        yield dict(zip(columns, values, strict=True))


def _listed(content: object) -> Iterator[Row]:
    if isinstance(content, list):
        yield from content
        return
    if not isinstance(content, Mapping) or not all(isinstance(rows, list) for rows in content.values()):
        raise ValueError("it must contain a list of objects, or one such list per split")
    for name, rows in content.items():
        yield from ({"split": name, **row} for row in rows)


class _PlainUnpickler(pickle.Unpickler):  # noqa: S301 (it resolves no name, so it runs nothing)
    """Reads lists, mappings, texts and numbers; whatever would need code is refused."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(
            f"it holds a {module}.{name}, not only plain values; such a file is not read, since reading it "
            "could run code"
        )
