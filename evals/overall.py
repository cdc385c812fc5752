"""All sets of a suite together: the mean over them, and whether one arm is better than another on the mean.

Every set counts alike. Its draws are independent of those of the others, so that the mean of the sets'
draws is the bootstrap of their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..case import Record
from .arms import ADAPTIVE, ALONE, ASKING, FUSED, GSCO, SPECIALIST
from .metrics.uncertainty import Difference, Estimate, difference, holm, interval
from .scoring import AVERAGED, Draws, Scores

BEST_SPECIALIST = "best specialist"
REFERENCES = (BEST_SPECIALIST, ALONE.name, "vote", "mean", "knn", "stacking", GSCO.name)
REFINED = frozenset(("gsco-calibrated", FUSED.name, ADAPTIVE.name))
"""Arms that are meant to be as good as GSCo or better, or as good with fewer questions."""
COMPARED = ("accuracy", "balanced_accuracy", "macro_f1")


class Scored(NamedTuple):
    """One set's numbers and draws."""

    name: str
    scores: Scores
    draws: Draws


class Mean(Record):
    """One arm on the mean of the sets."""

    arm: str
    metrics: Mapping[str, Estimate]
    calls: float
    """Questions to the generalist per case, on the mean of the sets."""
    selective: tuple[float, float] | None
    """Error at full coverage and at 80 % of the cases, on the mean of the sets."""


class Contrast(Record):
    """One arm against a reference on the mean of the sets."""

    arm: str
    reference: str
    differences: Mapping[str, Difference]
    adjusted: Mapping[str, float]
    """p-values after Holm, over all contrasts."""
    per_set: Mapping[str, float]
    """Difference of accuracies on each set."""


class Overall(Record):
    """The mean over the sets of a suite."""

    sets: tuple[str, ...]
    means: tuple[Mean, ...]
    """Arms that every set has; the best specialist is another one on each."""
    contrasts: tuple[Contrast, ...]
    best: str | None
    """The arm of the collaboration with the largest mean accuracy."""


def overall(sets: Sequence[Scored]) -> Overall | None:
    """Average over the sets; None if they have no arm in common."""
    columns = [_columns(one) for one in sets]
    names = [name for name in columns[0] if all(name in column for column in columns)] if sets else []
    if not names:
        return None
    means = tuple(_mean(name, sets, columns) for name in names)
    pairs = [
        (name, reference)
        for reference in REFERENCES
        if reference in names
        for name in names
        if name != reference and name in (REFINED if reference == GSCO.name else ASKING)
    ]
    return Overall(
        sets=tuple(one.name for one in sets),
        means=means,
        contrasts=_contrasts(pairs, sets, columns),
        best=max(
            (mean.arm for mean in means if mean.arm.startswith(GSCO.name)),
            key=lambda arm: _value(means, arm),
            default=None,
        ),
    )


def _value(means: Sequence[Mean], arm: str) -> float:
    return next(mean.metrics["accuracy"].value for mean in means if mean.arm == arm)


def _columns(one: Scored) -> dict[str, str]:
    """By name of an arm over all sets, its name in this one."""
    own = {arm: arm for arm in one.draws if not arm.startswith(SPECIALIST)}
    best = one.scores.best_specialist
    return {**({BEST_SPECIALIST: best} if best is not None else {}), **own}


def _mean(name: str, sets: Sequence[Scored], columns: Sequence[Mapping[str, str]]) -> Mean:
    own = [column[name] for column in columns]
    scores = [
        next(arm for arm in one.scores.arms if arm.arm == mine) for one, mine in zip(sets, own, strict=True)
    ]
    metrics = {}
    for metric in AVERAGED:
        parts = [one.draws[mine][metric] for one, mine in zip(sets, own, strict=True)]
        value = float(np.mean([part.value for part in parts]))
        if not np.isnan(value):
            low, high = interval(np.mean([part.draws for part in parts], axis=0))
            metrics[metric] = Estimate(value=value, low=low, high=high, n=sum(one.scores.n for one in sets))
    chosen = [score.selective for score in scores]
    return Mean(
        arm=name,
        metrics=metrics,
        calls=float(np.mean([score.calls for score in scores])),
        selective=(
            float(np.mean([one.full for one in chosen if one])),
            float(np.mean([one.at_80 for one in chosen if one])),
        )
        if all(chosen)
        else None,
    )


def _contrasts(
    pairs: Sequence[tuple[str, str]], sets: Sequence[Scored], columns: Sequence[Mapping[str, str]]
) -> tuple[Contrast, ...]:
    found = []
    for name, reference in pairs:
        both = [
            (one.draws[column[name]], one.draws[column[reference]])
            for one, column in zip(sets, columns, strict=True)
        ]
        differences = {
            metric: difference(
                float(np.mean([arm[metric].value - other[metric].value for arm, other in both])),
                np.mean([arm[metric].draws - other[metric].draws for arm, other in both], axis=0),
                sum(one.scores.n for one in sets),
            )
            for metric in COMPARED
        }
        per_set = {
            one.name: arm["accuracy"].value - other["accuracy"].value
            for one, (arm, other) in zip(sets, both, strict=True)
        }
        found.append((name, reference, differences, per_set))
    adjusted = {metric: holm([entry[2][metric].p for entry in found]) for metric in COMPARED}
    return tuple(
        Contrast(
            arm=name,
            reference=reference,
            differences=differences,
            adjusted={metric: adjusted[metric][place] for metric in COMPARED},
            per_set=per_set,
        )
        for place, (name, reference, differences, per_set) in enumerate(found)
    )
