"""Examples from tables, as a ``TableLayout`` layout describes them."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigurationError
from ...models.data.rows import SPLIT_NAMES
from ...models.splits import SPLITS, Split
from .entry import TableLayout
from .example import Example
from .rows import Row, read_rows

_SHOWN = 3
_YES_NO = frozenset({"yes", "no"})


@dataclass
class Read:
    """What an adapter found in a folder."""

    examples: list[Example]
    notes: list[str] = field(default_factory=list)
    dropped: int = 0
    """Examples already left out because their group is also in a later split."""
    sha256: str = ""
    """Hash of the labelled folder, as training has it; empty of other layouts."""


def read_table(folder: Path, layout: TableLayout) -> Read:
    """Read the examples that a folder's tables name.

    Raises:
        ConfigurationError: a table, a column or an image is missing, or a value is none that is known.
    """
    places = {split: i for i, split in enumerate(SPLITS)}
    examples, missing, silent = [], [], 0
    for split, row in _rows(folder, layout):
        if layout.report and not any(_text(row, column, "").strip() for column in layout.report):
            silent += 1
            continue
        paths = _images(folder, layout, row)
        if isinstance(paths, str):
            missing.append(paths)
        else:
            examples.append(_example(folder, layout, row, split, paths))
    if missing:
        raise ConfigurationError(
            f"{len(missing)} images of {folder} are missing, for example {', '.join(missing[:_SHOWN])}"
        )
    if layout.merge:
        examples = _merged(examples, layout)
    examples.sort(key=lambda one: places.get(one.split, len(SPLITS)))
    return Read(examples, [f"{silent} rows without a report left out"] if silent else [])


def _rows(folder: Path, layout: TableLayout) -> Iterator[tuple[Split | Literal[""], Row]]:
    indexed, joined = _indexed(folder, layout), _joined(folder, layout)
    for split, patterns in layout.files.items():
        paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        if not paths:
            raise ConfigurationError(f"{folder} has no table {' or '.join(patterns)}")
        for path in paths:
            rows = read_rows(path, layout.columns.get(split, ()))
            for number, row in enumerate(rows):
                if layout.join:
                    row = {**joined.get(_text(row, layout.join[1]), {}), **row}
                row = _derived(row, layout)
                if all(_text(row, column) in values for column, values in layout.where.items()):
                    yield _split_of(split, row, number, layout, indexed), row


def _joined(folder: Path, layout: TableLayout) -> dict[str, Row]:
    if layout.join is None:
        return {}
    table, column = layout.join
    return {_text(row, column): row for row in read_rows(folder / table)}


def _indexed(folder: Path, layout: TableLayout) -> dict[int, Split]:
    """Read which row numbers are in which split, where that stands in files of its own."""
    found: dict[int, Split] = {}
    for split, name in layout.indexes.items():
        for row in read_rows(folder / name):
            found[int(next(iter(row.values())))] = SPLIT_NAMES[split]
    return found


def _split_of(
    files: str, row: Row, number: int, layout: TableLayout, indexed: Mapping[int, Split]
) -> Split | Literal[""]:
    if layout.indexes:
        if number not in indexed:
            raise ConfigurationError(
                f"row {number} is in none of the files {', '.join(layout.indexes.values())}"
            )
        return indexed[number]
    if files != "all":
        return SPLIT_NAMES[files]
    if not layout.split:
        return ""
    value = _text(row, layout.split)
    value = layout.splits.get(value, value).lower()
    if value not in SPLIT_NAMES:
        raise ConfigurationError(f"row {number + 1} names the split {value!r}; it must be train, val or test")
    return SPLIT_NAMES[value]


def _derived(row: Row, layout: TableLayout) -> Row:
    if not layout.derived:
        return row
    found = dict(row)
    for name, (column, expression) in layout.derived.items():
        match = re.search(expression, _text(row, column))
        if match is None:
            raise ConfigurationError(f"{_text(row, column)!r} in column {column!r} does not hold a {name}")
        found[name] = match[1]
    return found


def _images(folder: Path, layout: TableLayout, row: Row) -> tuple[Path, ...] | str:
    """Find a row's images; a text is the name of one that is missing."""
    paths = []
    for name in _filled(layout.image, row):
        path = _find(folder, layout.folders, name)
        if path is None:
            return name
        paths.append(path)
    if not paths:
        raise ConfigurationError(f"a row names no image: {layout.image} of {dict(list(row.items())[:4])}")
    return tuple(paths)


def _find(folder: Path, places: Sequence[str], name: str) -> Path | None:
    for place in places:
        if "*" in name:
            matches = sorted((folder / place).glob(name))
            if len(matches) == 1:
                return matches[0]
        elif (path := folder / place / name).is_file():
            return path
    return None


def _example(
    folder: Path, layout: TableLayout, row: Row, split: Split | Literal[""], images: tuple[Path, ...]
) -> Example:
    first = images[0].relative_to(folder).as_posix()
    extras = {name: value for name, column in layout.extras.items() if (value := _text(row, column, ""))}
    example = Example(
        # Numbers of questions are unique in their file, and not always among files.
        id="/".join(filter(None, (split, _one(layout.id, row)))) if layout.id else first,
        images=images,
        labels=_labels(layout, row),
        group=_one(layout.group, row) if layout.group else first,
        split=split,
        extras=extras,
    )
    if layout.report:
        texts = [_text(row, column, "") for column in layout.report]
        return replace(example, report=" ".join(text for text in texts if text))
    if layout.question:
        return _question_of(example, layout, row)
    return example


def _question_of(example: Example, layout: TableLayout, row: Row) -> Example:
    choices = tuple(
        # Some sets write the letter before each choice.
        re.sub(r"^\s*[A-D]\s*[:.]\s*", "", text).strip()
        for column in layout.choices
        if (text := _text(row, column, ""))
    )
    raw = row.get(layout.answer)
    given = [str(key) for key in raw] if isinstance(raw, Mapping | list) else [_text(row, layout.answer, "")]
    answers = tuple(_by_letter(answer.strip(), choices) for answer in given)
    kind = example.extras.get("answer_type", "").strip().upper()
    if kind not in ("OPEN", "CLOSED"):
        closed = bool(choices) or all(answer.lower() in _YES_NO for answer in answers)
        kind = "CLOSED" if closed else "OPEN"
    return replace(
        example,
        question=_text(row, layout.question).strip(),
        choices=choices,
        answers=answers,
        extras={**example.extras, "answer_type": kind},
    )


def _by_letter(answer: str, choices: Sequence[str]) -> str:
    place = "ABCDEFGH".find(answer.upper()) if len(answer) == 1 else -1
    return choices[place] if 0 <= place < len(choices) else answer


def _labels(layout: TableLayout, row: Row) -> tuple[str, ...]:
    if layout.marks:
        found = [option for column, option in layout.marks.items() if _marked(row, column)]
        return tuple(found or ([layout.otherwise] if layout.otherwise else []))
    if not layout.label:
        return ()
    value = row.get(layout.label)
    texts = [str(one) for one in value] if isinstance(value, list) else [_text(row, layout.label)]
    texts = [text.strip() for text in texts if text.strip()]
    return tuple(option for text in texts if (option := layout.values.get(text, text)))


def _marked(row: Row, column: str) -> bool:
    text = _text(row, column, "")
    try:
        return float(text or 0) > 0
    except ValueError:
        raise ConfigurationError(f"column {column!r} holds {text!r} instead of 0 or 1") from None


def _merged(examples: Sequence[Example], layout: TableLayout) -> list[Example]:
    """Put the rows of one image together."""
    found: dict[str, Example] = {}
    for one in examples:
        before = found.get(one.id)
        labels = one.labels if before is None else tuple(dict.fromkeys((*before.labels, *one.labels)))
        found[one.id] = replace(before or one, labels=labels)
    if not layout.priority:
        return list(found.values())
    order = {label: place for place, label in enumerate(layout.priority)}
    return [
        replace(one, labels=tuple(sorted(one.labels, key=lambda label: order.get(label, len(order)))[:1]))
        for one in found.values()
    ]


def _filled(pattern: str, row: Row) -> list[str]:
    """Fill a pattern; a column that holds a list gives one text for each of its elements."""
    columns = [name for _, name, _, _ in string.Formatter().parse(pattern) if name]
    lists = [name for name in columns if isinstance(row.get(name), list)]
    values = {name: _text(row, name) for name in columns if name not in lists}
    if not lists:
        return [pattern.format_map(values)]
    return [pattern.format_map({**values, lists[0]: str(element)}) for element in row[lists[0]]]


def _one(pattern: str, row: Row) -> str:
    return _filled(pattern, row)[0]


def _text(row: Row, column: str, default: str | None = None) -> str:
    if column not in row:
        if default is not None:
            return default
        raise ConfigurationError(f"the table has no column {column!r}, only {', '.join(map(str, row))}")
    value: Any = row[column]
    return "" if value is None else "|".join(map(str, value)) if isinstance(value, list) else str(value)
