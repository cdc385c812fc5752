"""Two runs over the same cases, arm by arm: another generalist, other specialists, another prompt."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..case import Record
from ..errors import ConfigurationError
from ..models.metrics.draws import ROUNDS
from ..models.metrics.registry import METRICS
from .metrics.uncertainty import Difference, holm
from .outcomes import current, runs_in
from .records import Outcome, RunCard
from .reports.blocks import Block, ReportTable, points, small
from .reports.markdown import written
from .scoring import COMPARED, columns_of, difference_of


class ArmChange(Record):
    """One arm in two runs: the second minus the first."""

    name: str
    """Of the run's folder."""
    arm: str
    n: int
    """Cases that both have finished."""
    same: bool
    """Whether the configuration is the same, so that nothing but chance can differ."""
    first: float
    second: float
    """Accuracies."""
    differences: dict[str, Difference]
    adjusted: float
    """p on accuracy after Holm, over all arms of all runs."""


class _Pair(NamedTuple):
    name: str
    first: RunCard
    second: RunCard
    arm: str
    outcomes: tuple[list[Outcome], list[Outcome]]


def compare(first: Path, second: Path, *, rounds: int = ROUNDS, seed: int = 0) -> str:
    """Write a comparison as Markdown; see ``changes``."""
    found = changes(first, second, rounds=rounds, seed=seed)
    return "\n".join(["# Comparison", "", *written(_blocks(found, first, second))])


def changes(first: Path, second: Path, *, rounds: int = ROUNDS, seed: int = 0) -> list[ArmChange]:
    """Compare the arms that two runs, or the runs of two suites, have in common.

    Args:
        first: folder of the one.
        second: folder of the other.
        rounds: bootstrap draws of whole groups.
        seed: of the draws.

    Raises:
        ConfigurationError: there is no run, or they share no set, arm or case.
    """
    pairs = list(_pairs(first, second))
    if not pairs:
        raise ConfigurationError(
            f"{first} and {second} have no finished case of the same set and arm in common"
        )
    found = [_change(pair, rounds, seed) for pair in pairs]
    adjusted = holm([one.differences["accuracy"].p for one in found])
    return [one.model_copy(update={"adjusted": p}) for one, p in zip(found, adjusted, strict=True)]


def _pairs(first: Path, second: Path) -> Iterator[_Pair]:
    for name, (mine, theirs) in _matched(runs_in(first), runs_in(second)).items():
        one, other = current(mine), current(theirs)
        if not one.run.task.kind.closed or one.run.task.options != other.run.task.options:
            continue
        if one.run.dataset_sha256 != other.run.dataset_sha256 or one.run.split != other.run.split:
            raise ConfigurationError(
                f"the two runs of {name} are not over the same split of the same data set"
            )
        for arm in one.outcomes:
            if arm in other.outcomes:
                by_case = {outcome.case: outcome for outcome in other.outcomes[arm]}
                shared = [outcome for outcome in one.outcomes[arm] if outcome.case in by_case]
                if shared:
                    both = (shared, [by_case[outcome.case] for outcome in shared])
                    yield _Pair(name, one.run, other.run, arm, both)


def _matched(first: list[Path], second: list[Path]) -> dict[str, tuple[Path, Path]]:
    """Pairs of runs by name; two single runs belong together whatever their folders are called."""
    if len(first) == len(second) == 1:
        return {first[0].name: (first[0], second[0])}
    others = {home.name: home for home in second}
    return {home.name: (home, others[home.name]) for home in first if home.name in others}


def _change(pair: _Pair, rounds: int, seed: int) -> ArmChange:
    both: dict[str, list[Outcome]] = {"A": pair.outcomes[0], "B": pair.outcomes[1]}
    found = columns_of(pair.first.task, both, rounds, seed + zlib.crc32(pair.name.encode()), COMPARED)
    one, other = found["A"], found["B"]
    return ArmChange(
        name=pair.name,
        arm=pair.arm,
        n=one.answers.n,
        same=pair.first.arms[pair.arm] == pair.second.arms[pair.arm],
        first=METRICS["accuracy"](one.answers),
        second=METRICS["accuracy"](other.answers),
        differences={metric: difference_of(metric, other, one) for metric in COMPARED},
        adjusted=1.0,
    )


def _blocks(found: list[ArmChange], first: Path, second: Path) -> Iterator[Block]:
    yield f"A: {first.name}. B: {second.name}. Paired differences B − A on the same cases, percentage points."
    yield (
        "p: sign flips of whole groups, on accuracy; p′: after Holm, over all rows. Arms of the same "
        "configuration are marked; what differs there is numerical noise."
    )
    yield ReportTable(
        ("set", "arm", "n", "A", "B", "accuracy", "p", "p′", "balanced accuracy"),
        [
            (
                one.name,
                one.arm + (" (same)" if one.same else ""),
                str(one.n),
                f"{one.first:.3f}",
                f"{one.second:.3f}",
                points(one.differences["accuracy"]),
                small(one.differences["accuracy"].p),
                small(one.adjusted),
                points(one.differences["balanced_accuracy"]),
            )
            for one in found
        ],
    )
