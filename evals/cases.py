"""The cases of a run: a data set's images, with what is true of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..case import Case, Task
from ..errors import ConfigurationError, ImageError
from ..models.data.labels import spelt
from .datasets.example import Example

if TYPE_CHECKING:
    from pathlib import Path

    from .._support.progress import Progress
    from ..images import ImageStore
    from ..models.dataset import Dataset

T = TypeVar("T")


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


def sampled(items: Sequence[T], limit: int | None, seed: int, *, by: Callable[[T], str | Path]) -> list[T]:
    """Draw a random sample; a larger one holds every smaller one, and the order is kept.

    Args:
        items: to draw from.
        limit: how many; None takes all.
        seed: of the draw.
        by: an order of the items that does not depend on where they stand.
    """
    if limit is None or limit >= len(items):
        return list(items)
    order = sorted(range(len(items)), key=lambda place: by(items[place]))
    random.Random(seed).shuffle(order)
    return [items[place] for place in sorted(order[:limit])]


def labelled_examples(
    dataset: Dataset, split: str, task: Task, *, limit: int | None = None, seed: int = 0
) -> list[Example]:
    """Return the images of a split, or a random sample of them, labelled as the task's options are spelt.

    Raises:
        ConfigurationError: the split has no images, the task is open, a label is none of its options, or an
            image is listed twice.
    """
    items = dataset.split(split)
    if not items:
        raise ConfigurationError(f"data set {dataset.name!r} has no {split} images")
    chosen = sampled(items, limit, seed, by=lambda item: item.path)
    labels = spelt([item.labels for item in chosen], task)
    found = [
        Example(item.path.relative_to(dataset.folder).as_posix(), (item.path,), truth, group=item.group)
        for item, truth in zip(chosen, labels, strict=True)
    ]
    if len({one.id for one in found}) < len(found):
        raise ConfigurationError(f"data set {dataset.name!r} lists an image twice; list each once")
    return found


def read_examples(examples: Sequence[Example], images: ImageStore, progress: Progress) -> list[EvalCase]:
    """Put the images of examples into the image store."""
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
