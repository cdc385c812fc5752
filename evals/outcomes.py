"""The outcomes of a run that count, read from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .._support.jsonl import read_log
from ..errors import ConfigurationError
from .records import OUTCOMES, RUN_CARD, Outcome, RunCard, read_run_card


class Current(NamedTuple):
    """The outcomes of a run that count: by arm, in the same order of cases."""

    run: RunCard
    outcomes: dict[str, list[Outcome]]
    finished: int
    stale: int


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
    latest: dict[tuple[str, str], Outcome] = {}
    stale = 0
    dropped = frozenset(run.leakage.dropped)
    for outcome in read_log(folder / OUTCOMES, Outcome):
        if outcome.case in dropped:
            # Of an earlier run into this folder that did not drop what the bank knows.
            stale += 1
            continue
        if run.arms.get(outcome.arm) == outcome.configuration and outcome.task_version == run.task.version:
            latest[outcome.arm, outcome.case] = outcome
        else:
            stale += 1
    cases = sorted({case for _, case in latest})
    finished = [case for case in cases if all((arm, case) in latest for arm in run.arms)]
    outcomes = {arm: [latest[arm, case] for case in finished] for arm in run.arms}
    return Current(run, outcomes, len(finished), stale)
