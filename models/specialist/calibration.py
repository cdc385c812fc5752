"""From logits to probabilities that mean what they say, and to decisions.

Pure functions on arrays. Probabilities are ``softmax(logits / temperature + bias)``, for multi-label
tasks ``sigmoid`` of the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

TEMPERATURES = (0.2, 20.0)
"""Bounds of the fit: on separable validation data the likelihood alone would drive it to zero."""
_PASSES = 5
"""Over the classes, to find their offsets."""
HANDFUL = 10
"""A class with fewer images is too small for anything to be fitted to it alone."""


def softmax(logits: Floats) -> Floats:
    """Row-wise softmax."""
    from scipy.special import softmax as function

    return function(logits, axis=1)


def sigmoid(logits: Floats) -> Floats:
    """Element-wise logistic function."""
    from scipy.special import expit

    return expit(logits)


def balancing_weights(truth: Ints, classes: int) -> Floats:
    """One weight per image that lets every class that occurs count alike; their mean is one."""
    counts = np.bincount(truth, minlength=classes).astype(np.float64)
    return (len(truth) / ((counts > 0).sum() * np.maximum(counts, 1)))[truth]


def fit_temperature(
    logits: Floats, truth: Ints, *, bias: Floats | None = None, weights: Floats | None = None
) -> float:
    """Find the temperature that makes the labels most likely.

    Args:
        logits: (n, classes).
        truth: class index (n,), or 0/1 (n, labels) for multi-label tasks.
        bias: added after the division, (classes,).
        weights: one per image.
    """
    from scipy.optimize import minimize_scalar

    offset = np.zeros(logits.shape[1]) if bias is None else bias
    weights = np.ones(len(truth)) if weights is None else weights

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature) + offset
        return float(np.average(negative_log_likelihood(scaled, truth), weights=weights))

    found = minimize_scalar(
        loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(found.x))


def negative_log_likelihood(logits: Floats, truth: Ints) -> Floats:
    """Of each image, (n,); of independent labels the mean over them.

    Args:
        logits: (n, classes).
        truth: class index (n,), or 0/1 (n, labels).
    """
    if truth.ndim == 2:
        return (np.logaddexp(0, logits) - truth * logits).mean(1)
    from scipy.special import logsumexp

    return np.asarray(logsumexp(logits, axis=1)) - logits[np.arange(len(truth)), truth]


def prior_bias(prior: Floats) -> Floats:
    """Return the logit offset that turns posteriors under ``prior`` into those under equal priors.

    Args:
        prior: share of each class in what the network was trained on, after class weighting.
    """
    offset = -np.log(np.asarray(prior, dtype=np.float64))
    return offset - offset.mean()


def fit_bias(logits: Floats, truth: Ints, *, start: Floats | None = None) -> Floats:
    """Find the logit offset per class that maximises balanced accuracy.

    On validation data a whole interval of offsets is often equally good; its edges depend on single
    images. So each offset in turn goes to the middle of the interval of offsets that are within one
    standard error of the best, and stays where it is if it lies in the middle half already.

    Args:
        logits: (n, classes), already divided by the temperature.
        truth: class index (n,).
        start: offsets to begin with, for example ``prior_bias``.

    Returns:
        Offsets with mean zero.
    """
    classes = logits.shape[1]
    bias = np.zeros(classes) if start is None else np.array(start, dtype=np.float64)
    # Two classes have one degree of freedom: the second is moved against the first.
    for _ in range(1 if classes == 2 else _PASSES):
        before = bias.copy()
        for label in range(1 if classes == 2 else 0, classes):
            bias[label] = _middle_offset(logits.astype(np.float64) + bias, truth, label) + bias[label]
        bias -= bias.mean()
        if np.abs(bias - before).max() < 1e-3:
            break
    return bias - bias.mean()


def _middle_offset(logits: Floats, truth: Ints, label: int) -> float:
    """Return the change of one class's offset, see ``fit_bias``."""
    others = np.delete(logits, label, axis=1)
    # The class wins an image as soon as its offset exceeds this margin.
    margins = others.max(1) - logits[:, label]
    rival_right = (np.delete(np.arange(logits.shape[1]), label)[others.argmax(1)] == truth).astype(np.float64)
    weights = balancing_weights(truth, logits.shape[1]) / len(truth)
    order = np.argsort(margins)
    gain = np.where(truth == label, 1.0, -rival_right)[order] * weights[order]
    levels = float((weights * rival_right * (truth != label)).sum()) + np.concatenate(
        [[0.0], np.cumsum(gain)]
    )
    edges = margins[order]
    starts, ends = np.concatenate([[edges[0] - 1], edges]), np.concatenate([edges, [edges[-1] + 1]])
    best = int(levels.argmax())
    good = levels >= levels[best] - _standard_error(levels[best], truth)
    first = best - int(np.argmin(np.append(good[best::-1], False))) + 1
    last = best + int(np.argmin(np.append(good[best:], False))) - 1
    low, high = float(starts[first]), float(ends[last])
    middle, width = (low + high) / 2, high - low
    return 0.0 if abs(middle) <= width / 4 else middle


def _standard_error(accuracy: float, truth: Ints) -> float:
    """Standard error of a balanced accuracy, if every class were recognised equally well."""
    counts = np.bincount(truth)
    counts = counts[counts > 0]
    spread = max(accuracy * (1 - accuracy), 1 / len(truth))
    return float(np.sqrt(spread * (1 / counts).sum()) / len(counts))


def fit_thresholds(probabilities: Floats, truth: Ints) -> Floats:
    """Find for each label of a multi-label task the threshold with the best F1.

    Equally good neighbouring thresholds are represented by their middle; a label of fewer than ``HANDFUL``
    images gets 0.5.

    Args:
        probabilities: (n, labels).
        truth: 0/1 (n, labels).
    """
    return np.array(
        [
            _best_threshold(probabilities[:, label].astype(np.float64), truth[:, label])
            for label in range(truth.shape[1])
        ]
    )


def _best_threshold(probability: Floats, truth: Ints) -> float:
    if truth.sum() < HANDFUL:
        return 0.5
    values = np.unique(probability)
    candidates = (np.concatenate([[0.0], values[:-1]]) + values) / 2
    said = probability[:, None] >= candidates
    f1 = 2 * (said & (truth == 1)[:, None]).sum(0) / (truth.sum() + said.sum(0))
    best = int(f1.argmax())
    last = best
    while last + 1 < len(f1) and f1[last + 1] >= f1[best] - 1e-12:
        last += 1
    return float(np.clip((candidates[best] + candidates[last]) / 2, 0.01, 0.99))


def decide(
    probabilities: Floats, labels: Sequence[str], thresholds: Sequence[float] | None = None
) -> list[tuple[str, ...]]:
    """Turn probabilities into labels: the likeliest, or with thresholds every label that reaches its own."""
    if thresholds is None:
        return [(labels[int(index)],) for index in probabilities.argmax(1)]
    reached = probabilities >= np.asarray(thresholds)
    return [tuple(label for label, yes in zip(labels, row, strict=True) if yes) for row in reached]
