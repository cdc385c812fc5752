"""Known cases in a pack: records as JSON lines, vectors at half precision as in a store, and thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ...case import Task
from ...errors import ConfigurationError, ImageError
from ...images import read_image
from ...tools.stores.protocol import Entry, KnownCase, Vectors
from ...tools.stores.vectors import pack, unpack
from .content import CASES, THUMBNAILS, VECTORS

_VECTORS, _ROWS = "vectors:", "rows:"
_JPEG = b"\xff\xd8\xff"
_MAX_SIDE = 512


def packed_cases(entries: Iterable[Entry], *, thumbnails: bool) -> dict[str, bytes]:
    """Return the files of a task's known cases, by name.

    A group is a hash in a pack, so that no site learns another's pseudonyms, and of its source only the name
    of the data set is left.

    Args:
        entries: ordered by id.
        thumbnails: whether the small images go along.
    """
    from safetensors.numpy import save

    found = list(entries)
    if not found:
        return {}
    salt = hashlib.sha256("\n".join(entry.case.id for entry in found).encode()).hexdigest()
    records = [_anonymous(entry.case, salt).model_dump_json(exclude_defaults=True) for entry in found]
    arrays = {}
    for name in sorted({name for entry in found for name in entry.vectors}):
        rows = [row for row, entry in enumerate(found) if name in entry.vectors]
        arrays[_VECTORS + name] = pack(np.stack([found[row].vectors[name] for row in rows]))
        arrays[_ROWS + name] = np.array(rows, np.int32)
    files = {CASES: ("\n".join(records) + "\n").encode(), VECTORS: save(arrays)}
    if thumbnails and any(entry.thumbnail for entry in found):
        jpegs = [entry.thumbnail or b"" for entry in found]
        ends = np.cumsum([len(jpeg) for jpeg in jpegs], dtype=np.int64)
        files[THUMBNAILS] = save({"jpegs": np.frombuffer(b"".join(jpegs), np.uint8), "ends": ends})
    return files


def _anonymous(case: KnownCase, salt: str) -> KnownCase:
    group = f"group-{hashlib.sha256(f'{salt}/{case.group}'.encode()).hexdigest()[:16]}" if case.group else ""
    return case.model_copy(
        update={"group": group, "source": case.source.replace("\\", "/").partition("/")[0]}
    )


def read_packed_cases(folder: Path, task: Task) -> Iterator[Entry]:
    """Yield the known cases of an unpacked pack.

    Raises:
        ConfigurationError: they are damaged, or not of this task.
    """
    if not (folder / CASES).is_file():
        return
    cases = _cases(folder / CASES, task)
    vectors = _vectors(folder / VECTORS, len(cases))
    jpegs = _thumbnails(folder / THUMBNAILS, len(cases))
    for case, own, jpeg in zip(cases, vectors, jpegs, strict=True):
        yield Entry(case, own, jpeg)


def _cases(path: Path, task: Task) -> list[KnownCase]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        cases = [KnownCase.model_validate_json(line) for line in lines]
    except (ValidationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the known cases of the pack cannot be read: {error}") from error
    for case in cases:
        if case.task != task.name or not set(case.labels) <= set(task.options or case.labels):
            raise ConfigurationError(
                f"a known case of the pack is not of task {task.name}, or has no such label"
            )
        if len(case.sha256) != 64 or not set(case.sha256) <= set("0123456789abcdef"):
            raise ConfigurationError("a known case of the pack has no hash of an image")
    return cases


def _arrays(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(f"the pack has known cases and no {path.name}") from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path.name} of the pack is not a safetensors file: {error}") from error


def _vectors(path: Path, count: int) -> Sequence[dict[str, Vectors]]:
    arrays, found = _arrays(path), [{} for _ in range(count)]
    for key in sorted(name for name in arrays if name.startswith(_VECTORS)):
        name, values, rows = key[len(_VECTORS) :], arrays[key], arrays.get(_ROWS + key[len(_VECTORS) :])
        fits = (
            rows is not None
            and values.ndim == 2
            and values.dtype == np.float16
            and rows.dtype == np.int32
            and rows.shape == (len(values),)
            and len(np.unique(rows)) == len(rows)
            and (not len(rows) or (rows.min() >= 0 and rows.max() < count))
            and bool(np.isfinite(values).all())
            and bool((np.abs(values).max(axis=1, initial=0) > 0).all())
        )
        if not fits or rows is None:
            raise ConfigurationError(f"the vectors of encoder {name!r} in the pack do not fit its cases")
        for row, vector in zip(rows.tolist(), unpack(values), strict=True):
            found[row][name] = vector
    return found


def _thumbnails(path: Path, count: int) -> Iterator[bytes | None]:
    if not path.is_file():
        yield from [None] * count
        return
    arrays = _arrays(path)
    jpegs, ends = arrays.get("jpegs"), arrays.get("ends")
    fits = (
        jpegs is not None
        and ends is not None
        and jpegs.dtype == np.uint8
        and ends.dtype == np.int64
        and ends.shape == (count,)
        and bool((np.diff(ends, prepend=0) >= 0).all())
        and (not count or int(ends[-1]) == jpegs.size)
    )
    if not fits or jpegs is None or ends is None:
        raise ConfigurationError("the thumbnails of the pack do not fit its cases")
    content, start = jpegs.tobytes(), 0
    for end in ends.tolist():
        yield _checked(content[start:end]) if end > start else None
        start = end


def _checked(jpeg: bytes) -> bytes:
    try:
        if not jpeg.startswith(_JPEG):
            raise ConfigurationError("a thumbnail of the pack is not a JPEG")
        if max(read_image(jpeg).size) > _MAX_SIDE:
            raise ConfigurationError("a thumbnail of the pack is too large")
    except ImageError as error:
        raise ConfigurationError(f"a thumbnail of the pack is damaged: {error}") from error
    return jpeg
