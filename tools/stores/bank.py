"""A bank: known cases as two plain files, ``NAME.npz`` and ``card.json``, to ship and to exchange.

The npz holds no pickle: the cases as JSON, the vectors of each encoder at eight bits a number with
the cases they belong to, and the thumbnails end to end with their ends. The card says what is in it
and carries its sha256, so that a damaged or exchanged file is noticed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from ..._support.lengths import lengths_of
from ...case import Record
from ...disk import DAMAGED_ZIP, file_hash
from ...errors import StoreError
from .protocol import EVERYTHING, CaseStore, Entry, Filter, KnownCase, Vectors
from .vectors import known_encoder

CARD = "card.json"
_MALFORMED = (*DAMAGED_ZIP, KeyError, IndexError, TypeError)

Arrays = dict[str, npt.NDArray[Any]]


class BankCard(Record):
    """What a bank holds and under which licences."""

    format: Literal[1] = 1
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hash of the npz file."""
    cases: int
    tasks: Mapping[str, int]
    """Number of cases by task."""
    encoders: Mapping[str, int]
    """Width of the vectors by encoder."""
    licences: Mapping[str, tuple[str, ...]]
    """Licences of the cases by task."""
    about: Mapping[str, str] = Field(default_factory=dict)
    """Where the cases came from and how the bank was made, in the writer's own words."""


def write_bank(
    store: CaseStore,
    path: str | Path,
    *,
    where: Filter = EVERYTHING,
    encoders: Sequence[str] | None = None,
    thumbnails: bool = True,
    about: Mapping[str, str] | None = None,
) -> BankCard:
    """Write cases of a store as a bank; the same cases always give the same bytes.

    Args:
        store: where the cases are.
        path: the npz file; the card goes beside it, so that a folder holds one bank.
        where: which cases.
        encoders: whose vectors; None for all.
        thumbnails: whether to take the small images along.
        about: what the card says about the origin.

    Raises:
        StoreError: the store cannot be read, has no such encoder, or the files cannot be written.
    """
    path, widths = Path(path), store.encoders()
    for name in encoders or ():
        known_encoder(name, widths)
    entries = list(store.scan(where))
    arrays = _arrays(entries, sorted(widths if encoders is None else set(encoders)), thumbnails)
    names = json.loads(arrays["encoders"].tobytes())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, partial(np.savez_compressed, **arrays))
        card = BankCard(
            sha256=file_hash(path),
            cases=len(entries),
            tasks=dict(sorted(Counter(entry.case.task for entry in entries).items())),
            encoders={name: widths[name] for name in names},
            licences=_licences(entries),
            about=about or {},
        )
        text = card.model_dump_json(indent=2) + "\n"
        _write_atomically(path.with_name(CARD), lambda file: file.write(text.encode()))
    except OSError as error:
        raise StoreError(f"bank {path} cannot be written: {error.strerror}; check the folder") from error
    return card


def read_card(path: str | Path) -> BankCard:
    """The card beside a bank.

    Raises:
        StoreError: missing, unreadable, or of another version.
    """
    card = Path(path).with_name(CARD)
    try:
        return BankCard.model_validate_json(card.read_bytes())
    except OSError as error:
        raise StoreError(f"bank card {card} cannot be read: {error.strerror}; it needs both files") from error
    except ValidationError as error:
        raise StoreError(f"{card} is not the card of a bank that this version of gsco can read") from error


def read_bank(path: str | Path) -> Iterator[Entry]:
    """Yield the entries of a bank, ordered by id.

    Raises:
        StoreError: missing, damaged, or not the file that its card describes.
    """
    path = Path(path)
    card = read_card(path)
    try:
        if file_hash(path) != card.sha256:
            raise StoreError(f"{path} is not the file that its card describes; copy both files again")
        with np.load(path, allow_pickle=False) as arrays:
            yield from _entries({name: arrays[name] for name in arrays.files})
    except OSError as error:
        raise StoreError(f"bank {path} cannot be read: {error.strerror}") from error
    except _MALFORMED as error:
        raise StoreError(f"{path} is not a bank that this version of gsco can read") from error


def _arrays(entries: Sequence[Entry], encoders: Sequence[str], thumbnails: bool) -> Arrays:
    jpegs = [entry.thumbnail or b"" if thumbnails else b"" for entry in entries]
    arrays: Arrays = {
        "cases": _json_bytes([entry.case.model_dump(mode="json") for entry in entries]),
        "thumbnails": np.frombuffer(b"".join(jpegs), np.uint8),
        "thumbnail_ends": np.cumsum([len(jpeg) for jpeg in jpegs], dtype=np.int64),
    }
    used: list[str] = []
    for name in encoders:
        rows = [row for row, entry in enumerate(entries) if name in entry.vectors]
        if rows:
            arrays[f"rows_{len(used)}"] = np.array(rows, np.int32)
            arrays[f"vectors_{len(used)}"] = _coarse(np.stack([entries[row].vectors[name] for row in rows]))
            used.append(name)
    return {**arrays, "encoders": _json_bytes(used)}


def _entries(arrays: Arrays) -> Iterator[Entry]:
    cases = [KnownCase.model_validate(record) for record in json.loads(arrays["cases"].tobytes())]
    vectors: list[dict[str, Vectors]] = [{} for _ in cases]
    for i, name in enumerate(json.loads(arrays["encoders"].tobytes())):
        for row, vector in zip(arrays[f"rows_{i}"], _directions(arrays[f"vectors_{i}"]), strict=True):
            vectors[row][name] = vector
    jpegs, start = arrays["thumbnails"].tobytes(), 0
    for case, own, end in zip(cases, vectors, arrays["thumbnail_ends"].tolist(), strict=True):
        yield Entry(case, own, jpegs[start:end] or None)
        start = end


def _licences(entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for entry in entries:
        found.setdefault(entry.case.task, set()).add(entry.case.licence or "unknown")
    return {task: tuple(sorted(names)) for task, names in sorted(found.items())}


def _coarse(vectors: Vectors) -> npt.NDArray[np.int8]:
    """Scale each vector to eight bits a number: a direction of 1,280 numbers turns by about a degree."""
    return np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)


def _directions(coarse: npt.NDArray[np.int8]) -> Vectors:
    """Undo ``_coarse``: vectors have length one, so their scale needs no keeping."""
    vectors = coarse.astype(np.float32)
    return vectors / lengths_of(vectors)


def _json_bytes(value: object) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), np.uint8)


def _write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        try:
            write(file)
            file.flush()
            # Temporary files are private to the user; what is shipped must be readable to others.
            os.fchmod(file.fileno(), 0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
