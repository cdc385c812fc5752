"""What was true and what an arm said, as arrays that every metric of closed answers takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


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
    sure: Floats | None = None
    """How sure each decision is as a whole, (n,), NaN where unknown; None derives it from probabilities."""

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
            sure=None if self.sure is None else self.sure[rows],
        )


def answers(
    truth: Sequence[Sequence[str]],
    said: Sequence[Sequence[str] | None],
    probabilities: Sequence[Mapping[str, float] | None],
    options: Sequence[str],
    *,
    exclusive: bool,
    confidence: Sequence[float | None] | None = None,
) -> Answers:
    """Turn labels into arrays.

    Args:
        truth: true labels of each case.
        said: labels that were said; None where there was no answer.
        probabilities: by option; None where there are none.
        options: the columns; a label that is none of them is an error.
        exclusive: whether exactly one option is true of a case.
        confidence: that all labels of a case are right; None derives it from the probabilities.
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
        sure=None
        if confidence is None
        else np.array([math.nan if one is None else one for one in confidence], dtype=np.float64),
    )


def confidences(given: Answers) -> list[tuple[Floats, Bools]]:
    """Pair stated probabilities with what they are probabilities of: one pair, or one per label.

    Args:
        given: answers that all have probabilities.
    """
    if not given.exclusive:
        return list(zip(given.probabilities.T, given.truth.T, strict=True))
    return [((given.probabilities * given.said).sum(1), given.right)]


def certainty(given: Answers) -> Floats:
    """How sure each case's answer is (n,), NaN where nothing is stated.

    The probability of the label that was said; of a multi-label task that all its labels are right, or where
    that is not stated, the probability of the least certain one.
    """
    if given.sure is not None and not given.exclusive:
        sure = given.sure
    elif given.exclusive:
        sure = np.where(given.said, given.probabilities, 0.0).sum(1)
    else:
        sure = np.where(given.said, given.probabilities, 1 - given.probabilities).min(1)
    stated = np.zeros(given.n, dtype=bool)
    stated[given.stated] = True
    return np.where(stated, sure, math.nan)


def _indicator(labels: Sequence[Sequence[str]], column: Mapping[str, int]) -> Bools:
    table = np.zeros((len(labels), len(column)), dtype=bool)
    for row, several in enumerate(labels):
        for label in several:
            table[row, column[label]] = True
    return table
