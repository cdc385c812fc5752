"""Who takes part in a diagnosis, and under which policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ..case import Answer, Case, Task
    from ..models.generalist.prompts import Profile
    from ..models.generalist.protocol import Choice
    from ..settings import EvidencePolicy
    from ..tasks import TaskBook
    from ..tools.retrieval import Retrieval
    from ..tools.specialists import Specialists
    from ..tools.stores.protocol import Exclusion

GatePolicy = Literal["refuse", "warn", "off"]


@dataclass(frozen=True)
class Collaboration:
    """The graph's runtime context: everything that is not part of a case, and so not of its state."""

    tasks: TaskBook
    specialists: Specialists
    retrieval: Retrieval
    choose: Callable[[Choice], Awaitable[Answer]]
    """Asks the generalist a closed question; raises ``GeneralistError``."""
    generate: Callable[[Sequence[BaseMessage]], Awaitable[str]]
    """Asks the generalist an open question; raises ``GeneralistError``."""
    generalist: str
    """The generalist's name and version, as it stands in every diagnosis."""
    profile: Profile
    neighbours: int = 10
    moed: EvidencePolicy = "prefer"
    rad: EvidencePolicy = "prefer"
    gate: GatePolicy = "refuse"
    near_duplicates: float | None = None
    """Known cases more similar than this are taken for copies of the case and not retrieved."""

    given: Task | None = None
    """A task card that the caller brought along; it goes before one of that name in ``tasks``."""

    def task(self, name: str) -> Task:
        """Find a task card.

        Raises:
            TaskUnknown: there is none of that name.
        """
        return self.given if self.given is not None and self.given.name == name else self.tasks.get(name)

    def exclusion(self, case: Case) -> Exclusion:
        """What retrieval must not find: the case itself, its patient, its near-duplicates."""
        from ..tools.stores.protocol import Exclusion

        return Exclusion(
            sha256s=frozenset(image.sha256 for image in case.images),
            groups=frozenset([case.group] if case.group else ()),
            above_similarity=self.near_duplicates,
        )
