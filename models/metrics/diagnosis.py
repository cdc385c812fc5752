"""How good closed answers are, on many bootstrap draws at once.

A case without an answer (an error, evidence that could not be had) stays in every denominator of the
metrics of decisions: it is wrong. The metrics of probabilities are taken over the cases that have any;
``Answers.stated`` says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .answers import Answers, Bools, Floats
from .draws import Kernel, Weights, divide, mean_of
from .registry import metric


def undefined(weights: Weights) -> Floats:
    """Return the kernel of what these answers do not determine."""
    return np.full(len(weights), math.nan)


def mean_defined(values: Floats) -> Floats:
    """Average over the last axis what is not NaN."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(float))


@metric("accuracy", "accuracy", parts=lambda given: given.right.astype(np.float64))
def accuracy(given: Answers) -> Kernel:
    """Share of cases that were answered with exactly the true labels."""
    return mean_of(given.right)


def _recalls(given: Answers) -> Floats:
    """What each case adds to the balanced accuracy."""
    hits, rejections = given.truth & given.said, ~given.truth & ~given.said
    recalls = hits / np.maximum(given.truth.sum(0), 1)
    if given.exclusive:
        return recalls.sum(1) / max(1, int(given.truth.any(0).sum())) * given.n
    kinds = given.truth.any(0).astype(int) + (~given.truth).any(0)
    both = recalls + rejections / np.maximum((~given.truth).sum(0), 1)
    return (both / kinds).sum(1) / given.truth.shape[1] * given.n


@metric("balanced_accuracy", "balanced accuracy", parts=_recalls)
def balanced_accuracy(given: Answers) -> Kernel:
    """Mean recall over the labels that occur; multi-label: mean over labels of its two-class value."""
    true, false = given.truth.astype(np.float64), (~given.truth).astype(np.float64)
    hits, rejections = true * given.said, false * ~given.said

    def kernel(weights: Weights) -> Floats:
        recalls = divide(weights @ hits, weights @ true)
        if given.exclusive:
            return mean_defined(recalls)
        specificities = divide(weights @ rejections, weights @ false)
        return mean_defined(mean_defined(np.stack([recalls, specificities], axis=-1)))

    return kernel


@metric("macro_f1", "macro-F1")
def macro_f1(given: Answers) -> Kernel:
    """Mean F1 over the labels that occur in the truth or in the answers."""
    hits, both = _agreement(given.truth, given.said)
    return lambda weights: mean_defined(divide(2 * (weights @ hits), weights @ both))


@metric("micro_f1", "micro-F1", several=True)
def micro_f1(given: Answers) -> Kernel:
    """F1 over all decisions together; with one label per case and no errors it is the accuracy."""
    hits, both = (table.sum(1) for table in _agreement(given.truth, given.said))
    return lambda weights: divide(2 * (weights @ hits), weights @ both)


@metric("binary_f1", "F1 of the finding")
def binary_f1(given: Answers) -> Kernel:
    """F1 of the second option of two, the finding by convention; NaN for other tasks.

    Papers on two-class sets cite this F1 rather than the mean over both classes.
    """
    if not given.exclusive or given.truth.shape[1] != 2:
        return undefined
    hits, both = _agreement(given.truth[:, 1], given.said[:, 1])
    return lambda weights: divide(2 * (weights @ hits), weights @ both)


@metric("auroc", "AUROC", stated=True)
def auroc(given: Answers) -> Kernel:
    """Macro mean of the areas of each label against the rest, over the labels that have a rest."""
    columns = [area(true, p) for true, p in zip(given.truth.T, given.probabilities.T, strict=True)]
    return lambda weights: mean_defined(np.stack([column(weights) for column in columns], axis=-1))


@metric("mean_average_precision", "mAP", stated=True, several=True)
def mean_average_precision(given: Answers) -> Kernel:
    """Mean of the average precision of each label that occurs; NaN with one label per case."""
    if given.exclusive:
        return undefined
    columns = [precision(true, p) for true, p in zip(given.truth.T, given.probabilities.T, strict=True)]
    return lambda weights: mean_defined(np.stack([column(weights) for column in columns], axis=-1))


def _agreement(truth: Bools, said: Bools) -> tuple[Floats, Floats]:
    """Where both are true, and how many of the two are."""
    return (truth & said).astype(np.float64), truth.astype(np.float64) + said


def area(true: Bools, probability: Floats) -> Kernel:
    """Area under one label's curve: chance that a case with the label ranks above one without, ties half."""
    order = np.argsort(probability, kind="stable")
    starts = _starts(probability[order])
    positive = true[order].astype(np.float32)

    def kernel(weights: Weights) -> Floats:
        if not len(order):
            return undefined(weights)
        every = weights[:, order]
        with_label = every * positive
        if len(starts) < len(order):
            every = np.add.reduceat(every, starts, axis=1)
            with_label = np.add.reduceat(with_label, starts, axis=1)
        without = every - with_label
        pairs = with_label.sum(1, dtype=np.float64) * without.sum(1, dtype=np.float64)
        # Sums of counts are exact in single precision up to 16 million cases.
        below = np.cumsum(without, axis=1)
        below -= without / 2
        return divide(np.einsum("ij,ij->i", with_label, below, dtype=np.float64), pairs)

    return kernel


def precision(true: Bools, probability: Floats) -> Kernel:
    """Average precision of one label: the precision at each threshold, weighted by the recall it adds."""
    ranked = Ranked.of(probability, true)

    def kernel(weights: Weights) -> Floats:
        every, marked = ranked.totals(weights)
        with np.errstate(invalid="ignore"):
            reached = np.nan_to_num(marked / every)
        gained = np.diff(marked, axis=1, prepend=0.0)
        found = marked[:, -1] if marked.shape[1] else np.zeros(len(weights))
        return divide((reached * gained).sum(1), found)

    return kernel


@dataclass(frozen=True)
class Ranked:
    """Cases from the largest value on, with the places at which each value starts.

    Cases of the same value cannot be told apart: a curve has one point for all of them.
    """

    order: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    marked: npt.NDArray[np.float32]

    @classmethod
    def of(cls, values: Floats, marked: Bools) -> Ranked:
        """Rank cases by a value (n,) and mark some of them (n,)."""
        order = np.argsort(-values, kind="stable")
        return cls(order, _starts(values[order]), marked[order].astype(np.float32))

    def totals(self, weights: Weights) -> tuple[Floats, Floats]:
        """Count the cases, and the marked ones, that have at least each value: (draws, values)."""
        every = weights[:, self.order]
        marked = every * self.marked
        if len(self.starts) < len(self.order):
            every = np.add.reduceat(every, self.starts, axis=1)
            marked = np.add.reduceat(marked, self.starts, axis=1)
        # Sums of counts are exact in single precision up to 16 million cases.
        return np.cumsum(every, axis=1), np.cumsum(marked, axis=1)


def _starts(ranked: Floats) -> npt.NDArray[np.intp]:
    """Places at which a new value starts."""
    if not len(ranked):
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
