"""How good predictions are, with bootstrap intervals that respect groups.

Single-label inputs are class indices (n,), multi-label ones are 0/1 arrays (n, labels).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .card import MetricValue

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")


def score(
    truth: Ints, decided: Ints, probabilities: Floats, weights: Floats | None = None
) -> dict[str, float]:
    """Compute every metric of ``NAMES``.

    Args:
        truth: class index per image (n,), or 0/1 per image and label (n, labels).
        decided: the decisions, in the same form.
        probabilities: (n, labels).
        weights: one per image (bootstrap multiplicities); None weighs all alike.

    Returns:
        Multi-label: accuracy is the share of images with every label right; the others are means over
        labels. A metric that the images do not determine (one class only) is NaN.
    """
    weights = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
    if truth.ndim == 2:
        return _score_labels(truth, decided, probabilities, weights)
    classes = probabilities.shape[1]
    confusion = _table(truth * classes + decided, weights, classes)
    confidence = probabilities[np.arange(len(decided)), decided]
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "balanced_accuracy": _balanced_accuracy(confusion),
        "macro_f1": _macro_f1(confusion),
        "auroc": _auroc(np.eye(classes)[truth], probabilities, weights),
        "ece": expected_calibration_error(confidence, truth == decided, weights),
    }


def _score_labels(truth: Ints, decided: Ints, probabilities: Floats, weights: Floats) -> dict[str, float]:
    tables = [_table(truth[:, label] * 2 + decided[:, label], weights, 2) for label in range(truth.shape[1])]
    f1 = [_f1(table[1, 1], table[1].sum(), table[:, 1].sum()) for table in tables]
    errors = [
        expected_calibration_error(probabilities[:, label], truth[:, label] == 1, weights)
        for label in range(truth.shape[1])
    ]
    return {
        "accuracy": float(np.average((truth == decided).all(1), weights=weights)),
        "balanced_accuracy": _mean([_balanced_accuracy(table) for table in tables]),
        "macro_f1": _mean(f1),
        "auroc": _auroc(truth, probabilities, weights),
        "ece": _mean(errors),
    }


def _table(cell: Ints, weights: Floats, side: int) -> Floats:
    return np.bincount(cell, weights, side * side).astype(np.float64).reshape(side, side)


def _mean(values: Sequence[float]) -> float:
    """Mean over what is defined; NaN where nothing is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _balanced_accuracy(confusion: Floats) -> float:
    present = confusion.sum(1) > 0
    return float(np.mean(np.diag(confusion)[present] / confusion.sum(1)[present]))


def _f1(hits: float, actual: float, said: float) -> float:
    return float(2 * hits / (actual + said)) if actual + said else float("nan")


def _macro_f1(confusion: Floats) -> float:
    triples = zip(np.diag(confusion), confusion.sum(1), confusion.sum(0), strict=True)
    return _mean([_f1(*triple) for triple in triples])


def _auroc(truth: Floats | Ints, probabilities: Floats, weights: Floats) -> float:
    """Macro mean of one-against-rest areas; for two classes it is the area."""
    return _mean(
        [_area(truth[:, label], probabilities[:, label], weights) for label in range(truth.shape[1])]
    )


def _area(truth: Floats | Ints, probability: Floats, weights: Floats) -> float:
    """Area under one curve: the share of pairs in the right order, ties counting half.

    The same as scikit-learn's, which is too slow for thousands of bootstrap samples.
    """
    _, place = np.unique(probability, return_inverse=True)
    positive, negative = np.bincount(place, weights * truth), np.bincount(place, weights * (1 - truth))
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / pairs) if pairs else float("nan")


def expected_calibration_error(
    confidence: Floats, right: npt.NDArray[np.bool_], weights: Floats | None = None, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equally wide bins of confidence."""
    weights = np.ones(len(confidence)) if weights is None else weights
    place = np.clip((np.asarray(confidence, dtype=np.float64) * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(place, weights * (confidence - right), bins)
    return float(np.abs(gaps).sum() / weights.sum())


def score_with_intervals(
    truth: Ints,
    decided: Ints,
    probabilities: Floats,
    groups: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, MetricValue]:
    """Compute every metric with its percentile bootstrap 95 % interval.

    Whole groups are drawn, since images of one patient are not independent. The calibration error of a
    resample is larger than that of the sample, noise adding to it, so its interval is shifted by the mean
    excess.

    Args:
        truth: see ``score``.
        decided: see ``score``.
        probabilities: see ``score``.
        groups: one per image.
        draws: number of bootstrap samples.
        seed: of the draws.
    """
    value = score(truth, decided, probabilities)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        drawn.append(list(score(truth, decided, probabilities, times[member].astype(np.float64)).values()))
    table = np.asarray(drawn)
    intervals = {}
    for column, (name, number) in enumerate(value.items()):
        defined = table[:, column][~np.isnan(table[:, column])]
        if np.isnan(number) or not len(defined):
            continue
        excess = float(defined.mean()) - number if name == "ece" else 0.0
        low, high = np.clip(np.percentile(defined, [2.5, 97.5]) - excess, 0, 1)
        if low == high == 1:
            # Nothing is wrong in any resample: the exact limit for as many groups without an error.
            low = 0.025 ** (1 / len(names))
        intervals[name] = MetricValue(
            value=round(number, 4), low=round(float(low), 4), high=round(float(high), 4), n=len(truth)
        )
    return intervals
