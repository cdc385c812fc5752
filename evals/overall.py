"""All sets of a suite together: the mean over them, and whether one arm is better than another on the mean.

Every set counts alike. Its draws are independent of those of the others, so that the mean of the sets'
draws is the bootstrap of their mean; signs are flipped in all sets at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..case import Record
from ..models.metrics.draws import interval
from .arms import GSCO, SPECIALIST
from .metrics.uncertainty import Difference, Estimate, difference, sign_flip
from .scoring import AVERAGED, COMPARED, ArmColumn, ArmScore, Scores, adjusted_by_holm, defined, pairs_of

BEST_SOURCE = "best single source"
"""Another one on each set: the one that validation cases favour."""


_Pair = tuple[ArmColumn, ArmColumn]


class SetScores(NamedTuple):
    """One set's numbers, and by arm what they come from."""

    name: str
    scores: Scores
    columns: Mapping[str, ArmColumn]


class Mean(Record):
    """One arm on the mean of the sets."""

    arm: str
    metrics: Mapping[str, Estimate]
    ece_floor: float | None
    calls: float
    """Questions to the generalist per case, on the mean of the sets."""
    selective: tuple[float, float, float] | None
    """Error at full coverage and at 80 % of the cases, on the mean of the sets, and the mean of the sets'
    ratios of the two."""


class Contrast(Record):
    """One arm against a reference on the mean of the sets."""

    arm: str
    reference: str
    differences: Mapping[str, Difference]
    adjusted: Mapping[str, float]
    """p-values after Holm, over all contrasts."""
    per_set: Mapping[str, float]
    """Difference of accuracies on each set."""
    per_set_log_loss: Mapping[str, float]


class Overall(Record):
    """The mean over the sets of a suite."""

    sets: tuple[str, ...]
    means: tuple[Mean, ...]
    """Arms that every set has; the best single source is another one on each."""
    contrasts: tuple[Contrast, ...]


def overall(sets: Sequence[SetScores]) -> Overall | None:
    """Average over the sets; None if they have no arm in common."""
    columns = [_columns(one) for one in sets]
    names = [name for name in columns[0] if all(name in column for column in columns)] if sets else []
    if not names:
        return None
    best = BEST_SOURCE if BEST_SOURCE in names else ""
    return Overall(
        sets=tuple(one.name for one in sets),
        means=tuple(_mean(name, sets, columns) for name in names),
        contrasts=_contrasts(pairs_of(names, best, {}), sets, columns),
    )


def _columns(one: SetScores) -> dict[str, str]:
    """By name of an arm over all sets, its name in this one."""
    own = {arm: arm for arm in one.columns if not arm.startswith(SPECIALIST)}
    best = one.scores.best_source
    return {**({BEST_SOURCE: best} if best else {}), **own}


def _mean(name: str, sets: Sequence[SetScores], columns: Sequence[Mapping[str, str]]) -> Mean:
    own = [column[name] for column in columns]
    scores = [
        next(arm for arm in one.scores.arms if arm.arm == mine) for one, mine in zip(sets, own, strict=True)
    ]
    metrics = {}
    for metric in AVERAGED:
        parts = [one.columns[mine] for one, mine in zip(sets, own, strict=True)]
        value = float(np.mean([part.value(metric) for part in parts]))
        if not np.isnan(value):
            low, high = interval(np.mean([part.drawn[metric] for part in parts], axis=0))
            metrics[metric] = Estimate(value=value, low=low, high=high, n=sum(one.scores.n for one in sets))
    floors = [score.ece_floor for score in scores if score.ece_floor is not None]
    return Mean(
        arm=name,
        metrics=metrics,
        ece_floor=float(np.mean(floors)) if len(floors) == len(scores) else None,
        calls=float(np.mean([score.calls for score in scores])),
        selective=_selective(scores),
    )


def _selective(scores: Sequence[ArmScore]) -> tuple[float, float, float] | None:
    chosen = [score.selective for score in scores if score.selective is not None]
    if len(chosen) < len(scores):
        return None
    ratios = [one.at_80 / one.full if one.full else 1.0 for one in chosen]
    return (
        float(np.mean([one.full for one in chosen])),
        float(np.mean([one.at_80 for one in chosen])),
        float(np.mean(ratios)),
    )


def _contrasts(
    pairs: Sequence[tuple[str, str]], sets: Sequence[SetScores], columns: Sequence[Mapping[str, str]]
) -> tuple[Contrast, ...]:
    every = [
        [
            (one.columns[column[name]], one.columns[column[other]])
            for one, column in zip(sets, columns, strict=True)
        ]
        for name, other in pairs
    ]
    found = [defined({metric: _difference(metric, both) for metric in COMPARED}) for both in every]
    return tuple(
        Contrast(
            arm=name,
            reference=other,
            differences=differences,
            adjusted=adjusted,
            per_set=_per_set("accuracy", sets, both),
            per_set_log_loss=_per_set("log_loss", sets, both),
        )
        for (name, other), both, differences, adjusted in zip(
            pairs, every, found, adjusted_by_holm(found), strict=True
        )
    )


def _per_set(metric: str, sets: Sequence[SetScores], both: Sequence[_Pair]) -> dict[str, float]:
    return {
        one.name: arm.value(metric) - other.value(metric)
        for one, (arm, other) in zip(sets, both, strict=True)
    }


def _difference(metric: str, both: Sequence[_Pair]) -> Difference:
    """Difference of the means over sets; signs are flipped by group, in all sets at once."""
    parts, groups = [], []
    for place, (arm, other) in enumerate(both):
        if metric in arm.parts and metric in other.parts:
            mine, theirs = arm.parts[metric], other.parts[metric]
            parts.append((mine - theirs) / len(mine))
            groups += [f"{place}/{group}" for group in arm.groups]
    p = sign_flip(np.concatenate(parts), groups) if len(parts) == len(both) else None
    return difference(
        float(np.mean([arm.value(metric) - other.value(metric) for arm, other in both])),
        np.mean([arm.drawn[metric] - other.drawn[metric] for arm, other in both], axis=0),
        sum(arm.answers.n for arm, _ in both),
        p,
    )


def found_in(together: Overall, arm: str = GSCO.name, reference: str = BEST_SOURCE) -> Contrast | None:
    """The comparison of two arms, if it was made."""
    pair = (arm, reference)
    return next((one for one in together.contrasts if (one.arm, one.reference) == pair), None)
