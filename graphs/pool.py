"""The log-linear opinion pool: several distributions over the same options become one.

In log-odds the shares of the sources add up. A pool has one weight per source and one offset per option. A
fitted one has weights by label too: what a source says of one option may count more than what it says of
another, or speak for a third. They are held near zero, so that a few hundred cases determine them. A
multi-label task is one two-way question per option.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field, FiniteFloat, model_validator

from ..case import Record
from .label_sets import LabelSets

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Distribution = Mapping[str, float]
Sources = Mapping[str, Distribution]
"""By name of a source, its distribution over the options of one case."""

FLOOR = 1e-3
"""Smaller probabilities are taken for this: one source that is certain must not silence all others."""
PRESENT = 0.5
"""Probability from which on an option of a multi-label task is said where no sets of labels are known."""


class Pool(Record):
    """A log-linear pool: ``log p ∝ Σ (weight + label weights) · log p(source) + offset``.

    For multi-label tasks with logits in the place of logarithms.

    Genest and Zidek, Combining probability distributions (1986), https://doi.org/10.1214/ss/1177013825.
    """

    options: tuple[str, ...]
    exclusive: bool
    weights: Mapping[str, FiniteFloat]
    """By source."""
    label_weights: Mapping[str, tuple[tuple[FiniteFloat, ...], ...]] = Field(default_factory=dict)
    """By source, (options, options): what its evidence for a column's option adds for a row's, beside the
    weight; on the mean of the diagonal nothing."""
    offsets: tuple[FiniteFloat, ...]
    """By option."""
    sets: LabelSets | None = None
    """Of a multi-label task: which labels are said."""
    set_confidence: tuple[FiniteFloat, FiniteFloat] | None = None
    """Slope and intercept from the log-odds that a set of labels is right to calibrated ones."""
    cases: int = 0
    """Cases that it was fitted on; 0 for one that follows from reliabilities."""

    @model_validator(mode="after")
    def _fits(self) -> Pool:
        if len(self.offsets) != len(self.options) or not self.options:
            raise ValueError(f"{len(self.options)} options and {len(self.offsets)} offsets")
        count = len(self.options)
        for matrix in self.label_weights.values():
            if len(matrix) != count or any(len(row) != count for row in matrix):
                raise ValueError(f"label weights are not {count} × {count}")
        if self.sets is not None and set(self.sets.options) != set(self.options):
            raise ValueError("the sets of labels have other options")
        return self

    def __call__(self, sources: Sources) -> dict[str, float]:
        """Pool one case's distributions.

        A source that is missing hands its weight to the others.

        Raises:
            LookupError: none of the sources that count is available.
        """
        pooled = normalised(self._scores(sources), self.exclusive)
        return {option: float(p) for option, p in zip(self.options, pooled, strict=True)}

    def labels(self, pooled: Distribution) -> tuple[str, ...]:
        """Say what a pooled distribution amounts to."""
        if self.exclusive:
            return (max(self.options, key=lambda option: pooled[option]),)
        if self.sets is None:
            return tuple(option for option in self.options if pooled[option] >= PRESENT)
        return self.sets(pooled)

    def confidence(self, pooled: Distribution, labels: Sequence[str]) -> float:
        """Probability that the labels are right, all of them together."""
        if self.exclusive:
            return pooled[labels[0]]
        values = np.array([[pooled[option] for option in self.options]])
        said = np.array([[option in labels for option in self.options]])
        return float(self.confidences(values, said)[0])

    def confidences(self, pooled: Floats, said: Bools) -> Floats:
        """The same of many cases of a multi-label task, (n,).

        Args:
            pooled: (n, options).
            said: (n, options).
        """
        from scipy.special import expit

        odds = set_log_odds(self.sets, pooled, said)
        slope, intercept = self.set_confidence or (1.0, 0.0)
        return expit(slope * odds + intercept)

    def shares(self, sources: Sources, option: str, rival: str | None) -> tuple[dict[str, float], float]:
        """What each source adds to the log-odds of an option, and what the offsets add.

        Args:
            sources: of the case.
            option: what the log-odds speak for.
            rival: and against what; None for the option's absence, of a multi-label task.
        """
        at, scale = self.options.index(option), self.scale(sources)

        def against(values: Floats) -> float:
            return float(values[at] - (values[self.options.index(rival)] if rival is not None else 0.0))

        found = {
            name: scale * against(self.part(name, row_of(sources[name], self.options)))
            for name in self.weights
            if name in sources
        }
        return found, against(np.array(self.offsets))

    def _scores(self, sources: Sources) -> Floats:
        scale = self.scale(sources)
        return np.array(self.offsets) + sum(
            scale * self.part(name, row_of(sources[name], self.options))
            for name in self.weights
            if name in sources
        )

    def part(self, name: str, probabilities: npt.ArrayLike) -> Floats:
        """What a source adds to the scores of the options, (…, options).

        Args:
            name: of the source.
            probabilities: that it gave, (…, options).
        """
        evidence = evidence_of(probabilities, self.exclusive)
        added = self.weights[name] * evidence
        if name in self.label_weights:
            added += evidence @ np.array(self.label_weights[name]).T
        return added

    def scale(self, sources: Sources) -> float:
        """By how much the weights of the sources that are there grow, in place of those that are missing.

        Raises:
            LookupError: none of the sources that count is available.
        """
        there = sum(weight for name, weight in self.weights.items() if name in sources)
        if there <= 0:
            raise LookupError("none of the sources that count is available")
        return sum(self.weights.values()) / there

    def speaks(self, sources: Sources) -> bool:
        """Whether any source that counts is there."""
        return any(weight > 0 and name in sources for name, weight in self.weights.items())

    def without(self, names: Collection[str]) -> Pool | None:
        """The pool without the weight of some sources; None where nothing is left."""
        left = {name: weight for name, weight in self.weights.items() if name not in names}
        if len(left) == len(self.weights):
            return self
        if sum(left.values()) <= 0:
            return None
        scale = sum(self.weights.values()) / sum(left.values())
        return self.scaled(scale, left)

    def scaled(self, scale: float, names: Collection[str] | None = None) -> Pool:
        """The pool with all weights, those by label too, times a number.

        Args:
            scale: that number.
            names: of the sources to keep; None keeps all.
        """
        kept = self.weights.keys() if names is None else names
        return self.model_copy(
            update={
                "weights": {name: scale * self.weights[name] for name in kept},
                "label_weights": {
                    name: tuple(tuple(scale * value for value in row) for row in rows)
                    for name, rows in self.label_weights.items()
                    if name in kept
                },
            }
        )


def row_of(distribution: Distribution, options: Sequence[str]) -> list[float]:
    """A distribution as a row in the order of the options."""
    return [distribution.get(option, 0.0) for option in options]


def evidence_of(probabilities: npt.ArrayLike, exclusive: bool) -> Floats:
    """Logarithms, centred over the options; for multi-label tasks logits."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), FLOOR, 1 - FLOOR)
    if not exclusive:
        return np.log(p) - np.log1p(-p)
    logs = np.log(p)
    return logs - logs.mean(-1, keepdims=True)


def normalised(scores: Floats, exclusive: bool) -> Floats:
    """Scores as probabilities, (…, options)."""
    from scipy.special import expit, softmax

    return softmax(scores, axis=-1) if exclusive else expit(scores)


def set_log_odds(sets: LabelSets | None, pooled: Floats, said: Bools) -> Floats:
    """Log-odds that the labels said are right together, (n,), among the sets of labels that occur.

    Args:
        sets: those that occur; None takes the options for independent of each other.
        pooled: probability of each option, (n, options).
        said: (n, options).
    """
    from scipy.special import logsumexp

    p = np.clip(pooled, FLOOR, 1 - FLOOR)
    own = np.where(said, np.log(p), np.log1p(-p)).sum(1)
    if sets is None:
        log_p = own
    else:
        every = sets.log_scores(p)
        same = (said[:, None, :] == sets.members[None]).all(2)
        total = np.asarray(logsumexp(every, axis=1))
        log_p = np.where(
            same.any(1),
            every[np.arange(len(p)), same.argmax(1)] - total,
            own - np.logaddexp(total, own),
        )
    log_p = np.minimum(log_p, -1e-6)
    return log_p - np.log(-np.expm1(log_p))
