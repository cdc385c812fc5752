"""Searching a collection: exclusions, near-duplicates and ties as every case store treats them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ....case import SimilarCase
from ....errors import StoreError
from ..base import Search
from ..protocol import Exclusion, Filter, Vectors, similar_case
from .failures import Unready
from .objects import CASE, Space, case_of, uuids

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import FilterReturn as Condition

    from .objects import CaseCollection

AT_ONCE = 16
"""Searches under way at the same time."""
_SPARE = 8
"""Results asked for beyond k, for what is left out afterwards."""
_MOST = 10_000
"""Weaviate's own limit on results (QUERY_MAXIMUM_RESULTS)."""
_SAME = 1e-6
"""More than single precision can err in a distance."""
_VALUES_AT_ONCE = 500


class Searcher:
    """Answers a search among one encoder's vectors in a collection.

    Args:
        collection: with tenant and consistency set.
        space: the encoder's.
        search: the queries.
        exact: compare every case, as long as they are few enough for that.
    """

    def __init__(self, collection: CaseCollection, space: Space, search: Search, *, exact: bool) -> None:
        self._collection, self._space, self._search, self._exact = collection, space, search, exact
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def all(self) -> list[list[SimilarCase]]:
        """Answer the queries, in their order."""
        exclude = self._search.exclude or [Exclusion()] * len(self._search.queries)
        return await asyncio.gather(*map(self._one, self._search.queries, exclude))

    async def _one(self, vector: Vectors, exclude: Exclusion) -> list[SimilarCase]:
        condition = condition_of(self._search.where, exclude, exact=self._exact)
        k, ceiling = self._search.k, exclude.above_similarity
        limit = min(_MOST, k + _SPARE)
        async with self._turn:
            while True:
                found = await self._found(vector, condition, limit)
                if not found:
                    await self._check_ready(condition)
                left = (case for case in found if ceiling is None or case.similarity <= ceiling)
                kept = sorted(left, key=lambda case: (-case.similarity, case.id))
                # Complete once all equals of the last place are here: no other case can belong among the k.
                if len(found) < limit or (
                    len(kept) >= k and found[-1].similarity < kept[k - 1].similarity - _SAME
                ):
                    return kept[:k]
                if limit == _MOST:
                    raise StoreError(
                        f"more than {_MOST} cases are as similar as the nearest, or excluded as "
                        "near-duplicates; delete the duplicates, or raise the ceiling"
                    )
                limit = min(_MOST, 4 * limit)

    async def _check_ready(self, condition: Condition | None) -> None:
        """A server without the vectors of its cases answers with nothing, as if there were no cases."""
        own = has(self._space)
        number = await count_of(self._collection, own if condition is None else condition & own)
        if number:
            raise Unready(
                f"Weaviate finds none of {number} cases that it holds: its index of their vectors is being "
                "loaded, or was lost in a power cut. Try again in a moment; if this persists, copy the cases "
                "to a new collection, which indexes them again: `gsco store move --searches 0`"
            )

    async def _found(self, vector: Vectors, condition: Condition | None, limit: int) -> list[SimilarCase]:
        """The nearest cases in Weaviate's order."""
        from weaviate.classes.query import MetadataQuery

        answer = await self._collection.query.near_vector(
            vector.tolist(),
            target_vector=self._space.vector,
            limit=limit,
            filters=condition,
            return_properties=CASE,
            return_metadata=MetadataQuery(distance=True),
        )
        return [
            similar_case(case_of(one.properties), 1.0 - (one.metadata.distance or 0.0), self._space.encoder)
            for one in answer.objects
        ]


def condition_of(where: Filter, exclude: Exclusion, *, exact: bool = False) -> Condition | None:
    """What Weaviate filters by, None for everything; a filter makes it compare all of few cases exactly."""
    from weaviate.classes.query import Filter as By

    wanted = (("task", where.tasks), ("modality", where.modalities), ("labels", where.labels))
    parts = [By.by_property(name).contains_any(list(values)) for name, values in wanted if values]
    unwanted = (
        (By.by_property("sha256"), sorted(exclude.sha256s)),
        (By.by_property("group"), sorted(exclude.groups - {""})),
        (By.by_property("labels"), where.without),
        (By.by_id(), uuids(exclude.ids)),
    )
    for by, values in unwanted:
        parts += [by.contains_none(part) for part in portions(values, _VALUES_AT_ONCE)]
    if not parts and exact:
        parts.append(By.by_property("sha256").not_equal(""))
    return By.all_of(parts) if parts else None


def has(space: Space) -> Condition:
    """The filter of the cases that have a vector of an encoder."""
    from weaviate.classes.query import Filter as By

    return By.by_property(space.flag).equal(True)


async def count_of(collection: CaseCollection, condition: Condition | None) -> int:
    """How many cases meet a filter; None counts all."""
    answer = await collection.aggregate.over_all(filters=condition, total_count=True)
    return answer.total_count or 0


def portions(values: Sequence[str], size: int) -> list[list[str]]:
    """Values in lists of at most ``size``."""
    return [list(values[at : at + size]) for at in range(0, len(values), size)]
