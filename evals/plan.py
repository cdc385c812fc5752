"""What a run is to replay, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..case import Record
from ..graphs.fusion import RuleWanted
from ..models.generalist.prompts import ProfileName
from .leakage import LeakPolicy

if TYPE_CHECKING:
    from ..agent.api import Policies


class Plan(Record):
    """What is replayed, and how."""

    arms: tuple[str, ...] = ()
    """Names of arms, ``specialists`` for each of them; empty means all."""
    split: Literal["train", "val", "test"] = "test"
    limit: int | None = Field(default=None, gt=0)
    """Only a random sample of so many cases."""
    profile: ProfileName = "paper"
    decision: RuleWanted = "auto"
    """Which rule ``gsco`` decides by."""
    neighbours: int = Field(default=10, ge=0)
    gate: Literal["refuse", "warn", "off"] = "warn"
    """Cases of a data set are known to be of the task's modality: by default nothing is refused."""
    near_duplicates: float | None = None
    """Known cases more similar than this are not retrieved."""
    leaks: LeakPolicy = "refuse"
    refuse_training: bool = False
    """Refuse cases of a split that trained a specialist of the task."""
    concurrency: int = Field(default=64, gt=0)
    """Cases that are in hand at once; what a kill loses at most."""
    retries: int = Field(default=2, ge=0)
    """How often a generalist that cannot be reached is asked again."""
    retry_wait: float = Field(default=0.5, ge=0)
    """Seconds before the first of these; twice as many before each further one."""
    seed: int = 0

    @property
    def policies(self) -> Policies:
        """What the plan sets of each diagnosis."""
        return {
            "profile": self.profile,
            "neighbours": self.neighbours,
            "gate": self.gate,
            "near_duplicates": self.near_duplicates,
            "decision": self.decision,
        }
