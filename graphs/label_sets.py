"""From probabilities of a multi-label task to a set of labels, as learnt on validation cases.

A threshold per label knows nothing of the others: it says "Normal" beside a disease, or no label at all,
though no case was ever so. So one of the sets that occur is chosen, and the thresholds only shift it. They
are fitted for what is measured: all labels of a case right (exact match), and each label found, however rare
(macro-F1). Fitted for the F1 of each label alone, exact match falls by half on a set with rare labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..case import Record
from ..models.specialist.calibration import fit_thresholds

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CANDIDATES = 24
"""Thresholds that are tried for a label, at equal steps of its probabilities' ranks."""
SWEEPS = 4
"""Over all labels; fewer where nothing changes any more."""
_EDGE = 1e-3
_DIGITS = 4


class LabelSets(Record):
    """Chooses among sets of labels."""

    options: tuple[str, ...]
    thresholds: tuple[float, ...]
    """By option: a set gains by it where its probability is above this."""
    sets: tuple[tuple[str, ...], ...]
    """That were seen on validation cases, and each label by itself."""

    def __call__(self, probabilities: Mapping[str, float]) -> tuple[str, ...]:
        """The set that gains most."""
        values = np.array([[probabilities[option] for option in self.options]])
        members = np.array([[option in one for option in self.options] for one in self.sets])
        return self.sets[int(_chosen(_gains(values, np.array(self.thresholds)), members)[0])]


def fit_label_sets(options: Sequence[str], probabilities: Floats, truth: Bools) -> LabelSets:
    """Fit thresholds by going through the labels in turn.

    Args:
        options: the columns.
        probabilities: (n, options), of validation cases.
        truth: (n, options).
    """
    members = np.unique(np.concatenate([truth, np.eye(len(options), dtype=bool)]), axis=0)
    starts = (fit_thresholds(probabilities, truth.astype(int)), np.full(len(options), 0.5))
    tried = [_climbed(probabilities, truth, members, np.asarray(start, np.float64)) for start in starts]
    thresholds, _ = max(tried, key=lambda one: one[1])
    return LabelSets(
        options=tuple(options),
        thresholds=tuple(round(float(value), _DIGITS) for value in thresholds),
        sets=tuple(tuple(np.array(options)[row].tolist()) for row in members),
    )


def decided(rule: LabelSets, probabilities: Floats) -> Bools:
    """What a rule says of many cases, (n, options)."""
    members = np.array([[option in one for option in rule.options] for one in rule.sets])
    return members[_chosen(_gains(probabilities, np.array(rule.thresholds)), members)]


def _climbed(probabilities: Floats, truth: Bools, members: Bools, thresholds: Floats) -> tuple[Floats, float]:
    best = _worth(members[_chosen(_gains(probabilities, thresholds), members)], truth)
    ranks = np.linspace(0.01, 0.99, CANDIDATES)
    for _ in range(SWEEPS):
        before = best
        for label in range(truth.shape[1]):
            for candidate in np.quantile(probabilities[:, label], ranks):
                moved = thresholds.copy()
                moved[label] = np.clip(candidate, _EDGE, 1 - _EDGE)
                worth = _worth(members[_chosen(_gains(probabilities, moved), members)], truth)
                if worth > best + 1e-9:
                    best, thresholds = worth, moved
        if best <= before:
            break
    return thresholds, best


def _gains(probabilities: Floats, thresholds: Floats) -> Floats:
    from scipy.special import logit

    return logit(np.clip(probabilities, _EDGE, 1 - _EDGE)) - logit(np.clip(thresholds, _EDGE, 1 - _EDGE))


def _chosen(gains: Floats, members: Bools) -> npt.NDArray[np.intp]:
    return (gains @ members.T).argmax(1)


def _worth(said: Bools, truth: Bools) -> float:
    """Exact match plus macro-F1 over the labels that occur."""
    hits, there = (said & truth).sum(0), truth.any(0)
    f1 = 2 * hits / np.maximum(said.sum(0) + truth.sum(0), 1)
    return float((said == truth).all(1).mean() + f1[there].mean())
