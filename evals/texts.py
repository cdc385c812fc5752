"""From a run's answers to questions, or its reports, to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..case import Record, Task, TaskKind
from ..models.metrics.draws import ROUNDS
from .metrics.clinical import ClinicalMetric
from .metrics.questions import question_measures
from .metrics.reports import report_measures
from .metrics.uncertainty import Estimate, Measure, estimate
from .records import Outcome

CLOSED = "CLOSED"


class TextScore(Record):
    """One arm's numbers on an open task."""

    arm: str
    n: int
    errors: int
    """Cases without an answer; they share no word with the truth."""
    metrics: Mapping[str, Estimate]
    seconds: float | None = None
    """Median seconds of an answer, waiting among other cases included."""


def text_scores(
    task: Task,
    outcomes: Mapping[str, Sequence[Outcome]],
    *,
    clinical: Sequence[ClinicalMetric] = (),
    rounds: int = ROUNDS,
    seed: int = 0,
) -> tuple[TextScore, ...]:
    """Score arms on an open task.

    Args:
        task: it asks questions or for reports.
        outcomes: by arm, each in the same order of cases.
        clinical: further metrics of reports; see ``metrics.clinical``.
        rounds: bootstrap draws.
        seed: of the draws.
    """
    import numpy as np

    found = []
    for arm, several in outcomes.items():
        if not several:
            continue
        groups = [outcome.group for outcome in several]
        spent = [sum(outcome.seconds.values()) for outcome in several if outcome.seconds]
        found.append(
            TextScore(
                arm=arm,
                n=len(several),
                errors=sum(outcome.error is not None for outcome in several),
                metrics=estimate(_measures(task, several, clinical), groups, rounds=rounds, seed=seed),
                seconds=float(np.median(spent)) if spent else None,
            )
        )
    return tuple(found)


def _measures(
    task: Task, outcomes: Sequence[Outcome], clinical: Sequence[ClinicalMetric]
) -> Mapping[str, Measure]:
    said = [outcome.text if outcome.error is None else None for outcome in outcomes]
    if task.kind is TaskKind.REPORT:
        truth = [outcome.truth[0] if outcome.truth else "" for outcome in outcomes]
        return report_measures(said, truth, clinical=clinical)
    return question_measures(
        said,
        [outcome.truth for outcome in outcomes],
        [outcome.stratum == CLOSED for outcome in outcomes],
        [outcome.choices for outcome in outcomes],
    )
