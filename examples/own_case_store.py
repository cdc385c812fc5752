"""A case store of one's own: known cases in the memory of this process.

Run it with ``python examples/own_case_store.py``. The tests hold this store to the same conformance suite as
the bundled ones (``tests/tools/stores/conformance.py``).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from gsco import (
    CaseStore,
    Entry,
    Exclusion,
    Filter,
    GSCo,
    KnownCase,
    Settings,
    SimilarCase,
    StoreError,
    VectorMismatch,
)
from gsco.models.mini.samples import samples
from gsco.tools.stores import open_store

ANY = Filter()
SHOWN = ("id", "sha256", "task", "labels", "source", "report")
"""What a search tells of a case."""


@dataclass
class Memory:
    """Known cases by id; several stores may share it, as several handles share a file."""

    entries: dict[str, Entry] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    """Of the vectors, by encoder."""
    lock: threading.RLock = field(default_factory=threading.RLock)


class MemoryStore:
    """Implements ``gsco.CaseStore`` with a dictionary and one matrix product per search."""

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._closed = False

    def add(self, entries: Iterable[Entry]) -> int:
        """Add cases and return how many were new; a known one gains missing vectors only."""
        new = 0
        for entry in entries:
            with self._open() as known:
                vectors = {
                    name: _checked(name, one, self._memory.widths) for name, one in entry.vectors.items()
                }
                self._memory.widths |= {name: len(one) for name, one in vectors.items()}
                old = known.get(entry.case.id)
                new += old is None
                both = {**vectors, **(old.vectors if old else {})}
                known[entry.case.id] = replace(old or entry, vectors=both)
        return new

    def search(
        self,
        vectors: np.ndarray,
        encoder: str,
        k: int,
        *,
        where: Filter = ANY,
        exclude: Sequence[Exclusion] = (),
    ) -> list[list[SimilarCase]]:
        """Find the k nearest known cases of each query, most similar first."""
        if k < 0:
            raise StoreError(f"k must not be negative, and is {k}")
        if exclude and len(exclude) != len(vectors):
            raise StoreError(f"{len(exclude)} exclusions for {len(vectors)} queries")
        entries = list(self.scan(where))
        if widths := self.encoders():
            if encoder not in widths:
                raise VectorMismatch(f"no vectors of {encoder!r}; available: {', '.join(sorted(widths))}")
            vectors = np.array([_checked(encoder, vector, widths) for vector in vectors])
        entries = [entry for entry in entries if encoder in entry.vectors]
        if not entries:
            return [[] for _ in vectors]
        matrix, cases = np.stack([entry.vectors[encoder] for entry in entries]), [one.case for one in entries]
        bans = exclude or [Exclusion()] * len(vectors)
        return [
            _nearest(cases, matrix @ vector, ban, k, encoder)
            for vector, ban in zip(vectors, bans, strict=True)
        ]

    def get(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Return entries by id; ids that are not there are left out."""
        with self._open() as known:
            return {id: known[id] for id in ids if id in known}

    def scan(self, where: Filter = ANY) -> Iterator[Entry]:
        """Yield every entry, ordered by id."""
        with self._open() as known:
            entries = sorted(known.items())
        yield from (entry for _, entry in entries if where.accepts(entry.case))

    def count(self, where: Filter = ANY) -> int:
        """Return the number of cases."""
        return sum(1 for _ in self.scan(where))

    def delete(self, ids: Iterable[str]) -> int:
        """Delete cases by id and return how many were there."""
        with self._open() as known:
            return sum(known.pop(id, None) is not None for id in ids)

    def encoders(self) -> dict[str, int]:
        """Return the names of encoders and the width of their vectors."""
        with self._open() as known:
            there = {name for entry in known.values() for name in entry.vectors}
            return {name: self._memory.widths[name] for name in sorted(there)}

    def tasks(self) -> dict[str, int]:
        """Return the names of tasks and the number of their cases."""
        return dict(Counter(entry.case.task for entry in self.scan()))

    def thumbnail(self, id: str) -> bytes | None:
        """Return the small JPEG of a case, if it has one."""
        found = self.get([id])
        return found[id].thumbnail if found else None

    def close(self) -> None:
        """Refuse further calls; closing twice is harmless."""
        self._closed = True

    @contextmanager
    def _open(self) -> Generator[dict[str, Entry]]:
        if self._closed:
            raise StoreError("the case store is closed")
        with self._memory.lock:
            yield self._memory.entries


def _checked(encoder: str, vector: np.ndarray, widths: Mapping[str, int]) -> np.ndarray:
    """Return the vector, float32 (d,), if it has length one and the width of its encoder."""
    try:
        found = np.array(vector, np.float32)
    except ValueError as error:
        raise StoreError(f"a vector must hold numbers: {error}") from error
    norm = np.linalg.norm(found)
    if found.ndim != 1 or not abs(norm - 1) < 1e-2:
        raise StoreError("a vector must have one dimension, finite numbers and length one")
    if len(found) != (width := widths.get(encoder, len(found))):
        raise VectorMismatch(f"vectors of {encoder!r} have width {width}, not {len(found)}")
    return found / norm


def _nearest(
    cases: Sequence[KnownCase], similarities: np.ndarray, ban: Exclusion, k: int, encoder: str
) -> list[SimilarCase]:
    """Return the best k of the cases that may be found; ``cases`` are ordered by id."""
    ceiling = np.inf if ban.above_similarity is None else ban.above_similarity
    found: list[SimilarCase] = []
    for place in np.argsort(-np.round(similarities, 6), kind="stable"):
        case, similarity = cases[place], float(similarities[place])
        if len(found) == k:
            break
        if case.sha256 in ban.sha256s or case.id in ban.ids or (case.group and case.group in ban.groups):
            continue
        if similarity <= ceiling:
            known = {
                name: getattr(case, name) for name in ("id", "sha256", "task", "labels", "source", "report")
            }
            found.append(SimilarCase(similarity=similarity, encoder=encoder, **known))
    return found


def main() -> None:
    """Copy the bundled chest X-rays into the store and diagnose one image with it."""
    store: CaseStore = MemoryStore()
    bundled = open_store("", home=Settings().home)
    print(f"{store.add(bundled.scan(Filter(('chest_xray',))))} cases copied")
    bundled.close()
    with GSCo.from_settings(case_store=store) as gsco:
        diagnosis = gsco.diagnose(samples("chest_xray")[3].path, task="chest_xray")
    print(f"decision: {diagnosis.label}")
    for case in diagnosis.evidence.similar_cases[:3]:
        print(f"a case of {', '.join(case.labels)}, similarity {case.similarity:.2f}")


if __name__ == "__main__":
    main()
