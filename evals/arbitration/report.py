"""The table of the suite: one row per measure and arm, over all tasks; and several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..._support.jsonl import read_log, write_atomically
from ...case import DISCLAIMER, Case, ImageRef, Record
from ...errors import ConfigurationError
from ..metrics.uncertainty import ROUNDS, Difference, Estimate
from ..records import EVIDENCE, OUTCOMES, RUN_CARD, CaseEvidence, Outcome, RunCard, read_run_card
from .conditions import Known
from .rates import TaskAnswers, accuracies, against_vote, rates
from .suite import ANSWERS, Altered, configuration_of

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


class ArbitrationRow(Record):
    """One measure of one arm."""

    name: str
    arm: str
    tasks: Mapping[str, Estimate | None]
    mean: Estimate | None


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


def report(folder: Path, *, rounds: int = ROUNDS, seed: int = 0) -> Arbitration:
    """Score the runs in a folder and write ``arbitration.md`` and ``arbitration.json`` there.

    Args:
        folder: with one sub-folder per task.
        rounds: bootstrap draws of whole groups.
        seed: of the draws.

    Raises:
        ConfigurationError: there is no run, or one is not finished.
    """
    homes = runs_of(folder)
    several, errors = [], 0
    for home in homes:
        said, failed = read_answers(home)
        several.append(said)
        errors += failed
    card = read_run_card(homes[0])
    generalist = card.configuration.get("generalist", {})
    made = Arbitration(
        generalist=f"{generalist.get('name')} {generalist.get('version')}",
        profile=str(card.configuration.get("profile", {}).get("profile")),
        tasks={said.task.name: len(said.cases) for said in several},
        errors=errors,
        rows=tuple(
            ArbitrationRow(name=rate.name, arm=rate.arm, tasks=dict(rate.tasks), mean=rate.mean)
            for rate in (
                *accuracies(several, rounds=rounds, seed=seed),
                *rates(several, rounds=rounds, seed=seed),
            )
        ),
        split_panel=against_vote(several, rounds=rounds, seed=seed),
    )
    write_atomically(folder / JSON, made.model_dump_json(indent=1) + "\n")
    write_atomically(folder / MARKDOWN, "\n".join(_markdown(made, rounds)))
    return made


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
    lines = [
        f"| run | {' | '.join(f'{arm}, {name}' for name, arm in CURVE)} |",
        "|" + "---|" * (len(CURVE) + 1),
    ]
    for folder in folders:
        try:
            made = Arbitration.model_validate_json((folder / JSON).read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{folder} holds no finished arbitration suite: no {JSON}") from error
        by_name = {(row.name, row.arm): row.mean for row in made.rows}
        lines.append(f"| {folder.name} | {' | '.join(_cell(by_name.get(key)) for key in CURVE)} |")
    return "\n".join(lines) + "\n"


def read_answers(home: Path) -> tuple[TaskAnswers, int]:
    """Read what was answered in a run of the suite, and how many altered cases have no answer.

    Raises:
        ConfigurationError: the run is not finished.
    """
    card = read_run_card(home)
    natural = _natural(home, card)
    evidence = {found.case: found for found in read_log(home / EVIDENCE, CaseEvidence)}
    altered: dict[tuple[str, str], dict[str, Altered]] = {}
    configuration = configuration_of(card)
    for answer in read_log(home / ANSWERS, Altered):
        if answer.configuration == configuration:
            altered.setdefault((answer.condition, answer.arm), {})[answer.case] = answer
    names = sorted(set.intersection(*map(set, altered.values()))) if altered else []
    names = [name for name in names if name in evidence]
    if not names or len(names) < card.cases * 0.9:
        raise ConfigurationError(
            f"the suite in {home} is not finished: {len(names)} of {card.cases} cases; run its command again"
        )
    outcomes = natural["gsco-paper"]
    cases = [
        Known(
            name,
            outcomes[name].group,
            outcomes[name].truth[0],
            _UNSEEN,
            evidence[name].evidence,
            _UNSEEN,
        )
        for name in names
    ]
    labels = {
        **{("", arm): [_label(of[name]) for name in names] for arm, of in natural.items()},
        **{key: [of[name].label for name in names] for key, of in altered.items()},
    }
    probabilities = {key: np.array([_probability(of[name]) for name in names]) for key, of in altered.items()}
    failed = sum(of[name].error is not None for of in altered.values() for name in names)
    alone = [natural["generalist"][name].probabilities for name in names]
    return TaskAnswers(card.task, cases, labels, probabilities, alone), failed


def _natural(home: Path, card: RunCard) -> dict[str, dict[str, Outcome]]:
    found: dict[str, dict[str, Outcome]] = {arm: {} for arm in card.arms}
    for outcome in read_log(home / OUTCOMES, Outcome):
        if card.arms.get(outcome.arm) == outcome.configuration:
            found[outcome.arm][outcome.case] = outcome
    return found


def _label(outcome: Outcome) -> str | None:
    return outcome.labels[0] if outcome.error is None and outcome.labels else None


def _probability(answer: Altered) -> float:
    if answer.label is None or answer.probabilities is None:
        return math.nan
    return answer.probabilities[answer.label]


def _markdown(made: Arbitration, rounds: int) -> Iterator[str]:
    yield "# Arbitration"
    yield ""
    yield DISCLAIMER
    yield ""
    cases = ", ".join(f"{task} {count}" for task, count in made.tasks.items())
    yield f"Generalist {made.generalist}, profile {made.profile}. Cases: {cases}."
    yield (
        f"95 % intervals: percentile bootstrap, {rounds} draws of whole groups. The mean is over tasks. "
        f"Altered cases without an answer: {made.errors}; they count as wrong."
    )
    yield ""
    yield f"| measure | arm | mean | {' | '.join(made.tasks)} |"
    yield "|" + "---|" * (len(made.tasks) + 3)
    for row in made.rows:
        cells = [_cell(row.mean), *(_cell(row.tasks.get(task)) for task in made.tasks)]
        yield f"| {row.name} | {row.arm} | {' | '.join(cells)} |"
    yield ""
    if made.split_panel is not None:
        gain = made.split_panel
        yield (
            f"Where the specialists do not agree ({gain.n} cases), gsco is right more often than the vote by "
            f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]."
        )
        yield ""


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}] n={estimate.n}"
