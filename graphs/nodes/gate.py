"""The gate: what the image looks like, before anybody is asked what it shows.

A task that was named is checked: is the image near the known cases of that task, or nearer to those
of another modality? Where none was named, one is chosen by the nearest known cases, if they agree.
What cannot be checked is said and never guessed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from langgraph.runtime import Runtime

from ...case import Case, GateReport, Missing, Task, TaskKind
from ...errors import SpecialistError, StoreError, TaskMismatch
from ...tools.retrieval import Surroundings
from ..diagnosis_context import DiagnosisContext
from ..policy import refuses
from ..state import DiagnosisState

NEIGHBOURS = 10
"""Known cases, over all tasks, that are looked at."""
AGREEMENT = 0.7
"""Share of them that must belong to one task before it is chosen."""
SOURCE = "gate"
"""Names the gate in ``Evidence.missing``."""

_NAME_IT = "Name the task to have it diagnosed as such"


async def gate(state: DiagnosisState, runtime: Runtime[DiagnosisContext]) -> dict[str, object]:
    """Check the named task, or choose one; see ``check_task`` and ``choose_task``."""
    start = time.perf_counter()
    name = state.get("task")
    if name is None:
        update = await choose_task(state["case"], runtime.context)
    else:
        update = await check_task(state["case"], runtime.context.task(name), runtime.context)
    report = with_repairs(update["gate"], state["case"])
    return {**update, "gate": report, "timings": {"gate": time.perf_counter() - start}}


def with_repairs(report: GateReport, case: Case) -> GateReport:
    """Add what was repaired in the files of a case to the notes, each once."""
    repairs = dict.fromkeys(note for image in case.images for note in image.repairs)
    return report.model_copy(update={"notes": (*report.notes, *repairs)})


async def check_task(case: Case, task: Task, collaboration: DiagnosisContext) -> dict[str, Any]:
    """Compare the case with the known ones of its task.

    Raises:
        TaskMismatch: it looks like another modality, and the policy is to refuse it.
    """
    if collaboration.gate == "off":
        return {"gate": GateReport(task=task.name, notes=("The gate is off: the modality was not checked.",))}
    retrieval = collaboration.retrieval
    try:
        around = await retrieval.surroundings(
            case.images, NEIGHBOURS, tasks=(task.name,), exclude=collaboration.exclusion(case)
        )
        floor = await retrieval.floor(task.name) if task.name in around.nearest else None
    except (StoreError, SpecialistError) as error:
        note = "The image could not be compared with known cases: its modality was not checked."
        missing = Missing(source=SOURCE, reason=str(error))
        return {"gate": GateReport(task=task.name, notes=(note,)), "missing": (missing,)}
    modalities = {
        name: collaboration.task(name).modality for name in around.nearest if name in known(collaboration)
    }
    report = compare(task, around, floor, modalities)
    other = resembles(task, around, floor, modalities)
    if refuses(collaboration.gate, other, report.familiar, collaboration.task_named):
        unlike = f"the image does not look like {task.modality} (task {task.name}): {_measured(report)}"
        if other is not None:
            nearer = f"it is nearer to known cases of {other} ({modalities.get(other, 'no task card')})"
            raise TaskMismatch(
                f"{unlike}, and {nearer}. Name the right task, or set the gate to 'warn' to continue"
            )
        raise TaskMismatch(f"{unlike}. {_NAME_IT}")
    return {"gate": report}


def compare(
    task: Task, around: Surroundings, floor: float | None, modalities: Mapping[str, str]
) -> GateReport:
    """Say how a case stands to the known ones of its task.

    Args:
        task: the task it is to be diagnosed for.
        around: the nearest known cases.
        floor: similarity that all but the strangest cases of this task reach; None where unknown.
        modalities: of the known tasks, by name.
    """
    nearest = around.nearest.get(task.name)
    familiar = None if nearest is None or floor is None else nearest >= floor
    notes = []
    if nearest is None:
        notes.append(f"There are no known cases of {task.name}: the modality was not checked.")
    elif floor is None:
        notes.append(f"There are too few known cases of {task.name} to say whether this one is like them.")
    elif other := resembles(task, around, floor, modalities):
        notes.append(f"The image does not look like {task.modality}; it is nearer to known cases of {other}.")
    elif not familiar:
        notes.append(f"The image is far from everything known for {task.name}.")
    return GateReport(
        task=task.name,
        task_probability=around.shares.get(task.name, 0.0) if around.shares else None,
        nearest_similarity=nearest,
        similarity_floor=floor,
        familiar=familiar,
        notes=tuple(notes),
    )


def resembles(
    task: Task, around: Surroundings, floor: float | None, modalities: Mapping[str, str]
) -> str | None:
    """Name the task of another modality that the image is nearer to, where it is far from its own."""
    nearest = around.nearest.get(task.name)
    if nearest is None or floor is None or nearest >= floor:
        return None
    others = {
        name: similarity
        for name, similarity in around.nearest.items()
        if similarity > nearest and modalities.get(name, "").casefold() != task.modality.casefold()
    }
    return max(others, key=lambda name: others[name], default=None)


async def choose_task(case: Case, collaboration: DiagnosisContext) -> dict[str, Any]:
    """Choose the task that the image belongs to.

    Raises:
        TaskMismatch: no task stands out; the message lists the candidates.
    """
    if case.question is not None:
        return {"task": (name := answering(collaboration)), "gate": _named_task(name)}
    names = tuple(sorted(known(collaboration)))
    try:
        around = await collaboration.retrieval.surroundings(
            case.images, NEIGHBOURS, among=names, exclude=collaboration.exclusion(case)
        )
        best = max(around.shares, key=lambda name: (around.shares[name], around.nearest[name]), default=None)
        floor = await collaboration.retrieval.floor(best) if best else None
    except (StoreError, SpecialistError) as error:
        raise TaskMismatch(
            f"no task was named, and none could be chosen from the image: {error}. {_NAME_IT}"
        ) from error
    report = chosen(best, around, floor)
    return {"task": report.task, "gate": report}


def chosen(best: str | None, around: Surroundings, floor: float | None) -> GateReport:
    """Accept a task for a case that named none, if the known cases agree and the image is like them.

    Raises:
        TaskMismatch: they do not agree, or it is like none of them.
    """
    if best is None:
        raise TaskMismatch(f"no task was named, and no known cases are there to choose it by. {_NAME_IT}")
    share, nearest = around.shares[best], around.nearest[best]
    if share < AGREEMENT:
        raise TaskMismatch(
            f"no task was named, and the image fits several: {_candidates(around)}. {_NAME_IT}"
        )
    if floor is None or nearest < floor:
        raise TaskMismatch(
            "no task was named, and the image is far from everything known; "
            f"the nearest are {_candidates(around)}. {_NAME_IT}"
        )
    return GateReport(
        task=best,
        task_chosen=True,
        task_probability=share,
        nearest_similarity=nearest,
        similarity_floor=floor,
        familiar=True,
        notes=(f"No task was named: {best} was chosen from the image.",),
    )


def answering(collaboration: DiagnosisContext) -> str:
    """Name the only task that answers questions.

    Raises:
        TaskMismatch: there is none, or more than one.
    """
    names = sorted(task.name for task in collaboration.tasks if task.kind is TaskKind.QUESTION)
    if len(names) != 1:
        raise TaskMismatch(
            "a question was asked and no task named; tasks that answer questions: "
            f"{', '.join(names) or 'none'}. {_NAME_IT}"
        )
    return names[0]


def known(collaboration: DiagnosisContext) -> frozenset[str]:
    """Names of all tasks that have a card."""
    return frozenset(collaboration.tasks.names())


def _named_task(name: str) -> GateReport:
    notes = (
        f"No task was named: {name} was chosen because a question was asked.",
        "The modality was not checked.",
    )
    return GateReport(task=name, task_chosen=True, notes=notes)


def _measured(report: GateReport) -> str:
    return (
        f"its similarity to the nearest known case is {report.nearest_similarity:.2f}, "
        f"where {report.similarity_floor:.2f} is usual at least"
    )


def _candidates(around: Surroundings) -> str:
    names = sorted(around.shares, key=lambda name: -around.shares[name])
    return ", ".join(
        f"{name} ({around.shares[name]:.0%} of nearest known cases, similarity {around.nearest[name]:.2f})"
        for name in names
    )
