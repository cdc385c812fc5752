"""The table of the suite: one row per measure and arm, over all tasks; and several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ..._support.jsonl import write_atomically
from ...case import DISCLAIMER, Case, ImageRef, Record
from ...errors import ConfigurationError
from ...models.metrics.draws import ROUNDS
from ..arms import ALONE, PAPER
from ..conditions import GatheredCase
from ..metrics.uncertainty import Difference
from ..outcomes import altered, current, gathered
from ..records import RUN_CARD, Outcome, read_run_card
from ..reports.blocks import ReportTable
from ..reports.conditions import arbitration_blocks, cell
from ..reports.markdown import written
from .conditions import CONDITIONS
from .rates import ArbitrationRow, TaskAnswers, accuracies, against_vote, rates

MARKDOWN, JSON = "arbitration.md", "arbitration.json"
_UNSEEN = Case(id="unseen", images=(ImageRef(sha256="0" * 64, width=1, height=1),))
"""Images play no part in scoring."""
CURVE = (
    ("accuracy", "generalist"),
    ("accuracy", "gsco-paper"),
    ("uphold: natural conflict, alone right", "gsco-paper"),
    ("self-correct: natural conflict, alone wrong, evidence right", "gsco-paper"),
    ("truth found: all evidence wrong", "gsco-paper"),
    ("truth found: specialists wrong, neighbours real", "gsco-paper"),
)
"""What is compared between generalists: the trade-off between holding out and giving way."""


class Arbitration(Record):
    """A finished suite."""

    generalist: str
    profile: str
    tasks: Mapping[str, int]
    """Cases per task."""
    errors: int
    """Altered cases without an answer; they count as wrong."""
    rows: tuple[ArbitrationRow, ...]
    split_panel: Difference | None
    """GSCo minus the vote where the specialists do not agree, over all tasks."""
    rounds: int = ROUNDS
    """Bootstrap draws."""


def report(folder: Path, *, rounds: int = ROUNDS, seed: int = 0) -> Arbitration:
    """Score the runs in a folder and write ``arbitration.md`` and ``arbitration.json`` there.

    Args:
        folder: with one sub-folder per task.
        rounds: bootstrap draws of whole groups.
        seed: of the draws.

    Raises:
        ConfigurationError: there is no run, or one is not finished.
    """
    made = arbitration_of(runs_of(folder), rounds=rounds, seed=seed)
    text = ["# Arbitration", "", DISCLAIMER, "", *written(arbitration_blocks(made))]
    write_atomically(folder / JSON, made.model_dump_json(indent=1) + "\n")
    write_atomically(folder / MARKDOWN, "\n".join(text))
    return made


def arbitration_of(homes: Sequence[Path], *, rounds: int = ROUNDS, seed: int = 0) -> Arbitration:
    """Score the suite over the runs of several tasks; see ``report``."""
    several, errors = [], 0
    for home in homes:
        answered, failed = read_answers(home)
        several.append(answered)
        errors += failed
    card = read_run_card(homes[0])
    generalist = card.configuration.get("generalist", {})
    return Arbitration(
        generalist=f"{generalist.get('name')} {generalist.get('version')}",
        profile=str(card.configuration.get("profile", {}).get("profile")),
        tasks={answered.task.name: len(answered.cases) for answered in several},
        errors=errors,
        rows=(
            *accuracies(several, rounds=rounds, seed=seed),
            *rates(several, rounds=rounds, seed=seed),
        ),
        split_panel=against_vote(several, rounds=rounds, seed=seed),
        rounds=rounds,
    )


def runs_of(folder: Path) -> list[Path]:
    """List the folders of the tasks of a suite.

    Raises:
        ConfigurationError: there is none.
    """
    homes = sorted(path.parent for path in folder.glob(f"*/{RUN_CARD}"))
    if not homes:
        raise ConfigurationError(f"no run of the arbitration suite in {folder}")
    return homes


def curve(folders: Sequence[Path]) -> str:
    """Put several suites side by side, for example of models from different training mixtures.

    Raises:
        ConfigurationError: a folder has no finished suite.
    """
    rows = []
    for folder in folders:
        try:
            made = Arbitration.model_validate_json((folder / JSON).read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{folder} holds no finished arbitration suite: no {JSON}") from error
        except ValidationError as error:
            raise ConfigurationError(
                f"{JSON} of {folder} was not written by this version of gsco: run its command again"
            ) from error
        by_name = {(row.name, row.arm): row.mean for row in made.rows}
        rows.append((folder.name, *(cell(by_name.get(key)) for key in CURVE)))
    headings = ("run", *(f"{arm}, {name}" for name, arm in CURVE))
    return "\n".join(written([ReportTable(headings, rows)]))


def read_answers(home: Path) -> tuple[TaskAnswers, int]:
    """Read what was answered in a run of the suite, and how many altered cases have no answer.

    Raises:
        ConfigurationError: the run is not finished.
    """
    found, under = current(home), altered(home)
    card, keys = found.run, [(condition.name, arm) for condition in CONDITIONS for arm in condition.arms]
    natural = {arm: {one.case: one for one in several} for arm, several in found.outcomes.items()}
    evidence = gathered(home, card)
    answered = [natural[PAPER.name].keys(), evidence.keys(), *(under.get(key, {}).keys() for key in keys)]
    names = sorted(set.intersection(*map(set, answered)))
    if not names or len(names) < card.cases * 0.9:
        raise ConfigurationError(
            f"the suite in {home} is not finished: {len(names)} of {card.cases} cases; run its command again"
        )
    cases = [
        GatheredCase(name, one.group, one.truth, _UNSEEN, evidence[name].evidence)
        for name in names
        for one in [natural[PAPER.name][name]]
    ]
    every = {**{("", arm): of for arm, of in natural.items()}, **{key: under[key] for key in keys}}
    labels = {key: [_label(of[name]) for name in names] for key, of in every.items()}
    probabilities = {key: np.array([_probability(under[key][name]) for name in names]) for key in keys}
    failed = sum(under[key][name].error is not None for key in keys for name in names)
    alone = [natural[ALONE.name][name].probabilities for name in names]
    return TaskAnswers(card.task, cases, labels, probabilities, alone), failed


def _label(outcome: Outcome) -> str | None:
    return outcome.labels[0] if outcome.error is None and outcome.labels else None


def _probability(outcome: Outcome) -> float:
    label = _label(outcome)
    return math.nan if label is None or outcome.probabilities is None else outcome.probabilities[label]
