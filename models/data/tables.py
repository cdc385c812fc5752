"""Tables of labelled images: csv in the dialects that programs write, and JSON lines."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...disk import read_file
from ...errors import ConfigurationError
from .labels import MISSING, separator_of
from .rows import DatasetLayout, LabelledRow, split_named

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl"})
PATH_COLUMNS = (
    "path",
    "image",
    "image_path",
    "file_name",
    "filename",
    "file",
    "filepath",
    "file_path",
    "image_name",
    "img_name",
    "img",
    "img_path",
    "image_id",
    "imageid",
    "image_index",
    "id_code",
)
LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "class_name",
    "diagnosis",
    "dx",
    "target",
    "category",
    "finding_labels",
    "finding",
    "findings",
    "disease",
    "choice",
)
GROUP_COLUMNS = ("group", "patient_id", "patientid", "patient", "subject_id", "subject", "lesion_id")
SPLIT_COLUMNS = ("split", "subset", "partition")
TRAIT_COLUMNS = (
    "age",
    "patient_age",
    "sex",
    "gender",
    "patient_sex",
    "patient_gender",
    "ethnicity",
    "race",
    "skin_type",
    "skin_tone",
    "fitzpatrick",
    "site",
    "hospital",
    "institution",
    "center",
    "centre",
    "country",
    "scanner",
    "manufacturer",
    "device",
    "camera",
    "vendor",
    "view",
    "view_position",
    "laterality",
    "localization",
    "location",
    "anatom_site_general",
    "body_part",
)
"""Columns of which results are reported by subgroup."""
_DELIMITERS = (",", ";", "\t", "|")
_MAX_FIELD = 2**24
_MAX_BYTES = 2**30
_SHOWN = 3


@dataclass(frozen=True)
class LabelTable:
    """A table as text."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    lines: tuple[int, ...]
    """Line of the file on which each row begins."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Which columns mean what; None: found by their names."""

    path: str | None = None
    label: str | None = None
    marks: tuple[str, ...] = field(default=(), kw_only=True)
    """Columns of 0 and 1, one for each label."""
    group: str | None = field(default=None, kw_only=True)
    split: str | None = field(default=None, kw_only=True)
    report: str | None = field(default=None, kw_only=True)
    traits: tuple[str, ...] = field(default=(), kw_only=True)
    """Columns of age, sex, site and the like; those that are named are added to those that are found."""


def read_text_table(path: Path) -> LabelTable:
    """Read csv, tsv or JSON lines.

    The encoding is UTF-8 or UTF-16, with a byte order mark or without, else Windows-1252; the delimiter is
    the one of comma, semicolon, tab and bar that splits the heading best.

    Raises:
        ConfigurationError: the file cannot be read, is empty, or a row has more fields than the heading.
    """
    try:
        data = read_file(path, _MAX_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read the table {path.name}: {error.strerror}") from error
    text, notes = _decoded(data)
    if path.suffix.lower() == ".jsonl":
        return _json_lines(path.name, text)
    if text.startswith("sep="):  # Excel's own way to name the delimiter
        text = text.partition("\n")[2]
    csv.field_size_limit(_MAX_FIELD)
    delimiter = _delimiter(text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        heading = [name.strip() for name in next(reader, [])]
        rows, lines, start = [], [], reader.line_num
        for values in reader:
            if any(value.strip() for value in values):
                rows.append(_row(path.name, heading, values, start + 1))
                lines.append(start + 1)
            start = reader.line_num
    except csv.Error as error:
        raise ConfigurationError(f"cannot read {path.name} as csv: {error}") from error
    if delimiter != ",":
        notes.append(f"fields are separated by {'a tab' if delimiter == chr(9) else repr(delimiter)}")
    return LabelTable(path.name, tuple(heading), tuple(rows), tuple(lines), tuple(notes))


def _decoded(data: bytes) -> tuple[str, list[str]]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace"), []
    if b"\0" in data[:200]:
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), ["not UTF-8; read as Windows-1252"]


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")

    def worth(delimiter: str) -> tuple[int, int]:
        names = {plain_name(name) for name in next(csv.reader([first], delimiter=delimiter), [])}
        return len(names & {*PATH_COLUMNS, *LABEL_COLUMNS, *GROUP_COLUMNS, *SPLIT_COLUMNS}), len(names)

    return max(_DELIMITERS, key=worth)


def _row(name: str, heading: Sequence[str], values: Sequence[str], line: int) -> dict[str, str]:
    if len(values) > len(heading) and any(value.strip() for value in values[len(heading) :]):
        raise ConfigurationError(
            f"line {line} of {name} has {len(values)} fields, but the heading has {len(heading)}; put texts "
            "that hold the delimiter into quotes"
        )
    padded = [*values, *[""] * (len(heading) - len(values))]
    return {column: value.strip() for column, value in zip(heading, padded, strict=False) if column}


def _json_lines(name: str, text: str) -> LabelTable:
    rows, lines = [], []
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"line {line} of {name} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ConfigurationError(f"line {line} of {name} is not an object with named fields")
        rows.append({key: _described(value) for key, value in row.items()})
        lines.append(line)
    return LabelTable(
        name, tuple(dict.fromkeys(key for row in rows for key in row)), tuple(rows), tuple(lines)
    )


def _described(value: object) -> str:
    if isinstance(value, list):
        return "|".join(map(str, value))
    return "" if value is None else str(value).strip()


def plain_name(name: str) -> str:
    """A column's name as it is compared: small letters, ``_`` for blanks and dashes."""
    return "_".join(name.strip().casefold().replace("-", " ").split())


def find_columns(table: LabelTable, given: Columns) -> Columns:
    """Find the columns that say path, label, group, split and report.

    Raises:
        ConfigurationError: there is none for the path or the label; the message names the nearest.
    """
    found = {plain_name(name): name for name in reversed(table.columns)}

    def first(names: Sequence[str]) -> str | None:
        return next((found[name] for name in names if name in found), None)

    path = _given(table, given.path, "--path-column") or first(PATH_COLUMNS)
    label = _given(table, given.label, "--label-column") or first(
        [n for n in LABEL_COLUMNS if found.get(n) != path]
    )
    group, split = first(GROUP_COLUMNS), first(SPLIT_COLUMNS)
    taken = {path, label, group, split}
    marks = (
        () if label else tuple(name for name in table.columns if name not in taken and _is_mark(table, name))
    )
    if path is None:
        raise _lacks(table, "path", "--path-column")
    if label is None and len(marks) < 2:
        raise _lacks(table, "label", "--label-column")
    named = [_given(table, name, "--subgroup") or name for name in given.traits]
    known = [found[name] for name in TRAIT_COLUMNS if name in found and found[name] not in taken]
    return Columns(
        path,
        label,
        marks=marks,
        group=group,
        split=split,
        report=first(("report",)),
        traits=tuple(dict.fromkeys([*known, *named])),
    )


def _given(table: LabelTable, name: str | None, option: str) -> str | None:
    if name is None or name in table.columns:
        return name
    raise ConfigurationError(f"{table.name} has no column {name!r} ({option}), only {list(table.columns)}")


def _lacks(table: LabelTable, column: str, option: str) -> ConfigurationError:
    near = difflib.get_close_matches(column, table.columns, 1, 0.5)
    hint = f"did you mean {near[0]!r}? Name it with" if near else "name it with"
    return ConfigurationError(
        f"{table.name} has no column {column!r}, only {list(table.columns)}; {hint} {option}"
    )


def _is_mark(table: LabelTable, column: str) -> bool:
    values = {row.get(column, "") for row in table.rows}
    return bool(column) and bool(values) and values <= {"0", "1", "0.0", "1.0"}


def labelled_rows(
    table: LabelTable, given: Columns, multilabel: bool | None, accepted: frozenset[str]
) -> DatasetLayout:
    """Make the rows of a table of images.

    Args:
        table: as read.
        given: columns that the caller names.
        multilabel: whether images may have several labels; None: by the look of the labels.
        accepted: the task's labels in small letters; labels even where they look like a missing value.

    Raises:
        ConfigurationError: a column, a path, a label or a split is missing or wrong, or an image has two.
    """
    columns = find_columns(table, given)
    if not table.rows:
        raise ConfigurationError(f"{table.name} has no rows")
    layout = DatasetLayout([], f"table {table.name}", notes=list(table.notes))
    if columns.marks:
        several = multilabel or any(sum(map(_marked, _marks(row, columns))) != 1 for row in table.rows)
        sign = None
        layout.notes.append(f"labels are the columns {', '.join(columns.marks)}")
    else:
        texts = [row.get(columns.label or "", "") for row in table.rows]
        sign = separator_of(texts, multilabel)
        several = sign is not None
        layout.notes += _described_signs(texts, sign)
    rows = [
        _labelled(table.name, row, line, columns, sign, several, accepted)
        for row, line in zip(table.rows, table.lines, strict=True)
    ]
    layout.rows, layout.multilabel = _once(rows, several and multilabel is True, layout), several
    layout.kind += f": {_meaning(columns)}"
    return layout


def _meaning(columns: Columns) -> str:
    named = {
        "path": columns.path,
        "label": columns.label,
        "group": columns.group,
        "split": columns.split,
        "report": columns.report,
    }
    told = [f"{what} is {column!r}" for what, column in named.items() if column]
    return ", ".join([*told, *(["subgroups by " + ", ".join(columns.traits)] if columns.traits else [])])


def _described_signs(texts: Sequence[str], sign: str | None) -> list[str]:
    if sign is not None:
        example = next((text for text in texts if sign in text), None)
        return [f"several labels of an image are separated by {sign!r}, as in {example!r}"] if example else []
    example = next((text for text in texts if "+" in text), None)
    return [f"a plus is part of a label, as in {example!r}"] if example else []


def _marks(row: Mapping[str, str], columns: Columns) -> list[str]:
    return [row.get(column, "") for column in columns.marks]


def _marked(text: str) -> bool:
    return text in ("1", "1.0")


def _labelled(
    name: str,
    row: Mapping[str, str],
    line: int,
    columns: Columns,
    sign: str | None,
    several: bool,
    accepted: frozenset[str],
) -> LabelledRow:
    path = row.get(columns.path or "", "")
    if columns.marks:
        marks = zip(columns.marks, _marks(row, columns), strict=True)
        labels = tuple(column for column, mark in marks if _marked(mark))
    else:
        text = row.get(columns.label or "", "")
        if text.casefold() in MISSING - accepted:
            raise ConfigurationError(
                f"line {line} of the csv has the label {text!r}, which stands for a missing one; give the "
                "image a label, or leave the row out"
            )
        labels = tuple(filter(None, (part.strip() for part in text.split(sign)))) if sign else (text,)
    if not path or "" in labels or not (labels or several):
        raise ConfigurationError(f"line {line} of the csv lacks its {'label' if path else 'path'}")
    text = row.get(columns.split or "", "")
    split = split_named(text) if text else None
    if text and split is None:
        raise ConfigurationError(f"line {line} of the csv names the split {text!r}; use train, val or test")
    group, report = (row.get(column or "") or None for column in (columns.group, columns.report))
    traits = tuple((column, row.get(column, "")) for column in columns.traits)
    return LabelledRow(path, tuple(dict.fromkeys(labels)), group, split, report, line, traits)


def _once(rows: Sequence[LabelledRow], merge: bool, layout: DatasetLayout) -> list[LabelledRow]:
    """Let each image be listed once.

    Raises:
        ConfigurationError: it is listed with different labels, splits or groups.
    """
    found: dict[str, LabelledRow] = {}
    repeated: dict[str, int] = defaultdict(int)
    for row in rows:
        before = found.setdefault(row.path.replace("\\", "/"), row)
        if before is row:
            continue
        repeated[row.path] += 1
        if merge:
            labels = tuple(dict.fromkeys((*before.labels, *row.labels)))
            found[row.path.replace("\\", "/")] = replace(before, labels=labels)
        elif set(before.labels) != set(row.labels):
            one, other = ("+".join(labels) for labels in (before.labels, row.labels))
            raise ConfigurationError(
                f"image {row.path!r} has two labels: {one!r} on line {before.line} and {other!r} on line "
                f"{row.line}; keep one"
            )
        elif before.split != row.split:
            raise ConfigurationError(
                f"image {row.path!r} is in two splits, on lines {before.line} and {row.line}; keep one"
            )
    if repeated:
        layout.notes.append(
            f"{sum(repeated.values())} rows name an image again, for example {next(iter(repeated))!r}"
        )
    return list(found.values())
