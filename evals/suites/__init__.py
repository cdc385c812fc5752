"""Suites: which data sets are replayed together. ``NAME.toml`` in this folder, or a file of the user's."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from ...case import Record
from ...errors import ConfigurationError

FOLDER = Path(__file__).parent


class Member(Record):
    """One set of a suite: a data set, or the bundled samples of a task."""

    dataset: str = ""
    """A name of the registry, or a path."""
    samples: str = ""
    """Name of the task whose bundled sample images are replayed."""
    task: str = ""
    """Name of the task that is asked; empty means the data set's own."""
    split: str = "test"
    limit: Annotated[int | None, Field(gt=0)] = None
    """Only a random sample of so many cases."""

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> Self:
        if bool(self.dataset) == bool(self.samples):
            raise ValueError("a set names either a dataset or samples")
        return self

    @property
    def name(self) -> str:
        """Name of the folder of its run."""
        return self.samples or Path(self.dataset).stem


class Suite(Record):
    """Sets that are replayed one after the other, with the same models."""

    title: str = ""
    sets: tuple[Member, ...]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [member.name for member in self.sets]
        if not names:
            raise ValueError("a suite has at least one set")
        if len(set(names)) < len(names):
            raise ValueError("two sets have the same name; each has a folder of that name in the run")
        return self


def bundled_suites() -> list[str]:
    """Names of the suites that come with gsco."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_suite(name: str) -> Suite:
    """Read a suite by its name or file.

    Raises:
        ConfigurationError: there is none, or it is wrong.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        return Suite.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        near = difflib.get_close_matches(name, bundled_suites(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(bundled_suites())
        raise ConfigurationError(f"no suite {name!r}; available: {known}, or a .toml file{hint}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"suite {path.name} cannot be read: {error}") from error
    except ValidationError as error:
        reasons = "; ".join(_reasons(error))
        raise ConfigurationError(f"suite {path.name}: {reasons}") from error


def _reasons(error: ValidationError) -> Iterator[str]:
    for entry in error.errors():
        where = ".".join(map(str, entry["loc"]))
        yield f"{where}: {entry['msg']}" if where else str(entry["msg"])
