"""Cross-validation by group, on the classes that have enough of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]

FOLDS = 5
LEAST = 10
"""Images of a class, under which it is left out."""


def measurable_rows(truth: Ints, groups: Sequence[str]) -> Ints:
    """Return the rows of classes with enough images and groups; none where fewer than two classes have them.

    Args:
        truth: (n,) class of each row, from 0.
        groups: of each row.
    """
    names = np.array(groups)
    kept = [
        label
        for label, count in enumerate(np.bincount(truth))
        if count >= LEAST and len(np.unique(names[truth == label])) >= FOLDS
    ]
    return np.flatnonzero(np.isin(truth, kept)) if len(kept) > 1 else np.array([], dtype=int)


def grouped_folds(truth: Ints, groups: Sequence[str], seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows to fit on and the rows held out, so that no group is in both.

    Folds whose rows to fit on hold a single class are left out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fit, held in folds.split(np.zeros((len(truth), 1)), truth, np.array(groups)):
        if len(np.unique(truth[fit])) > 1:
            yield fit, held
