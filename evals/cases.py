"""The cases of a run: a data set's images, with what is true of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..case import Case, Task
from ..errors import ConfigurationError, ImageError
from ..models.data.labels import spelt
from .datasets.example import Example

if TYPE_CHECKING:
    from .._support.progress import Progress
    from ..images import ImageStore
    from ..models.dataset import Dataset, Item


@dataclass(frozen=True)
class EvalCase:
    """One case of a run."""

    id: str
    """Path of the image, relative to the data set's folder."""
    truth: tuple[str, ...]
    group: str
    case: Case | ImageError
    """The error where the image cannot be used; the case stays in the run and counts as wrong."""
    example: Example | None = None
    """What is true of it beside labels: accepted answers, report, choices."""


def chosen_items(dataset: Dataset, split: str, *, limit: int | None = None, seed: int = 0) -> list[Item]:
    """Choose the items of a split, or a random sample of them; a larger sample holds every smaller one.

    Raises:
        ConfigurationError: the split has no items.
    """
    items = dataset.split(split)
    if not items:
        raise ConfigurationError(f"data set {dataset.name!r} has no {split} images")
    if limit is None or limit >= len(items):
        return items
    order = sorted(range(len(items)), key=lambda place: items[place].path)
    random.Random(seed).shuffle(order)
    return [items[place] for place in sorted(order[:limit])]


def read_cases(
    dataset: Dataset, items: Sequence[Item], task: Task, images: ImageStore, progress: Progress
) -> list[EvalCase]:
    """Put the items' images into the image store.

    Raises:
        ConfigurationError: a label is none of the task's options, or two items are the same file.
    """
    truths = true_labels(items, task)
    read = []
    for item, truth in zip(items, truths, strict=True):
        name = item.path.relative_to(dataset.folder).as_posix()
        try:
            image = images.put(item.path)
            case = Case(id=name, images=(image,), group=item.group or None)
        except ImageError as error:
            case = error
        read.append(EvalCase(name, truth, item.group, case))
        progress.advance()
    if len({asked.id for asked in read}) < len(read):
        raise ConfigurationError(f"data set {dataset.name!r} lists an image twice; list each once")
    return read


def read_examples(examples: Sequence[Example], images: ImageStore, progress: Progress) -> list[EvalCase]:
    """Put the images of an opened set's examples into the image store; see ``datasets.open_dataset``."""
    read = []
    for one in examples:
        try:
            found = tuple(images.put(path) for path in one.images)
            case = Case(
                id=one.id,
                images=found,
                question=one.question,
                context=one.context,
                group=one.group or None,
            )
        except ImageError as error:
            case = error
        read.append(EvalCase(one.id, one.labels, one.group, case, one))
        progress.advance()
    return read


def true_labels(items: Sequence[Item], task: Task) -> list[tuple[str, ...]]:
    """Spell each item's labels as the task's options do; case and the card's aliases are allowed for.

    Raises:
        ConfigurationError: the task is open, or a label is none of its options.
    """
    return spelt([item.labels for item in items], task)
