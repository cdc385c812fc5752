"""Whether stated probabilities mean what they say, and what is gained by leaving doubtful cases to a person.

All of it looks only at the cases with an answer and probabilities (``Answers.stated``). Cases that are
equally sure cannot be told apart: a curve has one point for all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...models.specialist.metrics import expected_calibration_error
from .answers import Answers, Bools, Floats, certainty, confidences

BINS = 15
COVERAGE = 0.8
"""At which the error of a selective arm is told."""


def calibration_error(given: Answers) -> float:
    """Expected calibration error over 15 equally wide bins, L1.

    Single-label: of the probability of the answer against whether it is right. Multi-label: mean over
    labels of that of the label's probability against its presence.
    """
    given = given.take(given.stated)
    if not given.n:
        return math.nan
    return float(np.mean([expected_calibration_error(p, hit) for p, hit in confidences(given)]))


def brier(given: Answers) -> float:
    """Mean squared distance of probabilities and truth.

    Summed over options (0 to 2), and for multi-label tasks averaged over them (0 to 1).
    """
    given = given.take(given.stated)
    return float(squared_distance(given).mean()) if given.n else math.nan


def squared_distance(given: Answers) -> Floats:
    """Brier score of each case, (n,)."""
    squares = (given.probabilities - given.truth) ** 2
    return squares.sum(1) if given.exclusive else squares.mean(1)


class Reliability(NamedTuple):
    """A reliability diagram: per bin of stated probability."""

    cases: npt.NDArray[np.intp]
    stated: Floats
    """Mean probability; NaN in an empty bin."""
    observed: Floats
    """Share that was right (multi-label: present); NaN in an empty bin."""


def reliability(given: Answers, bins: int = BINS) -> Reliability:
    """Bin the stated probabilities; multi-label decisions are pooled over labels."""
    pairs = confidences(given.take(given.stated))
    probability, hit = (np.concatenate(column).astype(float) for column in zip(*pairs, strict=True))
    place = np.clip((probability * bins).astype(int), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, values, bins) / count for values in (probability, hit)]
    return Reliability(count, *means)


class RiskCoverage(NamedTuple):
    """A risk-coverage curve, from the surest cases on; one point per level of certainty."""

    certainty: Floats
    coverage: Floats
    """Share of the cases at least so sure."""
    risk: Floats
    """Share of them that is wrong."""


def risk_coverage(given: Answers) -> RiskCoverage:
    """Return the error that remains when only the surest cases are answered, for every such share."""
    sure, wrong, ends = _ranked(given)
    if not len(sure):
        return RiskCoverage(sure, sure, sure)
    count = ends + 1.0
    return RiskCoverage(sure[ends], count / len(sure), np.cumsum(wrong)[ends] / count)


def aurc(given: Answers) -> float:
    """Area under the risk-coverage curve: the mean, over cases, of the error among those at least as sure."""
    curve = risk_coverage(given)
    if not len(curve.risk):
        return math.nan
    return float((np.diff(curve.coverage, prepend=0.0) * curve.risk).sum())


def excess_aurc(given: Answers) -> float:
    """AURC beyond that of an order which puts every wrong case last."""
    given = given.take(given.stated)
    if not given.n:
        return math.nan
    wrong = np.sort(~given.right)
    best = float((np.cumsum(wrong) / np.arange(1, given.n + 1)).mean())
    return aurc(given) - best


def error_at_coverage(given: Answers, coverage: float = COVERAGE) -> float:
    """Error among the surest cases; equally sure ones at the border count by their mean error."""
    sure, wrong, ends = _ranked(given)
    if not len(sure):
        return math.nan
    wanted = coverage * len(sure)
    errors, counts = np.cumsum(wrong)[ends].astype(float), ends + 1.0
    return float(np.interp(wanted, np.r_[0.0, counts], np.r_[0.0, errors]) / wanted)


def _ranked(given: Answers) -> tuple[Floats, Bools, npt.NDArray[np.intp]]:
    """Certainty and error of the stated cases, surest first, and where each level of certainty ends."""
    given = given.take(given.stated)
    sure = certainty(given)
    order = np.argsort(-sure, kind="stable")
    sure = sure[order]
    ends = np.flatnonzero(np.r_[sure[1:] != sure[:-1], True]) if len(sure) else np.zeros(0, dtype=np.intp)
    return sure, ~given.right[order], ends


class Abstention(NamedTuple):
    """What leaving cases to a person brings."""

    coverage: float
    """Share of all cases that was answered."""
    accuracy: float
    """Among the answered ones; NaN where there are none."""
    caught: float
    """Share of the wrong answers that was left to a person; NaN where none is wrong."""
    wasted: float
    """Share of the right answers that was left to a person; NaN where none is right."""


def abstention(right: Bools, abstained: Bools) -> Abstention:
    """Describe abstentions.

    Args:
        right: whether the suggested answer was right, per case.
        abstained: whether the case was left to a person.
    """
    kept = ~abstained
    return Abstention(_share(kept), _share(right[kept]), _share(abstained[~right]), _share(abstained[right]))


def _share(which: Bools) -> float:
    return float(which.mean()) if len(which) else math.nan
