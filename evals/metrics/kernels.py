"""The metrics of closed answers on many bootstrap draws at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .answers import Answers, Bools, Floats, certainty, confidences
from .calibration import BINS, COVERAGE, squared_distance, surprise
from .draws import Kernel, Weights, divide, mean_of


def kernels(given: Answers) -> dict[str, Kernel]:
    """Return the kernel of each metric for these answers."""
    stated = given.stated
    probable = given.take(stated)
    return {
        "accuracy": mean_of(given.right),
        "balanced_accuracy": _balanced_accuracy(given),
        "macro_f1": _macro_f1(given),
        "micro_f1": _micro_f1(given),
        "binary_f1": _binary_f1(given),
        "auroc": _of(stated, _auroc(probable)),
        "mean_average_precision": _undefined
        if given.exclusive
        else _of(stated, _average_precision(probable)),
        "ece": _of(stated, _calibration_error(probable)),
        "log_loss": _of(stated, mean_of(surprise(probable))),
        "brier": _of(stated, mean_of(squared_distance(probable))),
        "aurc": _of(stated, _aurc(probable)),
        "error_at_80": _of(stated, _error_at(probable, COVERAGE)),
    }


def _undefined(weights: Weights) -> Floats:
    return np.full(len(weights), math.nan)


def _of(cases: npt.NDArray[np.intp], kernel: Kernel) -> Kernel:
    return lambda weights: kernel(weights[:, cases])


def _mean_defined(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(float))


def _balanced_accuracy(given: Answers) -> Kernel:
    true, false = given.truth.astype(np.float64), (~given.truth).astype(np.float64)
    hits, rejections = true * given.said, false * ~given.said

    def kernel(weights: Weights) -> Floats:
        recalls = divide(weights @ hits, weights @ true)
        if given.exclusive:
            return _mean_defined(recalls)
        specificities = divide(weights @ rejections, weights @ false)
        return _mean_defined(_mean_defined(np.stack([recalls, specificities], axis=-1)))

    return kernel


def _macro_f1(given: Answers) -> Kernel:
    hits = (given.truth & given.said).astype(np.float64)
    both = given.truth.astype(np.float64) + given.said
    return lambda weights: _mean_defined(divide(2 * (weights @ hits), weights @ both))


def _binary_f1(given: Answers) -> Kernel:
    if not given.exclusive or given.truth.shape[1] != 2:
        return _undefined
    hits = (given.truth[:, 1] & given.said[:, 1]).astype(np.float64)
    both = given.truth[:, 1].astype(np.float64) + given.said[:, 1]
    return lambda weights: divide(2 * (weights @ hits), weights @ both)


def _micro_f1(given: Answers) -> Kernel:
    hits = (given.truth & given.said).sum(1).astype(np.float64)
    both = given.truth.sum(1).astype(np.float64) + given.said.sum(1)
    return lambda weights: divide(2 * (weights @ hits), weights @ both)


def _auroc(given: Answers) -> Kernel:
    columns = [_area(true, p) for true, p in zip(given.truth.T, given.probabilities.T, strict=True)]
    return lambda weights: _mean_defined(np.stack([column(weights) for column in columns], axis=-1))


def _area(true: Bools, probability: Floats) -> Kernel:
    """Area under one label's curve: chance that a case with the label ranks above one without, ties half."""
    order = np.argsort(probability, kind="stable")
    ranked = probability[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype=int)
    positive = true[order].astype(np.float32)

    def kernel(weights: Weights) -> Floats:
        if not len(order):
            return np.full(len(weights), math.nan)
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


def _average_precision(given: Answers) -> Kernel:
    columns = [_precision(true, p) for true, p in zip(given.truth.T, given.probabilities.T, strict=True)]
    return lambda weights: _mean_defined(np.stack([column(weights) for column in columns], axis=-1))


def _precision(true: Bools, probability: Floats) -> Kernel:
    """Average precision of one label: the precision at each threshold, weighted by the recall it adds."""
    ranked = _Ranked.of(probability, true)

    def kernel(weights: Weights) -> Floats:
        every, marked = ranked.totals(weights)
        with np.errstate(invalid="ignore"):
            precision = np.nan_to_num(marked / every)
        gained = np.diff(marked, axis=1, prepend=0.0)
        found = marked[:, -1] if marked.shape[1] else np.zeros(len(weights))
        return divide((precision * gained).sum(1), found)

    return kernel


@dataclass(frozen=True)
class _Ranked:
    """Cases from the largest value on, with the places at which each value ends."""

    order: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    marked: npt.NDArray[np.float32]

    @classmethod
    def of(cls, values: Floats, marked: Bools) -> _Ranked:
        order = np.argsort(-values, kind="stable")
        ranked = values[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else order
        return cls(order, starts, marked[order].astype(np.float32))

    def totals(self, weights: Weights) -> tuple[Floats, Floats]:
        """How many cases, and how many marked ones, have at least each value: (draws, values)."""
        every = weights[:, self.order]
        marked = every * self.marked
        if len(self.starts) < len(self.order):
            every = np.add.reduceat(every, self.starts, axis=1)
            marked = np.add.reduceat(marked, self.starts, axis=1)
        # Sums of counts are exact in single precision up to 16 million cases.
        return np.cumsum(every, axis=1), np.cumsum(marked, axis=1)


def _aurc(given: Answers) -> Kernel:
    ranked = _Ranked.of(certainty(given), ~given.right)

    def kernel(weights: Weights) -> Floats:
        every, wrong = ranked.totals(weights)
        with np.errstate(invalid="ignore"):
            risk = np.nan_to_num(wrong / every)
        added = np.diff(every, axis=1, prepend=0.0)
        total = every[:, -1] if every.shape[1] else np.zeros(len(weights))
        return divide((risk * added).sum(1, dtype=np.float64), total.astype(np.float64))

    return kernel


def _error_at(given: Answers, coverage: float) -> Kernel:
    ranked = _Ranked.of(certainty(given), ~given.right)

    def kernel(weights: Weights) -> Floats:
        every, wrong = (totals.astype(np.float64) for totals in ranked.totals(weights))
        if not every.shape[1]:
            return np.full(len(weights), math.nan)
        wanted = coverage * every[:, -1:]
        place = (every >= wanted).argmax(1)[:, None]
        before = np.maximum(place - 1, 0)
        inside = place > 0
        counted = np.where(inside, np.take_along_axis(every, before, 1), 0.0)
        errors = np.where(inside, np.take_along_axis(wrong, before, 1), 0.0)
        slope = divide(
            np.take_along_axis(wrong, place, 1) - errors, np.take_along_axis(every, place, 1) - counted
        )
        return divide(errors + slope * (wanted - counted), wanted)[:, 0]

    return kernel


def _calibration_error(given: Answers) -> Kernel:
    gaps = []
    for probability, hit in confidences(given):
        place = np.clip((probability * BINS).astype(int), 0, BINS - 1)
        gaps.append(np.eye(BINS)[place] * (probability - hit)[:, None])

    def kernel(weights: Weights) -> Floats:
        errors = [divide(np.abs(weights @ gap).sum(1), weights.sum(1)) for gap in gaps]
        return _mean_defined(np.stack(errors, axis=-1))

    return kernel
