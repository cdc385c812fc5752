"""A run: the cases of a data set through all arms, into a folder that says what it is.

The same call goes on with a run that was stopped, in whatever way: nothing is done twice, and only what
was an error is tried again. Nothing is fitted in a run: what was fitted for a task is read (``gsco fit``).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import JsonValue

from .._support.gc import frozen_objects
from .._support.jsonl import write_atomically
from ..case import Case, Task
from ..errors import ConfigurationError, SpecialistError, StoreError
from ..graphs.collaboration_fit import HeldOutScores
from . import provenance
from .abilities.ability_arms import AbilityArm
from .arms import ALONE, ASKING, GENERALISTS, GSCO, STACKING, Arm, arms_of, best_single_source
from .case_runner import CaseRunner, CaseWorker
from .cases import EvalCase, labelled_examples, read_examples
from .leakage import check_leaks, check_training, find_leaks, read_bank, without_leaks
from .plan import Plan
from .records import RUN_CARD, Leakage, RunCard, read_run_card
from .replay import Finished, Replay

if TYPE_CHECKING:
    from ..agent.api import GSCo
    from ..graphs.collaboration_fit import CollaborationFit
    from ..models.dataset import Dataset
    from ..models.generalist.protocol import Generalist
    from ..settings import Settings
    from ..tools.retrieval import KnownCases
    from .datasets.example import Example


MODELS = "models.json"
EVIDENCE_PARTS = ("panel", "retrieval", "gate")
"""What a case's evidence depends on, beside the data."""


@dataclass(frozen=True)
class CaseSet:
    """Cases of one split of a data set, in a fixed order, read into the image store."""

    name: str
    sha256: str
    split: str
    asked: Sequence[EvalCase]
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know of the data set."""
    leakage: Leakage | None = None
    """What the case bank knows of them; None until that is looked at."""
    bank: str = ""
    """Digest of the bank."""


Reader = Callable[[str, int | None], CaseSet]
"""Reads a split, or a random sample of so many of its cases.

Raises ``ConfigurationError`` where there is no such split."""


class Executor(Protocol):
    """Finds somebody to do the work of a run."""

    def worker(self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], plan: Plan) -> CaseWorker:
        """Return who does it; it is closed at the end of the run."""
        ...


class LocalExecutor:
    """The team of this process only."""

    def worker(self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], plan: Plan) -> CaseWorker:
        """Return a desk over these very parts."""
        return CaseRunner(gsco, card, arms, plan)


ALONE_HERE = LocalExecutor()


@dataclass(frozen=True)
class RunContext:
    """Who takes part in a run.

    Attributes:
        gsco: specialists, store and generalist, put together.
        generalist: the one that ``gsco`` asks; None where no arm asks one.
        cards: of the generalist, as far as it has any.
        team: who does the work.
        abilities: arms of the run beside those of its plan.
    """

    gsco: GSCo
    generalist: Generalist | None
    cards: Mapping[str, JsonValue] | None = None
    team: Executor = ALONE_HERE
    abilities: tuple[AbilityArm, ...] = ()


@contextmanager
def run_context_of(settings: Settings, plan: Plan, team: Executor = ALONE_HERE) -> Generator[RunContext]:
    """Put together who takes part by the settings, for the time of a ``with`` block.

    Args:
        settings: which specialists, store and generalist.
        plan: whether any of its arms asks a generalist.
        team: who does the work.

    Raises:
        GscoError: a setting is wrong, or the generalist cannot be loaded.
    """
    from ..agent.api import GSCo
    from ..agent.assembly import parts_of

    parts: dict[str, Any] = parts_of(settings)
    generalist: Generalist | None = None
    if asks_generalist(plan):
        parts["generalist"] = generalist = parts["generalist"]()
    cards = provenance.generalist_cards(settings) if generalist is not None else None
    with GSCo(**parts) as gsco:
        yield RunContext(gsco, generalist, cards, team)


def asks_generalist(plan: Plan) -> bool:
    """Whether any arm of the plan needs a generalist."""
    return not plan.arms or not ASKING.isdisjoint(plan.arms)


def replay(
    bench: RunContext, dataset: Dataset, task: Task, out: Path, *, plan: Plan, quiet: bool = False
) -> Finished:
    """Replay a labelled data set; see ``replay_cases``."""

    def read(split: str, limit: int | None) -> CaseSet:
        examples = labelled_examples(dataset, split, task, limit=limit, seed=plan.seed)
        return case_set(bench, dataset.name, dataset.sha256, split, examples, quiet=quiet)

    return replay_cases(bench, read, task, out, plan=plan, quiet=quiet)


def case_set(
    bench: RunContext,
    name: str,
    sha256: str,
    split: str,
    examples: Sequence[Example],
    notes: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> CaseSet:
    """Read the images of examples of a split into the image store."""
    from .._support.progress import Progress

    with Progress(f"reading images of {name}", len(examples), quiet=quiet) as progress:
        asked = read_examples(examples, bench.gsco.images, progress)
    return CaseSet(name, sha256, split, asked, tuple(notes))


def replay_cases(
    bench: RunContext, read: Reader, task: Task, out: Path, *, plan: Plan, quiet: bool = False
) -> Finished:
    """Replay the cases of a split.

    Args:
        bench: who takes part.
        read: reads a split's cases.
        task: what is asked of them.
        out: folder of the run.
        plan: which cases and arms.
        quiet: show no progress.

    Raises:
        GscoError: of what kind, says what is wrong.
    """
    found = read(plan.split, plan.limit)
    if plan.refuse_training:
        check_training(bench.gsco.panels.get(task.name), found.name, found.sha256, found.split)
    cases = _guarded(bench, found, task, plan, quiet)
    arms, left_out = chosen_arms(bench.gsco, task, plan)
    arms += bench.abilities
    card = _card(bench, cases, arms, left_out, task, out, plan)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RUN_CARD, card.model_dump_json(indent=1) + "\n")
    write_atomically(out / MODELS, json.dumps(_models(bench, task), indent=1, ensure_ascii=False) + "\n")
    if GSCO in arms:
        known_cases(bench.gsco, task, plan)
    worker = bench.team.worker(bench.gsco, card, arms, plan)
    with closing(worker), frozen_objects():
        run = Replay(card, out, worker, plan.concurrency)
        return asyncio.run(run.all(run.todo(cases.asked), title=f"replaying {task.name}", quiet=quiet))


def chosen_arms(gsco: GSCo, task: Task, plan: Plan) -> tuple[list[Arm], dict[str, str]]:
    """List the arms of a plan that this task allows, and say why the others are left out.

    Raises:
        ConfigurationError: none is left, or a name is no arm.
    """
    every = arms_of(gsco.specialists.members(task.name), plan.arms)
    if task.kind.closed:
        return _with_fit(every, gsco, task, plan)
    # Of an open task only the generalist can say anything; evidence is shown to it where there is any.
    known = bool(gsco.specialists.members(task.name)) or any(
        name == task.name for name in gsco.retrieval.store().tasks()
    )
    allowed = (*GENERALISTS, GSCO) if known else (ALONE,)
    reason = f"task {task.name} is open" if known else f"task {task.name} has no specialists and known cases"
    left = [arm for arm in every if arm in allowed]
    if not left:
        raise ConfigurationError(f"{reason}: none of the arms {', '.join(plan.arms)} can be run on it")
    return left, {arm.name: reason for arm in every if arm not in allowed}


def _with_fit(every: list[Arm], gsco: GSCo, task: Task, plan: Plan) -> tuple[list[Arm], dict[str, str]]:
    """Leave out stacking where nothing was fitted that it could use.

    Raises:
        ConfigurationError: it was asked for by name and cannot be run.
    """
    fit = fit_of(gsco, task)
    if fit is None or fit.stack is None:
        reason = f"task {task.name} has no fit: run `gsco fit {task.name} --dataset FOLDER`"
    elif changed := _changed(gsco, task, fit):
        reason = (
            f"{', '.join(changed)} changed since the fit: run `gsco fit {task.name} --dataset FOLDER` again"
        )
    else:
        return every, {}
    if STACKING.name in plan.arms:
        raise ConfigurationError(f"stacking cannot be run: {reason}")
    left_out = {arm.name: reason for arm in every if arm == STACKING}
    return [arm for arm in every if arm != STACKING], left_out


def known_cases(gsco: GSCo, task: Task, plan: Plan) -> KnownCases | None:
    """Read what is known of a task's cases as a whole, before any is decided by evidence that was kept.

    None where there is nothing to read.
    """
    if not task.kind.closed or not plan.neighbours:
        return None
    try:
        return gsco.known_cases(task.name, plan.neighbours)
    except (StoreError, SpecialistError):
        # Each case says so; as in a diagnosis, it is decided without.
        return None


def fit_of(gsco: GSCo, task: Task) -> CollaborationFit | None:
    """What was fitted for a task, if it was fitted for this very card."""
    found = gsco.fits(task.name) if task.kind.closed else None
    return found if found is not None and found.holds_for(task) else None


def _changed(gsco: GSCo, task: Task, fit: CollaborationFit) -> list[str]:
    panel = gsco.panels.get(task.name)
    members = {} if panel is None else panel.members
    here = {name: member.card.weights.sha256[:12] for name, member in members.items()}
    return sorted(name for name, version in fit.parts.specialists.items() if here.get(name) != version)


def _card(
    bench: RunContext,
    cases: CaseSet,
    arms: Sequence[Arm],
    left_out: Mapping[str, str],
    task: Task,
    out: Path,
    plan: Plan,
) -> RunCard:
    gsco, fit, before = bench.gsco, fit_of(bench.gsco, task), _card_before(out, task, cases.name)
    panel = gsco.panels.get(task.name)
    leakage, bank = cases.leakage, cases.bank
    assert leakage is not None, "the cases were compared with the bank"
    configuration = {
        "data": provenance.data_part(cases.sha256, cases.split, task),
        "panel": provenance.panel_part(panel),
        "retrieval": {
            "encoder": _encoder(gsco, task),
            "k": plan.neighbours,
            "bank": bank,
            "near_duplicates": plan.near_duplicates,
        },
        "gate": {"policy": plan.gate, "bank": bank},
        **provenance.generalist_parts(bench.generalist, plan.profile),
        "decision": _decision_part(bench, plan),
        "fit": {} if fit is None else {"version": fit.version, "data": fit.data[:12], "cases": fit.cases},
    }
    best, chosen_by = best_single_source(
        fit,
        {} if panel is None else {name: one.card.reliability for name, one in panel.members.items()},
        leakage.bank > 0,
    )
    return RunCard(
        task=task,
        dataset=cases.name,
        dataset_sha256=cases.sha256,
        split=cases.split,
        cases=len(cases.asked),
        labels=dict(sorted(Counter(label for one in cases.asked for label in one.truth).items())),
        arms={arm.name: provenance.configuration_hash(configuration, arm.parts) for arm in arms},
        evidence=provenance.configuration_hash(configuration, EVIDENCE_PARTS),
        left_out=left_out,
        configuration=configuration,
        fit=None if fit is None else fit.model_copy(update={"held_out": HeldOutScores()}),
        best_source=best,
        best_source_by=chosen_by,
        leakage=leakage,
        notes=cases.notes,
        versions=provenance.versions(),
        machine=provenance.machine(),
        seed=plan.seed,
        plan=plan.model_dump(mode="json"),
        started=datetime.now(UTC).isoformat(timespec="seconds") if before is None else before.started,
        conditions={} if before is None else before.conditions,
    )


def _guarded(bench: RunContext, cases: CaseSet, task: Task, plan: Plan, quiet: bool) -> CaseSet:
    """Compare cases with the case bank, and leave out those that it knows where the plan says so.

    Raises:
        ConfigurationError: it knows some and the policy is to refuse that, or it knows all of them.
    """
    from .._support.progress import Progress

    bank = read_bank(bench.gsco.retrieval.store(), task.name)
    usable = [one.case for one in cases.asked if isinstance(one.case, Case)]
    with Progress("comparing with the case bank", len(usable), quiet=quiet) as progress:
        found = find_leaks(usable, bank, bench.gsco.images, progress)
    check_leaks(found, plan.leaks)
    asked = cases.asked
    if plan.leaks == "drop":
        found = without_leaks(found)
        asked = [one for one in asked if one.id not in found.suspects]
        if not asked:
            raise ConfigurationError(f"the case bank knows all of the {len(cases.asked)} cases")
    return replace(cases, asked=asked, leakage=found, bank=bank.digest)


def _decision_part(bench: RunContext, plan: Plan) -> provenance.Part:
    if bench.generalist is None:
        return {}
    collaboration = bench.gsco.collaboration(**plan.policies)
    return {
        "rule": collaboration.decision,
        "max_error": collaboration.max_error,
        "floors": [list(one) for one in collaboration.floors],
    }


def _models(bench: RunContext, task: Task) -> dict[str, JsonValue]:
    panel = bench.gsco.panels.get(task.name)
    members = {} if panel is None else panel.members
    return {
        "specialists": {name: member.card.model_dump(mode="json") for name, member in members.items()},
        "generalist": None if bench.cards is None else dict(bench.cards),
    }


def _encoder(gsco: GSCo, task: Task) -> str:
    try:
        return gsco.specialists.retriever(task.name) or "shared"
    except SpecialistError:
        # Each case will say so; here only the configuration's name is wanted.
        return "missing"


def _card_before(out: Path, task: Task, dataset: str) -> RunCard | None:
    if not (out / RUN_CARD).exists():
        return None
    before = read_run_card(out)
    if (before.task.name, before.dataset) != (task.name, dataset):
        raise ConfigurationError(
            f"{out} holds a run of task {before.task.name} on {before.dataset}; "
            "give this one a folder of its own"
        )
    return before
