"""The arms of a comparison: everything that can decide a case from the same evidence.

*Derived* arms are pure functions of a case's evidence and of what was fitted for the task: each specialist,
their vote, the mean of their probabilities, the similar cases alone, and stacking. *Generalist* arms follow
the published protocol, in which the generalist's word is the decision, with all, some or none of the evidence
in its context. ``gsco`` is what ships: the decision that ``GSCo.diagnose`` gives for the case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..case import Diagnosis, Evidence, Opinion, Task, TaskKind
from ..errors import ConfigurationError
from ..graphs.fusion import SIMILAR, labels_of, similar_shares, sources_of
from ..graphs.pool import PRESENT
from .abilities.ability_arms import AbilityArm

if TYPE_CHECKING:
    from ..graphs.collaboration_fit import CollaborationFit

SPECIALIST = "specialist:"


@dataclass(frozen=True)
class ArmDecision:
    """What an arm says about a case."""

    labels: tuple[str, ...]
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None
    """Probability that the decision is right, all labels of a multi-label case together."""
    abstained: bool = False
    text: str | None = None
    """Answer or report, of open tasks."""


class NoEvidence(Exception):
    """The evidence that a derived arm needs is missing for this case; counted as an error of the arm."""


Decide = Callable[[Task, Evidence, "CollaborationFit | None"], ArmDecision]


@dataclass(frozen=True)
class DerivedArm:
    """An arm that needs no further model call."""

    name: str
    decide: Decide
    """Raises ``NoEvidence``."""
    fitted: bool = False
    """Whether it needs a fit of the task."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of a run's configuration its outcomes depend on.

        All of the evidence, whichever it decides by: an outcome also says whether the case is disputed.
        """
        return ("panel", "retrieval", *(("fit",) if self.fitted else ()))


@dataclass(frozen=True)
class GeneralistArm:
    """An arm in which the generalist's word is the decision: the published protocol."""

    name: str
    moed: bool
    rad: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of a run's configuration its outcomes depend on."""
        evidence = (*(("panel",) if self.moed else ()), *(("retrieval",) if self.rad else ()))
        return ("generalist", "profile", "gate", *evidence)


@dataclass(frozen=True)
class ProductArm:
    """What ships: the rule that is set or fitted, asking the generalist where that rule asks."""

    name: str = "gsco"

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of a run's configuration its outcomes depend on."""
        return ("panel", "retrieval", "generalist", "profile", "gate", "decision", "fit")


Arm = DerivedArm | GeneralistArm | ProductArm | AbilityArm

ALONE = GeneralistArm("generalist", moed=False, rad=False)
PAPER = GeneralistArm("gsco-paper", moed=True, rad=True)
GENERALISTS: tuple[GeneralistArm, ...] = (
    ALONE,
    GeneralistArm("moed", moed=True, rad=False),
    GeneralistArm("rad", moed=False, rad=True),
    PAPER,
)
GSCO = ProductArm()
ASKING = frozenset(arm.name for arm in (*GENERALISTS, GSCO))
"""Names of the arms for which a generalist may be needed."""


def arms_of(members: Iterable[str], chosen: Sequence[str] = ()) -> list[Arm]:
    """List the arms to run, in the order of a report.

    Args:
        members: names of the panel's specialists.
        chosen: names of arms, where ``specialists`` stands for each of them; empty means all. ``evidence``
            decides nothing and is never among all: it is there to gather evidence.

    Raises:
        ConfigurationError: a name is no arm.
    """
    every: list[Arm] = [
        *(_specialist(name) for name in members),
        VOTE,
        MEAN,
        KNN,
        STACKING,
        *GENERALISTS,
        GSCO,
    ]
    if not chosen:
        return every
    every.append(EVIDENCE_ONLY)
    names = {arm.name for arm in every}
    if unknown := [name for name in chosen if name not in names and name != "specialists"]:
        known = ", ".join(sorted(names))
        raise ConfigurationError(f"no arm {', '.join(unknown)}; available: specialists, {known}")
    return [
        arm
        for arm in every
        if arm.name in chosen or ("specialists" in chosen and arm.name.startswith(SPECIALIST))
    ]


def best_single_source(
    fit: CollaborationFit | None, reliabilities: Mapping[str, float | None], known_cases: bool
) -> tuple[str, str]:
    """Choose the single source that validation cases favour, without a look at the cases of the run.

    Args:
        fit: of the task; its candidates were scored out of fold.
        reliabilities: by specialist, balanced accuracy on its own validation cases.
        known_cases: whether there are similar cases.

    Returns:
        Name of its arm, and what it was chosen by; two empty strings where there is no source.
    """
    if fit is not None:
        single = [one for one in fit.candidates if one.name == SIMILAR or one.name in fit.parts.specialists]
        if single:
            best = max(single, key=lambda one: (one.accuracy, -one.log_loss))
            name = KNN.name if best.name == SIMILAR else SPECIALIST + best.name
            return name, f"accuracy on the {fit.cases} cases of the fit"
    measured = {name: value for name, value in reliabilities.items() if value is not None}
    if measured:
        best_name = max(measured, key=lambda name: (measured[name], name))
        return SPECIALIST + best_name, "balanced accuracy on the specialists' validation cases"
    return (KNN.name, "there is no other") if known_cases else ("", "")


def decision_of(diagnosis: Diagnosis) -> ArmDecision:
    """Read the decision from a diagnosis that the graph made."""
    return ArmDecision(
        diagnosis.labels,
        diagnosis.probabilities,
        diagnosis.confidence,
        diagnosis.abstained,
        diagnosis.text,
    )


def vote(task: Task, evidence: Evidence, _: CollaborationFit | None = None) -> ArmDecision:
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
        return decided(task, labels_of(task, settled), shares)
    return decided(task, (max(task.options, key=lambda option: (shares[option], means[option])),), shares)


def mean(task: Task, evidence: Evidence, _: CollaborationFit | None = None) -> ArmDecision:
    """Average the specialists' calibrated probabilities."""
    means = _mean_probabilities(task, _opinions(evidence))
    return decided(task, labels_of(task, means), means)


def knn(task: Task, evidence: Evidence, _: CollaborationFit | None = None) -> ArmDecision:
    """Let the similar cases vote, each with the weight of its (non-negative) cosine similarity.

    Half a case is added to each option, as where they are a source of the decision.
    """
    if not evidence.similar_cases:
        raise NoEvidence("no similar cases")
    labels = labels_of(task, similar_shares(task, evidence.similar_cases, 0.0))
    return decided(task, labels, similar_shares(task, evidence.similar_cases))


def stacking(task: Task, evidence: Evidence, fit: CollaborationFit | None) -> ArmDecision:
    """Logistic regression on what specialists and similar cases say, fitted with the collaboration."""
    if fit is None or fit.stack is None:
        raise NoEvidence(f"nothing was fitted for {task.name}")
    try:
        stacked = fit.stack(sources_of(task, evidence))
    except LookupError as error:
        raise NoEvidence(str(error)) from error
    return decided(task, fit.stack.labels(stacked), stacked)


VOTE = DerivedArm("vote", vote)
MEAN = DerivedArm("mean", mean)
KNN = DerivedArm("knn", knn)
STACKING = DerivedArm("stacking", stacking, fitted=True)
EVIDENCE_ONLY = DerivedArm("evidence", lambda task, evidence, fit: ArmDecision(()))


def decided(task: Task, labels: tuple[str, ...], probabilities: Mapping[str, float]) -> ArmDecision:
    """Make a decision of labels and the probabilities that stand behind them."""
    if task.kind is TaskKind.MULTILABEL:
        sure = [probabilities[name] if name in labels else 1 - probabilities[name] for name in probabilities]
        confidence = float(np.prod(sure))
    else:
        confidence = probabilities[labels[0]]
    return ArmDecision(labels, dict(probabilities), confidence, confidence < task.abstain_below)


def _specialist(name: str) -> DerivedArm:
    def decide(task: Task, evidence: Evidence, _: CollaborationFit | None) -> ArmDecision:
        found = next((opinion for opinion in evidence.opinions if opinion.specialist == name), None)
        if found is None:
            raise NoEvidence(f"no opinion of {name}")
        return decided(task, found.labels, found.probabilities)

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
