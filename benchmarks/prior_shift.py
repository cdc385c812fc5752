"""When the classes are not as frequent as they were in training: re-estimated priors and moved thresholds.

Pure functions on arrays. They assume that only the shares of the classes differ between two hospitals, not
what each class looks like; where that is wrong, so is the correction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

_ROUNDS = 1000
_STILL = 1e-9
_LEAST = 1e-12


class Reestimated(NamedTuple):
    """Priors of unlabelled cases, and the probabilities under them."""

    prior: Floats
    """(classes,)."""
    probabilities: Floats
    """(n, classes)."""
    rounds: int


def under_prior(probabilities: Floats, old: Floats, new: Floats) -> Floats:
    """Turn posteriors under one prior into those under another.

    Args:
        probabilities: (n, classes), rows sum to one.
        old: prior that they were learnt under, (classes,).
        new: prior that holds, (classes,).
    """
    weighted = probabilities * (np.asarray(new, float) / np.maximum(np.asarray(old, float), _LEAST))
    return weighted / np.maximum(weighted.sum(1, keepdims=True), _LEAST)


def reestimate_prior(probabilities: Floats, old: Floats) -> Reestimated:
    """Estimate by expectation maximisation how frequent the classes are among unlabelled cases.

    After Saerens, Latinne and Decaestecker (2002): the prior under which the mean posterior is that prior.
    No label is needed, but the probabilities must be calibrated.

    Args:
        probabilities: of the unlabelled cases, under the old prior, (n, classes).
        old: prior that they were learnt under, (classes,).
    """
    if not len(probabilities):
        return Reestimated(np.asarray(old, float), probabilities, 0)
    prior, count, moved = np.asarray(old, dtype=np.float64), 0, 1.0
    while moved > _STILL and count < _ROUNDS:
        fresh = under_prior(probabilities, old, prior).mean(0)
        prior, count, moved = fresh, count + 1, float(np.abs(fresh - prior).max())
    return Reestimated(prior, under_prior(probabilities, old, prior), count)


def fit_threshold(probability: Floats, truth: npt.NDArray[np.bool_], *, balanced: bool = False) -> float:
    """Find the threshold on a probability that is right most often; equally good ones give their middle.

    Args:
        probability: of the positive class, (n,).
        truth: whether a case is positive, (n,).
        balanced: let both classes count alike, however frequent they are.
    """
    positive, negative = max(1, int(truth.sum())), max(1, int((~truth).sum()))
    weights = np.where(truth, 1 / positive, 1 / negative) if balanced else np.ones(len(truth))
    order = np.argsort(probability, kind="stable")
    ranked = probability[order]
    # Right answers if every case from this rank on is called positive.
    gained = np.concatenate([[0.0], np.cumsum(np.where(truth[order], -1.0, 1.0) * weights[order])])
    cuts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1], True])
    edges = np.concatenate([[0.0], ranked, [1.0]])
    scores = gained[cuts]
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    run = best[: int(np.argmax(np.append(np.diff(best) != 1, True))) + 1]
    low, high = edges[cuts[run[0]]], edges[cuts[run[-1]] + 1]
    return float((low + high) / 2)
