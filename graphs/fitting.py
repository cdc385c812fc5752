"""Fitting a collaboration: which sources a decision weighs, how much, and when it asks the generalist.

Candidates are every single source, their plain mean, the log-linear pool without and with the generalist,
the pool that asks only where it is unsure, and logistic stacking. They are compared by log loss out of fold,
folds by group, and ``selection`` chooses among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..case import Record
from ..errors import ConfigurationError
from .fusion import GENERALIST
from .label_sets import LabelSets, fit_label_sets, likeliest_sets
from .pool import (
    Bools,
    Floats,
    Pool,
    Sources,
    evidence_of,
    normalised,
    row_of,
    set_log_odds,
)

PRIOR_STRENGTH = 60.0
"""How many cases' worth the prior weights and zero offsets are that the fit starts from. Validation cases
stopped and calibrated the specialists, so that they look surer on them than they are: at 20 and with equal
prior weights the mean log loss of the four bundled tasks' test images was 0.288, at 60 and with weights by
reliability it is 0.269, and from there to 600 it hardly changes."""
MOST_LABELS = 20
"""With more options there are no weights by label."""
START_WEIGHT = 1.25
"""All weights together at the start: more than one, since the sources are not copies of each other, and
less than their number, since they are not independent either."""
LEAST = 30
"""With fewer cases nothing is fitted."""
FOLDS = 5
MOST_CALLS = 0.5
"""The adaptive rule asks the generalist about this share of the cases at most, less one standard error."""
POOL, FULL_POOL, ADAPTIVE, STACKING, MEAN = "pool", "pool with generalist", "adaptive", "stacking", "mean"
BY_LABEL, PLAIN = "pool with weights by label", "pool without weights by label"
"""The pool in the form that was not taken, where there are both."""
_DIGITS = 4
Folds = Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


@dataclass(frozen=True)
class FitSample:
    """Labelled cases: what each source said, and what is true.

    Attributes:
        options: the columns.
        sources: name of each source to its probabilities (n, options).
        truth: (n, options), 0 or 1.
        groups: patient or group of each case.
        exclusive: whether exactly one option is true of a case.
    """

    options: tuple[str, ...]
    sources: Mapping[str, Floats]
    truth: Bools
    groups: tuple[str, ...]
    exclusive: bool

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: npt.NDArray[np.intp] | Bools) -> FitSample:
        """Some of the cases."""
        places = np.arange(len(self))[rows]
        return replace(
            self,
            sources={name: values[places] for name, values in self.sources.items()},
            truth=self.truth[places],
            groups=tuple(self.groups[place] for place in places),
        )

    def only(self, names: Sequence[str]) -> FitSample:
        """The same cases with some of the sources."""
        return replace(self, sources={name: self.sources[name] for name in names})

    @property
    def evidence(self) -> tuple[str, ...]:
        """Names of the sources without the generalist."""
        return tuple(name for name in self.sources if name != GENERALIST)


def sample_of(
    options: Sequence[str],
    said: Sequence[Sources],
    truth: Sequence[Sequence[str]],
    groups: Sequence[str],
    *,
    exclusive: bool,
) -> FitSample:
    """Put cases into arrays; those of which a source is missing are left out.

    Raises:
        ConfigurationError: too few are left to fit anything on.
    """
    names = sorted({name for sources in said for name in sources})
    kept = [place for place, sources in enumerate(said) if set(sources) == set(names)]
    if len(kept) < LEAST:
        raise ConfigurationError(
            f"{len(kept)} of {len(said)} labelled cases have all the evidence that is to be weighed, and a "
            f"fit needs {LEAST}: give the data set a larger validation split"
        )
    return FitSample(
        options=tuple(options),
        sources={name: np.array([row_of(said[place][name], options) for place in kept]) for name in names},
        truth=np.array([[option in truth[place] for option in options] for place in kept]),
        groups=tuple(groups[place] for place in kept),
        exclusive=exclusive,
    )


def fit_pool(given: FitSample, prior: Mapping[str, float] | None = None, *, by_label: bool = False) -> Pool:
    """Fit weights and offsets by penalised likelihood; the weights are never negative.

    The penalty pulls towards the prior weights, to no weights by label and to no offsets, as strongly as
    ``PRIOR_STRENGTH`` cases would.

    Args:
        given: the cases.
        prior: weights to start from, such as ``reliability_weights``; None means equal ones.
        by_label: whether a source has weights by label too; ``may_weigh_by_label`` says where that can be.
    """
    from scipy.optimize import minimize

    names, options = sorted(given.sources), len(given.options)
    parts = np.stack([evidence_of(given.sources[name], given.exclusive) for name in names])
    before = [START_WEIGHT / len(names) if prior is None else prior[name] for name in names]
    start = np.concatenate([before, np.zeros(options + len(names) * options**2)])
    ends = (len(names), len(names) + options)
    strength = PRIOR_STRENGTH / len(given)

    def around_weight(matrices: Floats) -> Floats:
        """Weights by label: what all labels have in common is the source's weight."""
        common = np.trace(matrices, axis1=1, axis2=2)[:, None, None] / options
        return by_label * (matrices - common * np.eye(options))

    def labels_of(values: Floats) -> Floats:
        return around_weight(values[ends[1] :].reshape(len(names), options, options))

    def loss(values: Floats) -> tuple[float, Floats]:
        weights, offsets = values[: ends[0]], values[ends[0] : ends[1]]
        scores = np.tensordot(weights, parts, 1) + offsets
        scores += np.matmul(parts, labels_of(values).transpose(0, 2, 1)).sum(0)
        pooled = normalised(scores, given.exclusive)
        error = (pooled - given.truth) / len(given)
        error /= 1 if given.exclusive else options
        coupling = around_weight(np.matmul(error.T, parts))
        gradient = np.concatenate([(parts * error).sum((1, 2)), error.sum(0), coupling.ravel()])
        away = values - start
        penalty = strength * float(away @ away) / 2
        return float(surprise(pooled, given).mean()) + penalty, gradient + strength * away

    bounds = [(0.0, None)] * len(names) + [(None, None)] * (len(start) - len(names))
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return Pool(
        options=given.options,
        exclusive=given.exclusive,
        weights={name: _rounded(weight) for name, weight in zip(names, found, strict=False)},
        label_weights={
            name: tuple(tuple(map(_rounded, row)) for row in rows)
            for name, rows in zip(names, labels_of(found), strict=True)
            if by_label
        },
        offsets=tuple(map(_rounded, found[ends[0] : ends[1]])),
        cases=len(given),
    )


def may_weigh_by_label(given: FitSample) -> bool:
    """Whether a pool of these cases can have weights by label: one label for each case, and few labels."""
    return given.exclusive and len(given.options) <= MOST_LABELS


def apply_pool(pool: Pool, given: FitSample) -> Floats:
    """Pool many cases at once, (n, options); all sources that count must be there."""
    scores = np.array(pool.offsets) + sum(pool.part(name, given.sources[name]) for name in pool.weights)
    return normalised(scores, given.exclusive)


def with_sets(pool: Pool, given: FitSample, out_of_fold: Floats) -> Pool:
    """Fit which sets of labels a multi-label pool says, and how sure it is of them.

    Args:
        pool: fitted on these cases.
        given: the cases.
        out_of_fold: what pools said of each case that were fitted without it, (n, options).
    """
    if given.exclusive:
        return pool
    sets = fit_label_sets(given.options, given.truth)
    said = likeliest_sets(sets, out_of_fold)
    odds = set_log_odds(sets, out_of_fold, said)
    return pool.model_copy(
        update={"sets": sets, "set_confidence": _platt(odds, (said == given.truth).all(1))}
    )


def _platt(odds: Floats, right: Bools) -> tuple[float, float]:
    """Slope and intercept that make log-odds true, by a regression with a weak penalty (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    if right.all() or not right.any():
        return 0.0, _rounded(float(np.log((right.sum() + 1) / ((~right).sum() + 1))))
    fitted = LogisticRegression(C=1.0).fit(odds[:, None], right)
    return _rounded(float(fitted.coef_[0, 0])), _rounded(float(fitted.intercept_[0]))


def surprise(pooled: Floats, given: FitSample) -> Floats:
    """Negative log-likelihood of each case, (n,); of a multi-label task the mean over its options."""
    p = np.clip(pooled, 1e-12, 1 - 1e-12)
    if given.exclusive:
        return -np.log(p[given.truth])
    return -np.where(given.truth, np.log(p), np.log1p(-p)).mean(1)


def right(pooled: Floats, given: FitSample) -> Bools:
    """Which cases pooled distributions decide rightly, (n,); for multi-label all labels must be right."""
    if given.exclusive:
        return given.truth[np.arange(len(given)), pooled.argmax(1)]
    said = likeliest_sets(fit_label_sets(given.options, given.truth), pooled)
    return (said == given.truth).all(1)


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
        rows = [evidence_of(row_of(sources[name], self.options), self.exclusive) for name in self.sources]
        scores = np.array(self.coefficients) @ np.concatenate(rows) + np.array(self.intercepts)
        return {
            option: float(p)
            for option, p in zip(self.options, normalised(scores, self.exclusive), strict=True)
        }

    def many(self, given: FitSample) -> Floats:
        """Weigh many cases at once, (n, options)."""
        rows = np.concatenate(
            [evidence_of(given.sources[name], self.exclusive) for name in self.sources], axis=1
        )
        scores = rows @ np.array(self.coefficients).T + np.array(self.intercepts)
        return normalised(scores, self.exclusive)

    labels = Pool.labels


def fit_stack(given: FitSample) -> Stack:
    """Fit a stacker; how strongly it is penalised is chosen by log-loss out of fold, by groups."""
    names = sorted(given.sources)
    features = np.concatenate([evidence_of(given.sources[name], given.exclusive) for name in names], axis=1)
    strengths = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    folds = folds_of(given)
    losses = [_out_of_fold_loss(features, given, strength, folds) for strength in strengths]
    strength = strengths[int(np.argmin(losses))]
    coefficients, intercepts = _regress(features, given.truth, strength, given.exclusive)
    return Stack(
        options=given.options,
        exclusive=given.exclusive,
        sources=tuple(names),
        coefficients=tuple(tuple(map(_rounded, row)) for row in coefficients),
        intercepts=tuple(map(_rounded, intercepts)),
        sets=None if given.exclusive else fit_label_sets(given.options, given.truth),
        strength=strength,
        cases=len(given),
    )


def folds_of(given: FitSample) -> Folds:
    """Rows to fit on and rows left out; no group is in both."""
    from sklearn.model_selection import GroupKFold, KFold

    distinct = len(set(given.groups))
    if distinct < FOLDS:
        return list(KFold(FOLDS, shuffle=True, random_state=0).split(given.truth))
    return list(GroupKFold(FOLDS, shuffle=True, random_state=0).split(given.truth, groups=given.groups))


def _out_of_fold_loss(
    features: Floats,
    given: FitSample,
    strength: float,
    folds: Folds,
) -> float:
    pooled = np.empty(given.truth.shape)
    for rest, left_out in folds:
        coefficients, intercepts = _regress(features[rest], given.truth[rest], strength, given.exclusive)
        pooled[left_out] = normalised(features[left_out] @ coefficients.T + intercepts, given.exclusive)
    return float(surprise(pooled, given).mean())


def _regress(features: Floats, truth: Bools, strength: float, exclusive: bool) -> tuple[Floats, Floats]:
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


def _regress_each(features: Floats, truth: Bools, strength: float) -> tuple[Floats, Floats]:
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
