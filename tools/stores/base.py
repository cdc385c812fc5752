"""What the stores of this package share: the checks before a search, and closing at the end of a block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ...case import SimilarCase
from .protocol import EVERYTHING, Exclusion, Filter, Vectors
from .vectors import checked_queries


@dataclass(frozen=True)
class Search:
    """The arguments of ``CaseStore.search``, checked: queries are of shape (n, d) with n and k above 0."""

    queries: Vectors
    encoder: str
    k: int
    where: Filter
    exclude: Sequence[Exclusion]


class StoreBase(ABC):
    """Base of the stores: it checks the arguments of a search and closes at the end of a ``with`` block."""

    def search(
        self,
        vectors: Vectors,
        encoder: str,
        k: int,
        *,
        where: Filter = EVERYTHING,
        exclude: Sequence[Exclusion] = (),
    ) -> list[list[SimilarCase]]:
        """See ``CaseStore.search``."""
        queries = checked_queries(vectors, k, exclude)
        if queries is None:
            return [[] for _ in vectors]
        return self._nearest(Search(queries, encoder, k, where, exclude))

    @abstractmethod
    def close(self) -> None:
        """See ``CaseStore.close``; closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _nearest(self, search: Search) -> list[list[SimilarCase]]:
        """The nearest known cases of each query."""
