"""From probabilities of a multi-label task to a set of labels: the likeliest of the sets that occur.

A threshold per label knows nothing of the others: it says "Normal" beside a disease, or no label at all,
though no case was ever so. The probability of a set is the product over its labels, times how much more
often the set occurs than independent labels would make it. Thresholds fitted for exact match and macro-F1
on the same validation cases were worse on test images (evals/results/decision).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import FiniteFloat, model_validator

from ..case import Record

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMOOTHING = 0.5
"""Cases added to the count of each set (Jeffreys)."""
_EDGE = 1e-3
_DIGITS = 4


class LabelSets(Record):
    """Chooses among sets of labels."""

    options: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    """That were seen on labelled cases, and each label by itself."""
    associations: tuple[FiniteFloat, ...] = ()
    """By set: logarithm of how much more often it occurs than independent labels would make it."""

    @model_validator(mode="after")
    def _fits(self) -> LabelSets:
        if not self.sets or not {option for one in self.sets for option in one} <= set(self.options):
            raise ValueError("the sets of labels are none, or name other options")
        if self.associations and len(self.associations) != len(self.sets):
            raise ValueError(f"{len(self.sets)} sets of labels and {len(self.associations)} associations")
        return self

    def __call__(self, probabilities: Mapping[str, float]) -> tuple[str, ...]:
        """The likeliest set."""
        values = np.array([[probabilities[option] for option in self.options]])
        return self.sets[int(self.log_scores(values)[0].argmax())]

    @property
    def members(self) -> Bools:
        """Which option is in which set, (sets, options)."""
        return np.array([[option in one for option in self.options] for one in self.sets])

    def log_scores(self, probabilities: Floats) -> Floats:
        """Unnormalised log-probability of each set, (n, sets).

        Args:
            probabilities: of each option, (n, options).
        """
        p, members = np.clip(probabilities, _EDGE, 1 - _EDGE), self.members
        scores = np.log(p) @ members.T + np.log1p(-p) @ (~members).T
        return scores + np.array(self.associations) if self.associations else scores


def fit_label_sets(options: Sequence[str], truth: Bools) -> LabelSets:
    """Count which sets occur.

    Args:
        options: the columns.
        truth: labels of labelled cases, (n, options).
    """
    members = np.unique(np.concatenate([truth, np.eye(len(options), dtype=bool)]), axis=0)
    counts = (truth[:, None, :] == members[None]).all(2).sum(0)
    total = len(truth) + SMOOTHING * len(members)
    alone = np.clip(truth.mean(0), SMOOTHING / total, 1 - SMOOTHING / total)
    independent = members @ np.log(alone) + ~members @ np.log1p(-alone)
    associations = np.log((counts + SMOOTHING) / total) - independent
    return LabelSets(
        options=tuple(options),
        sets=tuple(tuple(np.array(options)[row].tolist()) for row in members),
        associations=tuple(round(float(value), _DIGITS) for value in associations),
    )


def likeliest_sets(rule: LabelSets, probabilities: Floats) -> Bools:
    """What a rule says of many cases, (n, options)."""
    return rule.members[rule.log_scores(probabilities).argmax(1)]
