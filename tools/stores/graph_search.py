"""Searching where a graph proposes: the database scores what it proposes, and what it cannot is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .exact import Ban, Hit, IndexView, Keys, Kind
from .graph import Graph
from .protocol import Vectors

SPARE = 8
"""Proposals beyond k, for those that were deleted or are left out."""
MOST = 4096
"""Where so many proposals are not enough, every case is compared."""
_SAME = 1e-6

Fetch = Callable[[Sequence[int]], Mapping[int, tuple[str, Vectors]]]
"""Case rows to the ids and vectors that the database holds; those that are gone are left out."""


@dataclass(frozen=True)
class GraphView:
    """The vectors of one encoder at one moment: a graph of the many, and the rest in memory.

    Args:
        graph: proposes case rows.
        rest: the rows that the graph has not seen.
        fetch: reads from the database.
        blocks: everything, block by block, as views.
    """

    graph: Graph
    rest: IndexView
    fetch: Fetch
    blocks: Callable[[frozenset[Kind] | None], Iterable[IndexView]]

    @property
    def kinds(self) -> Iterable[Kind]:
        """The kinds of its cases."""
        return dict.fromkeys([*self.graph.kinds, *self.rest.kinds_there])

    def search(
        self, queries: Vectors, k: int, kinds: Iterable[Kind] | None, bans: Sequence[Ban]
    ) -> list[list[Hit]]:
        """Like ``IndexView.search``; what is not found is only what the graph did not propose."""
        wanted = None if kinds is None else frozenset(kinds)
        late = self.rest.search(queries, k, wanted, bans)
        found: list[list[Hit]] = [[] for _ in queries]
        left = list(range(len(queries))) if self.graph.population(wanted) else []
        if not left:
            return late
        for number in self._widths(k, wanted):
            hits, left = self._proposals(queries, left, number, k, wanted, bans)
            for at, own in hits.items():
                found[at] = nearest([*own, *late[at]], k)
            if not left:
                return found
        for at in left:
            own = bans[at : at + 1]
            blocks = self.blocks(wanted)
            found[at] = nearest(
                (hit for view in blocks for hit in view.search(queries[at : at + 1], k, wanted, own)[0]), k
            )
        return found

    def _widths(self, k: int, kinds: frozenset[Kind] | None) -> Iterator[int]:
        """How many proposals to ask for, more and more."""
        share = self.graph.population(kinds) / max(1, self.graph.card.size)
        number = int((k + SPARE) / max(share, 1e-9))
        while number <= MOST:
            yield number
            if number >= self.graph.card.size:
                return
            number *= 4

    def _proposals(
        self,
        queries: Vectors,
        asked: Sequence[int],
        number: int,
        k: int,
        kinds: frozenset[Kind] | None,
        bans: Sequence[Ban],
    ) -> tuple[dict[int, list[Hit]], list[int]]:
        """The hits of each query among so many proposals, and the queries for which they are too few."""
        proposed = dict(zip(asked, self.graph.near(queries[list(asked)], number), strict=True))
        allowed = {
            at: self._allowed(keys, kinds, bans[at] if bans else Ban()) for at, keys in proposed.items()
        }
        held = self.fetch(list({int(key) for keys in allowed.values() for key in keys}))
        hits: dict[int, list[Hit]] = {}
        left = []
        for at, keys in allowed.items():
            scored = _scored(queries[at], keys, held)
            ceiling = bans[at].ceiling if bans else None
            hits[at] = nearest([hit for hit in scored if ceiling is None or hit.similarity <= ceiling], None)
            everything = len(proposed[at]) >= self.graph.card.size
            if not everything and not _is_complete(hits[at], k):
                left.append(at)
        return hits, left

    def _allowed(self, keys: Keys, kinds: frozenset[Kind] | None, ban: Ban) -> Keys:
        if kinds is not None:
            keys = self.graph.of_kinds(keys, kinds)
        return keys[~np.isin(keys, ban.keys)] if ban.keys is not None and ban.keys.size else keys


def nearest(hits: Iterable[Hit], k: int | None) -> list[Hit]:
    """The best of some hits; equals are ordered by id."""
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.id))[:k]


def _is_complete(hits: Sequence[Hit], k: int) -> bool:
    """Whether the k are all here: with them come their last one's equals."""
    return len(hits) > k and hits[-1].similarity < hits[k - 1].similarity - _SAME


def _scored(query: Vectors, keys: Keys, held: Mapping[int, tuple[str, Vectors]]) -> list[Hit]:
    there = [key for key in keys.tolist() if key in held]
    if not there:
        return []
    vectors = np.stack([held[key][1] for key in there]).astype(np.float64)
    similarities = (vectors * query.astype(np.float64)).sum(axis=1)
    return [Hit(key, float(s), held[key][0]) for key, s in zip(there, similarities, strict=True)]
