"""Retrieval-augmented diagnosis: what the most similar known cases were."""

from __future__ import annotations

import logging
import time

from langgraph.runtime import Runtime

from ...case import Case, Missing, Task
from ...errors import EvidenceMissing, SpecialistError, StoreError
from ..diagnosis_context import DiagnosisContext
from ..state import BranchInput

logger = logging.getLogger(__name__)

SOURCE = "retrieval"
"""Names retrieval in ``Evidence.missing``."""


async def rad(state: BranchInput, runtime: Runtime[DiagnosisContext]) -> dict[str, object]:
    """Find the known cases that are most similar.

    Raises:
        EvidenceMissing: none could be had, and the policy requires them.
    """
    start = time.perf_counter()
    update = await retrieve(state["case"], runtime.context.task(state["task"]), runtime.context)
    return {**update, "timings": {"rad": time.perf_counter() - start}}


async def retrieve(case: Case, task: Task, collaboration: DiagnosisContext) -> dict[str, object]:
    """Search the store; a failure becomes ``Missing`` or an error, by policy."""
    try:
        found = await collaboration.retrieval.similar(
            case.images, task.name, collaboration.neighbours, exclude=collaboration.exclusion(case)
        )
    except (StoreError, SpecialistError) as error:
        if collaboration.rad == "require":
            raise EvidenceMissing(f"retrieval is required and failed: {error}") from error
        return {"missing": (Missing(source=SOURCE, reason=str(error)),)}
    if found:
        if task.kind.closed and collaboration.decision != "generalist":
            await _measured(task, collaboration)
        return {"similar_cases": tuple(found)}
    reason = f"the case store holds no known cases of {task.name}; add some with `gsco store build`"
    if collaboration.rad == "require":
        raise EvidenceMissing(f"retrieval is required: {reason}")
    # An open task often has no known cases: nothing that was to be expected is missing there.
    return {"missing": (Missing(source=SOURCE, reason=reason),) if task.kind.closed else ()}


async def _measured(task: Task, collaboration: DiagnosisContext) -> None:
    """Read once what the decision must know of the known cases as a whole; it goes on without."""
    try:
        await collaboration.retrieval.known(task.name, collaboration.neighbours)
    except (StoreError, SpecialistError) as error:
        logger.warning("the known cases of %s could not be measured: %s", task.name, error)


def wanted(collaboration: DiagnosisContext) -> bool:
    """Whether similar cases are to be looked for."""
    return collaboration.rad != "off" and collaboration.neighbours > 0
