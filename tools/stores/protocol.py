"""The interface of a case store. ``tests/tools/stores/conformance.py`` tests it for each store."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...case import Record, SimilarCase

Vectors = npt.NDArray[np.float32]

_NAMESPACE = uuid.UUID("6f1c9a52-0d0e-5b1e-9a53-3c4f7b8f2d10")


class KnownCase(Record):
    """A case with a known diagnosis, as kept in a case store."""

    sha256: str
    """``ImageRef.sha256`` of its image."""
    task: str
    labels: tuple[str, ...]
    modality: str = ""
    group: str = ""
    """Patient or study pseudonym; empty if unknown."""
    source: str = ""
    """Data set and file it came from."""
    licence: str = ""
    report: str | None = None

    @property
    def id(self) -> str:
        """Deterministic UUID from task and image hash: adding a case twice adds it once."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.task}/{self.sha256}"))


@dataclass(frozen=True)
class Entry:
    """A row of a case store: the known case, its vectors by encoder name, and a small JPEG."""

    case: KnownCase
    vectors: Mapping[str, Vectors]
    """Encoder name to a float32 vector of shape (d,), L2-normalised."""
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class Exclusion:
    """Cases that a search leaves out: the case itself, its patient, and near-duplicates."""

    sha256s: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    above_similarity: float | None = None
    """Cases with a larger cosine similarity count as near-duplicates and are left out."""
    ids: frozenset[str] = frozenset()
    """Known cases by ``KnownCase.id``."""


@dataclass(frozen=True)
class Filter:
    """Cases that a search may find, by task and modality; an empty tuple means any."""

    tasks: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """At least one of these is among the case's labels."""
    without: tuple[str, ...] = ()
    """None of these is among the case's labels."""

    def accepts(self, case: KnownCase) -> bool:
        """Whether it may be found."""
        return self.admits(case.task, case.modality, case.labels)

    def admits(self, task: str, modality: str, labels: tuple[str, ...]) -> bool:
        """Whether cases of a task and modality with these labels may be found."""
        return (
            (not self.tasks or task in self.tasks)
            and (not self.modalities or modality in self.modalities)
            and (not self.labels or not set(self.labels).isdisjoint(labels))
            and set(self.without).isdisjoint(labels)
        )


EVERYTHING = Filter()


def similar_case(case: KnownCase, similarity: float, encoder: str) -> SimilarCase:
    """A known case as a search finds it."""
    return SimilarCase(
        id=case.id,
        sha256=case.sha256,
        task=case.task,
        labels=case.labels,
        similarity=max(-1.0, min(1.0, similarity)),
        encoder=encoder,
        source=case.source,
        report=case.report,
    )


@runtime_checkable
class CaseStore(Protocol):
    """Known cases with named vectors, one per specialist encoder.

    A store may keep vectors at half precision; similarities then differ by less than 0.001 from
    those of the vectors that were added. Equal similarities are ordered by id. All methods may be
    called from several threads at once.

    Every method raises ``StoreError`` when the store cannot be reached or read, and
    ``VectorMismatch`` when a vector does not fit an encoder's width.
    """

    def add(self, entries: Iterable[Entry]) -> int:
        """Add cases and return how many were new; an existing case only gains vectors that it lacks.

        Entries are taken and written batch by batch, so that they need not fit in memory. An error
        leaves whole entries only, and the same call may be made again.

        Raises:
            VectorMismatch: a vector's width is not its encoder's.
            StoreError: a vector is not finite or not of length one, or the store cannot be written.
        """
        ...

    def search(
        self,
        vectors: Vectors,
        encoder: str,
        k: int,
        *,
        where: Filter = EVERYTHING,
        exclude: Sequence[Exclusion] = (),
    ) -> list[list[SimilarCase]]:
        """Find the k nearest known cases of each query, most similar first.

        Args:
            vectors: queries, float32 (n, d), L2-normalised.
            encoder: whose space to search; the cases without a vector of it are not found.
            k: at most so many per query.
            where: what may be found.
            exclude: one per query, or empty for none.

        Returns:
            One list per query; an empty store gives empty lists.

        Raises:
            VectorMismatch: the store holds no vectors of that encoder, or of another width.
        """
        ...

    def get(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Entries by id; unknown ids are left out."""
        ...

    def scan(self, where: Filter = EVERYTHING) -> Iterator[Entry]:
        """Yield every entry, ordered by id."""
        ...

    def count(self, where: Filter = EVERYTHING) -> int:
        """Number of cases."""
        ...

    def delete(self, ids: Iterable[str]) -> int:
        """Delete cases by id and return how many existed."""
        ...

    def encoders(self) -> dict[str, int]:
        """Encoder names and their vectors' width."""
        ...

    def tasks(self) -> dict[str, int]:
        """Task names and their number of cases."""
        ...

    def thumbnail(self, id: str) -> bytes | None:
        """The small JPEG of a case, if it has one."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...
