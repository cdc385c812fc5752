"""Mixture-of-expert diagnosis: every specialist of the panel gives its opinion, all at once."""

from __future__ import annotations

import time

from langgraph.runtime import Runtime
from langgraph.types import Send

from ...case import Case, Missing, Opinion, Task
from ...errors import EvidenceMissing, SpecialistError
from ...tools.specialists import Specialists
from ..diagnosis_context import DiagnosisContext
from ..explanation.titles import SOURCE
from ..state import BranchInput


async def moed(state: BranchInput, runtime: Runtime[DiagnosisContext]) -> dict[str, object]:
    """Ask one specialist.

    Raises:
        EvidenceMissing: it failed, and the policy requires it.
    """
    start = time.perf_counter()
    name = SOURCE + state["specialist"]
    update: dict[str, object]
    try:
        update = {"opinions": (await _ask(state, runtime.context),)}
    except SpecialistError as error:
        if runtime.context.moed == "require":
            raise EvidenceMissing(f"{name} is required and failed: {error}") from error
        update = {"missing": (Missing(source=name, reason=str(error)),)}
    return {**update, "timings": {name: time.perf_counter() - start}}


async def _ask(question: BranchInput, collaboration: DiagnosisContext) -> Opinion:
    opinion = await collaboration.specialists.opinion(
        question["task"], question["specialist"], question["case"].images
    )
    options = collaboration.task(question["task"]).options
    if options and not opinion.probabilities.keys() <= set(options):
        raise SpecialistError(
            f"it was trained for {sorted(opinion.probabilities)}, the task's options are {sorted(options)}"
        )
    return opinion


def ask_panel(case: Case, task: Task, collaboration: DiagnosisContext) -> list[Send]:
    """Make one branch for each specialist of the task.

    Raises:
        EvidenceMissing: one could not be loaded or there are none, and the policy requires them.
    """
    if collaboration.moed == "off":
        return []
    if collaboration.moed == "require" and (
        missing := absent(task, collaboration.specialists, required=True)
    ):
        raise EvidenceMissing(f"{missing[0].source} is required and missing: {missing[0].reason}")
    return [
        Send("moed", BranchInput(case=case, task=task.name, specialist=name))
        for name in collaboration.specialists.members(task.name)
    ]


def absent(task: Task, specialists: Specialists, *, required: bool = False) -> tuple[Missing, ...]:
    """List the specialists of a task that could not be loaded, or say that it has none."""
    missing = specialists.missing(task.name)
    if missing or specialists.members(task.name):
        return missing
    # An open task usually has no specialists: nothing that was to be expected is missing there.
    if not (required or task.kind.closed):
        return ()
    reason = f"task {task.name} has no specialists; train some with `gsco train specialist`"
    return (Missing(source=SOURCE.rstrip(":"), reason=reason),)
