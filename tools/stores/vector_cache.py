"""The vectors that one process holds of a database in memory."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import rows
from .checksums import block_checksum
from .exact import ExactIndex, IndexView, Kind
from .protocol import EVERYTHING, Filter
from .vectors import known_encoder, same_width
from .verification import vectors_block, verify_block

LARGE = 128_000_000
"""Numbers (vectors times width) of an encoder up to which exact search is fast enough: half a gigabyte."""

log = logging.getLogger(__name__)


@dataclass
class _CachedVectors:
    index: ExactIndex
    deletions: int
    last: int = 0
    """The last row of the table of vectors that the index has seen."""
    checksums: int = 0
    """The block checksum of the vectors in the index."""
    large: bool = False


class VectorCache:
    """Loads the vectors that a search needs, keeps them, and adds what was written since.

    Args:
        path: the database, as a warning names it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoders: dict[str, _CachedVectors] = {}

    def view(
        self, sql: sqlite3.Connection, encoder: str, width: int, where: Filter
    ) -> tuple[IndexView, Iterable[Kind] | None] | None:
        """What to search, and the kinds that are meant (None for all); None for a store without vectors.

        Args:
            sql: the snapshot.
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
        view = self._current(sql, space).view()
        if where == EVERYTHING:
            return view, None
        return view, frozenset(kind for kind in view.codes if where.admits(*kind))

    def clear(self) -> None:
        """Let go of everything."""
        self._encoders.clear()

    def _current(self, sql: sqlite3.Connection, space: rows.StoredEncoder) -> ExactIndex:
        (deletions,) = sql.execute("SELECT count FROM deletions").fetchone()
        (last,) = sql.execute("SELECT seq FROM sqlite_sequence WHERE name = 'vectors'").fetchone()
        # Not kept if loading fails half-way: rows would be in the index twice.
        loaded = self._encoders.pop(space.name, None)
        if loaded is None or loaded.deletions != deletions:
            loaded = _CachedVectors(ExactIndex(space.width), deletions)
        if loaded.last != last:
            new = rows.load(sql, space, loaded.index, after=loaded.last)
            loaded.last, loaded.checksums = last, block_checksum([loaded.checksums, *new])
        verify_block(sql, vectors_block(space.code), len(loaded.index), loaded.checksums)
        self._warn_if_large(space, loaded)
        self._encoders[space.name] = loaded
        return loaded.index

    def _warn_if_large(self, space: rows.StoredEncoder, loaded: _CachedVectors) -> None:
        if loaded.large or len(loaded.index) * space.width <= LARGE:
            return
        loaded.large = True
        log.warning(
            "case store %s holds %d vectors of encoder %s, more than an embedded store searches fast; "
            "move it: gsco store move --from %s --to weaviate://HOST",
            self._path.name,
            len(loaded.index),
            space.name,
            self._path,
        )
