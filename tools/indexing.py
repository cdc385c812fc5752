"""Filling a case store from a data set."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from .._support.progress import Progress
from ..case import Record, Task
from ..errors import ConfigurationError, ImageUnreadable
from ..models.dataset import Dataset, Item, Split
from .entries import CaseOrigin, Made, Maker
from .pictures import Broken, read_pictures
from .retriever import by_encoder, choose_retriever
from .stores.protocol import CaseStore, KnownCase

if TYPE_CHECKING:
    from ..images import ImageLimits
    from ..models.specialist.specialist import TimmSpecialist

__all__ = [
    "IndexReport",
    "IndexWriter",
    "build_index",
    "choose_retriever",
    "chosen_items",
    "spread",
    "write_index",
]

Batches = Iterable[tuple[Sequence[Made], Sequence[Broken]]]
"""What was made of the images, in the data set's order, and which could not be read."""


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
    specialists: Sequence[TimmSpecialist],
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
    items = chosen_items(dataset, task, split=split, per_label=per_label, seed=seed)
    encoders = by_encoder(specialists)
    maker = Maker(CaseOrigin(dataset.name, dataset.folder, task, thumbnail), encoders)
    read = read_pictures(items, dataset.folder, batch_size, limits)
    batches = ((maker.make(pictures, store.get), broken) for pictures, broken in read)
    return write_index(dataset.name, len(items), batches, IndexWriter(store, encoders), quiet=quiet)


def chosen_items(
    dataset: Dataset, task: Task, *, split: Split, per_label: int | None, seed: int
) -> list[Item]:
    """The images that are to be indexed; see ``build_index``.

    Raises:
        ConfigurationError: there are none, or their labels are not the task's.
    """
    _check_labels(dataset, task)
    items = dataset.split(split)
    if not items:
        raise ConfigurationError(f"data set {dataset.name} has no images in its split {split!r}")
    return items if per_label is None else spread(items, per_label, seed)


def write_index(name: str, number: int, batches: Batches, ledger: IndexWriter, *, quiet: bool) -> IndexReport:
    """Write what was made of a data set's images, batch by batch, and show the progress.

    Args:
        name: of the data set.
        number: of its images.
        batches: what was made of them; the next is asked for when the one before is written.
        ledger: writes it.
        quiet: show no progress.

    Raises:
        ImageUnreadable: not one of the images can be read.
        StoreError: the store cannot be written.
    """
    broken: list[Broken] = []
    with Progress(f"indexing {name}", number, quiet=quiet) as progress:
        for made, failures in batches:
            ledger.take(made)
            for failure in failures:
                progress.line(f"skipped {failure.path}: {failure.reason}")
            broken += failures
            progress.advance(len(made) + len(failures))
    if len(broken) == number:
        raise ImageUnreadable(f"none of the {number} images can be read, the first: {broken[0].reason}")
    return ledger.report(number, broken)


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


class IndexWriter:
    """Writes what was made to a store and keeps the books of one run.

    Args:
        store: where the cases go.
        encoders: names, for the report.
    """

    def __init__(self, store: CaseStore, encoders: Iterable[str]) -> None:
        self._store, self._encoders = store, tuple(encoders)
        self._labels: dict[str, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()
        self._relabelled: list[str] = []

    def take(self, made: Sequence[Made]) -> None:
        """Write what the store lacks; of images with the same pixels the first one counts."""
        entries = []
        for one in made:
            case = one.case
            if case.id in self._labels:
                self._counts["duplicates"] += 1
                self._compare(case, self._labels[case.id])
                continue
            self._labels[case.id] = case.labels
            if one.known_as is not None:
                self._compare(case, one.known_as)
            self._counts["added" if one.known_as is None else "completed" if one.entry else "kept"] += 1
            if one.entry is not None:
                entries.append(one.entry)
        self._store.add(entries)

    def report(self, selected: int, broken: Iterable[Broken]) -> IndexReport:
        """What was done."""
        return IndexReport(
            selected=selected,
            relabelled=tuple(self._relabelled),
            broken=tuple(broken),
            encoders=self._encoders,
            **self._counts,
        )

    def _compare(self, case: KnownCase, labels: tuple[str, ...]) -> None:
        if set(case.labels) != set(labels):
            self._relabelled.append(case.source)


def _check_labels(dataset: Dataset, task: Task) -> None:
    unknown = sorted(set(dataset.labels) - set(task.options)) if task.kind.closed else []
    if unknown:
        raise ConfigurationError(
            f"data set {dataset.name} has labels that task {task.name} lacks: {', '.join(unknown[:5])}"
        )
