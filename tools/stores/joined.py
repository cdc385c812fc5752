"""Several case stores searched as one: a base, and tasks that have a store of their own."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from ...case import SimilarCase
from ...errors import StoreError, VectorMismatch
from .base import Search, StoreBase
from .protocol import EVERYTHING, CaseStore, Entry, Filter

_READ_ONLY = "several case stores are open together, read-only; open the one that you want to change"


class JoinedStore(StoreBase):
    """A read-only ``CaseStore`` over several.

    The known cases of a task that has a store of its own are those of that store alone, also where the base
    holds cases of the same name.

    Args:
        base: of all other tasks.
        own: by name of the task, the store of its cases.
    """

    def __init__(self, base: CaseStore, own: Mapping[str, CaseStore]) -> None:
        self._base, self._own = base, dict(own)
        self._others = tuple(sorted(set(base.tasks()) - set(own)))

    def add(self, entries: Iterable[Entry]) -> int:
        """Refuse, since the stores are only read."""
        raise StoreError(_READ_ONLY)

    def delete(self, ids: Iterable[str]) -> int:
        """Refuse, since the stores are only read."""
        raise StoreError(_READ_ONLY)

    def _nearest(self, search: Search) -> list[list[SimilarCase]]:
        encoder, k, exclude = search.encoder, search.k, search.exclude
        parts = self._parts(search.where)
        holding = [(store, part) for store, part in parts if encoder in store.encoders()]
        if not holding and any(store.count() for store, _ in parts):
            known = ", ".join(sorted(self.encoders())) or "none"
            raise VectorMismatch(f"the case stores hold no vectors of encoder {encoder!r}; encoders: {known}")
        found = [
            store.search(search.queries, encoder, k, where=part, exclude=exclude) for store, part in holding
        ]
        return [
            heapq.nsmallest(k, chain(*(rows[query] for rows in found)), key=lambda c: (-c.similarity, c.id))
            for query in range(len(search.queries))
        ]

    def get(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Entries by id; ids that are not there are left out."""
        wanted = list(ids)
        found = dict(self._base.get(wanted))
        found = {id: entry for id, entry in found.items() if entry.case.task not in self._own}
        for store in self._own.values():
            found |= store.get([id for id in wanted if id not in found])
        return found

    def scan(self, where: Filter = EVERYTHING) -> Iterator[Entry]:
        """Yield every entry, ordered by id."""
        return heapq.merge(
            *(store.scan(part) for store, part in self._parts(where)), key=lambda entry: entry.case.id
        )

    def count(self, where: Filter = EVERYTHING) -> int:
        """Number of cases."""
        return sum(store.count(part) for store, part in self._parts(where))

    def encoders(self) -> dict[str, int]:
        """Encoder names and their vectors' width."""
        found: dict[str, int] = {}
        for store in (*self._own.values(), self._base):
            found |= store.encoders()
        return found

    def tasks(self) -> dict[str, int]:
        """Task names and their number of cases."""
        base = {name: count for name, count in self._base.tasks().items() if name not in self._own}
        return base | {name: store.count(Filter((name,))) for name, store in self._own.items()}

    def thumbnail(self, id: str) -> bytes | None:
        """The small JPEG of a case, if it has one."""
        stores = (*self._own.values(), self._base)
        return next((small for store in stores if (small := store.thumbnail(id)) is not None), None)

    def close(self) -> None:
        """Close all of them."""
        for store in (self._base, *self._own.values()):
            store.close()

    def _parts(self, where: Filter) -> list[tuple[CaseStore, Filter]]:
        """The stores that may hold what is asked for, each with what to find there."""
        wanted = where.tasks or (*self._others, *self._own)
        others = tuple(name for name in wanted if name not in self._own)
        parts = [(self._base, replace(where, tasks=others))] if others else []
        return parts + [
            (store, replace(where, tasks=(name,))) for name, store in self._own.items() if name in wanted
        ]
