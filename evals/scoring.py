"""From a run's outcomes to its numbers: every one with its n, and with an interval where it has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..case import Record, Task, TaskKind
from .arms import ALONE, ASKING, SPECIALIST
from .metrics.calibration import aurc, error_at_coverage, risk_coverage
from .metrics.calibration import reliability as binned
from .metrics.diagnosis import METRICS, Answers, Bools, Floats, answers
from .metrics.uncertainty import (
    ROUNDS,
    Difference,
    Estimate,
    bootstrap,
    difference,
    estimates,
    holm,
    kernels,
    mcnemar,
    wilson,
)
from .records import Outcome

COMPARED = ("accuracy", "balanced_accuracy")
"""Metrics whose difference between arms is tested."""
BASELINES = ("vote", "mean", "stacking")
REFERENCES = (ALONE.name, *BASELINES)
"""What arms are compared with, beside the best specialist."""
AVERAGED = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
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


class Bin(Record):
    """Answers that were about equally sure."""

    confidence: float
    accuracy: float
    n: int


class ArmScore(Record):
    """One arm's numbers."""

    arm: str
    n: int
    errors: int
    """Cases without an answer; they count as wrong."""
    unread: int
    """Those among them in which the generalist's text matched no option."""
    metrics: Mapping[str, Estimate]
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
    confusion: tuple[tuple[int, ...], ...] = ()
    """Of a single-label task: cases by true option (row) and by what was said; the last column counts
    cases without an answer."""
    calls: float = 0.0
    """Questions to the generalist per case."""
    seconds: float | None = None
    """Median seconds that a decision of the generalist took, waiting among other cases included."""


class Comparison(Record):
    """One arm against a reference on the same cases."""

    arm: str
    reference: str
    differences: Mapping[str, Difference]
    """By metric: paired bootstrap, arm minus reference."""
    mcnemar: float
    """Exact, two-sided, on accuracy."""
    adjusted: Mapping[str, float]
    """p-values (``mcnemar`` and each metric's) after Holm, over all comparisons of the task."""


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
    best_specialist: str | None
    """The specialist with the largest balanced accuracy on these very cases: a reference that is
    harder to beat than the one that validation data would have chosen."""
    comparisons: tuple[Comparison, ...]
    influences: tuple[Influence, ...]
    failures: tuple[Failure, ...]
    rounds: int
    seed: int


@dataclass(frozen=True)
class _Column:
    """An arm's outcomes in the order of the cases, its answers, and its metrics on every draw."""

    outcomes: Sequence[Outcome]
    answers: Answers
    drawn: Mapping[str, Floats]

    @property
    def right(self) -> Bools:
        return self.answers.right


@dataclass(frozen=True)
class Drawn:
    """A metric of an arm: its value, and its value on every draw of the bootstrap."""

    value: float
    draws: Floats


Draws = Mapping[str, Mapping[str, Drawn]]
"""By arm and metric."""


def score(
    task: Task, outcomes: Mapping[str, Sequence[Outcome]], *, rounds: int = ROUNDS, seed: int = 0
) -> Scores:
    """Score arms on the same cases; see ``scored``."""
    return scored(task, outcomes, rounds=rounds, seed=seed)[0]


def scored(
    task: Task, outcomes: Mapping[str, Sequence[Outcome]], *, rounds: int = ROUNDS, seed: int = 0
) -> tuple[Scores, Draws]:
    """Score arms on the same cases, and return the draws that their intervals come from.

    Args:
        task: a closed task.
        outcomes: by arm, in the order of a report; each in the same order of cases.
        rounds: bootstrap draws.
        seed: of the draws.
    """
    columns = _columns(task, outcomes, rounds, seed)
    first = next(iter(outcomes.values()), ())
    disputed, agreed = _dispute(outcomes.values())
    best = _best_specialist(columns)
    scores = Scores(
        n=len(first),
        groups=len({outcome.group for outcome in first}),
        arms=tuple(_arm_score(name, column, disputed, agreed) for name, column in columns.items()),
        best_specialist=best,
        comparisons=_comparisons(columns, [name for name in (best, *REFERENCES) if name in columns]),
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
    drawn = {
        name: {metric: Drawn(METRICS[metric](column.answers), column.drawn[metric]) for metric in AVERAGED}
        for name, column in columns.items()
    }
    return scores, drawn


def answers_of(task: Task, outcomes: Sequence[Outcome]) -> Answers:
    """Turn an arm's outcomes into arrays."""
    return answers(
        [outcome.truth for outcome in outcomes],
        [outcome.labels if outcome.error is None else None for outcome in outcomes],
        [outcome.probabilities if outcome.error is None else None for outcome in outcomes],
        task.options,
        exclusive=task.kind is TaskKind.DIAGNOSIS,
    )


def _columns(
    task: Task, outcomes: Mapping[str, Sequence[Outcome]], rounds: int, seed: int
) -> dict[str, _Column]:
    given = {name: answers_of(task, several) for name, several in outcomes.items()}
    groups = [outcome.group for outcome in next(iter(outcomes.values()), ())]
    if not groups:
        return {}
    # One call for all arms: the draws of two arms can only be subtracted where they are the same ones.
    every = {(name, metric): kernel for name, one in given.items() for metric, kernel in kernels(one).items()}
    drawn = bootstrap(every, groups, rounds=rounds, seed=seed)
    return {
        name: _Column(several, given[name], {metric: drawn[name, metric] for metric in METRICS})
        for name, several in outcomes.items()
    }


def _dispute(outcomes: Iterable[Sequence[Outcome]]) -> tuple[Bools, Bools]:
    """Which cases are disputed and which are not; arms that do not see the evidence cannot tell."""
    by_arm = [[outcome.disputed for outcome in several] for several in outcomes]
    disputed = np.array([True in told for told in zip(*by_arm, strict=True)], dtype=bool)
    agreed = np.array([False in told for told in zip(*by_arm, strict=True)], dtype=bool)
    return disputed, agreed & ~disputed


def _arm_score(name: str, column: _Column, disputed: Bools, agreed: Bools) -> ArmScore:
    right, outcomes = column.right, column.outcomes
    covered = np.array([outcome.error is None and not outcome.abstained for outcome in outcomes], dtype=bool)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    coverage = wilson(int(covered.sum()), len(covered))
    assert coverage is not None, "a column has cases"
    return ArmScore(
        arm=name,
        n=column.answers.n,
        errors=len(errors),
        unread=Counter(error.split(":")[0] for error in errors)["AnswerUnparsed"],
        metrics=estimates(column.answers, column.drawn),
        coverage=coverage,
        covered_accuracy=_share(right, covered),
        disputed_accuracy=_share(right, disputed),
        undisputed_accuracy=_share(right, agreed),
        selective=selective(column.answers),
        reliability=reliability(column.answers),
        confusion=_confusion(column.answers),
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


def reliability(given: Answers) -> tuple[Bin, ...]:
    """Mean confidence and accuracy in equally wide bins of confidence; empty bins are left out."""
    if not len(given.stated):
        return ()
    found = binned(given, _BINS)
    return tuple(
        Bin(confidence=float(stated), accuracy=float(observed), n=int(count))
        for count, stated, observed in zip(*found, strict=True)
        if count
    )


def _confusion(given: Answers) -> tuple[tuple[int, ...], ...]:
    if not given.exclusive:
        return ()
    options = given.truth.shape[1]
    said = np.where(given.answered, given.said.argmax(1), options)
    table = np.zeros((options, options + 1), dtype=int)
    np.add.at(table, (given.truth.argmax(1), said), 1)
    return tuple(tuple(map(int, row)) for row in table)


def _median_seconds(outcomes: Sequence[Outcome]) -> float | None:
    spent = [sum(outcome.seconds.values()) for outcome in outcomes if outcome.calls and outcome.seconds]
    return float(np.median(spent)) if spent else None


def _share(right: Bools, slice_: Bools) -> Estimate | None:
    return wilson(int((right & slice_).sum()), int(slice_.sum()))


def _best_specialist(columns: Mapping[str, _Column]) -> str | None:
    names = [name for name in columns if name.startswith(SPECIALIST)]
    return max(names, key=lambda name: METRICS["balanced_accuracy"](columns[name].answers), default=None)


def _comparisons(columns: Mapping[str, _Column], references: Sequence[str]) -> tuple[Comparison, ...]:
    pairs = [
        (name, reference)
        for reference in references
        for name in columns
        if name != reference
        and not name.startswith(SPECIALIST)
        and (reference not in BASELINES or name in ASKING)
    ]
    found = [_comparison(name, columns[name], other, columns[other]) for name, other in pairs]
    adjusted = {
        test: holm([one.mcnemar if test == "mcnemar" else one.differences[test].p for one in found])
        for test in ("mcnemar", *COMPARED)
    }
    return tuple(
        one.model_copy(update={"adjusted": {test: values[place] for test, values in adjusted.items()}})
        for place, one in enumerate(found)
    )


def _comparison(name: str, arm: _Column, reference_name: str, reference: _Column) -> Comparison:
    return Comparison(
        arm=name,
        reference=reference_name,
        differences={
            metric: difference(
                METRICS[metric](arm.answers) - METRICS[metric](reference.answers),
                arm.drawn[metric] - reference.drawn[metric],
                arm.answers.n,
            )
            for metric in COMPARED
        },
        mcnemar=mcnemar(arm.right, reference.right),
        adjusted={},
    )


def _influences(columns: Mapping[str, _Column]) -> tuple[Influence, ...]:
    if ALONE.name not in columns:
        return ()
    alone = columns[ALONE.name].right
    return tuple(
        Influence(arm=name, rescued=_share(column.right, ~alone), misled=_share(~column.right, alone))
        for name, column in columns.items()
        if name in ASKING and name != ALONE.name
    )
