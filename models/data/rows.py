"""What every layout of a data set comes down to: one row per labelled image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..splits import Split

SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""How people write the names of splits."""

_BESIDE = re.compile(r"^(images?|imgs?|data|dataset|set|split|\d+)$")


@dataclass(frozen=True)
class LabelledRow:
    """One labelled image."""

    path: str
    """Relative to the data set's folder, with forward slashes, or absolute."""
    labels: tuple[str, ...]
    group: str | None = None
    split: Split | None = None
    report: str | None = None
    line: int | None = None
    """Where it stands in a table."""
    traits: tuple[tuple[str, str], ...] = ()
    """Column and value of what else is told of it, such as age and sex."""


@dataclass
class DatasetLayout:
    """What was found in a folder or file, and how it was understood."""

    rows: list[LabelledRow]
    kind: str
    """In words, such as ``a folder per class``."""
    multilabel: bool = False
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Files that are not part of the set, by reason."""

    def leave_out(self, reason: str, path: str) -> None:
        """Remember a file that is not part of the set."""
        self.left_out.setdefault(reason, []).append(path)


def split_named(name: str) -> Split | None:
    """The split that a name stands for: ``Training``, ``valid``, ``train2017``; None for others."""
    words = [word for word in re.split(r"[^a-z]+|(?<=[a-z])(?=\d)", name.casefold()) if word]
    named: list[Split] = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    others = [word for word in words if word not in SPLIT_NAMES and not _BESIDE.match(word)]
    return named[0] if len(named) == 1 and not others else None
