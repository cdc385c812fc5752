"""Files of long work: records appended and synced one after the other, and texts written whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from ..case import Record
from ..disk import replacing
from ..errors import ConfigurationError

R = TypeVar("R", bound=Record)


class JsonlLog(Generic[R]):
    """An append-only JSONL file of one kind of record.

    A line that a killed process left unfinished is cut off when the file is opened: its work is done
    again. What ``append`` returned from is on the disk.

    Args:
        path: the file; it is created at the first append.
        kind: class of the records.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path = path
        self._kind = kind
        self.repaired = _cut_torn_line(path)
        """Bytes of an unfinished line that were cut off."""

    def append(self, records: Iterable[R]) -> None:
        """Write the records and wait until they are on the disk."""
        lines = "".join(record.model_dump_json(exclude_defaults=True) + "\n" for record in records)
        if not lines:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[R]:
        return read_log(self.path, self._kind)


def read_log(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of a file, without changing it; an unfinished last line is left out.

    Raises:
        ConfigurationError: a line in the middle is not such a record.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise ConfigurationError(
                    f"line {number} of {path.name} is not a record that this version wrote; "
                    "restore the file or start with a new folder"
                ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _cut_torn_line(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
        return size - end
