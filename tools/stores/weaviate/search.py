"""Searching a collection: exclusions, near-duplicates and ties as every case store treats them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....case import SimilarCase
from ....errors import StoreError
from ..protocol import Exclusion, Filter, Vectors
from .failures import Unready
from .objects import CASE, case_of, uuids
from .space import Space

if TYPE_CHECKING:
    from weaviate.collections import CollectionAsync

AT_ONCE = 16
"""Searches under way at the same time."""
_SPARE = 8
"""Results asked for beyond k, for what is left out afterwards."""
_MOST = 10_000
"""Weaviate's own limit on results (QUERY_MAXIMUM_RESULTS)."""
_SAME = 1e-6
"""More than single precision can err in a distance."""
_VALUES_AT_ONCE = 500


@dataclass(frozen=True)
class Query:
    """One search."""

    vector: Vectors
    k: int
    where: Filter
    exclude: Exclusion


class Searcher:
    """Searches one encoder's vectors in a collection.

    Args:
        collection: with tenant and consistency set.
        space: the encoder's.
        exact: compare every case, as long as they are few enough for that.
    """

    def __init__(self, collection: CollectionAsync[Any, None], space: Space, *, exact: bool) -> None:
        self._collection, self._space, self._exact = collection, space, exact
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def all(self, queries: Iterable[Query]) -> list[list[SimilarCase]]:
        """Answer queries, in their order."""
        return await asyncio.gather(*map(self._one, queries))

    async def _one(self, query: Query) -> list[SimilarCase]:
        condition = _condition(query.where, query.exclude, exact=self._exact)
        limit = min(_MOST, query.k + _SPARE)
        async with self._turn:
            while True:
                found = await self._found(query, condition, limit)
                if not found:
                    await self._check_ready(condition)
                left = _below(found, query.exclude.above_similarity)
                kept = sorted(left, key=lambda case: (-case.similarity, case.id))
                if len(found) < limit or _is_complete(found, kept, query.k):
                    return kept[: query.k]
                if limit == _MOST:
                    raise StoreError(
                        f"more than {_MOST} cases are as similar as the nearest, or excluded as "
                        "near-duplicates; delete the duplicates, or raise the ceiling"
                    )
                limit = min(_MOST, 4 * limit)

    async def _check_ready(self, condition: Any) -> None:
        """A server without the vectors of its cases answers with nothing, as if there were no cases."""
        number = await count_of(self._collection, both(condition, has(self._space)))
        if number:
            raise Unready(
                f"Weaviate finds none of {number} cases that it holds: its index of their vectors is being "
                "loaded, or was lost in a power cut. Try again in a moment; if it stays so, copy the cases "
                "to a new collection, which indexes them anew: `gsco store move --searches 0`"
            )

    async def _found(self, query: Query, condition: Any, limit: int) -> list[SimilarCase]:
        """The nearest cases in Weaviate's order."""
        from weaviate.classes.query import MetadataQuery

        answer = await self._collection.query.near_vector(
            query.vector.tolist(),
            target_vector=self._space.vector,
            limit=limit,
            filters=condition,
            return_properties=CASE,
            return_metadata=MetadataQuery(distance=True),
        )
        return [_similar(one, self._space) for one in answer.objects]


def _condition(where: Filter, exclude: Exclusion, *, exact: bool) -> Any:
    """What Weaviate filters by. Among few cases a filter is what makes it compare all of them."""
    from weaviate.classes.query import Filter as By

    parts = []
    if where.tasks:
        parts.append(By.by_property("task").contains_any(list(where.tasks)))
    if where.modalities:
        parts.append(By.by_property("modality").contains_any(list(where.modalities)))
    for name, values in (("sha256", exclude.sha256s), ("group", exclude.groups - {""})):
        parts += [By.by_property(name).contains_none(part) for part in _portions(sorted(values))]
    parts += [By.by_id().contains_none(part) for part in _portions(uuids(exclude.ids))]
    if not parts and exact:
        parts.append(By.by_property("sha256").not_equal(""))
    return By.all_of(parts) if parts else None


def condition_of(where: Filter) -> Any:
    """The filter of a whole reading; None for everything."""
    return _condition(where, Exclusion(), exact=False)


def has(space: Space) -> Any:
    """The filter of the cases that have a vector of an encoder."""
    from weaviate.classes.query import Filter as By

    return By.by_property(space.flag).equal(True)


def both(condition: Any, other: Any) -> Any:
    """The filter of what meets two of them."""
    return other if condition is None else condition & other


async def count_of(collection: CollectionAsync[Any, None], condition: Any) -> int:
    """How many cases meet a filter; None counts all."""
    answer = await collection.aggregate.over_all(filters=condition, total_count=True)
    return answer.total_count or 0


def _portions(values: Sequence[str]) -> list[list[str]]:
    return [list(values[at : at + _VALUES_AT_ONCE]) for at in range(0, len(values), _VALUES_AT_ONCE)]


def _below(found: Sequence[SimilarCase], ceiling: float | None) -> list[SimilarCase]:
    return [case for case in found if ceiling is None or case.similarity <= ceiling]


def _is_complete(found: Sequence[SimilarCase], kept: Sequence[SimilarCase], k: int) -> bool:
    """Whether no case beyond those found can belong among the k: all the last place's equals are here."""
    return len(kept) >= k and found[-1].similarity < kept[k - 1].similarity - _SAME


def _similar(one: Any, space: Space) -> SimilarCase:
    case = case_of(one.properties)
    return SimilarCase(
        id=str(one.uuid),
        sha256=case.sha256,
        task=case.task,
        labels=case.labels,
        similarity=max(-1.0, min(1.0, 1.0 - one.metadata.distance)),
        encoder=space.encoder,
        source=case.source,
        report=case.report,
    )
