"""Choosing the encoder that finds the right cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._support.progress import Progress
from ..case import Record, SimilarCase
from ..errors import ConfigurationError, ImageUnreadable
from ..models.dataset import Dataset
from .pictures import read_pictures
from .stores.protocol import CaseStore, Exclusion, Filter

if TYPE_CHECKING:
    from ..models.specialist.specialist import TimmSpecialist

_Answer = tuple[tuple[str, ...], list[SimilarCase]]
"""A query's own labels and what was found."""

_BATCH = 32
"""Images per forward pass."""


class RetrieverScore(Record):
    """How well one encoder finds cases of the right label, on the validation split."""

    specialist: str
    encoder: str
    agreement: float
    """Label agreement@k: the share of a query's k nearest cases that carry its label (Jaccard overlap
    for several labels), mean over a label's queries, then over labels."""
    vote: float
    """Balanced accuracy of the nearest cases' most frequent labels."""


class RetrieverChoice(Record):
    """The specialist whose embedding retrieval should use."""

    retriever: str
    k: int
    queries: int
    scores: tuple[RetrieverScore, ...]
    """One per encoder, best first."""


def choose_retriever(
    dataset: Dataset,
    specialists: Sequence[TimmSpecialist],
    store: CaseStore,
    k: int = 10,
    *,
    task: str | None = None,
    quiet: bool = False,
) -> RetrieverChoice:
    """Find the encoder whose nearest known cases most often carry the right label.

    Queries are the validation split's images; a query never finds itself or its own group.

    Args:
        dataset: its validation split is used.
        specialists: candidates; of those that share an encoder the first stands for it.
        store: holds the known cases of the task with vectors of every candidate's encoder.
        k: nearest cases per query.
        task: whose cases are searched; None for the first specialist's.
        quiet: show no progress.

    Raises:
        ConfigurationError: there is nothing to choose from or to choose by.
        StoreError: the store lacks vectors of a candidate's encoder.
    """
    items = dataset.split("val")
    if not items or not specialists or k < 1:
        raise ConfigurationError(
            "choosing a retriever needs validation images, specialists and k of at least 1"
        )
    encoders, where = by_encoder(specialists), Filter((task or specialists[0].card.task,))
    found: dict[str, list[_Answer]] = {name: [] for name in encoders}
    with Progress(f"choosing the retriever of {where.tasks[0]}", len(items), quiet=quiet) as progress:
        for pictures, broken in read_pictures(items, dataset.folder, _BATCH, None):
            exclude = [Exclusion(frozenset([p.sha256]), frozenset([p.item.group])) for p in pictures]
            for name, specialist in encoders.items() if pictures else ():
                vectors = specialist.embed([picture.image for picture in pictures])
                similar = store.search(vectors, name, k, where=where, exclude=exclude)
                found[name] += zip([picture.item.labels for picture in pictures], similar, strict=True)
            progress.advance(len(pictures) + len(broken))
    queries = len(next(iter(found.values())))
    if not queries:
        raise ImageUnreadable(f"none of the {len(items)} validation images can be read")
    scores = [_score(encoders[name], answers) for name, answers in found.items()]
    scores.sort(key=lambda score: (-score.agreement, -score.vote, score.specialist))
    return RetrieverChoice(retriever=scores[0].specialist, k=k, queries=queries, scores=tuple(scores))


def label_agreement(labels: Sequence[str], similar: Sequence[SimilarCase]) -> float:
    """Share of the similar cases that carry the labels; for several labels their Jaccard overlap."""
    own = set(labels)
    shares = [len(own & set(case.labels)) / max(1, len(own | set(case.labels))) for case in similar]
    return sum(shares) / len(shares) if shares else 0.0


def by_encoder(specialists: Sequence[TimmSpecialist]) -> dict[str, TimmSpecialist]:
    """The first specialist of each encoder.

    Raises:
        ConfigurationError: there is none.
    """
    encoders: dict[str, TimmSpecialist] = {}
    for specialist in specialists:
        encoders.setdefault(specialist.card.encoder, specialist)
    if not encoders:
        raise ConfigurationError("indexing needs at least one specialist, whose encoder makes the vectors")
    return encoders


def _score(specialist: TimmSpecialist, answers: Sequence[_Answer]) -> RetrieverScore:
    return RetrieverScore(
        specialist=specialist.card.name,
        encoder=specialist.card.encoder,
        agreement=_macro([(labels, label_agreement(labels, similar)) for labels, similar in answers]),
        vote=_macro([(labels, float(_vote(similar) == set(labels))) for labels, similar in answers]),
    )


def _vote(similar: Sequence[SimilarCase]) -> set[str] | None:
    """The most frequent labels; of equally frequent ones the nearer."""
    most = Counter(case.labels for case in similar).most_common(1)
    return set(most[0][0]) if most else None


def _macro(values: Sequence[tuple[tuple[str, ...], float]]) -> float:
    """Mean over the queries of each label, then over labels, so that a rare label counts as much."""
    of_label: dict[str, list[float]] = defaultdict(list)
    for labels, value in values:
        for label in labels or ("",):
            of_label[label].append(value)
    return float(np.mean([np.mean(of_label[label]) for label in sorted(of_label)]))
