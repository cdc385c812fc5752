"""Evidence about the very images that a panel of heads learnt from: what each was told without its group.

So the decision is fitted on all images that are there, not on a validation split of a few. What heads said
out of fold is what their choice of C came from; the similar cases of an image are searched without its group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...case import Evidence, GateReport, SimilarCase, Task
from ...disk import replacing
from ...errors import ImageError
from ...models.dataset import Item
from ...models.specialist.calibration import decide
from ...models.specialist.panel import Panel
from ...models.specialist.specialist import Forward, TimmSpecialist, calibrated
from ...tools.stores.protocol import CaseStore, Exclusion, Filter, KnownCase
from ..task_fit import LabelledCase

_AT_ONCE = 256


def cross_fitted_cases(
    items: Sequence[Item], task: Task, panel: Panel, folder: Path, store: CaseStore, neighbours: int
) -> list[LabelledCase]:
    """Gather what was said of images without them.

    Args:
        items: the images; those that a head did not learn from are left out.
        task: a closed task.
        panel: heads.
        folder: what each said out of fold; see ``keep_out_of_fold``.
        store: holds the images as known cases.
        neighbours: similar cases of each.
    """
    forwards = {name: _opinions(member, folder / f"{name}.npz") for name, member in panel.members.items()}
    told = [one for one in items if all(_key(one) in places for places, _ in forwards.values())]
    asked = [(one, sha256) for one in told if (sha256 := _hash(one)) is not None]
    similar = _similar(asked, task, panel, store, neighbours)
    return [
        LabelledCase(
            id=str(item.path),
            group=item.group,
            sha256=sha256,
            truth=item.labels,
            evidence=Evidence(
                gate=GateReport(task=task.name),
                opinions=tuple(
                    panel.members[name].opinion(forward, places[_key(item)])
                    for name, (places, forward) in forwards.items()
                ),
                similar_cases=tuple(found),
            ),
            answer=None,
        )
        for (item, sha256), found in zip(asked, similar, strict=True)
    ]


def keep_out_of_fold(written: Path, items: Sequence[Item], path: Path) -> None:
    """Keep what a head said out of fold with the build, under hashes of the images' paths.

    Args:
        written: by the training; see ``train_specialist``.
        items: in the order in which the head learnt from them.
        path: the file, ``keys`` (n,) and ``logits`` (n, labels).
    """
    with np.load(written, allow_pickle=False) as file:
        keys, logits = np.array([_key(items[row]) for row in file["rows"]]), file["logits"]
    with replacing(path) as fresh:
        np.savez(fresh, keys=keys, logits=logits)


def _key(item: Item) -> str:
    return hashlib.sha256(str(item.path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()


def _opinions(member: TimmSpecialist, path: Path) -> tuple[dict[str, int], Forward]:
    """Where the answer about each image is, and all answers of a head."""
    with np.load(path, allow_pickle=False) as file:
        keys, logits = file["keys"], file["logits"]
    card = member.card
    probabilities = calibrated(logits, card)
    thresholds = (card.thresholds or (0.5,) * len(card.labels)) if card.multilabel else None
    forward = Forward(
        probabilities=probabilities,
        embeddings=np.zeros((len(keys), 0), np.float32),
        decisions=decide(probabilities, card.labels, thresholds),
    )
    return {str(key): place for place, key in enumerate(keys)}, forward


def _hash(item: Item) -> str | None:
    from ...images import pixel_hash, read_image

    try:
        return pixel_hash(read_image(item.path))
    except ImageError:
        return None


def _similar(
    asked: Sequence[tuple[Item, str]], task: Task, panel: Panel, store: CaseStore, neighbours: int
) -> list[list[SimilarCase]]:
    if not neighbours:
        return [[] for _ in asked]
    encoder, where = panel.members[panel.retriever].card.encoder, Filter((task.name,))
    found: list[list[SimilarCase]] = []
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        ids = [KnownCase(sha256=sha, task=task.name, labels=()).id for _, sha in part]
        entries = store.get(ids)
        vectors = np.stack([entries[id].vectors[encoder] for id in ids])
        exclude = [Exclusion(frozenset([sha]), frozenset([item.group])) for item, sha in part]
        found += store.search(vectors, encoder, neighbours, where=where, exclude=exclude)
    return found
