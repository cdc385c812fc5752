"""How far a number can be trusted: intervals, paired comparisons, multiplicity.

Cases of one patient or group are never taken for independent ones: bootstrap draws, intervals of shares and
tests all go by group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...case import Record
from ...models.metrics.answers import Answers, Bools, Floats
from ...models.metrics.draws import ROUNDS, Kernel, bootstrap, interval, mean_of, mean_over
from ...models.metrics.registry import METRICS

_NOTHING = 1e-12
_CELLS = 4000
"""Steps in which differences that are no whole numbers are counted,"""
_MOST_GROUPS = 500
"""for so many groups at most; beyond, their sum is taken to be normal."""


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
            low, high = interval(drawn[name])
            found[name] = Estimate(value=value, low=low, high=high, n=metric.n(given))
    return found


def difference(value: float, drawn: Floats, n: int, p: float | None = None) -> Difference:
    """Describe a difference by its paired draws.

    Args:
        value: the difference on the cases themselves.
        drawn: the difference on each draw.
        n: number of cases.
        p: two-sided, of a test by groups; None takes the normal one with the draws' standard error.
    """
    from scipy.stats import norm

    low, high = interval(drawn)
    if math.isnan(value):
        p = 1.0
    elif p is None:
        defined = drawn[~np.isnan(drawn)]
        spread = float(defined.std()) if len(defined) else 0.0
        p = float(2 * norm.sf(abs(value) / spread)) if spread > _NOTHING else float(abs(value) <= _NOTHING)
    return Difference(value=value, low=low, high=high, p=p, n=n)


def sign_flip(differences: Floats, groups: Sequence[str]) -> float:
    """Test two arms on the same cases by exchanging them, group by group.

    If neither arm is better, each group's difference is as likely with the other sign (Fisher's randomisation
    test). All signs are gone through at once, by the distribution of their sum. With one case per group and
    differences of whole numbers it is McNemar's exact test.

    Args:
        differences: what each case adds to the difference of the two arms, (n,).
        groups: one per case.

    Returns:
        Two-sided p.
    """
    from scipy.stats import norm

    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(member, differences) if len(differences) else np.zeros(0)
    sizes = np.abs(sums[np.abs(sums) > _NOTHING])
    if not len(sizes):
        return 1.0
    observed = abs(float(sums.sum()))
    whole = np.allclose(sizes, np.round(sizes), atol=_NOTHING)
    if not whole and len(sizes) > _MOST_GROUPS:
        return float(2 * norm.sf(observed / math.sqrt(float((sizes**2).sum()))))
    unit = 1.0 if whole else float(sizes.sum()) / _CELLS
    chances = np.ones(1)
    for step in np.round(sizes / unit).astype(int):
        apart = np.zeros(2 * step)
        chances = (np.concatenate([chances, apart]) + np.concatenate([apart, chances])) / 2
    places = np.abs(np.arange(len(chances)) - (len(chances) - 1) / 2)
    return min(1.0, float(chances[places >= observed / unit - 0.5].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method; the order is kept."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def share(hits: Bools, groups: Sequence[str], cases: Bools | None = None) -> Estimate | None:
    """Estimate a share with Wilson's 95 % interval for as many cases as the groups are worth.

    Where cases of a group resemble each other, fewer independent ones carry the same information: as many as
    give the variance of the share with groups taken together. Where all cases are alike, each group is one.

    Args:
        hits: what is counted, (n,).
        groups: one per case.
        cases: those of which the share is taken, (n,); None takes all.

    Returns:
        None where there are no cases.
    """
    from scipy.stats import norm

    chosen = np.ones(len(hits), dtype=bool) if cases is None else cases
    n = int(chosen.sum())
    if not n:
        return None
    value = float(hits[chosen].mean())
    _, member = np.unique(np.asarray(groups)[chosen], return_inverse=True)
    together = np.bincount(member, hits[chosen] - value)
    variance = float((together**2).sum()) / n**2
    worth = value * (1 - value) / variance if variance > _NOTHING else float(len(together))
    worth = min(float(n), max(1.0, worth))
    z = float(norm.ppf(0.975))
    centre = (value + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z / (1 + z * z / worth) * math.sqrt(value * (1 - value) / worth + z * z / (4 * worth**2))
    return Estimate(value=value, low=max(0.0, centre - half), high=min(1.0, centre + half), n=n)
