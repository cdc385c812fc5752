"""What one process holds of the vectors of a database: in memory, and through graphs on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from . import rows
from .checksums import block_checksum
from .exact import ExactIndex, IndexView, Kind
from .graph import INDEX_ABOVE, Graph, open_graph, stamp_of
from .graph_search import Fetch, GraphView
from .protocol import EVERYTHING, Filter, Vectors
from .vectors import known_encoder, same_width
from .verification import vectors_block, verify_block

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
Part = tuple[str, frozenset[Kind] | None]
"""An encoder, and some kinds of its cases or all."""

_BLOCK = 8192
_PARTS = 16
"""Parts of small tasks that are kept in memory at most."""


@dataclass(frozen=True)
class _CachedVectors:
    index: ExactIndex
    last: int
    """The last row of the table of vectors that the index or the graph has seen."""
    deletions: int
    checksums: int = 0
    """The block checksum of the vectors in the index."""
    graph: Graph | None = None
    stamp: int = 0


class VectorCache:
    """Loads what a search needs, keeps it, and adds what was written since.

    Args:
        path: the database.
        large: told of an encoder with many vectors that no graph has seen.
    """

    def __init__(self, path: Path, large: Callable[[str], object]) -> None:
        self._path, self._large = path, large
        self._parts: dict[Part, _CachedVectors] = {}

    def view(
        self, sql: sqlite3.Connection, reading: Reading, encoder: str, width: int, where: Filter
    ) -> tuple[IndexView | GraphView, Iterable[Kind] | None] | None:
        """What to search, and the kinds that are meant; None for a store without vectors.

        Args:
            sql: the snapshot.
            reading: begins a transaction of its own, for what a search reads later.
            encoder: whose vectors.
            width: of the queries.
            where: what is meant.

        Raises:
            VectorMismatch: the store has no vectors of that encoder, or of another width.
        """
        known = rows.encoders(sql)
        if not known:
            return None
        known_encoder(encoder, {name: space.width for name, space in known.items()})
        space = known[encoder]
        same_width(encoder, space.width, width)
        all_of_it = self._current(sql, encoder, space, None)
        view, graph = all_of_it.index.view(), all_of_it.graph
        if len(view.keys) * width > INDEX_ABOVE:
            self._large(encoder)
        if graph is None:
            return view, _meant(view.kinds_there, where)
        proposed = GraphView(graph, view, _fetching(reading, space), _blocking(reading, space))
        kinds = _meant(proposed.kinds, where)
        if kinds is not None and not kinds:
            return view, kinds
        if kinds is not None and graph.population(kinds) * width <= INDEX_ABOVE:
            return self._current(sql, encoder, space, kinds).index.view(), kinds
        return proposed, kinds

    def clear(self) -> None:
        """Let go of everything."""
        self._parts.clear()

    def _current(
        self, sql: sqlite3.Connection, encoder: str, space: rows.StoredEncoder, kinds: frozenset[Kind] | None
    ) -> _CachedVectors:
        (deletions,) = sql.execute("SELECT count FROM deletions").fetchone()
        (last,) = sql.execute("SELECT seq FROM sqlite_sequence WHERE name = 'vectors'").fetchone()
        part, stamp = (encoder, kinds), stamp_of(self._path, encoder) if kinds is None else 0
        # Not kept if loading fails half-way: rows would be in the index twice.
        loaded = self._parts.pop(part, None)
        if loaded is None or loaded.stamp != stamp:
            graph = open_graph(self._path, sql, encoder, space) if stamp else None
            loaded = _CachedVectors(
                ExactIndex(space.width), graph.card.last if graph else 0, deletions, graph=graph, stamp=stamp
            )
        elif loaded.deletions != deletions:
            # The graph proposes what is gone, and the database then says so; what is in memory must go.
            seen = loaded.graph.card.last if loaded.graph else 0
            index = ExactIndex(space.width)
            loaded = replace(loaded, index=index, last=seen, deletions=deletions, checksums=0)
        if loaded.last != last:
            new = rows.load(sql, space, loaded.index, after=loaded.last, kinds=kinds)
            loaded = replace(loaded, last=last, checksums=block_checksum([loaded.checksums, *new]))
        if kinds is None and loaded.graph is None:
            verify_block(sql, vectors_block(space.code), len(loaded.index), loaded.checksums)
        self._parts[part] = loaded
        self._forget_oldest()
        return loaded

    def _forget_oldest(self) -> None:
        small = [part for part in self._parts if part[1] is not None]
        for part in small[:-_PARTS]:
            del self._parts[part]


def _fetching(reading: Reading, space: rows.StoredEncoder) -> Fetch:
    def fetch(keys: Sequence[int]) -> dict[int, tuple[str, Vectors]]:
        with reading() as sql:
            return rows.scored_of(sql, space, keys)

    return fetch


def _blocking(
    reading: Reading, space: rows.StoredEncoder
) -> Callable[[frozenset[Kind] | None], Iterator[IndexView]]:
    def blocks(kinds: frozenset[Kind] | None) -> Iterator[IndexView]:
        last = 0
        while True:
            with reading() as sql:
                batch = rows.after(sql, space, last, _BLOCK)
            if batch is None:
                return
            index = ExactIndex(space.width)
            index.append(
                batch.keys, batch.ids, batch.kinds, space.vectors(batch.ids, batch.halves, batch.checksums)
            )
            last = batch.rows[-1]
            yield index.view()

    return blocks


def _meant(kinds: Iterable[Kind], where: Filter) -> frozenset[Kind] | None:
    return None if where == EVERYTHING else frozenset(kind for kind in kinds if where.admits(*kind))
