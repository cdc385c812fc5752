"""From a run's outcomes to its numbers: every one with its n, and with an interval where it has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from ..case import Record, Task, TaskKind
from ..models.metrics.answers import Answers, Bools, Floats, answers
from ..models.metrics.calibration import (
    Bin,
    aurc,
    calibration_floor,
    error_at_coverage,
    reliability,
    risk_coverage,
)
from ..models.metrics.draws import ROUNDS, bootstrap
from ..models.metrics.registry import METRICS, contributions, kernels
from .arms import ALONE, ASKING, GSCO, KNN, MEAN, PAPER, STACKING, VOTE
from .metrics.uncertainty import Difference, Estimate, difference, estimates, holm, share, sign_flip
from .records import Outcome

COMPARED = ("accuracy", "balanced_accuracy", "log_loss")
"""Metrics whose difference between arms is tested."""
REFERENCES = (VOTE.name, MEAN.name, STACKING.name, KNN.name, ALONE.name, PAPER.name)
"""What ``gsco`` is compared with, beside the best single source."""
AVERAGED = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "log_loss")
"""Metrics that are averaged over the sets of a suite."""
_POINTS = 100
_BINS = 10


class Selective(Record):
    """Errors where the least sure answers are left to a person."""

    full: float
    """Error over all cases with probabilities."""
    at_80: float
    """Error over the surest 80 % of them."""
    aurc: float
    """Area under the risk–coverage curve."""
    curve: tuple[tuple[float, float], ...]
    """Coverage and error, from the surest case to all."""


class ArmScore(Record):
    """One arm's numbers."""

    arm: str
    n: int
    errors: int
    """Cases without an answer; they count as wrong."""
    unread: int
    """Those among them in which the generalist's text matched no option."""
    metrics: Mapping[str, Estimate]
    ece_floor: float | None = None
    """ECE that answers as sure as these would show if they were perfectly calibrated."""
    coverage: Estimate
    """Share of all cases that it answered without abstaining."""
    covered_accuracy: Estimate | None
    """Accuracy on those."""
    disputed_accuracy: Estimate | None
    """Accuracy where specialists and similar cases contradict each other."""
    undisputed_accuracy: Estimate | None
    """Accuracy where they agree."""
    selective: Selective | None = None
    """How errors fall where it may abstain; None without probabilities."""
    reliability: tuple[Bin, ...] = ()
    """How often it is right by how sure it is."""
    calls: float = 0.0
    """Questions to the generalist per case."""
    seconds: float | None = None
    """Median seconds that a decision of the generalist took, waiting among other cases included."""


class Comparison(Record):
    """One arm against a reference on the same cases."""

    arm: str
    reference: str
    differences: Mapping[str, Difference]
    """By metric, arm minus reference: interval by bootstrap, p by sign flips, both of whole groups."""
    adjusted: Mapping[str, float]
    """p-values by metric after Holm, over all comparisons of the task."""


class Influence(Record):
    """What evidence does to the generalist."""

    arm: str
    rescued: Estimate | None
    """Of the cases that the generalist alone has wrong, the share that the arm has right."""
    misled: Estimate | None
    """Of the cases that it alone has right, the share that the arm has wrong."""


class Failure(Record):
    """A case on which an arm said nothing."""

    arm: str
    case: str
    error: str


class Scores(Record):
    """A run's numbers."""

    n: int
    """Cases that every arm has finished; all numbers are over these."""
    groups: int
    """Patients or groups that they belong to; the bootstrap draws these."""
    arms: tuple[ArmScore, ...]
    best_source: str = ""
    """Arm of the single source that validation cases favour; empty where there is none."""
    same: Mapping[str, str] = Field(default_factory=dict)
    """Arms that decided every case as another one did, with that other one; they are compared once."""
    comparisons: tuple[Comparison, ...]
    influences: tuple[Influence, ...]
    failures: tuple[Failure, ...]
    rounds: int
    seed: int


@dataclass(frozen=True)
class ArmColumn:
    """An arm's outcomes in the order of the cases, its answers, and its metrics on every draw."""

    outcomes: Sequence[Outcome]
    answers: Answers
    drawn: Mapping[str, Floats]
    parts: Mapping[str, Floats]
    """What each case adds to a metric."""
    groups: Sequence[str]

    @property
    def right(self) -> Bools:
        """Which cases are right, (n,)."""
        return self.answers.right

    def value(self, metric: str) -> float:
        """A metric on the cases themselves."""
        return METRICS[metric](self.answers)


def scored(
    task: Task,
    outcomes: Mapping[str, Sequence[Outcome]],
    *,
    best_source: str = "",
    rounds: int = ROUNDS,
    seed: int = 0,
) -> tuple[Scores, dict[str, ArmColumn]]:
    """Score arms on the same cases, and return by arm what their intervals and tests come from.

    Args:
        task: a closed task.
        outcomes: by arm, in the order of a report; each in the same order of cases.
        best_source: arm of the single source that validation cases favour.
        rounds: bootstrap draws.
        seed: of the draws.
    """
    columns = columns_of(task, outcomes, rounds, seed)
    first = next(iter(outcomes.values()), ())
    groups = [outcome.group or outcome.case for outcome in first]
    disputed, agreed = _dispute(outcomes.values())
    best = best_source if best_source in columns else ""
    same = _same(columns)
    scores = Scores(
        n=len(first),
        groups=len(set(groups)),
        arms=tuple(_arm_score(name, column, disputed, agreed) for name, column in columns.items()),
        best_source=best,
        same=same,
        comparisons=_comparisons(columns, best, same),
        influences=_influences(columns),
        failures=tuple(
            Failure(arm=name, case=outcome.case, error=outcome.error)
            for name, several in outcomes.items()
            for outcome in several
            if outcome.error is not None
        ),
        rounds=rounds,
        seed=seed,
    )
    return scores, columns


def answers_of(task: Task, outcomes: Sequence[Outcome]) -> Answers:
    """Turn an arm's outcomes into arrays."""
    return answers(
        [outcome.truth for outcome in outcomes],
        [outcome.labels if outcome.error is None else None for outcome in outcomes],
        [outcome.probabilities if outcome.error is None else None for outcome in outcomes],
        task.options,
        exclusive=task.kind is TaskKind.DIAGNOSIS,
        confidence=[outcome.confidence for outcome in outcomes],
    )


def columns_of(
    task: Task,
    outcomes: Mapping[str, Sequence[Outcome]],
    rounds: int,
    seed: int,
    metrics: Collection[str] = METRICS,
) -> dict[str, ArmColumn]:
    """Compute metrics of arms on the same draws, so that their differences are paired ones."""
    given = {name: answers_of(task, several) for name, several in outcomes.items()}
    groups = [outcome.group or outcome.case for outcome in next(iter(outcomes.values()), ())]
    if not groups:
        return {}
    # One call for all arms: the draws of two arms can only be subtracted where they are the same ones.
    every = {
        (name, metric): kernel
        for name, one in given.items()
        for metric, kernel in kernels(one).items()
        if metric in metrics
    }
    drawn = bootstrap(every, groups, rounds=rounds, seed=seed)
    return {
        name: ArmColumn(
            several,
            given[name],
            {metric: drawn[name, metric] for metric in metrics},
            contributions(given[name]),
            groups,
        )
        for name, several in outcomes.items()
    }


def _same(columns: Mapping[str, ArmColumn]) -> dict[str, str]:
    """Arms that say and state of every case what an earlier one does."""
    found: dict[str, str] = {}
    names = list(columns)
    for place, name in enumerate(names):
        mine = columns[name].answers
        for earlier in names[:place]:
            theirs = columns[earlier].answers
            alike = (mine.said == theirs.said).all() and (mine.answered == theirs.answered).all()
            if alike and np.allclose(mine.probabilities, theirs.probabilities, atol=1e-6, equal_nan=True):
                found[name] = found.get(earlier, earlier)
                break
    return found


def _dispute(outcomes: Iterable[Sequence[Outcome]]) -> tuple[Bools, Bools]:
    """Which cases are disputed and which are not; arms that do not see the evidence cannot tell."""
    by_arm = [[outcome.disputed for outcome in several] for several in outcomes]
    disputed = np.array([True in told for told in zip(*by_arm, strict=True)], dtype=bool)
    agreed = np.array([False in told for told in zip(*by_arm, strict=True)], dtype=bool)
    return disputed, agreed & ~disputed


def _arm_score(name: str, column: ArmColumn, disputed: Bools, agreed: Bools) -> ArmScore:
    right, outcomes, groups = column.right, column.outcomes, column.groups
    covered = np.array([outcome.error is None and not outcome.abstained for outcome in outcomes], dtype=bool)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    coverage = share(covered, groups)
    assert coverage is not None, "a column has cases"
    floor = calibration_floor(column.answers)
    return ArmScore(
        arm=name,
        n=column.answers.n,
        errors=len(errors),
        unread=Counter(error.split(":")[0] for error in errors)["AnswerUnparsed"],
        metrics=estimates(column.answers, column.drawn),
        ece_floor=None if np.isnan(floor) else floor,
        coverage=coverage,
        covered_accuracy=share(right, groups, covered),
        disputed_accuracy=share(right, groups, disputed),
        undisputed_accuracy=share(right, groups, agreed),
        selective=selective(column.answers),
        reliability=reliability(column.answers, _BINS),
        calls=float(np.mean([outcome.calls for outcome in outcomes])),
        seconds=_median_seconds(outcomes),
    )


def selective(given: Answers) -> Selective | None:
    """Follow the error from the surest answers to all of them; None without probabilities."""
    curve = risk_coverage(given)
    if not len(curve.risk):
        return None
    last = len(curve.risk) - 1
    shown = np.unique(np.linspace(0, last, min(last + 1, _POINTS)).round().astype(int))
    return Selective(
        full=float(curve.risk[-1]),
        at_80=error_at_coverage(given),
        aurc=aurc(given),
        curve=tuple((round(float(curve.coverage[at]), 4), round(float(curve.risk[at]), 4)) for at in shown),
    )


def _median_seconds(outcomes: Sequence[Outcome]) -> float | None:
    spent = [sum(outcome.seconds.values()) for outcome in outcomes if outcome.calls and outcome.seconds]
    return float(np.median(spent)) if spent else None


def pairs_of(names: Sequence[str], best: str, same: Mapping[str, str]) -> list[tuple[str, str]]:
    """Which arms are compared with which.

    What ships is compared with everything that could decide in its place, and the published protocol with
    the best single source; evidence is worth what it adds to the generalist alone. An arm that only bears
    another name than one already compared is left out.

    Args:
        names: of the arms that there are.
        best: the best single source; empty where there is none.
        same: see ``Scores.same``.
    """
    wanted = [(GSCO.name, reference) for reference in (best, *REFERENCES)]
    wanted += [(PAPER.name, best), *((arm, ALONE.name) for arm in ("moed", "rad", PAPER.name))]
    found: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()
    for arm, reference in wanted:
        own = same.get(arm, arm), same.get(reference, reference)
        if arm in names and reference in names and own[0] != own[1] and own not in seen:
            seen.add(own)
            found.append((arm, reference))
    return found


def _comparisons(
    columns: Mapping[str, ArmColumn], best: str, same: Mapping[str, str]
) -> tuple[Comparison, ...]:
    pairs = pairs_of(list(columns), best, same)
    found = [
        defined({metric: difference_of(metric, columns[name], columns[other]) for metric in COMPARED})
        for name, other in pairs
    ]
    return tuple(
        Comparison(arm=name, reference=other, differences=differences, adjusted=adjusted)
        for (name, other), differences, adjusted in zip(pairs, found, adjusted_by_holm(found), strict=True)
    )


def defined(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Leave out what the cases do not determine."""
    return {metric: one for metric, one in differences.items() if not np.isnan(one.value)}


def adjusted_by_holm(found: Sequence[Mapping[str, Difference]]) -> list[dict[str, float]]:
    """Adjust the p-values of each metric that all comparisons have for their number."""
    tested = [metric for metric in COMPARED if all(metric in one for one in found)]
    adjusted = {metric: holm([one[metric].p for one in found]) for metric in tested}
    return [{metric: adjusted[metric][place] for metric in tested} for place in range(len(found))]


def difference_of(metric: str, arm: ArmColumn, reference: ArmColumn) -> Difference:
    """Compare two arms by a metric: interval by bootstrap, p by sign flips where it is a sum over cases."""
    value = arm.value(metric) - reference.value(metric)
    mine, theirs = arm.parts.get(metric), reference.parts.get(metric)
    p = None if mine is None or theirs is None else sign_flip(mine - theirs, arm.groups)
    return difference(value, arm.drawn[metric] - reference.drawn[metric], arm.answers.n, p)


def _influences(columns: Mapping[str, ArmColumn]) -> tuple[Influence, ...]:
    if ALONE.name not in columns:
        return ()
    alone = columns[ALONE.name].right
    return tuple(
        Influence(
            arm=name,
            rescued=share(column.right, column.groups, ~alone),
            misled=share(~column.right, column.groups, alone),
        )
        for name, column in columns.items()
        if name in ASKING and name != ALONE.name
    )
