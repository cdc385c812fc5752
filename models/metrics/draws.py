"""The bootstrap: whole groups drawn with replacement, and what is computed on every draw.

A draw is a vector of multiplicities, one per case. A kernel computes one number for each of many draws at
once, and equals its metric on the drawn cases. Whoever sees the same draws can be subtracted: the difference
of two arms' draws is the paired bootstrap of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .answers import Bools, Floats

Weights = npt.NDArray[np.floating]
"""Multiplicity of each case in each draw, (draws, n); of single precision in the bootstrap."""
Kernel = Callable[[Weights], Floats]
"""Draws' multiplicities to one number per draw; NaN where a draw does not determine it."""

K = TypeVar("K", bound=Hashable)

ROUNDS = 2000
_CHUNK = 2**22


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


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; what is over nothing is NaN."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, math.nan), where=denominator > 0)


def mean_of(per_case: Floats | Bools) -> Kernel:
    """Return the kernel of a mean over cases."""
    values = per_case.astype(np.float64)
    return lambda weights: divide(weights @ values, weights.sum(1))


def mean_over(per_case: Floats | Bools, cases: Bools) -> Kernel:
    """Return the kernel of a mean over some of the cases."""
    values, member = np.where(cases, per_case, 0).astype(np.float64), cases.astype(np.float64)
    return lambda weights: divide(weights @ values, weights @ member)


def of_sums(per_case: Floats, function: Callable[[Floats], Floats]) -> Kernel:
    """Return the kernel of a number that is a function of sums over cases, such as a corpus BLEU.

    Args:
        per_case: (n, sums).
        function: of sums (draws, sums), one number for each draw.
    """
    return lambda weights: function(weights.astype(np.float64) @ per_case)
