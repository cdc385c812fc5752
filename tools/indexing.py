"""Filling a case store from a data set."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Record, Task
from ..errors import ConfigurationError, ImageUnreadable, StoreError
from ..models.dataset import Dataset, Item, Split
from ..models.specialist.progress import Progress
from .pictures import Broken, Picture, read_pictures, relative_name, thumbnail_of
from .retriever import by_encoder, choose_retriever
from .stores.protocol import CaseStore, Entry, KnownCase, Vectors

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..images import ImageLimits
    from ..models.specialist.specialist import Specialist

__all__ = ["IndexReport", "build_index", "choose_retriever", "spread"]

SAME_VECTOR = 0.999
"""Cosine similarity that an image's vector must have with the stored one of the same encoder; other
batch sizes, threads and half precision leave it above 0.9999."""


class IndexReport(Record):
    """What indexing did to a store."""

    selected: int
    """Images of the split, after the cap per label."""
    added: int = 0
    """Cases that were new."""
    completed: int = 0
    """Cases that were there and gained vectors."""
    kept: int = 0
    """Cases that were there already, complete."""
    duplicates: int = 0
    """Images with the same pixels as an earlier one of the data set."""
    relabelled: tuple[str, ...] = ()
    """Images that were known with other labels; the store keeps what it had."""
    broken: tuple[Broken, ...] = ()
    encoders: tuple[str, ...] = ()


def build_index(
    dataset: Dataset,
    task: Task,
    specialists: Sequence[Specialist],
    store: CaseStore,
    *,
    split: Split = "train",
    per_label: int | None = None,
    seed: int = 0,
    thumbnail: int = 64,
    batch_size: int = 32,
    limits: ImageLimits | None = None,
    quiet: bool = False,
) -> IndexReport:
    """Embed a data set's images and add them to a store.

    Images are read and embedded batch by batch and written as soon as a batch is done: the same call
    after an interruption goes on where it stopped, and a call with another specialist adds its
    vectors to the cases that are there.

    Args:
        dataset: where the cases come from.
        task: whose labels they carry.
        specialists: their encoders make the vectors; those that share an encoder run once.
        store: where the cases go.
        split: of the data set.
        per_label: at most so many cases of each label, drawn by seed and spread over the groups.
        seed: of that draw.
        thumbnail: longest side of the small JPEG kept with a case, in pixels; 0 keeps none.
        batch_size: images per forward pass.
        limits: on the images' bytes and pixels; None for the usual ones.
        quiet: show no progress.

    Raises:
        ConfigurationError: the data set has no such images, or labels that are not the task's.
        ImageUnreadable: not one of the images can be read.
        StoreError: the store cannot be written, or its vectors were made by other weights.
    """
    _check_labels(dataset, task)
    encoders = by_encoder(specialists)
    items = dataset.split(split) if per_label is None else spread(dataset.split(split), per_label, seed)
    if not items:
        raise ConfigurationError(f"data set {dataset.name} has no images in its split {split!r}")
    run, broken = _Run(dataset, task, encoders, store, thumbnail), []
    with Progress(f"indexing {dataset.name}", len(items), quiet=quiet) as progress:
        for pictures, failures in read_pictures(items, dataset.folder, batch_size, limits):
            run.take(pictures)
            for failure in failures:
                progress.line(f"skipped {failure.path}: {failure.reason}")
            broken += failures
            progress.advance(len(pictures) + len(failures))
    if len(broken) == len(items):
        raise ImageUnreadable(f"none of the {len(items)} images can be read, the first: {broken[0].reason}")
    return run.report(len(items), broken)


def spread(items: Sequence[Item], per_label: int, seed: int) -> list[Item]:
    """Choose at most so many items of each label, from as many groups as possible.

    Args:
        items: to choose from.
        per_label: an item with several labels counts for each of them.
        seed: the same seed chooses the same items.
    """
    chosen: set[Path] = set()
    for label in sorted({label for item in items for label in item.labels}):
        carriers = [item for item in items if label in item.labels]
        free = per_label - sum(item.path in chosen for item in carriers)
        order = (item for item in _in_turns(carriers, f"{seed}/{label}") if item.path not in chosen)
        chosen |= {item.path for item in islice(order, max(0, free))}
    return [item for item in items if item.path in chosen]


def _in_turns(items: Sequence[Item], seed: str) -> Iterator[Item]:
    """One item of each group in turn, groups and the items of a group shuffled."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in random.Random(seed).sample(items, len(items)):
        groups[item.group].append(item)
    for round in zip_longest(*groups.values()):
        yield from filter(None, round)


class _Run:
    """One run of indexing: what it has seen and done so far."""

    def __init__(
        self,
        dataset: Dataset,
        task: Task,
        encoders: Mapping[str, Specialist],
        store: CaseStore,
        thumbnail: int,
    ) -> None:
        self._dataset, self._task, self._encoders = dataset, task, encoders
        self._store, self._thumbnail = store, thumbnail
        self._labels: dict[str, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()
        self._relabelled: list[str] = []
        self._unproven = set(encoders)

    def take(self, pictures: Sequence[Picture]) -> None:
        """Embed what the store lacks of these pictures and write it."""
        fresh = dict(self._unseen(pictures))
        held = self._store.get([case.id for case in fresh])
        vectors: dict[str, dict[str, Vectors]] = {case.id: {} for case in fresh}
        for name in self._encoders:
            for case, vector in self._embedded(name, fresh, held):
                vectors[case.id][name] = vector
        entries = []
        for case, image in fresh.items():
            known, lacking = held.get(case.id), vectors[case.id]
            self._counts["added" if known is None else "completed" if lacking else "kept"] += 1
            if known is not None:
                self._compare(case, known.case.labels)
            if known is None or lacking:
                entries.append(Entry(case, lacking, thumbnail_of(image, self._thumbnail)))
        self._store.add(entries)

    def report(self, selected: int, broken: Iterable[Broken]) -> IndexReport:
        """What was done."""
        return IndexReport(
            selected=selected,
            relabelled=tuple(self._relabelled),
            broken=tuple(broken),
            encoders=tuple(self._encoders),
            **self._counts,
        )

    def _unseen(self, pictures: Sequence[Picture]) -> Iterator[tuple[KnownCase, Image]]:
        for picture in pictures:
            case = _known_case(picture, self._dataset, self._task)
            if case.id in self._labels:
                self._counts["duplicates"] += 1
                self._compare(case, self._labels[case.id])
            else:
                self._labels[case.id] = case.labels
                yield case, picture.image

    def _compare(self, case: KnownCase, labels: tuple[str, ...]) -> None:
        if set(case.labels) != set(labels):
            self._relabelled.append(case.source)

    def _embedded(
        self, name: str, fresh: Mapping[KnownCase, Image], held: Mapping[str, Entry]
    ) -> list[tuple[KnownCase, Vectors]]:
        """Vectors of the cases that lack one; one of the others is embedded again to be compared."""
        there = [case for case in fresh if case.id in held and name in held[case.id].vectors]
        lacking = [case for case in fresh if case not in there]
        proof = there[:1] if name in self._unproven else []
        if not lacking and not proof:
            return []
        embedded = self._encoders[name].embed([fresh[case] for case in (*proof, *lacking)])
        if proof:
            _check_same(name, embedded[0], held[proof[0].id].vectors[name])
        # What this run wrote itself needs no proof.
        self._unproven.discard(name)
        return list(zip(lacking, embedded[len(proof) :], strict=True))


def _check_same(encoder: str, vector: Vectors, stored: Vectors) -> None:
    if len(vector) == len(stored) and float(vector @ stored) < SAME_VECTOR:
        raise StoreError(
            f"the store's vectors of encoder {encoder!r} were made by other weights than this specialist's; "
            "index into a new store, or delete the old cases first"
        )


def _check_labels(dataset: Dataset, task: Task) -> None:
    unknown = sorted(set(dataset.labels) - set(task.options)) if task.kind.closed else []
    if unknown:
        raise ConfigurationError(
            f"data set {dataset.name} has labels that task {task.name} lacks: {', '.join(unknown[:5])}"
        )


def _known_case(picture: Picture, dataset: Dataset, task: Task) -> KnownCase:
    return KnownCase(
        sha256=picture.sha256,
        task=task.name,
        labels=picture.item.labels,
        modality=task.modality,
        group=picture.item.group,
        source=f"{dataset.name}/{relative_name(picture.item.path, dataset.folder)}",
        licence=task.licence,
        report=picture.item.report,
    )
