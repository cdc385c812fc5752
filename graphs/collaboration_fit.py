"""What was fitted for a task: weights, limits, held-out scores, and the parts that it holds for.

It lies as ``collaboration.json`` beside the task's specialists. The parts of a collaboration change one by
one; a fit names the version of each, so that it can be told which source it no longer holds for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from ..case import Evidence, ObservedAccuracy, Probability, Record, Task, TaskKind
from ..disk import read_file
from ..errors import ConfigurationError
from .drift import DriftScores
from .fitting import Stack
from .fusion import GENERALIST, SIMILAR, AskLimits
from .pool import Pool

COLLABORATION_FILE = "collaboration.json"
_MAX_BYTES = 2**26
LEAST_OBSERVED = 30
"""What a confidence has meant is told from so many cases at least."""


class FittedParts(Record):
    """The versions that a fit was made for."""

    specialists: Mapping[str, str] = Field(default_factory=dict)
    """By name, the first digits of the weights' hash."""
    store: str = ""
    """Digest of the known cases of the task: which, with which labels."""
    encoder: str = ""
    """In whose space similar cases are found."""
    neighbours: int = 10
    generalist: str = ""
    """Name and version; empty where it was not asked."""
    profile: str = ""
    """Prompt profile and its hash."""


class CandidateScore(Record):
    """How a candidate did out of fold."""

    name: str
    log_loss: float
    margin: float
    """Standard error, by groups, of its log loss minus that of the pool of specialists and similar cases."""
    accuracy: float
    sources: int
    calls: float
    """Questions to the generalist per case."""


class HeldOutScores(Record):
    """Cases that fitted nothing of the decision, one of each patient or group, in a drawn order.

    They hold no name, no image and no group: only how sure the decision was, and whether it was right.
    """

    confidence: tuple[Probability, ...] = ()
    right: tuple[bool, ...] = ()
    eligible: tuple[bool, ...] = ()
    """Whether nothing else spoke against answering alone."""
    truth: tuple[tuple[str, ...], ...] = ()
    said: tuple[tuple[str, ...], ...] = ()
    nearest: tuple[float, ...] = ()
    """Similarity to the nearest known case."""
    independent: bool = False
    """Whether these cases chose nothing at all; False where they stopped or calibrated a specialist."""

    @model_validator(mode="after")
    def _fits(self) -> HeldOutScores:
        if {len(one) for one in (self.right, self.eligible, self.truth, self.said, self.nearest)} - {
            0,
            len(self),
        }:
            raise ValueError("the held-out scores are not of the same cases")
        return self

    def __len__(self) -> int:
        return len(self.confidence)


class CollaborationFit(Record):
    """The decision of a task as it was measured best."""

    format: Literal[1] = 1
    task: str
    task_version: str
    kind: TaskKind
    options: tuple[str, ...]
    rule: Literal["fused", "adaptive"]
    """What ``auto`` means."""
    chosen: tuple[str, ...]
    """Sources of the chosen candidate."""
    quiet: Pool | None = None
    """Of specialists and similar cases."""
    full: Pool | None = None
    """Of the same and the generalist's answer, which it gave with all of them before it."""
    limits: AskLimits | None = None
    stack: Stack | None = None
    """Stacking of specialists and similar cases: nothing decides by it, it is there to be compared with."""
    candidates: tuple[CandidateScore, ...] = ()
    parts: FittedParts
    cases: Annotated[int, Field(ge=0)]
    groups: Annotated[int, Field(ge=0)]
    data: str = ""
    """Hash of the data set, as in the specialists' cards."""
    held_out: HeldOutScores = HeldOutScores()
    reference: tuple[DriftScores, ...] = ()
    """Of the cases of the fit, one of each group: what incoming cases are compared with."""
    observed: tuple[tuple[Probability, ObservedAccuracy], ...] = ()
    """From this confidence on, up to the next: how many answers that fitted nothing, and how many right."""
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the answers given alone at most this share may be wrong, where no setting names another limit."""
    gsco: str = ""

    @model_validator(mode="after")
    def _fits(self) -> CollaborationFit:
        for rule in (self.quiet, self.full):
            if rule is not None and set(rule.options) != set(self.options):
                raise ValueError("the pool has other options than the task")
        return self

    @cached_property
    def version(self) -> str:
        """First twelve hex digits of the hash of all that it says."""
        unsaid = {"max_error"} if self.max_error is None else None
        return hashlib.sha256(self.model_dump_json(exclude=unsaid).encode()).hexdigest()[:12]

    def meaning(self, confidence: float) -> ObservedAccuracy | None:
        """What a confidence has meant: the answers about as sure, and how many of them were right."""
        found = None
        for start, observed in self.observed:
            if confidence >= start:
                found = observed
        return found

    def changes(
        self, evidence: Evidence, *, store: str, encoder: str, neighbours: int, generalist: str, profile: str
    ) -> dict[str, str]:
        """Sources that this fit does not hold for, with what has changed.

        Args:
            evidence: of the case; its opinions name the versions of the specialists.
            store: digest of the known cases of the task; empty where it is not known.
            encoder: in whose space similar cases are found.
            neighbours: how many are looked for.
            generalist: name and version of the generalist; empty where it is not loaded.
            profile: of the prompts.
        """
        found: dict[str, str] = {}
        for opinion in evidence.opinions:
            made_for = self.parts.specialists.get(opinion.specialist)
            if made_for is None:
                found[opinion.specialist] = f"Specialist {opinion.specialist} was not there at the fit"
            elif made_for != opinion.version:
                found[opinion.specialist] = f"Specialist {opinion.specialist} has changed since the fit"
        if evidence.similar_cases:
            if self.parts.store and store and store != self.parts.store:
                found[SIMILAR] = "The case store has changed since the fit"
            elif (self.parts.encoder, self.parts.neighbours) != (encoder, neighbours):
                found[SIMILAR] = "Similar cases are searched otherwise than at the fit"
        # A version names the weights, whichever runtime serves them.
        asked = (self.parts.generalist.split(" ")[-1], self.parts.profile)
        if self.parts.generalist and generalist and asked != (generalist.split(" ")[-1], profile):
            found[GENERALIST] = "The generalist or its prompt has changed since the fit"
        return found

    def holds_for(self, task: Task) -> bool:
        """Whether it was made for this very card."""
        return (self.kind, set(self.options)) == (task.kind, set(task.options))


def read_fit(folders: Sequence[Path], task: str) -> CollaborationFit | None:
    """Read what was fitted for a task; of several folders the last one that has a fit counts.

    Args:
        folders: of specialists, laid out as ``TASK/NAME``.
        task: its name.

    Raises:
        ConfigurationError: there is a fit and it cannot be read.
    """
    for folder in reversed(folders):
        path = folder / task / COLLABORATION_FILE
        try:
            return CollaborationFit.model_validate_json(read_file(path, _MAX_BYTES))
        except FileNotFoundError:
            continue
        except (OSError, ValidationError) as error:
            raise ConfigurationError(
                f"{path} is damaged or of another version of gsco, so the task counts as not fitted: "
                f"run `gsco fit {task}` again"
            ) from error
    return None


def observed_meaning(
    confidence: Sequence[float], right: Sequence[bool]
) -> tuple[tuple[float, ObservedAccuracy], ...]:
    """Group answers by how sure they were, so that each group has enough of them to mean something.

    Args:
        confidence: of answers that fitted nothing.
        right: whether each was right.
    """
    order = sorted(zip(confidence, right, strict=True))
    groups = min(8, len(order) // LEAST_OBSERVED)
    found: list[tuple[float, ObservedAccuracy]] = []
    for place in range(groups):
        part = order[place * len(order) // groups : (place + 1) * len(order) // groups]
        start = 0.0 if place == 0 else float(part[0][0])
        observed = ObservedAccuracy(n=len(part), right=sum(one for _, one in part))
        if found and found[-1][0] == start:
            last = found.pop()[1]
            observed = ObservedAccuracy(n=last.n + observed.n, right=last.right + observed.right)
        found.append((start, observed))
    return tuple(found)
