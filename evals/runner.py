"""A run: the cases of a data set through all arms, into a folder that says what it is.

The same call goes on with a run that was stopped, in whatever way: nothing is done twice, and only what
was an error is tried again. Arms that have to be fitted first get a run of their own over the validation
cases, in the folder ``validation`` of the run.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import JsonValue

from ..case import Case, Task
from ..errors import ConfigurationError, SpecialistError
from ..models.heap import settled
from ..models.journal import write_atomically
from . import provenance
from .arms import ALONE, ASKING, GENERALISTS, MEAN, Arm, FittedArm, arms_of
from .cases import Asked, chosen_items, read_cases
from .desk import Desk, Worker
from .evidence import Nobody
from .fitting import RECIPE, Fitted, fit, write_fitted
from .leakage import check_leaks, find_leaks, read_bank, without_leaks
from .plan import Plan
from .pooling import check_enough
from .records import RUN_CARD, Leakage, RunCard, read_run_card
from .replay import Finished, Replay

if TYPE_CHECKING:
    from ..agent.api import GSCo
    from ..models.dataset import Dataset
    from ..models.generalist.protocol import Generalist
    from ..settings import Settings


EVERYTHING = Plan()
VALIDATION = "validation"
"""Folder of the run over validation cases, inside that of the run."""
MODELS = "models.json"
EVIDENCE_PARTS = ("panel", "retrieval", "gate")
"""What a case's evidence depends on, beside the data."""


@dataclass(frozen=True)
class CaseSet:
    """Cases of one split of a data set, in a fixed order, read into the image store."""

    name: str
    sha256: str
    split: str
    asked: Sequence[Asked]
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know of the data set."""
    leakage: Leakage | None = None
    """What the case bank knows of them; None until that is looked at."""
    bank: str = ""
    """Digest of the bank."""


Reader = Callable[[str, int | None], CaseSet]
"""Reads a split, or a random sample of so many of its cases.

Raises ``ConfigurationError`` where there is no such split."""


class Team(Protocol):
    """Finds somebody to do the work of a run."""

    def worker(
        self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], plan: Plan, fitted: Fitted | None
    ) -> Worker:
        """Return who does it; it is closed at the end of the run."""
        ...


class Alone:
    """The team of this process only."""

    def worker(
        self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], plan: Plan, fitted: Fitted | None
    ) -> Worker:
        """Return a desk over these very parts."""
        return Desk(gsco, card, arms, plan, fitted)


ALONE_HERE = Alone()


@dataclass(frozen=True)
class Bench:
    """Who takes part in a run.

    Attributes:
        gsco: specialists, store and generalist, put together.
        generalist: the one that ``gsco`` asks; None where no arm asks one.
        cards: of the generalist, as far as it has any.
        team: who does the work.
    """

    gsco: GSCo
    generalist: Generalist | None
    cards: Mapping[str, JsonValue] | None = None
    team: Team = ALONE_HERE


def run(
    source: Path, task: str, out: Path, *, settings: Settings, plan: Plan = EVERYTHING, quiet: bool = False
) -> Finished:
    """Replay a data set with what the settings name; the same call goes on with a run that was stopped.

    Args:
        source: see ``read_dataset``.
        task: name of a closed task.
        out: folder of the run.
        settings: which specialists, store and generalist.
        plan: which cases and arms.
        quiet: show no progress.

    Raises:
        GscoError: of what kind, says what is wrong.
    """
    from ..models.dataset import read_dataset

    with bench_of(settings, plan) as bench:
        card = bench.gsco.tasks.get(task)
        dataset = read_dataset(source, seed=plan.seed)
        return replay(bench.gsco, bench.generalist, dataset, card, out, plan=plan, quiet=quiet)


@contextmanager
def bench_of(settings: Settings, plan: Plan, team: Team = ALONE_HERE) -> Iterator[Bench]:
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
    generalist: Generalist | None = parts["generalist"]() if asks_generalist(plan) else None
    parts["generalist"] = generalist or Nobody()
    cards = provenance.generalist_cards(settings) if generalist is not None else None
    with GSCo(**parts) as gsco:
        yield Bench(gsco, generalist, cards, team)


def asks_generalist(plan: Plan) -> bool:
    """Whether any arm of the plan needs a generalist."""
    return not plan.arms or not ASKING.isdisjoint(plan.arms)


def replay(
    gsco: GSCo,
    generalist: Generalist | None,
    dataset: Dataset,
    task: Task,
    out: Path,
    *,
    plan: Plan = EVERYTHING,
    quiet: bool = False,
) -> Finished:
    """Replay a labelled data set with these very parts; see ``run``.

    Args:
        gsco: specialists, store and generalist, put together.
        generalist: the one that ``gsco`` asks; None where no arm asks one.
        dataset: whose cases.
        task: a closed task.
        out: folder of the run.
        plan: which cases and arms.
        quiet: show no progress.
    """
    from ..models.specialist.progress import Progress

    def read(split: str, limit: int | None) -> CaseSet:
        items = chosen_items(dataset, split, limit=limit, seed=plan.seed)
        with Progress("reading images", len(items), quiet=quiet) as progress:
            asked = read_cases(dataset, items, task, gsco.images, progress)
        return CaseSet(dataset.name, dataset.sha256, split, asked)

    return replay_cases(Bench(gsco, generalist), read, task, out, plan=plan, quiet=quiet)


def replay_cases(
    bench: Bench, read: Reader, task: Task, out: Path, *, plan: Plan, quiet: bool = False
) -> Finished:
    """Replay the cases of a split; arms that have to be fitted are fitted on the validation split first.

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
    cases = _guarded(bench, read(plan.split, plan.limit), task, plan, quiet)
    arms, left_out = chosen_arms(bench.gsco, task, plan)
    fitted: Fitted | None = None
    if to_fit := [arm for arm in arms if isinstance(arm, FittedArm)]:
        try:
            fitted = _learn(bench, read, task, out, to_fit, plan, quiet)
        except ConfigurationError as error:
            if any(arm.name in plan.arms for arm in to_fit):
                raise
            arms = [arm for arm in arms if arm not in to_fit]
            left_out |= {arm.name: str(error) for arm in to_fit}
    return _replay(bench, cases, arms, left_out, fitted, task, out, plan, quiet)


def chosen_arms(gsco: GSCo, task: Task, plan: Plan) -> tuple[list[Arm], dict[str, str]]:
    """List the arms of a plan that this task allows, and say why the others are left out.

    Raises:
        ConfigurationError: none is left, or a name is no arm.
    """
    every = arms_of(gsco.specialists.members(task.name), plan.arms)
    if task.kind.closed:
        return every, {}
    # Of an open task only the generalist can say anything; evidence is shown to it where there is any.
    known = bool(gsco.specialists.members(task.name)) or any(
        name == task.name for name in gsco.retrieval.store().tasks()
    )
    allowed = GENERALISTS if known else (ALONE,)
    reason = f"task {task.name} is open" if known else f"task {task.name} has no specialists and known cases"
    left = [arm for arm in every if arm in allowed]
    if not left:
        raise ConfigurationError(f"{reason}: none of the arms {', '.join(plan.arms)} can be run on it")
    return left, {arm.name: reason for arm in every if arm not in allowed}


def _learn(
    bench: Bench,
    read: Reader,
    task: Task,
    out: Path,
    to_fit: Sequence[FittedArm],
    plan: Plan,
    quiet: bool,
) -> Fitted:
    """Run the validation cases through what the fitted arms read, and fit them.

    Raises:
        ConfigurationError: there are no or too few validation cases, or they are what is replayed.
    """
    if plan.split == "val":
        raise ConfigurationError(
            "fitted arms are fitted on the validation split, so it cannot be what is replayed"
        )
    asking = [arm for arm in GENERALISTS if any(arm.name in one.reads for one in to_fit)]
    arms: list[Arm] = [MEAN, *asking]
    own = plan.model_copy(update={"split": "val", "limit": plan.validation_limit, "arms": ()})
    cases = _guarded(bench, read("val", plan.validation_limit), task, plan, quiet)
    check_enough(len(cases.asked))
    _replay(bench, cases, arms, {}, None, task, out / VALIDATION, own, quiet)
    fitted = fit(out / VALIDATION)
    write_fitted(out, fitted)
    return fitted


def _replay(
    bench: Bench,
    cases: CaseSet,
    arms: Sequence[Arm],
    left_out: Mapping[str, str],
    fitted: Fitted | None,
    task: Task,
    out: Path,
    plan: Plan,
    quiet: bool,
) -> Finished:
    card = _card(bench, cases, arms, left_out, fitted, task, out, plan)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RUN_CARD, card.model_dump_json(indent=1) + "\n")
    write_atomically(out / MODELS, json.dumps(_models(bench, task), indent=1, ensure_ascii=False) + "\n")
    worker = bench.team.worker(bench.gsco, card, arms, plan, fitted)
    with closing(worker), settled():
        return asyncio.run(Replay(card, out, worker, plan.concurrency).all(cases.asked, quiet=quiet))


def _card(
    bench: Bench,
    cases: CaseSet,
    arms: Sequence[Arm],
    left_out: Mapping[str, str],
    fitted: Fitted | None,
    task: Task,
    out: Path,
    plan: Plan,
) -> RunCard:
    gsco = bench.gsco
    leakage, bank = cases.leakage, cases.bank
    assert leakage is not None, "the cases were compared with the bank"
    configuration = {
        "data": provenance.data_part(cases.sha256, cases.split, task),
        "panel": provenance.panel_part(gsco.panels.get(task.name)),
        "retrieval": {"encoder": _encoder(gsco, task), "k": plan.neighbours, "bank": bank,
                      "near_duplicates": plan.near_duplicates},
        "gate": {"policy": plan.gate, "bank": bank},
        **provenance.generalist_parts(bench.generalist, plan.profile),
        "validation": _validation_part(out, fitted),
    }  # fmt: skip
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
        leakage=leakage,
        notes=cases.notes,
        versions=provenance.versions(),
        machine=provenance.machine(),
        seed=plan.seed,
        plan=plan.model_dump(mode="json"),
        started=_started(out, task, cases.name),
    )


def _guarded(bench: Bench, cases: CaseSet, task: Task, plan: Plan, quiet: bool) -> CaseSet:
    """Compare cases with the case bank, and leave out those that it knows where the plan says so.

    Raises:
        ConfigurationError: it knows some and the policy is to refuse that, or it knows all of them.
    """
    from ..models.specialist.progress import Progress

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


def _validation_part(out: Path, fitted: Fitted | None) -> provenance.Part:
    """What fitted weights follow from; not they themselves, whose last digits depend on the machine."""
    if fitted is None:
        return {}
    card = read_run_card(out / VALIDATION)
    return {"recipe": RECIPE, "arms": dict(card.arms), "cases": fitted.cases, "errors": fitted.errors}


def _models(bench: Bench, task: Task) -> dict[str, JsonValue]:
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


def _started(out: Path, task: Task, dataset: str) -> str:
    if not (out / RUN_CARD).exists():
        return datetime.now(UTC).isoformat(timespec="seconds")
    before = read_run_card(out)
    if (before.task.name, before.dataset) != (task.name, dataset):
        raise ConfigurationError(
            f"{out} holds a run of task {before.task.name} on {before.dataset}; "
            "give this one a folder of its own"
        )
    return before.started
