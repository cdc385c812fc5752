"""The arms of a comparison: everything that can decide a case from the same evidence.

Three sorts. *Derived* arms are pure functions of a case's evidence: each specialist, their vote, the mean
of their probabilities, and the similar cases alone. *Generalist* arms put the case to the generalist, with
all, some or none of that evidence in its context, by the same steps as a user's call. *Fitted* arms weigh
what the others say by what was learnt on validation cases (see ``fitting``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..case import Diagnosis, Evidence, Opinion, Task, TaskKind
from ..errors import ConfigurationError
from ..graphs.nodes.decide import PRESENT, present_labels

SPECIALIST = "specialist:"


@dataclass(frozen=True)
class Decision:
    """What an arm says about a case."""

    labels: tuple[str, ...]
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None
    """Probability that the decision is right; for multi-label the least certain one."""
    abstained: bool = False
    text: str | None = None
    """Answer or report, of open tasks."""
    calls: int = 0
    """Questions that were put to the generalist for it."""


class NoEvidence(Exception):
    """The evidence that a derived arm needs is missing for this case; counted as an error of the arm."""


@dataclass(frozen=True)
class DerivedArm:
    """An arm that needs no further model call."""

    name: str
    decide: Callable[[Task, Evidence], Decision]
    """Raises ``NoEvidence``."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of a run's configuration its outcomes depend on.

        All of the evidence, whichever it decides by: an outcome also says whether the case is disputed.
        """
        return ("panel", "retrieval")


@dataclass(frozen=True)
class GeneralistArm:
    """An arm in which the generalist decides."""

    name: str
    moed: bool
    rad: bool
    profile: Literal["paper", "calibrated"] | None = None
    """Prompt profile; None means that of the run."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of a run's configuration its outcomes depend on."""
        evidence = (*(("panel",) if self.moed else ()), *(("retrieval",) if self.rad else ()))
        return ("generalist", self.profile or "profile", "gate", *evidence)


@dataclass(frozen=True)
class FittedArm:
    """An arm whose weights or limits were learnt on validation cases."""

    name: str
    reads: tuple[str, ...]
    """Names of generalist arms whose answers it weighs."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of a run's configuration its outcomes depend on."""
        generalist = ("generalist", "profile", "gate") if self.reads else ()
        return ("panel", "retrieval", "validation", *generalist)


Arm = DerivedArm | GeneralistArm | FittedArm

ALONE = GeneralistArm("generalist", moed=False, rad=False)
GSCO = GeneralistArm("gsco", moed=True, rad=True)
GENERALISTS: tuple[GeneralistArm, ...] = (
    ALONE,
    GeneralistArm("moed", moed=True, rad=False),
    GeneralistArm("rad", moed=False, rad=True),
    GSCO,
    GeneralistArm("gsco-calibrated", moed=True, rad=True, profile="calibrated"),
)
STACKING = FittedArm("stacking", ())
FUSED = FittedArm("gsco-fused", (GSCO.name,))
ADAPTIVE = FittedArm("adaptive", (GSCO.name,))
FITTED = (STACKING, FUSED, ADAPTIVE)
ASKING = frozenset(arm.name for arm in (*GENERALISTS, FUSED, ADAPTIVE))
"""Names of the arms for which a generalist is needed."""


def arms_of(members: Iterable[str], chosen: Sequence[str] = ()) -> list[Arm]:
    """List the arms to run, in the order of a report.

    Args:
        members: names of the panel's specialists.
        chosen: names of arms, where ``specialists`` stands for each of them; empty means all.

    Raises:
        ConfigurationError: a name is no arm.
    """
    derived = [*(_specialist(name) for name in members), VOTE, MEAN, KNN]
    every: list[Arm] = [*derived, STACKING, *GENERALISTS, FUSED, ADAPTIVE]
    if not chosen:
        return every
    names = {arm.name for arm in every}
    if unknown := [name for name in chosen if name not in names and name != "specialists"]:
        known = ", ".join(sorted(names))
        raise ConfigurationError(f"no arm {', '.join(unknown)}; there are: specialists, {known}")
    return [
        arm
        for arm in every
        if arm.name in chosen or ("specialists" in chosen and arm.name.startswith(SPECIALIST))
    ]


def decision_of(diagnosis: Diagnosis) -> Decision:
    """Read the decision from a diagnosis that the graph made."""
    return Decision(
        diagnosis.labels,
        diagnosis.probabilities,
        diagnosis.confidence,
        diagnosis.abstained,
        diagnosis.text,
    )


def disputed(task: Task, evidence: Evidence) -> bool:
    """Whether the evidence contradicts itself: specialists disagree, or similar cases with their vote.

    The generalist plays no part, so that this slice of the cases is the same for every arm.
    """
    said = {frozenset(opinion.labels) for opinion in evidence.opinions if opinion.probabilities}
    if evidence.similar_cases:
        said.add(frozenset(knn(task, evidence).labels))
    return len(said) > 1


def vote(task: Task, evidence: Evidence) -> Decision:
    """Let the majority of the specialists decide; ties go to the larger mean probability.

    The probabilities are the shares of the votes. Of a multi-label task, each option is voted on.
    """
    opinions = _opinions(evidence)
    counts = Counter(label for opinion in opinions for label in opinion.labels)
    shares = {option: counts[option] / len(opinions) for option in task.options}
    means = _mean_probabilities(task, opinions)
    if task.kind is TaskKind.MULTILABEL:
        tied = [option for option in task.options if shares[option] == 0.5]
        settled = {**shares, **{option: float(means[option] >= PRESENT) for option in tied}}
        return _several(task, present_labels(task, settled), shares)
    label = max(task.options, key=lambda option: (shares[option], means[option]))
    return _one(task, label, shares)


def mean(task: Task, evidence: Evidence) -> Decision:
    """Average the specialists' calibrated probabilities."""
    return _from_probabilities(task, _mean_probabilities(task, _opinions(evidence)))


def knn(task: Task, evidence: Evidence) -> Decision:
    """Let the similar cases vote, each with the weight of its (non-negative) cosine similarity."""
    cases = evidence.similar_cases
    if not cases:
        raise NoEvidence("no similar cases")
    weights = [max(case.similarity, 0.0) for case in cases]
    if not sum(weights):
        weights = [1.0] * len(cases)
    shares = {
        option: sum(weight for weight, case in zip(weights, cases, strict=True) if option in case.labels)
        / sum(weights)
        for option in task.options
    }
    return _from_probabilities(task, shares)


VOTE = DerivedArm("vote", vote)
MEAN = DerivedArm("mean", mean)
KNN = DerivedArm("knn", knn)


def _specialist(name: str) -> DerivedArm:
    def decide(task: Task, evidence: Evidence) -> Decision:
        found = next((opinion for opinion in evidence.opinions if opinion.specialist == name), None)
        if found is None:
            raise NoEvidence(f"no opinion of {name}")
        if task.kind is TaskKind.MULTILABEL:
            return _several(task, found.labels, found.probabilities)
        return _one(task, found.labels[0], found.probabilities)

    return DerivedArm(SPECIALIST + name, decide)


def _opinions(evidence: Evidence) -> list[Opinion]:
    opinions = [opinion for opinion in evidence.opinions if opinion.probabilities]
    if not opinions:
        raise NoEvidence("no specialist's opinion")
    return opinions


def _mean_probabilities(task: Task, opinions: Sequence[Opinion]) -> dict[str, float]:
    return {
        option: sum(opinion.probabilities.get(option, 0.0) for opinion in opinions) / len(opinions)
        for option in task.options
    }


def _from_probabilities(task: Task, probabilities: Mapping[str, float]) -> Decision:
    if task.kind is TaskKind.MULTILABEL:
        return _several(task, present_labels(task, probabilities), probabilities)
    return _one(task, max(task.options, key=lambda option: probabilities[option]), probabilities)


def decided(
    task: Task, labels: tuple[str, ...], probabilities: Mapping[str, float], *, calls: int = 0
) -> Decision:
    """Make a decision of labels and the probabilities that stand behind them."""
    if task.kind is TaskKind.MULTILABEL:
        return replace(_several(task, labels, probabilities), calls=calls)
    return replace(_one(task, labels[0], probabilities), calls=calls)


def _one(task: Task, label: str, probabilities: Mapping[str, float]) -> Decision:
    confidence = probabilities.get(label)
    abstained = confidence is not None and confidence < task.abstain_below
    return Decision((label,), dict(probabilities), confidence, abstained)


def _several(task: Task, labels: tuple[str, ...], probabilities: Mapping[str, float]) -> Decision:
    sure = [probabilities[name] if name in labels else 1 - probabilities[name] for name in probabilities]
    confidence = min(sure, default=None)
    abstained = confidence is not None and confidence < task.abstain_below
    return Decision(labels, dict(probabilities), confidence, abstained)
