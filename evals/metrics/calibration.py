"""Whether stated probabilities mean what they say, and what is gained by leaving doubtful cases to a person.

All of it looks only at the cases with an answer and probabilities (``Answers.stated``). Cases that are
equally sure cannot be told apart: a curve has one point for all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...case import Record
from ...models.specialist.metrics import expected_calibration_error
from .answers import Answers, Bools, Floats, certainty, confidences

BINS = 15
LEAST = 1e-3
"""Smaller probabilities count as this in the log loss: a share of votes may be none at all."""
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


def calibration_floor(given: Answers, *, rounds: int = 200, seed: int = 0) -> float:
    """Expected calibration error that perfectly calibrated answers, as sure as these, would show.

    On few cases the estimator is above zero by chance alone: differences below this mean nothing.

    Args:
        given: the answers; what is true of them plays no part.
        rounds: how often their truth is drawn from their own probabilities.
        seed: of the draws.
    """
    given = given.take(given.stated)
    if not given.n:
        return math.nan
    random, found = np.random.default_rng(seed), []
    for probability, _ in confidences(given):
        place = np.eye(BINS)[np.clip((probability * BINS).astype(int), 0, BINS - 1)]
        gaps = probability - (random.random((rounds, given.n)) < probability)
        found.append(np.abs(gaps @ place).sum(1).mean() / given.n)
    return float(np.mean(found))


def log_loss(given: Answers) -> float:
    """Mean negative logarithm of what was said of the truth; of a multi-label task the mean over options."""
    given = given.take(given.stated)
    return float(surprise(given).mean()) if given.n else math.nan


def surprise(given: Answers) -> Floats:
    """Log loss of each case, (n,); probabilities below ``LEAST`` count as that."""
    p = np.clip(given.probabilities, LEAST, 1 - LEAST)
    if given.exclusive:
        return -np.log(p[given.truth])
    return -np.where(given.truth, np.log(p), np.log1p(-p)).mean(1)


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


class Bin(Record):
    """Answers that were about equally sure."""

    confidence: float
    accuracy: float
    n: int


def reliability(given: Answers, bins: int = BINS) -> tuple[Bin, ...]:
    """Compare how sure answers were with how many of them were right; empty bins are left out."""
    given = given.take(given.stated)
    sure, right = certainty(given), given.right
    place = np.clip((sure * bins).astype(int), 0, bins - 1) if given.n else np.zeros(0, dtype=int)
    return tuple(
        Bin(confidence=float(sure[at].mean()), accuracy=float(right[at].mean()), n=int(at.sum()))
        for at in (place == one for one in np.unique(place))
    )


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
