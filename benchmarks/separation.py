"""Whether natural conflicts can be told apart at all: what the rates of settling them are to be held against.

To keep its own right answers and to give up its wrong ones, a generalist must tell the two from each other.
A logistic regression that is fitted on the conflicts themselves, out of fold, tries the same with what is on
record: how sure the generalist is of its own answer when alone, and how much each specialist and the similar
cases give it over what the evidence says. No generalist is fitted on the very cases that it is measured on;
so where that judge is far from both, better eyes or other evidence are the likelier remedy. It is no proof: a
judge of another kind, or one that sees the image, may come farther.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..case import Record
from ..evals.arbitration.rates import TaskAnswers
from ..evals.metrics.uncertainty import Estimate, Measure, estimate
from ..graphs.fusion import sources_of
from ..graphs.pool import FLOOR
from ..models.metrics.answers import Bools, Floats
from ..models.metrics.diagnosis import area
from ..models.metrics.draws import ROUNDS

FOLDS = 5
PENALTY = 10.0
"""Of the regression: a task has a few dozen conflicts."""
UPHELD = (0.9, 0.8, 0.7)
OWN = "generalist alone"


class Separation(Record):
    """How well conflicts in which one side is right can be told apart, over all tasks that have enough."""

    tasks: Mapping[str, int]
    """Conflicts per task; those with too few to fit anything on are left out."""
    own_right: int
    """Those among them in which the generalist alone was right."""
    auc: Estimate
    """Of the judge, out of fold."""
    corrected: Mapping[str, float]
    """How many wrong answers the judge corrects, by how many of the right ones it keeps at least."""
    upheld_by_gsco: float
    corrected_by_gsco: float


@dataclass(frozen=True)
class Conflicts:
    """Natural conflicts of one task: the evidence contradicts the generalist, and one of them is right.

    Attributes:
        features: (n, sources), logarithm of how much more a source gives the own answer than the other.
        own_right: whether the own answer is the truth, (n,).
        settled: whether GSCo said the truth, (n,).
        groups: patient or group of each.
    """

    features: Floats
    own_right: Bools
    settled: Bools
    groups: tuple[str, ...]


def separation(several: Sequence[TaskAnswers], *, rounds: int = ROUNDS, seed: int = 0) -> Separation | None:
    """Fit a judge per task, out of fold; None where no task has enough conflicts."""
    every = {said.task.name: conflicts_of(said) for said in several}
    kept = {name: found for name, found in every.items() if _enough(found)}
    if not kept:
        return None
    judged = np.concatenate([_judged(found, seed) for found in kept.values()])
    right = np.concatenate([found.own_right for found in kept.values()])
    settled = np.concatenate([found.settled for found in kept.values()])
    groups = [f"{name}/{group}" for name, found in kept.items() for group in found.groups]
    kernel = area(right, judged)
    auc = Measure(float(kernel(np.ones((1, len(right)), dtype=np.float32))[0]), kernel, len(right))
    return Separation(
        tasks={name: len(found.own_right) for name, found in kept.items()},
        own_right=int(right.sum()),
        auc=estimate({"auc": auc}, groups, rounds=rounds, seed=seed)["auc"],
        corrected={f"{share:g}": _corrected(judged, right, share) for share in UPHELD},
        upheld_by_gsco=float(settled[right].mean()),
        corrected_by_gsco=float(settled[~right].mean()),
    )


def conflicts_of(said: TaskAnswers) -> Conflicts:
    """List a task's natural conflicts in which one side is right."""
    own, evidence = said.labels["", "generalist"], said.evidence("gsco-paper")
    places = [
        place
        for place, (mine, theirs, known) in enumerate(zip(own, evidence, said.cases, strict=True))
        if mine is not None and theirs is not None and mine != theirs and known.truth[0] in (mine, theirs)
    ]
    leanings = [_leanings(said, place, str(own[place]), str(evidence[place])) for place in places]
    names = sorted({name for leaning in leanings for name in leaning})
    # Who says nothing of a case leans to neither side.
    features = np.array([[leaning.get(name, 0.0) for name in names] for leaning in leanings])
    return Conflicts(
        features.reshape(len(places), len(names)),
        said.right("", "generalist")[places],
        said.right("", "gsco-paper")[places],
        tuple(said.groups[place] for place in places),
    )


def _leanings(said: TaskAnswers, place: int, mine: str, theirs: str) -> dict[str, float]:
    sources = dict(sources_of(said.task, said.cases[place].evidence))
    if said.alone and (distribution := said.alone[place]) is not None:
        sources[OWN] = distribution
    return {
        name: math.log(max(given.get(mine, 0.0), FLOOR) / max(given.get(theirs, 0.0), FLOOR))
        for name, given in sources.items()
    }


def _enough(found: Conflicts) -> bool:
    """Whether each fold can have both kinds, of groups of their own."""
    return all(
        len({group for group, one in zip(found.groups, found.own_right, strict=True) if one == kind}) >= FOLDS
        for kind in (True, False)
    )


def _judged(found: Conflicts, seed: int) -> Floats:
    """Probability that the own answer is right, by a judge that was fitted without the case's group."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    judge = make_pipeline(StandardScaler(), LogisticRegression(C=1 / PENALTY, max_iter=2000))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    judged = cross_val_predict(
        judge, found.features, found.own_right, groups=found.groups, cv=folds, method="predict_proba"
    )
    return np.asarray(judged)[:, 1]


def _corrected(judged: Floats, right: Bools, upheld: float) -> float:
    """Share of wrong answers below the highest limit that keeps so many of the right ones."""
    kept = np.sort(judged[right])[::-1]
    limit = kept[math.ceil(upheld * len(kept)) - 1]
    return float((judged[~right] < limit).mean())


def described(found: Separation) -> str:
    """Say in words what was found."""
    auc = found.auc
    tasks = ", ".join(f"{task} {count}" for task, count in found.tasks.items())
    reached = ", ".join(
        f"{100 * share:.0f} % with {100 * float(kept):.0f} %" for kept, share in found.corrected.items()
    )
    return (
        f"Natural conflicts in which one side is right: {auc.n} ({tasks}); the generalist alone is right in "
        f"{found.own_right} of them. A logistic regression fitted on these conflicts, out of fold, predicts "
        f"who is right with an AUC of {auc.value:.2f} [{auc.low:.2f}, {auc.high:.2f}]. It corrects {reached} "
        f"upheld; gsco {100 * found.corrected_by_gsco:.0f} % with {100 * found.upheld_by_gsco:.0f} %."
    )
