"""What the similar cases are worth, and what evidence does to a decision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .answers import Bools, Floats
from .uncertainty import Measure, mean


def label_agreement(
    truth: Sequence[Sequence[str]], similar: Sequence[Sequence[Sequence[str]]], k: int
) -> Floats:
    """Share of the k most similar cases that carry exactly the true labels; NaN where none was found.

    Args:
        truth: true labels of each case.
        similar: labels of its similar cases, the most similar first.
        k: how many of them count; where fewer were found, those count.
    """
    return np.array(
        [
            np.mean([set(labels) == set(true) for labels in found[:k]]) if found[:k] else np.nan
            for true, found in zip(truth, similar, strict=True)
        ],
        dtype=np.float64,
    )


def retrieval_measures(
    truth: Sequence[Sequence[str]],
    similar: Sequence[Sequence[Sequence[str]]],
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, Measure]:
    """Measure ``agreement_at_k``, and ``hit_at_k``: whether any of the k carries the true labels."""
    found = {}
    for k in ks:
        agreement = label_agreement(truth, similar, k)
        known = ~np.isnan(agreement)
        found[f"agreement_at_{k}"] = mean(np.nan_to_num(agreement), known)
        found[f"hit_at_{k}"] = mean(np.nan_to_num(agreement) > 0, known)
    return found


def influence_measures(alone: Bools, told: Bools) -> dict[str, Measure]:
    """Measure what evidence changes.

    Args:
        alone: whether the case was right without the evidence.
        told: whether it was right with it.

    Returns:
        ``rescued``: of the cases wrong alone, the share that is right with it. ``misled``: of the cases right
        alone, the share that is wrong with it. ``net``: how much more often it is right.
    """
    return {
        "rescued": mean(told, ~alone),
        "misled": mean(~told, alone),
        "net": mean(told.astype(np.float64) - alone.astype(np.float64)),
    }
