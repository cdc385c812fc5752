"""All sets of a suite together: the mean over them, and whether one arm is better than another on the mean.

Every set counts alike. Its draws are independent of those of the others, so that the mean of the sets'
draws is the bootstrap of their mean; signs are flipped in all sets at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..case import Record
from .arms import GSCO, SPECIALIST
from .metrics.uncertainty import Difference, Estimate, difference, holm, interval, sign_flip
from .scoring import AVERAGED, COMPARED, ArmScore, BootstrapMetric, Draws, Scores, pairs_of

BEST_SOURCE = "best single source"
"""Another one on each set: the one that validation cases favour."""


class SetScores(NamedTuple):
    """One set's numbers and draws."""

    name: str
    scores: Scores
    draws: Draws


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
    own = {arm: arm for arm in one.draws.by_arm if not arm.startswith(SPECIALIST)}
    best = one.scores.best_source
    return {**({BEST_SOURCE: best} if best else {}), **own}


def _mean(name: str, sets: Sequence[SetScores], columns: Sequence[Mapping[str, str]]) -> Mean:
    own = [column[name] for column in columns]
    scores = [
        next(arm for arm in one.scores.arms if arm.arm == mine) for one, mine in zip(sets, own, strict=True)
    ]
    metrics = {}
    for metric in AVERAGED:
        parts = [one.draws.by_arm[mine][metric] for one, mine in zip(sets, own, strict=True)]
        value = float(np.mean([part.value for part in parts]))
        if not np.isnan(value):
            low, high = interval(np.mean([part.draws for part in parts], axis=0))
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
    found = []
    for name, reference in pairs:
        both = [
            (one.draws.by_arm[column[name]], one.draws.by_arm[column[reference]])
            for one, column in zip(sets, columns, strict=True)
        ]
        differences = {
            metric: found_one
            for metric in COMPARED
            if not np.isnan(
                (found_one := _difference([(arm[metric], other[metric]) for arm, other in both], sets)).value
            )
        }
        per_set = {
            metric: {
                one.name: arm[metric].value - other[metric].value
                for one, (arm, other) in zip(sets, both, strict=True)
            }
            for metric in ("accuracy", "log_loss")
        }
        found.append((name, reference, differences, per_set))
    tested = [metric for metric in COMPARED if all(metric in entry[2] for entry in found)]
    adjusted = {metric: holm([entry[2][metric].p for entry in found]) for metric in tested}
    return tuple(
        Contrast(
            arm=name,
            reference=reference,
            differences=differences,
            adjusted={metric: adjusted[metric][place] for metric in tested},
            per_set=per_set["accuracy"],
            per_set_log_loss=per_set["log_loss"],
        )
        for place, (name, reference, differences, per_set) in enumerate(found)
    )


def _difference(
    both: Sequence[tuple[BootstrapMetric, BootstrapMetric]], sets: Sequence[SetScores]
) -> Difference:
    """Difference of the means; signs are flipped by group, in all sets at once."""
    parts, groups = [], []
    for place, ((arm, other), one) in enumerate(zip(both, sets, strict=True)):
        if arm.parts is not None and other.parts is not None:
            parts.append((arm.parts - other.parts) / len(arm.parts))
            groups += [f"{place}/{group}" for group in one.draws.groups]
    p = sign_flip(np.concatenate(parts), groups) if len(parts) == len(both) else None
    return difference(
        float(np.mean([arm.value - other.value for arm, other in both])),
        np.mean([arm.draws - other.draws for arm, other in both], axis=0),
        sum(one.scores.n for one in sets),
        p,
    )


def found_in(together: Overall, arm: str = GSCO.name, reference: str = BEST_SOURCE) -> Contrast | None:
    """The comparison of two arms, if it was made."""
    pair = (arm, reference)
    return next((one for one in together.contrasts if (one.arm, one.reference) == pair), None)
