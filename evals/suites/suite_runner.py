"""A run of a suite: each of its sets into a folder of its own, with the same models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from ..._support.jsonl import write_atomically
from ...case import Record, Task
from ...errors import ConfigurationError, TaskError
from .. import provenance
from ..cases import sampled
from ..runner import CaseSet, Reader, RunContext, case_set, replay_cases
from . import Member, Suite

if TYPE_CHECKING:
    from ..datasets import OpenDataset
    from ..plan import Plan
    from ..replay import Finished

T = TypeVar("T")

SUITE_CARD = "suite.json"


class SuiteCard(Record):
    """What a suite's folder holds."""

    format: Literal[1] = 1
    suite: str
    sets: tuple[Member, ...]
    versions: dict[str, str]


@dataclass(frozen=True)
class Played:
    """What became of one set of a suite."""

    name: str
    finished: Finished | None
    error: str | None = None
    """Why it could not be run at all; the others went on."""


def run_suite(
    suite: Suite,
    name: str,
    out: Path,
    bench: RunContext,
    plan: Plan,
    *,
    root: Path | None,
    quiet: bool = False,
) -> list[Played]:
    """Replay every set of a suite; one that cannot be run does not keep the others from it.

    Args:
        suite: what is replayed.
        name: of the suite.
        out: folder of the run, with one folder per set.
        bench: who takes part.
        plan: which arms, and how cases are diagnosed.
        root: folder of the data sets of the registry; None means ``GSCO_DATASETS``.
        quiet: show no progress.
    """
    out.mkdir(parents=True, exist_ok=True)
    card = SuiteCard(suite=name, sets=suite.sets, versions=provenance.versions())
    write_atomically(out / SUITE_CARD, card.model_dump_json(indent=1) + "\n")
    played = []
    for member in suite.sets:
        try:
            finished = run_member(member, out / member.name, bench, plan, root=root, quiet=quiet)
            played.append(Played(member.name, finished))
        except ConfigurationError as error:
            played.append(Played(member.name, None, str(error)))
    return played


def run_member(
    member: Member, out: Path, bench: RunContext, plan: Plan, *, root: Path | None, quiet: bool = False
) -> Finished:
    """Replay one set.

    Raises:
        ConfigurationError: it is not there, not whole, or cannot be run with these arms.
    """
    limit = plan.limit if plan.limit is not None else member.limit
    plan = plan.model_copy(update={"split": member.split, "limit": limit})
    if member.samples:
        task = bench.gsco.tasks.get(member.samples)
        return replay_cases(bench, _bundled(task, bench, plan, quiet), task, out, plan=plan, quiet=quiet)
    task = bench.gsco.tasks.get(member.task) if member.task else None
    first = _open(member, task, plan.split, plan, root)
    task = task or _card(bench, first)

    def read(split: str, limit: int | None) -> CaseSet:
        opened = first if split == plan.split else _open(member, task, split, plan, root)
        chosen = sampled(list(opened), limit, plan.seed, by=lambda one: one.id)
        return case_set(bench, opened.name, opened.sha256, split, chosen, opened.notes, quiet=quiet)

    return replay_cases(bench, read, task, out, plan=plan, quiet=quiet)


def _open(member: Member, task: Task | None, split: str, plan: Plan, root: Path | None) -> OpenDataset:
    from ..datasets import open_dataset

    path = Path(member.dataset)
    source = path if path.exists() and member.dataset != path.name else member.dataset
    return open_dataset(source, split=split, task=task, root=root, seed=plan.seed)  # type: ignore[arg-type]


def _card(bench: RunContext, opened: OpenDataset) -> Task:
    """The user's own card of the task goes before that of the registry."""
    try:
        return bench.gsco.tasks.get(opened.task.name)
    except TaskError:
        return opened.task


def _bundled(task: Task, bench: RunContext, plan: Plan, quiet: bool) -> Reader:
    import hashlib

    from ...models.mini.samples import samples
    from ..datasets import Example

    def read(split: str, limit: int | None) -> CaseSet:
        if split != "test":
            raise ConfigurationError("the bundled samples are test images only")
        bundled = samples(task.name)
        examples = [
            Example(id=one.file, images=(one.path,), labels=(one.label,), group=one.group, split="test")
            for one in bundled
        ]
        digest = hashlib.sha256("\n".join(f"{one.sha256} {one.label}" for one in bundled).encode())
        chosen = sampled(examples, limit, plan.seed, by=lambda one: one.id)
        return case_set(bench, f"samples-{task.name}", digest.hexdigest(), split, chosen, quiet=quiet)

    return read
