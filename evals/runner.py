"""A run: the cases of a data set through all arms, into a folder that says what it is.

The same call goes on with a run that was stopped, in whatever way: nothing is done twice, and only what
was an error is tried again.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case import Case, Task
from ..errors import ConfigurationError, SpecialistError
from ..models.journal import write_atomically
from . import provenance
from .arms import GENERALISTS, arms_of
from .cases import chosen_items, read_cases
from .evidence import Nobody
from .leakage import bank_digest, check_leaks, find_leaks, known_cases
from .records import RUN_CARD, RunCard, read_run_card
from .replay import Finished, Plan, Replay

if TYPE_CHECKING:
    from ..agent.api import GSCo
    from ..models.dataset import Dataset
    from ..models.generalist.protocol import Generalist
    from ..settings import Settings


EVERYTHING = Plan()


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
    from ..agent.api import GSCo
    from ..agent.assembly import parts_of
    from ..models.dataset import read_dataset

    parts: dict[str, Any] = parts_of(settings)
    card = parts["tasks"].get(task)
    dataset = read_dataset(source, seed=plan.seed)
    generalist: Generalist | None = parts["generalist"]() if asks_generalist(plan) else None
    parts["generalist"] = generalist or Nobody()
    with GSCo(**parts) as gsco:
        return replay(gsco, generalist, dataset, card, out, plan=plan, quiet=quiet)


def asks_generalist(plan: Plan) -> bool:
    """Whether any arm of the plan needs a generalist."""
    return not plan.arms or any(arm.name in plan.arms for arm in GENERALISTS)


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
    """Replay a data set with these very parts; see ``run``.

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

    items = chosen_items(dataset, plan.split, limit=plan.limit, seed=plan.seed)
    with Progress("reading images", len(items), quiet=quiet) as progress:
        asked = read_cases(dataset, items, task, gsco.images, progress)
    known = known_cases(gsco.retrieval.store(), task.name)
    leakage = find_leaks([one.case for one in asked if isinstance(one.case, Case)], known)
    check_leaks(leakage, plan.leaks)
    arms = arms_of(gsco.specialists.members(task.name), plan.arms)
    configuration = {
        "data": provenance.data_part(dataset, plan.split, task),
        "panel": provenance.panel_part(gsco.panels.get(task.name)),
        "retrieval": {"encoder": _encoder(gsco, task), "k": plan.neighbours, "bank": bank_digest(known),
                      "near_duplicates": plan.near_duplicates},
        "gate": {"policy": plan.gate, "bank": bank_digest(known)},
        "generalist": _generalist_part(generalist, plan),
    }  # fmt: skip
    card = RunCard(
        task=task,
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        split=plan.split,
        cases=len(asked),
        labels=dict(sorted(Counter(label for one in asked for label in one.truth).items())),
        arms={arm.name: provenance.configuration_hash(configuration, arm.parts) for arm in arms},
        configuration=configuration,
        leakage=leakage,
        versions=provenance.versions(),
        machine=provenance.machine(),
        seed=plan.seed,
        started=_started(out, task, dataset),
    )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RUN_CARD, card.model_dump_json(indent=1) + "\n")
    return Replay(gsco, card, arms, out, plan).all(asked, quiet=quiet)


def _encoder(gsco: GSCo, task: Task) -> str:
    try:
        return gsco.specialists.retriever(task.name) or "shared"
    except SpecialistError:
        # Each case will say so; here only the configuration's name is wanted.
        return "missing"


def _generalist_part(generalist: Generalist | None, plan: Plan) -> provenance.Part:
    from ..models.generalist.prompts import PROFILES

    return {} if generalist is None else provenance.generalist_part(generalist, PROFILES[plan.profile])


def _started(out: Path, task: Task, dataset: Dataset) -> str:
    if not (out / RUN_CARD).exists():
        return datetime.now(UTC).isoformat(timespec="seconds")
    before = read_run_card(out)
    if (before.task.name, before.dataset) != (task.name, dataset.name):
        raise ConfigurationError(
            f"{out} holds a run of task {before.task.name} on {before.dataset}; "
            "give this one a folder of its own"
        )
    return before.started
