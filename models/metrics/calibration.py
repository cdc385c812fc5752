"""Whether stated probabilities mean what they say, and what is gained by leaving doubtful cases to a person.

All of it looks only at the cases with an answer and probabilities (``Answers.stated``). Cases that are
equally sure cannot be told apart: a curve has one point for all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...case import Record
from .answers import Answers, Floats, certainty, confidences
from .diagnosis import Ranked, mean_defined, undefined
from .draws import Kernel, Weights, divide, mean_of
from .registry import metric

BINS = 15
LEAST = 1e-3
"""Smaller probabilities count as this in the log loss: a share of votes may be none at all."""
COVERAGE = 0.8
"""At which the error of a selective arm is told."""


@metric("ece", "ECE", stated=True)
def calibration_error(given: Answers) -> Kernel:
    """Expected calibration error over 15 equally wide bins, L1.

    Single-label: of the probability of the answer against whether it is right. Multi-label: mean over
    labels of that of the label's probability against its presence.
    """
    gaps = [_placed(probability) * (probability - hit)[:, None] for probability, hit in confidences(given)]

    def kernel(weights: Weights) -> Floats:
        errors = [divide(np.abs(weights @ gap).sum(1), weights.sum(1)) for gap in gaps]
        return mean_defined(np.stack(errors, axis=-1))

    return kernel


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
        gaps = probability - (random.random((rounds, given.n)) < probability)
        found.append(np.abs(gaps @ _placed(probability)).sum(1).mean() / given.n)
    return float(np.mean(found))


def _placed(probability: Floats) -> Floats:
    """Which bin each probability falls into, (n, bins)."""
    return np.eye(BINS)[np.clip((probability * BINS).astype(int), 0, BINS - 1)]


def surprise(given: Answers) -> Floats:
    """Log loss of each case, (n,); probabilities below ``LEAST`` count as that."""
    p = np.clip(given.probabilities, LEAST, 1 - LEAST)
    if given.exclusive:
        return -np.log(p[given.truth])
    return -np.where(given.truth, np.log(p), np.log1p(-p)).mean(1)


@metric("log_loss", "log loss", stated=True, parts=surprise)
def log_loss(given: Answers) -> Kernel:
    """Mean negative logarithm of what was said of the truth; of a multi-label task the mean over options."""
    return mean_of(surprise(given))


@metric("brier", stated=True)
def brier(given: Answers) -> Kernel:
    """Mean squared distance of probabilities and truth.

    Summed over options (0 to 2), and for multi-label tasks averaged over them (0 to 1).
    """
    squares = (given.probabilities - given.truth) ** 2
    return mean_of(squares.sum(1) if given.exclusive else squares.mean(1))


@metric("aurc", stated=True)
def aurc(given: Answers) -> Kernel:
    """Area under the risk-coverage curve: the mean, over cases, of the error among those at least as sure."""
    ranked = _by_certainty(given)

    def kernel(weights: Weights) -> Floats:
        every, wrong = ranked.totals(weights)
        with np.errstate(invalid="ignore"):
            risk = np.nan_to_num(wrong / every)
        added = np.diff(every, axis=1, prepend=0.0)
        total = every[:, -1] if every.shape[1] else np.zeros(len(weights))
        return divide((risk * added).sum(1, dtype=np.float64), total.astype(np.float64))

    return kernel


@metric("error_at_80", stated=True)
def error_at_coverage(given: Answers) -> Kernel:
    """Error among the surest 80 % of the cases; equally sure ones at the border count by their mean error."""
    ranked = _by_certainty(given)

    def kernel(weights: Weights) -> Floats:
        every, wrong = (totals.astype(np.float64) for totals in ranked.totals(weights))
        if not every.shape[1]:
            return undefined(weights)
        wanted = COVERAGE * every[:, -1:]
        place = (every >= wanted).argmax(1)[:, None]
        before = np.maximum(place - 1, 0)
        inside = place > 0
        counted = np.where(inside, np.take_along_axis(every, before, 1), 0.0)
        errors = np.where(inside, np.take_along_axis(wrong, before, 1), 0.0)
        slope = divide(
            np.take_along_axis(wrong, place, 1) - errors, np.take_along_axis(every, place, 1) - counted
        )
        return divide(errors + slope * (wanted - counted), wanted)[:, 0]

    return kernel


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
    given = given.take(given.stated)
    ranked = _by_certainty(given)
    every, wrong = (totals[0] for totals in ranked.totals(np.ones((1, given.n))))
    return RiskCoverage(certainty(given)[ranked.order][ranked.starts], every / max(1, given.n), wrong / every)


def _by_certainty(given: Answers) -> Ranked:
    return Ranked.of(certainty(given), ~given.right)
