"""The four parts of a build's data: train, fit, certify and test. No group is in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ..._support.jsonl import read_log, write_atomically
from ...agent.builds import PARTS_FILE
from ...case import Record
from ...errors import ConfigurationError
from ...models.dataset import Dataset, Item
from ...models.splits import Shares, draw_splits
from ..task_fit import halves

Part = Literal["train", "fit", "certify", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
SHARES: Shares = (0.6, 0.2, 0.2)
"""Of images without given splits; the middle one is for the fit and, where it is large, the certificate."""


class PartItem(Record):
    """One image of a build, as it is written down."""

    part: Part
    path: str
    """Absolute."""
    labels: tuple[str, ...]
    group: str
    traits: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DataParts:
    """A data set in its four parts."""

    dataset: Dataset
    items: Mapping[Part, tuple[Item, ...]]

    def __getitem__(self, part: Part) -> tuple[Item, ...]:
        return self.items[part]

    @property
    def training(self) -> Dataset:
        """What specialists learn from: train, with the images of the fit as validation split."""
        return self._chosen({"train": "train", "fit": "val"})

    @property
    def known(self) -> Dataset:
        """All that a panel of heads learns from, and retrieval finds."""
        return self._chosen({"train": "train", "fit": "train"})

    @property
    def fitting(self) -> Dataset:
        """What the decision of other panels is fitted and certified on, as validation split."""
        return self._chosen({"fit": "val", "certify": "val"})

    @property
    def certifying(self) -> Dataset:
        """What the decision is certified on, as validation split."""
        return self._chosen({"certify": "val"})

    @property
    def testing(self) -> Dataset:
        """The test images."""
        return self._chosen({"test": "test"})

    @property
    def certified_groups(self) -> frozenset[str]:
        """Groups of the part for the certificate."""
        return frozenset(item.group for item in self["certify"])

    def counts(self) -> dict[str, dict[Part, int]]:
        """Images by label and part."""
        found = {part: Counter(label for item in self[part] for label in item.labels) for part in PARTS}
        return {label: {part: found[part][label] for part in PARTS} for label in self.dataset.labels}

    def _chosen(self, splits: Mapping[Part, Literal["train", "val", "test"]]) -> Dataset:
        items = tuple(
            replace(item, split=split) for part, split in splits.items() for item in self.items[part]
        )
        # The test images stay the same ones while the others grow.
        start = [] if set(splits) == {"test"} else [self.dataset.sha256]
        text = "\n".join([*start, *(f"{item.split} {item.path} {item.group}" for item in items)])
        return replace(self.dataset, items=items, sha256=hashlib.sha256(text.encode()).hexdigest())


def divide(dataset: Dataset, seed: int = 0) -> DataParts:
    """Divide a data set: validation images are shared by fit and certificate where there are enough groups.

    A data set without test images gives its validation images for them, and new ones are drawn from train.

    Raises:
        ConfigurationError: it has no training, validation or test images.
    """
    train, validation, test = (dataset.split(name) for name in ("train", "val", "test"))
    if not test:
        test, validation = validation, []
    if not validation and train:
        drawn = draw_splits(
            [item.group for item in train], [item.labels for item in train], seed=seed, shares=(0.8, 0.2, 0.0)
        )
        validation = [item for item, split in zip(train, drawn, strict=True) if split == "val"]
        train = [item for item, split in zip(train, drawn, strict=True) if split == "train"]
    if not (train and validation and test):
        raise ConfigurationError(
            f"data set {dataset.name!r} is too small to build on: it has {len(train)} images to learn from, "
            f"{len(validation)} to choose and {len(test)} to measure by, of different patients or groups"
        )
    fit, certify = halves(validation, seed)
    return DataParts(
        dataset,
        {"train": tuple(train), "fit": tuple(fit), "certify": tuple(certify), "test": tuple(test)},
    )


def write_parts(parts: DataParts, folder: Path) -> None:
    """Write which image is in which part."""
    lines = [
        PartItem(
            part=part,
            path=str(item.path.absolute()),
            labels=item.labels,
            group=item.group,
            traits=item.traits,
        )
        for part in PARTS
        for item in parts[part]
    ]
    write_atomically(folder / PARTS_FILE, "".join(line.model_dump_json() + "\n" for line in lines))


def read_parts(folder: Path) -> list[PartItem]:
    """Read which image is in which part."""
    return list(read_log(folder / PARTS_FILE, PartItem))


def extended(known: Sequence[PartItem], dataset: Dataset, added: Dataset) -> DataParts:
    """Put new images into train and leave the other parts as they are.

    A new image of a group that fits, certifies or tests already is left out.

    Args:
        known: the parts of the build that grows.
        dataset: of its images.
        added: the new images.
    """
    kept = {line.group for line in known if line.part != "train"}
    there = {line.path for line in known}
    items: dict[Part, list[Item]] = {part: [] for part in PARTS}
    for line in known:
        split = {"train": "train", "test": "test"}.get(line.part, "val")
        item = Item(Path(line.path), line.labels, line.group, split, traits=line.traits)  # type: ignore[arg-type]
        items[line.part].append(item)
    new = [one for one in added.items if one.group not in kept and str(one.path.absolute()) not in there]
    items["train"] += [replace(one, split="train") for one in new]
    text = "\n".join([dataset.sha256, added.sha256])
    whole = replace(
        dataset,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        items=tuple(item for part in PARTS for item in items[part]),
    )
    return DataParts(whole, {part: tuple(items[part]) for part in PARTS})
