"""Conditions: the cases of a finished run, each altered before the run's arms decide it.

The evidence that the run gathered is altered, or the image, or the order of the options; the altered case
goes through the same steps as the case itself. Its outcomes are written to the same log, marked with the
condition's name, and the same call goes on where it was stopped.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._support.gc import frozen_objects
from .._support.jsonl import read_log, write_atomically
from ..case import Case, Evidence, Task
from ..errors import ConfigurationError, GscoError
from .arms import arms_of
from .case_runner import CaseWork
from .cases import EvalCase
from .outcomes import altered, counted, gathered
from .records import OUTCOMES, RUN_CARD, Outcome, RunCard, read_run_card
from .replay import Finished, Replay

if TYPE_CHECKING:
    from ..images import ImageStore
    from .plan import Plan
    from .runner import RunContext


@dataclass(frozen=True)
class GatheredCase:
    """A case of a finished run, with the evidence that was gathered for it."""

    id: str
    group: str
    truth: tuple[str, ...]
    case: Case
    evidence: Evidence


@dataclass(frozen=True)
class ConditionQuestion:
    """An altered case."""

    case: Case
    task: Task
    evidence: Evidence


@dataclass(frozen=True)
class Cohort:
    """What an alteration may draw on beside the case itself.

    Attributes:
        task: of the run.
        others: by case, the one whose parts it may get; see ``exchanged``.
        images: where altered images are put; None where none are needed.
    """

    task: Task
    others: Mapping[str, GatheredCase]
    images: ImageStore | None = None


@dataclass(frozen=True)
class Condition:
    """One alteration.

    Attributes:
        name: in the outcomes.
        arms: names of those that decide under it.
        alter: makes the question of a case.
        mixes: whether a case gets parts of others, so that outcomes depend on which cases there are.
    """

    name: str
    arms: tuple[str, ...]
    alter: Callable[[GatheredCase, Cohort], ConditionQuestion]
    mixes: bool = False


def exchanged(names: Sequence[str], seed: int) -> dict[str, str]:
    """By case, another one: a cycle through all of them in random order, so that none keeps its own."""
    order: list[int] = np.random.default_rng(seed).permutation(len(names)).tolist()
    pairs = zip(order, [*order[1:], *order[:1]], strict=True)
    return {names[here]: names[there] for here, there in pairs}


def gathered_cases(folder: Path, images: ImageStore) -> dict[str, GatheredCase]:
    """Read the cases of a finished run whose image is still in the image store.

    Raises:
        ConfigurationError: it is no run, or a file of it is damaged.
    """
    card = read_run_card(folder)
    counts = counted(card)
    natural = {
        one.case: one for one in read_log(folder / OUTCOMES, Outcome) if not one.condition and counts(one)
    }
    found = {}
    for name, one in gathered(folder, card).items():
        if (outcome := natural.get(name)) is None:
            continue
        try:
            image = images.resolve(f"img-{one.sha256[:12]}")
        except GscoError:
            continue
        case = Case(id=name, images=(image,), group=outcome.group or None)
        found[name] = GatheredCase(name, outcome.group, outcome.truth, case, one.evidence)
    return found


def replay_conditions(
    bench: RunContext,
    folder: Path,
    conditions: Sequence[Condition],
    cases: Sequence[GatheredCase],
    plan: Plan,
    *,
    seed: int = 0,
    quiet: bool = False,
) -> Finished:
    """Let the arms of a finished run decide its cases under conditions.

    Args:
        bench: who takes part, the same as in the run.
        folder: of the run.
        conditions: all that are wanted of these names' kind; others that were run before are kept.
        cases: of the run; at least two.
        plan: how cases are diagnosed.
        seed: of what is exchanged.
        quiet: show no progress.

    Raises:
        ConfigurationError: there are fewer than two cases.
    """
    if len(cases) < 2:
        raise ConfigurationError(
            f"{folder.name} has {len(cases)} cases with evidence and image; at least two are needed"
        )
    others = exchanged([one.id for one in cases], seed)
    mixed = zlib.crc32("".join(f"{one}>{other};" for one, other in sorted(others.items())).encode())
    names = {one.name: f"-{mixed:08x}" if one.mixes else "" for one in conditions}
    card = read_run_card(folder)
    card = card.model_copy(update={"conditions": {**card.conditions, **names}})
    write_atomically(folder / RUN_CARD, card.model_dump_json(indent=1) + "\n")
    by_name = {one.id: one for one in cases}
    cohort = Cohort(card.task, {one: by_name[other] for one, other in others.items()}, bench.gsco.images)
    due = list(_due(folder, card, conditions, cases, cohort))
    wanted = sorted({arm for condition in conditions for arm in condition.arms if arm in card.arms})
    arms = arms_of(bench.gsco.specialists.members(card.task.name), wanted)
    worker = bench.team.worker(bench.gsco, card, arms, plan)
    with closing(worker), frozen_objects():
        replay = Replay(card, folder, worker, plan.concurrency)
        return asyncio.run(replay.all(due, title=f"conditions of {card.task.name}", quiet=quiet))


def _due(
    folder: Path,
    card: RunCard,
    conditions: Sequence[Condition],
    cases: Sequence[GatheredCase],
    cohort: Cohort,
) -> Iterable[CaseWork]:
    """What is left to decide, condition by condition."""
    answered = {
        (condition, arm, case)
        for (condition, arm), of in altered(folder).items()
        for case, outcome in of.items()
        if outcome.error is None
    }
    for condition in conditions:
        arms_here = [arm for arm in condition.arms if arm in card.arms]
        for known in cases:
            arms = frozenset(arm for arm in arms_here if (condition.name, arm, known.id) not in answered)
            if arms:
                question = condition.alter(known, cohort)
                asked = EvalCase(known.id, known.truth, known.group, question.case)
                yield CaseWork(asked, arms, question.evidence, question.task, condition.name)
