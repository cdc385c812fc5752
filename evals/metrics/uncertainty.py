"""How far a number can be trusted: bootstrap intervals, paired comparisons, multiplicity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...case import Record
from .answers import Answers, Bools, Floats
from .diagnosis import METRICS, OF_PROBABILITIES
from .draws import ROUNDS, Kernel, Weights, bootstrap, draws, interval, mean_of, mean_over
from .kernels import kernels

__all__ = [
    "ROUNDS",
    "Difference",
    "Estimate",
    "Kernel",
    "Measure",
    "Weights",
    "benjamini_hochberg",
    "bootstrap",
    "difference",
    "draws",
    "estimate",
    "estimates",
    "holm",
    "interval",
    "kernels",
    "mcnemar",
    "mean",
    "paired",
    "wilson",
]


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


@dataclass(frozen=True)
class Measure:
    """A number over cases, and how to compute it on draws of them."""

    value: float
    kernel: Kernel
    n: int
    """Cases that it is taken over."""


def mean(per_case: Floats | Bools, cases: Bools | None = None) -> Measure:
    """Measure a mean of per-case values, over all cases or some of them."""
    chosen = np.ones(len(per_case), dtype=bool) if cases is None else cases
    value = float(per_case[chosen].mean()) if chosen.any() else math.nan
    kernel = mean_of(per_case) if cases is None else mean_over(per_case, chosen)
    return Measure(value, kernel, int(chosen.sum()))


def estimate(
    measures: Mapping[str, Measure], groups: Sequence[str], *, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Estimate]:
    """Put an interval to each measure, all on the same draws; what the cases do not determine is left out.

    Args:
        measures: all over the same cases.
        groups: one per case; cases of one group are drawn together.
        rounds: bootstrap draws.
        seed: of the draws.
    """
    known = {name: one for name, one in measures.items() if not math.isnan(one.value)}
    drawn = bootstrap({name: one.kernel for name, one in known.items()}, groups, rounds=rounds, seed=seed)
    found = {}
    for name, one in known.items():
        low, high = interval(drawn[name])
        found[name] = Estimate(value=one.value, low=low, high=high, n=one.n)
    return found


def paired(
    first: Mapping[str, Measure],
    second: Mapping[str, Measure],
    groups: Sequence[str],
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two arms on the same cases: first minus second, of every measure that both have."""
    both = [name for name in first if name in second]
    every = {(place, name): one[name].kernel for place, one in enumerate((first, second)) for name in both}
    drawn = bootstrap(every, groups, rounds=rounds, seed=seed)
    return {
        name: difference(
            first[name].value - second[name].value,
            drawn[0, name] - drawn[1, name],
            min(first[name].n, second[name].n),
        )
        for name in both
        if not math.isnan(first[name].value - second[name].value)
    }


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


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that those below a level hold that share of false discoveries; the order is kept."""
    order = sorted(range(len(p_values)), key=lambda index: -p_values[index])
    adjusted = [0.0] * len(p_values)
    smallest = 1.0
    for rank, index in enumerate(order):
        smallest = min(smallest, p_values[index] * len(p_values) / (len(p_values) - rank))
        adjusted[index] = smallest
    return adjusted


def wilson(hits: int, n: int) -> Estimate | None:
    """Estimate a share with Wilson's 95 % interval (cases taken as independent); None for no cases."""
    from scipy.stats import binomtest

    if not n:
        return None
    bounds = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return Estimate(value=hits / n, low=float(bounds.low), high=float(bounds.high), n=n)
