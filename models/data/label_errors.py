"""Labels that are likely wrong: what the frozen backbone says out of fold, judged by confident learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .folds import grouped_folds, measurable_rows

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

_DOUBTED = 0.5
"""A label is doubted where its probability is less than this share of chance."""


class LabelError(NamedTuple):
    """An image whose label is likely wrong."""

    place: int
    given: int
    """Its label."""
    suggested: int
    """The label that its neighbours and a linear classifier speak for."""
    confidence: float
    """Probability of its own label, out of fold: the lower, the likelier it is wrong."""


def out_of_fold(embeddings: Floats, truth: Ints, groups: Sequence[str], *, seed: int = 0) -> Floats:
    """Return probabilities (n, labels) for each image by classifiers that saw no image of its group.

    Args:
        embeddings: (n, d).
        truth: (n,) label of each image, of rows that are measurable.
        groups: of each image.
        seed: draws the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=300))
    width = int(truth.max()) + 1
    found = np.full((len(truth), width), 1 / width)
    for fit, held in grouped_folds(truth, groups, seed):
        model.fit(embeddings[fit], truth[fit])
        found[held] = 0
        found[np.ix_(held, model[-1].classes_)] = model.predict_proba(embeddings[held])
    return found


def find_label_errors(
    embeddings: Floats, truth: Ints, groups: Sequence[str], *, seed: int = 0
) -> list[LabelError]:
    """Find the images whose labels are likely wrong, the likeliest first.

    Classes of fewer than ten images or five groups are left out. How many labels are wrong is estimated by
    confident learning (Northcutt, Jiang and Chuang 2021, doi:10.1613/jair.1.12125), by cleanlab; of the
    images whose own label is least probable so many are taken, as far as it is less than half as probable
    as by chance.

    Args:
        embeddings: (n, d) of a frozen backbone.
        truth: (n,) label of each image.
        groups: of each image; images of one patient never judge each other.
        seed: draws the folds.
    """
    from cleanlab.filter import find_label_issues

    rows = measurable_rows(truth, groups)
    if not len(rows):
        return []
    labels, dense = np.unique(truth[rows], return_inverse=True)
    probabilities = out_of_fold(embeddings[rows], dense, [groups[int(row)] for row in rows], seed=seed)
    chosen = find_label_issues(
        dense,
        probabilities,
        filter_by="low_self_confidence",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    limit = _DOUBTED / len(labels)
    return [
        LabelError(
            int(rows[place]),
            int(labels[dense[place]]),
            int(labels[probabilities[place].argmax()]),
            float(probabilities[place, dense[place]]),
        )
        for place in chosen
        if probabilities[place, dense[place]] < limit
    ]
