"""What is shown of an ability: the images that are asked about, and one record for each answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...case import Case, ImageRef, Record, Task

if TYPE_CHECKING:
    from ...models.generalist.protocol import Generalist

LOG = "abilities.jsonl"
"""The records of a run, in its folder."""


class AbilityRecord(Record):
    """What the generalist showed of one ability on one case."""

    ability: str
    task: str
    case: str
    generalist: str
    """Version of its weights."""
    right: int
    """1 or 0."""
    stated: int
    expected: int
    said: str
    error: str | None = None
    truth: str = ""


@dataclass(frozen=True)
class AbilityImage:
    """One image to be asked about."""

    id: str
    task: Task
    case: Case
    truth: tuple[str, ...] = ()

    @property
    def ref(self) -> ImageRef:
        """The image."""
        return self.case.images[0]


def is_answered(shown: AbilityRecord, generalist: Generalist) -> bool:
    """Whether a record of a run holds an answer of this very generalist."""
    return shown.error is None and shown.generalist == generalist.version
