"""Reading one task card."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ..case import Task
from ..disk import read_file
from ..errors import TaskError

SUFFIXES = (".toml", ".json")
_MAX_BYTES = 2**20


class Card(NamedTuple):
    """A task and how its file wants to stand among others."""

    task: Task
    override: bool
    """Whether it may replace a built-in task of the same name."""


def load_task(path: str | Path) -> Task:
    """Read a task card.

    Args:
        path: a ``.toml`` or ``.json`` file with the fields of ``Task``.

    Raises:
        TaskError: the file is absent, no TOML or JSON, or a field is wrong. The message names file and field.
    """
    return read_card(Path(path)).task


def read_card(path: Path) -> Card:
    """Read a task card together with its ``override`` field.

    Raises:
        TaskError: as for ``load_task``.
    """
    fields = _parsed(path)
    override = fields.pop("override", False)
    if not isinstance(override, bool):
        raise TaskError(f"task card {path}: override: must be true or false")
    try:
        # By way of JSON, a list is a tuple and a string is a kind.
        task = Task.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise TaskError(f"task card {path}: {_described(error)}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"task card {path}: holds a date or another value that no field accepts") from error
    return Card(task, override)


def claimed_name(path: Path) -> str:
    """The name of the task that a card is about, however wrong it is: its own, or else the file's."""
    try:
        name = _parsed(path).get("name")
    except TaskError:
        name = None
    return name if isinstance(name, str) and name else path.stem


def _parsed(path: Path) -> dict[str, object]:
    if path.suffix.lower() not in SUFFIXES:
        raise TaskError(f"task card {path}: must end in {' or '.join(SUFFIXES)}")
    try:
        text = read_file(path, _MAX_BYTES).decode("utf-8-sig")
        fields = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise TaskError(f"task card {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"task card {path}: is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise TaskError(f"task card {path}: is not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(fields, dict):
        raise TaskError(f"task card {path}: must contain fields, such as name and modality")
    return fields


def _described(error: ValidationError) -> str:
    """Every problem as ``field: what is wrong``."""
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in problem["loc"]) or "card"
        problems.append(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
