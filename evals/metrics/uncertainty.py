"""How far a number can be trusted: bootstrap intervals, paired comparisons, multiplicity.

The bootstrap draws whole groups (patients), with replacement, and all arms of a comparison see the same
draws, so that the difference of two arms' draws is the paired bootstrap of their difference. A draw is a
vector of multiplicities; each metric has a kernel that computes it for many draws at once, and which
equals the metric of ``metrics.diagnosis`` on the drawn cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ...case import Record
from .diagnosis import METRICS, OF_PROBABILITIES, Answers, Bools, Floats, confidences, squared_distance

Weights = npt.NDArray[np.float32]
"""Multiplicity of each case in each draw, (draws, n)."""
Kernel = Callable[[Weights], Floats]
"""Draws' multiplicities to one number per draw; NaN where a draw does not determine it."""

K = TypeVar("K", bound=Hashable)

ROUNDS = 2000
BINS = 15
_CHUNK = 2**22


class Estimate(Record):
    """A number, its 95 % interval, and over how many cases it was taken."""

    value: float
    low: float
    high: float
    n: int


class Difference(Record):
    """One arm against another on the same cases."""

    value: float
    low: float
    high: float
    p: float
    n: int


def draws(groups: Sequence[str], *, rounds: int = ROUNDS, seed: int = 0) -> Iterator[Weights]:
    """Draw groups with replacement and yield the cases' multiplicities, some draws at a time.

    Args:
        groups: one per case; cases of one group are drawn together.
        rounds: number of draws, over all that is yielded.
        seed: of the draws. What is drawn does not depend on how it is cut into pieces.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(1, len(groups)))
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        picked = random.integers(len(names), size=(size, len(names)))
        flat = (picked + np.arange(size)[:, None] * len(names)).ravel()
        times = np.bincount(flat, minlength=size * len(names)).reshape(size, len(names))
        yield times[:, member].astype(np.float32)


def bootstrap(
    kernels: Mapping[K, Kernel], groups: Sequence[str], *, rounds: int = ROUNDS, seed: int = 0
) -> dict[K, Floats]:
    """Compute every kernel on the same draws.

    Returns:
        By the kernel's key, one number per draw (rounds,).
    """
    pieces = [
        {name: kernel(weights) for name, kernel in kernels.items()}
        for weights in draws(groups, rounds=rounds, seed=seed)
    ]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in kernels}


def interval(drawn: Floats) -> tuple[float, float]:
    """Take the percentile 95 % interval of what was drawn; draws without a value are left out."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def estimates(given: Answers, drawn: Mapping[str, Floats]) -> dict[str, Estimate]:
    """Put each metric's value, interval and n together; what the cases do not determine is left out."""
    found = {}
    for name, metric in METRICS.items():
        value = metric(given)
        if not math.isnan(value):
            n = len(given.stated) if name in OF_PROBABILITIES else given.n
            low, high = interval(drawn[name])
            found[name] = Estimate(value=value, low=low, high=high, n=n)
    return found


def difference(value: float, drawn: Floats, n: int) -> Difference:
    """Describe a difference by its paired draws: percentile interval, and a two-sided p from the draws.

    Args:
        value: the difference on the cases themselves.
        drawn: the difference on each draw.
        n: number of cases.
    """
    defined = drawn[~np.isnan(drawn)]
    low, high = interval(drawn)
    tail = min((defined <= 0).sum(), (defined >= 0).sum())
    p = min(1.0, 2 * (1 + float(tail)) / (1 + len(defined)))
    return Difference(value=value, low=low, high=high, p=p, n=n)


def mcnemar(first: Bools, second: Bools) -> float:
    """Exact two-sided McNemar test that two arms are right equally often.

    Cases are taken as independent; where groups have several cases, prefer the paired bootstrap.

    Args:
        first: whether the first arm was right, per case (n,).
        second: the same of the second, on the same cases.

    Returns:
        The p-value: a binomial test on the cases in which exactly one of them was right.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if not only_first + only_second:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method; the order is kept."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def wilson(hits: int, n: int) -> Estimate | None:
    """Estimate a share with Wilson's 95 % interval (cases taken as independent); None for no cases."""
    from scipy.stats import binomtest

    if not n:
        return None
    bounds = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return Estimate(value=hits / n, low=float(bounds.low), high=float(bounds.high), n=n)


def kernels(given: Answers) -> dict[str, Kernel]:
    """Return the kernel of each metric for these answers."""
    stated = given.stated
    probable = given.take(stated)
    return {
        "accuracy": _ratio(given.right),
        "balanced_accuracy": _balanced_accuracy(given),
        "macro_f1": _macro_f1(given),
        "auroc": _of(stated, _auroc(probable)),
        "ece": _of(stated, _calibration_error(probable)),
        "brier": _of(stated, _ratio(squared_distance(probable))),
    }


def _of(cases: npt.NDArray[np.intp], kernel: Kernel) -> Kernel:
    return lambda weights: kernel(weights[:, cases])


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, math.nan), where=denominator > 0)


def _mean_defined(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN."""
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(float))


def _ratio(per_case: Floats | Bools) -> Kernel:
    return lambda weights: _divide(weights @ per_case.astype(np.float64), weights.sum(1))


def _balanced_accuracy(given: Answers) -> Kernel:
    true, false = given.truth.astype(np.float64), (~given.truth).astype(np.float64)
    hits, rejections = true * given.said, false * ~given.said

    def kernel(weights: Weights) -> Floats:
        recalls = _divide(weights @ hits, weights @ true)
        if given.exclusive:
            return _mean_defined(recalls)
        specificities = _divide(weights @ rejections, weights @ false)
        return _mean_defined(_mean_defined(np.stack([recalls, specificities], axis=-1)))

    return kernel


def _macro_f1(given: Answers) -> Kernel:
    hits = (given.truth & given.said).astype(np.float64)
    both = given.truth.astype(np.float64) + given.said
    return lambda weights: _mean_defined(_divide(2 * (weights @ hits), weights @ both))


def _auroc(given: Answers) -> Kernel:
    columns = [_area(true, p) for true, p in zip(given.truth.T, given.probabilities.T, strict=True)]
    return lambda weights: _mean_defined(np.stack([column(weights) for column in columns], axis=-1))


def _area(true: Bools, probability: Floats) -> Kernel:
    """Area under one label's curve: chance that a case with the label ranks above one without, ties half."""
    order = np.argsort(probability, kind="stable")
    ranked = probability[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype=int)
    positive = true[order].astype(np.float32)

    def kernel(weights: Weights) -> Floats:
        if not len(order):
            return np.full(len(weights), math.nan)
        every = weights[:, order]
        with_label = every * positive
        if len(starts) < len(order):
            every = np.add.reduceat(every, starts, axis=1)
            with_label = np.add.reduceat(with_label, starts, axis=1)
        without = every - with_label
        pairs = with_label.sum(1, dtype=np.float64) * without.sum(1, dtype=np.float64)
        # Sums of counts are exact in single precision up to 16 million cases.
        below = np.cumsum(without, axis=1)
        below -= without / 2
        return _divide(np.einsum("ij,ij->i", with_label, below, dtype=np.float64), pairs)

    return kernel


def _calibration_error(given: Answers) -> Kernel:
    gaps = []
    for probability, hit in confidences(given):
        place = np.clip((probability * BINS).astype(int), 0, BINS - 1)
        gaps.append(np.eye(BINS)[place] * (probability - hit)[:, None])

    def kernel(weights: Weights) -> Floats:
        errors = [_divide(np.abs(weights @ gap).sum(1), weights.sum(1)) for gap in gaps]
        return _mean_defined(np.stack(errors, axis=-1))

    return kernel
