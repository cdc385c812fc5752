"""Similar known cases whose images a generalist is shown beside the case."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

from ..case import Case, SimilarCase
from ..tools.stores.protocol import CaseStore


class KnownPicture(NamedTuple):
    """A known case to look at."""

    thumbnail: bytes
    """A small JPEG."""
    labels: tuple[str, ...]


def exemplars(
    case: Case, similar_cases: Sequence[SimilarCase], store: CaseStore, most: int
) -> list[KnownPicture]:
    """Choose the similar cases to be shown: in turn the nearest of each label.

    No case of the same patient or study as the case in question, and none with its image, is shown, whatever
    retrieval was told to leave out.

    Args:
        case: in question.
        similar_cases: that retrieval found.
        store: holds their thumbnails; those without one are left out.
        most: at most so many.

    Raises:
        StoreError: the store cannot be read.
    """
    known = store.get(one.id for one in similar_cases)
    own = {image.sha256 for image in case.images}
    chosen: list[KnownPicture] = []
    for one in by_turns(similar_cases):
        entry = known.get(one.id)
        if entry is None or entry.thumbnail is None or entry.case.sha256 in own:
            continue
        if case.group and entry.case.group == case.group:
            continue
        chosen.append(KnownPicture(entry.thumbnail, one.labels))
    return chosen[:most]


def by_turns(cases: Sequence[SimilarCase]) -> list[SimilarCase]:
    """The nearest case of each set of labels, then the second of each, and so on."""
    ordered = sorted(cases, key=lambda one: (-one.similarity, one.id))
    columns: dict[tuple[str, ...], list[SimilarCase]] = {}
    for one in ordered:
        columns.setdefault(one.labels, []).append(one)
    return [one for one in chain.from_iterable(zip_longest(*columns.values())) if one is not None]
