"""A run of the suite: the arms on the cases as they are, then on every altered case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...case import Task
from ...errors import ConfigurationError
from ..cases import labelled_examples
from ..conditions import gathered_cases, replay_conditions
from ..plan import Plan
from ..runner import RunContext, replay, run_context_of
from .conditions import CONDITIONS

if TYPE_CHECKING:
    from ...models.dataset import Dataset
    from ...settings import Settings

NATURAL = ("specialists", "vote", "knn", "generalist", "moed", "rad", "gsco-paper")


def run(source: Path, task: str, out: Path, *, settings: Settings, plan: Plan, quiet: bool = False) -> None:
    """Run the suite on a data set with what the settings name; the same call goes on where it was stopped.

    Args:
        source: see ``read_dataset``.
        task: name of a task with one label per case.
        out: folder of the run.
        settings: which specialists, store and generalist.
        plan: which cases, and how they are diagnosed; its arms are the suite's.
        quiet: show no progress.

    Raises:
        GscoError: of what kind, says what is wrong.
    """
    from ...models.dataset import read_dataset

    dataset = read_dataset(source, seed=plan.seed)
    with run_context_of(settings, plan) as bench:
        arbitrate(bench, dataset, bench.gsco.tasks.get(task), out, plan=plan, quiet=quiet)


def arbitrate(
    bench: RunContext, dataset: Dataset, task: Task, out: Path, *, plan: Plan, quiet: bool = False
) -> None:
    """Run the suite with these very parts; see ``run``.

    Raises:
        ConfigurationError: the task does not ask for exactly one label, or there are too few cases.
    """
    if task.kind != "diagnosis":
        raise ConfigurationError(f"arbitration needs a task with one label per case; {task.name} has none")
    plan = plan.model_copy(update={"arms": NATURAL})
    replay(bench, dataset, task, out, plan=plan, quiet=quiet)
    known = gathered_cases(out, bench.gsco.images)
    asked = labelled_examples(dataset, plan.split, task, limit=plan.limit, seed=plan.seed)
    cases = [known[one.id] for one in asked if one.id in known]
    replay_conditions(bench, out, CONDITIONS, cases, plan, seed=plan.seed, quiet=quiet)
