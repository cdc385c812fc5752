"""How good closed answers are: pure functions over arrays, computed by scikit-learn where it has them.

A case without an answer (an error, evidence that could not be had) stays in every denominator of the
metrics of decisions: it is wrong. The metrics of probabilities are taken over the cases that have any;
``Answers.stated`` says which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .answers import Answers, Bools, Floats, answers, confidences
from .calibration import aurc, brier, calibration_error, error_at_coverage, log_loss, surprise

__all__ = [
    "METRICS",
    "OF_PROBABILITIES",
    "Answers",
    "Bools",
    "Floats",
    "Metric",
    "accuracy",
    "answers",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "binary_f1",
    "brier",
    "calibration_error",
    "confidences",
    "contributions",
    "macro_f1",
    "mean_average_precision",
    "micro_f1",
]

_LEFT_OUT: Any = np.nan
"""What scikit-learn gives a label that is nowhere, and leaves out of its mean; typed as ``str`` there."""


def accuracy(given: Answers) -> float:
    """Share of cases that were answered with exactly the true labels."""
    return float(given.right.mean()) if given.n else math.nan


def balanced_accuracy(given: Answers) -> float:
    """Mean recall over the labels that occur; multi-label: mean over labels of its two-class value."""
    from sklearn.metrics import recall_score

    if not given.n:
        return math.nan
    if given.exclusive:
        # The indicator form takes a case without an answer, which a class index cannot say.
        return float(recall_score(given.truth, given.said, average="macro", zero_division=_LEFT_OUT))
    pairs = zip(given.truth.T, given.said.T, strict=True)
    return _mean([recall_score(true, said, labels=np.unique(true), average="macro") for true, said in pairs])


def contributions(given: Answers) -> dict[str, Floats]:
    """What each case adds to a metric that is a sum over cases, (n,); their differences can be tested."""
    hits, rejections = given.truth & given.said, ~given.truth & ~given.said
    found: dict[str, Floats] = {"accuracy": given.right.astype(np.float64)}
    recalls = hits / np.maximum(given.truth.sum(0), 1)
    if given.exclusive:
        balanced = recalls.sum(1) / max(1, int(given.truth.any(0).sum()))
    else:
        kinds = given.truth.any(0).astype(int) + (~given.truth).any(0)
        both = recalls + rejections / np.maximum((~given.truth).sum(0), 1)
        balanced = (both / kinds).sum(1) / given.truth.shape[1]
    found["balanced_accuracy"] = balanced * given.n
    if len(given.stated) == given.n:
        found["log_loss"] = surprise(given)
    return found


def macro_f1(given: Answers) -> float:
    """Mean F1 over the labels that occur in the truth or in the answers."""
    from sklearn.metrics import f1_score

    if not given.n:
        return math.nan
    return float(f1_score(given.truth, given.said, average="macro", zero_division=_LEFT_OUT))


def micro_f1(given: Answers) -> float:
    """F1 over all decisions together; with one label per case and no errors it is the accuracy."""
    from sklearn.metrics import f1_score

    if not (given.truth.any() or given.said.any()):
        return math.nan
    return float(f1_score(given.truth, given.said, average="micro"))


def binary_f1(given: Answers) -> float:
    """F1 of the second option of two, the finding by convention; NaN for other tasks.

    Papers on two-class sets cite this F1 rather than the mean over both classes.
    """
    from sklearn.metrics import f1_score

    if not given.exclusive or given.truth.shape[1] != 2 or not given.n:
        return math.nan
    return float(f1_score(given.truth[:, 1], given.said[:, 1], zero_division=_LEFT_OUT))


def auroc(given: Answers) -> float:
    """Macro mean of the areas of each label against the rest, over the labels that have a rest."""
    from sklearn.metrics import roc_auc_score

    given = given.take(given.stated)
    pairs = zip(given.truth.T, given.probabilities.T, strict=True)
    return _mean([float(roc_auc_score(true, p)) for true, p in pairs if true.any() and not true.all()])


def average_precision(given: Answers) -> float:
    """Macro mean of each label's average precision (mAP), over the labels that occur."""
    from sklearn.metrics import average_precision_score

    given = given.take(given.stated)
    pairs = zip(given.truth.T, given.probabilities.T, strict=True)
    return _mean([float(average_precision_score(true, p)) for true, p in pairs if true.any()])


def mean_average_precision(given: Answers) -> float:
    """Return ``average_precision`` where a case may have several labels; NaN for single-label tasks."""
    return math.nan if given.exclusive else average_precision(given)


Metric = Callable[[Answers], float]

METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "binary_f1": binary_f1,
    "auroc": auroc,
    "mean_average_precision": mean_average_precision,
    "ece": calibration_error,
    "log_loss": log_loss,
    "brier": brier,
    "aurc": aurc,
    "error_at_80": error_at_coverage,
}
"""In the order of a report."""

OF_PROBABILITIES = frozenset(
    {"auroc", "mean_average_precision", "ece", "log_loss", "brier", "aurc", "error_at_80"}
)
"""Those that only look at cases with probabilities."""


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
