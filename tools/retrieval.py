"""Similar known cases of a case, and how near it is to what is known of each task."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._support.batching import Batcher
from ..case import ImageRef, SimilarCase
from ..errors import GscoError, StoreError
from .stores.protocol import CaseStore, Exclusion, Filter, Vectors

if TYPE_CHECKING:
    from .specialists import Specialists

SHARED_ENCODER = "efficientnet_lite0"
"""The encoder of the bundled frozen backbone; cases of all tasks can be compared in its space."""
FLOOR_SAMPLE = 200
"""Known cases of a task whose nearest neighbours are measured for its floor."""
FLOOR_LEAST = 20
"""With fewer of them no floor is given."""
FLOOR_QUANTILE = 0.01
DIGEST_MOST = 20_000
"""Of a larger bank the digest holds the number of cases and the first ones by id, rather than reading all."""

_SEARCHES_AT_ONCE = 256
NOTHING = Exclusion()


@dataclass(frozen=True)
class Surroundings:
    """The known cases around a case, over all tasks, in the shared encoder's space."""

    shares: Mapping[str, float]
    """Of the nearest known cases, the share that belongs to each task; empty if nothing is known."""
    nearest: Mapping[str, float]
    """Similarity to the nearest known case of each task that is near or was asked for. For a case of
    several images it is that of the image that is farthest away."""


class KnownCases(NamedTuple):
    """What is known of a task's cases as a whole."""

    digest: str
    """Which cases, with which labels."""
    reliability: float | None
    """Balanced accuracy of the similar cases' vote about a sample of the known cases themselves, each without
    itself and its patient; None where too few are known."""


class _Query(NamedTuple):
    vector: Vectors
    encoder: str
    k: int
    where: Filter
    exclude: Exclusion


class Retrieval:
    """Searches a case store with the specialists' embeddings; concurrent searches become one.

    Args:
        store: the store, or a function that opens it. It is opened at the first search, and again at
            the next one if that failed.
        specialists: they embed the images.
    """

    def __init__(self, store: CaseStore | Callable[[], CaseStore], specialists: Specialists) -> None:
        self._specialists = specialists
        self._open = (lambda: store) if isinstance(store, CaseStore) else store
        self._store: CaseStore | None = None
        self._opening = threading.Lock()
        self._searches: Batcher[_Query, list[SimilarCase]] = Batcher(
            self._search, max_batch=_SEARCHES_AT_ONCE
        )
        self._floors: dict[tuple[str, str, int], asyncio.Future[float | None]] = {}
        self._known: dict[str, tuple[int, asyncio.Future[KnownCases]]] = {}
        self._encoder: str | None = None
        self.size: int | None = None
        """Number of known cases at the last search; None before it."""

    async def similar(
        self,
        images: Sequence[ImageRef],
        task: str,
        k: int,
        *,
        encoder: str | None = None,
        labels: Sequence[str] = (),
        without: Sequence[str] = (),
        exclude: Exclusion = NOTHING,
    ) -> list[SimilarCase]:
        """Find the k known cases of a task that are most similar, most similar first.

        A case of several images is compared image by image; each known case counts once, with its
        largest similarity.

        Args:
            images: of the case.
            task: whose known cases are searched.
            k: at most so many.
            encoder: in whose space; None means the encoder of the panel's retriever.
            labels: only cases with one of these labels; empty means any.
            without: only cases with none of these labels.
            exclude: what must not be found.

        Raises:
            StoreError: the store cannot be read, or holds no vectors of this encoder.
            SpecialistError: the encoder cannot embed the images.
        """
        encoder = encoder or self._specialists.retriever(task) or await self._shared()
        where = Filter((task,), labels=tuple(labels), without=tuple(without))
        found = await self._nearest(images, encoder, k, where, exclude)
        best: dict[str, SimilarCase] = {}
        for case in sorted(chain.from_iterable(found), key=lambda case: (-case.similarity, case.id)):
            best.setdefault(case.id, case)
        return list(best.values())[:k]

    async def surroundings(
        self,
        images: Sequence[ImageRef],
        k: int,
        *,
        tasks: Sequence[str] = (),
        among: Sequence[str] = (),
        exclude: Exclusion = NOTHING,
    ) -> Surroundings:
        """Look at the k nearest known cases of each image, whichever task they belong to.

        Args:
            images: of the case.
            k: how many to look at.
            tasks: also measure the distance to the nearest case of these.
            among: only look at cases of these tasks; empty means any.
            exclude: what must not be found.

        Raises:
            StoreError: the store cannot be read, or holds no vectors of the shared encoder.
            SpecialistError: the shared encoder cannot embed the images.
        """
        encoder = await self._shared()
        found = await self._nearest(images, encoder, k, Filter(tuple(among)), exclude)
        counts = Counter(case.task for case in chain.from_iterable(found))
        nearest: dict[str, float] = {}
        for name in {*counts, *tasks}:
            similarities = await self._similarities(name, images, found, encoder, exclude)
            if similarities:
                nearest[name] = min(similarities)
        return Surroundings({name: count / counts.total() for name, count in counts.items()}, nearest)

    async def floor(self, task: str) -> float | None:
        """Similarity that all but the strangest 1 % of a task's known cases have to another of them.

        It is measured on a fixed sample of the store, in the shared encoder's space, without the case
        itself and its patient; None where too few cases are known. It is measured anew when the number
        of known cases changes.

        Raises:
            StoreError: the store cannot be read, or holds no vectors of the shared encoder.
        """
        key = (await self._shared(), task, self.size or 0)
        if key not in self._floors:
            self._floors[key] = asyncio.ensure_future(asyncio.to_thread(self._measure_floor, task, key[0]))
        try:
            return await asyncio.shield(self._floors[key])
        except GscoError:
            self._floors.pop(key, None)
            raise

    async def known(self, task: str, k: int) -> KnownCases:
        """Digest a task's known cases, and measure how well they tell of each other.

        It is done once for each number of known cases. Known cases trained the specialist whose encoder finds
        them, so that their vote is taken to be no more reliable than that specialist.

        Args:
            task: whose known cases.
            k: neighbours that vote.

        Raises:
            StoreError: the store cannot be read.
            SpecialistError: the task's encoder is not there.
        """
        if self.size is None:
            self.size = await asyncio.to_thread(lambda: self.store().count())
        size, found = self.size, self._known.get(task)
        if found is None or found[0] != size:
            encoder = self._specialists.retriever(task) or await self._shared()
            measured = asyncio.ensure_future(asyncio.to_thread(self._measure_known, task, encoder, k))
            self._known[task] = found = (size, measured)
        try:
            return await asyncio.shield(found[1])
        except GscoError:
            self._known.pop(task, None)
            raise

    def known_digest(self, task: str) -> str:
        """Digest of a task's known cases, once ``known`` has read them; else empty."""
        found = self._measured(task)
        return "" if found is None else found.digest

    def reliability(self, task: str) -> float | None:
        """How reliable the similar cases of a task are, once ``known`` has measured it."""
        found = self._measured(task)
        return None if found is None else found.reliability

    def _measured(self, task: str) -> KnownCases | None:
        found = self._known.get(task)
        if found is None or not found[1].done() or found[1].cancelled() or found[1].exception():
            return None
        return found[1].result()

    def store(self) -> CaseStore:
        """Return the store, opened.

        Raises:
            StoreError: it cannot be opened.
        """
        with self._opening:
            if self._store is None:
                self._store = self._open()
            return self._store

    def close(self) -> None:
        """Close the store if it was opened; nothing may be searched any more."""
        self._searches.close()
        with self._opening:
            if self._store is not None:
                self._store.close()
                self._store = None

    async def _shared(self) -> str:
        if self._encoder is None:
            self._encoder = await asyncio.to_thread(self._find_shared)
        return self._encoder

    def _find_shared(self) -> str:
        encoders = self.store().encoders()
        # An encoder that belongs to one task is named TASK/SPECIALIST.
        common = sorted(name for name in encoders if "/" not in name)
        if SHARED_ENCODER in encoders:
            return SHARED_ENCODER
        if not common:
            raise StoreError(
                f"the case store has no vectors of {SHARED_ENCODER} or another encoder that all tasks "
                "share; index the cases with a specialist on the shared backbone"
            )
        return common[0]

    async def _nearest(
        self, images: Sequence[ImageRef], encoder: str, k: int, where: Filter, exclude: Exclusion
    ) -> list[list[SimilarCase]]:
        vectors = await asyncio.gather(*(self._specialists.embedding(encoder, image) for image in images))
        queries = [_Query(vector, encoder, k, where, exclude) for vector in vectors]
        return await asyncio.gather(*map(self._searches, queries))

    async def _similarities(
        self,
        task: str,
        images: Sequence[ImageRef],
        found: Sequence[Sequence[SimilarCase]],
        encoder: str,
        exclude: Exclusion,
    ) -> list[float]:
        """Similarity of each image to its nearest case of a task; searched for only where it is not near."""
        tops = [next((case.similarity for case in cases if case.task == task), None) for cases in found]
        if None in tops:
            again = await self._nearest(images, encoder, 1, Filter((task,)), exclude)
            tops = [cases[0].similarity if cases else None for cases in again]
        return [top for top in tops if top is not None]

    def _search(self, queries: Sequence[_Query]) -> list[list[SimilarCase] | Exception]:
        """Answer queries, those that agree in encoder, k and filter with one search."""
        alike: defaultdict[tuple[str, int, Filter], list[int]] = defaultdict(list)
        for position, query in enumerate(queries):
            alike[query.encoder, query.k, query.where].append(position)
        answers: list[list[SimilarCase] | Exception] = [[] for _ in queries]
        for (encoder, k, where), positions in alike.items():
            for position, answer in zip(
                positions, self._search_alike([queries[p] for p in positions], encoder, k, where), strict=True
            ):
                answers[position] = answer
        return answers

    def _search_alike(
        self, queries: Sequence[_Query], encoder: str, k: int, where: Filter
    ) -> Sequence[list[SimilarCase] | Exception]:
        vectors = np.stack([query.vector for query in queries])
        exclude = [query.exclude for query in queries]
        try:
            store = self.store()
            self.size = store.count()
            return (
                store.search(vectors, encoder, k, where=where, exclude=exclude)
                if self.size
                else [[] for _ in queries]
            )
        except GscoError as error:
            return [error] * len(queries)

    def _measure_floor(self, task: str, encoder: str) -> float | None:
        store, where = self.store(), Filter((task,))
        # Ids are hashes, so that the first ones by id are a sample that favours nothing.
        entries = [entry for entry in islice(store.scan(where), FLOOR_SAMPLE) if encoder in entry.vectors]
        if len(entries) < FLOOR_LEAST:
            return None
        exclude = [
            Exclusion(frozenset([entry.case.sha256]), frozenset(filter(None, [entry.case.group])))
            for entry in entries
        ]
        vectors = np.stack([entry.vectors[encoder] for entry in entries])
        found = store.search(vectors, encoder, 1, where=where, exclude=exclude)
        similarities = [cases[0].similarity for cases in found if cases]
        if len(similarities) < FLOOR_LEAST:
            return None
        return float(np.quantile(similarities, FLOOR_QUANTILE, method="lower"))

    def _measure_known(self, task: str, encoder: str, k: int) -> KnownCases:
        store, where = self.store(), Filter((task,))
        name, entries = digest_of(store, task), store.scan(where)
        sample = list(islice((entry for entry in entries if encoder in entry.vectors), FLOOR_SAMPLE))
        if len(sample) < FLOOR_LEAST:
            return KnownCases(name, None)
        exclude = [
            Exclusion(frozenset([one.case.sha256]), frozenset(filter(None, [one.case.group])))
            for one in sample
        ]
        vectors = np.stack([one.vectors[encoder] for one in sample])
        found = store.search(vectors, encoder, k, where=where, exclude=exclude)
        voted = _balanced_accuracy([one.case.labels for one in sample], found)
        owner = self._specialists.reliability(task, encoder)
        return KnownCases(name, voted if owner is None else min(voted, owner))


def digest_of(store: CaseStore, task: str) -> str:
    """Digest of which cases of a task a store knows, with which labels, in sixteen hex digits."""
    where = Filter((task,))
    count = store.count(where)
    digest = hashlib.sha256(f"{count}\n".encode())
    for entry in islice(store.scan(where), None if count <= DIGEST_MOST else FLOOR_SAMPLE):
        digest.update(f"{entry.case.id} {sorted(entry.case.labels)}\n".encode())
    return digest.hexdigest()[:16]


def _balanced_accuracy(truth: Sequence[Sequence[str]], found: Sequence[Sequence[SimilarCase]]) -> float:
    """Mean over labels of how often the vote finds a label where it is, and leaves it out where it is not."""
    labels = sorted({label for labels in truth for label in labels})
    voted = [Counter(label for case in cases for label in case.labels) for cases in found]
    if all(len(labels) == 1 for labels in truth):
        said = [counts.most_common(1)[0][0] if counts else "" for counts in voted]
        by_label = [
            np.mean([one == label for one, true in zip(said, truth, strict=True) if label in true])
            for label in labels
        ]
        return float(np.mean(by_label))
    rates = []
    for label in labels:
        there = np.array([label in true for true in truth])
        said = np.array(
            [2 * counts[label] >= len(cases) > 0 for counts, cases in zip(voted, found, strict=True)]
        )
        if there.any() and not there.all():
            rates.append((said[there].mean() + (~said[~there]).mean()) / 2)
    return float(np.mean(rates)) if rates else 0.5
