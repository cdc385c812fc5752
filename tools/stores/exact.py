"""Exact nearest-neighbour search: the vectors of one encoder in memory, one matrix product."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .protocol import Vectors

Keys = npt.NDArray[np.int64]
Kind = tuple[str, str, tuple[str, ...]]
"""Task, modality and labels: what rows are filtered by."""

SLACK = 1e-5
"""More than single precision can err in a product of unit vectors."""
_SCORES_AT_ONCE = 16_000_000
_RESCORED_AT_ONCE = 4096
_product = threading.Lock()
"""One product at a time: each has the threads of the BLAS, and those of several at once only wait for each
other, which made 16 searches at once many times as slow as 16 one after another."""


@dataclass(frozen=True)
class Hit:
    """A row that was found."""

    key: int
    similarity: float
    id: str
    """The case's."""


@dataclass(frozen=True)
class Ban:
    """What one query must not find: rows by key, and those more similar than a ceiling."""

    keys: Keys | None = None
    ceiling: float | None = None


class ExactIndex:
    """Rows that only grow in number; a view taken of it does not change when rows are appended."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._size = 0
        self._matrix = np.empty((0, width), np.float32)
        self._keys = np.empty(0, np.int64)
        self._ids = np.empty(0, "S36")
        self._kinds = np.empty(0, np.int32)
        self._codes: dict[Kind, int] = {}

    def append(
        self, keys: Sequence[int], ids: Sequence[str], kinds: Sequence[Kind], vectors: Vectors
    ) -> None:
        """Add rows: store keys, case ids (36 ASCII characters), what is filtered by, and vectors (n, d)."""
        start, stop = self._size, self._size + len(keys)
        if stop > len(self._matrix):
            self._resize(max(stop, len(self._matrix) * 3 // 2))
        self._matrix[start:stop] = vectors
        self._keys[start:stop] = keys
        self._ids[start:stop] = [id.encode("ascii") for id in ids]
        self._kinds[start:stop] = [self._codes.setdefault(kind, len(self._codes)) for kind in kinds]
        self._size = stop

    def __len__(self) -> int:
        return self._size

    def view(self) -> IndexView:
        """The rows that are here now."""
        n = self._size
        arrays = (self._matrix[:n], self._keys[:n], self._ids[:n], self._kinds[:n])
        return IndexView(*arrays, codes=dict(self._codes))

    def reserve(self, more: int) -> None:
        """Make room for so many more rows, so that a long load copies nothing twice."""
        if self._size + more > len(self._matrix):
            self._resize(self._size + more)

    def _resize(self, capacity: int) -> None:
        for name in ("_matrix", "_keys", "_ids", "_kinds"):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), old.dtype)
            new[: self._size] = old[: self._size]
            setattr(self, name, new)


@dataclass(frozen=True)
class IndexView:
    """The rows of an index at one moment; searched without a lock."""

    matrix: Vectors
    keys: Keys
    ids: npt.NDArray[np.bytes_]
    kinds: npt.NDArray[np.int32]
    codes: dict[Kind, int]

    def search(
        self, queries: Vectors, k: int, kinds: Iterable[Kind] | None, bans: Sequence[Ban]
    ) -> list[list[Hit]]:
        """Find the k rows of largest cosine similarity per query; ties are ordered by case id.

        The result depends on nothing but rows and query: candidates are scored again in double
        precision, so that a query alone and the same query in a batch find the same.

        Args:
            queries: float32 (n, d), normalised.
            k: at most so many per query.
            kinds: which rows to search among; None means all.
            bans: one per query, or empty.
        """
        hidden = None
        if kinds is not None:
            hidden = ~np.isin(self.kinds, [self.codes[kind] for kind in kinds if kind in self.codes])
        step = max(1, _SCORES_AT_ONCE // max(1, len(self.matrix)))
        found: list[list[Hit]] = []
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            with _product:
                products = block @ self.matrix.T
            for i, scores in enumerate(products):
                if hidden is not None:
                    scores[hidden] = -np.inf
                found.append(self._nearest(block[i], scores, k, bans[start + i] if bans else Ban()))
        return found

    def _nearest(self, query: Vectors, scores: Vectors, k: int, ban: Ban) -> list[Hit]:
        if ban.keys is not None and ban.keys.size:
            scores[np.isin(self.keys, ban.keys)] = -np.inf
        rows = _candidates(scores, k, ban.ceiling)
        similarities = self._rescored(query, rows)
        if ban.ceiling is not None:
            kept = similarities <= ban.ceiling
            rows, similarities = rows[kept], similarities[kept]
        order = np.lexsort((self.ids[rows], -similarities))[:k]
        return [
            Hit(int(self.keys[rows[o]]), float(similarities[o]), bytes(self.ids[rows[o]]).decode("ascii"))
            for o in order
        ]

    def _rescored(self, query: Vectors, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        exact, wide = np.empty(len(rows)), query.astype(np.float64)
        for start in range(0, len(rows), _RESCORED_AT_ONCE):
            part = slice(start, start + _RESCORED_AT_ONCE)
            exact[part] = (self.matrix[rows[part]].astype(np.float64) * wide).sum(axis=1)
        return exact


def _candidates(scores: Vectors, k: int, ceiling: float | None) -> npt.NDArray[np.intp]:
    """Rows that can be among the k best, whichever way single precision erred."""
    sure = scores
    if ceiling is not None:
        scores[scores > ceiling + SLACK] = -np.inf
        sure = scores[scores <= ceiling - SLACK]
    worst = -np.inf
    if k < sure.size:
        worst = np.partition(sure, sure.size - k)[sure.size - k]
    return np.flatnonzero((scores >= worst - SLACK) & (scores > -np.inf))
