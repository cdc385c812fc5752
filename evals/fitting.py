"""What the fitted arms know: weights and a limit, learnt on a run over validation cases.

Nothing here looks at a test case. The specialists saw the validation images for early stopping and
calibration only, and the case bank does not hold them; so what is learnt errs on their side, if at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ..case import Evidence, Record, Task, TaskKind
from ..errors import ConfigurationError
from ..models.journal import read_log, write_atomically
from .arms import GSCO, disputed, knn
from .pooling import (
    Pool,
    Sample,
    Sources,
    Stack,
    complete,
    fit_pool,
    fit_stack,
    out_of_fold,
    right,
    sample,
    sureness,
    surprise,
    without,
)
from .records import EVIDENCE, OUTCOMES, CaseEvidence, Outcome, RunCard, read_run_card

FITTED = "fitted.json"
RECIPE = "log-linear pool 3"
"""Changes whenever the same validation cases would give other weights."""

SIMILAR = "similar cases"
_HALF_A_CASE = 0.5
MOST_CALLS = 0.5
"""The adaptive arm asks the generalist about this share of the validation cases at most."""
AS_GOOD = 0.001
"""And about no more than it takes to be this near to asking always, in accuracy,"""
LOSS_AS_GOOD = 0.01
"""and this near in log-loss, relatively."""


class Consultation(Record):
    """When the adaptive arm asks the generalist."""

    limit: float
    """It asks where the pool of specialists and similar cases is less sure than this."""
    disputed_limit: float
    """The same where specialists and similar cases contradict each other."""
    calls: float
    """Share of the validation cases that this is."""
    accuracy: float
    """On them, out of fold."""
    always: float
    """Accuracy if it asked about all of them."""
    never: float
    """Accuracy if it asked about none."""


class Fitted(Record):
    """Everything that fitted arms of a run know."""

    recipe: str = RECIPE
    task: str
    cases: int
    """Validation cases; those of which some evidence is missing were left out of the fits."""
    errors: int
    stack: Stack | None = None
    """Of specialists and similar cases."""
    quiet: Pool | None = None
    """Of the same, without the generalist."""
    fused: Pool | None = None
    """Of the same and the generalist's own distribution, which it gave with all evidence before it."""
    consultation: Consultation | None = None


def sources_of(task: Task, evidence: Evidence) -> dict[str, Mapping[str, float]]:
    """What specialists and similar cases say, each as a distribution over the options."""
    sources: dict[str, Mapping[str, float]] = {
        opinion.specialist: opinion.probabilities for opinion in evidence.opinions if opinion.probabilities
    }
    if evidence.similar_cases:
        sources[SIMILAR] = similar_shares(task, evidence)
    return sources


def similar_shares(task: Task, evidence: Evidence) -> dict[str, float]:
    """Shares of the similar cases, with half a case added to each option: few cases prove nothing."""
    shares, k = knn(task, evidence).probabilities or {}, len(evidence.similar_cases)
    options = 2 if task.kind is TaskKind.MULTILABEL else len(task.options)
    return {
        option: (k * shares[option] + _HALF_A_CASE) / (k + _HALF_A_CASE * options) for option in task.options
    }


def answer_of(task: Task, outcome: Outcome) -> Mapping[str, float]:
    """A generalist's distribution; where its endpoint gives none, its labels with certainty."""
    if outcome.probabilities is not None:
        return outcome.probabilities
    return {option: float(option in outcome.labels) for option in task.options}


def fit(folder: Path) -> Fitted:
    """Learn from the run over validation cases in a folder; what its arms do not allow is left out.

    Raises:
        ConfigurationError: there is no such run, or too few cases have evidence.
    """
    card = read_run_card(folder)
    known = _known(folder, card)
    answered = [one for one in known if one.answer is not None]
    found = Fitted(task=card.task.name, cases=len(known), errors=len(known) - len(answered))
    given, _ = _sample(card.task, known, [one.sources for one in known])
    found = found.model_copy(update={"stack": fit_stack(given), "quiet": fit_pool(given)})
    if not answered:
        return found
    fuller = [{**one.sources, GSCO.name: one.answer or {}} for one in answered]
    whole, kept = _sample(card.task, answered, fuller)
    unsettled = np.array([one.disputed for one in kept])
    return found.model_copy(update={"fused": fit_pool(whole), "consultation": consultation(whole, unsettled)})


def read_fitted(folder: Path) -> Fitted:
    """Read what was learnt from the folder of a run.

    Raises:
        ConfigurationError: it is not there or was written by another version.
    """
    try:
        return Fitted.model_validate_json((folder / FITTED).read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(f"{folder} has no {FITTED} that this version of gsco can read") from error


def write_fitted(folder: Path, fitted: Fitted) -> None:
    """Write it down for a reader; a run learns it anew each time."""
    write_atomically(folder / FITTED, fitted.model_dump_json(indent=1) + "\n")


def consultation(given: Sample, unsettled: npt.NDArray[np.bool_]) -> Consultation:
    """Choose when to ask: the fewest calls that are as good as asking always, out of fold.

    As good means in accuracy and in log-loss: on few cases accuracy alone is equal by chance.

    Args:
        given: validation cases with the generalist's answers among the sources.
        unsettled: where specialists and similar cases contradict each other.
    """
    quiet, fused = out_of_fold(without(given, GSCO.name)), out_of_fold(given)
    sure = sureness(quiet, given.exclusive)
    hits = np.stack([right(quiet, given), right(fused, given)])
    losses = np.stack([surprise(quiet, given), surprise(fused, given)])
    always, loss = hits[1].mean(), losses[1].mean()
    best: tuple[tuple[bool, float, float], Consultation] | None = None
    for limit, disputed_limit in _limits(sure):
        asked = sure < np.where(unsettled, disputed_limit, limit)
        if asked.mean() > MOST_CALLS:
            continue
        accuracy = float(np.where(asked, hits[1], hits[0]).mean())
        lost = float(np.where(asked, losses[1], losses[0]).mean())
        good = accuracy >= always - AS_GOOD and lost <= loss * (1 + LOSS_AS_GOOD)
        rank = (good, -float(asked.mean()) if good else -lost, accuracy)
        if best is None or rank > best[0]:
            chosen = Consultation(
                limit=round(float(limit), 4),
                disputed_limit=round(float(disputed_limit), 4),
                calls=float(asked.mean()),
                accuracy=accuracy,
                always=float(always),
                never=float(hits[0].mean()),
            )
            best = rank, chosen
    assert best is not None, "asking never is always among the choices"
    return best[1]


def _limits(sure: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """Pairs of limits to try; that of disputed cases is never the lower one."""
    steps = [0.0, *np.quantile(sure, np.linspace(0.02, 1.0, 50))]
    return [(low, high) for place, low in enumerate(steps) for high in steps[place:]]


class _Known(NamedTuple):
    """A validation case with what is known of it."""

    truth: tuple[str, ...]
    group: str
    sources: Sources
    disputed: bool
    answer: Mapping[str, float] | None


def _sample(task: Task, known: Sequence[_Known], said: Sequence[Sources]) -> tuple[Sample, list[_Known]]:
    places = complete(said)
    kept = [known[place] for place in places]
    given = sample(
        task.options,
        [said[place] for place in places],
        [one.truth for one in kept],
        [one.group for one in kept],
        exclusive=task.kind is TaskKind.DIAGNOSIS,
    )
    return given, kept


def _known(folder: Path, card: RunCard) -> list[_Known]:
    """Cases of a run in a fixed order, whatever the order of its records."""
    outcomes: dict[tuple[str, str], Outcome] = {
        (outcome.arm, outcome.case): outcome
        for outcome in read_log(folder / OUTCOMES, Outcome)
        if card.arms.get(outcome.arm) == outcome.configuration
    }
    evidence = {
        found.case: found.evidence
        for found in read_log(folder / EVIDENCE, CaseEvidence)
        if found.configuration == card.evidence
    }
    one_of = {case: outcome for (_, case), outcome in outcomes.items()}
    known = []
    for case in sorted(evidence.keys() & one_of.keys()):
        said = outcomes.get((GSCO.name, case))
        known.append(
            _Known(
                truth=one_of[case].truth,
                group=one_of[case].group,
                sources=sources_of(card.task, evidence[case]),
                disputed=disputed(card.task, evidence[case]),
                answer=answer_of(card.task, said) if said is not None and said.error is None else None,
            )
        )
    return known
