"""How good closed answers are: pure functions over arrays, computed by scikit-learn where it has them.

A case without an answer (an error, evidence that could not be had) stays in every denominator of the
metrics of decisions: it is wrong. The metrics of probabilities are taken over the cases that have any;
``Answers.stated`` says which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...models.specialist.metrics import expected_calibration_error

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

_LEFT_OUT: Any = np.nan
"""What scikit-learn gives a label that is nowhere, and leaves out of its mean; typed as ``str`` there."""


@dataclass(frozen=True)
class Answers:
    """What was true and what an arm said, one row per case and one column per option."""

    truth: Bools
    """(n, options)."""
    said: Bools
    """(n, options); an empty row where there was no answer."""
    answered: Bools
    """(n,); whether there was an answer, which for multi-label tasks may be none of the options."""
    probabilities: Floats
    """(n, options); NaN in the rows of cases without probabilities."""
    exclusive: bool
    """Whether exactly one option is true of a case."""

    def __post_init__(self) -> None:
        rows, columns = self.truth.shape
        for name in ("said", "probabilities"):
            if getattr(self, name).shape != (rows, columns):
                raise ValueError(f"{name} must have the shape {(rows, columns)} of the truth")
        if self.answered.shape != (rows,):
            raise ValueError(f"answered must have the shape {(rows,)}")
        if self.exclusive and not (self.truth.sum(1) == 1).all():
            raise ValueError("exactly one option must be true of each case")

    @property
    def n(self) -> int:
        """Number of cases."""
        return len(self.truth)

    @cached_property
    def right(self) -> Bools:
        """Which cases were answered with exactly the true labels (n,)."""
        return self.answered & (self.said == self.truth).all(1)

    @cached_property
    def stated(self) -> npt.NDArray[np.intp]:
        """Indices of the cases with an answer and probabilities."""
        return np.flatnonzero(self.answered & ~np.isnan(self.probabilities).any(1))

    def take(self, rows: npt.NDArray[np.intp] | Bools) -> Answers:
        """Return some of the cases."""
        return Answers(
            truth=self.truth[rows],
            said=self.said[rows],
            answered=self.answered[rows],
            probabilities=self.probabilities[rows],
            exclusive=self.exclusive,
        )


def answers(
    truth: Sequence[Sequence[str]],
    said: Sequence[Sequence[str] | None],
    probabilities: Sequence[Mapping[str, float] | None],
    options: Sequence[str],
    *,
    exclusive: bool,
) -> Answers:
    """Turn labels into arrays.

    Args:
        truth: true labels of each case.
        said: labels that were said; None where there was no answer.
        probabilities: by option; None where there are none.
        options: the columns; a label that is none of them is an error.
        exclusive: whether exactly one option is true of a case.
    """
    column = {option: position for position, option in enumerate(options)}
    table = np.full((len(truth), len(options)), math.nan)
    for row, stated in enumerate(probabilities):
        if stated is not None:
            table[row] = [stated.get(option, 0.0) for option in options]
    return Answers(
        truth=_indicator(truth, column),
        said=_indicator([labels or () for labels in said], column),
        answered=np.array([labels is not None for labels in said], dtype=bool),
        probabilities=table,
        exclusive=exclusive,
    )


def accuracy(given: Answers) -> float:
    """Share of cases that were answered with exactly the true labels."""
    return float(given.right.mean()) if given.n else math.nan


def balanced_accuracy(given: Answers) -> float:
    """Mean recall over the labels that occur; multi-label: mean over labels of its two-class value."""
    from sklearn.metrics import recall_score

    if not given.n:
        return math.nan
    if given.exclusive:
        # The indicator form takes a case without an answer, which a class index cannot say.
        return float(recall_score(given.truth, given.said, average="macro", zero_division=_LEFT_OUT))
    pairs = zip(given.truth.T, given.said.T, strict=True)
    return _mean([recall_score(true, said, labels=np.unique(true), average="macro") for true, said in pairs])


def macro_f1(given: Answers) -> float:
    """Mean F1 over the labels that occur in the truth or in the answers."""
    from sklearn.metrics import f1_score

    if not given.n:
        return math.nan
    return float(f1_score(given.truth, given.said, average="macro", zero_division=_LEFT_OUT))


def auroc(given: Answers) -> float:
    """Macro mean of the areas of each label against the rest, over the labels that have a rest."""
    from sklearn.metrics import roc_auc_score

    given = given.take(given.stated)
    pairs = zip(given.truth.T, given.probabilities.T, strict=True)
    return _mean([float(roc_auc_score(true, p)) for true, p in pairs if true.any() and not true.all()])


def calibration_error(given: Answers) -> float:
    """Expected calibration error over 15 equally wide bins, L1.

    Single-label: of the probability of the answer against whether it is right. Multi-label: mean over
    labels of that of the label's probability against its presence.
    """
    given = given.take(given.stated)
    if not given.n:
        return math.nan
    return _mean([expected_calibration_error(p, hit) for p, hit in confidences(given)])


def brier(given: Answers) -> float:
    """Mean squared distance of probabilities and truth.

    Summed over options (0 to 2), and for multi-label tasks averaged over them (0 to 1).
    """
    given = given.take(given.stated)
    return float(squared_distance(given).mean()) if given.n else math.nan


Metric = Callable[[Answers], float]

METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auroc": auroc,
    "ece": calibration_error,
    "brier": brier,
}
"""In the order of a report."""

OF_PROBABILITIES = frozenset({"auroc", "ece", "brier"})
"""Those that only look at cases with probabilities."""


def confidences(given: Answers) -> list[tuple[Floats, Bools]]:
    """Pair stated probabilities with what they are probabilities of: one pair, or one per label.

    Args:
        given: answers that all have probabilities.
    """
    if not given.exclusive:
        return list(zip(given.probabilities.T, given.truth.T, strict=True))
    return [((given.probabilities * given.said).sum(1), given.right)]


def squared_distance(given: Answers) -> Floats:
    """Brier score of each case, (n,)."""
    squares = (given.probabilities - given.truth) ** 2
    return squares.sum(1) if given.exclusive else squares.mean(1)


def _indicator(labels: Sequence[Sequence[str]], column: Mapping[str, int]) -> Bools:
    table = np.zeros((len(labels), len(column)), dtype=bool)
    for row, several in enumerate(labels):
        for label in several:
            table[row, column[label]] = True
    return table


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
