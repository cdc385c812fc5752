"""One question with its truth, and an opened set of them: the form that every layout comes down to."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...case import Task
from ...disk import file_hash
from ...errors import ConfigurationError
from ...models.splits import Split

if TYPE_CHECKING:
    from .entry import DatasetEntry

Wanted = Literal["train", "val", "test", "all"]


@dataclass(frozen=True)
class Example:
    """One question about one or more images, and what is true."""

    id: str
    """Unique in its set: the image's path relative to the folder, or the question's number."""
    images: tuple[Path, ...]
    """Files; arrays are unpacked into files when a set is opened."""
    labels: tuple[str, ...] = ()
    """Of closed tasks: the true options, spelt as the task spells them; may be none of a multi-label task."""
    question: str | None = None
    choices: tuple[str, ...] = ()
    """Of multiple-choice questions."""
    answers: tuple[str, ...] = ()
    """Of questions: every answer that is accepted."""
    report: str | None = None
    context: str | None = None
    """What came before: of a conversation, its earlier turns."""
    group: str = ""
    """Patient, lesion or study; it never crosses splits."""
    split: Split | Literal[""] = ""
    """Empty only until the splits of a set that has none are drawn."""
    extras: Mapping[str, str] = field(default_factory=dict)
    """What else the set says, such as age, sex, view; ``answer_type`` is OPEN or CLOSED."""

    @property
    def closed(self) -> bool:
        """Whether a question has a fixed set of answers."""
        return self.extras.get("answer_type", "OPEN") == "CLOSED"


@dataclass(frozen=True)
class OpenDataset:
    """The examples of one split of a set, with the task that they ask."""

    name: str
    folder: Path
    task: Task
    split: Wanted
    examples: tuple[Example, ...]
    counts: Mapping[str, int]
    """Examples of each split, whichever is opened."""
    entry: DatasetEntry | None = None
    """What the registry says of it; None for folders that it does not know."""
    edition: str = ""
    """Which of the published layouts was found."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know: what was left out, and why."""
    labelled_sha256: str = ""
    """Of a labelled folder: the hash that training puts into a specialist's card."""

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    def labels(self) -> dict[str, int]:
        """Count the examples of each label."""
        return dict(sorted(Counter(label for one in self.examples for label in one.labels).items()))

    @cached_property
    def sha256(self) -> str:
        """Hash over everything that is asked and true, and over the content of every image.

        Of a labelled folder it is the hash in the cards of the specialists that were trained on it. Of other
        layouts it reads each image once; the same content has the same hash wherever it lies.

        Raises:
            ConfigurationError: an image's file is gone.
        """
        if self.labelled_sha256:
            return self.labelled_sha256
        lines = sorted(json.dumps(self._content(one), ensure_ascii=False) for one in self.examples)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _content(self, one: Example) -> list[object]:
        files = [_file_hash(path) for path in one.images]
        said = [one.labels, one.question, one.choices, one.answers, one.report, one.context]
        return [one.id, *said, one.group, one.split, files]


def _file_hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise ConfigurationError(f"image {path.name} of the data set cannot be read: {error}") from error
