"""The outcomes of a run that count, read from its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .._support.jsonl import read_log
from ..errors import ConfigurationError
from .abilities.ability_arms import ABILITIES
from .records import EVIDENCE, OUTCOMES, RUN_CARD, CaseEvidence, Outcome, RunCard, read_run_card


class Current(NamedTuple):
    """The outcomes of a run that count: by arm, in the same order of cases."""

    run: RunCard
    outcomes: dict[str, list[Outcome]]
    finished: int
    stale: int
    abilities: dict[str, list[Outcome]]
    """Those of arms that decide nothing."""


def runs_in(folder: Path) -> list[Path]:
    """List the folders of the runs in a folder; it may be one itself.

    Raises:
        ConfigurationError: there is none.
    """
    if (folder / RUN_CARD).exists():
        return [folder]
    if runs := sorted(card.parent for card in folder.glob(f"*/{RUN_CARD}")):
        return runs
    raise ConfigurationError(f"no run in {folder}: neither it nor a folder in it has a {RUN_CARD}")


def current(folder: Path) -> Current:
    """Read the outcomes of a run that are of its present configuration; the last one of each counts.

    Raises:
        ConfigurationError: it is no run, or a file of it is damaged.
    """
    run = read_run_card(folder)
    counts = counted(run)
    latest: dict[tuple[str, str], Outcome] = {}
    stale = 0
    for outcome in read_log(folder / OUTCOMES, Outcome):
        if not counts(outcome):
            stale += 1
        elif not outcome.condition:
            latest[outcome.arm, outcome.case] = outcome
    cases = sorted({case for _, case in latest})
    finished = [case for case in cases if all((arm, case) in latest for arm in run.arms)]
    found = {arm: [latest[arm, case] for case in finished] for arm in run.arms}
    abilities = {arm: found.pop(arm) for arm in run.arms if arm in ABILITIES}
    return Current(run, found, len(finished), stale, abilities)


def altered(folder: Path) -> dict[tuple[str, str], dict[str, Outcome]]:
    """Read a run's current outcomes under conditions: by condition and arm, by case; the last one counts.

    Raises:
        ConfigurationError: it is no run, or a file of it is damaged.
    """
    counts = counted(read_run_card(folder))
    found: dict[tuple[str, str], dict[str, Outcome]] = {}
    for outcome in read_log(folder / OUTCOMES, Outcome):
        if outcome.condition and counts(outcome):
            found.setdefault((outcome.condition, outcome.arm), {})[outcome.case] = outcome
    return found


def gathered(folder: Path, run: RunCard) -> dict[str, CaseEvidence]:
    """Read a run's current evidence, by case; the last of each counts.

    Raises:
        ConfigurationError: the file is damaged.
    """
    every = read_log(folder / EVIDENCE, CaseEvidence)
    return {one.case: one for one in every if one.configuration == run.evidence}


def counted(run: RunCard) -> Callable[[Outcome], bool]:
    """Tell which outcomes count: those of the run's configuration, of cases that it did not leave out.

    An earlier run into the same folder may not have left out what the case store knows.
    """
    dropped = frozenset(run.leakage.dropped)
    return lambda outcome: outcome.case not in dropped and run.is_current(outcome)
