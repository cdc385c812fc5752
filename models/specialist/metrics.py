"""How good a specialist's predictions are, with bootstrap intervals that respect groups.

Single-label inputs are class indices (n,), multi-label ones are 0/1 arrays (n, labels).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..metrics.answers import Answers
from ..metrics.draws import bootstrap
from ..metrics.registry import METRICS
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
    given = _answers(truth, decided, probabilities)
    times = np.ones((1, given.n)) if weights is None else np.asarray(weights, dtype=np.float64)[None]
    return {name: float(METRICS[name].kernel(given)(times)[0]) for name in NAMES}


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
    given = _answers(truth, decided, probabilities)
    kernels = {name: METRICS[name].kernel(given) for name in NAMES}
    drawn = bootstrap(kernels, groups, rounds=draws, seed=seed)
    intervals = {}
    for name in NAMES:
        number, defined = METRICS[name](given), drawn[name][~np.isnan(drawn[name])]
        if np.isnan(number) or not len(defined):
            continue
        excess = float(defined.mean()) - number if name == "ece" else 0.0
        low, high = np.clip(np.percentile(defined, [2.5, 97.5]) - excess, 0, 1)
        if low == high == 1:
            # Nothing is wrong in any resample: the exact limit for as many groups without an error.
            low = 0.025 ** (1 / len(set(groups)))
        intervals[name] = MetricValue(
            value=round(number, 4), low=round(float(low), 4), high=round(float(high), 4), n=given.n
        )
    return intervals


def _answers(truth: Ints, decided: Ints, probabilities: Floats) -> Answers:
    exclusive, columns = truth.ndim == 1, np.arange(probabilities.shape[1])
    return Answers(
        truth=truth[:, None] == columns if exclusive else truth == 1,
        said=decided[:, None] == columns if exclusive else decided == 1,
        answered=np.ones(len(truth), dtype=bool),
        probabilities=probabilities,
        exclusive=exclusive,
    )
