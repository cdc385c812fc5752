"""A run of the suite: abilities of the generalist beside the product's decisions, and closed questions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...case import Task, TaskKind
from ...errors import ConfigurationError
from ..arms import ALONE, GSCO
from ..datasets.example import Example
from ..datasets.rows import read_rows
from ..plan import Plan
from ..runner import CaseSet, RunContext, case_set, replay, replay_cases, run_context_of
from .ability_arms import ability_arms

if TYPE_CHECKING:
    from ...models.dataset import Dataset
    from ...settings import Settings

QUESTIONS = Task(name="vqa", kind=TaskKind.QUESTION, modality="radiology")
EARLIER_LOG = "abilities.jsonl"


def run(
    sources: Mapping[str, Path],
    vqa: Path | None,
    out: Path,
    *,
    settings: Settings,
    plan: Plan,
    quiet: bool = False,
) -> None:
    """Run the suite with what the settings name; the same call goes on where it was stopped.

    Args:
        sources: data sets by task.
        vqa: JSON list of ``question``, ``answer``, ``answer_type`` and ``image_name``, with the images in
            a folder ``images`` beside it.
        out: folder of the runs, one of each task and one of the questions.
        settings: which specialists, store and generalist.
        plan: which cases, and how they are diagnosed; its arms are the suite's.
        quiet: show no progress.

    Raises:
        GscoError: of what kind, says what is wrong.
    """
    from ...models.dataset import read_dataset

    if (out / EARLIER_LOG).exists():
        raise ConfigurationError(
            f"{out} holds {EARLIER_LOG} of an earlier version of gsco, which this one does not go on with; "
            "name another folder with --out"
        )
    with run_context_of(settings.model_copy(update={"review": ()}), plan) as bench:
        given = [
            (bench.gsco.tasks.get(task), read_dataset(at, seed=plan.seed)) for task, at in sources.items()
        ]
        show(bench, given, out, plan=plan, quiet=quiet)
        if vqa is not None:
            ask(bench, vqa, out / QUESTIONS.name, plan=plan, quiet=quiet)


def show(
    bench: RunContext, given: list[tuple[Task, Dataset]], out: Path, *, plan: Plan, quiet: bool = False
) -> None:
    """Show the generalist the images of data sets, and have the product decide them."""
    bench = replace(bench, abilities=ability_arms(bench.gsco, [task for task, _ in given]))
    # Conversations are had one after the other, so that nothing depends on which of them meet in a batch.
    plan = plan.model_copy(update={"arms": (GSCO.name,), "concurrency": 1})
    for task, dataset in given:
        replay(bench, dataset, task, out / task.name, plan=plan, quiet=quiet)


def ask(bench: RunContext, vqa: Path, out: Path, *, plan: Plan, quiet: bool = False) -> None:
    """Ask the generalist alone the closed questions of a file.

    Raises:
        ConfigurationError: the file is not as ``run`` describes it.
    """

    def read(split: str, limit: int | None) -> CaseSet:
        sha256 = hashlib.sha256(vqa.read_bytes()).hexdigest()
        return case_set(bench, vqa.parent.name, sha256, split, _questions(vqa), quiet=quiet)

    plan = plan.model_copy(update={"arms": (ALONE.name,), "limit": None, "gate": "off"})
    replay_cases(bench, read, QUESTIONS, out, plan=plan, quiet=quiet)


def _questions(vqa: Path) -> list[Example]:
    try:
        return [
            Example(
                id=f"{number}-{row['image_name']}",
                images=(vqa.parent / "images" / str(row["image_name"]),),
                question=str(row["question"]),
                answers=(str(row["answer"]),),
                group=str(row["image_name"]),
                extras={"answer_type": "CLOSED"},
            )
            for number, row in enumerate(read_rows(vqa))
            if str(row["answer_type"]).strip().upper() == "CLOSED"
        ]
    except KeyError as error:
        raise ConfigurationError(f"{vqa} has a row without {error}") from error
