"""A graph of one encoder's vectors on disk, which proposes near ones where comparing all takes too long.

It is a cache: made of what the database holds, never asked what a case is or how similar, and made again
where it is lost, damaged or of another database. A card names its files and is replaced last, so that a
reader finds a whole graph or none, whatever happens to the writer.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ...case import Record
from . import rows
from .database import connect
from .exact import Keys, Kind
from .protocol import Vectors

if TYPE_CHECKING:
    from usearch.index import Index

INDEX_ABOVE = 25_000_000
"""Numbers (vectors times width) that are compared one by one without a graph: some 5 ms on one core."""
STALE_SHARE = 0.2
"""A graph of which so many cases were deleted is made anew."""

_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 16, 128, 512
_CARD, _LOCK = "card.json", "lock"
_THREADS = 0
"""As many as there are cores."""
_AT_ONCE = 2048
_SAMPLED = 64


class Stopped(Exception):
    """Making the graph was called off; nothing was changed."""


class GraphCard(Record):
    """What a graph holds."""

    format: Literal[2] = 2
    encoder: str
    width: int
    size: int
    """Vectors in the graph."""
    last: int
    """The last row of the table of vectors that it has seen."""
    graph: str
    """Name of the file of the graph, and of that of its cases below."""
    cases: str
    sha256: tuple[str, str]
    """Hashes of both: a graph that was damaged would propose other cases, or read beyond its memory."""


@dataclass(frozen=True)
class Graph:
    """An opened graph; its file is mapped, not read."""

    card: GraphCard
    index: Index
    keys: Keys
    """Case rows, ascending, and the number of each one's kind."""
    codes: npt.NDArray[np.int32]
    kinds: tuple[Kind, ...]

    def near(self, queries: Vectors, number: int) -> list[Keys]:
        """Case rows near each query, nearest first; some may have been deleted since."""
        found = self.index.search(queries.astype(np.float16), min(number, self.card.size), threads=1)
        keys = np.atleast_2d(found.keys).astype(np.int64)
        counts = np.atleast_1d(getattr(found, "counts", keys.shape[1]))
        return [own[:count] for own, count in zip(keys, counts, strict=True)]

    def among(self, kinds: frozenset[Kind]) -> npt.NDArray[np.bool_]:
        """For each kind's number, whether it is one of these."""
        return np.array([kind in kinds for kind in self.kinds], bool)

    def population(self, kinds: frozenset[Kind] | None) -> int:
        """How many cases of some kinds it holds."""
        if kinds is None:
            return self.card.size
        return int(np.bincount(self.codes, minlength=len(self.kinds))[self.among(kinds)].sum())

    def of_kinds(self, keys: Keys, kinds: frozenset[Kind]) -> Keys:
        """Those of some of its case rows that are of these kinds."""
        return keys[self.among(kinds)[self.codes[np.searchsorted(self.keys, keys)]]]


def folder_of(path: Path, encoder: str) -> Path:
    """Where the graph of an encoder lies, beside the database."""
    return path.with_name(f"{path.name}-index") / hashlib.sha256(encoder.encode()).hexdigest()[:16]


def stamp_of(path: Path, encoder: str) -> int:
    """Changes whenever another graph takes the place of the one before; 0 without one."""
    try:
        return (folder_of(path, encoder) / _CARD).stat().st_mtime_ns
    except OSError:
        return 0


def open_graph(path: Path, sql: sqlite3.Connection, encoder: str, space: rows.StoredEncoder) -> Graph | None:
    """Open the graph of an encoder; None if there is none that fits the database."""
    folder = folder_of(path, encoder)
    try:
        card = GraphCard.model_validate_json((folder / _CARD).read_bytes())
        if (card.encoder, card.width) != (encoder, space.width):
            return None
        if _hashes(folder / card.graph, folder / card.cases) != card.sha256:
            return None
        with np.load(folder / card.cases, allow_pickle=False) as arrays:
            keys, codes = arrays["keys"], arrays["codes"]
            kinds = tuple((str(task), str(modality)) for task, modality in arrays["kinds"])
        index = _empty(space.width)
        index.view(str(folder / card.graph))
    except (OSError, ValueError, KeyError, ValidationError, RuntimeError):
        return None
    graph = Graph(card, index, keys, codes, kinds)
    return graph if len(index) == card.size == len(keys) and _belongs(graph, sql, space) else None


def make_graph(
    path: Path,
    encoder: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    advance: Callable[[int], object] = lambda number: None,
    timeout: float = 30.0,
) -> bool:
    """Make the graph of an encoder, or add to it what it lacks; other processes may search meanwhile.

    Args:
        path: the database.
        encoder: whose vectors.
        stop: asked every few thousand vectors.
        advance: told how many vectors were added.
        timeout: seconds to wait for a process that keeps the database locked.

    Returns:
        False if another process is at it.

    Raises:
        StoreError: the database cannot be read.
        OSError: the graph cannot be written.
        Stopped: ``stop`` said so.
    """
    folder = folder_of(path, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder) as first, closing(connect(path, readonly=True, timeout=timeout)) as sql:
        if not first:
            return False
        space = rows.encoders(sql).get(encoder)
        if space is None:
            return True
        old = open_graph(path, sql, encoder, space)
        if old is not None and _dead(old, sql, space) > STALE_SHARE * old.card.size:
            old = None
        batches = _new_rows(sql, space, old.card.last if old else 0, stop)
        _publish(folder, encoder, space, *_grown(folder, old, batches, space, advance))
        return True


def _grown(
    folder: Path,
    old: Graph | None,
    batches: Iterator[rows.VectorBatch],
    space: rows.StoredEncoder,
    advance: Callable[[int], object],
) -> tuple[Index, int, Keys, npt.NDArray[np.int32], list[Kind]]:
    index = _empty(space.width)
    if old is not None:
        index.load(str(folder / old.card.graph))
    last = old.card.last if old else 0
    keys = [old.keys] if old else []
    codes = [old.codes] if old else []
    numbers: dict[Kind, int] = {kind: n for n, kind in enumerate(old.kinds if old else ())}
    for batch in batches:
        halves = np.frombuffer(b"".join(batch.halves), "<f2").reshape(-1, space.width)
        index.add(np.array(batch.keys, np.uint64), halves, threads=_THREADS)
        keys.append(np.array(batch.keys, np.int64))
        codes.append(np.array([numbers.setdefault(kind, len(numbers)) for kind in batch.kinds], np.int32))
        last = batch.rows[-1]
        advance(len(batch.keys))
    # Rows of vectors ascend, those of their cases need not: an old case may gain a vector late.
    all_keys = np.concatenate([np.empty(0, np.int64), *keys])
    order = np.argsort(all_keys, kind="stable")
    all_codes = np.concatenate([np.empty(0, np.int32), *codes])
    return index, last, all_keys[order], all_codes[order], list(numbers)


def _new_rows(
    sql: sqlite3.Connection, space: rows.StoredEncoder, last: int, stop: Callable[[], bool]
) -> Iterator[rows.VectorBatch]:
    while batch := rows.after(sql, space, last, _AT_ONCE):
        if stop():
            raise Stopped
        space.vectors(batch.ids, batch.halves, batch.checksums)  # verifies them
        yield batch
        last = batch.rows[-1]


def _publish(
    folder: Path,
    encoder: str,
    space: rows.StoredEncoder,
    index: Index,
    last: int,
    keys: Keys,
    codes: npt.NDArray[np.int32],
    kinds: list[Kind],
) -> None:
    name = uuid.uuid4().hex[:12]
    graph, cases, card = folder / f"{name}.usearch", folder / f"{name}.npz", folder / f"{name}.json"
    index.save(str(graph))
    with cases.open("wb") as file:
        np.savez(file, keys=keys, codes=codes, kinds=np.array(kinds, np.str_).reshape(-1, 2))
    for file in (graph, cases):
        _sync(file)
    text = GraphCard(
        encoder=encoder,
        width=space.width,
        size=len(keys),
        last=last,
        graph=graph.name,
        cases=cases.name,
        sha256=_hashes(graph, cases),
    ).model_dump_json()
    card.write_text(text, encoding="utf-8")
    _sync(card)
    card.replace(folder / _CARD)
    # Who has the old files mapped keeps them until it lets go.
    for other in folder.iterdir():
        if other.suffix in (".usearch", ".npz", ".json") and other.name not in (
            _CARD,
            graph.name,
            cases.name,
        ):
            with suppress(OSError):
                other.unlink()


def _belongs(graph: Graph, sql: sqlite3.Connection, space: rows.StoredEncoder) -> bool:
    """Whether a sample of its vectors are those of the database, the newest ones among them.

    Deleted ones are fine. But where all of the newest are gone the database may be an older one, put back
    from a backup, whose next rows would have the numbers of those that the graph has seen.
    """
    if not len(graph.keys):
        return True
    spread = np.unique(np.linspace(0, len(graph.keys) - 1, _SAMPLED).astype(int))
    newest = graph.keys[-_SAMPLED:].tolist()
    there = rows.vectors_of(sql, space, sorted({*graph.keys[spread].tolist(), *newest}))
    if not any(key in there for key in newest):
        return False
    own = graph.index.get(np.array(list(there), np.uint64), dtype="f16")
    kept = np.stack([np.frombuffer(halves, "<f2") for _, halves in there.values()])
    return own is not None and np.array_equal(np.asarray(own).reshape(kept.shape), kept)


def _dead(graph: Graph, sql: sqlite3.Connection, space: rows.StoredEncoder) -> int:
    """How many of its vectors are not in the database any more."""
    return graph.card.size - rows.number_until(sql, space, graph.card.last)


def _empty(width: int) -> Index:
    from usearch.index import Index

    return Index(
        ndim=width,
        metric="cos",
        dtype="f16",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock; False if somebody else does. It goes with the process, however that ends."""
    with (folder / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _hashes(graph: Path, cases: Path) -> tuple[str, str]:
    return _sha256(graph), _sha256(cases)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
