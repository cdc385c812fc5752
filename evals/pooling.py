"""Several distributions over the same options made into one: a log-linear pool, and logistic stacking.

Both are fitted on validation cases. The pool has one weight per source and one offset per option, so that
a few hundred cases determine it; stacking has a weight per source, option and option, and needs more. A
multi-label task is one two-way question per option; its sources keep one weight over all options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..case import Record
from ..errors import ConfigurationError
from ..models.specialist.calibration import balancing_weights
from .label_sets import LabelSets, decided, fit_label_sets

Floats = npt.NDArray[np.float64]
Distribution = Mapping[str, float]
Sources = Mapping[str, Distribution]
"""By name of a source, its distribution over the options of one case."""

FLOOR = 1e-3
"""Smaller probabilities are taken for this: one source that is certain must not silence all others."""
PRIOR_STRENGTH = 20.0
"""How many cases' worth the equal weights and zero offsets are that the fit starts from."""
BALANCE = 0.5
"""How much a rare label counts: at 1 each label as much as any other, at 0 each case. Between them, since at
1 a pool is overconfident of rare labels (over the validation cases of five sets ECE 0.053, at 0.5 and 0
0.045), and at 0 it gives them up (balanced accuracy 0.890, at 0.5 0.897, at 1 0.900)."""
LEAST = 30
"""With fewer validation cases nothing is fitted."""
_DIGITS = 4


@dataclass(frozen=True)
class Sample:
    """Validation cases: what each source said, and what is true.

    Attributes:
        options: the columns.
        sources: name of each source to its probabilities (n, options).
        truth: (n, options), 0 or 1.
        groups: patient or group of each case.
        exclusive: whether exactly one option is true of a case.
    """

    options: tuple[str, ...]
    sources: Mapping[str, Floats]
    truth: npt.NDArray[np.bool_]
    groups: tuple[str, ...]
    exclusive: bool

    def __len__(self) -> int:
        return len(self.truth)


def check_enough(cases: int) -> None:
    """Make sure that there are enough validation cases to fit anything on.

    Raises:
        ConfigurationError: there are not.
    """
    if cases < LEAST:
        raise ConfigurationError(
            f"{cases} validation cases have all the evidence that is to be weighed; fitted arms need "
            f"{LEAST}: give the data set a larger validation split, or leave those arms out"
        )


def complete(said: Sequence[Sources]) -> list[int]:
    """Indices of the cases of which every source said something."""
    names = {name for sources in said for name in sources}
    return [place for place, sources in enumerate(said) if sources.keys() == names]


def sample(
    options: Sequence[str],
    said: Sequence[Sources],
    truth: Sequence[Sequence[str]],
    groups: Sequence[str],
    *,
    exclusive: bool,
) -> Sample:
    """Put cases into arrays; each must have all sources (see ``complete``).

    Raises:
        ConfigurationError: too few are left to fit anything on.
    """
    check_enough(len(said))
    return Sample(
        options=tuple(options),
        sources={name: np.array([_row(one[name], options) for one in said]) for name in sorted(said[0])},
        truth=np.array([[option in labels for option in options] for labels in truth]),
        groups=tuple(groups),
        exclusive=exclusive,
    )


class Pool(Record):
    """A log-linear pool: ``log p ∝ Σ weight · log p(source) + offset``; for multi-label with logits."""

    options: tuple[str, ...]
    exclusive: bool
    weights: Mapping[str, float]
    """By source."""
    offsets: tuple[float, ...]
    """By option."""
    sets: LabelSets | None = None
    """Of a multi-label task: which labels are said."""
    cases: int
    """Validation cases that it was fitted on."""

    def __call__(self, sources: Sources) -> dict[str, float]:
        """Pool one case's distributions.

        A source that is missing hands its weight to the others.

        Raises:
            LookupError: none of the sources is there.
        """
        there = {name: weight for name, weight in self.weights.items() if name in sources}
        total = sum(there.values())
        if not there or total <= 0:
            raise LookupError("none of the sources that count is there")
        scale = sum(self.weights.values()) / total
        scores = np.array(self.offsets) + sum(
            scale * weight * _evidence(_row(sources[name], self.options), self.exclusive)
            for name, weight in there.items()
        )
        pooled = _normalised(scores, self.exclusive)
        return {option: float(p) for option, p in zip(self.options, pooled, strict=True)}

    def sureness(self, pooled: Distribution) -> float:
        """How sure a pooled distribution is of what it says."""
        return float(sureness(np.array([_row(pooled, self.options)]), self.exclusive)[0])

    def labels(self, pooled: Distribution) -> tuple[str, ...]:
        """Say what a pooled distribution amounts to."""
        if self.sets is None:
            return (max(self.options, key=lambda option: pooled[option]),)
        return self.sets(pooled)


def fit_pool(given: Sample) -> Pool:
    """Fit weights and offsets by penalised likelihood; the weights are never negative.

    Of a task with one label per case a rare label counts for more than its cases, as ``BALANCE`` says. The
    penalty pulls towards equal weights that add up to one and to no offsets, as strongly as
    ``PRIOR_STRENGTH`` cases would.
    """
    from scipy.optimize import minimize

    names = sorted(given.sources)
    parts = np.stack([_evidence(given.sources[name], given.exclusive) for name in names])
    start = np.concatenate([np.full(len(names), 1 / len(names)), np.zeros(len(given.options))])
    strength = PRIOR_STRENGTH / len(given)
    balance = _balance(given)

    def loss(values: Floats) -> tuple[float, Floats]:
        weights, offsets = values[: len(names)], values[len(names) :]
        scores = np.tensordot(weights, parts, 1) + offsets
        pooled = _normalised(scores, given.exclusive)
        error = (pooled - given.truth) * balance[:, None] / len(given)
        error /= 1 if given.exclusive else len(given.options)
        gradient = np.concatenate([(parts * error).sum((1, 2)), error.sum(0)])
        away = values - start
        penalty = strength * float(away @ away) / 2
        return float((surprise(pooled, given) * balance).mean()) + penalty, gradient + strength * away

    bounds = [(0.0, None)] * len(names) + [(None, None)] * len(given.options)
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    weights, offsets = found[: len(names)], found[len(names) :]
    pooled = _normalised(np.tensordot(weights, parts, 1) + offsets, given.exclusive)
    return Pool(
        options=given.options,
        exclusive=given.exclusive,
        weights={name: _rounded(weight) for name, weight in zip(names, weights, strict=True)},
        offsets=tuple(map(_rounded, offsets)),
        sets=_label_sets(pooled, given),
        cases=len(given),
    )


def _balance(given: Sample) -> Floats:
    """Weight of each case, (n,); their mean is one."""
    if not given.exclusive:
        return np.ones(len(given))
    alike = np.asarray(balancing_weights(given.truth.argmax(1), len(given.options)), np.float64)
    return alike**BALANCE / np.mean(alike**BALANCE)


class Stack(Record):
    """Logistic regression on the logarithms of all sources' probabilities."""

    options: tuple[str, ...]
    exclusive: bool
    sources: tuple[str, ...]
    coefficients: tuple[tuple[float, ...], ...]
    """(options, sources × options)."""
    intercepts: tuple[float, ...]
    sets: LabelSets | None = None
    strength: float
    """Inverse of the penalty, chosen out of fold."""
    cases: int

    def __call__(self, sources: Sources) -> dict[str, float]:
        """Weigh one case's distributions.

        Raises:
            LookupError: one of the sources is missing.
        """
        if absent := [name for name in self.sources if name not in sources]:
            raise LookupError(f"nothing of {', '.join(absent)}")
        rows = [_evidence(_row(sources[name], self.options), self.exclusive) for name in self.sources]
        scores = np.array(self.coefficients) @ np.concatenate(rows) + np.array(self.intercepts)
        return {
            option: float(p)
            for option, p in zip(self.options, _normalised(scores, self.exclusive), strict=True)
        }

    labels = Pool.labels


def fit_stack(given: Sample) -> Stack:
    """Fit a stacker; how strongly it is penalised is chosen by log-loss out of fold, by groups."""
    names = sorted(given.sources)
    features = np.concatenate([_evidence(given.sources[name], given.exclusive) for name in names], axis=1)
    strengths = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    folds = _folds(given)
    losses = [_out_of_fold_loss(features, given, strength, folds) for strength in strengths]
    strength = strengths[int(np.argmin(losses))]
    coefficients, intercepts = _regress(features, given.truth, strength, given.exclusive)
    pooled = _normalised(features @ coefficients.T + intercepts, given.exclusive)
    return Stack(
        options=given.options,
        exclusive=given.exclusive,
        sources=tuple(names),
        coefficients=tuple(tuple(map(_rounded, row)) for row in coefficients),
        intercepts=tuple(map(_rounded, intercepts)),
        sets=_label_sets(pooled, given),
        strength=strength,
        cases=len(given),
    )


def out_of_fold(given: Sample, folds: int = 5) -> Floats:
    """Pool every validation case by weights that were fitted without its fold, (n, options)."""
    pooled = np.empty(given.truth.shape)
    for rest, left_out in _folds(given, folds):
        pool = fit_pool(take(given, rest))
        scores = np.array(pool.offsets) + sum(
            weight * _evidence(given.sources[name][left_out], given.exclusive)
            for name, weight in pool.weights.items()
        )
        pooled[left_out] = _normalised(scores, given.exclusive)
    return pooled


def sureness(pooled: Floats, exclusive: bool) -> Floats:
    """How sure pooled distributions are of what they say, (n,): for multi-label the mean over options."""
    return pooled.max(-1) if exclusive else np.maximum(pooled, 1 - pooled).mean(-1)


def right(pooled: Floats, given: Sample) -> npt.NDArray[np.bool_]:
    """Which cases pooled distributions decide rightly, (n,); for multi-label all labels must be right."""
    if given.exclusive:
        return given.truth[np.arange(len(given)), pooled.argmax(1)]
    said = decided(fit_label_sets(given.options, pooled, given.truth), pooled)
    return (said == given.truth).all(1)


def surprise(pooled: Floats, given: Sample) -> Floats:
    """Negative log-likelihood of each case, (n,)."""
    p = np.clip(pooled, 1e-12, 1 - 1e-12)
    if given.exclusive:
        return -np.log(p[given.truth])
    return -np.where(given.truth, np.log(p), np.log1p(-p)).mean(1)


def without(given: Sample, source: str) -> Sample:
    """The same cases without one of the sources."""
    return replace(given, sources={name: p for name, p in given.sources.items() if name != source})


def take(given: Sample, rows: npt.NDArray[np.intp]) -> Sample:
    """Some of the cases."""
    return replace(
        given,
        sources={name: values[rows] for name, values in given.sources.items()},
        truth=given.truth[rows],
        groups=tuple(given.groups[row] for row in rows),
    )


def _row(distribution: Distribution, options: Sequence[str]) -> list[float]:
    return [distribution.get(option, 0.0) for option in options]


def _evidence(probabilities: npt.ArrayLike, exclusive: bool) -> Floats:
    """Logarithms, centred over the options; for multi-label tasks logits."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), FLOOR, 1 - FLOOR)
    if not exclusive:
        return np.log(p) - np.log1p(-p)
    logs = np.log(p)
    return logs - logs.mean(-1, keepdims=True)


def _normalised(scores: Floats, exclusive: bool) -> Floats:
    from scipy.special import expit, softmax

    return softmax(scores, axis=-1) if exclusive else expit(scores)


def _label_sets(pooled: Floats, given: Sample) -> LabelSets | None:
    return None if given.exclusive else fit_label_sets(given.options, pooled, given.truth)


def _folds(given: Sample, folds: int = 5) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    from sklearn.model_selection import GroupKFold, KFold

    distinct = len(set(given.groups))
    if distinct < folds:
        return list(KFold(folds, shuffle=True, random_state=0).split(given.truth))
    return list(GroupKFold(folds, shuffle=True, random_state=0).split(given.truth, groups=given.groups))


def _out_of_fold_loss(
    features: Floats,
    given: Sample,
    strength: float,
    folds: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
) -> float:
    pooled = np.empty(given.truth.shape)
    for rest, left_out in folds:
        coefficients, intercepts = _regress(features[rest], given.truth[rest], strength, given.exclusive)
        pooled[left_out] = _normalised(features[left_out] @ coefficients.T + intercepts, given.exclusive)
    return float(surprise(pooled, given).mean())


def _regress(
    features: Floats, truth: npt.NDArray[np.bool_], strength: float, exclusive: bool
) -> tuple[Floats, Floats]:
    """Coefficients (options, features) and intercepts; an option without examples keeps a low score."""
    if not exclusive:
        return _regress_each(features, truth, strength)
    from sklearn.linear_model import LogisticRegression

    there = np.flatnonzero(truth.any(0))
    coefficients = np.zeros((truth.shape[1], features.shape[1]))
    intercepts = np.full(truth.shape[1], -20.0)
    if len(there) < 2:
        intercepts[there] = 0.0
        return coefficients, intercepts
    fitted = LogisticRegression(C=strength, max_iter=2000).fit(features, truth.argmax(1))
    rows, offsets = fitted.coef_, fitted.intercept_
    if len(there) == 2:
        # Of two classes scikit-learn keeps one row; half of it either way gives the same softmax.
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    coefficients[there], intercepts[there] = rows, offsets
    return coefficients, intercepts


def _regress_each(features: Floats, truth: npt.NDArray[np.bool_], strength: float) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    coefficients = np.zeros((truth.shape[1], features.shape[1]))
    intercepts = np.full(truth.shape[1], -20.0)
    for label, column in enumerate(truth.T):
        if column.any() and not column.all():
            fitted = LogisticRegression(C=strength, max_iter=2000).fit(features, column)
            coefficients[label], intercepts[label] = fitted.coef_[0], fitted.intercept_[0]
        elif column.all():
            intercepts[label] = 20.0
    return coefficients, intercepts


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
